"""`fastthermo compare|late-start|memorise|regularise DATA`: networks and the thermodynamics of their data."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from fastthermo.cli.common import add_data, add_out
from fastthermo.cli.measure import measured, print_time

QUALITIES = ("frechet", "coverage", "memorised", "recognised")


def add(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="a trained network against the exact denoiser of its data: figure, data and summary",
        description="Measure the error of a network's mean and its susceptibilities along noised data, beside those of "
        "the exact denoiser, split at the critical and collapse times. Interrupted, the same command goes on.",
    )
    add_data(compare)
    compare.add_argument("--network", required=True, metavar="RUN", help="folder of `fastthermo train`")
    compare.add_argument("--times", type=int, default=32, help="temperatures (default 32)")
    compare.add_argument("--queries", type=int, default=256, help="noised data at each (default 256)")
    add_out(compare, "comparisons/NAME")
    compare.set_defaults(run=_compare)

    late = commands.add_parser(
        "late-start",
        help="what a late start costs: quality and diversity of samples against their start time",
        description="Generate from Gaussian late starts and from noised data at several times, and measure Frechet "
        "distance, classes and copies of data. Interrupted, the same command goes on.",
    )
    _add_sampling(late, 1000)
    late.add_argument("--times", type=int, default=12, help="start times (default 12)")
    add_out(late, "late_starts/NAME")
    late.set_defaults(run=_late_start)

    memorise = commands.add_parser(
        "memorise",
        help="copies among the samples of networks trained on more and more of a data set",
        description="Train a network on each of several numbers of data and measure its samples and its errors on own "
        "and unseen data. Interrupted, the same command goes on.",
    )
    add_data(memorise)
    memorise.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[100, 300, 1000, 2000, 5000],
        metavar="N",
        help="numbers of data (default 100 300 1000 2000 5000)",
    )
    memorise.add_argument("--steps", type=int, default=5000, help="of every training (default 5000)")
    memorise.add_argument("--batch", type=int, default=128, help="data in a step (default 128)")
    memorise.add_argument("--width", type=int, help="of the networks, as of `fastthermo train`")
    memorise.add_argument("--queries", type=int, default=1000, help="samples a network and seed (default 1000)")
    memorise.add_argument("--seeds", type=int, default=3, help="(default 3)")
    memorise.add_argument("--device", help="cpu or cuda; by default a GPU where there is one")
    add_out(memorise, "memorisation/NAME")
    memorise.set_defaults(run=_memorise)

    regularise = commands.add_parser(
        "regularise",
        help="samples in other landscapes: the field term of F~ scaled, the score smoothed",
        description="Generate with the field term of the free energy scaled and with smoothed scores, and measure the "
        "samples as `late-start` does. Interrupted, the same command goes on.",
    )
    _add_sampling(regularise, 500)
    regularise.add_argument(
        "--fields", type=float, nargs="+", metavar="X", help="strengths of the field term (default 0.8 to 1.25)"
    )
    regularise.add_argument(
        "--smoothings",
        type=float,
        nargs="+",
        metavar="X",
        help="as many, in units of the mean distance of nearest data (default 0 to 0.5)",
    )
    add_out(regularise, "regularisation/NAME")
    regularise.set_defaults(run=_regularise)


def _add_sampling(parser: argparse.ArgumentParser, queries: int) -> None:
    add_data(parser)
    parser.add_argument(
        "--network",
        nargs="+",
        default=[],
        dest="runs",
        metavar="RUN",
        help="folders of `fastthermo train`, one a seed or fewer in turns (default: the exact denoiser)",
    )
    parser.add_argument("--queries", type=int, default=queries, help=f"samples a case and seed (default {queries})")
    parser.add_argument("--steps", type=int, default=48, help="from the first time to the last (default 48)")
    parser.add_argument("--seeds", type=int, default=3, help="(default 3)")
    parser.add_argument("--device", default="cpu", help="where samples are made: cpu or cuda (default cpu)")


def _compare(arguments: argparse.Namespace) -> int:
    from fastthermo.experiments import compare

    summary = measured(arguments, "comparison", "comparisons", partial(compare, run=arguments.network))
    for name, mark in summary["learned_critical_time"].items():
        print_time(f"learned     ({name})", mark)
    for stage, errors in summary["errors"].items():
        if errors["distance"] is not None:
            print(
                f"{stage.replace('_', ' '):28} error {errors['learned_error']:.3g}, exact {errors['exact_error']:.3g}, "
                f"apart {errors['distance']:.3g}"
            )
    return 0


def _late_start(arguments: argparse.Namespace) -> int:
    from fastthermo.experiments import late_start

    options = ("runs", "times", "queries", "steps", "seeds", "device")
    summary = measured(arguments, "late_start", "late_starts", late_start, options)
    for mark in summary["learned_critical_time"]:
        print_time("learned     (fixed_point)", mark)
    for kind, qualities in summary["qualities"].items():
        _print_table(f"{kind} start at t =", summary["start_times"], qualities)
    return 0


def _memorise(arguments: argparse.Namespace) -> int:
    from fastthermo.experiments import memorise

    options = ("sizes", "steps", "batch", "width", "queries", "seeds", "device")
    summary = measured(arguments, "memorisation", "memorisation", memorise, options)
    _print_table("trained on", summary["sizes"], summary["qualities"])
    return 0


def _regularise(arguments: argparse.Namespace) -> int:
    from fastthermo.experiments import regularise

    options = tuple(
        name
        for name in ("runs", "fields", "smoothings", "queries", "steps", "seeds", "device")
        if getattr(arguments, name) is not None
    )
    summary = measured(arguments, "regularisation", "regularisation", regularise, options)
    for kind, name in enumerate(("field", "smoothing")):
        _print_table(name, summary["strengths"][kind], {key: v[kind] for key, v in summary["qualities"].items()})
    return 0


def _print_table(title: str, cases: list[float], qualities: dict[str, Any]) -> None:
    """Means over seeds, a row for each case."""
    print(f"{title:24} {' '.join(f'{name:>10}' for name in QUALITIES)}")
    for i, case in enumerate(cases):
        print(f"{case:24.4g} {' '.join(f'{qualities[name][i][0]:10.4g}' for name in QUALITIES)}")
