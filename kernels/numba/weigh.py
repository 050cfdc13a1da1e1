"""Normalised weights, given the sums of a first pass: what second passes share.

As in `dense`, the states that matter (heads) are taken by differences, one by one, and all others (the tail) from
products, a tile at a time; here the dominant state r and the sum of all other weights are known from the start.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.config import PRECISE, ROWS, even_block, query_block, tile_length
from fastthermo.kernels.numba.head import DUST, NEVER
from fastthermo.kernels.numba.pack import Packed, as_array, temperatures
from fastthermo.kernels.numba.plan import Plan, fits, plan, working_type
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.simd import lanes, load, minimum, splat, store, total
from fastthermo.kernels.numba.tile import fill, next_head, weighing, weight_of

# of a query: of r as in `dense`; 1 / sum; log2 of a head; whether products are of no use; what is dust
COLUMNS = 6
BITS, ORIGIN, NORM, THRESHOLD, ABSENT, DUSTY = range(COLUMNS)


def ways(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str, left: np.ndarray
) -> Iterator[tuple[np.ndarray, str]]:
    """Which of the queries that are left, (B,), go in which precision: float64 where float32 cannot hold an energy."""
    if not left.any():
        return
    small = fits(packed, as_array(field), temperatures(packed, beta))
    for rows, way in ((left & small, precision), (left & ~small, "double")):
        if rows.any():
            yield rows, way


def arguments(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str, moment: int
) -> tuple[Any, ...]:
    """What every second pass takes first: data, tile, block, field, beta, level, blur, dominant, log_rest, tilts, zero.

    moment : the power of y - m that a pass sums from products about the anchor.
    """
    h, b, dtype = as_array(field), temperatures(packed, beta), working_type(packed, precision)
    made: Plan = plan(packed, h, b, dtype, precision)
    level = np.minimum(made.rest_level, 0)
    if moment and precision != "fast":
        level = np.minimum(level, _share(packed, h, sums, dtype, moment))
    block = even_block(len(h), query_block(h.shape[1], dtype.itemsize), ROWS)
    return (
        packed.data,
        tile_length(h.shape[1], dtype.itemsize),
        block,
        h,
        b,
        level,
        made.blur,
        as_array(sums.dominant),
        as_array(sums.log_rest),
        packed.tilts,
        np.zeros(1, dtype),
    )


def _share(packed: Packed, field: np.ndarray, sums: Sums, dtype: np.dtype, moment: int) -> np.ndarray:
    """log2 of the share of the weights from which states are heads, where the ensemble is narrow beside its distance.

    (y - m)^k by products about the anchor is wrong by u R^k: the tail may hold a share PRECISE / u (spread / R)^k.
    """
    shift, states = as_array(sums.shift), packed.states
    away = states[as_array(sums.dominant)] - field
    square = 2 * (as_array(sums.excess) - np.einsum("bd,bd->b", shift, away)) - np.einsum("bd,bd->b", shift, shift)
    relative = np.minimum(np.sqrt(np.maximum(square, 0)) / max(packed.radius, 1e-150), 1.0)
    tail = PRECISE[dtype.itemsize] / (float(np.finfo(dtype).eps) / 2) * relative**moment
    return np.where(tail < 1, np.maximum(np.log2(np.maximum(tail, 1e-300) / min(len(states), 1000)), NEVER), 0.0)


@inner
def start_block(  # type: ignore[no-untyped-def]
    begin, count, data, field, beta, level, blur, dominant, log_rest, depth, pull, about, away
):
    """Fill about (see the constants), away = y_r - h and pull = a - h, rows of `depth`, for queries from `begin` on."""
    states, log_weights, anchor, half_squares = data
    for q in range(count):
        b, r = begin + q, dominant[begin + q]
        c, origin = -LOG2E * beta[b], half_squares[r]
        for d in range(anchor.size):
            y = np.float64(states[r, d])
            away[q, d] = y - field[b, d]
            origin += (y - anchor[d]) * (anchor[d] - field[b, d])
            pull[np.uint64(q * depth + d)] = anchor[d] - field[b, d]
        about[q, BITS], about[q, ORIGIN] = c * origin + LOG2E * log_weights[r], origin
        about[q, NORM] = 1 / (1 + np.exp(log_rest[b]))
        about[q, ABSENT] = 1.0 if blur[b] > 0 else 0.0
        about[q, DUSTY] = DUST * np.exp(log_rest[b]) * about[q, NORM] if pull.itemsize == 4 else 0.0
        share = max(LOG2E * log_rest[b], NEVER)
        head = NEVER - blur[b] if blur[b] > 0 else level[b] + share if level[b] < 0 else np.inf
        about[q, THRESHOLD] = about[q, BITS] + head


@inner
def weigh(  # type: ignore[no-untyped-def]
    energy,
    gap,
    at,
    q,
    r,
    c,
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
):
    """Energies H~ - H~_a become weights of the tail, and `gap` their H~ - H~_r; heads go to places, weights, gaps.

    Returns the number of heads. The dominant state is neither.
    """
    step, scalar = lanes(energy), energy.dtype.type
    if start <= r < start + n:
        energy[at + r - start] = np.inf
    heads = 0
    if about[q, THRESHOLD] < np.inf:
        place = next_head(energy, at, 0, padded, prior, c, tilts, about[q, THRESHOLD])
        while place < padded:
            x = 0.0
            for d in range(states.shape[1]):
                s = np.float64(states[start + place, d]) - np.float64(states[r, d])
                x += s * (0.5 * s + away[q, d])
            bits = c * x + LOG2E * (log_weights[start + place] - log_weights[r])
            if bits > NEVER:
                places[heads], weights[heads], gaps[heads] = start + place, about[q, NORM] * np.exp2(bits), x
                heads += 1
            energy[at + place] = np.inf
            place = next_head(energy, at, place, padded, prior, c, tilts, about[q, THRESHOLD])
    if about[q, ABSENT] > 0:
        fill(energy, at, at + padded, 0.0)
        fill(gap, at, at + padded, 0.0)
        return heads
    whole = np.rint(about[q, BITS])
    norm = splat(scalar(about[q, NORM] * np.exp2(whole - about[q, BITS])))
    how, origin = weighing(energy, c, whole), splat(scalar(about[q, ORIGIN]))
    for i in range(0, padded, step):
        e = minimum(load(energy, at + i), how[3])
        store(gap, at + i, e - origin)
        store(energy, at + i, norm * weight_of(e, how, prior, i, tilts))
    fill(energy, at + n, at + padded, 0.0)
    mass = splat(scalar(0.0))
    for i in range(0, padded, step):
        mass += load(energy, at + i)
    if np.float64(total(mass)) <= about[q, DUSTY]:
        fill(energy, at, at + padded, 0.0)
    return heads


@inner
def deviation(n, r, b, states, shift, out):  # type: ignore[no-untyped-def]
    """out = y_n - m: in two loops, for fast-math would turn (y_n - y_r) - shift into y_n - (y_r + shift)."""
    for d in range(out.size):
        out[d] = np.float64(states[n, d]) - np.float64(states[r, d])
    for d in range(out.size):
        out[d] -= shift[b, d]
