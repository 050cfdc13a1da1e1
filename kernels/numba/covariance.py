"""C = sum w (y - m)(y - m)^T: one product of weights with features t_i t_(i + k), k cyclic, each pair once.

About the anchor, with t = y - a and mu = m - a, the tail gives sum w t t^T - p mu^T - mu p^T + M mu mu^T with
p = sum w t and M = sum w. The dominant state and the heads are added one by one about the mean, so that nothing is
lost where the ensemble condenses.
"""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import (
    COVARIANCE_BYTES,
    COVARIANCE_PARTS,
    FEATURE_BYTES,
    FEATURE_ROWS,
    REPEATED_BYTES,
    ROWS,
    SEGMENT,
    TASK_WORK,
    even_block,
)
from fastthermo.kernels.numba.multiply import multiply
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.second import by_candidates, subset, weights_of
from fastthermo.kernels.numba.simd import lanes, load, splat, store, total
from fastthermo.kernels.numba.sparse import longest
from fastthermo.kernels.numba.tile import fill, load_tile, products
from fastthermo.kernels.numba.weigh import COLUMNS, NORM, arguments, deviation, start_block, weigh


def covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str = "double"
) -> torch.Tensor:
    out = np.empty((*field.shape, field.shape[1]))
    left = by_candidates(_few_kernel, packed, field, beta, sums, precision, (), (out,))
    if left.all():
        _by_products(packed, field, beta, sums, precision, out)
    elif left.any():
        part = np.empty((int(left.sum()), *out.shape[1:]))
        h, b, known = subset(left, sums, field, beta)
        _by_products(packed, h, b, known, precision, part)
        out[left] = part
    return torch.from_numpy(out)


