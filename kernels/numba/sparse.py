"""Sums over the candidates of screening, by differences relative to the best of them.

In two tiers, where the force is wanted to 1e-6 only: float64 for the states that weigh more than e^-10 of the
runner-up, float32 for the others, a small part of the sums, whose logits err by about 1e-5. Their forces come last, for
blocks of queries a tile of states at a time, where the states do not fit the cache.
"""

from typing import NamedTuple

import numpy as np
import torch

from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import CACHED_BYTES, LISTED_WORK, PARTS, even_block, listed_tile, query_block
from fastthermo.kernels.numba.differences import differences, push
from fastthermo.kernels.numba.drop import add_lost, drop
from fastthermo.kernels.numba.exponential import exp2
from fastthermo.kernels.numba.head import EXCESS, HEAD, NEVER, PARTICIPATION, REST, SCALARS, SQUARE, TAIL
from fastthermo.kernels.numba.listed import leave, push_kernel
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.sieve import LANES, append, better, reach
from fastthermo.kernels.numba.simd import fma, lanes, largest, load, maximum, splat, store, total, where_less

TIER = 14.0  # bits
ROUGH = 0.5  # error of a float32 logit from which all are float64


class Lists(NamedTuple):
    """Candidates of every part and query."""

    states: np.ndarray  # (PARTS, B, width) int32
    energy: np.ndarray  # (PARTS, B, width) float32
    found: np.ndarray  # (PARTS, B) their number, -1: too many
    best: np.ndarray  # (PARTS, B, 2) the two best energies


