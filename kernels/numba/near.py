"""Boltzmann sums in few dimensions: squared distances by differences, states in lanes, queries in pairs.

With e_n = |y_n - h|^2 and c = -beta log2(e) / 2 the logits are z_n = c e_n + log2(phi_n), in bits. A tile of states is
passed over three times (`near_loops`): energies, kept, with the largest z; weights 2^(z - m) with an integer m near it;
and their sums with the coordinates. The dominant state is left out of the sums. Differences are those of the raw
numbers, s = y - h or, where h has more digits than the states, (y - high) - low, so that the relative error of e is at
most (D + 4) u, whatever the offset of the data.
"""

import numpy as np
from numba import types
from numba.extending import overload, overload_method

from fastthermo.kernels import bounds
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import NEAR_TILE
from fastthermo.kernels.numba.near_loops import (
    CHUNK,
    LEAST,
    NONE,
    ORIGIN,
    PAIR,
    PUSH,
    ROWS,
    SCALE,
    SHIFT,
    TOP,
    UNROLLED,
    WW,
    WX,
    WXX,
    W,
    energies,
    push,
    weights,
)
from fastthermo.kernels.numba.scratch import LOG2E, aligned, least_sum, magic
from fastthermo.kernels.numba.simd import (
    equal,
    fma,
    lanes,
    largest,
    load,
    maximum,
    minimum,
    smallest,
    splat,
    store,
    where_less,
)

STRIDE = NEAR_TILE + 64  # of the energies of two queries, which do not share the sets of a cache
REST, EXCESS, SQUARE, PARTICIPATION, ENERGY_MIN, BOUND, LOG_ERROR = range(7)  # rows of `scalars`
SCALARS = 7


@overload(bounds._expm1)
def _expm1(x):  # type: ignore[no-untyped-def]
    return bounds._expm1


@overload(bounds._rms)
def _rms(energy_min, excess, slack):  # type: ignore[no-untyped-def]
    return bounds._rms


@overload_method(types.Float, "clip")
def _clip(x, low, high):  # type: ignore[no-untyped-def]
    """What arrays have, so that bounds are compiled for scalars."""
    if isinstance(high, types.NoneType):
        return lambda x, low, high: max(x, low)
    return lambda x, low, high: min(max(x, low), high)


_error, _log_error = inner(bounds.near_error), inner(bounds.near_log_error)


