"""The exponents of a law's pitchfork, exactly or from samples of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar

import numpy as np

from fastthermo.exponents import OBSERVABLES, Axis, critical_axis, fit, observe
from fastthermo.exponents.axis import ROUNDING
from fastthermo.exponents.observe import FIELDS, rounding_errors
from fastthermo.sweep.measures import MOST_POINTS, Found, Measure, Quantity, Table, Watch, WatchedAxis
from fastthermo.sweep.models import Case


@lru_cache(maxsize=16)
def case_axis(case: Case) -> Axis | str:
    """The axis of a case's transition, or why there is none."""
    return critical_axis(case.law())


class Transition(Measure, frozen=True, tag="transition"):
    """Observables near the transition of every case: see `fastthermo.exponents`. Sizes: data of a sample, or [0].

    epsilon : lowest and highest reduced temperature and their number, in geometric progression; fields of the critical
        isotherm are epsilon^2 sqrt(s_c).
    """

    epsilon: tuple[float, float, int] = (1e-3, 0.4, 20)

    columns: ClassVar[tuple[str, ...]] = tuple(OBSERVABLES)
    coordinate: ClassVar[str] = "epsilon"
    block: ClassVar[int] = 16

    @property
    def points(self) -> np.ndarray:
        low, high, points = self.epsilon
        return np.geomspace(low, high, points)

    def check(self, sizes: tuple[int, ...], seeds: int, finite: bool) -> None:
        low, high, points = self.epsilon
        if not (0 < low < high < 1 and 4 <= points <= MOST_POINTS):
            raise ValueError(f"epsilon: wanted 0 < low < high < 1 and 4 to {MOST_POINTS} points, got {self.epsilon}")
        if sizes == (0,) and seeds != 1:
            raise ValueError(f"seeds: wanted 1 with sizes = [0]: exact averages have none, got {seeds}")
        if 0 in sizes and sizes != (0,):
            raise ValueError(f"sizes: wanted 0, exact averages, alone, got {sizes}")

    def measure(self, case: Case, size: int, keys: list[int], watch: Watch) -> tuple[np.ndarray, float]:
        axis = case_axis(case)
        if isinstance(axis, str):
            return np.full((len(keys), len(self.columns), len(self.points)), np.nan), np.nan
        watched = WatchedAxis(axis.law, axis.location, axis.direction, axis.beta, watch)
        laws = [case.sample(size, key)[0] for key in keys] if size else [axis.law]
        table = observe(watched, laws, self.points, self.points**FIELDS * axis.beta**-0.5)
        return np.stack([table[name] for name in self.columns], 1), 1 / axis.beta

    def found(self, case: Case, tables: dict[int, Table], temperature: float) -> Iterator[Found]:
        for size, rows in tables.items():
            if not np.isfinite(temperature):
                axis = case_axis(case)
                yield Found(size, "none", axis if isinstance(axis, str) else "", {})
                continue
            yield self._fitted(case, size, rows, temperature)

    def _fitted(self, case: Case, size: int, rows: Table, temperature: float) -> Found:
        """What cannot be fitted (a window too small, too few seeds) is left out and named in the reason."""
        table = {"epsilon": self.points, "field": self.points**FIELDS * temperature**0.5, **rows}
        every = table | {name: table.get(name, np.zeros((1, len(self.points)))) for name in OBSERVABLES}
        errors = rounding_errors(every, temperature**0.5)
        if "barrier" in rows:  # a difference of free energies, each rounded in units of itself
            law = case.law()
            free = law.boltzmann(np.asarray(law.data_mean), 1 / temperature).regularised_free_energy
            errors["barrier_error"] = errors["barrier_error"] + ROUNDING * abs(float(free))
        quantities, reasons = {}, []
        for name in rows:
            one = {key: (table | errors)[key] for key in ("epsilon", "field", name, f"{name}_error")}
            try:
                exponent = fit(one)[name]
            except ValueError as problem:
                reasons.append(str(problem))
                continue
            errors_of = exponent.statistical, exponent.systematic
            quantities[name] = Quantity(
                exponent.symbol, exponent.value, *errors_of, exponent.mean_field, seeds=len(rows[name])
            )
        return Found(size, "pitchfork", "; ".join(reasons), quantities)
