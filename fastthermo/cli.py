"""`fastthermo ...`: a thin reading of arguments. Exit status 0; 1 failed self-check, 2 bad input, 130 Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

PROCESSES = {
    "vp": "VariancePreserving",
    "ve": "VarianceExploding",
    "ou": "OrnsteinUhlenbeck",
    "edm": "EDM",
    "flow": "FlowMatching",
    "ddpm": "DDPM",
}
SCHEMES = ("euler", "ancestral", "ddim", "heun", "heun_sde")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print(
            "\nfastthermo: stopped; what was finished is kept and the same command goes on from there", file=sys.stderr
        )
        return 130
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in (
            "matplotlib",
            "xarray",
            "zarr",
            "msgspec",
            "pandas",
            "loky",
            "dask",
            "distributed",
            "pyarrow",
        ):
            return _fail(f"{error.name} is missing; install it with: pip install 'fastthermo[plot,sweep,cluster]'")
        raise
    except (ValueError, TypeError) as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(
                f"{error.filename or 'the disk'}: no space left; what was finished is kept and can be continued"
            )
        return _fail(str(error))


def _fail(message: str) -> int:
    print(f"fastthermo: error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    import fastthermo

    parser = argparse.ArgumentParser(
        prog="fastthermo", description="Exact thermodynamics of generative diffusion models."
    )
    parser.add_argument("--version", action="version", version=f"fastthermo {fastthermo.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    portrait = commands.add_parser(
        "portrait",
        help="the thermodynamics of a data set over diffusion time: figure, data and summary",
        description="Measure entropy, heat capacity, susceptibility, information, class memory and critical times of a "
        "data set along noised data and generated trajectories. Interrupted, the same command goes on.",
    )
    _add_data(portrait)
    portrait.add_argument("--times", type=int, default=64, help="temperatures (default 64)")
    portrait.add_argument("--queries", type=int, default=512, help="noised data and trajectories at each (default 512)")
    _add_out(portrait, "portraits/NAME")
    portrait.set_defaults(run=_portrait)

    regimes = commands.add_parser(
        "regimes",
        help="what noised data know of their point, class and manifold over diffusion time: figure, data and summary",
        description="Measure information and its rate, the memorisation gap, class posteriors and critical windows, "
        "spectra of the score Jacobian and the dimension they imply. Interrupted, the same command goes on.",
    )
    _add_data(regimes)
    regimes.add_argument("--times", type=int, default=64, help="temperatures (default 64)")
    regimes.add_argument("--queries", type=int, default=512, help="noised data at each (default 512)")
    _add_out(regimes, "regimes/NAME")
    regimes.set_defaults(run=_regimes)

    compare = commands.add_parser(
        "compare",
        help="a trained network against the exact denoiser of its data: figure, data and summary",
        description="Measure the error of a network's mean and its susceptibilities along noised data, beside those of "
        "the exact denoiser, split at the critical and collapse times. Interrupted, the same command goes on.",
    )
    _add_data(compare)
    compare.add_argument("--network", required=True, metavar="RUN", help="folder of `fastthermo train`")
    compare.add_argument("--times", type=int, default=32, help="temperatures (default 32)")
    compare.add_argument("--queries", type=int, default=256, help="noised data at each (default 256)")
    _add_out(compare, "comparisons/NAME")
    compare.set_defaults(run=_compare)

    sample = commands.add_parser(
        "sample",
        help="samples from the exact denoiser of a data set: .npy and a contact sheet",
        description="Generate samples with the exact score of a data set; they are written as samples.npy, in data "
        "units, and samples.png.",
    )
    _add_data(sample)
    sample.add_argument("-n", type=int, default=64, help="number of samples (default 64)")
    sample.add_argument("--steps", type=int, default=128, help="number of steps (default 128)")
    sample.add_argument("--scheme", choices=SCHEMES, default="ancestral", help="(default ancestral)")
    sample.add_argument("--t-start", type=float, help="start at this time instead of t_max (late start)")
    sample.add_argument(
        "--start", choices=("noise", "gaussian", "data"), default="noise", help="law at the start (default noise)"
    )
    _add_out(sample, "samples/NAME")
    sample.set_defaults(run=_sample)

    train = commands.add_parser(
        "train",
        help="train a small denoiser on a data set: U-Net for images, MLP for vectors",
        description="Train a denoiser with the preconditioning of EDM; weights and loss are kept in the folder. The "
        "same command goes on where an interrupted run stopped, with the weights an uninterrupted one would have.",
    )
    _add_source(train)
    train.add_argument("--steps", type=int, default=10_000, help="in all, since the beginning (default 10000)")
    train.add_argument("--batch", type=int, default=128, help="data in a step (default 128)")
    train.add_argument("--width", type=int, help="channels (default 32) or features (default 128) of the network")
    train.add_argument("--rate", type=float, default=1e-3, help="learning rate (default 0.001)")
    train.add_argument("--states", type=int, metavar="N", help="train on N of the data, chosen by the seed")
    _add_out(train, "runs/NAME")
    train.set_defaults(run=_train)
    _add_sweeps(commands)

    doctor = commands.add_parser("doctor", help="versions, threads, vector width, GPU, cache folder, and a self-check")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_sweeps(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="exponents over a grid of laws, sample sizes and seeds: a store that can be continued",
        description="Measure what the store does not hold yet. Interrupted or killed, the same command goes on.",
    )
    sweep.add_argument("grid", metavar="FILE.toml", type=Path, help="what is measured; see sweeps/")
    sweep.add_argument("--out", metavar="STORE", type=Path, help="store to write (default FILE.zarr)")
    sweep.add_argument("--executor", choices=("process", "loky", "dask"), default="process", help="(default process)")
    sweep.add_argument("--workers", type=int, default=os.cpu_count(), help="of loky (default one a core)")
    sweep.add_argument("--address", help="of the Dask scheduler")
    sweep.add_argument("--shard", metavar="I/N", help="only the tasks I, I + N, ..., for job arrays; 0 <= I < N")
    sweep.set_defaults(run=_sweep)

    for name, run, text in (
        ("show", _show, "the exponents of a sweep with their errors, a row a case"),
        ("plot", _plot, "the exponents of a sweep as a figure"),
        ("export", _export, "the exponents of a sweep as .csv or .parquet"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("store", metavar="STORE", type=Path)
        if name != "show":
            parser.add_argument("out", metavar="FILE", type=Path)
        parser.set_defaults(run=run)

    merge = commands.add_parser("merge", help="the finished tasks of several stores of one grid in one store")
    merge.add_argument("out", metavar="STORE", type=Path)
    merge.add_argument("parts", metavar="PART", type=Path, nargs="+")
    merge.set_defaults(run=_merge)


def _add_data(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("--process", choices=PROCESSES, default="vp", help="diffusion process (default vp)")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="NAME|PATH",
        help="digits, mnist-5k, fashion-mnist, cifar-10, imagenet-64, or a .npy, .npz, .pt or IDX file",
    )
    parser.add_argument("--labels", metavar="PATH", help="a file of labels, one a state")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")


def _add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"folder to write (default {default})")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def _process(name: str) -> Any:
    from fastthermo import process

    return process.DDPM.linear() if name == "ddpm" else getattr(process, PROCESSES[name])()


def _out(arguments: argparse.Namespace, folder: str) -> Path:
    if arguments.out is not None:
        return Path(arguments.out)
    name = Path(arguments.data).name.split(".")[0]
    return Path(folder) / name


def _portrait(arguments: argparse.Namespace) -> int:
    from fastthermo.portrait import portrait

    _measure(arguments, "portrait", "portraits", portrait)
    return 0


def _regimes(arguments: argparse.Namespace) -> int:
    from fastthermo.survey import survey

    summary = _measure(arguments, "regimes", "regimes", survey)
    for peak in summary["entropy_rate_peaks"]:
        _print_time("peak of the entropy rate", peak)
    dimension = summary["data_dimension"]
    for name, value in dimension.items():
        if name != "time" and value["value"] is not None:
            print(f"dimension ({name}) at t = {dimension['time']:.3g}: {value['value']:.3g} ± {value['error']:.2g}")
    for name in ("first", "last"):
        pair = (summary["classes"] or {}).get(name)
        if pair is not None and pair["middle"]["value"] is not None:
            print(f"{name} classes to part          {' and '.join(pair['pair'])} at t = {pair['middle']['value']:.3g}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from functools import partial

    from fastthermo.experiments import compare

    summary = _measure(arguments, "comparison", "comparisons", partial(compare, run=arguments.network))
    for name, mark in summary["learned_critical_time"].items():
        _print_time(f"learned     ({name})", mark)
    for stage, errors in summary["errors"].items():
        if errors["distance"] is not None:
            print(
                f"{stage.replace('_', ' '):28} error {errors['learned_error']:.3g}, exact {errors['exact_error']:.3g}, "
                f"apart {errors['distance']:.3g}"
            )
    return 0


def _measure(arguments: argparse.Namespace, kind: str, folder: str, function: Any) -> dict[str, Any]:
    """Make a result of a data set and print its times and files."""
    from fastthermo._results import check_out
    from fastthermo.datasets import load

    out = _out(arguments, folder)
    check_out(out, arguments.overwrite, kind)
    data, process = load(arguments.data, arguments.labels), _process(arguments.process)
    summary: dict[str, Any] = function(
        data,
        process,
        out,
        times=arguments.times,
        queries=arguments.queries,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    for name, mark in summary["critical_time"].items():
        _print_time(f"critical time ({name})", mark)
    for name in ("speciation_time", "condensation_time", "collapse_time"):
        if name in summary:
            _print_time(name.replace("_", " "), summary[name])
    print(f"figure   {out / kind}.png\nsummary  {out / 'summary.json'}\ndata     {out / kind}.zarr")
    return summary


def _print_time(name: str, mark: dict[str, Any]) -> None:
    if mark["time"] is None:
        print(f"{name:28} none")
    else:
        error = f" ± {mark['standard_error']:.2g}" if mark["standard_error"] else ""
        print(f"{name:28} t = {mark['time']:.4g}{error}, beta = {mark['beta']:.4g}")


def _sample(arguments: argparse.Namespace) -> int:
    import numpy as np

    from fastthermo._files import replacing
    from fastthermo.datasets import load
    from fastthermo.plot import contact_sheet, save
    from fastthermo.sampling import sample

    out = _out(arguments, "samples")
    files = out / "samples.npy", out / "samples.png"
    existing = [file for file in files if file.exists()]
    if existing and not arguments.overwrite:
        raise ValueError(f"out: {existing[0]} exists; choose another folder or --overwrite")
    if arguments.n < 1:
        raise ValueError(f"n: wanted at least 1 sample, got {arguments.n}")
    data = load(arguments.data, arguments.labels)
    process = _process(arguments.process)
    x = sample(
        data.ensemble(),
        process,
        arguments.n,
        arguments.steps,
        arguments.scheme,
        arguments.t_start,
        arguments.start,
        arguments.seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    with replacing(files[0]) as file:
        np.save(file, x)
    start = f" from t = {arguments.t_start}" if arguments.t_start is not None else ""
    images = x if data.image_shape is not None else x.reshape(len(x), -1)
    save(contact_sheet(images, f"{data.name}: {arguments.scheme}, {arguments.steps} steps{start}"), files[1])
    print(f"samples  {files[0]}  {x.shape} {x.dtype}\nfigure   {files[1]}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from fastthermo.datasets import load
    from fastthermo.training import subset, train

    out = _out(arguments, "runs")
    data = load(arguments.data, arguments.labels)
    if arguments.states is not None:
        data = subset(data, arguments.states, arguments.seed)
    train(
        data,
        out,
        arguments.steps,
        arguments.batch,
        arguments.width,
        arguments.rate,
        arguments.seed,
        arguments.overwrite,
    )
    print(f"network     {out / 'network.safetensors'}\nloss        {out / 'history.csv'}")
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep
    from fastthermo.sweep.executors import executor

    grid = sweep.load(arguments.grid)
    shard = sweep.read_shard(arguments.shard) if arguments.shard else None
    out = arguments.out or arguments.grid.with_suffix(".zarr")
    with executor(arguments.executor, arguments.workers, arguments.address) as pool:
        sweep.run(grid, out, pool, shard)
    print(f"store    {out}\ntable    fastthermo show {out}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(sweep.show(arguments.store))
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep
    from fastthermo.plot import save
    from fastthermo.plot.exponents import sweep_figure

    save(sweep_figure(sweep.fitted(arguments.store), arguments.store.stem), arguments.out)
    print(f"figure   {arguments.out}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(f"table    {sweep.export(arguments.store, arguments.out)}")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(f"store    {sweep.merge(arguments.out, arguments.parts)}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    import importlib.metadata
    import platform

    import llvmlite.binding as llvm
    import torch

    import fastthermo
    from fastthermo._dispatch import BACKENDS
    from fastthermo.kernels.numba.compile import cache_folder

    features = llvm.get_host_cpu_features()
    width = next(
        (bits for name, bits in (("avx512f", 512), ("avx2", 256), ("sse2", 128), ("neon", 128)) if features.get(name)),
        64,
    )
    rows = {"fastthermo": fastthermo.__version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "numba", "torch", "triton", "matplotlib", "xarray", "zarr"):
        try:
            rows[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            rows[package] = "not installed"
    rows |= {
        "cpu": f"{platform.machine()} {llvm.get_host_cpu_name()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "vector width": f"{width} bits",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "kernel cache": str(cache_folder()),
    }
    for name, value in rows.items():
        print(f"{name:14}{value}")
    failed = False
    for backend in BACKENDS:
        verdict = _self_check(backend)
        failed |= verdict is not None
        print(f"{backend + ' check':18}{verdict or 'ok'}")
    return int(failed)


def _self_check(backend: str) -> str | None:
    """Two deltas at h = 0.3, beta = 2 against closed forms; what is wrong, or None."""
    import math

    import numpy as np

    from fastthermo.ensemble import Ensemble

    try:
        law = Ensemble(np.array([[1.0], [-1.0]]))
        state = law.boltzmann(np.array([0.3]), 2.0, backend=backend)
        pairs = {
            "mean": (float(state.mean[0]), math.tanh(0.6)),
            "log_partition": (float(state.log_partition), math.log(math.cosh(0.6)) - 1),
            "covariance": (float(law.covariance([0.3], 2.0, backend=backend)[0, 0]), 1 - math.tanh(0.6) ** 2),
        }
    except Exception as error:  # whatever is wrong with the installation is what the doctor reports
        return f"{type(error).__name__}: {error}"
    wrong = {name: pair for name, pair in pairs.items() if abs(pair[0] - pair[1]) > 1e-14}
    return f"wrong values {json.dumps(wrong)}" if wrong else None


if __name__ == "__main__":
    sys.exit(main())
