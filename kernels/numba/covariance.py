"""C = sum w (y - m)(y - m)^T: one product of weights with features t_i t_(i + k), k cyclic, each pair once.

About the anchor, with t = y - a and mu = m - a, the tail gives S - p mu^T - mu p^T + M mu mu^T with S = sum w t t^T,
p = sum w t and M = sum w. The dominant state and the heads are added one by one about the mean, so that nothing is
lost where the ensemble condenses. S of a query is a row of pairs (k, i); it is followed by p and M.
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
from fastthermo.kernels.numba.simd import fma, lanes, load, load_as, splat, store, total
from fastthermo.kernels.numba.sparse import longest
from fastthermo.kernels.numba.tile import fill, load_tile, products
from fastthermo.kernels.numba.weigh import COLUMNS, arguments, deviation, start_block, ways, weigh


def covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str = "double"
) -> torch.Tensor:
    out = np.empty((*field.shape, field.shape[1]))
    left = by_candidates(_few_kernel, packed, field, beta, sums, precision, (), (out,))
    for rows, way in ways(packed, field, beta, precision, left):
        if rows.all():
            _by_products(packed, field, beta, sums, way, out)
        else:
            part = np.empty((int(rows.sum()), *out.shape[1:]))
            h, b, known = subset(rows, sums, field, beta)
            _by_products(packed, h, b, known, way, part)
            out[rows] = part
    return torch.from_numpy(out)


def _by_products(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str, out: np.ndarray
) -> None:
    (queries, dimension), size = field.shape, len(packed.states)
    data, tile, _, *of_queries, tilts, zero = arguments(packed, field, beta, sums, precision, 2)
    of_queries.append(as_array(sums.shift))
    lane = 64 // zero.itemsize
    wide = 2 * lane
    depth = -(-dimension // wide) * wide
    pitch = depth + -(-(dimension // 2) // lane) * lane
    features = (dimension // 2 + 1) * depth
    row = features + depth + 8  # S, p, and M in a vector of its own
    while tile > wide and pitch * tile * zero.itemsize > REPEATED_BYTES:
        tile //= 2
    most = min(FEATURE_ROWS, max(1, FEATURE_BYTES // (zero.itemsize * features)))
    parts = max(1, min(COVARIANCE_PARTS, -(-size // SEGMENT), COVARIANCE_BYTES // (most * row * 8)))
    most = max(1, min(most, TASK_WORK * parts // (features * size)))
    block = even_block(queries, most // ROWS * ROWS or most // 4 * 4 or most, ROWS)
    group = even_block(queries, max(block, COVARIANCE_BYTES // (parts * row * 8) // block * block), block)
    moments = np.empty((parts, min(group, queries), row))
    for i in range(0, queries, group):
        some = [x[i : i + group] for x in of_queries]
        count = len(some[0])
        run(
            _covariance_kernel, parts * -(-count // block), 1, data, tile, depth, pitch, features, block, *some, tilts,
            zero, moments,
        )  # fmt: skip
        run(_join_kernel, count, 8, data, depth, features, *some[4:], moments, out[i : i + group])


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
    low, high, data, tile, depth, pitch, features, block, field, beta, level, blur, dominant, log_rest, shift, tilts,
    zero, moments,
):  # fmt: skip
    """Rows of moments for tasks [low, high), a task being a block of queries and a part of the states.

    depth, pitch, features : lengths of a padded state, of one written repeatedly, and of S.
    """
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    queries, wide, row = field.shape[0], 2 * lanes(zero), moments.shape[2]
    parts, tiles = len(moments), (size + tile - 1) // tile
    centred, panel, feature = aligned(depth * tile, zero), aligned(depth * tile, zero), aligned(wide * tile, zero)
    repeated = aligned(pitch * tile + wide, zero)
    pull, mean, second = aligned(block * depth, zero), aligned(block * depth, zero), aligned(block * features, zero)
    energy, gap = aligned(block * tile, zero), aligned(block * tile, zero)
    half, prior = aligned(tile, zero), aligned(tile, zero)
    about, away, sums = np.empty((block, COLUMNS)), np.empty((block, dimension)), np.empty(block)
    places, weights, gaps = np.empty(tile, np.int64), np.empty(tile), np.empty(tile)
    delta, pair = np.empty(dimension), np.zeros(2 * depth)
    for task in range(low, high):
        part, begin = task % parts, task // parts * block
        count = min(block, queries - begin)
        start_block(begin, count, data, field, beta, level, blur, dominant, log_rest, depth, pull, about, away)
        base = (part * moments.shape[1] + begin) * row
        for q in range(count):
            for i in range(row):
                moments[part, begin + q, i] = 0.0
        last = min(size, (part + 1) * tiles // parts * tile)
        for first in range(part * tiles // parts * tile, last, SEGMENT):
            fill(second, 0, count * features, 0.0)
            fill(mean, 0, count * depth, 0.0)
            for q in range(count):
                sums[q] = 0.0
            for start in range(first, min(last, first + SEGMENT), tile):
                n = min(tile, last - start)
                padded = load_tile(
                    states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior
                )
                products(pull, 0, depth, dimension, count, panel, padded, half, energy, 0, tile)
                some = False
                for q in range(count):
                    b = begin + q
                    heads = weigh(
                        energy, gap, q * tile, q, dominant[b], -LOG2E * beta[b], start, n, padded, prior,
                        tilts, states, log_weights, about, away, places, weights, gaps,
                    )  # fmt: skip
                    for i in range(heads):
                        deviation(places[i], dominant[b], b, states, shift, delta)
                        _add_pairs(weights[i], delta, pair, depth, moments, base + q * row)
                    mass = _total(energy, q * tile, padded)
                    sums[q] += mass
                    some |= mass > 0
                if some:
                    for d in range(0, depth, wide):
                        multiply(energy, 0, tile, count, centred, d * tile, padded, mean, d, depth)
                    _repeat(centred, tile, padded, dimension, depth, pitch, repeated)
                    for k in range(dimension // 2 + 1):
                        for d in range(0, _columns(k, dimension), wide):
                            _features(repeated, pitch, d, k, padded, feature)
                            multiply(energy, 0, tile, count, feature, 0, padded, second, k * depth + d, features)
            for q in range(count):
                at = base + q * row
                _add(second, q * features, features, moments, at)
                _add(mean, q * depth, depth, moments, at + features)
                moments[part, begin + q, features + depth] += sums[q]


@jit
def _join_kernel(low, high, data, depth, features, dominant, log_rest, shift, moments, out):  # type: ignore[no-untyped-def]
    """Matrices of queries [low, high) from the moments of all parts, moved from the anchor to the mean."""
    states, _, anchor, _ = data
    dimension, row = anchor.size, moments.shape[2]
    total, mu = np.empty(row), np.empty(dimension)
    for b in range(low, high):
        for i in range(row):
            total[i] = moments[0, b, i]
        for part in range(1, len(moments)):
            for i in range(row):
                total[i] += moments[part, b, i]
        norm, mass = 1 / (1 + np.exp(log_rest[b])), total[features + depth]
        for d in range(dimension):
            mu[d] = np.float64(states[dominant[b], d]) - anchor[d]
        for d in range(dimension):
            mu[d] += shift[b, d]
        p = total[features : features + depth]
        for k in range(dimension // 2 + 1):
            for i in range(_columns(k, dimension)):
                j = i + k if i + k < dimension else i + k - dimension
                moved = total[k * depth + i] - p[i] * mu[j] - mu[i] * p[j] + mass * mu[i] * mu[j]
                out[b, i, j] = out[b, j, i] = moved + norm * shift[b, i] * shift[b, j]


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
def _repeat(centred, tile, padded, dimension, depth, pitch, repeated):  # type: ignore[no-untyped-def]
    """Rows t_0 .. t_(D-1), t_0 .. t_(D/2), so that any D in a row are a cyclic shift."""
    lane = lanes(centred)
    wide = 2 * lane
    for n in range(padded):
        for begin in range(0, dimension + 1, dimension):
            for d in range(0, min(depth, pitch - begin), lane):
                value = load(centred, d // wide * wide * tile + n * wide + d % wide)
                store(repeated, n * pitch + begin + d, value)


@inner
def _features(repeated, pitch, d, k, padded, feature):  # type: ignore[no-untyped-def]
    """t_i t_(i + k) of a tile, for the panel of dimensions i that begins at d."""
    step = lanes(repeated)
    for n in range(padded):
        at = n * pitch + d
        store(feature, 2 * step * n, load(repeated, at) * load(repeated, at + k))
        store(feature, 2 * step * n + step, load(repeated, at + step) * load(repeated, at + step + k))


@inner
def _add(single, at, count, out, to):  # type: ignore[no-untyped-def]
    """out += single, from those places on."""
    for i in range(0, count, lanes(out)):
        store(out, to + i, load(out, to + i) + load_as(single, at + i, out))


@inner
def _add_pairs(weight, delta, pair, depth, out, at):  # type: ignore[no-untyped-def]
    """weight delta_i delta_(i + k), as S."""
    dimension, factor, step = delta.size, splat(weight), lanes(pair)
    for d in range(dimension):
        pair[d] = pair[dimension + d] = delta[d]
    for k in range(dimension // 2 + 1):
        for d in range(0, depth, step):
            to = at + k * depth + d
            store(out, to, fma(factor * load(pair, d), load(pair, d + k), load(out, to)))


@inner
def _add_outer(weight, delta, b, out):  # type: ignore[no-untyped-def]
    for i in range(delta.size):
        left = weight * delta[i]
        for j in range(i + 1):
            out[b, i, j] += left * delta[j]
