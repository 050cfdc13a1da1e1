"""The k largest weights, by insertion into a sorted list a query."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import TASK_WORK
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.second import subset
from fastthermo.kernels.numba.simd import lanes
from fastthermo.kernels.numba.tile import load_tile, products
from fastthermo.kernels.numba.weigh import COLUMNS, NORM, arguments, start_block, ways, weigh


def top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, k: int, precision: str = "double"
) -> tuple[torch.Tensor, torch.Tensor]:
    out, index = np.empty((len(field), k)), np.empty((len(field), k), np.int64)
    for rows, way in ways(packed, field, beta, precision, np.ones(len(field), np.bool_)):
        h, b, known = subset(rows, sums, field, beta)
        given = list(arguments(packed, h, b, known, way, 0))
        given[2] = max(1, min(given[2], TASK_WORK // packed.states.size))
        w, n = np.full((len(h), k), -1.0), np.zeros((len(h), k), np.int64)
        run(_top_weights_kernel, -(-len(h) // given[2]), 1, *given, w, n)
        out[rows], index[rows] = w, n
    return torch.from_numpy(out), torch.from_numpy(index)


@jit
def _top_weights_kernel(  # type: ignore[no-untyped-def]
    low, high, data, tile, block, field, beta, level, blur, dominant, log_rest, tilts, zero, out, index
):
    """For blocks [low, high) of queries."""
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    lane = lanes(zero)
    depth = (dimension + 2 * lane - 1) // (2 * lane) * (2 * lane)
    centred, panel, pull = aligned(depth * tile, zero), aligned(depth * tile, zero), aligned(block * depth, zero)
    energy, gap = aligned(block * tile, zero), aligned(block * tile, zero)
    half, prior = aligned(tile, zero), aligned(tile, zero)
    about, away = np.empty((block, COLUMNS)), np.empty((block, dimension))
    places, weights, gaps = np.empty(tile, np.int64), np.empty(tile), np.empty(tile)
    for task in range(low, high):
        begin = task * block
        count = min(block, field.shape[0] - begin)
        start_block(begin, count, data, field, beta, level, blur, dominant, log_rest, depth, pull, about, away)
        for q in range(count):
            b = begin + q
            _insert(about[q, NORM], dominant[b], b, out, index)
        for start in range(0, size, tile):
            n = min(tile, size - start)
            padded = load_tile(states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior)
            products(pull, 0, depth, dimension, count, panel, padded, half, energy, 0, tile)
            for q in range(count):
                b, r = begin + q, dominant[begin + q]
                heads = weigh(
                    energy,
                    gap,
                    q * tile,
                    q,
                    r,
                    -LOG2E * beta[b],
                    start,
                    n,
                    padded,
                    prior,
                    tilts,
                    states,
                    log_weights,
                    about,
                    away,
                    places,
                    weights,
                    gaps,
                )
                for i in range(heads):
                    _insert(weights[i], places[i], b, out, index)
                    energy[q * tile + places[i] - start] = -1.0
                for i in range(n):
                    if start + i != r:
                        _insert(np.float64(energy[np.uint64(q * tile + i)]), start + i, b, out, index)


@inner
def _insert(weight, n, b, out, index):  # type: ignore[no-untyped-def]
    """Keep the list of query b decreasing; of equal weights the lower state first."""
    place = out.shape[1]
    while place > 0 and (weight > out[b, place - 1] or (weight == out[b, place - 1] and n < index[b, place - 1])):
        place -= 1
    for k in range(out.shape[1] - 1, place, -1):
        out[b, k], index[b, k] = out[b, k - 1], index[b, k - 1]
    if place < out.shape[1]:
        out[b, place], index[b, place] = weight, n
