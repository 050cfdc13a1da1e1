"""Finite-size scaling of the generative bath: M sites that share one field, about the transition of their law."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from fastthermo.exponents import Axis, binder_crossings, binder_ratio, collapse
from fastthermo.solvable import Bath
from fastthermo.sweep.measures import MOST_POINTS, Found, Measure, Quantity, Table, Watch
from fastthermo.sweep.models import Case
from fastthermo.sweep.transition import case_axis

RESOLUTION = 0.01  # relative: what corrections to scaling leave of a value that is measured exactly
CLOSE = 3.0  # |epsilon| sqrt(M) up to which sizes are collapsed


class BathScaling(Measure, frozen=True, tag="bath"):
    """Moments of |h - h_0| of the bath's field h, of M = `sizes` sites, over (1 - s/s_c) sqrt(M).

    Of h - h_0 the part counts that lies in the space of the critical gain: others are noise of their own scaling.

    The transition is that of mean-field models, y = M^-kappa f((s - s_c) M^(1/nu)) with 1/nu = 1/2 and kappa = 1/4 for
    the order parameter; neither is assumed by the collapse. Exact in one dimension, where seeds differ by nothing.

    scaled : lowest and highest (1 - s/s_c) sqrt(M) and their number.
    particles : fields sampled where the law has more than one dimension.
    """

    scaled: tuple[float, float, int] = (-2.0, 2.0, 15)
    particles: int = 1024

    columns: ClassVar[tuple[str, ...]] = ("order_parameter", "second_moment", "fourth_moment")
    needed: ClassVar[tuple[str, ...]] = ("order_parameter",)
    coordinate: ClassVar[str] = "scaled_temperature"
    sizes: ClassVar[str] = "sites"
    whole: ClassVar[str] = "all"

    @property
    def points(self) -> np.ndarray:
        return np.linspace(*self.scaled)

    def check(self, sizes: tuple[int, ...], seeds: int, finite: bool) -> None:
        low, high, points = self.scaled
        if not (-math.inf < low < 0 < high < math.inf and 5 <= points <= MOST_POINTS):
            raise ValueError(f"scaled: wanted finite low < 0 < high, 5 to {MOST_POINTS} points, got {self.scaled}")
        if len(set(sizes)) < 3 or min(sizes) < 1:
            raise ValueError(f"sizes: wanted at least 3 numbers of sites, got {sizes}")
        if not high < min(sizes) ** 0.5:
            raise ValueError(f"scaled: wanted temperatures above 0, below sqrt(sites), got {high} at {min(sizes)}")
        if self.particles < 8:
            raise ValueError(f"particles: wanted at least 8, got {self.particles}")

    def measure(self, case: Case, size: int, keys: list[int], watch: Watch) -> tuple[np.ndarray, float]:
        axis = case_axis(case)
        if isinstance(axis, str):
            return np.full((len(keys), len(self.columns), len(self.points)), np.nan), np.nan
        bath = Bath(watch.law(axis.law), size)
        betas = axis.beta / (1 - self.points / size**0.5)
        exact = axis.law.dimension == 1
        rows = [np.stack([self._moments(bath, axis, b, key) for b in betas], 1) for key in keys[: 1 if exact else None]]
        return np.stack(rows * len(keys) if exact else rows), 1 / axis.beta

    def _moments(self, bath: Any, axis: Axis, beta: float, key: int) -> np.ndarray:
        """<r>, <r^2>, <r^4> of r = |h - h_0| in the space of the critical gain."""
        if bath.law.dimension == 1:
            h, weights, _ = bath.nodes(float(beta), kink=float(axis.location[0]))
            r = np.abs(h - axis.location[0])
        else:
            h = bath.sample(float(beta), self.particles, key).field
            h = np.asarray(h.cpu() if hasattr(h, "cpu") else h).reshape(self.particles, -1)
            r = np.linalg.norm((h - axis.location) @ axis.space.T, axis=1)
            weights = np.full(len(r), 1 / len(r))
        return np.array([weights @ r**power for power in (1, 2, 4)])

    def found(self, case: Case, tables: dict[int, Table], temperature: float) -> Iterator[Found]:
        if not np.isfinite(temperature):
            axis = case_axis(case)
            yield Found(0, "none", axis if isinstance(axis, str) else "", {})
            return
        tables = {size: table for size, table in sorted(tables.items()) if len(table["order_parameter"])}
        try:
            found, quantities = self._collapsed(tables, temperature)
        except ValueError as error:
            yield Found(0, "pitchfork", str(error), {})
            return
        yield Found(0, "pitchfork", "", quantities, found)

    def _collapsed(self, tables: dict[int, Table], temperature: float) -> tuple[Any, dict[str, Quantity]]:
        """Over s/s_c, which is 1 at the transition."""
        seeds = min((len(table["order_parameter"]) for table in tables.values()), default=0)
        near = np.abs(self.points) <= CLOSE
        control = {size: 1 - self.points / size**0.5 for size in tables}
        value = np.concatenate([t["order_parameter"][:seeds, near] for t in tables.values()], 1)
        found = collapse(
            np.concatenate([c[near] for c in control.values()]),
            np.repeat(np.array(list(tables), dtype=np.float64), near.sum()),
            value,
            RESOLUTION * value.mean(0),
        )
        quantities = {
            name: Quantity(symbol, estimate.value, estimate.error, found.systematic[name], expected, seeds)
            for name, symbol, estimate, expected in (
                ("critical", "s_c", found.critical, 1.0),
                ("inverse_nu", "1/nu", found.inverse_nu, 0.5),
                ("kappa", "kappa", found.kappa, 0.25),
            )
        }
        if {"second_moment", "fourth_moment"} <= set(next(iter(tables.values()))):
            quantities |= self._crossing(tables, control, seeds)
        return found, quantities

    def _crossing(self, tables: dict[int, Table], control: dict[int, np.ndarray], seeds: int) -> dict[str, Quantity]:
        """Of the Binder ratios of the two largest sizes, on the temperatures of the larger one."""
        small, large = sorted(tables)[-2:]
        t = control[large][::-1]
        curves = {}
        for size in (small, large):
            ratio = binder_ratio(tables[size]["second_moment"], tables[size]["fourth_moment"])[:, ::-1]
            curves[float(size)] = np.stack([np.interp(t, control[size][::-1], row) for row in ratio])
        (crossing,) = binder_crossings(t, curves).values()
        step = float(np.abs(np.diff(t)).mean())
        return {"binder": Quantity("s_c (Binder)", crossing.value, np.nan_to_num(crossing.error), step, 1.0, seeds)}
