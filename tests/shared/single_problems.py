"""Problems in single precision: near-ties, ties, far queries and thirteen temperatures, and what is asked of them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fastthermo.kernels import Sums, numba

WANTED = 1e-6  # what "single" promises of the force
BETAS = np.geomspace(1e-6, 1e6, 13)
SIZES = {1: 60, 2: 300, 8: 300, 16: 200, 17: 9000, 64: 300, 784: 40}  # by dimension; 9000 is three segments


def data(seed: int, size: int, dimension: int, dtype: Any, offset: float = 0.0) -> np.ndarray:
    """Points about a few centres, some of them rare, or images of bytes."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(4, dimension))[rng.integers(0, 4, size)] + 0.5 * rng.normal(size=(size, dimension))
    return np.clip(np.rint(40 * y + 128), 0, 255).astype(dtype) if dtype == np.uint8 else (y + offset).astype(dtype)


def weights(seed: int, size: int, removed: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = np.log(rng.dirichlet(np.full(size, 0.5)) + 1e-200)
    if removed:
        w[rng.permutation(size)[: size // 5]] = -np.inf
    return w


def equal(size: int) -> np.ndarray:
    return np.full(size, -np.log(size))


def queries(seed: int, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along the path, on ties, next to ties and far away, each at all temperatures."""
    rng = np.random.default_rng(seed)
    y, (size, dimension), count = states.astype(np.float64), states.shape, len(BETAS)
    unit = 60.0 if states.dtype == np.uint8 else 1.0
    centre = y[0] if abs(y.mean()) > 1e3 else 0.0  # of far queries

    def noise() -> np.ndarray:
        return rng.normal(size=(count, dimension))

    def some() -> np.ndarray:
        return y[rng.integers(0, size, count)]

    path = some() + noise() / np.sqrt(BETAS)[:, None]
    ties = (some() + some()) / 2
    away = noise()
    away *= 1e4 / np.linalg.norm(away, axis=1, keepdims=True)
    field = np.concatenate([path, ties, ties + 1e-6 * unit * noise(), centre + away])
    return field, np.tile(BETAS, 4)


def tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(x) for x in arrays)


def run(states: Any, log_weights: Any, field: Any, beta: Any, precision: str = "single", backend: Any = numba) -> Sums:
    y, phi, h, b = tensors(states, log_weights, field, beta)
    return backend.boltzmann(backend.pack(y, phi), h, b, precision)


def force(states: np.ndarray, field: np.ndarray, sums: Sums) -> np.ndarray:
    return (states[sums.dominant.numpy()].astype(np.float64) - field) + sums.shift.numpy()


def relative_error(states: np.ndarray, field: np.ndarray, sums: Sums, exact: SimpleNamespace) -> np.ndarray:
    gap = force(states, field, sums) - exact.force
    return (np.sqrt((gap * gap).sum(1)) / np.maximum(exact.rms, 1e-300)).astype(np.float64)


def same(one: Sums, two: Sums) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def stack(parts: list[Sums]) -> Sums:
    return Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def problem(dimension: int, dtype: Any = np.float32, offset: float = 0.0) -> tuple[np.ndarray, ...]:
    states = data(dimension, SIZES[dimension], dimension, dtype, offset)
    plain = dtype == np.uint8 and dimension == 8
    log_weights = equal(len(states)) if plain else weights(dimension, len(states))
    return states, log_weights, *queries(dimension, states)
