"""Sums of segments into sums of all states, relative to the best of their references."""

import numpy as np

from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.head import EXCESS, GRAIN, HEAD, MOVES, PARTICIPATION, REST, SCALARS, SQUARE, TAIL
from fastthermo.kernels.numba.scratch import LOG2E


@jit
def merge_kernel(low, high, data, field, beta, dominant, shift, scalars, energy_min):  # type: ignore[no-untyped-def]
    """Merge the segments of queries [low, high) into the first, in their order, and normalise."""
    states, log_weights = data[0], data[1]
    away = np.empty(states.shape[1])
    for b in range(low, high):
        for segment in range(1, len(dominant)):
            if dominant[segment, b] >= 0:
                if dominant[0, b] >= 0:
                    _merge(segment, b, states, log_weights, field, beta, dominant, shift, scalars, away)
                else:
                    dominant[0, b] = dominant[segment, b]
                    for k in range(SCALARS):
                        scalars[0, b, k] = scalars[segment, b, k]
                    for d in range(states.shape[1]):
                        shift[0, b, d] = shift[segment, b, d]
        scale = 1 / (1 + scalars[0, b, REST])
        for k in (EXCESS, SQUARE, TAIL):
            scalars[0, b, k] *= scale
        scalars[0, b, GRAIN] *= scale * scale
        scalars[0, b, PARTICIPATION] = (1 + scalars[0, b, PARTICIPATION]) * scale * scale
        square = 0.0
        for d in range(states.shape[1]):
            shift[0, b, d] *= scale
            square += (np.float64(states[dominant[0, b], d]) - field[b, d]) ** 2
        energy_min[b] = 0.5 * square


@inner
def _merge(segment, b, states, log_weights, field, beta, dominant, shift, scalars, away):  # type: ignore[no-untyped-def]
    """Merge the sums of a segment into those of the first, relative to the better of their references."""
    old, r, dimension = dominant[0, b], dominant[segment, b], states.shape[1]
    x = 0.0
    for d in range(dimension):  # on its own, lest (s/2 + y) - h be taken
        away[d] = np.float64(states[old, d]) - field[b, d]
    for d in range(dimension):
        s = np.float64(states[r, d]) - np.float64(states[old, d])
        x += s * (0.5 * s + away[d])
    bits = -LOG2E * beta[b] * x + LOG2E * (log_weights[r] - log_weights[old])
    keep = bits <= 0  # of equal ones the lower stays
    mine, other = (1.0, np.exp2(bits)) if keep else (np.exp2(-bits), 1.0)
    joined = other if keep else mine  # the weight of the reference that is one no more
    to_mine, to_other = (0.0, x) if keep else (-x, 0.0)  # energies of the two references relative to the new one
    m, o, a, c = 1 + scalars[0, b, REST], 1 + scalars[segment, b, REST], scalars[0, b], scalars[segment, b]
    move = other * o if keep else -mine * m
    for d in range(dimension):
        s = np.float64(states[r, d]) - np.float64(states[old, d])
        shift[0, b, d] = mine * shift[0, b, d] + other * shift[segment, b, d] + move * s
    other_square = c[SQUARE] + to_other * (2 * c[EXCESS] + o * to_other)
    a[SQUARE] = mine * (a[SQUARE] + to_mine * (2 * a[EXCESS] + m * to_mine)) + other * other_square
    a[EXCESS] = mine * (a[EXCESS] + m * to_mine) + other * (c[EXCESS] + o * to_other)
    a[PARTICIPATION] = mine**2 * a[PARTICIPATION] + other**2 * c[PARTICIPATION] + joined**2
    a[GRAIN] = mine**2 * a[GRAIN] + other**2 * c[GRAIN]
    a[REST] = mine * a[REST] + other * c[REST] + joined
    a[TAIL] = mine * a[TAIL] + other * c[TAIL]
    a[HEAD] += c[HEAD]
    a[MOVES] += c[MOVES] + 1
    if not keep:
        dominant[0, b] = r
