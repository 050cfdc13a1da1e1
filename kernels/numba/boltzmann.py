"""w_n = phi_n exp(-beta H~_n) / Z~ and its moments: which kernel, in which precision, for which query.

A query's way depends on the query and the states alone, so that its answer does not depend on its batch.

    D <= 16 : `near`, differences. Far queries, where |y - h|^2 is too coarse, in float64 or by `dense`.
    else    : `screen`, where the CPU has byte products and few states matter; else `dense`, products, the states that
              matter by differences. In float32, where asked for and where the error of a product is small enough;
              else in float64.
"""

from typing import NamedTuple

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import (
    ROUNDING,
    dense_error,
    dense_log_error,
    screened_error,
    screened_log_error,
)
from fastthermo.kernels.numba import dense, merge, near, screen
from fastthermo.kernels.numba.config import (
    BLURRED,
    FAR,
    FIELD_BYTES,
    NEAR_WORK,
    PRECISE,
    ROWS,
    SEGMENT,
    SEGMENT_BYTES,
    SMALL_DIMENSION,
    TOLERANCE,
    TYPICAL,
    even_block,
    query_block,
    tile_length,
)
from fastthermo.kernels.numba.pack import Packed, as_array, squares
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


class Plan(NamedTuple):
    """How products serve (B,) queries; float64 arrays."""

    level: np.ndarray  # log2 of (tolerance / error)^2 for the force; see `dense`; 0 for none
    rest_level: np.ndarray  # and for the sum of all weights but the largest
    blur: np.ndarray  # where products decide nothing, their error in bits; else 0


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "double") -> Sums:
    h, b = as_array(field), as_array(beta)
    most = max(1, FIELD_BYTES // (8 * h.shape[1]))
    if len(h) <= most:
        return _boltzmann(packed, h, b, precision)
    out: list[torch.Tensor] = []
    for i in range(0, len(h), most):
        part = _boltzmann(packed, h[i : i + most], b[i : i + most], precision)
        out = out or [x.new_empty((len(h), *x.shape[1:])) for x in part]
        for x, y in zip(out, part, strict=True):
            x[i : i + most] = y
    return Sums(*out)


def _boltzmann(packed: Packed, h: np.ndarray, b: np.ndarray, precision: str) -> Sums:
    dtype = working_type(packed, precision)
    if h.shape[1] <= SMALL_DIMENSION:
        sums = _near(packed, h, b, dtype)
        far = b * sums.energy_min.numpy() > FAR[dtype.itemsize]
        if precision != "fast" and far.any():
            again = _boltzmann if dtype == SINGLE else _by_products
            _replace(sums, far, again(packed, h[far], b[far], "double"))
        return sums
    if not packed.codes.worthwhile(packed) or precision == "fast" or len(h) == 0:
        return _by_products(packed, h, b, precision)
    few, sums = _screened(packed, h, b, precision)
    if few.all():
        return sums
    others = _by_products(packed, h[~few], b[~few], precision)
    return _join(few, sums, others) if few.any() else others


def _join(rows: np.ndarray, first: Sums, second: Sums) -> Sums:
    """Sums of all queries from those of `rows` and those of the others."""
    joined = []
    for x, y in zip(first, second, strict=True):
        out = x.new_empty((len(rows), *x.shape[1:]))
        out[torch.from_numpy(rows)], out[torch.from_numpy(~rows)] = x, y
        joined.append(out)
    return Sums(*joined)


def _screened(packed: Packed, field: np.ndarray, beta: np.ndarray, precision: str) -> tuple[np.ndarray, Sums]:
    """Which queries have few candidates, and their sums over them."""
    few, sums = screen.screen(packed, packed.codes.get(packed), field, beta, precision)
    dominant, shift, scalars, least, rough, dropped = sums
    names = (dense.REST, dense.EXCESS, dense.SQUARE, dense.PARTICIPATION, dense.TAIL)
    rest, excess, square, participation, tail = (scalars[:, k] for k in names)
    about = (packed.states.shape, packed.radius, packed.spread, precision)
    bound = screened_error(*about, beta[few], least, excess, rest, tail, rough, dropped)
    log_error = screened_log_error(*about, beta[few], least, rest, tail, rough, dropped)
    return few, _sums(dominant, shift, rest, least, excess, square, participation, bound, log_error)


def _by_products(packed: Packed, h: np.ndarray, b: np.ndarray, precision: str) -> Sums:
    dtype = working_type(packed, precision)
    made = plan(packed, h, b, dtype, precision)
    blurred = made.blur > 0
    if dtype == DOUBLE or not blurred.any():
        return _dense(packed, h, b, made, dtype)
    exact = _by_products(packed, h[blurred], b[blurred], "double")
    if blurred.all():
        return exact
    sums = _dense(packed, h, b, made._replace(blur=np.zeros_like(b)), dtype)
    _replace(sums, blurred, exact)
    return sums


def working_type(packed: Packed, precision: str) -> np.dtype:
    return DOUBLE if precision == "double" or packed.states.dtype == DOUBLE else SINGLE


def _replace(sums: Sums, rows: np.ndarray, better: Sums) -> None:
    for x, y in zip(sums, better, strict=True):
        x[torch.from_numpy(rows)] = y


def plan(packed: Packed, field: np.ndarray, beta: np.ndarray, dtype: np.dtype, precision: str = "double") -> Plan:
    distance = np.sqrt(squares(field, packed.anchor))
    unit = float(np.finfo(dtype).eps) / 2
    error = TYPICAL * unit * beta * packed.radius * (packed.radius / 2 + distance) + 1e-300
    level = np.minimum(0, 2 * np.log2(TOLERANCE[dtype.itemsize] / error))
    blur = np.where(error > BLURRED, 4 * LOG2E * error / TYPICAL * np.sqrt(field.shape[1]), 0.0)
    if precision == "fast":
        return Plan(*np.zeros((3, len(beta))))
    rest_level = 2 * np.log2(max(PRECISE[dtype.itemsize], TOLERANCE[dtype.itemsize]) / error)
    return Plan(level, rest_level, blur)


def _near(packed: Packed, field: np.ndarray, beta: np.ndarray, dtype: np.dtype) -> Sums:
    queries, dimension = field.shape
    rounded = field.astype(dtype)
    parts = (0,) if np.array_equal(rounded, field) else (0, 0)
    dominant, shift = np.empty(queries, np.int64), np.empty((queries, dimension))
    scalars = np.empty((near.SCALARS, queries))
    block = max(2, min(1024, NEAR_WORK // packed.states.size))
    run(
        near.near_kernel,
        queries,
        block,
        packed.states,
        packed.log_weights,
        packed.radius,
        packed.spread,
        ROUNDING[dtype.itemsize],
        field,
        beta,
        np.zeros(1, dtype),
        (0,) * dimension,
        parts,
        packed.tilts,
        dominant,
        shift,
        scalars,
    )
    rest, excess, square, participation, least, bound, log_error = scalars
    return _sums(dominant, shift, rest, least, excess, square, participation, bound, log_error)


def _sums(dominant: np.ndarray, shift: np.ndarray, rest: np.ndarray, *others: np.ndarray) -> Sums:
    with np.errstate(divide="ignore"):
        columns = (dominant, shift, np.log(rest), *others)
    return Sums(*(torch.from_numpy(np.ascontiguousarray(x)) for x in columns))


def _dense(packed: Packed, field: np.ndarray, beta: np.ndarray, made: Plan, dtype: np.dtype) -> Sums:
    queries, dimension = field.shape
    segments = -(-len(packed.states) // SEGMENT)
    guess = _guess(packed, field, beta) if (made.level < 0).any() and segments > 1 else np.full(queries, -np.inf)
    most, whole = max(1, SEGMENT_BYTES // (segments * dimension * 8)), query_block(dimension, dtype.itemsize)
    most = even_block(queries, most // whole * whole or most, 4)
    parts = [
        _dense_part(
            packed,
            field[i : i + most],
            beta[i : i + most],
            Plan(*(x[i : i + most] for x in made)),
            guess[i : i + most],
            dtype,
        )
        for i in range(0, max(queries, 1), most)
    ]
    dominant, shift, scalars, least = (np.concatenate(x) for x in zip(*parts, strict=True))
    rest, excess, square, participation, tail, _, moves = scalars.T
    distance = np.sqrt(squares(field, packed.anchor))
    shape, itemsize = packed.states.shape, dtype.itemsize
    bound = dense_error(shape, packed.radius, packed.spread, itemsize, beta, distance, least, excess, tail, moves)
    log_error = dense_log_error(shape, packed.radius, packed.spread, itemsize, beta, distance, least, tail, moves)
    return _sums(dominant, shift, rest, least, excess, square, participation, bound, log_error)


def _dense_part(
    packed: Packed, field: np.ndarray, beta: np.ndarray, made: Plan, guess: np.ndarray, dtype: np.dtype
) -> tuple[np.ndarray, ...]:
    """dominant, unnormalised shift, scalars and energy_min of queries whose sums of segments fit SEGMENT_BYTES."""
    queries, dimension = field.shape
    segments = -(-len(packed.states) // SEGMENT)
    block = even_block(queries, query_block(dimension, dtype.itemsize), ROWS)
    dominant = np.empty((segments, queries), np.int64)
    shift, scalars = np.empty((segments, queries, dimension)), np.zeros((segments, queries, dense.SCALARS))
    energy_min = np.empty(queries)
    tile = tile_length(dimension, dtype.itemsize)
    run(
        dense.dense_kernel,
        segments * -(-queries // block),
        1,
        packed.data,
        tile,
        block,
        field,
        beta,
        made.level,
        made.rest_level,
        made.blur,
        guess,
        packed.tilts,
        np.zeros(1, dtype),
        dominant,
        shift,
        scalars,
    )
    run(merge.merge_kernel, queries, 256, packed.data, field, beta, dominant, shift, scalars, energy_min)
    return dominant[0], shift[0], scalars[0], energy_min


def _guess(packed: Packed, field: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """log2 of an eighth of the sum of weights about the anchor, from a sample without its largest; may be -inf."""
    sample = packed.sample()
    none = np.zeros(len(beta))
    dominant, _, scalars, _ = _dense_part(sample, field, beta, Plan(none, none, none), none, SINGLE)
    t = sample.states[dominant] - packed.anchor
    energy = sample.half_squares[dominant] - np.einsum("bd,bd->b", t, field - packed.anchor)
    rest = scalars[:, dense.REST] * (len(packed.states) / len(sample.states)) / 8
    with np.errstate(divide="ignore"):
        rest = np.log2(np.where(rest > 1e-30, rest, 0.0))
    return LOG2E * (sample.log_weights[dominant] - beta * energy) + rest
