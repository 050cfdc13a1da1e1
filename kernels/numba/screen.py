"""Certified screening: byte products tell which states may matter; those alone are summed, by float64 differences.

States become bytes, y = lo + step q + rho a dimension at a time (bytes are their own codes), and a query's
z = (h - a) step signed bytes, z = s k + delta. Where the CPU multiplies bytes four at a time (AVX-512 VNNI), k.q costs
a quarter of a float32 product and is exact, so that up to a constant of the query

    |H~_n - (|y_n - a|^2/2 - s k.q_n)| <= |delta| max |q - q_a| + |h - a| max |rho| + rounding =: eps

by Cauchy-Schwarz. A state whose logit plus beta eps is below the second best lower bound by T weighs less than e^-T of
the runner-up and is dropped. The rest are few at low temperature; where they are too many, `dense` takes the query.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm_binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.bounds import SCREENED
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import CANDIDATES, SCREEN_BLOCK, SCREEN_BYTES, even_block, screen_tile
from fastthermo.kernels.numba.dense import EXCESS, HEAD, PARTICIPATION, REST, SCALARS, SQUARE
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E, aligned
from fastthermo.kernels.numba.simd import (
    F32,
    I32,
    I64,
    WORDS,
    address,
    constant,
    fused,
    less,
    llvm,
    load,
    loop,
    minimum,
    smallest,
    splat,
    spread,
    store,
)

PANEL = 32  # states side by side in codes: two vectors of 16, four dimensions each
BYTES = ir.VectorType(ir.IntType(8), 64)
PARTS = 8  # of the states, screened by tasks of their own
TWELVE, ONE = (0,) * 12, (0,)


@lru_cache
def available() -> bool:
    """Whether the CPU has AVX-512 VNNI."""
    return bool(llvm_binding.get_host_cpu_features().get("avx512vnni", False))


class Codes(NamedTuple):
    """States as bytes."""

    codes: np.ndarray  # (panels, ceil(D/4), 32, 4) uint8
    lowest: np.ndarray  # (D,) lo
    step: np.ndarray  # (D,)
    half_squares: np.ndarray  # (padded N,) float32, inf beyond the last state
    priors: np.ndarray  # (padded N,) float32, log2 phi
    anchor: np.ndarray  # (D,) q_a
    residual: float  # max |rho|
    radius: float  # max |q - q_a|


def encode(packed: Packed) -> Codes:
    states, (size, dimension) = packed.states, packed.states.shape
    if states.dtype == np.uint8:
        lowest, step = np.zeros(dimension), np.ones(dimension)
    else:
        lowest, highest = states.min(0).astype(np.float64), states.max(0).astype(np.float64)
        step = np.where(highest > lowest, (highest - lowest) / 255, 1.0)
    panels, quads = -(-size // PANEL), -(-dimension // 4)
    codes = np.zeros((panels, quads, PANEL, 4), np.uint8)
    centre = np.rint((packed.anchor - lowest) / step)
    squares = np.zeros((panels, 2))
    run(_encode_kernel, panels, 64, states, lowest, step, centre, codes, squares)
    residual, radius = squares.max(0)
    padding = panels * PANEL - size
    half = np.concatenate([packed.half_squares, np.full(padding, np.inf)]).astype(np.float32)
    priors = np.concatenate([LOG2E * packed.log_weights, np.zeros(padding)]).astype(np.float32)
    grown = 1 + 1e-9
    return Codes(codes, lowest, step, half, priors, centre, math.sqrt(residual) * grown, math.sqrt(radius) * grown)


@jit
def _encode_kernel(low, high, states, lowest, step, centre, codes, squares):  # type: ignore[no-untyped-def]
    """Codes of panels [low, high), their largest |rho|^2 and |q - q_a|^2."""
    size, dimension = states.shape
    for panel in range(low, high):
        for i in range(min(PANEL, size - panel * PANEL)):
            n = panel * PANEL + i
            residual = radius = 0.0
            for d in range(dimension):
                y = np.float64(states[n, d]) - lowest[d]
                q = np.rint(y / step[d])
                codes[panel, d // 4, i, d % 4] = np.uint8(q)
                residual += (y - step[d] * q) ** 2
                radius += (q - centre[d]) ** 2
            squares[panel, 0] = max(squares[panel, 0], residual)
            squares[panel, 1] = max(squares[panel, 1], radius)


class Probes(NamedTuple):
    """Queries as signed bytes."""

    codes: np.ndarray  # (B, ceil(D/4) 4) int8
    offset: np.ndarray  # (B,) int32: k.q_a
    scale: np.ndarray  # (B,) float32: s
    margin: np.ndarray  # (B,) float32: energies within it of the second best are kept


def probe(packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray) -> Probes:
    v = field - packed.anchor
    z = v * codes.step
    scale = np.maximum(np.abs(z).max(1), 1e-300) / 127
    k = np.rint(z / scale[:, None])
    scale32 = scale.astype(np.float32)
    delta = np.linalg.norm(z - scale32[:, None].astype(np.float64) * k, axis=1)
    product = scale * np.linalg.norm(k, axis=1) * codes.radius
    rounding = 2.0**-21 * (product + packed.radius**2 / 2 + packed.spread / beta)
    error = delta * codes.radius + np.linalg.norm(v, axis=1) * codes.residual + rounding
    margin = (2 * error + SCREENED / beta) * (1 + 1e-5)
    padded = np.zeros((len(field), codes.codes.shape[1] * 4), np.int8)
    padded[:, : field.shape[1]] = k
    return Probes(padded, (k @ codes.anchor).astype(np.int32), scale32, margin.astype(np.float32))


def screen(packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Whether the candidates of (B,) queries were few, and of those dominant, shift, scalars, energy_min as `dense`."""
    most = max(1, SCREEN_BYTES // (PARTS * CANDIDATES * 8))
    found = [_screen(packed, codes, field[i : i + most], beta[i : i + most]) for i in range(0, len(field), most)]
    return tuple(np.concatenate(x) for x in zip(*found, strict=True))


def _screen(packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, ...]:
    queries, dimension = field.shape
    lists = _lists(queries)
    probes = probe(packed, codes, field, beta)
    _find_candidates(packed, codes, probes, beta, 0, 1, lists)
    few = lists[2][0] >= 0  # a part with too many candidates spares the others
    if not few.all():
        field, beta, probes = field[few], beta[few], Probes(*(x[few] for x in probes))
        lists = tuple(x[:, few] for x in lists)
        queries = len(beta)
    _find_candidates(packed, codes, probes, beta, 1, PARTS - 1, lists)
    dominant, shift = np.zeros(queries, np.int64), np.zeros((queries, dimension))
    scalars, energy_min, many = np.zeros((queries, SCALARS)), np.zeros(queries), np.zeros(queries, np.bool_)
    sums = (dominant, shift, scalars, energy_min)
    run(_sparse_kernel, queries, 16, packed.data, field, beta, probes.margin, *lists, *sums, many)
    few[few] = ~many
    return few, *(x[~many] for x in sums)


def _lists(queries: int) -> tuple[np.ndarray, ...]:
    """Of every part and query: indices, energies and number of candidates (-1: too many), and the two best energies."""
    index, energy = np.empty((PARTS, queries, CANDIDATES), np.int32), np.empty((PARTS, queries, CANDIDATES), np.float32)
    return index, energy, np.empty((PARTS, queries), np.int64), np.empty((PARTS, queries, 2), np.float32)


def _find_candidates(
    packed: Packed, codes: Codes, probes: Probes, beta: np.ndarray, part: int, parts: int, lists: tuple[np.ndarray, ...]
) -> None:
    """Fill the lists of the parts from `part` on."""
    block = even_block(len(beta), SCREEN_BLOCK)
    states = (codes.codes, codes.half_squares, codes.priors)
    tile = screen_tile(codes.codes.shape[1])
    tasks = parts * -(-len(beta) // block)
    run(_screen_kernel, tasks, 1, *states, *probes, beta, packed.tilts, block, tile, part, parts, *lists)


@inner
def _second(best, b):  # type: ignore[no-untyped-def]
    """The second best energy of all parts."""
    first = second = np.float32(np.inf)
    for part in range(PARTS):
        for k in range(2):
            e = best[part, b, k]
            if e < first:
                first, second = e, first
            elif e < second:
                second = e
    return second


@intrinsic
def _dots(
    typing: Any,
    codes: Any,
    at: Any,
    quads: Any,
    probes: Any,
    row: Any,
    stride: Any,
    out: Any,
    to: Any,
    jump: Any,
    rows: Any,
) -> Any:
    """out[m, 32 states] = sum over quads of codes . probes[m], int32 sums of unsigned times signed bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        codes_, at_, quads_, probes_, row_, stride_, out_, to_, jump_ = values[:9]
        wide = llvm_binding.llvm_version_info[0] >= 22  # the type of the byte operands changed

        def body(k: Any, sums: list[Any]) -> list[Any]:
            start = builder.add(at_, builder.mul(k, ir.Constant(I64, PANEL * 4)))
            states = [
                builder.load(
                    address(context, builder, codes, codes_, builder.add(start, ir.Constant(I64, 64 * v)), BYTES),
                    align=1,
                )
                for v in range(2)
            ]
            new = []
            for m in range(rows.count):
                place = builder.add(
                    builder.mul(builder.add(row_, ir.Constant(I64, m)), stride_), builder.mul(k, ir.Constant(I64, 4))
                )
                four = builder.load(address(context, builder, probes, probes_, place, I32), align=1)
                query = spread(builder, four, 16)
                for v in range(2):
                    pair = (
                        (states[v], builder.bitcast(query, BYTES))
                        if wide
                        else (builder.bitcast(states[v], WORDS.ir), query)
                    )
                    new.append(llvm(builder, "llvm.x86.avx512.vpdpbusd.512", WORDS.ir, (sums[2 * m + v], *pair)))
            return new

        sums = loop(builder, quads_, 1, [constant(WORDS.ir, 0)] * (2 * rows.count), body)
        for m in range(rows.count):
            for v in range(2):
                place = builder.add(to_, builder.add(builder.mul(jump_, ir.Constant(I64, m)), ir.Constant(I64, 16 * v)))
                builder.store(sums[2 * m + v], address(context, builder, out, out_, place, WORDS.ir), align=4)
        return context.get_dummy_value()

    i = types.int64
    return types.void(codes, i, i, probes, i, i, out, i, i, rows), generate


@intrinsic
def _screened(typing: Any, dots: Any, at: Any, offset: Any, half: Any, n: Any, scale: Any) -> Any:
    """|y - a|^2 / 2 - s (k.q - k.q_a) of 16 states, float32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        raw = builder.load(address(context, builder, dots, values[0], values[1], WORDS.ir), align=4)
        exact = builder.sub(raw, spread(builder, values[2], 16))
        halves = builder.load(address(context, builder, half, values[3], values[4], F32.ir), align=4)
        factor = builder.fneg(spread(builder, values[5], 16))
        return fused(builder, factor, builder.sitofp(exact, F32.ir), halves)

    return F32(dots, types.int64, types.int32, half, types.int64, types.float32), generate


@jit
def _screen_kernel(  # type: ignore[no-untyped-def]
    low,
    high,
    codes,
    half,
    priors,
    probes,
    offset,
    scale,
    margin,
    beta,
    tilts,
    block,
    tile_size,
    begin_part,
    parts,
    index,
    energy,
    found,
    best,
):
    """Candidates of tasks [low, high), a task being a block of queries and a part of the states."""
    panels, quads = codes.shape[0], codes.shape[1]
    queries, stride = probes.shape[0], probes.shape[1]
    dots = aligned(block * tile_size, np.empty(1, np.int32))
    values = aligned(tile_size, np.empty(1, np.float32))
    step = tile_size // PANEL
    tiles = (panels + step - 1) // step
    for task in range(low, high):
        part, begin = begin_part + task % parts, task // parts * block
        count = min(block, queries - begin)
        for b in range(begin, begin + count):
            found[part, b] = 0
            best[part, b, 0] = best[part, b, 1] = np.inf
        # parts are whole tiles, so that the second best of halves of tiles is the same whoever finds it
        for tile in range(part * tiles // PARTS, (part + 1) * tiles // PARTS):
            some = False
            for b in range(begin, begin + count):
                some |= found[part, b] >= 0
            if not some:
                break
            width = min(step, panels - tile * step)
            for p in range(width):
                at = (tile * step + p) * quads * PANEL * 4
                m, to = 0, p * PANEL
                while m + 12 <= count:
                    _dots(codes, at, quads, probes, begin + m, stride, dots, m * tile_size + to, tile_size, TWELVE)
                    m += 12
                while m < count:
                    _dots(codes, at, quads, probes, begin + m, stride, dots, m * tile_size + to, tile_size, ONE)
                    m += 1
            first = tile * tile_size
            for q in range(count):
                b, size = begin + q, width * PANEL
                if found[part, b] >= 0:
                    tilt = np.float32(-1 / (LOG2E * beta[b]))
                    at = q * tile_size
                    _energies(
                        dots,
                        at,
                        offset[b],
                        half,
                        priors,
                        first,
                        size,
                        scale[b],
                        tilt,
                        tilts,
                        values,
                        best,
                        part,
                        b,
                        tile_size // 2,
                    )
                    _collect(values, first, size, best[part, b, 1] + margin[b], index, energy, found, part, b)


@inner
def _energies(dots, at, offset, half, priors, first, count, scale, tilt, tilts, values, best, part, b, half_tile):  # type: ignore[no-untyped-def]
    """Energies of a tile, less log(phi) / beta, and the two best among its halves and those before."""
    for start in range(0, count, half_tile):
        least = splat(np.float32(np.inf))
        for i in range(start, min(count, start + half_tile), 16):
            e = _screened(dots, at + i, offset, half, first + i, scale)
            if len(tilts) > 0:
                e = e + splat(tilt) * load(priors, first + i)
            store(values, i, e)
            least = minimum(least, e)
        e = smallest(least)
        if e < best[part, b, 0]:
            best[part, b, 1] = best[part, b, 0]
            best[part, b, 0] = e
        elif e < best[part, b, 1]:
            best[part, b, 1] = e


@inner
def _collect(values, first, count, bound, index, energy, found, part, b):  # type: ignore[no-untyped-def]
    """Add the states of a tile below the bound; a full list is sifted, and given up (found = -1) if it stays full."""
    have, limit = found[part, b], splat(bound)
    for i in range(0, count, 16):
        mask = less(load(values, i), limit)
        k = i
        while mask != 0:
            if mask & 1:
                if have == CANDIDATES:
                    have = _sift(bound, index, energy, have, part, b)
                    if have > CANDIDATES * 3 // 4:
                        found[part, b] = -1
                        return
                index[part, b, have], energy[part, b, have] = first + k, values[np.uint64(k)]
                have += 1
            mask >>= 1
            k += 1
    found[part, b] = have


@inner
def _sift(bound, index, energy, have, part, b):  # type: ignore[no-untyped-def]
    kept = 0
    for i in range(have):
        if energy[part, b, i] < bound:
            index[part, b, kept], energy[part, b, kept] = index[part, b, i], energy[part, b, i]
            kept += 1
    return kept


@jit
def _sparse_kernel(  # type: ignore[no-untyped-def]
    low, high, data, field, beta, margin, index, energy, found, best, dominant, shift, scalars, energy_min, many
):
    """Sums over the candidates of queries [low, high), relative to the best of them, in the order of the states."""
    states, log_weights = data[0], data[1]
    dimension = states.shape[1]
    chosen, gap = np.empty(PARTS * CANDIDATES, np.int64), np.empty(PARTS * CANDIDATES)
    away = np.empty(dimension)
    for b in range(low, high):
        for part in range(PARTS):
            many[b] |= found[part, b] < 0
        if many[b]:
            continue
        second = _second(best, b)
        count, r, least = 0, 0, np.float32(np.inf)
        for part in range(PARTS):
            for i in range(found[part, b]):
                if energy[part, b, i] < second + margin[b]:
                    chosen[count] = index[part, b, i]
                    if energy[part, b, i] < least:
                        r, least = chosen[count], energy[part, b, i]
                    count += 1
        for _ in range(2):  # the second time relative to the best, so that near-ties are told apart
            other = _gaps(r, chosen, count, states, log_weights, field, beta, b, away, gap)
            if other == r:
                break
            r = other
        dominant[b] = r
        energy_min[b] = 0.5 * np.dot(away, away)
        _sum(r, chosen, count, gap, states, log_weights, beta, b, shift, scalars)


@inner
def _gaps(r, chosen, count, states, log_weights, field, beta, b, away, gap):  # type: ignore[no-untyped-def]
    """H~ - H~_r of the candidates; returns the one of largest weight, the lowest of a tie."""
    for d in range(away.size):
        away[d] = np.float64(states[r, d]) - field[b, d]
    winner, largest = r, 0.0
    for i in range(count):
        n = chosen[i]
        x = 0.0
        for d in range(away.size):
            s = np.float64(states[n, d]) - np.float64(states[r, d])
            x += s * (0.5 * s + away[d])
        gap[i] = x
        logit = log_weights[n] - log_weights[r] - beta[b] * x
        if logit > largest or (logit == largest and n < winner):
            winner, largest = n, logit
    return winner


@inner
def _sum(r, chosen, count, gap, states, log_weights, beta, b, shift, scalars):  # type: ignore[no-untyped-def]
    rest = excess = square = squares = 0.0
    for i in range(count):
        n = chosen[i]
        if n == r:
            continue
        w = np.exp(log_weights[n] - log_weights[r] - beta[b] * gap[i])
        if w > 1e-300:
            rest += w
            excess += w * gap[i]
            square += w * gap[i] * gap[i]
            squares += w * w
            for d in range(shift.shape[1]):
                shift[b, d] += w * (np.float64(states[n, d]) - np.float64(states[r, d]))
    norm = 1 / (1 + rest)
    for d in range(shift.shape[1]):
        shift[b, d] *= norm
    scalars[b, REST], scalars[b, EXCESS], scalars[b, SQUARE] = rest, excess * norm, square * norm
    scalars[b, PARTICIPATION], scalars[b, HEAD] = (1 + squares) * norm * norm, count
