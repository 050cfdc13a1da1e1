"""sum w a_1 .. a_K (y - m) and the same with H~ - <H~>, for a_k = v_k.(y - m) + u_k (H~ - <H~>)."""

from typing import Any

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.bytewise_cumulant import bytewise_cumulant_kernel
from fastthermo.kernels.numba.codes import probe
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import SEGMENT, merged_block
from fastthermo.kernels.numba.cumulant_sums import add_dominant, add_head, add_tail, clear, weigh_tile
from fastthermo.kernels.numba.differences import ask
from fastthermo.kernels.numba.matrix import tiles
from fastthermo.kernels.numba.multiply import multiply
from fastthermo.kernels.numba.octets import ROWS
from fastthermo.kernels.numba.pack import Packed, as_array, temperatures
from fastthermo.kernels.numba.plan import SINGLE, few_digits, fits, plan, working_type
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.products import guess_of, of_states
from fastthermo.kernels.numba.scratch import aligned
from fastthermo.kernels.numba.second import by_candidates, subset, weights_of
from fastthermo.kernels.numba.simd import lanes
from fastthermo.kernels.numba.sparse import longest
from fastthermo.kernels.numba.tile import fill, load_tile, products
from fastthermo.kernels.numba.weigh import COLUMNS, arguments, deviation, start_block, ways

VECTOR_DIGITS = 3


def cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str = "double",
) -> tuple[torch.Tensor, torch.Tensor]:
    out, out_energy = (
        torch.empty(shape, dtype=torch.float64, device="cpu") for shape in (field.shape, field.shape[:1])
    )
    probed = (as_array(sums.excess), as_array(probes), as_array(energy_probes))
    found = (out.numpy(), out_energy.numpy()[:, None])
    left = by_candidates(_few_kernel, packed, field, beta, sums, precision, probed, found)
    needed = np.full(len(left), -1)
    if left.any():
        needed[left] = _digits(packed, as_array(field)[left], temperatures(packed, beta)[left], precision)
    for digits in (0, 2, 3):
        for rows, way in ways(packed, field, beta, precision, needed == digits):
            h, b, v, u, part = subset(rows, sums, field, beta, probes, energy_probes)
            where = torch.from_numpy(rows)
            out[where], out_energy[where] = _by_products(packed, h, b, part, v, u, way, digits)
    return out, out_energy


def _digits(packed: Packed, h: np.ndarray, b: np.ndarray, precision: str) -> np.ndarray:
    """How many digits of queries and weights serve; 0 for products of floats."""
    single = working_type(packed, precision) == np.float32 and precision != "fast"
    if not single or not packed.codes.worthwhile(packed) or not packed.codes.get(packed).exact:
        return np.zeros(len(b), np.int64)
    two = few_digits(packed, packed.codes.get(packed), h, b, guess_of(packed, h, b, SINGLE)[1])
    none = (plan(packed, h, b, np.dtype(np.float32), precision).blur > 0) | ~fits(packed, h, b)
    return np.where(none, 0, np.where(two, 2, 3))


