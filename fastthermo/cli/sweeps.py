"""`fastthermo sweep|show|plot|export|report|merge`: measurements over grids."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="measurements over a grid of laws, sample sizes and seeds: a store that can be continued",
        description="Measure what the store does not hold yet. Interrupted or killed, the same command goes on.",
    )
    sweep.add_argument("grid", metavar="FILE.toml", type=Path, help="what is measured; see sweeps/")
    sweep.add_argument("--out", metavar="STORE", type=Path, help="store to write (default FILE.zarr)")
    sweep.add_argument("--executor", choices=("process", "loky", "dask"), default="process", help="(default process)")
    sweep.add_argument("--workers", type=int, default=os.cpu_count(), help="of loky (default one a core)")
    sweep.add_argument("--threads", type=int, help="of each worker's kernels (default the cores shared among them)")
    sweep.add_argument("--address", help="of the Dask scheduler")
    sweep.add_argument("--shard", metavar="I/N", help="only the tasks I, I + N, ..., for job arrays; 0 <= I < N")
    sweep.set_defaults(run=_sweep)

    for name, run, text, file in (
        ("show", _show, "the quantities of a sweep with their errors, a row a case", None),
        (
            "plot",
            _plot,
            "the quantities of a sweep against size, dimension and time, and collapses, as figures",
            "figure to write, .png, .pdf or .svg; collapses of baths go to FILE-collapses beside it",
        ),
        ("export", _export, "the table of a sweep as .csv or .parquet", "table to write, .csv or .parquet"),
        (
            "report",
            _report,
            "figures, table, configuration, provenance and timing of a sweep on one .html page",
            "page to write, .html",
        ),
    ):
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.add_argument("store", metavar="STORE", type=Path, help="folder of `fastthermo sweep`, finished or not")
        if file is not None:
            parser.add_argument("out", metavar="FILE", type=Path, help=file)
        parser.set_defaults(run=run, resumed=False)

    text = "the finished tasks of several stores of one grid in one store"
    merge = commands.add_parser("merge", help=text, description=f"{text[0].upper()}{text[1:]}.")
    merge.add_argument("out", metavar="STORE", type=Path, help="store to write")
    merge.add_argument("parts", metavar="PART", type=Path, nargs="+", help="stores of `fastthermo sweep --shard`")
    merge.set_defaults(run=_merge)


def _sweep(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep
    from fastthermo.sweep.executors import executor

    grid = sweep.load(arguments.grid)
    shard = sweep.read_shard(arguments.shard) if arguments.shard else None
    out = arguments.out = arguments.out or arguments.grid.with_suffix(".zarr")
    status = 0
    with executor(arguments.executor, arguments.workers, arguments.address, arguments.threads) as pool:
        try:
            sweep.run(grid, out, pool, shard)
        except sweep.FailedError as error:
            print(f"fastthermo: failed: {error}", file=sys.stderr)
            status = 1
    print(f"store    {out}\ntable    fastthermo show {out}")
    return status


def _show(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(sweep.show(arguments.store))
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep
    from fastthermo.plot import save

    figures = sweep.figures(list(sweep.found(arguments.store)), arguments.store.stem)
    if not figures:
        raise ValueError(f"store: wanted at least one case with quantities to draw, {arguments.store} has none")
    for name, figure in figures.items():
        out = arguments.out
        out = out if name == "quantities" else out.with_name(f"{out.stem}-{name}{out.suffix}")
        save(figure, out)
        print(f"figure   {out}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(f"table    {sweep.export(arguments.store, arguments.out)}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(f"report   {sweep.write_report(arguments.store, arguments.out)}")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from fastthermo import sweep

    print(f"store    {sweep.merge(arguments.out, arguments.parts)}")
    return 0
