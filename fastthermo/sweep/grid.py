"""A sweep as a value: which laws, what is measured of them, how often; and the cells and tasks that follow from it.

Cells are numbered in the order case, size, seed (the last one fastest). A cell's random numbers come from
SeedSequence(seed, spawn_key=(cell,)), so that they depend on its place in the grid alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from fastthermo.sweep.bath import BathScaling
from fastthermo.sweep.models import Case, Data, Models
from fastthermo.sweep.times import Averages, Times
from fastthermo.sweep.transition import Transition

MOST_TASKS, MOST_NUMBERS = 10**6, 2**28  # of a store, and of one of its tasks, 2 GiB
TASKS = 1000  # at most, so that a store has a few thousand files


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured: `measure` of every law, sample size and seed.

    Parameters
    ----------
    models : families of laws.
    measure : the kind of measurement, with keys of its own: transition, bath, times or averages.
    sizes : data of a sample (sites of a bath); 0 for the law itself.
    seeds : samples of each size.
    observables : those of the measure's columns that are kept; all by default.
    seed : of all random numbers.
    precision, backend : of the sums over states at which observables are read, as `Ensemble.boltzmann` takes them;
        "triton" gives each worker a GPU of its own. Closed forms are formulas and have neither.
    cells_per_task : the chunks of the store and of the work; 0 chooses.

    Raises
    ------
    ValueError for impossible numbers, naming the key.
    """

    models: tuple[Models, ...]
    measure: Transition | BathScaling | Times | Averages = Transition()
    sizes: tuple[int, ...] = (0,)
    seeds: int = 1
    observables: tuple[str, ...] = ()
    seed: int = 0
    precision: Literal["exact", "fast"] = "exact"
    backend: Literal["numba", "reference", "triton"] | None = None
    cells_per_task: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.observables if name not in self.measure.columns]
        for key, fine, wanted, got in (
            ("models", bool(self.models), "at least one", self.models),
            ("sizes", bool(self.sizes) and min(self.sizes, default=0) >= 0, "sizes, or [0]", self.sizes),
            ("sizes", len(set(self.sizes)) == len(self.sizes), "each size once", self.sizes),
            ("seeds", self.seeds >= 1, "at least 1", self.seeds),
            ("seed", self.seed >= 0, "at least 0", self.seed),
            ("observables", not unknown, f"some of {', '.join(self.measure.columns)}", ", ".join(unknown)),
            ("cells_per_task", self.cells_per_task >= 0, "at least 0", self.cells_per_task),
        ):
            if not fine:
                raise ValueError(f"{key}: wanted {wanted}, got {got}")
        self.measure.check(self.sizes, self.seeds, all(isinstance(model, Data) for model in self.models))
        numbers = self.block * len(self.columns) * len(self.measure.points)
        for key, fine, wanted, got in (
            ("cells_per_task", self.tasks <= MOST_TASKS, f"at most {MOST_TASKS} tasks", f"{self.tasks}"),
            ("cells", numbers <= MOST_NUMBERS, f"at most {MOST_NUMBERS} numbers a task", f"{numbers}"),
        ):
            if not fine:
                raise ValueError(f"{key}: wanted {wanted}, got {got} of {self.cells} cells of cases, sizes and seeds")

    def check(self) -> None:
        """Make each family's laws, and ask data sets for their sizes: a ValueError names what cannot be.

        Nor may the observables that are kept tell nothing.
        """
        missing = [name for name in self.measure.needed if name not in self.columns]
        if missing or all(name.endswith("_error") for name in self.columns):
            wanted = ", ".join(missing) or "one that is no error"
            raise ValueError(f"observables: wanted {wanted} among them, got {', '.join(self.columns)}")
        for model in self.models:
            model.check()
            for i in range(math.prod(model.shape) if isinstance(model, Data) else 0):
                case = model.case(i)
                if max(self.sizes) > case.law().size:
                    raise ValueError(f"sizes: wanted at most {case.law().size}, all of {case}, got {max(self.sizes)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The observables that are kept."""
        return self.observables or self.measure.columns

    @property
    def cases(self) -> Iterator[Case]:
        """Every law of the grid."""
        return (self.case(index) for index in range(self.shape[0]))

    def case(self, index: int) -> Case:
        """The index-th law."""
        for model in self.models:
            count = math.prod(model.shape)
            if index < count:
                return model.case(index)
            index -= count
        raise IndexError(index)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cases, sizes, seeds."""
        return sum(math.prod(model.shape) for model in self.models), len(self.sizes), self.seeds

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    @property
    def block(self) -> int:
        """Cells of a task."""
        return max(1, min(self.cells_per_task or max(self.measure.block, -(-self.cells // TASKS)), self.cells))

    @property
    def tasks(self) -> int:
        return -(-self.cells // self.block)

    def groups(self, task: int) -> Iterator[tuple[int, int, range]]:
        """The cells of a task: case, size, and the run of cells that share them."""
        first, last = task * self.block, min((task + 1) * self.block, self.cells)
        while first < last:
            row, seed = divmod(first, self.seeds)
            case, size = divmod(row, len(self.sizes))
            stop = min(first + self.seeds - seed, last)
            yield case, self.sizes[size], range(first, stop)
            first = stop

    def key(self, cell: int) -> int:
        """The seed of a cell's random numbers, of 63 bits."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(cell,))
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def load(path: str | Path) -> Grid:
    """A grid from a TOML file; a ValueError names a key that is not known, and where."""
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=Grid)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error
