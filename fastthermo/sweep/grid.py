"""A sweep as a value: which laws, how they are measured, how often; and the cells and tasks that follow from it.

Cells are numbered in the order case, draws, seed (the last one fastest). A cell's random numbers come from
SeedSequence(seed, spawn_key=(cell,)), so that they depend on its place in the grid alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

TASK = {"exact": 8, "sampled": 64}  # cells of a task at least: seconds of work
TASKS = 1000  # at most, so that a store has a few thousand files


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="model"):
    """A family of laws: every combination of its parameters' values is a case."""

    def cases(self) -> list[dict[str, Any]]:
        """The parameters of each case."""
        names = self.__struct_fields__
        return [
            dict(zip(names, values, strict=True)) for values in itertools.product(*(getattr(self, n) for n in names))
        ]

    @staticmethod
    def law(**parameters: Any) -> Any:
        """The law of one case."""
        raise NotImplementedError


class TwoDeltas(Model, frozen=True, tag="two_deltas"):
    mu: tuple[float, ...] = (1.0,)
    p: tuple[float, ...] = (0.5,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        return solvable.two_deltas(**parameters)


class Sphere(Model, frozen=True, tag="sphere"):
    d: tuple[int, ...]
    r: tuple[float, ...] = (1.0,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        return solvable.sphere(**parameters)


class Simplex(Model, frozen=True, tag="simplex"):
    q: tuple[int, ...]
    r: tuple[float, ...] = (1.0,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        return solvable.simplex(**parameters)


class CurieWeiss(Model, frozen=True, tag="curie_weiss"):
    n: tuple[int, ...]
    K: tuple[float, ...] = (0.5,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        return solvable.curie_weiss(**parameters)


class IsingRing(Model, frozen=True, tag="ising_ring"):
    n: tuple[int, ...]
    K: tuple[float, ...] = (0.5,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        return solvable.ising_ring(**parameters)


class Mixture(Model, frozen=True, tag="mixture"):
    """Two Gaussians at +-m (1, 0, ..., 0) of variance v in d dimensions."""

    m: tuple[float, ...]
    v: tuple[float, ...] = (1.0,)
    d: tuple[int, ...] = (1,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        mean = parameters["m"] * np.eye(1, parameters["d"])
        return solvable.gaussian_mixture(np.concatenate([mean, -mean]), parameters["v"])


class Gaussian(Model, frozen=True, tag="gaussian"):
    """A Gaussian of variance v in d dimensions, which has no transition."""

    d: tuple[int, ...]
    v: tuple[float, ...] = (1.0,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo import solvable

        return solvable.gaussian(np.full(parameters["d"], parameters["v"]))


class Data(Model, frozen=True, tag="data"):
    """The data of two classes of a labelled data set, `fastthermo.datasets.load(name)`."""

    name: tuple[str, ...]
    classes: tuple[tuple[int, int], ...]

    @staticmethod
    def law(**parameters: Any) -> Any:
        from fastthermo.datasets import load
        from fastthermo.ensemble import Ensemble

        data = load(parameters["name"])
        if data.labels is None:
            raise ValueError(f"classes: wanted a labelled data set, {parameters['name']} has no labels")
        whole = data.ensemble()
        chosen = np.isin(np.asarray(data.labels), parameters["classes"])
        return Ensemble(whole.states[chosen], None, whole.scale, whole.shift)


Models = TwoDeltas | Sphere | Simplex | CurieWeiss | IsingRing | Mixture | Gaussian | Data


class Case(NamedTuple):
    """A law of the grid."""

    model: str
    parameters: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.model}({', '.join(f'{k}={v}' for k, v in self.parameters)})"

    def law(self) -> Any:
        """Made anew."""
        return _BY_TAG[self.model].law(**dict(self.parameters))


_BY_TAG: dict[str, type[Model]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (TwoDeltas, Sphere, Simplex, CurieWeiss, IsingRing, Mixture, Gaussian, Data)
}


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured: observables near the transition of every case, exactly or from samples.

    Parameters
    ----------
    models : families of laws.
    draws : sizes of the samples measured, or [0] for exact averages.
    seeds : samples of each size.
    epsilon : lowest and highest reduced temperature and their number, in geometric progression; fields of the critical
        isotherm are epsilon^2 sqrt(s_c).
    seed : of all random numbers.
    cells_per_task : the chunks of the store and of the work; 0 chooses.

    Raises
    ------
    ValueError for impossible numbers, naming the key.
    """

    models: tuple[Models, ...]
    draws: tuple[int, ...] = (0,)
    seeds: int = 1
    epsilon: tuple[float, float, int] = (1e-3, 0.4, 20)
    seed: int = 0
    cells_per_task: int = 0

    def __post_init__(self) -> None:
        low, high, points = self.epsilon
        for key, fine, wanted, got in (
            ("models", bool(self.models), "at least one", self.models),
            ("draws", bool(self.draws) and min(self.draws, default=0) >= 0, "sizes of samples, or [0]", self.draws),
            ("draws", 0 not in self.draws or self.draws == (0,), "0, exact averages, alone", self.draws),
            ("seeds", self.seeds >= 1, "at least 1", self.seeds),
            (
                "seeds",
                self.draws != (0,) or self.seeds == 1,
                "1 with draws = [0]: exact averages have none",
                self.seeds,
            ),
            ("epsilon", 0 < low < high < 1 and points >= 4, "0 < low < high < 1 and at least 4 points", self.epsilon),
            ("seed", self.seed >= 0, "at least 0", self.seed),
            ("cells_per_task", self.cells_per_task >= 0, "at least 0", self.cells_per_task),
        ):
            if not fine:
                raise ValueError(f"{key}: wanted {wanted}, got {got}")
        for model in self.models:
            empty = [name for name in model.__struct_fields__ if not getattr(model, name)]
            if empty:
                raise ValueError(f"models: wanted values for {empty[0]} of {model.__struct_config__.tag}, got none")

    @property
    def cases(self) -> list[Case]:
        """Every law of the grid."""
        return [
            Case(str(model.__struct_config__.tag), tuple(parameters.items()))
            for model in self.models
            for parameters in model.cases()
        ]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cases, sizes of samples, seeds."""
        cases = sum(math.prod(len(getattr(m, name)) for name in m.__struct_fields__) for m in self.models)
        return cases, len(self.draws), self.seeds

    @property
    def cells(self) -> int:
        return math.prod(self.shape)

    @property
    def block(self) -> int:
        """Cells of a task."""
        return self.cells_per_task or max(TASK["exact" if self.draws == (0,) else "sampled"], -(-self.cells // TASKS))

    @property
    def tasks(self) -> int:
        return -(-self.cells // self.block)

    @property
    def points(self) -> np.ndarray:
        """Reduced temperatures, (T,)."""
        low, high, points = self.epsilon
        return np.geomspace(low, high, points)

    def groups(self, task: int) -> Iterator[tuple[int, int, range]]:
        """The cells of a task: case, draws, and the run of cells that share them."""
        first, last = task * self.block, min((task + 1) * self.block, self.cells)
        while first < last:
            case, size, seed = np.unravel_index(first, self.shape)
            stop = min(first + self.seeds - int(seed), last)
            yield int(case), self.draws[int(size)], range(first, stop)
            first = stop


def load(path: str | Path) -> Grid:
    """A grid from a TOML file; a ValueError names a key that is not known, and where."""
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=Grid)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error
