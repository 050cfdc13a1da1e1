"""Candidates of screening: products of bytes, compared in registers with how far above the best a state may be."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.codes import PANEL
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import PARTS
from fastthermo.kernels.numba.octets import BYTES, dot
from fastthermo.kernels.numba.scratch import aligned
from fastthermo.kernels.numba.simd import (
    F32,
    I32,
    I64,
    WORDS,
    address,
    barrier,
    constant,
    fused,
    llvm,
    load,
    loop,
    minimum,
    smallest,
    spread,
)

SIX, ONE = (0,) * 6, (0,)


@intrinsic
def _compare(
    typing: Any,
    codes: Any,
    at: Any,
    quads: Any,
    probes: Any,
    starts: Any,
    scale: Any,
    tilt: Any,
    row: Any,
    half: Any,
    priors: Any,
    first: Any,
    bounds: Any,
    q: Any,
    out: Any,
    masks: Any,
    tilts: Any,
    rows: Any,
) -> Any:
    """Whether an energy of 32 states from `first` on and len(rows) queries from `row` on is below the query's bound.

    If so they go to `out`, and a bit mask of the 32 lanes of a query to `masks`. Energies, float32, are
    |y - a|^2/2 - s k.(q - q_a), the product exact in int32, and tilt log2(phi) if `tilts`.

    codes : of the states, from `at` on; probes : bytes (B, 2, 4 quads), unsigned times signed; starts : -k.q_a (B, 2);
    bounds : from `q` on.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (
            codes_,
            at_,
            quads_,
            probes_,
            starts_,
            scale_,
            tilt_,
            row_,
            half_,
            priors_,
            first_,
            bounds_,
            q_,
            out_,
            masks_,
        ) = values[:15]
        halves = range(2)

        def number(value: int) -> Any:
            return ir.Constant(I64, value)

        def read(kind: Any, array: Any, place: Any, target: Any) -> Any:
            return builder.load(address(context, builder, kind, array, place, target), align=1)

        def each(kind: Any, array: Any, place: Any) -> Any:
            return spread(builder, read(kind, array, place, I32 if kind is starts else F32.ir.element), 16)

        queries = [builder.add(row_, number(m)) for m in range(rows.count)]
        stride = builder.mul(quads_, number(4))

        def body(k: Any, sums: list[Any]) -> list[Any]:
            start = builder.add(at_, builder.mul(k, number(PANEL * 4)))
            states = [read(codes, codes_, builder.add(start, number(64 * v)), BYTES) for v in halves]
            new = []
            for i in range(2 * rows.count):
                place = builder.add(builder.mul(queries[i // 2], number(2)), number(i % 2))
                place = builder.add(builder.mul(place, stride), builder.mul(k, number(4)))
                barrier(builder)
                query = spread(builder, read(probes, probes_, place, I32), 16)
                new += [dot(builder, sums[2 * i + v], states[v], query) for v in halves]
            return new

        begin: list[Any] = []
        for query in queries:
            for i in range(2):
                place = builder.add(builder.mul(query, number(2)), number(i))
                begin += [each(starts, starts_, place)] * 2
        sums = loop(builder, quads_, 1, begin, body)
        lowest = [read(half, half_, builder.add(first_, number(16 * v)), F32.ir) for v in halves]
        if tilts.count:
            prior = [read(priors, priors_, builder.add(first_, number(16 * v)), F32.ir) for v in halves]
        energies, found = [], []
        for m, query in enumerate(queries):
            factor = builder.fneg(each(scale, scale_, query))
            limit = each(bounds, bounds_, builder.add(q_, number(m)))
            mask = number(0)
            for v in halves:
                high = builder.shl(sums[4 * m + 2 + v], constant(WORDS.ir, 8))  # modulo 2^32, as is the sum
                product = builder.sitofp(builder.add(high, sums[4 * m + v]), F32.ir)
                e = fused(builder, factor, product, lowest[v])
                if tilts.count:
                    e = fused(builder, each(tilt, tilt_, query), prior[v], e)
                lanes = builder.bitcast(builder.fcmp_ordered("<", e, limit), ir.IntType(16))
                mask = builder.or_(mask, builder.shl(builder.zext(lanes, I64), number(16 * v)))
                energies.append(e)
            found.append(mask)
        some = found[0]
        for mask in found[1:]:
            some = builder.or_(some, mask)
        with builder.if_then(builder.icmp_unsigned("!=", some, number(0)), likely=False):
            for i, e in enumerate(energies):
                builder.store(e, address(context, builder, out, out_, number(16 * i), F32.ir), align=4)
            for m, mask in enumerate(found):
                builder.store(mask, address(context, builder, masks, masks_, number(m), I64))
        return some

    i = types.int64
    given = (codes, i, i, probes, starts, scale, tilt, i, half, priors, i, bounds, i, out, masks, tilts, rows)
    return i(*given), generate


@jit
def sieve_kernel(low, high, states, queries, highest, rows, tilts, block, begin_part, parts, lists):  # type: ignore[no-untyped-def]
    """Candidates of tasks [low, high), a task being a block of queries and a part of the states.

    highest : (B,) float32, energies from which on no state is wanted.
    """
    codes, half, priors = states
    probes, starts, scale, tilt, limits = queries
    index, energy, found, best = lists  # one by one from here on: tuples of arrays cost reference counts
    panels, quads = codes.shape[0], codes.shape[1]
    values, masks = aligned(6 * PANEL, np.empty(1, np.float32)), np.empty(6, np.int64)
    bounds = np.empty(block, np.float32)
    for task in range(low, high):
        part, begin = begin_part + task % parts, task // parts * block
        count = min(block, len(rows) - begin)
        for q in range(count):
            b = rows[begin + q]
            found[part, b] = 0
            best[part, b, 0] = best[part, b, 1] = np.inf
            second, least = limits[begin + q, 0], limits[begin + q, 1]
            bounds[q] = highest[b]
            if part > 0 and found[0, b] >= 0:
                bounds[q] = min(bounds[q], max(best[0, b, 1] + second, best[0, b, 0] + least))
        lost, width = 0, index.shape[2]
        for panel in range(part_start(part, panels), part_start(part + 1, panels)):
            at, first, q = panel * quads * PANEL * 4, panel * PANEL, 0
            while q < count:
                r = begin + q
                if q + 6 <= count:
                    some, wide = _compare(
                        codes, at, quads, probes, starts, scale, tilt, r, half, priors, first, bounds, q, values, masks,
                        tilts, SIX,
                    ), 6  # fmt: skip
                else:
                    some, wide = _compare(
                        codes, at, quads, probes, starts, scale, tilt, r, half, priors, first, bounds, q, values, masks,
                        tilts, ONE,
                    ), 1  # fmt: skip
                if some != 0:  # without a call: its arrays would cost more than all it does
                    for m in range(wide):
                        if masks[m] != 0:
                            b = rows[r + m]
                            have = found[part, b]
                            if have > width - PANEL:
                                have = _sift(bounds[q + m], index, energy, have, part, b)
                                if have > width - 2 * PANEL:
                                    found[part, b], bounds[q + m], lost = -1, -np.inf, lost + 1
                                    continue
                            elif have < 0:
                                continue
                            start = (part * found.shape[1] + b) * width
                            more = have + _keep(values, m * PANEL, bounds, q + m, first, energy, index, start + have)
                            found[part, b] = more
                            v, w = load(values, m * PANEL), load(values, m * PANEL + 16)
                            if smallest(minimum(v, w)) < best[part, b, 1]:
                                bounds[q + m] = _improve(
                                    have, more, energy, part, b, limits[r + m, 0], limits[r + m, 1], bounds[q + m], best
                                )
                q += wide
            if lost == count:
                break


@inner
def part_start(part, panels):  # type: ignore[no-untyped-def]
    """Where a part begins; the first, where the best is not known, is half as large as the others."""
    return max(0, 2 * part - 1) * panels // (2 * PARTS - 1)


@intrinsic
def _keep(
    typing: Any,
    values: Any,
    at: Any,
    bounds: Any,
    q: Any,
    first: Any,
    energy: Any,
    index: Any,
    place: Any,
) -> Any:
    """Append those of 32 `values` from `at` on that are below bounds[q] to `energy`, from `place` on.

    Their numbers, from `first` on, go to `index`. Returns how many they are; writes whole vectors.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        values_, at_, bounds_, q_, first_, energy_, index_, place_ = given
        limit = spread(builder, builder.load(address(context, builder, bounds, bounds_, q_, F32.ir.element)), 16)
        numbers = spread(builder, builder.trunc(first_, I32), 16)
        end = place_
        for half in range(2):
            offset = builder.add(at_, ir.Constant(I64, 16 * half))
            lanes = builder.load(address(context, builder, values, values_, offset, F32.ir), align=4)
            below = builder.fcmp_ordered("<", lanes, limit)
            own = builder.add(numbers, ir.Constant(WORDS.ir, [16 * half + i for i in range(16)]))
            for kind, array, what in ((energy, energy_, lanes), (index, index_, own)):
                # into a register: some CPUs take a hundred cycles to compress into memory
                name = f"llvm.x86.avx512.mask.compress.v16{'f' if what is lanes else 'i'}32"
                packed = llvm(builder, name, what.type, (what, ir.Constant(what.type, ir.Undefined), below))
                builder.store(packed, address(context, builder, kind, array, end, what.type), align=4)
            bits = builder.zext(builder.bitcast(below, ir.IntType(16)), I64)
            end = builder.add(end, llvm(builder, "llvm.ctpop.i64", I64, (bits,)))
        return builder.sub(end, place_)

    i = types.int64
    return i(values, i, bounds, i, i, energy, index, i), generate


@inner
def _improve(have, more, energy, part, b, second, least, bound, best):  # type: ignore[no-untyped-def]
    """Lower the best two by what was appended; returns the bound that follows."""
    for i in range(have, more):
        e = energy[part, b, i]
        if e < best[part, b, 0]:
            best[part, b, 1] = best[part, b, 0]
            best[part, b, 0] = e
        elif e < best[part, b, 1]:
            best[part, b, 1] = e
    return min(bound, max(best[part, b, 1] + second, best[part, b, 0] + least))


@inner
def _sift(bound, index, energy, have, part, b):  # type: ignore[no-untyped-def]
    kept = 0
    for i in range(have):
        if energy[part, b, i] < bound:
            index[part, b, kept], energy[part, b, kept] = index[part, b, i], energy[part, b, i]
            kept += 1
    return kept
