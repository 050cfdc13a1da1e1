"""w_n = phi_n exp(-beta H~_n) / Z~ in one pass, relative to a reference state that moves to the largest weight.

When the reference moves from r to r', sums over the states seen so far (r itself apart) move with it:
    f = w_r / w_r',  e = H~_r' - H~_r,  S = 1 + rest,  o the origin of the summed differences
    rest'   = f S                       shift'  = f (shift + (t_r - o) + S (o - o'))
    excess' = f (excess - S e)          square' = f (square - 2 e excess + S e^2)
with t = y - a. Where products are trusted o = 0, the anchor, and four queries share a pass; else o = t_r.
"""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import difference_error, force_error
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import NEGLIGIBLE, query_block
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.plan import Plan, plan
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import (
    PRODUCTS,
    add_products,
    add_weighted,
    any_products,
    copy,
    fill,
    products,
    set_pull,
    tile_logits,
    widen,
)

REST, EXCESS, SQUARE, PARTICIPATION, ENERGY_MIN, CHANGES = range(6)


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> Sums:
    queries, dimension = field.shape
    made = plan(packed, field, beta)
    dominant = np.empty(queries, np.int64)
    shift = np.empty((queries, dimension))
    scalars = np.empty((queries, 6))
    arrays = (as_array(field), as_array(beta), as_array(made.mode), as_array(made.cutoff))
    run(
        _boltzmann_kernel,
        queries,
        query_block(field.shape[1]),
        *packed[:5],
        packed.first,
        *arrays,
        dominant,
        shift,
        scalars,
    )
    column = [x.clone() for x in torch.from_numpy(scalars).unbind(1)]
    return Sums(
        torch.from_numpy(dominant),
        torch.from_numpy(shift),
        column[REST].log(),
        column[ENERGY_MIN],
        column[EXCESS],
        column[SQUARE],
        column[PARTICIPATION],
        _bound(packed, made, beta, column[ENERGY_MIN], column[EXCESS], column[CHANGES]),
    )


def _bound(
    packed: Packed,
    made: Plan,
    beta: torch.Tensor,
    energy_min: torch.Tensor,
    excess: torch.Tensor,
    changes: torch.Tensor,
) -> torch.Tensor:
    size, dimension = packed.states.shape
    by_differences = difference_error(dimension, packed.radius, packed.spread, beta, energy_min, changes)
    about_reference = (2 * (energy_min + excess)).sqrt() + (2 * energy_min).sqrt()
    trusted = made.mode == PRODUCTS
    logit_error = torch.where(trusted, made.error, by_differences)
    origin = torch.where(trusted, torch.full_like(beta, packed.radius), about_reference)
    bound: torch.Tensor = force_error(size, packed.radius, packed.spread, logit_error, origin, energy_min, excess)
    return bound


