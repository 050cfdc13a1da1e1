"""Forces of listed states, for a block of queries a tile of states after the other: rows come from memory once."""

import numpy as np

from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import PARTS
from fastthermo.kernels.numba.differences import push
from fastthermo.kernels.numba.scratch import aligned
from fastthermo.kernels.numba.tile import fill


@inner
def leave(order, start, stop, weight, norm, b, index, energy, found):  # type: ignore[no-untyped-def]
    """The states order[start:stop] of query b and their weights, one part after the other, in place of candidates."""
    width = index.shape[2]
    for part in range(PARTS):
        some = max(0, min(width, stop - start))
        for i in range(some):
            index[part, b, i], energy[part, b, i] = order[start + i], norm * weight[start + i]
        found[part, b] = some
        start += some


@jit
def push_kernel(low, high, states, tile, block, lists, few, zero, dominant, shift):  # type: ignore[no-untyped-def]
    """Add what `leave` left to the shift of blocks [low, high) of queries."""
    index, weight, found = lists
    size, dimension = states.shape
    force = aligned(block * dimension, zero)
    part, place = np.empty(block, np.int64), np.empty(block, np.int64)  # where the next state of a query is
    chosen, weights = np.empty(tile, np.int64), aligned(tile, zero)
    for task in range(low, high):
        begin = task * block
        count = min(block, len(few) - begin)
        fill(force, 0, count * dimension, 0.0)
        part[:] = place[:] = 0
        for stop in range(tile, size + tile, tile):
            for q in range(count):
                b, some = begin + q, 0
                if few[b]:
                    part[q], place[q], some = _until(
                        stop, b, part[q], place[q], index, weight, found, chosen, weights
                    )  # fmt: skip
                    push(states, chosen, 0, some, dominant[b], weights, force, q * dimension)
        for q in range(count):
            for d in range(dimension):
                shift[begin + q, d] += force[np.uint64(q * dimension + d)]


@inner
def _until(stop, b, part, place, index, weight, found, chosen, weights):  # type: ignore[no-untyped-def]
    """Take the states of query b below `stop` from its lists; returns the next place, and how many they are."""
    some = 0
    while part < PARTS and place < found[part, b] and index[part, b, place] < stop:
        chosen[some], weights[some] = index[part, b, place], weight[part, b, place]
        some, place = some + 1, place + 1
        if place == index.shape[2]:
            part, place = part + 1, 0
    return part, place, some
