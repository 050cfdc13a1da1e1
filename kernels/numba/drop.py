"""Candidates whose weights sum to next to nothing: out of the force, not out of the moments of the energy."""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.exponential import exp2
from fastthermo.kernels.numba.head import EXCESS, PARTICIPATION, REST, SQUARE, TAIL
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.simd import lanes, load, splat, store

DROPPED, DROPPED_REST = 1e-7, 1e-5  # weights without a force: their sum, relative to the largest and to all others
BINS = 64  # of log2 of weights


@inner
def least(gap, weight, count, c, slack, mass, own, of_largest, of_rest):  # type: ignore[no-untyped-def]
    """The number of bits below the largest weight from which on the weights sum to next to nothing, BINS for none.

    gap : as in `drop`, known to `slack` bits; own : the weight of the largest that is not of the rest, 1 or 0;
    of_largest, of_rest : what is next to nothing; mass, weight : scratch, left with the weights.
    """
    step = lanes(weight)
    if slack > BINS / 4:
        return BINS
    for i in range(count, (count + step - 1) // step * step):
        gap[i] = np.inf
    scale = splat(c)
    for i in range(0, count, step):
        store(weight, i, exp2(scale * load(gap, i)))
    mass[:] = 0.0
    rest = -own
    for i in range(count):
        mass[min(BINS - 1, np.int64(-c * gap[i]))] += weight[i]
        rest += weight[i]
    allowed = min(of_largest * np.exp2(-slack), of_rest * max(rest, 0.0))
    cut, sum_ = BINS, 0.0
    while cut > 1 and sum_ + mass[cut - 1] <= allowed:
        cut -= 1
        sum_ += mass[cut]
    return cut if sum_ > 0 else BINS


@inner
def drop(chosen, gap, weight, count, c, beta, margin, log_weights, r, mass, lost):  # type: ignore[no-untyped-def]
    """Leave the states whose weights sum to next to nothing; returns how many remain.

    gap : screened energies less log(phi) / beta, relative to those of r, wrong by `margin`; lost : sum of the weights
    left, of their H~ - H~_r and its square.
    """
    cut = least(gap, weight, count, c, margin * beta * LOG2E, mass, 1.0, DROPPED, DROPPED_REST)
    if cut == BINS:
        return count
    limit, prior, kept = -cut / c, log_weights[r], 0
    for i in range(count):
        if gap[i] < limit:
            chosen[kept], gap[kept] = chosen[i], gap[i]
            kept += 1
        else:
            x = gap[i] + (log_weights[chosen[i]] - prior) / beta
            lost[0] += weight[i]
            lost[1] += weight[i] * x
            lost[2] += weight[i] * x * x
    return kept


@inner
def add_lost(lost, change, c, prior, b, scalars):  # type: ignore[no-untyped-def]
    """Add what `drop` left, relative to a state whose energy was `change` more than the reference's is, to moments."""
    factor = np.exp2(c * change + LOG2E * prior)
    mass = factor * lost[0]
    excess = factor * (lost[1] + change * lost[0])
    square = factor * (lost[2] + change * (2 * lost[1] + change * lost[0]))
    old, new = 1 + scalars[b, REST], 1 + scalars[b, REST] + mass
    scalars[b, REST] += mass
    scalars[b, EXCESS] = (scalars[b, EXCESS] * old + excess) / new
    scalars[b, SQUARE] = (scalars[b, SQUARE] * old + square) / new
    scalars[b, PARTICIPATION] *= (old / new) ** 2
    scalars[b, TAIL] *= old / new
