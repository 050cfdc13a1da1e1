"""Sums over all states by products, of floats or of bytes.

Float32 where it is asked for and where the error of a product is small enough, else float64. Where bytes stand for the
states and the CPU multiplies bytes, integers take the place of float32: two digits of weights and queries where the
rounding of both averages out, else three.
"""

from typing import NamedTuple

import numpy as np

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import dense_error, dense_log_error, product_error, reach
from fastthermo.kernels.numba import bytewise, dense, head, merge
from fastthermo.kernels.numba.assemble import join, replace, sums_of
from fastthermo.kernels.numba.codes import Codes, Probes, probe
from fastthermo.kernels.numba.config import (
    LONG_TILE,
    NARROW,
    ROWS,
    SEGMENT,
    TOLERANCE,
    even_block,
    merged_block,
    query_block,
    tile_length,
)
from fastthermo.kernels.numba.matrix import tiles
from fastthermo.kernels.numba.octet_sums import BLOCK
from fastthermo.kernels.numba.octets import ROWS as DIGIT_ROWS
from fastthermo.kernels.numba.pack import Packed, squares
from fastthermo.kernels.numba.plan import SINGLE, Plan, few_digits, plan, working_type
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E


class Part(NamedTuple):
    """What a pass over all states leaves of (B,) queries; (B, D) shift."""

    dominant: np.ndarray
    shift: np.ndarray
    scalars: np.ndarray
    energy_min: np.ndarray
    product: np.ndarray  # bound of the error of a tail's logit


def by_products(packed: Packed, h: np.ndarray, b: np.ndarray, precision: str) -> Sums:
    dtype = working_type(packed, precision)
    made = plan(packed, h, b, dtype, precision, dtype == SINGLE)
    blurred = made.blur > 0
    if dtype == SINGLE and blurred.all():
        return by_products(packed, h, b, "double")
    if dtype == SINGLE and blurred.any():
        return join(
            blurred, *(by_products(packed, h[x], b[x], y) for x, y in ((blurred, "double"), (~blurred, precision)))
        )
    if dtype == SINGLE and precision != "fast" and packed.codes.worthwhile(packed):
        codes = packed.codes.get(packed)
        if codes.exact:
            return _by_bytes(packed, codes, h, b, made)
    guess = np.full(len(h), -np.inf)
    if (made.level < 0).any() and len(packed.states) > SEGMENT:
        guess = guess_of(packed, h, b, dtype)[0]
    found, _, narrow = _dense(packed, h, b, made, guess, dtype)
    if dtype == SINGLE and precision != "fast":
        _again(packed, h, b, found, narrow)
    return found


def _again(packed: Packed, h: np.ndarray, b: np.ndarray, found: Sums, rows: np.ndarray) -> None:
    """Put sums of those rows by float64 products among those found."""
    if rows.any():
        replace(found, rows, by_products(packed, h[rows], b[rows], "double"))


def _by_bytes(packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray, made: Plan) -> Sums:
    guess, share = guess_of(packed, field, beta, SINGLE)
    two = few_digits(packed, codes, field, beta, share)
    given = (packed, codes, field, beta, made, guess)
    if two.all() or not two.any():
        return _of_rows(*given, np.arange(len(beta)), 2 if len(beta) and two.all() else 3)
    return join(two, _of_rows(*given, np.flatnonzero(two), 2), _of_rows(*given, np.flatnonzero(~two), 3))


def _of_rows(
    packed: Packed,
    codes: Codes,
    field: np.ndarray,
    beta: np.ndarray,
    made: Plan,
    guess: np.ndarray,
    rows: np.ndarray,
    digits: int,
) -> Sums:
    """Sums of those rows: with more digits, and at last by floats, where weights are too coarse."""
    ways = (SINGLE, codes, digits) if digits else (SINGLE,)
    found, coarse, narrow = _dense(packed, field[rows], beta[rows], made.of(rows), guess[rows], *ways)
    coarse &= ~narrow
    if digits and coarse.any():
        more = 3 if digits == 2 else 0
        replace(found, coarse, _of_rows(packed, codes, field, beta, made, guess, rows[coarse], more))
    _again(packed, field[rows], beta[rows], found, narrow)
    return found


