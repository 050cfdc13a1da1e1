"""States as a contiguous array of their own dtype, with what the error bound needs."""

from typing import NamedTuple

import numpy as np
import torch

from fastthermo.kernels.numba.config import tile_length


class Packed(NamedTuple):
    states: np.ndarray  # (N, D) float32, float64 or uint8
    log_weights: np.ndarray  # (N,) float64
    first: int  # a state of finite weight
    tile: int  # states a tile
    diameter: float  # an upper bound of |y_n - y_m|
    spread: float  # of the finite log-weights


def pack(states: torch.Tensor, log_weights: torch.Tensor) -> Packed:
    array, log_phi = as_array(states), as_array(log_weights)
    centre = array.mean(0, dtype=np.float64)
    radius = max(float(np.linalg.norm(array[i : i + 1024] - centre, axis=1).max()) for i in range(0, len(array), 1024))
    finite = np.flatnonzero(log_phi > -np.inf)
    spread = float(np.ptp(log_phi[finite]))
    tile = tile_length(array.shape[1], array.itemsize)
    return Packed(array, log_phi, int(finite[0]), tile, 2 * radius * (1 + 1e-12), spread)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())
