"""Certified screening: byte products tell which states may matter; `sparse` sums over those alone.

Where the CPU multiplies bytes four at a time (AVX-512 VNNI), products with the codes of `codes` cost half of float32
products and are exact, so that energies err by no more than eps. A state is dropped where its energy less 2 eps says
that it weighs less than e^-T of the runner-up and less than e^-T' of the largest. Where too many are left, `dense`
takes the query.
"""

from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm_binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.bounds import cutoffs
from fastthermo.kernels.numba.codes import HIGH, PANEL, Codes, Probes, probe
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import (
    PARTS,
    SCREEN_BLOCK,
    SCREEN_BYTES,
    candidates,
    even_block,
    screen_tile,
)
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
    fma,
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
from fastthermo.kernels.numba.sparse import Lists, sparse_sums

BYTES = ir.VectorType(ir.IntType(8), 64)
SIX, ONE = (0,) * 6, (0,)


@lru_cache
def available() -> bool:
    """Whether the CPU has AVX-512 VNNI."""
    return bool(llvm_binding.get_host_cpu_features().get("avx512vnni", False))


def screen(
    packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray, precision: str
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Whether the candidates of (B,) queries are few, and of those `sparse_sums`."""
    width = candidates(*packed.states.shape)
    most = max(1, min(len(beta), SCREEN_BYTES // (PARTS * width * 8)))
    lists = make_lists(most, width)
    found = [
        _screen(packed, codes, field[i : i + most], beta[i : i + most], precision, lists)
        for i in range(0, len(beta), most)
    ]
    few, *sums = (np.concatenate(x) for x in zip(*found, strict=True))
    return few, tuple(sums)


def _screen(
    packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray, precision: str, lists: Lists
) -> tuple[np.ndarray, ...]:
    probes = probe(packed, codes, field, beta)
    limits = _limits(packed, probes, beta, precision)
    lists.found[:] = -1
    rows = np.flatnonzero(np.isfinite(limits).all(1))
    for part, parts in ((0, 1), (1, PARTS - 1)):
        find_candidates(packed, codes, probes, limits, beta, rows, part, parts, lists)
        rows = rows[lists.found[0, rows] >= 0]  # a part with too many candidates spares the others
    few: np.ndarray = np.all(lists.found[:, : len(beta)] >= 0, axis=0)
    return few, *sparse_sums(packed, field, beta, limits, probes.error, lists, few, precision)


def _limits(packed: Packed, probes: Probes, beta: np.ndarray, precision: str) -> np.ndarray:
    """(B, 2) float32: how far above the second best and the best energy a state may be to matter."""
    with np.errstate(over="ignore"):
        margins = 2 * probes.error[:, None] + np.array(cutoffs(packed.states.shape, precision)) / beta[:, None]
        return (margins * (1 + 1e-5)).astype(np.float32)


def make_lists(queries: int, width: int) -> Lists:
    shape = (PARTS, queries)
    index, energy = np.empty((*shape, width), np.int32), np.empty((*shape, width), np.float32)
    return Lists(index, energy, np.empty(shape, np.int64), np.empty((*shape, 2), np.float32))


def find_candidates(
    packed: Packed,
    codes: Codes,
    probes: Probes,
    limits: np.ndarray,
    beta: np.ndarray,
    rows: np.ndarray,
    part: int,
    parts: int,
    lists: Lists,
) -> None:
    """Fill the lists of the queries `rows` for the parts from `part` on."""
    queries = (*probes[:3], limits, beta)
    if len(rows) < len(beta):
        queries = tuple(x[rows] for x in queries)
    block, tile = even_block(len(rows), SCREEN_BLOCK), screen_tile(codes.codes.shape[1])
    states, tasks = (codes.codes, codes.half_squares, codes.priors), parts * -(-len(rows) // block)
    run(_screen_kernel, tasks, 1, states, queries, rows, packed.tilts, block, tile, part, parts, tuple(lists))


@intrinsic
def _energies(
    typing: Any,
    codes: Any,
    at: Any,
    quads: Any,
    probes: Any,
    row: Any,
    offset: Any,
    scale: Any,
    half: Any,
    first: Any,
    out: Any,
    to: Any,
    jump: Any,
    rows: Any,
) -> Any:
    """|y - a|^2/2 - s k.(q - q_a) of 32 states from `first` on and len(rows) queries from `row` on, float32.

    codes : of the states, from `at` on; probes : bytes (B, 2, 4 quads), unsigned times signed in int32.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        codes_, at_, quads_, probes_, row_, offset_, scale_, half_, first_, out_, to_, jump_ = values[:12]
        wide = llvm_binding.llvm_version_info[0] >= 22  # the type of the byte operands changed

        def number(value: int) -> Any:
            return ir.Constant(I64, value)

        def read(kind: Any, array: Any, place: Any, target: Any) -> Any:
            return builder.load(address(context, builder, kind, array, place, target), align=1)

        queries = [builder.add(row_, number(m)) for m in range(rows.count)]
        stride = builder.mul(quads_, number(4))

        def body(k: Any, sums: list[Any]) -> list[Any]:
            start = builder.add(at_, builder.mul(k, number(PANEL * 4)))
            states = [read(codes, codes_, builder.add(start, number(64 * v)), BYTES) for v in range(2)]
            new = []
            for i in range(2 * rows.count):
                place = builder.add(builder.mul(queries[i // 2], number(2)), number(i % 2))
                place = builder.add(builder.mul(place, stride), builder.mul(k, number(4)))
                query = spread(builder, read(probes, probes_, place, I32), 16)
                for v in range(2):
                    pair = (
                        (states[v], builder.bitcast(query, BYTES))
                        if wide
                        else (builder.bitcast(states[v], WORDS.ir), query)
                    )
                    new.append(llvm(builder, "llvm.x86.avx512.vpdpbusd.512", WORDS.ir, (sums[2 * i + v], *pair)))
            return new

        sums = loop(builder, quads_, 1, [constant(WORDS.ir, 0)] * (4 * rows.count), body)
        for m, query in enumerate(queries):
            factor = builder.fneg(spread(builder, read(scale, scale_, query, F32.ir.element), 16))
            for v in range(2):
                parts = []
                for i in range(2):
                    zero = read(offset, offset_, builder.add(builder.mul(query, number(2)), number(i)), I32)
                    exact = builder.sub(sums[2 * (2 * m + i) + v], spread(builder, zero, 16))
                    parts.append(builder.sitofp(exact, F32.ir))
                product = fused(builder, parts[0], constant(F32.ir, HIGH), parts[1])
                halves = read(half, half_, builder.add(first_, number(16 * v)), F32.ir)
                place = builder.add(to_, builder.add(builder.mul(jump_, number(m)), number(16 * v)))
                target = address(context, builder, out, out_, place, F32.ir)
                builder.store(fused(builder, factor, product, halves), target, align=4)
        return context.get_dummy_value()

    i = types.int64
    return types.void(codes, i, i, probes, i, offset, scale, half, i, out, i, i, rows), generate


@jit
def _screen_kernel(low, high, states, queries, rows, tilts, block, tile_size, begin_part, parts, lists):  # type: ignore[no-untyped-def]
    """Candidates of tasks [low, high), a task being a block of queries and a part of the states."""
    codes, half, priors = states
    probes, offset, scale, limits, beta = queries
    index, energy, found, best = lists
    panels, quads = codes.shape[0], codes.shape[1]
    values = aligned(block * tile_size, np.empty(1, np.float32))
    step = tile_size // PANEL
    tiles = (panels + step - 1) // step
    for task in range(low, high):
        part, begin = begin_part + task % parts, task // parts * block
        count = min(block, len(rows) - begin)
        for b in rows[begin : begin + count]:
            found[part, b] = 0
            best[part, b, 0] = best[part, b, 1] = np.inf
        # parts are whole tiles, so that the second best of halves of tiles is the same whoever finds it
        for tile in range(part * tiles // PARTS, (part + 1) * tiles // PARTS):
            some = False
            for b in rows[begin : begin + count]:
                some |= found[part, b] >= 0
            if not some:
                break
            first, width = tile * tile_size, min(step, panels - tile * step)
            for p in range(width):
                at, n, m, to = (tile * step + p) * quads * PANEL * 4, first + p * PANEL, 0, p * PANEL
                while m + 6 <= count:
                    _energies(codes, at, quads, probes, begin + m, offset, scale, half, n, values, to, tile_size, SIX)
                    m, to = m + 6, to + 6 * tile_size
                while m < count:
                    _energies(codes, at, quads, probes, begin + m, offset, scale, half, n, values, to, tile_size, ONE)
                    m, to = m + 1, to + tile_size
            for q in range(count):
                b = rows[begin + q]
                if found[part, b] >= 0:
                    at, size = q * tile_size, width * PANEL
                    if len(tilts) > 0:
                        _tilt(values, at, size, priors, first, np.float32(-1 / (LOG2E * beta[begin + q])))
                    _lower(values, at, size, tile_size // 2, best, part, b)
                    second, least = limits[begin + q, 0], limits[begin + q, 1]
                    bound = max(best[part, b, 1] + second, best[part, b, 0] + least)
                    if part > 0:  # which is screened after the first
                        bound = min(bound, max(best[0, b, 1] + second, best[0, b, 0] + least))
                    _collect(values, at, first, size, bound, index, energy, found, part, b)


@inner
def _tilt(values, at, count, priors, first, scale):  # type: ignore[no-untyped-def]
    """Energies less log(phi) / beta."""
    for i in range(0, count, 16):
        store(values, at + i, fma(splat(scale), load(priors, first + i), load(values, at + i)))


@inner
def _lower(values, at, count, half_tile, best, part, b):  # type: ignore[no-untyped-def]
    """The two best among those before and the halves of a tile."""
    for start in range(0, count, half_tile):
        least = splat(np.float32(np.inf))
        for i in range(at + start, at + min(count, start + half_tile), 16):
            least = minimum(least, load(values, i))
        e = smallest(least)
        if e < best[part, b, 0]:
            best[part, b, 1] = best[part, b, 0]
            best[part, b, 0] = e
        elif e < best[part, b, 1]:
            best[part, b, 1] = e


@intrinsic
def _keep(typing: Any, vector: Any, limit: Any, first: Any, energy: Any, index: Any, place: Any) -> Any:
    """Append the lanes below the limit to `energy`, from `place` on, and their numbers, from `first` on, to `index`.

    Returns how many they are.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lanes_, limit_, first_, energy_, index_, place_ = values
        below = builder.fcmp_ordered("<", lanes_, limit_)
        start = spread(builder, builder.trunc(first_, I32), 16)
        numbers = builder.add(start, ir.Constant(WORDS.ir, list(range(16))))
        for kind, array, what in ((energy, energy_, lanes_), (index, index_, numbers)):
            target = address(context, builder, kind, array, place_, what.type.element)
            name = f"llvm.masked.compressstore.v16{'f' if what is lanes_ else 'i'}32"
            kinds = [what.type, target.type, below.type]
            function = builder.module.globals.get(name) or ir.Function(
                builder.module, ir.FunctionType(ir.VoidType(), kinds), name
            )
            builder.call(function, (what, target, below))
        bits = builder.zext(builder.bitcast(below, ir.IntType(16)), I64)
        return llvm(builder, "llvm.ctpop.i64", I64, (bits,))

    i = types.int64
    return i(F32, F32, i, energy, index, i), generate


@inner
def _collect(values, at, first, count, bound, index, energy, found, part, b):  # type: ignore[no-untyped-def]
    """Add the states of a tile below the bound; a full list is sifted, and given up (found = -1) if it stays full."""
    width = index.shape[2]
    have, limit, start = found[part, b], splat(bound), (part * found.shape[1] + b) * width
    for i in range(0, count, 16):
        v = load(values, at + i)
        if less(v, limit) != 0:
            if have > width - 16:
                have = _sift(bound, index, energy, have, part, b)
                if have > width * 3 // 4:
                    found[part, b] = -1
                    return
            have += _keep(v, limit, first + i, energy, index, start + have)
    found[part, b] = have


@inner
def _sift(bound, index, energy, have, part, b):  # type: ignore[no-untyped-def]
    kept = 0
    for i in range(have):
        if energy[part, b, i] < bound:
            index[part, b, kept], energy[part, b, kept] = index[part, b, i], energy[part, b, i]
            kept += 1
    return kept
