"""Candidates whose weights sum to next to nothing: out of the force, not out of the moments of the energy."""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.exponential import exp2
from fastthermo.kernels.numba.head import EXCESS, PARTICIPATION, REST, SQUARE, TAIL
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.simd import lanes, load, splat, store, total, where_less

DROPPED, DROPPED_REST = 1e-7, 1e-5  # weights without a force: their sum, relative to the largest and to all others
BINS = 64  # bits below the largest weight from which on none are told apart


@inner
def least(gap, weight, count, c, slack, own, of_largest, of_rest):  # type: ignore[no-untyped-def]
    """The number of bits below the largest weight from which on the weights sum to next to nothing, BINS for none.

    gap : as in `drop`, known to `slack` bits; own : the weight of the largest that is not of the rest, 1 or 0;
    of_largest, of_rest : what is next to nothing; weight : left with the weights. Both have room for pairs of vectors.
    """
    step = lanes(weight)
    if slack > BINS / 4:
        return BINS
    for i in range(count, (count + 2 * step - 1) // (2 * step) * 2 * step):
        gap[i] = np.inf
    scale, sum_ = splat(c), splat(0.0)
    for i in range(0, count, 2 * step):
        w, v = exp2(scale * load(gap, i)), exp2(scale * load(gap, i + step))
        store(weight, i, w)
        store(weight, i + step, v)
        sum_ += w + v
    allowed = min(of_largest * np.exp2(-slack), of_rest * max(total(sum_) - own, 0.0))
    too_many, cut = 0, BINS
    while cut - too_many > 1:
        between = (too_many + cut) // 2
        if _beyond(gap, weight, count, -between / c) <= allowed:
            cut = between
        else:
            too_many = between
    return cut if _beyond(gap, weight, count, -cut / c) > 0 else BINS


@inner
def _beyond(gap, weight, count, limit):  # type: ignore[no-untyped-def]
    """The sum of the weights of gaps from `limit` on."""
    step, none, where = lanes(weight), splat(0.0), splat(limit)
    sum_, other = none, none
    for i in range(0, count, 2 * step):
        sum_ += where_less(load(gap, i), where, none, load(weight, i))
        other += where_less(load(gap, i + step), where, none, load(weight, i + step))
    return total(sum_ + other)


@inner
def drop(chosen, gap, weight, count, c, beta, margin, log_weights, r, lost):  # type: ignore[no-untyped-def]
    """Leave the states whose weights sum to next to nothing; returns how many remain.

    gap : screened energies less log(phi) / beta, relative to those of r, wrong by `margin`; lost : sum of the weights
    left, of their H~ - H~_r and its square.
    """
    cut = least(gap, weight, count, c, margin * beta * LOG2E, 1.0, DROPPED, DROPPED_REST)
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
