"""What a grid measures at each of its cells: the keys of a kind of measurement, its observables, and what they tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np

from fastthermo.ensemble import Ensemble
from fastthermo.exponents import Axis
from fastthermo.sweep.models import Case

MOST_POINTS = 10**6  # of a cell
Table = Mapping[str, np.ndarray]  # observable -> (seeds, points)


class Quantity(NamedTuple):
    """A number that a sweep tells, of so many seeds: its standard errors, and what theory expects (NaN: nothing)."""

    symbol: str
    value: float
    statistical: float = 0.0
    systematic: float = 0.0
    expected: float = math.nan
    seeds: int = 1

    @property
    def error(self) -> float:
        return math.hypot(self.statistical, self.systematic)


class Found(NamedTuple):
    """What the cells of a case tell together.

    size : that of the samples, 0 where there are none.
    kind : "pitchfork", "none" (no continuous transition), "times", "averages", "failed" (its measurement raised an
        error), "unmeasured". reason : why quantities are missing.
    collapse : `fastthermo.exponents.Collapse` of its finite sizes, where there is one.
    at : the time of the process at which the quantities are, for those along time.
    """

    size: int
    kind: str
    reason: str
    quantities: dict[str, Quantity]
    collapse: Any = None
    at: float = math.nan


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """A kind of measurement; its fields are its keys in a file.

    columns : the observables of a cell. needed : those without which it tells nothing.
    coordinate : what they are measured over, `points`.
    sizes : what the sizes of its grid count; whole : what size 0 stands for. block : cells that take about a second.
    """

    columns: ClassVar[tuple[str, ...]]
    needed: ClassVar[tuple[str, ...]] = ()
    coordinate: ClassVar[str]
    sizes: ClassVar[str] = "data"
    whole: ClassVar[str] = "exact"
    block: ClassVar[int] = 8

    @property
    def points(self) -> np.ndarray:
        """(T,)"""
        return np.zeros(1)

    def check(self, sizes: tuple[int, ...], seeds: int, finite: bool) -> None:
        """ValueError for sizes and seeds that cannot be measured; finite: whether every law is a data set."""
        raise NotImplementedError

    def measure(self, case: Case, size: int, keys: list[int], watch: Watch) -> tuple[np.ndarray, float]:
        """The observables (cells, columns, T) of one cell a key, and the critical temperature of the law, or NaN."""
        raise NotImplementedError

    def found(self, case: Case, tables: dict[int, Table], temperature: float) -> Iterator[Found]:
        """What the cells of a case tell: tables by size, of those seeds that are measured."""
        raise NotImplementedError


class Watch:
    """How sums over states are asked for, and the worst error bound of the answers; NaN while none had one."""

    def __init__(self, precision: str, backend: str | None) -> None:
        self.precision, self.backend, self.bound = precision, backend, math.nan

    def law(self, law: Any) -> Any:
        """The law, asked so; closed forms are formulas and stay as they are."""
        return _Watched(_placed(law, self.backend), self) if isinstance(law, Ensemble) else law


class _Watched:
    """An ensemble that is asked with one precision and backend."""

    def __init__(self, law: Ensemble, watch: Watch) -> None:
        self._law, self._watch = law, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._law, name)

    def boltzmann(self, field: Any, beta: Any, **options: Any) -> Any:
        asked = {"precision": self._watch.precision, "backend": self._watch.backend} | options
        state = self._law.boltzmann(field, beta, **asked)
        if state.error_bound is not None and np.size(state.log_evidence):
            self._watch.bound = float(np.fmax(self._watch.bound, float(state.error_bound.max())))
        return state

    def cumulant(self, field: Any, beta: Any, *probes: Any) -> Any:
        return self._law.cumulant(field, beta, *probes, backend=self._watch.backend)

    def response(self, field: Any, beta: Any, single: bool = False) -> Any:
        return self._law.response(field, beta, single, self._watch.backend)

    def log_odds(self, index: Any, field: Any, beta: Any) -> Any:
        return self._law.log_odds(index, field, beta, backend=self._watch.backend)


@dataclass(frozen=True, eq=False)
class WatchedAxis(Axis):
    """An axis on which ensembles are asked as a watch says."""

    watch: Any = None

    def of(self, law: Any) -> Axis:
        found = super().of(law)
        return Axis(self.watch.law(found.law), found.location, found.direction, found.beta)


def _placed(law: Ensemble, backend: str | None) -> Ensemble:
    """The ensemble on this worker's GPU where Triton is asked for."""
    if backend != "triton":
        return law
    import torch

    states = torch.as_tensor(law.states).to(gpu())
    return Ensemble(states, law.log_weights, law.scale, law.shift)


@cache
def gpu() -> Any:
    """The GPU of this process, which no other worker on this machine has: the first of those visible that is free.

    Raises ValueError where there is none that is free.
    """
    import fcntl
    import tempfile
    from pathlib import Path

    import torch

    count = torch.cuda.device_count()
    for i in range(count):
        name = f"fastthermo-{torch.cuda.get_device_properties(i).uuid}.lock"
        path = Path(tempfile.gettempdir()) / name
        if not path.exists():
            path.touch()
            path.chmod(0o644)  # whoever may read it can lock it, and others than the one who made it may not write
        lock = path.open()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _locks.append(lock)  # held until the process ends
        torch.cuda.set_device(i)
        return torch.device("cuda", i)
    raise ValueError(f"backend: triton wants a GPU for each worker, {count} are visible and none of them is free")


_locks: list[Any] = []


def mean_of(rows: np.ndarray, own: np.ndarray | float = 0.0) -> tuple[float, float]:
    """Mean over seeds (S,) and its standard error: from their scatter, or each one's own error where there is one."""
    found = np.isfinite(rows)
    n = int(found.sum())
    if not n:
        return math.nan, math.nan
    values = rows[found]
    if n > 1:
        return float(values.mean()), float(values.std(ddof=1) / math.sqrt(n))
    return float(values[0]), float(np.broadcast_to(own, rows.shape)[found][0])
