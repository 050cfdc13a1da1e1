"""Families of laws: every combination of the values of a family's parameters is a case of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np

from fastthermo import solvable
from fastthermo.datasets import NAMED, Dataset, load
from fastthermo.ensemble import Ensemble


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="model"):
    """A family of laws; its fields are parameters, each with the values that it takes. law : one of them."""

    law: ClassVar[Callable[..., Any]]

    @property
    def tag(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each parameter."""
        return tuple(len(getattr(self, name)) for name in self.__struct_fields__)

    def case(self, index: int) -> Case:
        """The index-th combination, the last parameter fastest."""
        place = np.unravel_index(index, self.shape)
        return Case(
            self.tag, tuple((n, getattr(self, n)[i]) for n, i in zip(self.__struct_fields__, place, strict=True))
        )

    def check(self) -> None:
        """Make a law with every value of each parameter, so that a bad one is refused before anything is measured."""
        for name, count in zip(self.__struct_fields__, self.shape, strict=True):
            if not count:
                raise ValueError(f"models: wanted values for {name} of {self.tag}, got none")
        for axis, count in enumerate(self.shape):
            stride = math.prod(self.shape[axis + 1 :])
            for i in range(0 if axis == 0 else 1, count):
                case = self.case(i * stride)
                try:
                    case.law()
                except (ValueError, TypeError) as error:
                    raise type(error)(f"models: {case}: {error}") from error


class TwoDeltas(Model, frozen=True, tag="two_deltas"):
    mu: tuple[float, ...] = (1.0,)
    p: tuple[float, ...] = (0.5,)

    law = staticmethod(solvable.two_deltas)


class Sphere(Model, frozen=True, tag="sphere"):
    d: tuple[int, ...]
    r: tuple[float, ...] = (1.0,)

    law = staticmethod(solvable.sphere)


class Simplex(Model, frozen=True, tag="simplex"):
    q: tuple[int, ...]
    r: tuple[float, ...] = (1.0,)

    law = staticmethod(solvable.simplex)


class CurieWeiss(Model, frozen=True, tag="curie_weiss"):
    n: tuple[int, ...]
    K: tuple[float, ...] = (0.5,)

    law = staticmethod(solvable.curie_weiss)


class IsingRing(Model, frozen=True, tag="ising_ring"):
    n: tuple[int, ...]
    K: tuple[float, ...] = (0.5,)

    law = staticmethod(solvable.ising_ring)


class Hypercube(Model, frozen=True, tag="hypercube"):
    """Uniform on the corners (+-1, ..., +-1) of a cube in d dimensions: spins that do not interact."""

    d: tuple[int, ...]

    @staticmethod
    def law(**parameters: Any) -> Any:
        if parameters["d"] < 2:
            raise ValueError(f"d: wanted an integer of at least 2, got {parameters['d']!r}")
        return solvable.curie_weiss(parameters["d"], 0.0)


