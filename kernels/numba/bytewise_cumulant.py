"""Cumulants by integer products, where bytes stand for the states; see `bytewise` and `cumulant`."""

import numpy as np

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import BYTE_TILE, SEGMENT
from fastthermo.kernels.numba.cumulant_sums import add_tail, clear, weigh_tile
from fastthermo.kernels.numba.matrix import arrange, configure, release, scratch, whole_rows
from fastthermo.kernels.numba.octet_sums import BLOCK, fill_dither, gather, write
from fastthermo.kernels.numba.octets import project
from fastthermo.kernels.numba.scratch import aligned
from fastthermo.kernels.numba.tile import fill
from fastthermo.kernels.numba.weigh import COLUMNS, start_block


@jit
def bytewise_cumulant_kernel(  # type: ignore[no-untyped-def]
    low, high, data, codes, step, q_anchor, halves, priors, queries, vectors, digits, rows, vector_digits, vector_rows,
    block, field, beta, level, blur, dominant, log_rest, tilts, zero, shift, excess, probes, energy_probes, matrix,
    out, out_energy,
):  # fmt: skip
    """As `cumulant._cumulant_kernel`; queries, vectors : their digits, -k.q_a, scales and offsets.

    vectors : of a - v_k, the query b of order k at k B + b; matrix : of `matrix.tiles`.
    """
    states, log_weights, anchor, _ = data
    (size, dimension), tile = states.shape, BYTE_TILE
    count_all, orders = field.shape[0], probes.shape[1]
    depth = (dimension + BLOCK - 1) // BLOCK * BLOCK
    pull, mean = aligned(block * dimension, zero), aligned(block * depth, zero)
    energy, gap = aligned(block * tile, zero), aligned(block * tile, zero)
    projection, none, prior = aligned(orders * block * tile, zero), aligned(tile, zero), aligned(tile, zero)
    flipped = aligned(tile * BLOCK, codes[0, 0, 0])
    written = aligned(whole_rows(block * len(digits)) * tile, queries[0][0, 0])
    counted, totals = aligned(16, queries[1][0]), np.empty((block, len(digits)), np.int32)
    left, products = scratch(matrix, block, queries[0], queries[1])
    others, vector_products = scratch(matrix, orders * whole_rows(block), vectors[0], vectors[1])
    span = others.size // orders
    dither, per = aligned(tile, zero), np.empty(block, np.float32)
    fill_dither(dither)
    fill(none, 0, tile, 0.0)
    about, away = np.empty((block, COLUMNS)), np.empty((block, dimension))
    at_mean, sums = np.empty((block, orders)), np.empty(block)
    places, weights, gaps, delta = np.empty(tile, np.int64), np.empty(tile), np.empty(tile), np.empty(dimension)
    segments = (size + SEGMENT - 1) // SEGMENT
    configure(matrix)
    for task in range(low, high):
        segment, begin = task % segments, task // segments * block
        count, last = min(block, count_all - begin), min(size, (segment + 1) * SEGMENT)
        arrange(matrix, queries[0], begin, count, left)
        for order in range(orders):
            arrange(matrix, vectors[0], order * count_all + begin, count, others[order * span : (order + 1) * span])
        fill(mean, 0, count * depth, 0.0)
        start_block(begin, count, data, field, beta, level, blur, dominant, log_rest, dimension, pull, about, away)
        clear(
            segment, begin, count, anchor, field, shift, excess, probes, energy_probes, about, away, at_mean, sums, out,
            out_energy,
        )  # fmt: skip
        for start in range(segment * SEGMENT, last, tile):
            n = min(tile, last - start)
            padded = (n + 31) // 32 * 32
            for i in range(padded):
                prior[i] = priors[start + i]
            k, starts, scale, offset = queries
            project(
                codes, start, padded, k, starts, scale, offset, begin, count, halves, start, energy, 0, tile, digits,
                rows, matrix, left, products,
            )  # fmt: skip
            k, starts, scale, offset = vectors
            for order in range(orders):
                project(
                    codes, start, padded, k, starts, scale, offset, order * count_all + begin, count, none, 0,
                    projection, order * block * tile, tile, vector_digits, vector_rows, matrix,
                    others[order * span : (order + 1) * span], vector_products,
                )  # fmt: skip
            for q in range(count):
                b = begin + q
                _, slope = weigh_tile(
                    segment, q, b, start, n, padded, beta, prior, tilts, states, log_weights, about, away, places,
                    weights, gaps, dominant, shift, excess, probes, energy_probes, delta, projection, q * tile,
                    block * tile, at_mean, energy, gap, q * tile, out, out_energy,
                )  # fmt: skip
                out_energy[segment, b] += slope
                per[q], whole = write(energy, q, padded, tile, dither, written, counted, totals, digits)
                sums[q] += np.float64(per[q]) * whole
            gather(
                codes, start, padded, flipped, written, tile, totals, q_anchor, per, count, mean, depth, digits, rows,
                matrix, products,
            )  # fmt: skip
        for q in range(count):
            for d in range(dimension):
                mean[np.uint64(q * depth + d)] *= step[d]
        add_tail(segment, begin, count, anchor, field, shift, away, sums, mean, depth, out)
    release(matrix)
