"""When generation decides and when it memorises: critical times of samples of a law; and averages along time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from fastthermo.critical import critical_time
from fastthermo.process import Process, named
from fastthermo.regimes import collapse_time, condensation_time, critical_windows, speciation_time
from fastthermo.regimes.averages import expectation, host
from fastthermo.regimes.information import spread_of
from fastthermo.sweep.measures import Found, Measure, Quantity, Table, Watch, mean_of
from fastthermo.sweep.models import Case

WINDOW_TIMES = 32


class Times(Measure, frozen=True, tag="times"):
    """Critical times of N = `sizes` data of each law, 0 for all of a data set.

    critical      beta lambda(C) = 1 at the data mean            condensation  T = sqrt(V / (2 log N))
    speciation    Lambda alpha^2 = 1                             collapse      E log w_own/(1 - w_own) = 0
    window        total variation distance 1/2 between the noised classes of labelled data, the mean over pairs;
                  class posteriors are always exact, on the device's own backend

    process : by the names of the command line. queries : noised data averaged over. NaN: not in [t_min, t_max].
    """

    process: str = "vp"
    queries: int = 256

    columns: ClassVar[tuple[str, ...]] = (
        "critical",
        "speciation",
        "condensation",
        "collapse",
        "collapse_error",
        "window",
        "window_error",
    )
    coordinate: ClassVar[str] = "sample"
    whole: ClassVar[str] = "all"
    block: ClassVar[int] = 1

    def check(self, sizes: tuple[int, ...], seeds: int, finite: bool) -> None:
        if any(size == 1 or (size == 0 and not finite) for size in sizes):
            raise ValueError(f"sizes: wanted samples of at least 2, or 0 for all of a data set, got {sizes}")
        named(self.process)
        if self.queries < 4:
            raise ValueError(f"queries: wanted at least 4, got {self.queries}")

    def measure(self, case: Case, size: int, keys: list[int], watch: Watch) -> tuple[np.ndarray, float]:
        process = named(self.process)
        return np.stack([self._times(*case.sample(size, key), process, key, watch) for key in keys])[
            ..., None
        ], math.nan

    def _times(self, ensemble: Any, labels: np.ndarray | None, process: Process, key: int, watch: Watch) -> np.ndarray:
        law = watch.law(ensemble)
        collapse = collapse_time(law, process, min(self.queries, law.size), key)
        window = (math.nan, math.nan)
        if labels is not None and len(np.unique(labels)) > 1:
            window = self._window(law, labels, process, key)
        return np.array(
            [
                critical_time(law, process),
                speciation_time(law, process),
                condensation_time(law, process),
                *collapse,
                *window,
            ]
        )

    def _window(self, law: Any, labels: np.ndarray, process: Process, key: int) -> tuple[float, float]:
        classes = law.split(labels)
        middle = critical_windows(classes, process, times=WINDOW_TIMES, n=max(2, self.queries // 2), seed=key).middle
        pairs = np.triu_indices(len(classes), 1)
        value, error = middle.value[pairs], middle.error[pairs]
        found = np.isfinite(value)
        if not found.any():
            return math.nan, math.nan
        return float(value[found].mean()), float(np.sqrt((error[found] ** 2).sum()) / found.sum())

    def found(self, case: Case, tables: dict[int, Table], temperature: float) -> Iterator[Found]:
        names = [name for name in self.columns if not name.endswith("_error")]
        for size, table in tables.items():
            quantities = {}
            for name in names:
                if name in table:
                    own = table[f"{name}_error"][:, 0] if f"{name}_error" in table else 0.0
                    value, error = mean_of(table[name][:, 0], own)
                    if np.isfinite(value):
                        seeds = int(np.isfinite(table[name][:, 0]).sum())
                        quantities[name] = Quantity(f"t ({name})", value, error, seeds=seeds)
            absent = [name for name in names if name in table and name not in quantities]
            yield Found(size, "times", f"not passed: {', '.join(absent)}" if absent else "", quantities)


class Averages(Measure, frozen=True, tag="averages"):
    """Averages along noised data at given times, of N = `sizes` data of each law, or of the law itself for 0.

    information   I(y; x_t) = -E S         mmse   E tr C         participation   E sum w^2

    process : by the names of the command line. times : of the process. queries : noised data averaged over.
    """

    times: tuple[float, ...]
    process: str = "vp"
    queries: int = 256

    columns: ClassVar[tuple[str, ...]] = (
        "information",
        "mmse",
        "participation",
        "information_error",
        "mmse_error",
        "participation_error",
    )
    coordinate: ClassVar[str] = "time"
    whole: ClassVar[str] = "law"

    @property
    def points(self) -> np.ndarray:
        return np.array(self.times)

    def check(self, sizes: tuple[int, ...], seeds: int, finite: bool) -> None:
        if not self.times:
            raise ValueError("times: wanted at least one, got none")
        named(self.process).check_time(np.array(self.times))
        if self.queries < 2:
            raise ValueError(f"queries: wanted at least 2, got {self.queries}")

    def measure(self, case: Case, size: int, keys: list[int], watch: Watch) -> tuple[np.ndarray, float]:
        process = named(self.process)

        def observe(field: Any, beta: float) -> tuple[Any, Any]:
            state = law.boltzmann(field, beta)
            values = -host(state.entropy), beta * spread_of(state), host(state.participation)
            return state.log_evidence, np.stack(values)

        rows, unit = [], np.ones((3, len(self.times)))
        unit[1] = 1 / process.beta(self.points)
        for key in keys:
            law = watch.law(case.sample(size, key)[0] if size else case.law())
            value, error = expectation(law, process, self.points, observe, self.queries, key)
            rows.append(np.concatenate([unit * value.T, unit * error.T]))
        return np.stack(rows), math.nan

    def found(self, case: Case, tables: dict[int, Table], temperature: float) -> Iterator[Found]:
        symbols = {"information": "I", "mmse": "mmse", "participation": "sum w^2"}
        for size, table in tables.items():
            for i, t in enumerate(self.times):
                quantities = {}
                for name in symbols.keys() & table.keys():
                    own = table[f"{name}_error"][:, i] if f"{name}_error" in table else 0.0
                    seeds = int(np.isfinite(table[name][:, i]).sum())
                    quantities[name] = Quantity(symbols[name], *mean_of(table[name][:, i], own), seeds=seeds)
                yield Found(size, "averages", "", dict(sorted(quantities.items())), at=t)
