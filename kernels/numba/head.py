"""Running sums of a query over a segment of states: the states that matter by differences, all others by products.

About the anchor a, with t = y - a and g = a - h, energies are H~_n - H~_a = |t_n|^2 / 2 + t_n.g, by products whose
error in a logit is eps. The sums fall in two parts, both relative to a reference state r that moves to the largest
weight:

    head : r, and every state whose weight is above some (tolerance / eps)^2 of the weights met so far. Energies
           relative to r are float64 differences s (s/2 + k), s = y_n - y_r, k = y_r - h, and sums are float64.
    tail : all others. Their weights are 2^(c e - m) with an integer m near log2 of the weight of r, and sum w t is a
           second product. Each weighs so little that their errors, taken as independent, average out to the tolerance.

Where eps says that products decide nothing, all states that may matter are head. States come in segments of fixed
length, each with sums of its own, merged in their order: who computes a segment makes no difference.
"""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.config import SEGMENT
from fastthermo.kernels.numba.scratch import LOG2E, floor, least_sum
from fastthermo.kernels.numba.simd import fma, lanes, load, maximum, minimum, splat, store, total
from fastthermo.kernels.numba.tile import extreme, fill, find, mass_of, next_head, weighing, weight_of

SCALARS = 8
# columns of `scalars`, relative to the weight of r; GRAIN is the sum of the squared steps to which weights are rounded
REST, EXCESS, SQUARE, PARTICIPATION, TAIL, HEAD, MOVES, GRAIN = range(SCALARS)
# and of a running `head`, which also has r, log2 of its weight, its energy about the anchor, m, 2^(m - BITS), and what
# no threshold of heads will be below
OWNER, BITS, ORIGIN, WHOLE, SCALE, LEAST = range(SCALARS, SCALARS + 6)
COLUMNS = SCALARS + 6
AWAY, FORCE = range(2)  # vectors of `head`: y_r - h, sum w (y - y_r)
DUST = 1e-13  # tiles whose tail is a smaller share of the sums so far are dropped
NEVER = -1000.0  # bits below which a weight is 0


@inner
def weigh_tile(  # type: ignore[no-untyped-def]
    q, b, start, n, padded, prior, tilts, states, log_weights, anchor, half_squares, field, c, level, rest_level,
    blur, guess, energy, at, head, vectors, tail, mean, depth,
):  # fmt: skip
    """Energies H~ - H~_a of query b and n states from `start` on become weights, or zeros, from energy[at] on.

    Heads are summed. Returns the tail's sum relative to 2^m, 0 where it is dust.
    """
    raw = extreme(energy, at, padded, prior, c, tilts)
    best = np.float64(raw) if len(tilts) > 0 else c * np.float64(raw)
    if head[q, OWNER] < 0:
        if best == -np.inf:
            fill(energy, at, at + padded, 0.0)
            return 0.0
        r = start + find(energy, at, padded, raw, prior, c, tilts)
        _adopt(r, q, c, states, log_weights, anchor, half_squares, field, b, head, vectors)
    elif best > head[q, BITS]:
        place = find(energy, at, padded, raw, prior, c, tilts)
        _add(start + place, q, c, states, log_weights, field, b, head, vectors, tail, mean, depth)
        energy[at + place] = np.inf
    if start <= head[q, OWNER] < start + n:
        energy[at + np.int64(head[q, OWNER]) - start] = np.inf
    if best > head[q, LEAST] and (level < 0 or blur > 0):
        fresh = start % SEGMENT == 0 and blur == 0
        mass = mass_of(energy, at, padded, prior, tilts, c, head[q, BITS]) if fresh else 0.0
        bits = _threshold(head, q, mass, level, rest_level, blur, guess)
        place = next_head(energy, at, 0, padded, prior, c, tilts, bits) if best > bits else padded
        while place < padded:
            _add(start + place, q, c, states, log_weights, field, b, head, vectors, tail, mean, depth)
            energy[at + place] = np.inf
            place = next_head(energy, at, place, padded, prior, c, tilts, bits)
    if blur > 0:
        fill(energy, at, at + padded, 0.0)
        return 0.0
    known = DUST * (head[q, REST] + head[q, TAIL]) / head[q, SCALE]
    mass = _tail(energy, at, padded, prior, tilts, c, head[q, WHOLE], head[q, ORIGIN], known, tail, q)
    head[q, TAIL] += head[q, SCALE] * mass
    return mass if mass > known else 0.0


