"""Whether screening will leave few enough states, judged by the first part of them."""

import numpy as np

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.drop import BINS, least
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.sparse import collect

BETTER = np.exp(3.0)  # the weight of the best of all states may be that of the best of the first part times this


@jit
def judge_kernel(low, high, rows, beta, limits, error, lists, single, most):  # type: ignore[no-untyped-def]
    """Give up those of the queries rows[low:high] that would keep more than `most` states of the first part.

    single : whether those that matter least will be dropped.
    """
    index, energy, found, best = lists
    width = index.shape[2]
    chosen, gap, weight = np.empty(width, np.int64), np.empty(width), np.empty(width)
    mass = np.empty(BINS)
    for b in rows[low:high]:
        count, c = collect(index, energy, found, best, limits, b, chosen, gap), -LOG2E * beta[b]
        if count > most and not single:
            found[0, b] = -1
        elif count > most:
            limit, kept = -least(gap, weight, count, c, 2 * error[b] * beta[b] * LOG2E, mass, BETTER) / c, 0
            for i in range(count):
                kept += gap[i] < limit
            if kept > most:
                found[0, b] = -1
