"""A tile of states: its layout, energies by products, the search for states that matter, weights."""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.config import DEPTH
from fastthermo.kernels.numba.exponential import exp2_product, exp2_shifted
from fastthermo.kernels.numba.multiply import multiply, multiply_onto, transpose, width
from fastthermo.kernels.numba.scratch import LOG2E, floor, least_sum, magic
from fastthermo.kernels.numba.simd import (
    equal,
    fma,
    lanes,
    largest,
    less,
    load,
    load_as,
    maximum,
    minimum,
    smallest,
    splat,
    store,
    total,
    where_less,
)

STREAMS = 8  # rows of states read side by side, each from its begin to its end, as memory is fastest; padding has more


@inner
def load_tile(states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior):  # type: ignore[no-untyped-def]
    """t of a tile, as panels of dimensions (for means) and of states (for energies); returns the padded count."""
    dimension, wide, tile = anchor.size, width(centred), half.size
    lane = wide // 2
    padded = (n + wide - 1) // wide * wide
    whole = dimension // lane * lane
    for first in range(0, padded, STREAMS):
        for d in range(0, whole, lane):
            a, at = load_as(anchor, d, centred), d // wide * wide * tile + d % wide
            for i in range(first, first + STREAMS):
                row = start + min(i, n - 1)
                store(centred, at + i * wide, load_as(states, row * dimension + d, centred) - a)
    for d in range(whole, depth):
        at = d // wide * wide * tile + d % wide
        for i in range(padded):
            value = np.float64(states[start + min(i, n - 1), d]) - anchor[d] if d < dimension else 0.0
            centred[np.uint64(at + i * wide)] = value
    for i in range(padded):
        half[i] = half_squares[start + i] if i < n else np.inf
        prior[i] = LOG2E * log_weights[start + min(i, n - 1)]
    for i in range(0, padded, lane):
        column = i // wide * wide * depth + i % wide
        for d in range(0, depth, lane):
            transpose(centred, d // wide * wide * tile + i * wide + d % wide, wide, panel, column + d * wide, wide)
    return padded


@inner
def products(left, at, depth, dimension, count, panel, padded, base, out, to, tile):  # type: ignore[no-untyped-def]
    """base + t.g of every query and state of a tile, in chains of DEPTH; `left` begins at `at`, `out` at `to`.

    base : of every state of the tile.
    """
    wide = width(panel)
    for j in range(0, padded, wide):
        place, x = j * depth, to + j
        steps = min(DEPTH, dimension)
        multiply_onto(left, at, depth, count, panel, place, steps, base, j, 0, out, x, tile)
        for d in range(DEPTH, dimension, DEPTH):
            steps = min(DEPTH, dimension - d)
            multiply(left, at + d, depth, count, panel, place + d * wide, steps, out, x, tile)


@inner
def extreme(energy, at, padded, prior, c, tilts):  # type: ignore[no-untyped-def]
    """The least energy or, if `tilts`, the largest log2 of a weight."""
    step, scalar = lanes(energy), energy.dtype.type
    best = splat(scalar(-np.inf if len(tilts) > 0 else np.inf))
    scale = splat(scalar(c))
    for i in range(0, padded, step):
        e = load(energy, at + i)
        if len(tilts) > 0:  # noqa: SIM108
            best = maximum(best, fma(scale, e, load(prior, i)))
        else:
            best = minimum(best, e)
    return largest(best) if len(tilts) > 0 else smallest(best)


@inner
def next_head(energy, at, place, padded, prior, c, tilts, bits):  # type: ignore[no-untyped-def]
    """The first place from `place` on whose weight is above 2^bits, or `padded`."""
    step, limit = lanes(energy), splat(energy.dtype.type(bits if len(tilts) > 0 else -bits / c))
    scale = splat(energy.dtype.type(c if len(tilts) > 0 else -1.0))
    i = place // step * step
    while i < padded:
        mask = less(limit, _bits(load(energy, at + i), scale, prior, i, tilts))
        if mask != 0:
            while mask & 1 == 0:
                mask >>= 1
                i += 1
            return i
        i += step
    return padded


@inner
def find(energy, at, padded, raw, prior, c, tilts):  # type: ignore[no-untyped-def]
    """The first place of what `extreme` returned."""
    step, scalar = lanes(energy), energy.dtype.type
    target, scale, place = splat(raw), splat(scalar(c if len(tilts) > 0 else 1.0)), 0
    mask = equal(_bits(load(energy, at), scale, prior, 0, tilts), target)
    while mask == 0 and place + step < padded:
        place += step
        mask = equal(_bits(load(energy, at + place), scale, prior, place, tilts), target)
    while mask != 0 and mask & 1 == 0:
        mask >>= 1
        place += 1
    return place


@inner
def _bits(energy, scale, prior, i, tilts):  # type: ignore[no-untyped-def]
    """scale e + log2(phi), or scale e."""
    return fma(scale, energy, load(prior, i)) if len(tilts) > 0 else scale * energy


@inner
def weighing(energy, c, whole):  # type: ignore[no-untyped-def]
    """What `weight_of` takes for weights relative to 2^whole."""
    scalar = energy.dtype.type
    least = whole - floor(energy)
    return (
        splat(scalar(c)),
        splat(scalar(magic(energy) - whole)),
        splat(scalar(least)),
        splat(scalar((least - 1) / c)),  # which stands for infinity, too: a bit beyond what rounding may reach
        splat(scalar(0.0)),
    )


@inner
def weight_of(energy, how, prior, i, tilts):  # type: ignore[no-untyped-def]
    """2^(c e + log2(phi) - m), or 0 below 2^-floor: products of smaller numbers are subnormal, and slow."""
    scale, shifted, least, top, zero = how
    if len(tilts) > 0:
        z = maximum(fma(scale, energy, load(prior, i)), least)
        return where_less(least, z, exp2_shifted(z, shifted), zero)
    return where_less(energy, top, exp2_product(scale, energy, shifted), zero)


@inner
def mass_of(energy, at, padded, prior, tilts, c, bits):  # type: ignore[no-untyped-def]
    """Sum of the weights of a tile relative to the reference, or the largest where the sum is below the dtype."""
    step, scalar = lanes(energy), energy.dtype.type
    whole = np.rint(bits)
    how = weighing(energy, c, whole)
    sum_, best = splat(scalar(0.0)), splat(scalar(-np.inf))
    scale = splat(scalar(c))
    for i in range(0, padded, step):
        e = load(energy, at + i)
        best = maximum(best, _bits(e, scale, prior, i, tilts))
        sum_ += weight_of(minimum(e, how[3]), how, prior, i, tilts)
    mass = np.float64(total(sum_))
    return np.exp2(whole - bits) * mass if mass > least_sum(energy) else np.exp2(np.float64(largest(best)) - bits)


@inner
def fill(x, start, stop, value):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        x[np.uint64(i)] = value
