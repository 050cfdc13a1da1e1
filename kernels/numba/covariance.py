"""C = sum w (y - m)(y - m)^T: lower triangle by tiles of states, then mirrored."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import query_block
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.plan import plan
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import (
    any_products,
    fill,
    products,
    set_pull,
    set_references,
    tile_weights,
    widen,
)


def covariance(packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums) -> torch.Tensor:
    out = np.empty((*field.shape, field.shape[1]))
    columns = (field, beta, *plan(packed, field, beta)[:2], sums.dominant, sums.shift, sums.log_rest)
    run(_covariance_kernel, len(field), query_block(field.shape[1]), *packed[:5], *(as_array(x) for x in columns), out)
    return torch.from_numpy(out)


@jit
def _covariance_kernel(  # type: ignore[no-untyped-def]
    low,
    high,
    states,
    log_weights,
    anchor,
    half_squares,
    tile,
    field,
    beta,
    mode,
    cutoff,
    dominant,
    shift,
    log_rest,
    out,
):
    size, dimension = states.shape
    queries = high - low
    rows, centred = np.empty((tile, dimension)), np.empty((tile, dimension))
    pull = np.zeros(((queries + 3) // 4 * 4, dimension))
    reference, away = np.empty((queries, dimension)), np.empty((queries, dimension))
    product, at_reference = np.empty((pull.shape[0], tile)), np.empty(queries)
    energy, weight = np.empty(tile), np.empty(tile)
    set_pull(anchor, field, low, high, pull)
    set_references(states, anchor, half_squares, field, dominant, low, high, pull, reference, away, at_reference)
    deviation = np.empty((tile + 3, dimension))  # sqrt(w) (y - m) of the states with weight, padded to fours
    for b in range(low, high):
        for i in range(dimension):
            fill(out[b, i], 0, dimension, 0.0)
    some_products = any_products(mode, low, high)
    for start in range(0, size, tile):
        count = min(tile, size - start)
        filled = widen(states, anchor, start, start + count, rows, centred)
        log_phi = log_weights[start : start + count]
        if some_products:
            products(centred, half_squares[start : start + filled], pull, product)
        for q in range(queries):
            b = low + q
            ref, k = reference[q], away[q]
            own, how, norm = dominant[b] - start, (beta[b], mode[b], cutoff[b]), 1 + np.exp(log_rest[b])
            prior = log_weights[dominant[b]]
            tile_weights(rows, log_phi, prior, own, how, norm, ref, k, at_reference[q], product[q], energy, weight)
            left = 0
            for i in range(count):
                if weight[i] > 0:
                    root = np.sqrt(weight[i])
                    for d in range(dimension):
                        deviation[left, d] = rows[i, d] - ref[d]
                    for d in range(dimension):
                        deviation[left, d] = root * (deviation[left, d] - shift[b, d])
                    left += 1
            for i in range(left, left + 3):
                fill(deviation[i], 0, dimension, 0.0)
            for i in range(0, left, 4):
                _rank_four(deviation[i], deviation[i + 1], deviation[i + 2], deviation[i + 3], out[b])
    for b in range(low, high):
        for i in range(dimension):
            for j in range(i):
                out[b, j, i] = out[b, i, j]


@inner
def _rank_four(r0, r1, r2, r3, out):  # type: ignore[no-untyped-def]
    for i in range(r0.size):
        a0, a1, a2, a3 = r0[i], r1[i], r2[i], r3[i]
        for j in range(i + 1):
            out[i, j] += a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
