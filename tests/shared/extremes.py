"""Data unlike any and queries amid them, and whether sums over them are within their bounds, against 80-bit sums."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from extended import truth


class Problem(NamedTuple):
    """One query."""

    states: np.ndarray
    field: np.ndarray  # (1, D)
    beta: np.ndarray  # (1,)
    log_weights: np.ndarray

    @classmethod
    def of(cls, states: Any, field: Any, beta: float, log_weights: Any = None) -> "Problem":
        phi = np.zeros(len(states)) if log_weights is None else log_weights
        return cls(states, np.asarray(field, float)[None], np.array([float(beta)]), phi)


def outlier(size: int, dimension: int, dtype: Any = np.float32) -> Problem:
    y = np.random.default_rng(dimension).normal(size=(size, dimension))
    y[7] = 1e16
    return Problem.of(y.astype(dtype), (y[0] + y[1]) / 2, 1.0)


def weightless(size: int, dimension: int) -> Problem:
    """A state of weight 0 that is far away."""
    y, phi = np.random.default_rng(dimension).normal(size=(size, dimension)), np.zeros(size)
    y[7], phi[7] = 1e30, -np.inf
    return Problem.of(y.astype(np.float32), (y[0] + y[1]) / 2, 1.0, phi)


def scaled(size: int, dimension: int, scale: float) -> Problem:
    y = np.random.default_rng(1).normal(size=(size, dimension))
    return Problem.of((scale * y).astype(np.float32), (y[0] + 0.3 * y[1]) * scale, 0.5 / scale**2)


def far(size: int, dimension: int, distance: float, beta: float) -> Problem:
    y = np.random.default_rng(2).normal(size=(size, dimension)).astype(np.float32)
    return Problem.of(y, np.full(dimension, distance), beta)


def offset(size: int) -> Problem:
    rng = np.random.default_rng(3)
    y = rng.normal(size=(size, 33)) + 1e10
    return Problem.of(y, (y[3] + y[4]) / 2 + 0.3 * rng.normal(size=33), 1.0)


def cluster(size: int, width: float, beta: float = 0.01, noise: float = 0.0, amid: bool = False) -> Problem:
    """Five tight clusters, and a query in one of them: `noise` widths from a state, or at its centre."""
    rng = np.random.default_rng(5)
    centres = 10 * rng.normal(size=(5, 64))
    y = (centres[rng.integers(0, 5, size)] + width * rng.normal(size=(size, 64))).astype(np.float32)
    own = centres[np.square(centres - y[1]).sum(1).argmin()] if amid else y[1]
    return Problem.of(y, own + noise * width * rng.normal(size=64), beta)


def hot(size: int, dimension: int, beta: float = 1e-6) -> Problem:
    """All states weigh alike, and none is at the query."""
    y = np.random.default_rng(3).normal(size=(size, dimension)).astype(np.float32)
    return Problem.of(y, y[2], beta)


def far_state(size: int, distance: float, beta: float) -> Problem:
    """An outlier that float32 holds beside the others."""
    y = np.random.default_rng(9).normal(size=(size, 64))
    y[7] *= distance
    return Problem.of(y.astype(np.float32), y[0] + np.random.default_rng(10).normal(size=64) / beta**0.5, beta)


def images(size: int) -> Problem:
    """Near copies of eight images."""
    rng = np.random.default_rng(6)
    centres = rng.integers(2, 254, (8, 256))
    y = (centres[rng.integers(0, 8, size)] + rng.integers(-2, 3, (size, 256))).astype(np.uint8)
    return Problem.of(y, y[1], 1e-6)


def hidden(size: int, bytes_: bool) -> Problem:
    """A query at a state of which there are two, beside which all others weigh next to nothing."""
    y = np.random.default_rng(8).normal(size=(size, 64))
    y, beta = (np.clip(40 * y + 128, 0, 255).astype(np.uint8), 0.5 / 1600) if bytes_ else (y.astype(np.float32), 0.5)
    y[1] = y[0]
    return Problem.of(y, y[0], beta)


def error(force: Any, want: SimpleNamespace) -> float:
    """The largest |force error| relative to the rms force."""
    return float((np.sqrt(((np.asarray(force) - want.force) ** 2).sum(-1)) / want.rms).max())


def check(problem: Problem, found: Any, wanted: float = 1e-6) -> None:
    """The force within its bound and `wanted`, N_eff, energy and C v right; `found` is named as a BoltzmannState."""
    want, beta = truth(problem.states, problem.log_weights, problem.field, problem.beta), problem.beta
    weighted = np.asarray(problem.states, np.float64)[problem.log_weights > -np.inf]
    largest = np.square(weighted - problem.field).sum(1).max()  # of what float64 rounds
    assert error(found.force, want) <= min(np.max(found.error_bound), wanted)
    assert abs(found.participation / want.participation - 1) < 1e-5
    assert abs(found.regularised_energy - want.energy) < 1e-5 * want.energy + 1e-15 * largest
    assert beta**2 * abs(found.energy_variance - want.variance) < 1e-5 * (1 + beta**2 * want.variance)
