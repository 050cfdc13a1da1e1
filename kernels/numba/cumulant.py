"""sum w a_1 .. a_K (y - m) and the same with H~ - <H~>, for a_k = v_k.(y - m) + u_k (H~ - <H~>)."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import PARTS, SEGMENT, SEGMENT_BYTES
from fastthermo.kernels.numba.differences import ask
from fastthermo.kernels.numba.multiply import multiply
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.second import by_candidates, subset, weights_of
from fastthermo.kernels.numba.simd import fma, lanes, load, splat, store, total
from fastthermo.kernels.numba.tile import fill, load_tile, products
from fastthermo.kernels.numba.weigh import NORM, arguments, deviation, start_block, weigh


def cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str = "double",
) -> tuple[torch.Tensor, torch.Tensor]:
    out, out_energy = torch.empty(tuple(field.shape), dtype=torch.float64), torch.empty(len(field), dtype=torch.float64)
    probed = (as_array(sums.excess), as_array(probes), as_array(energy_probes))
    found = (out.numpy(), out_energy.numpy()[:, None])
    left = by_candidates(_few_kernel, packed, field, beta, sums, precision, probed, found)
    if left.all():
        return _by_products(packed, field, beta, sums, probes, energy_probes, precision)
    if left.any():
        h, b, v, u, part = subset(left, sums, field, beta, probes, energy_probes)
        where = torch.from_numpy(left)
        out[where], out_energy[where] = _by_products(packed, h, b, part, v, u, precision)
    return out, out_energy


def _by_products(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    segments = -(-len(packed.states) // SEGMENT)
    most = max(1, SEGMENT_BYTES // (segments * field.shape[1] * 8))
    out, out_energy = torch.empty(tuple(field.shape), dtype=torch.float64), torch.empty(len(field), dtype=torch.float64)
    for first in range(0, len(field), most):
        rows = slice(first, first + most)
        part = Sums(*(None if x is None else x[rows] for x in sums))
        given = arguments(packed, field[rows], beta[rows], part, precision, 1)
        block, queries = given[2], len(given[3])
        vector, energy = np.empty((segments, queries, field.shape[1])), np.empty((segments, queries))
        rest = (as_array(part.shift), as_array(part.excess), as_array(probes[rows]), as_array(energy_probes[rows]))
        run(_cumulant_kernel, segments * -(-queries // block), 1, *given, *rest, vector, energy)
        out[rows], out_energy[rows] = torch.from_numpy(vector.sum(0)), torch.from_numpy(energy.sum(0))
    return out, out_energy


@jit
def _few_kernel(  # type: ignore[no-untyped-def]
    low, high, states, log_weights, field, beta, few, limits, lists, dominant, log_rest, shift, excess, probes,
    energy_probes, out, out_energy,
):  # fmt: skip
    """For queries [low, high) that have few candidates."""
    index, energy, found, best = lists
    most, dimension = PARTS * index.shape[2], states.shape[1]
    chosen, weight, gap = np.empty(most, np.int64), np.empty(most), np.empty(most)
    away, delta = np.empty(dimension), np.empty(dimension)
    for b in range(low, high):
        if few[b]:
            r = dominant[b]
            count = weights_of(
                states, log_weights, field, beta, limits, index, energy, found, best, b, r, log_rest[b], away, chosen,
                weight, gap,
            )  # fmt: skip
            out[b], out_energy[b] = 0.0, 0.0
            norm = 1 / (1 + np.exp(log_rest[b]))
            _add_dominant(b, shift, excess, probes, energy_probes, norm, out[b], out_energy[b])
            for i in range(count):
                ask(states, chosen, i + 2, count)
                deviation(chosen[i], r, b, states, shift, delta)
                _add_head(weight[i], gap[i] - excess[b], delta, b, probes, energy_probes, out[b], out_energy[b])


@jit
def _cumulant_kernel(  # type: ignore[no-untyped-def]
    low,
    high,
    data,
    tile,
    block,
    field,
    beta,
    level,
    blur,
    dominant,
    log_rest,
    tilts,
    zero,
    shift,
    excess,
    probes,
    energy_probes,
    out,
    out_energy,
):
    """Shares of the segments, for tasks [low, high) as in `dense.dense_kernel`."""
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    queries, orders, lane = field.shape[0], probes.shape[1], lanes(zero)
    depth = (dimension + 2 * lane - 1) // (2 * lane) * (2 * lane)
    centred, panel = aligned(depth * tile, zero), aligned(depth * tile, zero)
    pull, mean = aligned(block * depth, zero), aligned(block * depth, zero)
    probe, projection = aligned(orders * block * depth, zero), aligned(orders * block * tile, zero)
    energy, gap = aligned(block * tile, zero), aligned(block * tile, zero)
    half, prior = aligned(tile, zero), aligned(tile, zero)
    about, away = np.empty((block, 6)), np.empty((block, dimension))
    at_mean, sums = np.empty((block, orders)), np.empty(block)
    places, weights, gaps, delta = np.empty(tile, np.int64), np.empty(tile), np.empty(tile), np.empty(dimension)
    segments = (size + SEGMENT - 1) // SEGMENT
    for task in range(low, high):
        segment, begin = task % segments, task // segments * block
        count, last = min(block, queries - begin), min(size, (segment + 1) * SEGMENT)
        fill(mean, 0, count * depth, 0.0)
        start_block(begin, count, data, field, beta, level, blur, dominant, log_rest, depth, pull, about, away)
        for q in range(count):
            b = begin + q
            sums[q] = out_energy[segment, b] = 0.0
            for d in range(dimension):
                out[segment, b, d] = 0.0
            for k in range(orders):
                at_mean[q, k] = 0.0
                for d in range(dimension):
                    probe[np.uint64((k * block + q) * depth + d)] = probes[b, k, d]
                    at_mean[q, k] += probes[b, k, d] * (away[q, d] + field[b, d] - anchor[d] + shift[b, d])
            if segment == 0:
                _add_dominant(
                    b, shift, excess, probes, energy_probes, about[q, NORM], out[0, b], out_energy[0, b : b + 1]
                )
        for start in range(segment * SEGMENT, last, tile):
            n = min(tile, last - start)
            padded = load_tile(states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior)
            products(pull, 0, depth, dimension, count, panel, padded, energy, 0, tile)
            for k in range(orders):
                products(
                    probe, k * block * depth, depth, dimension, count, panel, padded, projection, k * block * tile, tile
                )
            for q in range(count):
                b, at, c = begin + q, q * tile, -LOG2E * beta[begin + q]
                heads = weigh(
                    energy,
                    gap,
                    at,
                    q,
                    dominant[b],
                    c,
                    start,
                    n,
                    padded,
                    half,
                    prior,
                    tilts,
                    states,
                    log_weights,
                    about,
                    away,
                    places,
                    weights,
                    gaps,
                )
                for i in range(heads):
                    deviation(places[i], dominant[b], b, states, shift, delta)
                    x = gaps[i] - excess[b]
                    _add_head(
                        weights[i], x, delta, b, probes, energy_probes, out[segment, b], out_energy[segment, b : b + 1]
                    )
                for k in range(orders):
                    _times(
                        energy,
                        at,
                        padded,
                        projection,
                        (k * block + q) * tile,
                        at_mean[q, k],
                        gap,
                        energy_probes[b, k],
                        excess[b],
                    )
                mass, slope = _totals(energy, at, padded, gap, excess[b])
                sums[q] += mass
                out_energy[segment, b] += slope
            for d in range(0, depth, 2 * lane):
                multiply(energy, 0, tile, count, centred, d * tile, padded, mean, d, depth)
        for q in range(count):
            b = begin + q
            for d in range(dimension):
                origin = away[q, d] + field[b, d] - anchor[d] + shift[b, d]
                out[segment, b, d] += mean[np.uint64(q * depth + d)] - sums[q] * origin


@inner
def _times(energy, at, padded, projection, row, at_mean, gap, slope, excess):  # type: ignore[no-untyped-def]
    """Multiply weights by a_k = v.t - v.(m - a) + u (H~ - <H~>)."""
    scalar = energy.dtype.type
    mean, u, zero = splat(scalar(at_mean)), splat(scalar(slope)), splat(scalar(excess))
    for i in range(0, padded, lanes(energy)):
        a = fma(u, load(gap, at + i) - zero, load(projection, row + i) - mean)
        store(energy, at + i, load(energy, at + i) * a)


@inner
def _totals(energy, at, padded, gap, excess):  # type: ignore[no-untyped-def]
    zero = splat(energy.dtype.type(excess))
    mass = splat(energy.dtype.type(0.0))
    slope = mass
    for i in range(0, padded, lanes(energy)):
        w = load(energy, at + i)
        mass, slope = mass + w, fma(w, load(gap, at + i) - zero, slope)
    return np.float64(total(mass)), np.float64(total(slope))


@inner
def _add_head(weight, x, delta, b, probes, energy_probes, out, out_energy):  # type: ignore[no-untyped-def]
    for k in range(probes.shape[1]):
        a = energy_probes[b, k] * x
        for d in range(delta.size):
            a += probes[b, k, d] * delta[d]
        weight *= a
    out_energy[0] += weight * x
    for d in range(delta.size):
        out[d] += weight * delta[d]


@inner
def _add_dominant(b, shift, excess, probes, energy_probes, weight, out, out_energy):  # type: ignore[no-untyped-def]
    """y_r - m = -shift, exactly."""
    for k in range(probes.shape[1]):
        a = -energy_probes[b, k] * excess[b]
        for d in range(shift.shape[1]):
            a -= probes[b, k, d] * shift[b, d]
        weight *= a
    out_energy[0] -= weight * excess[b]
    for d in range(shift.shape[1]):
        out[d] -= weight * shift[b, d]