@inner
def _threshold(head, q, mass, level, rest_level, blur, guess):  # type: ignore[no-untyped-def]
    """log2 of the weight from which states are head, so that the tail's errors average out.

    The tail's squared weights sum to at most that weight times the rest R, all but r. In the force, their error is one
    part of 1 + R, wanted to `level`; in R itself, one part of R, wanted to `rest_level`.
    """
    bits = head[q, BITS]
    if blur > 0:
        return bits + NEVER - blur
    known = max(head[q, REST] + head[q, TAIL] + mass, np.exp2(guess - bits))
    share = max(np.log2(known), NEVER) if known > 0 else NEVER
    threshold = bits + min(level + 2 * np.log2(1 + known) - share, rest_level + share)
    if mass == 0 and known >= 1:  # from where on it rises with what is known
        head[q, LEAST] = threshold
    return threshold


@inner
def clear(count, head, vectors):  # type: ignore[no-untyped-def]
    for q in range(count):
        for k in range(head.shape[1]):
            head[q, k] = 0.0
        head[q, OWNER], head[q, SCALE] = -1, 1
        for d in range(vectors.shape[2]):
            vectors[q, AWAY, d] = vectors[q, FORCE, d] = 0.0


@inner
def _adopt(n, q, c, states, log_weights, anchor, half_squares, field, b, head, vectors):  # type: ignore[no-untyped-def]
    """Make state n the first reference."""
    origin = half_squares[n]
    for d in range(anchor.size):
        y = np.float64(states[n, d])
        vectors[q, AWAY, d] = y - field[b, d]
        origin += (y - anchor[d]) * (anchor[d] - field[b, d])
    _set_reference(n, q, c * origin + LOG2E * log_weights[n], origin, head)


@inner
def _set_reference(n, q, bits, origin, head):  # type: ignore[no-untyped-def]
    head[q, OWNER], head[q, BITS], head[q, ORIGIN] = n, bits, origin
    head[q, WHOLE] = np.rint(bits)
    head[q, SCALE] = np.exp2(head[q, WHOLE] - bits)
    head[q, LEAST] = -np.inf


@inner
def _add(n, q, c, states, log_weights, field, b, head, vectors, tail, mean, depth):  # type: ignore[no-untyped-def]
    """Add state n to the head, as the new reference if its weight is larger, or as large and n lower."""
    r = np.int64(head[q, OWNER])
    x = 0.0
    for d in range(states.shape[1]):
        s = np.float64(states[n, d]) - np.float64(states[r, d])
        x += s * (0.5 * s + vectors[q, AWAY, d])
    bits = c * x + LOG2E * (log_weights[n] - log_weights[r])
    head[q, HEAD] += 1
    if bits > 0 or (bits == 0 and n < r):
        _move(n, r, q, x, bits, states, field, b, head, vectors, tail, mean, depth)
    elif bits > NEVER:
        w = np.exp2(bits)
        head[q, REST] += w
        head[q, EXCESS] += w * x
        head[q, SQUARE] += w * x * x
        head[q, PARTICIPATION] += w * w
        for d in range(states.shape[1]):
            vectors[q, FORCE, d] += w * (np.float64(states[n, d]) - np.float64(states[r, d]))


