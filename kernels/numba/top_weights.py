"""The k largest weights, by insertion into a sorted list a query."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import set_reference, tile_weights


def top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    out, index = np.full((len(field), k), -1.0), np.zeros((len(field), k), np.int64)
    arrays = [as_array(x) for x in (field, beta, sums.dominant, sums.log_rest)]
    run(_top_weights_kernel, len(field), packed.states, packed.log_weights, packed.tile, *arrays, out, index)
    return torch.from_numpy(out), torch.from_numpy(index)


@jit
def _top_weights_kernel(low, high, states, log_weights, tile, field, beta, dominant, log_rest, out, index):  # type: ignore[no-untyped-def]
    size, dimension = states.shape
    last = out.shape[1] - 1
    reference, pull = np.empty(dimension), np.empty(dimension)
    energy, weight = np.empty(tile), np.empty(tile)
    for b in range(low, high):
        set_reference(states[dominant[b]], field[b], reference, pull)
        norm = 1 + np.exp(log_rest[b])
        for start in range(0, size, tile):
            stop = min(start + tile, size)
            tile_weights(states, log_weights, start, stop, dominant[b], beta[b], norm, reference, pull, energy, weight)
            for n in range(start, stop):
                w = weight[n - start]
                if w > out[b, last]:
                    place = last
                    while place > 0 and w > out[b, place - 1]:
                        out[b, place], index[b, place] = out[b, place - 1], index[b, place - 1]
                        place -= 1
                    out[b, place], index[b, place] = w, n