def sparse_sums(
    packed: Packed,
    field: np.ndarray,
    beta: np.ndarray,
    limits: np.ndarray,
    error: np.ndarray,
    lists: Lists,
    few: np.ndarray,
    precision: str,
    most: int,
) -> tuple[np.ndarray, ...]:
    """Of the queries that are `few`, and stay so with `most` states: dominant, shift, scalars, energy_min as `dense`,

    the error of the logits of the states that make scalars[TAIL], and a bound of the sum of weights, relative to the
    largest, of the states that have no part in shift. error : of screened energies.
    """
    queries, dimension = field.shape
    dominant, shift = np.zeros(queries, np.int64), np.zeros((queries, dimension))
    scalars, (energy_min, rough, dropped) = np.zeros((queries, SCALARS)), np.zeros((3, queries))
    single = precision == "single" and packed.states.dtype != np.float64
    zero = np.zeros(1, np.float32 if single else np.float64)
    sums = (dominant, shift, scalars, energy_min, rough, dropped)
    later = single and packed.states.nbytes > CACHED_BYTES
    run(
        _sparse_kernel,
        queries,
        16,
        packed.data,
        field,
        beta,
        limits,
        error,
        tuple(lists),
        few,
        most,
        later,
        zero,
        *sums,
    )
    if later:
        rows = lists.found[:, :queries][:, few].sum() / queries  # of a query
        most = min(query_block(dimension, 4), -(-queries // torch.get_num_threads()))
        block = even_block(queries, min(most, int(LISTED_WORK / (rows * dimension + 1))))
        run(
            push_kernel,
            -(-queries // block),
            1,
            packed.states,
            listed_tile(dimension),
            block,
            lists[:3],
            few,
            zero,
            dominant,
            shift,
        )
    return sums if few.all() else tuple(x[few] for x in sums)


@jit
def _sparse_kernel(  # type: ignore[no-untyped-def]
    low, high, data, field, beta, limits, error, lists, few, most, later, zero, dominant, shift, scalars, energy_min,
    rough_error, dropped,
):  # fmt: skip
    """Sums over the candidates of queries [low, high), in the order of the states.

    later : leave the states that are not exact in the lists, with their weights, to `listed.push_kernel`.
    """
    states, log_weights = data[0], data[1]
    index, energy, found, best = lists
    dimension, size = states.shape[1], longest(found, few, low, high)
    chosen, order, close = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    rough_gap, gap, weight = aligned(size, zero), np.empty(size), np.empty(size)
    away, force = np.empty(dimension), np.empty(dimension)
    rough, rough_force = aligned(dimension, zero), aligned(dimension, zero)
    lost = np.empty(3)
    for b in range(low, high):
        if not few[b]:
            continue
        count, r = collect(index, energy, found, best, limits, b, chosen, gap), -1
        for i in range(count):
            if gap[i] == 0 and (r < 0 or chosen[i] < r):
                r = chosen[i]
        c = -LOG2E * beta[b]
        _away(states, r, field, b, away, rough)
        lost[:] = 0.0
        if rough.itemsize == 4:
            count = drop(chosen, gap, weight, count, c, beta[b], 2 * error[b], log_weights, r, lost)
        if count > most:
            few[b] = False
            continue
        if lost[0] > 0:
            dropped[b] = lost[0] * np.exp(2 * error[b] * beta[b])
        exact, limit, before = count, -np.inf, r
        if rough.itemsize == 4:
            prior = log_weights[r]
            if 2 * error[b] * beta[b] < ROUGH:  # screened energies, less log(phi) / beta, will do
                rough_error[b] = 2 * error[b] * beta[b]
                for i in range(count):
                    weight[i] = c * gap[i]
                    rough_gap[i] = gap[i] + (log_weights[chosen[i]] - prior) / beta[b]
            else:
                differences(states, chosen, 0, count, r, rough, rough_gap)
                rough_error[b] = _rough_error(rough_gap, count, c, rough)
                for i in range(count):
                    weight[i] = c * rough_gap[i] + LOG2E * (log_weights[chosen[i]] - prior)
            limit = _tier(weight, count) if rough_error[b] < ROUGH else -np.inf
        if limit > -np.inf:  # the states that matter first
            exact = other = 0
            for i in range(count):
                order[exact], close[other] = chosen[i], i
                some = weight[i] >= limit
                exact, other = exact + some, other + 1 - some
            for i in range(other):
                chosen[i], gap[exact + i] = chosen[close[i]], rough_gap[close[i]]
            order[exact:count] = chosen[:other]
        else:
            order[:count] = chosen[:count]
        r, change = _gaps(r, order, exact, count, states, log_weights, c, away, gap)
        _away(states, r, field, b, away, rough)
        dominant[b] = r
        energy_min[b] = 0.5 * np.dot(away, away)
        _weigh(r, order, exact, count, gap, weight, log_weights, c, b, scalars)
        force[:] = rough_force[:] = 0.0
        push(states, order, 0, exact, r, weight, force, 0)
        if later:
            leave(order, exact, count, weight, 1 / (1 + scalars[b, REST]), b, index, energy, found)
            exact = count
        push(states, order, exact, count, r, weight, rough_force, 0)
        for d in range(dimension):
            shift[b, d] = (force[d] + rough_force[d]) / (1 + scalars[b, REST])
        if lost[0] > 0:
            add_lost(lost, change, c, log_weights[before] - log_weights[r], b, scalars)


@inner
def longest(found, few, low, high):  # type: ignore[no-untyped-def]
    """Candidates of the query of [low, high) that has most of them, and room for whole vectors."""
    most = 0
    for b in range(low, high):
        if few[b]:
            count = 0
            for part in range(PARTS):
                count += found[part, b]
            most = max(most, count)
    return most + 64


@inner
def collect(index, energy, found, best, limits, b, chosen, gap):  # type: ignore[no-untyped-def]
    """Candidates of query b and their screened energies relative to the least; returns how many they are.

    Writes whole vectors.
    """
    least, second = two_best(best, b)
    bound, count = np.float32(reach(least, second, limits, b)), 0
    for part in range(PARTS):
        start = (part * found.shape[1] + b) * index.shape[2]
        for i in range(0, found[part, b], LANES):
            count += append(index, energy, start + i, found[part, b] - i, bound, np.float64(least), chosen, gap, count)
    return count


@inner
def _away(states, r, field, b, away, rough):  # type: ignore[no-untyped-def]
    for d in range(away.size):
        away[d] = np.float64(states[r, d]) - field[b, d]
        rough[d] = away[d]


@inner
def two_best(best, b):  # type: ignore[no-untyped-def]
    """The best and the second best energy of all parts."""
    first = second = np.float32(np.inf)
    for part in range(PARTS):
        for k in range(2):
            first, second = better(first, second, best[part, b, k])
    return first, second


@inner
def _rough_error(gap, count, c, away):  # type: ignore[no-untyped-def]
    """The largest error of the logit of a float32 gap."""
    worst = square = 0.0
    for i in range(count):
        worst = max(worst, gap[i])
    for d in range(away.size):
        square += np.float64(away[d]) ** 2
    reach = np.sqrt(2 * worst + square) + np.sqrt(square)  # at least |s|
    terms = away.size / lanes(away) + lanes(away) + 10  # of a chain, what is left over, and the roundings of s and k
    return -c * (terms * 2.0**-24 * reach * (reach / 2 + np.sqrt(square)))


@inner
def _tier(bits, count):  # type: ignore[no-untyped-def]
    """log2 of the weight from which states are to be exact: that of the runner-up less TIER; fills up a vector."""
    step, least, none, one = lanes(bits), splat(-np.inf), splat(0.0), splat(1.0)
    _fill_up(bits, count, -np.inf)
    best = least
    for i in range(0, count, step):
        best = maximum(best, load(bits, i))
    first = largest(best)
    top, second, equal = splat(first), least, none
    for i in range(0, count, step):
        x = load(bits, i)
        second = maximum(second, where_less(x, top, x, least))
        equal += where_less(x, top, none, one)
    return (first if total(equal) > 1 else largest(second)) - TIER


@inner
def _fill_up(x, count, value):  # type: ignore[no-untyped-def]
    for i in range(count, (count + lanes(x) - 1) // lanes(x) * lanes(x)):
        x[np.uint64(i)] = value


@inner
def _gaps(r, chosen, exact, count, states, log_weights, c, away, gap):  # type: ignore[no-untyped-def]
    """H~ - H~_r of the first `exact`, then of all relative to the state of largest weight, returned.

    Of equal weights the lowest state is taken. Returns H~_r relative to the new one too.
    """
    differences(states, chosen, 0, exact, r, away, gap)
    winner, largest, change = r, 0.0, 0.0
    for i in range(exact):
        bits = c * gap[i] + LOG2E * (log_weights[chosen[i]] - log_weights[r])
        if bits > largest or (bits == largest and chosen[i] < winner):
            winner, largest, change = chosen[i], bits, gap[i]
    for i in range(count):
        gap[i] -= change
    return winner, -change


@inner
def _weigh(r, chosen, exact, count, gap, weight, log_weights, c, b, scalars):  # type: ignore[no-untyped-def]
    """Weights relative to r, whose own is left out, and their moments."""
    prior, step = log_weights[r], lanes(weight)
    for i in range(count):
        n = chosen[np.uint64(i)]
        bits = c * gap[np.uint64(i)] + LOG2E * (log_weights[n] - prior)
        weight[np.uint64(i)] = bits if n != r else 2 * NEVER
    _fill_up(weight, count, 2 * NEVER)
    _fill_up(gap, count, 0.0)
    least, zero = splat(NEVER), splat(0.0)
    rests, excesses, squares_, shares = zero, zero, zero, zero
    for i in range(0, count, step):
        bits, x = load(weight, i), load(gap, i)
        w = where_less(least, bits, exp2(bits), zero)
        store(weight, i, w)
        wx = w * x
        rests, excesses = rests + w, excesses + wx
        squares_, shares = fma(wx, x, squares_), fma(w, w, shares)
    rest, excess, square, squares = total(rests), total(excesses), total(squares_), total(shares)
    tail = 0.0
    for i in range(exact, count):
        tail += weight[np.uint64(i)]
    norm = 1 / (1 + rest)
    scalars[b, REST], scalars[b, EXCESS], scalars[b, SQUARE] = rest, excess * norm, square * norm
    scalars[b, PARTICIPATION], scalars[b, TAIL] = (1 + squares) * norm * norm, tail * norm
    scalars[b, HEAD] = count