def _by_products(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str, out: np.ndarray
) -> None:
    (queries, dimension), size = field.shape, len(packed.states)
    data, tile, _, *of_queries, tilts, zero = arguments(packed, field, beta, sums, precision, 2)
    of_queries.append(as_array(sums.shift))
    itemsize = zero.itemsize
    wide = 128 // itemsize
    depth = -(-dimension // wide) * wide
    features, square = (dimension // 2 + 1) * depth, dimension**2 * 8
    while tile > wide and 2 * depth * tile * itemsize > REPEATED_BYTES:
        tile //= 2
    most = min(FEATURE_ROWS, max(1, FEATURE_BYTES // (itemsize * features)))
    parts = max(1, min(COVARIANCE_PARTS, -(-size // SEGMENT), COVARIANCE_BYTES // (most * square)))
    most = max(1, min(most, TASK_WORK * parts // (features * size)))
    block = even_block(queries, most // ROWS * ROWS or most // 4 * 4 or most, ROWS)
    group = max(block, COVARIANCE_BYTES // (parts * square) // block * block)
    summed = np.empty((parts, min(group, queries), dimension, dimension)) if parts > 1 else None
    for i in range(0, queries, group):
        rows = slice(i, i + group)
        sums_of_parts = out[None, rows] if summed is None else summed
        some = [x[rows] for x in of_queries]
        count = len(some[0])
        run(_covariance_kernel, parts * -(-count // block), 1, data, tile, block, *some, tilts, zero, sums_of_parts)
        run(_join_kernel, count, 8, sums_of_parts, out[rows])


@jit
def _few_kernel(low, high, states, log_weights, field, beta, few, limits, lists, dominant, log_rest, shift, out):  # type: ignore[no-untyped-def]
    """For queries [low, high) that have few candidates."""
    index, energy, found, best = lists
    most, dimension = longest(found, few, low, high), states.shape[1]
    chosen, weight, gap = np.empty(most, np.int64), np.empty(most), np.empty(most)
    away, delta = np.empty(dimension), np.empty(dimension)
    for b in range(low, high):
        if few[b]:
            r = dominant[b]
            count = weights_of(
                states, log_weights, field, beta, limits, index, energy, found, best, b, r, log_rest[b], away, chosen,
                weight, gap,
            )  # fmt: skip
            norm = 1 / (1 + np.exp(log_rest[b]))
            for i in range(dimension):
                for j in range(i + 1):
                    out[b, i, j] = norm * shift[b, i] * shift[b, j]
            for i in range(count):
                deviation(chosen[i], r, b, states, shift, delta)
                _add_outer(weight[i], delta, b, out)
            for i in range(dimension):
                for j in range(i):
                    out[b, j, i] = out[b, i, j]


@jit
def _covariance_kernel(  # type: ignore[no-untyped-def]
    low, high, data, tile, block, field, beta, level, blur, dominant, log_rest, shift, tilts, zero, sums_of_parts
):
    """Lower triangles for tasks [low, high), a task being a block of queries and a part of the segments."""
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    queries, lane = field.shape[0], lanes(zero)
    wide = 2 * lane
    depth = (dimension + wide - 1) // wide * wide
    parts, segments = len(sums_of_parts), (size + SEGMENT - 1) // SEGMENT
    centred, panel, feature = aligned(depth * tile, zero), aligned(depth * tile, zero), aligned(wide * tile, zero)
    twice, shifts = aligned(2 * depth * tile, zero), dimension // 2 + 1
    pull, mean = aligned(block * depth, zero), aligned(block * depth, zero)
    second = aligned(block * shifts * depth, zero)
    energy, gap = aligned(block * tile, zero), aligned(block * tile, zero)
    half, prior = aligned(tile, zero), aligned(tile, zero)
    about, away, sums = np.empty((block, COLUMNS)), np.empty((block, dimension)), np.empty(block)
    places, weights, gaps, delta = np.empty(tile, np.int64), np.empty(tile), np.empty(tile), np.empty(dimension)
    for task in range(low, high):
        part, begin = task % parts, task // parts * block
        count, out = min(block, queries - begin), sums_of_parts[part]
        start_block(begin, count, data, field, beta, level, blur, dominant, log_rest, depth, pull, about, away)
        for q in range(count):
            b = begin + q
            for i in range(dimension):
                for j in range(i + 1):
                    out[b, i, j] = about[q, NORM] * shift[b, i] * shift[b, j] if part == 0 else 0.0
        for segment in range(part * segments // parts, (part + 1) * segments // parts):
            first = segment * SEGMENT
            fill(second, 0, count * shifts * depth, 0.0)
            fill(mean, 0, count * depth, 0.0)
            for q in range(count):
                sums[q] = 0.0
            for start in range(first, min(size, first + SEGMENT), tile):
                n = min(tile, size - start)
                padded = load_tile(
                    states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior
                )
                products(pull, 0, depth, dimension, count, panel, padded, energy, 0, tile)
                some = False
                for q in range(count):
                    b = begin + q
                    heads = weigh(
                        energy,
                        gap,
                        q * tile,
                        q,
                        dominant[b],
                        -LOG2E * beta[b],
                        start,
                        n,
                        padded,
                        half,
                        prior,
                        tilts,
                        states,
                        log_weights,
                        about,
                        away,
                        places,
                        weights,
                        gaps,
                    )
                    for i in range(heads):
                        deviation(places[i], dominant[b], b, states, shift, delta)
                        _add_outer(weights[i], delta, b, out)
                    mass = _total(energy, q * tile, padded)
                    sums[q] += mass
                    some |= mass > 0
                if some:
                    for d in range(0, depth, wide):
                        multiply(energy, 0, tile, count, centred, d * tile, padded, mean, d, depth)
                    _repeat(centred, tile, padded, dimension, depth, twice)
                    for k in range(shifts):
                        for d in range(0, _columns(k, dimension), wide):
                            _features(twice, 2 * depth, d, k, padded, feature)
                            multiply(
                                energy, 0, tile, count, feature, 0, padded, second, k * depth + d, shifts * depth
                            )  # fmt: skip
            for q in range(count):
                _close(q, begin + q, sums[q], second, mean, depth, away, field, anchor, shift, delta, out)


@jit
def _join_kernel(low, high, parts, out):  # type: ignore[no-untyped-def]
    """Whole matrices of queries [low, high) from the lower triangles of all parts."""
    for b in range(low, high):
        for i in range(out.shape[1]):
            for j in range(i + 1):
                sum_ = parts[0, b, i, j]
                for part in range(1, len(parts)):
                    sum_ += parts[part, b, i, j]
                out[b, i, j] = out[b, j, i] = sum_


@inner
def _total(energy, at, padded):  # type: ignore[no-untyped-def]
    mass = splat(energy.dtype.type(0.0))
    for i in range(0, padded, lanes(energy)):
        mass += load(energy, at + i)
    return np.float64(total(mass))


@inner
def _columns(k, dimension):  # type: ignore[no-untyped-def]
    """Pairs (i, i + k modulo D), from i = 0 on, that no other k has."""
    return dimension // 2 if 2 * k == dimension else dimension


@inner
def _repeat(centred, tile, padded, dimension, depth, twice):  # type: ignore[no-untyped-def]
    """Rows t_0 .. t_(D-1), t_0 .. t_(D-1), so that any D in a row are a cyclic shift."""
    wide = 2 * lanes(centred)
    for n in range(padded):
        for d in range(dimension):
            value = centred[np.uint64(d // wide * wide * tile + n * wide + d % wide)]
            twice[np.uint64(2 * depth * n + d)] = twice[np.uint64(2 * depth * n + dimension + d)] = value


@inner
def _features(twice, stride, d, k, padded, feature):  # type: ignore[no-untyped-def]
    """t_i t_(i + k) of a tile, for the panel of dimensions i that begins at d."""
    step = lanes(twice)
    for n in range(padded):
        at = n * stride + d
        store(feature, 2 * step * n, load(twice, at) * load(twice, at + k))
        store(feature, 2 * step * n + step, load(twice, at + step) * load(twice, at + step + k))


@inner
def _add_outer(weight, delta, b, out):  # type: ignore[no-untyped-def]
    for i in range(delta.size):
        left = weight * delta[i]
        for j in range(i + 1):
            out[b, i, j] += left * delta[j]


@inner
def _close(q, b, mass, second, mean, depth, away, field, anchor, shift, about, out):  # type: ignore[no-untyped-def]
    """Move the second moments of a segment's tail from the anchor to the mean."""
    dimension, shifts = anchor.size, anchor.size // 2 + 1
    for d in range(dimension):
        about[d] = away[q, d] + field[b, d] - anchor[d] + shift[b, d]
    for k in range(shifts):
        columns, at = _columns(k, dimension), (q * shifts + k) * depth
        whole = min(columns, dimension - k)
        for i in range(whole):
            _move(q, b, at + i, i + k, i, mass, second, mean, depth, about, out)
        for i in range(whole, columns):
            _move(q, b, at + i, i, i + k - dimension, mass, second, mean, depth, about, out)


@inner
def _move(q, b, at, i, j, mass, second, mean, depth, about, out):  # type: ignore[no-untyped-def]
    """One moment, of dimensions i >= j."""
    i, j = np.uint64(i), np.uint64(j)
    row, mu, nu = np.uint64(q * depth), about[i], about[j]
    p, r = np.float64(mean[row + i]), np.float64(mean[row + j])
    out[np.uint64(b), i, j] += np.float64(second[np.uint64(at)]) - p * nu - mu * r + mass * mu * nu