def _dense(
    packed: Packed,
    field: np.ndarray,
    beta: np.ndarray,
    made: Plan,
    guess: np.ndarray,
    dtype: np.dtype,
    codes: Codes | None = None,
    digits: int = 0,
) -> tuple[Sums, np.ndarray, np.ndarray]:
    """Sums of (B,) queries, whether their digits were too few, and whether products in float32 are too rough for them.

    Such are those amid states that are close to each other beside their distance from the anchor.
    """
    most = merged_block(len(field), packed.states.shape, dtype.itemsize)
    parts, scratch = [], _scratch(packed, min(most, len(field)))
    for i in range(0, max(len(field), 1), most):
        some = slice(i, i + most)
        given = (packed, field[some], beta[some], made.of(some), guess[some], scratch)
        parts.append(_floats(*given, dtype) if codes is None else _bytes(*given, codes, digits))
    all_parts = Part(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    dominant, shift, scalars, least, product = all_parts
    rest, excess, square, participation, tail, _, moves, grain = scalars.T
    excess = np.maximum(excess, -least)  # the error of products amid copies of a state
    shape, itemsize = packed.states.shape, dtype.itemsize
    about = (shape, packed.radius, packed.spread, itemsize, beta, product, least)
    bound = dense_error(*about, excess, tail, moves, grain, 0.0 if codes is None else codes.residual)
    log_error = dense_log_error(*about, tail, moves)
    coarse = np.sqrt(grain / 6) > TOLERANCE[4] / 2
    size = reach(packed.radius, packed.spread, beta, np.sqrt(squares(field, packed.anchor)))
    narrow = 2 * (least + excess) < (NARROW * tail * size) ** 2
    return sums_of(dominant, shift, rest, least, excess, square, participation, bound, log_error), coarse, narrow


def _scratch(packed: Packed, queries: int) -> np.ndarray:
    """For the shifts of so many queries in every segment."""
    size, dimension = packed.states.shape
    return np.empty(-(-size // SEGMENT) * queries * dimension)


def _floats(
    packed: Packed,
    field: np.ndarray,
    beta: np.ndarray,
    made: Plan,
    guess: np.ndarray,
    scratch: np.ndarray,
    dtype: np.dtype,
) -> Part:
    block = even_block(len(field), query_block(field.shape[1], dtype.itemsize), ROWS)
    tile = tile_length(field.shape[1], dtype.itemsize, LONG_TILE)
    given = (field, beta, made.level, made.rest_level, made.blur, guess, packed.tilts, np.zeros(1, dtype))
    distance = np.sqrt(squares(field, packed.anchor))
    radius = reach(packed.radius, packed.spread, beta, distance)
    product = product_error(field.shape[1], radius, dtype.itemsize, beta, distance)
    return _pass(dense.dense_kernel, packed, field, beta, block, product, scratch, packed.data, tile, block, *given)


def _bytes(
    packed: Packed,
    field: np.ndarray,
    beta: np.ndarray,
    made: Plan,
    guess: np.ndarray,
    scratch: np.ndarray,
    codes: Codes,
    digits: int,
) -> Part:
    probes = probe(packed, codes, field, beta, digits)
    block = even_block(len(field), query_block(field.shape[1], 4), ROWS)
    queries = (*probes[:4], (0,) * digits, DIGIT_ROWS[digits], block, field, beta)
    given = (made.level, made.rest_level, guess, packed.tilts, np.zeros(1, np.float32), tiles())
    product = beta * probes.error
    arguments = (packed.data, *of_states(codes), *queries, *given)
    part = _pass(bytewise.bytewise_kernel, packed, field, beta, block, product, scratch, *arguments)
    if digits == 2:
        _mend(packed, codes, probes, field, beta, part)
    return part


def of_states(codes: Codes) -> tuple[np.ndarray, ...]:
    """What kernels take of the states: codes, step, q_a in int32, half squares and priors."""
    padding = (0, -len(codes.step) % BLOCK)
    anchor = np.pad(codes.anchor.astype(np.int32), padding)
    return codes.codes, codes.step, anchor, codes.half_squares, codes.priors


def _mend(packed: Packed, codes: Codes, probes: Probes, field: np.ndarray, beta: np.ndarray, part: Part) -> None:
    """Of rounded queries: log sum is off by beta delta.(q - q_mean) at the mean of q, to first order."""
    k = 256.0 * probes.codes[:, 1, : field.shape[1]] + probes.codes[:, 0, : field.shape[1]]
    step = np.where(codes.step > 0, codes.step, 1.0)
    delta = (field - packed.anchor) * codes.step - probes.scale[:, None] * k
    rest, tail = part.scalars[:, head.REST], part.scalars[:, head.TAIL]
    mean = (packed.states[part.dominant] - packed.anchor + part.shift) / step
    part.scalars[:, head.REST] += (1 + rest) * tail * beta * (np.einsum("bd,bd->b", delta, mean) + probes.offset)


def _pass(kernel, packed, field, beta, block, product, scratch, *given) -> Part:  # type: ignore[no-untyped-def]
    """Run a kernel over segments of states and blocks of queries, and merge the segments; see `_scratch`."""
    queries, dimension = field.shape
    segments = -(-len(packed.states) // SEGMENT)
    dominant, energy_min = np.empty((segments, queries), np.int64), np.empty(queries)
    shift = scratch[: segments * queries * dimension].reshape(segments, queries, dimension)
    scalars = np.zeros((segments, queries, head.SCALARS))
    run(kernel, segments * -(-queries // block), 1, *given, dominant, shift, scalars)
    run(merge.merge_kernel, queries, 256, packed.data, field, beta, dominant, shift, scalars, energy_min)
    return Part(dominant[0].copy(), shift[0].copy(), scalars[0].copy(), energy_min, product)


def guess_of(packed: Packed, field: np.ndarray, beta: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """log2 of an eighth of the sum of weights about the anchor, from a sample without its largest; may be -inf.

    And N_eff of the sample as a share of it.
    """
    sample = packed.sample()
    none = np.zeros(len(beta))
    unknown = np.full(len(beta), -np.inf)
    part = _floats(sample, field, beta, Plan(none, none, none), unknown, _scratch(sample, len(beta)), dtype)
    t = sample.states[part.dominant] - packed.anchor
    energy = sample.half_squares[part.dominant] - np.einsum("bd,bd->b", t, field - packed.anchor)
    rest = part.scalars[:, head.REST] * (len(packed.states) / len(sample.states)) / 8
    with np.errstate(divide="ignore"):
        rest = np.log2(np.where(rest > 1e-30, rest, 0.0))
    guess = LOG2E * (sample.log_weights[part.dominant] - beta * energy) + rest
    return guess, 1 / (part.scalars[:, head.PARTICIPATION] * len(sample.states))
