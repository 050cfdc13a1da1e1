"""The loops that every kernel shares: energies relative to the reference state, weights, weighted sums of states.

Four states at a time: a query's reference and field are loaded once for the four, and so is the sum they go into.
"""

import numpy as np

from fastthermo.kernels.numba.compile import jit

NEGLIGIBLE = -690.0  # e^-690 = 2e-300: weights below are dropped before they become denormal


@jit
def set_reference(state, field, reference, pull):  # type: ignore[no-untyped-def]
    """y_r and g = y_r - h."""
    for d in range(field.size):
        reference[d] = np.float64(state[d])
        pull[d] = reference[d] - field[d]


@jit
def relative_energies(states, low, high, reference, pull, energy):  # type: ignore[no-untyped-def]
    """H~_n - H~_r = sum_d t (t/2 + g), t = y_n - y_r and g = y_r - h, for n in [low, high). # (high - low,)"""
    n = low
    while n + 4 <= high:
        y0, y1, y2, y3 = states[n], states[n + 1], states[n + 2], states[n + 3]
        e0 = e1 = e2 = e3 = 0.0
        for d in range(reference.size):
            r, g = reference[d], pull[d]
            t0 = np.float64(y0[d]) - r
            t1 = np.float64(y1[d]) - r
            t2 = np.float64(y2[d]) - r
            t3 = np.float64(y3[d]) - r
            e0 += t0 * (0.5 * t0 + g)
            e1 += t1 * (0.5 * t1 + g)
            e2 += t2 * (0.5 * t2 + g)
            e3 += t3 * (0.5 * t3 + g)
        energy[n - low], energy[n - low + 1], energy[n - low + 2], energy[n - low + 3] = e0, e1, e2, e3
        n += 4
    while n < high:
        e0 = 0.0
        for d in range(reference.size):
            t0 = np.float64(states[n, d]) - reference[d]
            e0 += t0 * (0.5 * t0 + pull[d])
        energy[n - low] = e0
        n += 1


@jit
def tile_weights(states, log_weights, low, high, dominant, beta, norm, reference, pull, energy, weight):  # type: ignore[no-untyped-def]
    """For n in [low, high): H~_n - H~_r into `energy`, w_n into `weight` (0 where negligible). # (high - low,)"""
    relative_energies(states, low, high, reference, pull, energy)
    for i in range(high - low):
        logit = log_weights[low + i] - log_weights[dominant] - beta * energy[i]
        weight[i] = np.exp(logit) / norm if logit > NEGLIGIBLE else 0.0


@jit
def add_weighted(states, low, high, weight, kept, reference, out):  # type: ignore[no-untyped-def]
    """out += sum over n in [low, high) of weight_n (y_n - y_r); `kept` is scratch for the states that have weight."""
    count = 0
    for i in range(high - low):
        if weight[i] != 0:
            kept[count] = i
            count += 1
    k = 0
    while k + 4 <= count:
        i0, i1, i2, i3 = kept[k], kept[k + 1], kept[k + 2], kept[k + 3]
        y0, y1, y2, y3 = states[low + i0], states[low + i1], states[low + i2], states[low + i3]
        w0, w1, w2, w3 = weight[i0], weight[i1], weight[i2], weight[i3]
        for d in range(reference.size):
            r = reference[d]
            out[d] += (
                w0 * (np.float64(y0[d]) - r)
                + w1 * (np.float64(y1[d]) - r)
                + w2 * (np.float64(y2[d]) - r)
                + w3 * (np.float64(y3[d]) - r)
            )
        k += 4
    while k < count:
        i0 = kept[k]
        for d in range(reference.size):
            out[d] += weight[i0] * (np.float64(states[low + i0, d]) - reference[d])
        k += 1
