"""Critical exponents with error bars: of a law's transition, of measured tables, and from finite sizes.

measure(law)            every exponent of a law's pitchfork, exactly or from samples of it
fit(table)              every exponent that a table of observables tells
collapse(...)           T_c, 1/nu and the exponent of an observable from many sizes
binder_crossings(...)   T_c from the crossings of a size-free ratio
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastthermo.exponents.axis import Axis, critical_axis
from fastthermo.exponents.binder import binder_crossings, binder_ratio
from fastthermo.exponents.collapse import Collapse, collapse
from fastthermo.exponents.observe import EXACT, FIELDS, OBSERVABLES, observe, samples
from fastthermo.exponents.power_law import PowerLaw, power_law
from fastthermo.exponents.quality import houdayer_hartmann
from fastthermo.exponents.window import resolved

__all__ = [
    "OBSERVABLES",
    "Axis",
    "Collapse",
    "Exponent",
    "Exponents",
    "PowerLaw",
    "binder_crossings",
    "binder_ratio",
    "collapse",
    "critical_axis",
    "fit",
    "houdayer_hartmann",
    "measure",
    "observe",
    "power_law",
    "samples",
]


@dataclass(frozen=True, eq=False)
class Exponent:
    """A critical exponent: its value, standard errors, and the power law that it was read from."""

    symbol: str
    value: float
    statistical: float
    systematic: float
    mean_field: float
    law: PowerLaw

    @property
    def error(self) -> float:
        """Statistical and systematic standard error together."""
        return math.hypot(self.statistical, self.systematic)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval; see `PowerLaw.interval`."""
        low, high = self.law.interval(level)
        reach = (high - low) / 2 * self.error / self.law.error
        return self.value - reach, self.value + reach

    def __str__(self) -> str:
        low, high = self.law.heaviest.window
        return (
            f"{self.symbol:16} {self.value:.6g} ± {self.statistical:.2g} (statistical) ± {self.systematic:.2g} "
            f"(systematic), mean field {self.mean_field:g}, window [{low:.3g}, {high:.3g}]"
        )


@dataclass(frozen=True, eq=False)
class Exponents(Mapping[str, Exponent]):
    """The exponents of a transition by observable, or none of them and why.

    kind : "pitchfork", "none" for a law without one, or "table" for exponents read from a table.
    """

    kind: str
    found: dict[str, Exponent]
    reason: str = ""
    axis: Axis | None = None
    table: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Exponent:
        return self.found[name]

    def __iter__(self) -> Any:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __str__(self) -> str:
        return "\n".join(map(str, self.found.values())) or f"no continuous transition: {self.reason}"


def fit(table: Mapping[str, Any]) -> Exponents:
    """Every exponent that a table tells.

    Parameters
    ----------
    table : "epsilon" (T,), reduced temperatures, and "field" (F,), fields at s_c; observables by the names of
        `OBSERVABLES`, (T,) or (R, T) of R replicas measured independently (F for the isotherm), and their errors
        besides the scatter of replicas, "NAME_error" (T,). A mapping of arrays such as `observe` makes.

    Raises
    ------
    ValueError where the table has no observable, lacks its axis, or a window is too small to fit, naming it.
    """
    known = [name for name in OBSERVABLES if name in table]
    if not known:
        raise ValueError(f"table: wanted at least one of {', '.join(OBSERVABLES)}, got {', '.join(map(str, table))}")
    return Exponents("table", {name: _exponent(table, name) for name in known}, table=dict(table))


def measure(
    law: Any,
    epsilon: Any = None,
    field: Any = None,
    draws: int | None = None,
    replicas: int = 8,
    seed: int = 0,
    axis: Axis | str | None = None,
) -> Exponents:
    """Every exponent of the pitchfork of a law at its data mean, or why it has none (`.kind` "none", `.reason`).

    Parameters
    ----------
    epsilon : reduced temperatures 1 - s/s_c, positive. By default 1e-3 to 0.4; for samples, where so many draws tell
        their law's transition from its rounding and from condensation (`window.py`).
    field : external fields of the critical isotherm, along the order parameter; by default as far from the transition.
    draws : measure `replicas` samples of so many data each instead of the law itself, at the law's critical point.
    axis : what `critical_axis` found, to spare looking for it again, or for another place than the data mean.

    Raises
    ------
    ValueError for epsilon, field, draws and replicas out of range, for fewer draws than show the transition, and for
    a window too small to fit, naming what is missing.
    """
    axis = critical_axis(law) if axis is None else axis
    if isinstance(axis, str):
        return Exponents("none", {}, axis)
    laws = [law] if draws is None else samples(law, draws, replicas, seed)
    if epsilon is None and draws is not None:
        epsilon, fields = resolved(axis, draws)
        field = fields if field is None else field
    if epsilon is None:
        epsilon = EXACT
    if field is None:
        field = np.asarray(epsilon) ** FIELDS * axis.beta**-0.5
    table = observe(axis, laws, epsilon, field)
    return Exponents("pitchfork", fit(table).found, axis=axis, table=table)


def _exponent(table: Mapping[str, Any], name: str) -> Exponent:
    observable = OBSERVABLES[name]
    if observable.axis not in table:
        raise ValueError(f"table: wanted {observable.axis!r}, which {name} is measured over, got {', '.join(table)}")
    found = power_law(
        table[observable.axis], table[name], table.get(f"{name}_error"), observable.correction, name, observable.axis
    )
    p = found.exponent
    value = 1 / p if observable.factor == 0 else observable.offset + observable.factor * p
    slope = p**-2 if observable.factor == 0 else 1.0
    return Exponent(
        observable.symbol, value, slope * found.statistical, slope * found.systematic, observable.mean_field, found
    )
