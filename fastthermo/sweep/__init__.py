"""Sweeps: the observables of transitions over grids of laws, sample sizes and seeds, in a store that survives crashes.

grid = sweep.load("universality.toml")     what is measured, as a value
sweep.run(grid, "out.zarr")                measures what is not done yet; here or on any executor
sweep.table("out.zarr")                    exponents with error bars, a row a case and sample size
sweep.write_report("out.zarr", "out.html")       all of it on one page
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from pathlib import Path
from typing import Any

import numpy as np

from fastthermo.sweep.grid import Grid, load
from fastthermo.sweep.measure import SCALARS, Result, check_worker, run_task
from fastthermo.sweep.measures import Found
from fastthermo.sweep.models import Case
from fastthermo.sweep.report import figures, write_report
from fastthermo.sweep.results import dataset, export, found, show, table
from fastthermo.sweep.store import Store, named

__all__ = [
    "SCALARS",
    "Case",
    "FailedError",
    "Found",
    "Grid",
    "Result",
    "Store",
    "dataset",
    "export",
    "figures",
    "found",
    "load",
    "merge",
    "read_shard",
    "run",
    "run_task",
    "show",
    "table",
    "write_report",
]

FAILURES = 20  # failed cells that a message names
AHEAD = 64  # tasks handed to an executor before their results are written


class FailedError(RuntimeError):
    """Cells whose measurement raised an error, a line a case and size; all others are in the store."""

    def __init__(self, path: Path, failed: list[str]) -> None:
        failed = list(dict.fromkeys(failed))
        more = [f"and {len(failed) - FAILURES} more: fastthermo show {path}"] if len(failed) > FAILURES else []
        lines = [f"{path}: all that could be measured is kept, the same command tries again what failed:"]
        super().__init__("\n  ".join([*lines, *failed[:FAILURES], *more]))


def run(
    grid: Grid,
    out: str | Path,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
    progress: bool | None = None,
) -> Path:
    """Measure the cells of a grid that `out` does not hold yet, and return its path.

    Parameters
    ----------
    out : the store; made, or taken up where it holds an unfinished sweep of the same grid.
    executor : any `concurrent.futures.Executor`, whose workers can import fastthermo; by default this process. Workers
        return numbers, this process writes them.
    shard : (i, n), do only the tasks i, i + n, ... with 0 <= i < n, so that n such calls do all of them.
    progress : show a bar with the worst error bound of the sums so far; by default on a terminal.

    Raises
    ------
    ValueError for a store of another grid or version, or of other data than the files of the grid hold now, one at
    which another driver is at work, a worker without a GPU for Triton or with another version, before anything is
    written. FailedError, when all the others are measured, for cells whose measurement raised an error; the next run
    tries those again.
    """
    from tqdm import tqdm

    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard: wanted i/n with 0 <= i < n, got {shard[0]}/{shard[1]}")
    if executor is None:
        check_worker(grid)
    elif grid.backend == "triton":  # others need nothing, and a sweep that is done needs no worker
        executor.submit(check_worker, grid).result()
    store = Store.open(Path(out), grid)
    with store.claimed(shard):
        lost = store.lost()
        done = store.done & ~np.isin(np.arange(grid.tasks), list(lost))
        mine = range(grid.tasks) if shard is None else range(shard[0], grid.tasks, shard[1])
        todo = [task for task in mine if not done[task]]
        again = {task: chunk for task, chunk in lost.items() if task in mine}
        if again:
            print(f"store: {store.path}: {named(again)} cannot be read; measured again", file=sys.stderr)
        bar = tqdm(
            total=len(mine),
            initial=len(mine) - len(todo),
            desc="sweep",
            unit="task",
            disable=None if progress is None else not progress,
        )
        with bar:
            worst, failed = float("nan"), []
            for result in _results(grid, todo, executor, store.data):
                store.write(result)
                worst = float(np.fmax(worst, np.fmax.reduce(result.scalars[:, SCALARS.index("error_bound")])))
                bound = "closed forms" if np.isnan(worst) else f"worst error bound {worst:.1e}"
                bar.set_postfix_str(bound, refresh=False)
                bar.update()
                failed += [f"{name}: {text}" for name, text in result.failures(grid)]
    if failed:
        raise FailedError(store.path, failed)
    return store.path


def read_shard(text: str) -> tuple[int, int]:
    """(i, n) from "i/n"."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal()):
        raise ValueError(f"shard: wanted i/n such as 0/8, got {text}")
    return int(i), int(n)


def merge(out: str | Path, parts: Iterable[str | Path]) -> Path:
    """Copy the finished tasks of several stores of one grid into `out`, made where there is none."""
    stores = [Store(Path(part)) for part in parts]
    if not stores:
        raise ValueError("parts: wanted at least one store, got none")
    for part in stores:
        part.agree(stores[0].grid, stores[0].data)
    store = Store.open(Path(out), stores[0].grid, stores[0].data)
    with store.claimed(None):
        held = set(np.flatnonzero(store.done).tolist()) - set(store.lost())
        for part in stores:
            lost = part.lost()
            if lost:
                print(f"store: {part.path}: {named(lost)} cannot be read; left out", file=sys.stderr)
            for task in np.setdiff1d(part.tried, [*lost, *held]):
                result = part.read(int(task))
                store.write(result)
                if not result.failed:
                    held.add(int(task))
    return store.path


def _results(grid: Grid, tasks: list[int], executor: Executor | None, data: Mapping[str, str]) -> Iterator[Result]:
    """Each task's numbers, in the order in which they come; at most AHEAD at a time."""
    if executor is None:
        for task in tasks:
            yield run_task(grid, task, data)
        return
    waiting: Any = iter(tasks)
    running = {executor.submit(run_task, grid, task, data) for _, task in zip(range(AHEAD), waiting, strict=False)}
    try:
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                following = next(waiting, None)
                if following is not None:
                    running.add(executor.submit(run_task, grid, following, data))
                yield future.result()
    finally:
        for future in running:
            future.cancel()
