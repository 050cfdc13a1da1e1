"""The numbers of one task: what a worker does, wherever it is."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

import fastthermo
from fastthermo.ensemble import Ensemble
from fastthermo.exponents import OBSERVABLES, Axis, critical_axis, observe
from fastthermo.exponents.observe import FIELDS
from fastthermo.sweep.grid import Case, Grid

COLUMNS = tuple(OBSERVABLES)


class Result(NamedTuple):
    """Of a task's cells: the observables and the critical temperature, NaN where there is no pitchfork."""

    task: int
    values: np.ndarray  # (cells, observables, T)
    temperature: np.ndarray  # (cells,)
    version: str


@lru_cache(maxsize=16)
def case_axis(case: Case) -> Axis | str:
    """The axis of a case's transition, or why there is none."""
    return critical_axis(case.law())


def run_task(grid: Grid, task: int) -> Result:
    """Measure the cells of a task."""
    points, cases = grid.points, grid.cases
    values, temperature = [], []
    for case, draws, cells in grid.groups(task):
        axis = case_axis(cases[case])
        if isinstance(axis, str):
            values.append(np.full((len(cells), len(COLUMNS), len(points)), np.nan))
            temperature.append(np.full(len(cells), np.nan))
            continue
        laws = [axis.law] if draws == 0 else [_sample(axis.law, draws, grid.seed, cell) for cell in cells]
        table = observe(axis, laws, points, points**FIELDS * axis.beta**-0.5)
        values.append(np.stack([table[name] for name in COLUMNS], 1))
        temperature.append(np.full(len(cells), 1 / axis.beta))
    return Result(task, np.concatenate(values), np.concatenate(temperature), fastthermo.__version__)


def _sample(law: object, draws: int, seed: int, cell: int) -> Ensemble:
    key = np.random.SeedSequence(seed, spawn_key=(cell,)).generate_state(1, np.uint64)[0]
    return Ensemble(law.draw(draws, int(key)))  # type: ignore[attr-defined]
