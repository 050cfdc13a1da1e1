"""Candidates of screening: products of bytes, compared in registers with how far above the best a state may be."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.codes import PANEL
from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import PARTS
from fastthermo.kernels.numba.matrix import (
    COLUMNS,
    STEP,
    TILE,
    arrange,
    configure,
    multiply,
    release,
    scratch,
    steps_of,
)
from fastthermo.kernels.numba.octets import accumulate, ask, share
from fastthermo.kernels.numba.simd import (
    F32,
    I32,
    I64,
    WORDS,
    address,
    constant,
    fused,
    llvm,
    smaller,
    spread,
)

SIX, ONE = (0,) * 6, (0,)
LANES = 16


@intrinsic
def _compare(
    typing: Any, codes: Any, at: Any, quads: Any, probes: Any, starts: Any, scale: Any, tilt: Any, row: Any, half: Any,
    priors: Any, first: Any, bounds: Any, seconds: Any, have: Any, before: Any, bases: Any, q: Any, most: Any,
    index: Any, energy: Any, tilts: Any, rows: Any, matrix: Any, products: Any, place: Any,
) -> Any:  # fmt: skip
    """Append those of 32 states from `first` on whose energy is below the bound of a query, for len(rows) queries.

    Energies, float32, are |y - a|^2/2 - s k.(q - q_a), the product exact in int32, and tilt log2(phi) if `tilts`.
    Returns a bit mask of the queries that have one below `seconds`, or more than `most` of them.

    codes : of the states, from `at` on; probes : bytes (B, 2, 4 quads), unsigned times signed, from `row` on; starts :
    -k.q_a (B, 2); bounds, seconds, have : of a query of the block, from `q` on; have, which goes to `before`, is grown;
    bases : where its part of `index` and `energy` begins, which whole vectors are written to; matrix, products,
    place : as in `accumulate`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (
            codes_, at_, quads_, probes_, starts_, scale_, tilt_, row_, half_, priors_, first_, bounds_, seconds_,
            have_, before_, bases_, q_, most_, index_, energy_,
        ) = values[:20]  # fmt: skip
        made = (matrix, products, *values[23:])
        halves = range(2)

        def number(value: int) -> Any:
            return ir.Constant(I64, value)

        def read(kind: Any, array: Any, place: Any, target: Any) -> Any:
            return builder.load(address(context, builder, kind, array, place, target), align=1)

        def each(kind: Any, array: Any, place: Any) -> Any:
            return spread(builder, read(kind, array, place, I32 if kind is starts else F32.ir.element), 16)

        queries = [builder.add(row_, number(m)) for m in range(rows.count)]
        own = [builder.add(q_, number(m)) for m in range(rows.count)]
        places = [builder.add(builder.mul(query, number(2)), number(i)) for query in queries for i in range(2)]
        stride = builder.mul(quads_, number(4))
        digits = [builder.mul(place, stride) for place in places]
        begin = [each(starts, starts_, place) for place in places for _ in halves]
        sums = accumulate(context, builder, (codes, codes_), at_, quads_, (probes, probes_), digits, begin, made)
        lowest = [read(half, half_, builder.add(first_, number(16 * v)), F32.ir) for v in halves]
        if tilts.count:
            prior = [read(priors, priors_, builder.add(first_, number(16 * v)), F32.ir) for v in halves]
        found, some = [], number(0)
        for m, query in enumerate(queries):
            factor = builder.fneg(each(scale, scale_, query))
            limit = each(bounds, bounds_, own[m])
            for v in halves:
                high = builder.shl(sums[4 * m + 2 + v], constant(WORDS.ir, 8))  # modulo 2^32, as is the sum
                product = builder.sitofp(builder.add(high, sums[4 * m + v]), F32.ir)
                e = fused(builder, factor, product, lowest[v])
                if tilts.count:
                    e = fused(builder, each(tilt, tilt_, query), prior[v], e)
                below = builder.fcmp_ordered("<", e, limit)
                found.append((e, below))
                some = builder.or_(some, _mask(builder, below))
        outside = builder.block
        with builder.if_then(builder.icmp_unsigned("!=", some, number(0))):
            numbers = spread(builder, builder.trunc(first_, I32), 16)
            lanes = [builder.add(numbers, ir.Constant(WORDS.ir, [16 * v + i for i in range(16)])) for v in halves]
            noticed = number(0)
            for m in range(rows.count):  # none is passed over: branches that cannot be foretold cost more
                place = read(have, have_, own[m], I64)
                builder.store(place, address(context, builder, before, before_, number(m), I64))
                base = read(bases, bases_, own[m], I64)
                least = smaller(builder, found[2 * m][0], found[2 * m + 1][0])
                better = _mask(builder, builder.fcmp_ordered("<", least, each(seconds, seconds_, own[m])))
                for v in halves:
                    e, below = found[2 * m + v]
                    end = builder.add(base, place)
                    for kind, array, what in ((energy, energy_, e), (index, index_, lanes[v])):
                        packed = _packed(builder, what, below)
                        builder.store(packed, address(context, builder, kind, array, end, what.type), align=4)
                    count = llvm(builder, "llvm.ctpop.i64", I64, (_mask(builder, below),))
                    place = builder.add(place, count)
                builder.store(place, address(context, builder, have, have_, own[m], I64))
                full = builder.icmp_signed(">", place, most_)
                notice = builder.or_(full, builder.icmp_unsigned("!=", better, number(0)))
                noticed = builder.or_(noticed, builder.shl(builder.zext(notice, I64), number(m)))
            inside = builder.block
        result = builder.phi(I64)
        result.add_incoming(number(0), outside)
        result.add_incoming(noticed, inside)
        return result

    i = types.int64
    given = (
        codes, i, i, probes, starts, scale, tilt, i, half, priors, i, bounds, seconds, have, before, bases, i, i, index,
        energy, tilts, rows, matrix, products, i,
    )  # fmt: skip
    return i(*given), generate