def _by_products(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str,
    digits: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    segments = -(-len(packed.states) // SEGMENT)
    most = merged_block(len(field), packed.states.shape, 4)
    out, out_energy = (
        torch.empty(shape, dtype=torch.float64, device="cpu") for shape in (field.shape, field.shape[:1])
    )
    for first in range(0, len(field), most):
        rows = slice(first, first + most)
        part = Sums(*(None if x is None else x[rows] for x in sums))
        data, tile, block, h, b, *given = arguments(packed, field[rows], beta[rows], part, precision, 1)
        vectors = as_array(probes[rows])
        rest = (as_array(part.shift), as_array(part.excess), vectors, as_array(energy_probes[rows]))
        vector, energy = np.empty((segments, *h.shape)), np.empty((segments, len(h)))
        last = (block, h, b, *given, *rest)
        tasks = segments * -(-len(h) // block)
        if digits:
            coded = _coded(packed, h, b, vectors, digits)
            run(bytewise_cumulant_kernel, tasks, 1, data, *coded, *last, tiles(), vector, energy)
        else:
            run(_cumulant_kernel, tasks, 1, data, tile, *last, vector, energy)
        out[rows], out_energy[rows] = torch.from_numpy(vector.sum(0)), torch.from_numpy(energy.sum(0))
    return out, out_energy


def _coded(packed: Packed, field: np.ndarray, beta: np.ndarray, vectors: np.ndarray, digits: int) -> tuple[Any, ...]:
    """What `bytewise_cumulant_kernel` takes of the states, the queries and the vectors v_k."""
    codes, (count, orders, dimension) = packed.codes.get(packed), vectors.shape
    about = packed.anchor - vectors.transpose(1, 0, 2).reshape(orders * count, dimension)
    queries = probe(packed, codes, field, beta, digits)
    others = probe(packed, codes, about, np.tile(beta, orders), VECTOR_DIGITS)
    ways = ((0,) * digits, ROWS[digits], (0,) * VECTOR_DIGITS, ROWS[VECTOR_DIGITS])
    return *of_states(codes), tuple(queries[:4]), tuple(others[:4]), *ways


@jit
def _few_kernel(  # type: ignore[no-untyped-def]
    low, high, states, log_weights, field, beta, few, limits, lists, dominant, log_rest, shift, excess, probes,
    energy_probes, out, out_energy,
):  # fmt: skip
    """For queries [low, high) that have few candidates."""
    index, energy, found, best = lists
    most, dimension = longest(found, few, low, high), states.shape[1]
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
            add_dominant(b, shift, excess, probes, energy_probes, norm, out[b], out_energy[b])
            for i in range(count):
                ask(states, chosen, i + 2, count)
                deviation(chosen[i], r, b, states, shift, delta)
                add_head(weight[i], gap[i] - excess[b], delta, b, probes, energy_probes, out[b], out_energy[b])


@jit
def _cumulant_kernel(  # type: ignore[no-untyped-def]
    low, high, data, tile, block, field, beta, level, blur, dominant, log_rest, tilts, zero, shift, excess, probes,
    energy_probes, out, out_energy,
):  # fmt: skip
    """Shares of the segments, for tasks [low, high) as in `dense.dense_kernel`."""
    states, log_weights, anchor, half_squares = data
    size, dimension = states.shape
    queries, orders, lane = field.shape[0], probes.shape[1], lanes(zero)
    depth = (dimension + 2 * lane - 1) // (2 * lane) * (2 * lane)
    centred, panel = aligned(depth * tile, zero), aligned(depth * tile, zero)
    pull, mean = aligned(block * depth, zero), aligned(block * depth, zero)
    probe, projection = aligned(orders * block * depth, zero), aligned(orders * block * tile, zero)
    energy, gap = aligned(block * tile, zero), aligned(block * tile, zero)
    half, prior, none = aligned(tile, zero), aligned(tile, zero), aligned(tile, zero)
    about, away = np.empty((block, COLUMNS)), np.empty((block, dimension))
    at_mean, sums = np.empty((block, orders)), np.empty(block)
    places, weights, gaps, delta = np.empty(tile, np.int64), np.empty(tile), np.empty(tile), np.empty(dimension)
    segments = (size + SEGMENT - 1) // SEGMENT
    fill(none, 0, tile, 0.0)
    for task in range(low, high):
        segment, begin = task % segments, task // segments * block
        count, last = min(block, queries - begin), min(size, (segment + 1) * SEGMENT)
        fill(mean, 0, count * depth, 0.0)
        start_block(begin, count, data, field, beta, level, blur, dominant, log_rest, depth, pull, about, away)
        for q in range(count):
            for k in range(orders):
                for d in range(dimension):
                    probe[np.uint64((k * block + q) * depth + d)] = probes[begin + q, k, d]
        clear(
            segment, begin, count, anchor, field, shift, excess, probes, energy_probes, about, away, at_mean, sums, out,
            out_energy,
        )  # fmt: skip
        for start in range(segment * SEGMENT, last, tile):
            n = min(tile, last - start)
            padded = load_tile(states, log_weights, anchor, half_squares, start, n, depth, centred, panel, half, prior)
            products(pull, 0, depth, dimension, count, panel, padded, half, energy, 0, tile)
            for k in range(orders):
                products(
                    probe, k * block * depth, depth, dimension, count, panel, padded, none, projection,
                    k * block * tile, tile,
                )  # fmt: skip
            for q in range(count):
                b = begin + q
                mass, slope = weigh_tile(
                    segment, q, b, start, n, padded, beta, prior, tilts, states, log_weights, about, away,
                    places, weights, gaps, dominant, shift, excess, probes, energy_probes, delta, projection, q * tile,
                    block * tile, at_mean, energy, gap, q * tile, out, out_energy,
                )  # fmt: skip
                sums[q] += mass
                out_energy[segment, b] += slope
            for d in range(0, depth, 2 * lane):
                multiply(energy, 0, tile, count, centred, d * tile, padded, mean, d, depth)
        add_tail(segment, begin, count, anchor, field, shift, away, sums, mean, depth, out)