@inner
def _move(n, r, q, x, bits, states, field, b, head, vectors, tail, mean, depth):  # type: ignore[no-untyped-def]
    """Make state n the reference: all sums, and the old reference among them, become relative to it."""
    factor, mass = np.exp2(-bits), 1 + head[q, REST]
    head[q, SQUARE] = factor * (head[q, SQUARE] - 2 * x * head[q, EXCESS] + mass * x * x)
    head[q, EXCESS] = factor * (head[q, EXCESS] - mass * x)
    head[q, PARTICIPATION] = factor * factor * (1 + head[q, PARTICIPATION])
    head[q, REST] = factor * mass
    head[q, TAIL] *= factor
    head[q, GRAIN] *= factor * factor
    for d in range(states.shape[1]):
        s = np.float64(states[n, d]) - np.float64(states[r, d])
        vectors[q, FORCE, d] = factor * (vectors[q, FORCE, d] - mass * s)
        vectors[q, AWAY, d] = np.float64(states[n, d]) - field[b, d]
    head[q, MOVES] += 1
    whole = head[q, WHOLE]
    _set_reference(n, q, head[q, BITS] + bits, head[q, ORIGIN] + x, head)
    scalar, step = tail.dtype.type, lanes(tail)
    change, back = splat(scalar(np.exp2(whole - head[q, WHOLE]))), splat(scalar(-x))
    at = q * 4 * step
    m0, m1, m2 = load(tail, at), load(tail, at + step), load(tail, at + 2 * step)
    store(tail, at, change * m0)
    store(tail, at + step, change * fma(back, m0, m1))
    store(tail, at + 2 * step, change * fma(back, m1 + fma(back, m0, m1), m2))
    store(tail, at + 3 * step, change * (change * load(tail, at + 3 * step)))
    for d in range(q * depth, (q + 1) * depth, step):
        store(mean, d, change * load(mean, d))


@inner
def _tail(energy, at, padded, prior, tilts, c, whole, origin, known, tail, q):  # type: ignore[no-untyped-def]
    """Energies become weights 2^(c e - m), or zeros where their sum is no more than `known`; returns the sum."""
    scalar, step = energy.dtype.type, lanes(energy)
    how = weighing(energy, c, whole)
    tiny = splat(scalar(np.exp2(-0.45 * floor(energy))))  # whose square is a normal number
    zero_energy = splat(scalar(origin))
    m0 = splat(scalar(0.0))
    m1, m2, m3 = m0, m0, m0
    for i in range(0, padded, 2 * step):  # two chains at a time
        e, f = minimum(load(energy, at + i), how[3]), minimum(load(energy, at + i + step), how[3])
        w, v = weight_of(e, how, prior, i, tilts), weight_of(f, how, prior, i + step, tilts)
        store(energy, at + i, w)
        store(energy, at + i + step, v)
        x, y = e - zero_energy, f - zero_energy
        wx, vy = w * x, v * y
        large, other = maximum(w, tiny), maximum(v, tiny)
        m0, m1 = m0 + (w + v), m1 + (wx + vy)
        m2, m3 = fma(vy, y, fma(wx, x, m2)), fma(other, other, fma(large, large, m3))
    mass = np.float64(total(m0))
    if mass <= known or mass <= least_sum(energy):
        fill(energy, at, at + padded, 0.0)
    if mass <= least_sum(energy):
        return 0.0
    at = q * 4 * step
    store(tail, at, load(tail, at) + m0)
    store(tail, at + step, load(tail, at + step) + m1)
    store(tail, at + 2 * step, load(tail, at + 2 * step) + m2)
    store(tail, at + 3 * step, load(tail, at + 3 * step) + m3)
    return mass


@inner
def close(q, segment, b, anchor, field, head, vectors, tail, mean, depth, dominant, shift, scalars):  # type: ignore[no-untyped-def]
    """Add the tail of a segment to its head, which is put out."""
    dominant[segment, b] = np.int64(head[q, OWNER])
    if head[q, OWNER] < 0:
        return
    scale, step, at = head[q, SCALE], lanes(tail), q * 4 * lanes(tail)
    mass = scale * total(load(tail, at))
    head[q, TAIL] = mass
    head[q, REST] += mass
    head[q, EXCESS] += scale * total(load(tail, at + step))
    head[q, SQUARE] += scale * total(load(tail, at + 2 * step))
    head[q, PARTICIPATION] += scale * scale * total(load(tail, at + 3 * step))
    for d in range(anchor.size):
        origin = vectors[q, AWAY, d] - (anchor[d] - field[b, d])
        vectors[q, FORCE, d] += scale * mean[np.uint64(q * depth + d)] - mass * origin
    for k in range(SCALARS):
        scalars[segment, b, k] = head[q, k]
    for d in range(anchor.size):
        shift[segment, b, d] = vectors[q, FORCE, d]
