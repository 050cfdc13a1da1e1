"""The numbers of one task: what a worker does, wherever it is."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

import fastthermo
from fastthermo.sweep.grid import Grid
from fastthermo.sweep.measures import Watch

SCALARS = ("critical_temperature", "error_bound", "seconds")  # of a cell


class Result(NamedTuple):
    """Of a task's cells: the observables; and s_c (NaN where there is none), the worst error bound of the sums that
    it and the cells measured with it took (NaN for closed forms), and seconds.
    """

    task: int
    values: np.ndarray  # (cells, observables, points)
    scalars: np.ndarray  # (cells, SCALARS)
    version: str


def version() -> str:
    """Of the package, where this is called."""
    return fastthermo.__version__


def run_task(grid: Grid, task: int) -> Result:
    """Measure the cells of a task."""
    kept = [grid.measure.columns.index(name) for name in grid.columns]
    values, scalars = [], []
    for case, size, cells in grid.groups(task):
        begun, watch = time.perf_counter(), Watch(grid.precision, grid.backend)
        found, temperature = grid.measure.measure(grid.case(case), size, [grid.key(cell) for cell in cells], watch)
        values.append(found[:, kept])
        seconds = (time.perf_counter() - begun) / len(cells)
        scalars.append(np.tile([temperature, watch.bound, seconds], (len(cells), 1)))
    return Result(task, np.concatenate(values), np.concatenate(scalars), version())
