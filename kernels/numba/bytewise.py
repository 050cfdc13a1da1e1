"""Boltzmann sums by integer products, where bytes stand for the states; see `head` and `octets`.

Of two digits, queries and weights are rounded to 15 bits: enough where hundreds of states share the weight. Of three,
to 23: what float32 products do, in three quarters of their time.
"""

import numpy as np

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import BYTE_TILE, SEGMENT
from fastthermo.kernels.numba.head import COLUMNS, GRAIN, SCALE, clear, close, weigh_tile
from fastthermo.kernels.numba.matrix import arrange, configure, release, scratch, whole_rows
from fastthermo.kernels.numba.octet_sums import BLOCK, fill_dither, gather, write
from fastthermo.kernels.numba.octets import project
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.simd import lanes
from fastthermo.kernels.numba.tile import fill


@jit
def bytewise_kernel(  # type: ignore[no-untyped-def]
    low, high, data, codes, step, q_anchor, halves, priors, probes, starts, scale, offset, digits, rows, block, field,
    beta, level, rest_level, guess, tilts, zero, matrix, dominant, shift, scalars,
):  # fmt: skip
    """As `dense.dense_kernel`, from codes and probes; digits, rows : tuples of as many zeros, types that specialise.

    step : 0 in padding; q_anchor : int32; matrix : of `matrix.tiles`.
    """
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    queries, tile = field.shape[0], BYTE_TILE
    depth = (dimension + BLOCK - 1) // BLOCK * BLOCK
    energy, prior = aligned(block * tile, zero), aligned(tile, zero)
    mean, tail = aligned(block * depth, zero), aligned(block * 4 * lanes(zero), zero)
    flipped = aligned(tile * BLOCK, codes[0, 0, 0])
    written = aligned(whole_rows(block * len(digits)) * tile, probes[0, 0])
    sums, totals = aligned(16, starts[0]), np.empty((block, len(digits)), np.int32)
    left, products = scratch(matrix, block, probes, starts)
    dither = aligned(tile, zero)
    fill_dither(dither)
    per, mass = np.empty(block, np.float32), np.empty(block)
    head, vectors = np.empty((block, COLUMNS)), np.empty((block, 2, dimension))
    segments = (size + SEGMENT - 1) // SEGMENT
    configure(matrix)
    for task in range(low, high):
        segment, begin = task % segments, task // segments * block
        count, last = min(block, queries - begin), min(size, (segment + 1) * SEGMENT)
        arrange(matrix, probes, begin, count, left)
        clear(count, head, vectors)
        fill(tail, 0, count * 4 * lanes(zero), 0.0)
        fill(mean, 0, count * depth, 0.0)
        for start in range(segment * SEGMENT, last, tile):
            n = min(tile, last - start)
            padded = (n + 31) // 32 * 32
            for i in range(padded):
                prior[i] = priors[start + i]
            project(
                codes, start, padded, probes, starts, scale, offset, begin, count, halves, start, energy, 0, tile,
                digits, rows, matrix, left, products,
            )  # fmt: skip
            some = False
            for q in range(count):
                b = begin + q
                mass[q] = weigh_tile(
                    q, b, start, n, padded, prior, tilts, states, log_weights, anchor, half_squares, field,
                    -LOG2E * beta[b], level[b], rest_level[b], 0.0, guess[b], energy, q * tile, head, vectors, tail,
                    mean, depth,
                )  # fmt: skip
                some |= mass[q] > 0
            if some:
                for q in range(count):
                    unit, whole = write(energy, q, padded, tile, dither, written, sums, totals, digits)
                    per[q] = mass[q] / whole if whole > 0 else 0.0  # what is written sums to the same
                    head[q, GRAIN] += n * (head[q, SCALE] * unit) ** 2
                gather(
                    codes, start, padded, flipped, written, tile, totals, q_anchor, per, count, mean, depth, digits,
                    rows, matrix, products,
                )  # fmt: skip
        for q in range(count):
            for d in range(dimension):
                mean[np.uint64(q * depth + d)] *= step[d]
            close(q, segment, begin + q, anchor, field, head, vectors, tail, mean, depth, dominant, shift, scalars)
    release(matrix)
