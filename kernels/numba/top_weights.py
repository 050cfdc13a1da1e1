"""The k largest weights, by insertion into a sorted list a query."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import query_block
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.plan import plan
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import any_products, products, set_pull, set_references, tile_weights, widen


def top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    out, index = np.full((len(field), k), -1.0), np.zeros((len(field), k), np.int64)
    columns = (field, beta, *plan(packed, field, beta)[:2], sums.dominant, sums.log_rest)
    run(
        _top_weights_kernel,
        len(field),
        query_block(field.shape[1]),
        *packed[:5],
        *(as_array(x) for x in columns),
        out,
        index,
    )
    return torch.from_numpy(out), torch.from_numpy(index)


@jit
def _top_weights_kernel(  # type: ignore[no-untyped-def]
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
    log_rest,
    out,
    index,
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
    last = out.shape[1] - 1
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
            for i in range(count):
                if weight[i] > out[b, last]:
                    place = last
                    while place > 0 and weight[i] > out[b, place - 1]:
                        out[b, place], index[b, place] = out[b, place - 1], index[b, place - 1]
                        place -= 1
                    out[b, place], index[b, place] = weight[i], start + i
