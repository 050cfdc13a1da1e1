"""How many of the candidates matter: whether screening is worth its while, and what second passes need."""

import numpy as np

from fastthermo.kernels.numba.codes import PANEL
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.drop import BINS, DROPPED, DROPPED_REST, least
from fastthermo.kernels.numba.matrix import arrange, configure, release, scratch
from fastthermo.kernels.numba.octets import project
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.simd import (
    fma,
    lanes,
    load,
    load_as,
    minimum,
    smallest,
    splat,
    store,
    total,
    where_less,
)
from fastthermo.kernels.numba.sparse import collect, longest, two_best

BETTER = np.exp(3.0)  # the weight of the best of all states may be that of the best of the judged times this
SECOND_REST = 1e-6  # weights that second passes may leave, relative to all but the largest


@jit
def judge_kernel(  # type: ignore[no-untyped-def]
    low, high, states, probes, beta, limits, error, block, stride, single, most, zero, digits, rows, matrix, worthwhile
):
    """Whether queries would keep no more than `most` states of every stride-th panel; tasks are blocks of queries.

    single : whether those that matter least will be dropped.
    """
    codes, half, priors = states
    bytes_, starts, scale, offset = probes
    left, products = scratch(matrix, block, bytes_, starts)
    taken = (codes.shape[0] + stride - 1) // stride
    width = taken * PANEL
    energy, own_prior = aligned(block * width, zero), aligned(width, zero)
    gap, weight = np.empty(width), np.empty(width)
    for i in range(width):
        own_prior[i] = priors[i // PANEL * stride * PANEL + i % PANEL]
    configure(matrix)
    for task in range(low, high):
        begin = task * block
        count = min(block, len(beta) - begin)
        arrange(matrix, bytes_, begin, count, left)
        for i in range(taken):
            n = i * stride * PANEL
            project(
                codes, n, PANEL, bytes_, starts, scale, offset, begin, count, half, n, energy, i * PANEL, width, digits,
                rows, matrix, left, products,
            )  # fmt: skip
        for q in range(count):
            b = begin + q
            c = -LOG2E * beta[b]
            _set_gaps(energy, q * width, own_prior, 1 / c, limits[b, 0], limits[b, 1], gap)
            kept = _below(gap, np.inf)
            if kept > most and single and _below(gap, np.log2(DROPPED * BETTER) / c) <= most:  # others surely stay
                slack = 2 * error[b] * beta[b] * LOG2E
                kept = _below(gap, -least(gap, weight, width, c, slack, 0.0, DROPPED * BETTER, DROPPED_REST) / c)
            worthwhile[b] = kept <= most
    release(matrix)


@inner
def _set_gaps(energy, at, prior, tilt, second, least, gap):  # type: ignore[no-untyped-def]
    """Energies less log(phi) / beta relative to the least, infinite where they do not matter; see `screen._limits`."""
    step, scale, none = lanes(energy), splat(np.float32(tilt)), splat(np.float32(np.inf))
    for i in range(0, prior.size, step):
        store(energy, at + i, fma(scale, load(prior, i), load(energy, at + i)))
    best = none
    for i in range(0, prior.size, step):
        best = minimum(best, load(energy, at + i))
    first = smallest(best)
    best, lowest = none, splat(first)
    for i in range(0, prior.size, step):
        e = load(energy, at + i)
        best = minimum(best, where_less(lowest, e, e, none))
    bound, origin = splat(np.float64(max(smallest(best) + second, first + least))), splat(np.float64(first))
    for i in range(0, prior.size, lanes(gap)):
        e = load_as(energy, at + i, gap)
        store(gap, i, where_less(e, bound, e - origin, splat(np.inf)))


@inner
def _below(gap, limit):  # type: ignore[no-untyped-def]
    """How many gaps are."""
    where, one, none = splat(np.float64(limit)), splat(1.0), splat(0.0)
    count = none
    for i in range(0, gap.size, lanes(gap)):
        count += where_less(load(gap, i), where, one, none)
    return total(count)


@jit
def tighten_kernel(low, high, beta, limits, error, lists, few):  # type: ignore[no-untyped-def]
    """Lower the limits of queries [low, high) to what second passes need."""
    index, energy, found, best = lists
    size = longest(found, few, low, high)
    chosen, gap, weight = np.empty(size, np.int64), np.empty(size), np.empty(size)
    for b in range(low, high):
        if few[b]:
            count, c = collect(index, energy, found, best, limits, b, chosen, gap), -LOG2E * beta[b]
            slack = 2 * error[b] * beta[b] * LOG2E
            cut = least(gap, weight, count, c, slack, 1.0, np.inf, SECOND_REST * np.exp2(-slack))
            if cut < BINS:
                first, second = two_best(best, b)
                limits[b, 1] = -cut / c
                limits[b, 0] = limits[b, 1] - (second - first)
