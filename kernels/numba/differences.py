"""Energies and forces by differences of states, relative to a reference state r: s = y_n - y_r, k = y_r - h."""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.simd import fma, lanes, load, load_as, prefetch, splat, store, total


@inner
def relative(states, n, r, away, at):  # type: ignore[no-untyped-def]
    """H~_n - H~_r = sum of s (s/2 + k), in the dtype of `away`, which holds k from `at` on."""
    scalar, step, dimension = away.dtype.type, lanes(away), states.shape[1]
    whole = dimension // step * step
    half, sums = splat(scalar(0.5)), splat(scalar(0.0))
    for d in range(0, whole, step):
        s = load_as(states, n * dimension + d, away) - load_as(states, r * dimension + d, away)
        sums = fma(s, fma(half, s, load(away, at + d)), sums)
    x = total(sums)
    for d in range(whole, dimension):
        s = scalar(states[n, d]) - scalar(states[r, d])
        x += s * (scalar(0.5) * s + away[np.uint64(at + d)])
    return x


@inner
def differences(states, n, start, stop, r, away, out):  # type: ignore[no-untyped-def]
    """out[i] = `relative` of the state n[i] for start <= i < stop; four at a time share loads of r and k."""
    scalar, step, dimension = away.dtype.type, lanes(away), states.shape[1]
    whole = dimension // step * step
    half, none = splat(scalar(0.5)), splat(scalar(0.0))
    for i in range(start, stop - 3, 4):
        row0, row1, row2, row3 = n[i] * dimension, n[i + 1] * dimension, n[i + 2] * dimension, n[i + 3] * dimension
        sum0, sum1, sum2, sum3 = none, none, none, none
        after = _next(n, i + 4, stop, dimension)
        for d in range(0, whole, step):
            _ask_four(states, after, d)
            y, k = load_as(states, r * dimension + d, away), load(away, d)
            s0, s1 = load_as(states, row0 + d, away) - y, load_as(states, row1 + d, away) - y
            s2, s3 = load_as(states, row2 + d, away) - y, load_as(states, row3 + d, away) - y
            sum0, sum1 = fma(s0, fma(half, s0, k), sum0), fma(s1, fma(half, s1, k), sum1)
            sum2, sum3 = fma(s2, fma(half, s2, k), sum2), fma(s3, fma(half, s3, k), sum3)
        out[i], out[i + 1], out[i + 2], out[i + 3] = total(sum0), total(sum1), total(sum2), total(sum3)
        for j in range(i, i + 4):
            for d in range(whole, dimension):
                s = scalar(states[n[j], d]) - scalar(states[r, d])
                out[j] += s * (scalar(0.5) * s + away[np.uint64(d)])
    for i in range(start + (stop - start) // 4 * 4, stop):
        out[i] = relative(states, n[i], r, away, 0)


@inner
def ask(states, n, i, count):  # type: ignore[no-untyped-def]
    """Ask for the row of the state n[i], if i < count."""
    if i < count:
        dimension = states.shape[1]
        for d in range(0, dimension, 64 // states.itemsize):
            prefetch(states, n[i] * dimension + d)


@inner
def _next(n, i, stop, dimension):  # type: ignore[no-untyped-def]
    """Where the rows of the states n[i] .. n[i + 3] begin, at last that of n[stop - 1]."""
    last = stop - 1
    a, b, c, d = n[min(i, last)], n[min(i + 1, last)], n[min(i + 2, last)], n[min(i + 3, last)]
    return a * dimension, b * dimension, c * dimension, d * dimension


@inner
def _ask_four(states, rows, d):  # type: ignore[no-untyped-def]
    prefetch(states, rows[0] + d)
    prefetch(states, rows[1] + d)
    prefetch(states, rows[2] + d)
    prefetch(states, rows[3] + d)


@inner
def push(states, n, start, stop, r, weights, force, at):  # type: ignore[no-untyped-def]
    """Add the sum of weights[i] s over the states n[i] for start <= i < stop to `force` from `at` on."""
    scalar, step, dimension = force.dtype.type, lanes(force), states.shape[1]
    whole = dimension // step * step
    for i in range(start, stop - 3, 4):
        row0, row1, row2, row3 = n[i] * dimension, n[i + 1] * dimension, n[i + 2] * dimension, n[i + 3] * dimension
        w0, w1 = splat(scalar(weights[i])), splat(scalar(weights[i + 1]))
        w2, w3 = splat(scalar(weights[i + 2])), splat(scalar(weights[i + 3]))
        for d in range(0, whole, step):
            y = load_as(states, r * dimension + d, force)
            f0 = fma(w0, load_as(states, row0 + d, force) - y, load(force, at + d))
            f1 = (load_as(states, row1 + d, force) - y) * w1
            f0 = fma(w2, load_as(states, row2 + d, force) - y, f0)
            f1 = fma(w3, load_as(states, row3 + d, force) - y, f1)
            store(force, at + d, f0 + f1)
        for j in range(i, i + 4):
            for d in range(whole, dimension):
                force[np.uint64(at + d)] += scalar(weights[j]) * (scalar(states[n[j], d]) - scalar(states[r, d]))
    for i in range(start + (stop - start) // 4 * 4, stop):
        w = splat(scalar(weights[i]))
        for d in range(0, whole, step):
            s = load_as(states, n[i] * dimension + d, force) - load_as(states, r * dimension + d, force)
            store(force, at + d, fma(w, s, load(force, at + d)))
        for d in range(whole, dimension):
            force[np.uint64(at + d)] += scalar(weights[i]) * (scalar(states[n[i], d]) - scalar(states[r, d]))