class Mixture(Model, frozen=True, tag="mixture"):
    """Two Gaussians at +-m (1, 0, ..., 0) of variance v in d dimensions."""

    m: tuple[float, ...]
    v: tuple[float, ...] = (1.0,)
    d: tuple[int, ...] = (1,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        mean = parameters["m"] * np.eye(1, parameters["d"])
        return solvable.gaussian_mixture(np.concatenate([mean, -mean]), parameters["v"])


class Gaussian(Model, frozen=True, tag="gaussian"):
    """A Gaussian of variance v in d dimensions, which has no transition."""

    d: tuple[int, ...]
    v: tuple[float, ...] = (1.0,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        return solvable.gaussian(np.full(parameters["d"], parameters["v"]))


class Data(Model, frozen=True, tag="data"):
    """A data set, `fastthermo.datasets.load(name)`.

    classes : those whose data are taken, () for all of them.
    pool : images are averaged over blocks of so many pixels a side.
    mirror : with every datum its mirror image about the data mean, which makes the law symmetric.
    """

    name: tuple[str, ...]
    classes: tuple[tuple[int | str, ...], ...] = ((),)
    pool: tuple[int, ...] = (1,)
    mirror: tuple[bool, ...] = (False,)

    @staticmethod
    def law(**parameters: Any) -> Any:
        return _data(**parameters)[0]


Models = TwoDeltas | Sphere | Simplex | CurieWeiss | IsingRing | Hypercube | Mixture | Gaussian | Data
BY_TAG: dict[str, type[Model]] = {str(kind.__struct_config__.tag): kind for kind in Models.__args__}


def fingerprints(models: Iterable[Model]) -> dict[str, str]:
    """Of each file whose data are among the models, by its name as they give it: that of its contents now."""
    names = dict.fromkeys(name for model in models if isinstance(model, Data) for name in model.name)
    return {name: load(name).fingerprint for name in names if name not in NAMED}


class Case(NamedTuple):
    """A law of a grid. fingerprint : that its data must have, "" for any."""

    model: str
    parameters: tuple[tuple[str, Any], ...]
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"{self.model}({', '.join(f'{k}={v}' for k, v in self.parameters)})"

    def of(self, data: Mapping[str, str]) -> Case:
        """The same, whose file must have its fingerprint of these, by names."""
        return self._replace(fingerprint=data.get(dict(self.parameters).get("name", ""), ""))

    def law(self) -> Any:
        return _law(self)

    @property
    def labels(self) -> np.ndarray | None:
        """(N,) classes of the law's states, for labelled data."""
        return _data(**dict(self.parameters), fingerprint=self.fingerprint)[1] if self.model == "data" else None

    def sample(self, size: int, key: int) -> tuple[Any, np.ndarray | None]:
        """An ensemble of `size` data and their labels: of a data set without replacement, all of it for 0."""
        law = self.law()
        if not isinstance(law, Ensemble):
            return Ensemble(law.draw(size, key)), None
        if not size:
            return law, self.labels
        index = np.sort(np.random.default_rng(key).choice(law.size, size, replace=False))
        labels = self.labels
        return Ensemble(law.states[index], None, law.scale, law.shift), None if labels is None else labels[index]


@lru_cache(maxsize=16)
def _law(case: Case) -> Any:
    asked = {"fingerprint": case.fingerprint} if case.model == "data" else {}
    return BY_TAG[case.model].law(**dict(case.parameters), **asked)


@lru_cache(maxsize=2)
def _load(name: str, fingerprint: str) -> Dataset:
    data = load(name)
    if fingerprint not in ("", data.fingerprint):
        raise ValueError(f"name: {name} holds other data than when the sweep was begun, or than where it was")
    return data


@lru_cache(maxsize=4)
def _data(
    name: str, classes: tuple[int | str, ...], pool: int, mirror: bool, fingerprint: str = ""
) -> tuple[Ensemble, np.ndarray | None]:
    """The ensemble of a case and its labels; bytes stay bytes where pixels are kept as they are."""
    data = _load(name, fingerprint)
    states, labels = data.states, None if data.labels is None else np.asarray(data.labels)
    if classes:
        if labels is None:
            raise ValueError(f"classes: wanted a labelled data set, {name} has no labels")
        missing = set(classes) - set(labels.tolist())
        if missing:
            raise ValueError(f"classes: wanted classes of {name}, got {', '.join(map(str, sorted(missing)))}")
        chosen = np.isin(labels, classes)
        states, labels = states[chosen], labels[chosen]
    if pool == 1 and not mirror:
        return Ensemble(states, None, data.scale, data.shift), labels
    if pool != 1:
        states = _pooled(states, pool)
    values = data.scale * states.astype(np.float64) + data.shift
    if not mirror:
        return Ensemble(values), labels
    return Ensemble(np.concatenate([values, 2 * values.mean(0) - values])), None


def _pooled(images: np.ndarray, pool: int) -> np.ndarray:
    """Means over blocks of pool x pool pixels of images (N, H, W)."""
    if images.ndim != 3 or pool < 1 or images.shape[1] % pool or images.shape[2] % pool:
        raise ValueError(f"pool: wanted a divisor of the sides of grey images, got {pool} for {images.shape[1:]}")
    n, height, width = images.shape
    blocks = images.reshape(n, height // pool, pool, width // pool, pool)
    means: np.ndarray = blocks.mean((2, 4), dtype=np.float64)
    return means
