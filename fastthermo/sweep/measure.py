"""The numbers of one task: what a worker does, wherever it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

import fastthermo
from fastthermo.sweep.grid import Grid
from fastthermo.sweep.measures import Watch, gpu

SCALARS = ("critical_temperature", "error_bound", "seconds")  # of a cell


class Result(NamedTuple):
    """Of a task's cells: the observables; and s_c (NaN where there is none), the worst error bound of the sums that
    it and the cells measured with it took (NaN for closed forms), and seconds. All of them NaN where it failed.
    """

    task: int
    values: np.ndarray  # (cells, observables, points)
    scalars: np.ndarray  # (cells, SCALARS)
    version: str
    failed: tuple[str, ...] = ()  # of each cell why it could not be measured, "" where it was; () where all were

    def failures(self, grid: Grid) -> list[tuple[str, str]]:
        """Case and size, and the error, of what failed."""
        first = self.task * grid.block
        groups = grid.groups(self.task) if self.failed else ()
        texts = ((case, size, self.failed[cells.start - first]) for case, size, cells in groups)
        return [(f"{grid.case(case)}, {size or grid.measure.whole}", text) for case, size, text in texts if text]


def version() -> str:
    """Of the package, where this is called."""
    return fastthermo.__version__


def check_worker(grid: Grid) -> None:
    """ValueError where this process cannot measure any cell of the grid: it has no GPU for Triton."""
    if grid.backend == "triton":
        gpu()


def run_task(grid: Grid, task: int, data: Mapping[str, str] = MappingProxyType({})) -> Result:
    """Measure the cells of a task; an error of a case and size is theirs alone, and part of the result.

    data : fingerprints that files must have, by their names in the grid.
    """
    check_worker(grid)
    kept = [grid.measure.columns.index(name) for name in grid.columns]
    values, scalars, failed = [], [], []
    for case, size, cells in grid.groups(task):
        begun, watch, problem = time.perf_counter(), Watch(grid.precision, grid.backend), ""
        try:
            law = grid.case(case).of(data)
            found, temperature = grid.measure.measure(law, size, [grid.key(cell) for cell in cells], watch)
            numbers = [temperature, watch.bound, (time.perf_counter() - begun) / len(cells)]
        except Exception as error:
            found = np.full((len(cells), len(grid.measure.columns), len(grid.measure.points)), np.nan)
            numbers, problem = [np.nan] * len(SCALARS), f"{type(error).__name__}: {error}"
        values.append(found[:, kept])
        scalars.append(np.tile(numbers, (len(cells), 1)))
        failed += [problem] * len(cells)
    return Result(
        task, np.concatenate(values), np.concatenate(scalars), version(), tuple(failed) if any(failed) else ()
    )
