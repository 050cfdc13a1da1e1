"""States as a contiguous array of their own dtype, an anchor among them, and what the error bound needs."""

from typing import NamedTuple

import numpy as np
import torch

from fastthermo.kernels.numba.config import tile_length


class Packed(NamedTuple):
    states: np.ndarray  # (N, D) float32, float64 or uint8
    log_weights: np.ndarray  # (N,) float64
    anchor: np.ndarray  # (D,) float64: the state nearest the mean, so that y - a is exact for float32 and bytes
    half_squares: np.ndarray  # (N + 3,) float64: |y - a|^2 / 2, padded with zeros
    tile: int  # states a tile
    radius: float  # max |y - a|
    first: int  # a state of finite weight
    spread: float  # of the finite log-weights


def pack(states: torch.Tensor, log_weights: torch.Tensor) -> Packed:
    array, log_phi = as_array(states), as_array(log_weights)
    anchor = array[int(np.argmin(_squares(array, array.mean(0, dtype=np.float64))))].astype(np.float64)
    squares = _squares(array, anchor)
    radius = float(np.sqrt(squares.max())) * (1 + 1e-12)
    finite = np.flatnonzero(log_phi > -np.inf)
    spread = float(np.ptp(log_phi[finite]))
    half = np.concatenate([squares / 2, np.zeros(3)])
    return Packed(array, log_phi, anchor, half, tile_length(array.shape[1]), radius, int(finite[0]), spread)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())


def _squares(array: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """|y_n - c|^2, a block at a time."""
    blocks = (array[i : i + 1024] - centre for i in range(0, len(array), 1024))
    return np.concatenate([np.einsum("nd,nd->n", block, block) for block in blocks])
