"""Where samples show the transition of the law that they were drawn from.

A sample of N draws is a law too, without the symmetry and a little beside the critical temperature. Its magnetisation
on the axis misses the law's M(x) by a variance

    v / N,   v = <w^2 (y.u - M)^2> / <w>^2 = [Z~(2 beta) / Z~(beta)^2] [u.C u + (M' - M)^2]

with C and M' those of the law at 2 beta (the square of a Boltzmann weight is one at twice beta), and its root by
that over (1 - g)^2. Near the transition 1 - g is small, and the root is the sample's own; deep below it v grows like
exp(beta x^2), and the root is that of the few largest draws, on which the sample condenses. Between the two a sample
tells what the law does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastthermo.exponents.axis import Axis
from fastthermo.exponents.observe import FIELDS

CANDIDATES = np.geomspace(1e-4, 0.5, 120)  # reduced temperatures, or fields^(1/FIELDS) in units of sqrt(s_c)
RESOLVED = 0.15  # relative error of the root of one sample, up to which a point is measured
SPAN = 4.0  # least factor from the first reduced temperature to the last
POINTS = 14


def resolved(axis: Axis, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduced temperatures (POINTS,) and fields (POINTS,) at which samples of so many draws show the transition.

    Raises ValueError where no window is wide enough, naming the draws that make one.
    """
    scale, n = axis.beta**-0.5, len(CANDIDATES)
    beta = axis.beta / np.concatenate([1 - CANDIDATES, np.ones(n)])
    noise = root_noise(axis, beta, np.concatenate([np.zeros(n), CANDIDATES**FIELDS * scale])).reshape(2, n)
    step = math.ceil(math.log(SPAN) / math.log(CANDIDATES[1] / CANDIDATES[0]))
    worst = np.lib.stride_tricks.sliding_window_view(noise, step + 1, axis=1).max(2)
    needed = worst.min(1).max() / RESOLVED**2
    if draws < needed:
        raise ValueError(
            f"draws: wanted at least {np.ceil(needed):.0f} a sample, for a window between the rounding of the "
            f"transition and condensation on single draws, got {draws}"
        )
    epsilon, root = (_around(i, row <= draws * RESOLVED**2) for i, row in zip(worst.argmin(1), noise, strict=True))
    return epsilon, root**FIELDS * scale


def _around(inside: int, resolved: np.ndarray) -> np.ndarray:
    """POINTS values over the run of resolved candidates around one of them."""
    ends = np.flatnonzero(~np.pad(resolved, 1, constant_values=False)) - 1
    first, last = ends[ends < inside].max() + 1, ends[ends > inside].min() - 1
    return np.geomspace(CANDIDATES[first], CANDIDATES[last], POINTS)


def root_noise(axis: Axis, beta: np.ndarray, external: np.ndarray) -> np.ndarray:
    """Draws times the relative variance of a sample's root x* > 0, (T,); infinite where the law has none."""
    axis = axis.of(axis.law)
    x, gain = axis.solve(np.full(len(beta), 10 * axis.beta**-0.5), beta, external)
    found = np.isfinite(x)
    x = np.where(found, x, 0.0)
    h, u = axis.points(x), np.broadcast_to(axis.direction, (len(x), len(axis.direction)))
    once, twice = axis.law.boltzmann(h, beta), axis.law.boltzmann(h, 2 * beta)
    spread: Any = np.asarray(axis.law.cumulant(h, 2 * beta, u)) @ axis.direction
    shift = (np.asarray(twice.mean) - np.asarray(once.mean)) @ axis.direction
    lift = np.exp(np.asarray(twice.log_evidence) - 2 * np.asarray(once.log_evidence))
    with np.errstate(divide="ignore", invalid="ignore"):
        noise: np.ndarray = np.where(found, lift * (spread + shift**2) / ((1 - gain) * x) ** 2, np.inf)
    return noise
