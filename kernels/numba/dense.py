"""Boltzmann sums in many dimensions, in float32 or float64, by register-blocked products; see `head`."""

import numpy as np

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import SEGMENT
from fastthermo.kernels.numba.head import COLUMNS, clear, close, weigh_tile
from fastthermo.kernels.numba.multiply import multiply
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.simd import lanes
from fastthermo.kernels.numba.tile import fill, load_tile, products


@jit
def dense_kernel(  # type: ignore[no-untyped-def]
    low, high, data, tile, block, field, beta, level, rest_level, blur, guess, tilts, zero, dominant, shift, scalars
):
    """Sums for tasks [low, high), a task being a block of queries and a segment: dominant[segment, query] and so on.

    data : states, log_weights, anchor, half_squares.
    level, rest_level : log2 of (tolerance / eps)^2 for the force and for the sum of all weights but the largest; level
        0 for no head.
    blur : bits by which products may be wrong, where they decide nothing, else 0.
    guess : log2 of a lower estimate of the sum of weights, -inf for none.
    zero : an array of the dtype of products.
    """
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    queries = field.shape[0]
    lane = lanes(zero)
    wide = 2 * lane
    depth = (dimension + wide - 1) // wide * wide
    centred, panel = aligned(depth * tile, zero), aligned(depth * tile, zero)
    pull, mean = aligned(block * depth, zero), aligned(block * depth, zero)
    energy, half, prior = aligned(block * tile, zero), aligned(tile, zero), aligned(tile, zero)
    tail = aligned(block * 4 * lane, zero)
    head, vectors = np.empty((block, COLUMNS)), np.empty((block, 2, dimension))
    segments = (size + SEGMENT - 1) // SEGMENT
    for task in range(low, high):
        segment, begin = task % segments, task // segments * block
        count, last = min(block, queries - begin), min(size, (segment + 1) * SEGMENT)
        for q in range(count):
            for d in range(depth):
                pull[np.uint64(q * depth + d)] = anchor[d] - field[begin + q, d] if d < dimension else 0.0
        clear(count, head, vectors)
        fill(tail, 0, count * 4 * lane, 0.0)
        fill(mean, 0, count * depth, 0.0)
        for start in range(segment * SEGMENT, last, tile):
            n = min(tile, last - start)
            padded = load_tile(states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior)
            products(pull, 0, depth, dimension, count, panel, padded, half, energy, 0, tile)
            some = False
            for q in range(count):
                b = begin + q
                some |= weigh_tile(
                    q, b, start, n, padded, prior, tilts, states, log_weights, anchor, half_squares, field,
                    -LOG2E * beta[b], level[b], rest_level[b], blur[b], guess[b], energy, q * tile, head, vectors, tail,
                    mean, depth,
                ) > 0  # fmt: skip
            if some:
                for d in range(0, depth, wide):
                    multiply(energy, 0, tile, count, centred, d * tile, padded, mean, d, depth)
        for q in range(count):
            close(q, segment, begin + q, anchor, field, head, vectors, tail, mean, depth, dominant, shift, scalars)
