"""What is measured near a continuous transition: along the line on which the symmetric fixed point loses stability.

On the axis h = h_0 + x u the magnetisation is M(x) = u.(<y> - h_0) and the self-consistency in an external field H
is x = M(x + H); at s = s_c (1 - epsilon) the ordered fixed point x* > 0 has the gain g = beta u.C u and

    order parameter        x*                                 ~ epsilon^beta
    susceptibility         chi = g / (1 - g)                  ~ |epsilon|^-gamma       below and above s_c
    critical isotherm      x(H) - H at s_c                    ~ H^(1/delta)
    heat capacity          -T d2F~*/dT2, less that of x = 0   ~ epsilon^-alpha
    relaxation time        s / (1 - g)                        ~ epsilon^-(z nu)
    barrier                F~(0) - F~(x*)                     ~ epsilon^(2 - alpha)

x is the whole field, so that the magnetisation is x - H. On the branch dF~*/dT = -S, whence the heat capacity
beta^2 Var(H~) + beta^3 Cov(y.u, H~)^2 / (1 - g). Theory: Ambrogioni, arXiv:2310.17467.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastthermo.critical import critical_time
from fastthermo.ensemble import Ensemble
from fastthermo.process import VarianceExploding
from fastthermo.response import susceptibility

SPAN = 1e4  # temperatures searched, below the largest variance of the data
STEPS = 80  # of Newton's method
ROUNDING = 4e-15  # of a magnetisation and a gain, relative to the scale of x and to 1
RATIO = 1e-2  # of even to odd forces, above which an axis is not one of symmetry
PROBE = 0.05  # where they are compared, in units of sqrt(s_c)
ALONG = 0.9  # share of the odd force along an axis of symmetry
STRAIGHT = 1 - 1e-9  # and along one among degenerate ones, which is turned until it is
TURNS = 50
DEGENERATE = 1e-3  # distance of a gain from 1
BLOCK = 2**16  # data projected at a time
GRAIN = 2.0**-42  # relative distance below which data on an axis are one
CLOSE = 1e-6  # relative step of Newton's method below which one that no longer shrinks is rounding
DIFFERENCE = 1e-5  # relative step of a slope for Newton's method
STENCIL = 2e-3  # relative step of a fourth-order derivative in beta
ASYMMETRIC = "the landscape is not symmetric about the point: the transition is of first order or a saddle-node"


@dataclass(frozen=True, eq=False)
class Axis:
    """The line h_0 + x u of a law's symmetric fixed point and its unstable direction. Made by `critical_axis`."""

    law: Any  # a law of clean data
    location: np.ndarray  # (D,) h_0
    direction: np.ndarray  # (D,) u, of unit length
    beta: float  # at the transition, where the gain along u is 1

    def of(self, law: Any) -> Axis:
        """The same line in another law, such as a sample's.

        Only y.u and the distance from the line matter there, so that an ensemble of any dimension becomes one of two,
        and data that agree in both to GRAIN of their size count as one with their joint weight.
        """
        if not isinstance(law, Ensemble):
            return Axis(law, self.location, self.direction, self.beta)
        rows = []
        for start in range(0, law.size, BLOCK):
            block = law.data(slice(start, start + BLOCK))
            delta = np.asarray(block if law.numpy else block.cpu()).reshape(-1, law.dimension) - self.location
            along = delta @ self.direction
            rows.append(along + 1j * np.sqrt(((delta - along[:, None] * self.direction) ** 2).sum(1)))
        plane = np.concatenate(rows)
        grain = GRAIN * np.abs(plane).max() or 1.0
        plane = np.round(plane / grain) * grain
        if law.log_weights is None:
            plane, weights = np.unique(plane, return_counts=True)
        else:
            plane, place = np.unique(plane, return_inverse=True)
            log_weights = np.asarray(law.log_weights if law.numpy else law.log_weights.cpu(), dtype=np.float64)
            weights = np.bincount(place, np.exp(log_weights - log_weights.max()))
        with np.errstate(divide="ignore"):
            merged = Ensemble(np.stack([plane.real, plane.imag], 1), np.log(weights))
        return Axis(merged, np.zeros(2), np.array([1.0, 0.0]), self.beta)

    @cached_property
    def space(self) -> np.ndarray:
        """Orthonormal directions whose gains pass 1 together, (k, D), the axis among them."""
        response, dimension, k = susceptibility(self.law, self.location, self.beta), self.law.dimension, 4
        while True:
            gains, vectors = response.leading(min(k, dimension))
            if k >= dimension or gains[-1] < 1 - DEGENERATE:
                return np.asarray(vectors)[np.asarray(gains) > 1 - DEGENERATE]
            k *= 4

    def points(self, x: np.ndarray) -> np.ndarray:
        """h_0 + x u, (n, D)."""
        return self.location + x[:, None] * self.direction

    def force(self, x: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """M(x) - x."""
        return self.law.boltzmann(self.points(x), beta).force @ self.direction

    def gain(self, x: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """dM/dx = beta u.C u."""
        h = self.points(x)
        u = np.broadcast_to(self.direction, h.shape)
        return beta * (np.asarray(self.law.cumulant(h, beta, u)) @ self.direction)

    def solve(
        self, x: np.ndarray, beta: np.ndarray, external: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The field x = M(x) + H by Newton's method, which descends to the largest root from above it, and its gain.

        NaN where it does not converge to a stable point, or comes from a positive start to a negative one.
        """
        x, live = x.copy(), np.ones(len(x), dtype=bool)
        external, positive = np.broadcast_to(external, x.shape), x > 0
        scale, last = self.beta**-0.5, np.full(len(x), np.inf)
        for _ in range(STEPS):
            at, b = x[live], beta[live]
            near = DIFFERENCE * (np.abs(at) + 1e-3 * scale)  # a slope by differences only takes a step more
            force, ahead = self.force(np.concatenate([at, at + near]), np.tile(b, 2)).reshape(2, -1)
            slope = (force - ahead) / near
            step = (force + external[live]) / slope
            x[live] = at + step
            size, before = np.abs(step), last[live]
            last[live] = size
            settled = (size < CLOSE * (np.abs(at) + 1e-2 * scale)) & (size > before / 2)  # what is left is rounding
            live[live] = (size > 1e-15 * np.abs(at)) & ~settled
            live &= (np.abs(x) < 1e6 * scale) & ((x > 0) | ~positive)
            if not live.any():
                break
        gain = self.gain(np.where(live, 0.0, x), beta)
        lost = live | ~(gain < 1) | (positive & ~(x > 0))
        return np.where(lost, np.nan, x), np.where(lost, np.nan, gain)

    def heat_capacity(self, x: np.ndarray, beta: np.ndarray, gain: np.ndarray | None = None) -> np.ndarray:
        """beta^2 Var(H~), and at a fixed point with `gain` what its motion adds, beta^3 Cov(y.u, H~)^2 / (1 - g)."""
        fixed = beta**2 * self.law.boltzmann(self.points(x), beta).energy_variance
        if gain is None:
            return fixed
        steps = STENCIL * np.array([-2.0, -1.0, 1.0, 2.0])
        force = self.force(np.tile(x, 4), np.concatenate([beta * (1 + step) for step in steps])).reshape(4, -1)
        slope = np.array([1.0, -8.0, 8.0, -1.0]) @ force / (12 * STENCIL * beta)  # dM/dbeta = -Cov(y.u, H~)
        return fixed + beta**3 * slope**2 / (1 - gain)


def critical_axis(law: Any, location: Any = None, direction: Any = None) -> Axis | str:
    """The axis of a pitchfork at `location`, by default the data mean; or why there is none, in words.

    direction : by default the leading eigenvector of the covariance at the transition.
    """
    variance = float(law.principal(1)[0][0])
    if not variance > 0:
        return "the data do not vary"
    h0 = np.asarray(law.data_mean if location is None else location, dtype=np.float64).ravel()
    s = critical_time(law, VarianceExploding(t_min=variance / SPAN, t_max=2 * variance), field=h0)
    if np.isnan(s):
        return f"no gain passes 1 between s = {variance / SPAN:.3g} and {2 * variance:.3g}"
    given = susceptibility(law, h0, 1 / s).leading(1)[1][0] if direction is None else direction
    u = np.asarray(given, dtype=np.float64).ravel()
    axis = Axis(law, h0, u / np.linalg.norm(u), 1 / s)
    odd, reason = _odd_force(axis)
    if reason is None and direction is None:
        axis, odd, reason = _straightened(axis, odd)
    if reason is not None:
        return reason
    if not abs(odd @ axis.direction) > ALONG * np.linalg.norm(odd):
        return ASYMMETRIC
    if odd @ axis.direction > 0:
        return "the force at the transition drives away from the point: the transition is of first order"
    return axis


def _odd_force(axis: Axis) -> tuple[np.ndarray, str | None]:
    """Half the difference of the forces on both sides, and why this is no axis of symmetry if it is not."""
    x = PROBE * axis.beta**-0.5 * np.array([1.0, -1.0, 0.0])
    plus, minus, centre = np.asarray(axis.law.boltzmann(axis.points(x), axis.beta).force)
    odd, even = (plus - minus) / 2, (plus + minus) / 2
    if np.linalg.norm(centre) > RATIO * np.linalg.norm(odd):
        return odd, "the point is not a fixed point at the temperature where its gain passes 1"
    return odd, ASYMMETRIC if np.linalg.norm(even) > RATIO * np.linalg.norm(odd) else None


def _straightened(axis: Axis, odd: np.ndarray) -> tuple[Axis, np.ndarray, str | None]:
    """Of directions whose gains pass 1 together any is an eigenvector: one along which the force points back."""
    reason = None
    for _ in range(TURNS):
        size, along = np.linalg.norm(odd), odd @ axis.direction
        if reason is not None or abs(along) > STRAIGHT * size:
            break
        turned = replace(axis, direction=odd * (np.sign(along) or 1.0) / size)
        if abs(turned.gain(np.zeros(1), np.array([axis.beta]))[0] - 1) > DEGENERATE:
            break
        axis = turned
        odd, reason = _odd_force(axis)
    return axis, odd, reason
