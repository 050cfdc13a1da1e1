"""sum w a_1 .. a_K (y - m) and the same with H~ - <H~>, for a_k = v_k.(y - m) + u_k (H~ - <H~>)."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import query_block
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.plan import plan
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import (
    PRODUCTS,
    add_products,
    add_weighted,
    any_products,
    copy,
    dot,
    fill,
    products,
    set_pull,
    set_references,
    tile_weights,
    widen,
)


def cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    out, out_energy = np.empty(tuple(field.shape)), np.empty(len(field))
    columns = (field, beta, *plan(packed, field, beta)[:2], sums.dominant, sums.shift, sums.log_rest, sums.excess)
    arrays = [as_array(x) for x in (*columns, probes, energy_probes)]
    run(_cumulant_kernel, len(field), query_block(field.shape[1]), *packed[:5], *arrays, out, out_energy)
    return torch.from_numpy(out), torch.from_numpy(out_energy)


@jit
def _cumulant_kernel(  # type: ignore[no-untyped-def]
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
    excess,
    probes,
    energy_probes,
    out,
    out_energy,
):
    size, dimension = states.shape
    queries, orders = high - low, probes.shape[1]
    padded = (queries + 3) // 4 * 4
    rows, centred = np.empty((tile, dimension)), np.empty((tile, dimension))
    pull, total = np.zeros((padded, dimension)), np.zeros((padded, dimension))
    reference, away = np.empty((queries, dimension)), np.empty((queries, dimension))
    product, weight, at_reference = np.empty((padded, tile)), np.zeros((padded, tile)), np.empty(queries)
    probe, projection = np.zeros((orders, padded, dimension)), np.empty((orders, padded, tile))
    energy, kept, zero, sums = np.empty(tile), np.empty(tile, np.int64), np.zeros(tile), np.zeros(queries)
    set_pull(anchor, field, low, high, pull)
    set_references(states, anchor, half_squares, field, dominant, low, high, pull, reference, away, at_reference)
    for q in range(queries):
        out_energy[low + q] = 0.0
        for k in range(orders):
            copy(probes[low + q, k], probe[k, q])
    some_products = any_products(mode, low, high)
    for start in range(0, size, tile):
        count = min(tile, size - start)
        filled = widen(states, anchor, start, start + count, rows, centred)
        log_phi = log_weights[start : start + count]
        if some_products:
            products(centred, half_squares[start : start + filled], pull, product)
            for k in range(orders):
                products(centred, zero[:filled], probe[k], projection[k])
        for q in range(queries):
            b = low + q
            ref, w = reference[q], weight[q]
            own, how, norm = dominant[b] - start, (beta[b], mode[b], cutoff[b]), 1 + np.exp(log_rest[b])
            prior = log_weights[dominant[b]]
            tile_weights(rows, log_phi, prior, own, how, norm, ref, away[q], at_reference[q], product[q], energy, w)
            if 0 <= own < count:  # the dominant state, y_r - m = -shift, is added at the end
                w[own] = 0.0
            for k in range(orders):
                at_shift = dot(probe[k, q], shift[b])
                at_mean = at_shift + _project(ref, anchor, probe[k, q])
                for i in range(count):
                    if w[i] != 0:
                        if mode[b] == PRODUCTS:
                            a = projection[k, q, i] - at_mean
                        else:
                            a = _project(rows[i], ref, probe[k, q]) - at_shift
                        w[i] *= a + energy_probes[b, k] * (energy[i] - excess[b])
            for i in range(count):
                sums[q] += w[i]
                out_energy[b] += w[i] * (energy[i] - excess[b])
            fill(w, count, filled, 0.0)
            if mode[b] != PRODUCTS:
                add_weighted(rows, count, w, kept, ref, total[q])
                fill(w, 0, count, 0.0)
        for q in range(0, padded, 4):
            add_products(centred, filled, weight[q : q + 4], total[q : q + 4])
    for q in range(queries):
        b = low + q
        p = 1 / (1 + np.exp(log_rest[b]))
        for k in range(orders):
            p *= -dot(probe[k, q], shift[b]) - energy_probes[b, k] * excess[b]
        out_energy[b] -= p * excess[b]
        for d in range(dimension):
            origin = reference[q, d] - anchor[d] if mode[b] == PRODUCTS else 0.0
            out[b, d] = total[q, d] - sums[q] * origin - (sums[q] + p) * shift[b, d]


@inner
def _project(row, reference, probe):  # type: ignore[no-untyped-def]
    """v.(y - y_r)"""
    total = 0.0
    for d in range(row.size):
        total += probe[d] * (row[d] - reference[d])
    return total
