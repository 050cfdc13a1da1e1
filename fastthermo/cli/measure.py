"""`fastthermo portrait|regimes DATA`: measurements over diffusion time."""

from __future__ import annotations

import argparse
from typing import Any

from fastthermo.cli.common import add_data, add_out, out_folder
from fastthermo.process import named


def add(commands: Any) -> None:
    portrait = commands.add_parser(
        "portrait",
        help="the thermodynamics of a data set over diffusion time: figure, data and summary",
        description="Measure entropy, heat capacity, susceptibility, information, class memory and critical times of a "
        "data set along noised data and generated trajectories. Interrupted, the same command goes on.",
    )
    add_data(portrait)
    portrait.add_argument("--times", type=int, default=64, help="temperatures (default 64)")
    portrait.add_argument("--queries", type=int, default=512, help="noised data and trajectories at each (default 512)")
    add_out(portrait, "portraits/NAME")
    portrait.set_defaults(run=_portrait)

    regimes = commands.add_parser(
        "regimes",
        help="what noised data know of their point, class and manifold over diffusion time: figure, data and summary",
        description="Measure information and its rate, the memorisation gap, class posteriors and critical windows, "
        "spectra of the score Jacobian and the dimension they imply. Interrupted, the same command goes on.",
    )
    add_data(regimes)
    regimes.add_argument("--times", type=int, default=64, help="temperatures (default 64)")
    regimes.add_argument("--queries", type=int, default=512, help="noised data at each (default 512)")
    add_out(regimes, "regimes/NAME")
    regimes.set_defaults(run=_regimes)


def _portrait(arguments: argparse.Namespace) -> int:
    from fastthermo.portrait import portrait

    measured(arguments, "portrait", "portraits", portrait)
    return 0


def _regimes(arguments: argparse.Namespace) -> int:
    from fastthermo.survey import survey

    summary = measured(arguments, "regimes", "regimes", survey)
    for peak in summary["entropy_rate_peaks"]:
        print_time("peak of the entropy rate", peak)
    dimension = summary["data_dimension"]
    for name, value in dimension.items():
        if name != "time" and value["value"] is not None:
            print(f"dimension ({name}) at t = {dimension['time']:.3g}: {value['value']:.3g} ± {value['error']:.2g}")
    for name in ("first", "last"):
        pair = (summary["classes"] or {}).get(name)
        if pair is not None and pair["middle"]["value"] is not None:
            who = f"{name} classes to part"
            print(f"{who:28} {' and '.join(pair['pair'])} at t = {pair['middle']['value']:.3g}")
    return 0


def measured(
    arguments: argparse.Namespace,
    kind: str,
    folder: str,
    function: Any,
    options: tuple[str, ...] = ("times", "queries"),
) -> dict[str, Any]:
    """Make a result of a data set with these arguments and print its times and files."""
    from fastthermo._results import check_out
    from fastthermo.datasets import load

    out = out_folder(arguments, folder)
    check_out(out, arguments.overwrite, kind)
    data, process = load(arguments.data, arguments.labels), named(arguments.process)
    summary: dict[str, Any] = function(
        data,
        process,
        out,
        **{name: getattr(arguments, name) for name in options},
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    for name, mark in summary["critical_time"].items():
        print_time(f"critical time ({name})", mark)
    for name in ("speciation_time", "condensation_time", "collapse_time"):
        if name in summary:
            print_time(name.replace("_", " "), summary[name])
    print(f"figure   {out / kind}.png\nsummary  {out / 'summary.json'}\ndata     {out / kind}.zarr")
    return summary


def print_time(name: str, mark: dict[str, Any]) -> None:
    if mark["time"] is None:
        print(f"{name:28} none")
    else:
        error = f" ± {mark['standard_error']:.2g}" if mark["standard_error"] else ""
        print(f"{name:28} t = {mark['time']:.4g}{error}, beta = {mark['beta']:.4g}")