@jit
def _boltzmann_kernel(  # type: ignore[no-untyped-def]
    low,
    high,
    states,
    log_weights,
    anchor,
    half_squares,
    tile,
    first,
    field,
    beta,
    mode,
    cutoff,
    dominant,
    shift,
    scalars,
):
    size, dimension = states.shape
    queries = high - low
    padded = (queries + 3) // 4 * 4
    rows, centred = np.empty((tile, dimension)), np.empty((tile, dimension))
    pull, total = np.zeros((padded, dimension)), np.zeros((padded, dimension))
    reference, away = np.empty((queries, dimension)), np.empty((queries, dimension))
    product, weight = np.empty((padded, tile)), np.zeros((padded, tile))
    at_reference = np.empty(queries)
    energy, kept = np.empty(tile), np.empty(tile, np.int64)
    set_pull(anchor, field, low, high, pull)
    widen(states, anchor, first, first + 1, rows, centred)
    for q in range(queries):
        dominant[low + q] = first
        at_reference[q] = np.inf  # replaced before it matters: the first tile with a finite weight moves the reference
        _set_reference(rows[0], field[low + q], reference[q], away[q])
        fill(scalars[low + q], 0, CHANGES + 1, 0.0)
    some_products = any_products(mode, low, high)
    for start in range(0, size, tile):
        count = min(tile, size - start)
        filled = widen(states, anchor, start, start + count, rows, centred)
        log_phi = log_weights[start : start + count]
        if some_products:
            products(centred, half_squares[start : start + filled], pull, product)
        for q in range(queries):
            b = low + q
            ref, k, logit = reference[q], away[q], weight[q]
            if start <= first < start + count:  # nothing has weight before
                at_reference[q] = product[q, first - start]
            how = (beta[b], mode[b], cutoff[b])
            prior = log_weights[dominant[b]]
            best = tile_logits(rows, log_phi, prior, how, ref, k, at_reference[q], product[q], energy, logit)
            if logit[best] > 0:
                if dominant[b] < start:  # else nothing has been summed yet
                    _move(rows[best], energy[best], logit[best], mode[b], anchor, ref, total[q], scalars[b])
                dominant[b] = start + best
                _set_reference(rows[best], field[b], ref, k)
                at_reference[q] = product[q, best]
                tile_logits(rows, log_phi, log_phi[best], how, ref, k, at_reference[q], product[q], energy, logit)
            _accumulate(dominant[b] - start, count, energy, logit, scalars[b])
            fill(logit, count, filled, 0.0)
            if mode[b] != PRODUCTS:
                add_weighted(rows, count, logit, kept, ref, total[q])
                fill(logit, 0, count, 0.0)
        for q in range(0, padded, 4):
            add_products(centred, filled, weight[q : q + 4], total[q : q + 4])
    for q in range(queries):
        copy(total[q], shift[low + q])
        _normalise(mode[low + q], anchor, reference[q], away[q], shift[low + q], scalars[low + q])


@inner
def _set_reference(row, field, reference, away):  # type: ignore[no-untyped-def]
    for d in range(row.size):
        reference[d] = row[d]
        away[d] = row[d] - field[d]


@inner
def _move(row, energy, logit, mode, anchor, reference, shift, scalars):  # type: ignore[no-untyped-def]
    factor = np.exp(-logit)
    total = 1 + scalars[REST]
    scalars[SQUARE] = factor * (scalars[SQUARE] - 2 * energy * scalars[EXCESS] + total * energy**2)
    scalars[EXCESS] = factor * (scalars[EXCESS] - total * energy)
    scalars[PARTICIPATION] = factor**2 * (1 + scalars[PARTICIPATION])
    scalars[REST] = factor * total
    scalars[CHANGES] += 1
    for d in range(shift.size):
        if mode == PRODUCTS:
            shift[d] = factor * (shift[d] + (reference[d] - anchor[d]))
        else:
            shift[d] = factor * (shift[d] + total * (reference[d] - row[d]))


@inner
def _accumulate(reference, count, energy, logit, scalars):  # type: ignore[no-untyped-def]
    """Turn the logits of a tile into weights relative to the reference's (its own left out) and sum their moments."""
    for i in range(count):
        if i == reference or not logit[i] > NEGLIGIBLE:
            logit[i] = 0.0
            continue
        w = np.exp(logit[i])
        logit[i] = w
        scalars[REST] += w
        scalars[EXCESS] += w * energy[i]
        scalars[SQUARE] += w * energy[i] ** 2
        if w > 1e-150:
            scalars[PARTICIPATION] += w * w


@inner
def _normalise(mode, anchor, reference, away, shift, scalars):  # type: ignore[no-untyped-def]
    rest = scalars[REST]
    total = 1 + rest
    scalars[EXCESS] /= total
    scalars[SQUARE] /= total
    scalars[PARTICIPATION] = (1 + scalars[PARTICIPATION]) / total**2
    square = 0.0
    for d in range(shift.size):
        if mode == PRODUCTS:
            shift[d] -= rest * (reference[d] - anchor[d])
        shift[d] /= total
        square += away[d] ** 2
    scalars[ENERGY_MIN] = square / 2