@intrinsic
def append(
    typing: Any, index: Any, energy: Any, at: Any, remaining: Any, bound: Any, least: Any, chosen: Any, gap: Any,
    place: Any,
) -> Any:  # fmt: skip
    """Of LANES candidates from `at` on, no more than remain: those below the bound go to `chosen`, from `place` on.

    And their energies, relative to the least, to `gap`. Returns how many they are; writes whole vectors.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        index_, energy_, at_, remaining_, bound_, least_, chosen_, gap_, place_ = values
        e = builder.load(address(context, builder, energy, energy_, at_, F32.ir), align=4)
        n = builder.load(address(context, builder, index, index_, at_, WORDS.ir), align=4)
        left = spread(builder, builder.trunc(remaining_, I32), LANES)
        here = builder.icmp_signed("<", ir.Constant(WORDS.ir, list(range(LANES))), left)
        below = builder.and_(here, builder.fcmp_ordered("<", e, spread(builder, bound_, LANES)))
        wide = ir.VectorType(ir.DoubleType(), LANES)
        x = builder.fsub(builder.fpext(_packed(builder, e, below), wide), spread(builder, least_, LANES))
        own = builder.sext(_packed(builder, n, below), ir.VectorType(I64, LANES))
        builder.store(x, address(context, builder, gap, gap_, place_, x.type), align=8)
        builder.store(own, address(context, builder, chosen, chosen_, place_, own.type), align=8)
        return llvm(builder, "llvm.ctpop.i64", I64, (_mask(builder, below),))

    i = types.int64
    return i(index, energy, i, i, types.float32, types.float64, chosen, gap, i), generate


def _packed(builder: Any, lanes: Any, where: Any) -> Any:
    """Those lanes side by side, in a register: some CPUs take a hundred cycles to compress into memory."""
    name = f"llvm.x86.avx512.mask.compress.v16{'i' if lanes.type == WORDS.ir else 'f'}32"
    return llvm(builder, name, lanes.type, (lanes, ir.Constant(lanes.type, ir.Undefined), where))


def _mask(builder: Any, lanes: Any) -> Any:
    return builder.zext(builder.bitcast(lanes, ir.IntType(16)), I64)


@jit
def sieve_kernel(low, high, states, queries, highest, rows, tilts, block, begin_part, parts, lists, matrix):  # type: ignore[no-untyped-def]
    """Candidates of tasks [low, high), a task being a block of queries and a part of the states.

    highest : (B,) float32, energies from which on no state is wanted; matrix : of `matrix.tiles`.
    """
    codes, half, priors = states
    probes, starts, scale, tilt, limits = queries
    index, energy, found, best = lists  # one by one from here on: tuples of arrays cost reference counts
    panels, quads, width = codes.shape[0], codes.shape[1], index.shape[2]
    panel_bytes, steps = quads * PANEL * 4, steps_of(quads * 4)
    bounds, seconds = np.empty(block, np.float32), np.empty(block, np.float32)
    have, bases, before = np.empty(block, np.int64), np.empty(block, np.int64), np.empty(len(SIX), np.int64)
    left, products = scratch(matrix, block, probes, starts)
    configure(matrix)
    for task in range(low, high):
        part, begin = begin_part + task % parts, task // parts * block
        count = min(block, len(rows) - begin)
        arrange(matrix, probes, begin, count, left)
        for q in range(count):
            b = rows[begin + q]
            found[part, b] = have[q] = 0
            best[part, b, 0] = best[part, b, 1] = np.inf
            bases[q] = (part * found.shape[1] + b) * width
            first, seconds[q] = _known(best, b, part)
            bounds[q] = min(highest[b], reach(first, seconds[q], limits, begin + q))
        lost, own = 0, share(panel_bytes, count)
        for panel in range(part_start(part, panels), part_start(part + 1, panels)):
            at, first, q = panel * quads * PANEL * 4, panel * PANEL, 0
            multiply(matrix, left, STEP, TILE, steps * TILE, 2 * count, codes, at, steps, products)
            while q < count:
                r, wide = begin + q, 6 if q + 6 <= count else 1
                ask(codes, at + panel_bytes + q * own, at + panel_bytes + (q + wide) * own)
                if wide == 6:
                    noticed = _compare(
                        codes, at, quads, probes, starts, scale, tilt, r, half, priors, first, bounds, seconds, have,
                        before, bases, q, width - PANEL, index, energy, tilts, SIX, matrix, products, 2 * q * COLUMNS,
                    )  # fmt: skip
                else:
                    noticed = _compare(
                        codes, at, quads, probes, starts, scale, tilt, r, half, priors, first, bounds, seconds, have,
                        before, bases, q, width - PANEL, index, energy, tilts, ONE, matrix, products, 2 * q * COLUMNS,
                    )  # fmt: skip
                if noticed != 0:
                    for m in range(wide):
                        if (noticed >> m) & 1 != 0:
                            lost += _notice(
                                q + m, r + m, part, before[m], rows, limits, bounds, seconds, have, index, energy,
                                found, best,
                            )  # fmt: skip
                q += wide
            if lost == count:
                break
        for q in range(count):
            if found[part, rows[begin + q]] == 0:
                found[part, rows[begin + q]] = have[q]
    release(matrix)


@inner
def part_start(part, panels):  # type: ignore[no-untyped-def]
    """Where a part begins; the first, where the best is not known, is half as large as the others."""
    return max(0, 2 * part - 1) * panels // (2 * PARTS - 1)


@inner
def better(first, second, e):  # type: ignore[no-untyped-def]
    """The two best of three energies, the first two in order."""
    if e < first:
        return e, first
    return first, e if e < second else second


@inner
def reach(first, second, limits, b):  # type: ignore[no-untyped-def]
    """The energy from which on no state matters, by the two best and the limits of a query; see `screen._limits`."""
    return max(second + limits[b, 0], first + limits[b, 1])


@inner
def _known(best, b, part):  # type: ignore[no-untyped-def]
    """The two best energies of a part and of the first one, which the others know."""
    first, second = best[part, b, 0], best[part, b, 1]
    if part > 0:
        first, second = better(first, second, best[0, b, 0])
        first, second = better(first, second, best[0, b, 1])
    return first, second


@inner
def _notice(q, r, part, before, rows, limits, bounds, seconds, have, index, energy, found, best):  # type: ignore[no-untyped-def]
    """Lower the best two of a query by what was appended, and its bound; make room; 1 if the query is given up."""
    b, width = rows[r], index.shape[2]
    for i in range(before, have[q]):
        best[part, b, 0], best[part, b, 1] = better(best[part, b, 0], best[part, b, 1], energy[part, b, i])
    first, seconds[q] = _known(best, b, part)
    bounds[q] = min(bounds[q], reach(first, seconds[q], limits, r))
    if have[q] <= width - PANEL:
        return 0
    kept = 0
    for i in range(have[q]):
        if energy[part, b, i] < bounds[q]:
            index[part, b, kept], energy[part, b, kept] = index[part, b, i], energy[part, b, i]
            kept += 1
    have[q] = kept
    if kept <= width - 2 * PANEL:
        return 0
    found[part, b], have[q], bounds[q], seconds[q] = -1, 0, -np.inf, -np.inf
    return 1
