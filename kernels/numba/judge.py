"""How many of the candidates matter: whether screening is worth its while, and what second passes need."""

import numpy as np

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.drop import BINS, DROPPED, DROPPED_REST, least
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.sparse import collect, longest, two_best

BETTER = np.exp(3.0)  # the weight of the best of all states may be that of the best of the first part times this
SECOND_REST = 1e-6  # weights that second passes may leave, relative to all but the largest


@jit
def judge_kernel(low, high, rows, beta, limits, error, lists, single, most):  # type: ignore[no-untyped-def]
    """Give up those of the queries rows[low:high] that would keep more than `most` states of the first part.

    single : whether those that matter least will be dropped.
    """
    index, energy, found, best = lists
    width = index.shape[2]
    chosen, gap, weight, mass = np.empty(width, np.int64), np.empty(width), np.empty(width), np.empty(BINS)
    for b in rows[low:high]:
        count, c = collect(index, energy, found, best, limits, b, chosen, gap), -LOG2E * beta[b]
        if count > most and single:
            slack, kept = 2 * error[b] * beta[b] * LOG2E, 0
            cut = least(gap, weight, count, c, slack, mass, 0.0, DROPPED * BETTER, DROPPED_REST)
            for i in range(count):
                kept += gap[i] < -cut / c
            count = kept
        if count > most:
            found[0, b] = -1


@jit
def tighten_kernel(low, high, beta, limits, error, lists, few):  # type: ignore[no-untyped-def]
    """Lower the limits of queries [low, high) to what second passes need."""
    index, energy, found, best = lists
    size = longest(found, few, low, high)
    chosen, gap, weight, mass = np.empty(size, np.int64), np.empty(size), np.empty(size), np.empty(BINS)
    for b in range(low, high):
        if few[b]:
            count, c = collect(index, energy, found, best, limits, b, chosen, gap), -LOG2E * beta[b]
            slack = 2 * error[b] * beta[b] * LOG2E
            cut = least(gap, weight, count, c, slack, mass, 1.0, np.inf, SECOND_REST * np.exp2(-slack))
            if cut < BINS:
                first, second = two_best(best, b)
                limits[b, 1] = -cut / c
                limits[b, 0] = limits[b, 1] - (second - first)
