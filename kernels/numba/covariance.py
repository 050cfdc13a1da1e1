"""C = sum w (y - m)(y - m)^T: lower triangle by tiles of states, then mirrored."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import COVARIANCE_TILE
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import set_reference, tile_weights


def covariance(packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums) -> torch.Tensor:
    out = np.empty((*field.shape, field.shape[1]))
    arrays = [as_array(x) for x in (field, beta, sums.dominant, sums.shift, sums.log_rest)]
    run(_covariance_kernel, len(field), packed.states, packed.log_weights, COVARIANCE_TILE, *arrays, out)
    return torch.from_numpy(out)


@jit
def _covariance_kernel(low, high, states, log_weights, tile, field, beta, dominant, shift, log_rest, out):  # type: ignore[no-untyped-def]
    size, dimension = states.shape
    reference = np.empty(dimension)
    pull = np.empty(dimension)
    energy = np.empty(tile)
    weight = np.empty(tile)
    rows = np.zeros((tile + 3, dimension))  # sqrt(w) (y - m) of the states with weight, padded to a multiple of four
    for b in range(low, high):
        set_reference(states[dominant[b]], field[b], reference, pull)
        norm = 1 + np.exp(log_rest[b])
        out[b] = 0.0
        for start in range(0, size, tile):
            stop = min(start + tile, size)
            tile_weights(states, log_weights, start, stop, dominant[b], beta[b], norm, reference, pull, energy, weight)
            count = 0
            for n in range(start, stop):
                if weight[n - start] > 0:
                    root = np.sqrt(weight[n - start])
                    for d in range(dimension):
                        rows[count, d] = root * (np.float64(states[n, d]) - reference[d] - shift[b, d])
                    count += 1
            rows[count : count + 3] = 0.0
            for k in range(0, count, 4):
                _rank_four(rows[k], rows[k + 1], rows[k + 2], rows[k + 3], out[b])
        for i in range(dimension):
            for j in range(i):
                out[b, j, i] = out[b, i, j]


@jit
def _rank_four(r0, r1, r2, r3, out):  # type: ignore[no-untyped-def]
    for i in range(r0.size):
        a0, a1, a2, a3 = r0[i], r1[i], r2[i], r3[i]
        for j in range(i + 1):
            out[i, j] += a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