@jit
def near_kernel(  # type: ignore[no-untyped-def]
    low,
    high,
    states,
    log_weights,
    radius,
    spread,
    rounding,
    field,
    beta,
    zero,
    axes,
    parts,
    tilts,
    dominant,
    shift,
    scalars,
):
    """Sums over all states, and their bounds, for queries [low, high); `zero` is of the dtype to compute in."""
    size, queries, width, step = len(states), high - low, PUSH + (len(axes) + 3) // 4 * 4, lanes(zero)
    panel, energy = aligned(NEAR_TILE * (len(axes) + len(tilts)), zero), aligned(PAIR * STRIDE, zero)
    peaks, places = aligned(PAIR * NEAR_TILE // CHUNK, zero), np.arange(step).astype(zero.dtype)
    point, how = np.empty(len(parts) * PAIR * len(axes), zero.dtype), np.empty(ROWS * PAIR, zero.dtype)
    sums, wholes, shrunk = np.empty(PAIR * width, zero.dtype), np.empty(PAIR), np.empty(PAIR)
    force, away = np.zeros((queries, len(axes))), np.zeros((queries, len(axes)))
    bits, scale = np.full(queries, -np.inf), np.empty(queries)  # z of the reference, c
    for q in range(queries):
        scale[q] = _scale(states, radius, field, low + q, beta[low + q], axes, zero)
        dominant[low + q] = 0
        for k in range(SCALARS):
            scalars[k, low + q] = 0.0
    for start in range(0, size, NEAR_TILE):
        count = min(NEAR_TILE, size - start)
        vectors = (count + step * UNROLLED - 1) // (step * UNROLLED) * UNROLLED
        _load_panel(states, log_weights, start, count, vectors, panel, tilts)
        for first in range(0, queries, PAIR):
            for q in range(PAIR):
                k = min(first + q, queries - 1)
                _set_point(field, low + k, q, axes, parts, point)
                how[SCALE * PAIR + q] = scale[k]
            energies(panel, point, energy, STRIDE, how, peaks, vectors, axes, parts, tilts)
            for q in range(PAIR):
                k = min(first + q, queries - 1)
                _fade(energy, q * STRIDE + count, q * STRIDE + vectors * step)
                best, chunk = _best(peaks, q, vectors, tilts)
                c = np.float64(how[SCALE * PAIR + q])
                found = np.float64(best) if len(tilts) > 0 else c * np.float64(best)
                if found > bits[k]:
                    place = _find(
                        energy, q * STRIDE, chunk, vectors, places, best, panel, axes, how[SCALE * PAIR + q], tilts
                    )
                    _move(found, bits[k], states, start + place, field, low + k, axes, force, away, k, scalars)
                    energy[np.uint64(q * STRIDE + place)] = np.inf
                    bits[k], dominant[low + k] = found, start + place
                wholes[q], shrunk[q] = _set_weights(c, bits[k], 2 * scalars[ENERGY_MIN, low + k], q, how)
            for q in range(PAIR):
                weights(panel, energy, q * STRIDE, how, q, vectors, sums, q * width, axes, tilts)
            push(panel, point, energy, STRIDE, vectors, sums, width, axes, parts, tilts)
            for q in range(min(PAIR, queries - first)):
                if bits[first + q] > -np.inf:
                    unit = np.exp2(wholes[q] - bits[first + q]) * shrunk[q]
                    _add(sums, q * width, unit, axes, force, first + q, low + first + q, scalars)
    for q in range(queries):
        _finish(force, away, q, low + q, axes, shift, scalars, least_sum(zero))
    for b in range(low, high):
        energy, excess = scalars[ENERGY_MIN, b], scalars[EXCESS, b]
        about = beta[b], energy, excess
        scalars[BOUND, b] = _error(states.shape, radius, spread, rounding, *about, scalars[SQUARE, b])
        scalars[LOG_ERROR, b] = _log_error(states.shape, spread, rounding, *about)


@inner
def _scale(states, radius, field, b, beta, axes, zero):  # type: ignore[no-untyped-def]
    """c, where it matters: at higher temperatures c e is below the rounding of a weight for every state.

    So sums of w x^2 keep their digits: x at which no weight is left has a bound.
    """
    square = 0.0
    for d in range(len(axes)):
        square += (np.float64(states[0, d]) - field[b, d]) ** 2
    farthest = max((np.sqrt(square) + 2 * radius) ** 2, 1e-30)
    return -max(0.5 * LOG2E * beta, (1e-9 if zero.itemsize == 4 else 1e-18) / farthest)


@inner
def _load_panel(states, log_weights, start, count, vectors, panel, tilts):  # type: ignore[no-untyped-def]
    """Vectors of coordinates and, if `tilts`, of log2 phi; the last state is repeated."""
    step, dimension = lanes(panel), states.shape[1]
    at = 0
    for first in range(0, vectors * step, step):
        for d in range(dimension):
            for i in range(step):
                panel[at + i] = states[start + min(first + i, count - 1), d]
            at += step
        if len(tilts) > 0:
            for i in range(step):
                panel[at + i] = LOG2E * log_weights[start + min(first + i, count - 1)]
            at += step


@inner
def _set_point(field, b, q, axes, parts, point):  # type: ignore[no-untyped-def]
    """The field in the working precision and, in two parts, what is left of it."""
    for d in range(len(axes)):
        x = field[b, d]
        point[np.uint64(q * len(axes) + d)] = x
        if len(parts) == 2:
            point[np.uint64((PAIR + q) * len(axes) + d)] = x - np.float64(point.dtype.type(x))


@inner
def _fade(energy, begin, end):  # type: ignore[no-untyped-def]
    """No weight for what fills up a tile."""
    step = lanes(energy)
    while begin < end and begin % step != 0:
        energy[np.uint64(begin)] = np.inf
        begin += 1
    while begin < end:
        store(energy, begin, splat(energy.dtype.type(np.inf)))
        begin += step


@inner
def _set_weights(c, bits, origin, q, how):  # type: ignore[no-untyped-def]
    """Rows SHIFT to NONE of `how`. Returns m and `shrunk`: weights are multiplied by 2^-m / shrunk.

    m is an integer near `bits`; with the factor, a power of two, squares of small weights are no subnormal numbers,
    which are slow; but sums of w x^2 with x at most floor / c must not overflow. What counts as none is subtracted from
    all weights, hence a floor far below `least_sum`.
    """
    whole = np.rint(bits) if bits > -np.inf else 0.0
    if how.itemsize == 4:
        offset, floor, none, shrunk = (53.0, 116.0, 2.0**-63, 2.0**-53) if c < -3e-8 else (0.0, 100.0, 2.0**-100, 1.0)
    else:
        small = (506.0, 1040.0, 2.0**-534, 2.0**-506)
        offset, floor, none, shrunk = small if c < -1e-70 else (0.0, 1020.0, 2.0**-1020, 1.0)
    how[SHIFT * PAIR + q] = magic(how) + (offset - whole)
    how[ORIGIN * PAIR + q] = origin
    how[LEAST * PAIR + q] = whole - floor
    how[TOP * PAIR + q] = (whole - floor) / c
    how[NONE * PAIR + q] = none
    return whole, shrunk  # not as exponents, which would be added: 506 + x has lost digits of x


@inner
def _best(peaks, q, vectors, tilts):  # type: ignore[no-untyped-def]
    """The least energy or, if `tilts`, the largest z of a query, and the first chunk where it is."""
    step = lanes(peaks)
    best = load(peaks, q * step)
    for i in range(CHUNK, vectors, CHUNK):
        other = load(peaks, (i // CHUNK * PAIR + q) * step)
        best = maximum(best, other) if len(tilts) > 0 else minimum(best, other)
    found = largest(best) if len(tilts) > 0 else smallest(best)
    chunk, target = 0, splat(found)
    for i in range((vectors - 1) // CHUNK * CHUNK, 0, -CHUNK):
        chunk = i if equal(load(peaks, (i // CHUNK * PAIR + q) * step), target) != 0 else chunk
    return found, 0 if equal(load(peaks, q * step), target) != 0 else chunk


@inner
def _find(energy, begin, chunk, vectors, places, wanted, panel, axes, scale, tilts):  # type: ignore[no-untyped-def]
    """The first place after `begin` of the energy or, if `tilts`, of the z that is wanted; it is in the chunk.

    No branch depends on where it is: the loops that follow need not wait.
    """
    step, target = lanes(energy), splat(wanted)
    found = target - target + splat(energy.dtype.type(NEAR_TILE))
    for i in range(min(chunk + CHUNK, vectors) - 1, chunk - 1, -1):
        e, here = load(energy, begin + i * step), load(places, 0) + splat(energy.dtype.type(i * step))
        if len(tilts) > 0:
            z = fma(splat(scale), e, load(panel, (i * (len(axes) + 1) + len(axes)) * step))
            found = where_less(z, target, found, here)
        else:
            found = where_less(target, e, found, here)
    return np.int64(smallest(found))


@inner
def _move(found, before, states, r, field, b, axes, force, away, k, scalars):  # type: ignore[no-untyped-def]
    """Make state r the reference of query b: sums, and the old reference among them, become relative to it."""
    factor = np.exp2(before - found) if before > -np.inf else 0.0
    energy = 0.0
    for d in range(len(axes)):
        force[k, d] = factor * (force[k, d] + away[k, d])
        away[k, d] = np.float64(states[r, d]) - field[b, d]
        energy += 0.5 * away[k, d] ** 2
    total, change = 1 + scalars[REST, b], scalars[ENERGY_MIN, b] - energy
    if factor > 0:
        scalars[SQUARE, b] = factor * (scalars[SQUARE, b] + 2 * change * scalars[EXCESS, b] + total * change**2)
        scalars[EXCESS, b] = factor * (scalars[EXCESS, b] + total * change)
        scalars[PARTICIPATION, b] = factor**2 * (1 + scalars[PARTICIPATION, b])
        scalars[REST, b] = factor * total
    else:
        for i in range(PARTICIPATION + 1):
            scalars[i, b] = 0.0
    scalars[ENERGY_MIN, b] = energy


@inner
def _add(sums, begin, scale, axes, force, k, b, scalars):  # type: ignore[no-untyped-def]
    scalars[REST, b] += scale * sums[np.uint64(begin + W)]
    scalars[EXCESS, b] += 0.5 * scale * sums[np.uint64(begin + WX)]
    scalars[SQUARE, b] += 0.25 * scale * sums[np.uint64(begin + WXX)]
    scalars[PARTICIPATION, b] += scale * scale * sums[np.uint64(begin + WW)]
    for d in range(len(axes)):
        force[k, d] += scale * sums[np.uint64(begin + PUSH + d)]


@inner
def _finish(force, away, k, b, axes, shift, scalars, least):  # type: ignore[no-untyped-def]
    if scalars[REST, b] < least:
        for i in range(PARTICIPATION + 1):
            scalars[i, b] = 0.0
    rest = scalars[REST, b]
    scale = 1 / (1 + rest)
    for d in range(len(axes)):
        shift[b, d] = (force[k, d] - rest * away[k, d]) * scale if rest > 0 else 0.0
    scalars[EXCESS, b] = max(scale * scalars[EXCESS, b], -scalars[ENERGY_MIN, b])
    scalars[SQUARE, b] = max(scale * scalars[SQUARE, b], 0.0)
    scalars[PARTICIPATION, b] = (1 + scalars[PARTICIPATION, b]) * scale**2
