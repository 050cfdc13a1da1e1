"""What the kernels of cumulants share: sums over the dominant state, the heads and the tail of a segment."""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.simd import fma, lanes, load, splat, store, total
from fastthermo.kernels.numba.weigh import NORM, deviation, weigh


@inner
def clear(  # type: ignore[no-untyped-def]
    segment, begin, count, anchor, field, shift, excess, probes, energy_probes, about, away, at_mean, sums, out,
    out_energy,
):  # fmt: skip
    """Start the sums of a block of queries, in the first segment with the dominant state; at_mean = v.(m - a)."""
    for q in range(count):
        b = begin + q
        sums[q] = out_energy[segment, b] = 0.0
        for d in range(anchor.size):
            out[segment, b, d] = 0.0
        for k in range(probes.shape[1]):
            at_mean[q, k] = 0.0
            for d in range(anchor.size):
                at_mean[q, k] += probes[b, k, d] * (away[q, d] + field[b, d] - anchor[d] + shift[b, d])
        if segment == 0:
            add_dominant(b, shift, excess, probes, energy_probes, about[q, NORM], out[0, b], out_energy[0, b : b + 1])


@inner
def weigh_tile(  # type: ignore[no-untyped-def]
    segment, q, b, start, n, padded, beta, prior, tilts, states, log_weights, about, away, places, weights, gaps,
    dominant, shift, excess, probes, energy_probes, delta, projection, row, stride, at_mean, energy, gap, at, out,
    out_energy,
):  # fmt: skip
    """Energies of a tile and query b become weights of the tail times a_1 .. a_K; heads are added to the sums.

    projection : v_k.t from row + k stride on. Returns the sum of the tail, and that of it times H~ - <H~>.
    """
    heads = weigh(
        energy, gap, at, q, dominant[b], -LOG2E * beta[b], start, n, padded, prior, tilts, states, log_weights,
        about, away, places, weights, gaps,
    )  # fmt: skip
    for i in range(heads):
        deviation(places[i], dominant[b], b, states, shift, delta)
        x = gaps[i] - excess[b]
        add_head(weights[i], x, delta, b, probes, energy_probes, out[segment, b], out_energy[segment, b : b + 1])
    for k in range(probes.shape[1]):
        _times(energy, at, padded, projection, row + k * stride, at_mean[q, k], gap, energy_probes[b, k], excess[b])
    return _totals(energy, at, padded, gap, excess[b])


@inner
def add_tail(segment, begin, count, anchor, field, shift, away, sums, mean, depth, out):  # type: ignore[no-untyped-def]
    for q in range(count):
        b = begin + q
        for d in range(anchor.size):
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
def add_head(weight, x, delta, b, probes, energy_probes, out, out_energy):  # type: ignore[no-untyped-def]
    for k in range(probes.shape[1]):
        a = energy_probes[b, k] * x
        for d in range(delta.size):
            a += probes[b, k, d] * delta[d]
        weight *= a
    out_energy[0] += weight * x
    for d in range(delta.size):
        out[d] += weight * delta[d]


@inner
def add_dominant(b, shift, excess, probes, energy_probes, weight, out, out_energy):  # type: ignore[no-untyped-def]
    """y_r - m = -shift, exactly."""
    for k in range(probes.shape[1]):
        a = -energy_probes[b, k] * excess[b]
        for d in range(shift.shape[1]):
            a -= probes[b, k, d] * shift[b, d]
        weight *= a
    out_energy[0] -= weight * excess[b]
    for d in range(shift.shape[1]):
        out[d] -= weight * shift[b, d]
