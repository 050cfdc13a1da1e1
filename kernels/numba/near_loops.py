"""The loops of `near` over a tile of states, emitted whole so that every value they use again stays in a register.

A tile is a panel of vectors: for every 16 states (8 in float64) a vector a coordinate and, if `tilts`, one of log2 phi.
Three loops pass over it, each with four chains of operations or more in flight:

    energies   e_n = |y_n - h|^2 of a pair of queries, and the least e or largest z
    weights    e_n of one query become w_n = 2^(z_n - m), z = c e + log2 phi; sum w, w x, w x^2, w^2 with x = e - e_r
    push       sum w (y - h) of a pair of queries, up to four coordinates at a time
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.exponential import power, scaled
from fastthermo.kernels.numba.simd import I64, VECTORS, address, constant, fence, fused, loop, shuffled, smaller, spread

PAIR = 2
UNROLLED = 4  # vectors a step of `weights`, and half of them of the others; tiles are padded to whole steps
CHUNK = 16  # vectors of which the best is kept
AT_ONCE = 4  # coordinates of `push`
# rows of `how`, a number a query: c, 1.5 2^mantissa - m, e_r, and of none the largest z, least e and largest weight
SCALE, SHIFT, ORIGIN, LEAST, TOP, NONE = range(6)
ROWS = 6
W, WX, WXX, WW, PUSH = range(5)  # places in `sums`; coordinates from PUSH on


class _Emitter:
    """Loads, stores and repeated values in the loops."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any, rows: int = 0) -> None:
        self.context, self.builder, self.rows = context, builder, rows
        self.types, self.values = signature.args, values
        self.vector = VECTORS[signature.args[0].dtype]

    def at(self, argument: int, offset: Any, target: Any = None) -> Any:
        where = ir.Constant(I64, offset) if isinstance(offset, int) else offset
        kind = self.vector.ir.element if target is None else target
        return address(self.context, self.builder, self.types[argument], self.values[argument], where, kind)

    def place(self, base: Any, scale: int, offset: Any) -> Any:
        """base * scale + offset"""
        product = self.builder.mul(base, ir.Constant(I64, scale))
        return self.builder.add(product, ir.Constant(I64, offset) if isinstance(offset, int) else offset)

    def row(self, stride: Any, q: int, offset: int) -> Any:
        """q * stride + offset"""
        return self.builder.add(self.builder.mul(stride, ir.Constant(I64, q)), ir.Constant(I64, offset))

    def everywhere(self, argument: int, offset: Any) -> Any:
        return spread(self.builder, self.builder.load(self.at(argument, offset)), self.vector.count)

    def read(self, argument: int, offset: Any) -> Any:
        return self.builder.load(self.at(argument, offset, self.vector.ir), align=4)

    def write(self, value: Any, argument: int, offset: Any) -> None:
        self.builder.store(value, self.at(argument, offset, self.vector.ir), align=4)

    def coordinate(self, index: Any, step: int, row: int) -> Any:
        """Of the states in vector index + step of the panel, argument 0."""
        count = self.vector.count
        return self.read(0, self.place(index, self.rows * count, (step * self.rows + row) * count))

    def point(self, q: int, axis: int, axes: int, parts: int) -> list[Any]:
        """The parts of a query's coordinate, from `points`, argument 1."""
        return [self.everywhere(1, (part * PAIR + q) * axes + axis) for part in range(parts)]

    def difference(self, y: Any, point: list[Any]) -> Any:
        """y - h or, in two parts, (y - high) - low."""
        for k, part in enumerate(point):
            y = self.builder.fsub(y, part)
            if k + 1 < len(point):
                y = fence(self.builder, y)
        return y


@intrinsic
def energies(
    typing: Any,
    panel: Any,
    points: Any,
    energy: Any,
    stride: Any,
    how: Any,
    peaks: Any,
    count: Any,
    axes: Any,
    parts: Any,
    tilts: Any,
) -> Any:
    """e of a pair of queries into rows of `energy`, `stride` apart, for `count` vectors of states.

    peaks : for every CHUNK vectors, of either query a vector of the least e or, if `tilts`, of the largest z.
    """
    steps = UNROLLED // 2

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emitter(context, builder, signature, values, axes.count + tilts.count)
        vector = emit.vector
        points = [[emit.point(q, d, axes.count, parts.count) for d in range(axes.count)] for q in range(PAIR)]
        scales = [emit.everywhere(4, SCALE * PAIR + q) for q in range(PAIR)]
        chains = [(q, step) for step in range(steps) for q in range(PAIR)]
        start = constant(vector.ir, float("-inf" if tilts.count else "inf"))

        def body(index: Any, best: list[Any]) -> list[Any]:
            totals: dict[Any, Any] = {}
            for d in range(axes.count):
                ys = [emit.coordinate(index, step, d) for step in range(steps)]
                for q, step in chains:
                    s = emit.difference(ys[step], points[q][d])
                    totals[q, step] = fused(builder, s, s, totals[q, step]) if d else builder.fmul(s, s)
            for q, step in chains:
                e = totals[q, step]
                emit.write(e, 2, emit.place(index, vector.count, emit.row(values[3], q, step * vector.count)))
                if tilts.count:
                    z = fused(builder, scales[q], e, emit.coordinate(index, step, axes.count))
                    best[q] = builder.select(builder.fcmp_ordered(">", z, best[q]), z, best[q])
                else:
                    best[q] = smaller(builder, e, best[q])
            return best

        def chunk(index: Any, _: list[Any]) -> list[Any]:
            stop = builder.add(index, ir.Constant(I64, CHUNK))
            stop = builder.select(builder.icmp_signed("<", stop, values[6]), stop, values[6])
            best = loop(builder, stop, steps, [start] * PAIR, body, index)
            for q in range(PAIR):
                emit.write(best[q], 5, emit.place(index, vector.count * PAIR // CHUNK, q * vector.count))
            return []

        loop(builder, values[6], CHUNK, [], chunk)
        return context.get_dummy_value()

    return types.void(panel, points, energy, stride, how, peaks, count, axes, parts, tilts), generate


@intrinsic
def weights(
    typing: Any,
    panel: Any,
    energy: Any,
    begin: Any,
    how: Any,
    q: Any,
    count: Any,
    sums: Any,
    place: Any,
    axes: Any,
    tilts: Any,
) -> Any:
    """Energies from `begin` on of query q of the pair become weights; their sums W to WW go to `place` in `sums`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emitter(context, builder, signature, values, axes.count + tilts.count)
        vector, count, q = emit.vector, emit.vector.count, values[4]
        scale, shift, origin, least, top, none = (
            emit.everywhere(3, builder.add(q, ir.Constant(I64, row * PAIR))) for row in range(ROWS)
        )

        def body(index: Any, totals: list[Any]) -> list[Any]:
            places = [builder.add(values[2], emit.place(index, count, step * count)) for step in range(UNROLLED)]
            es = [smaller(builder, emit.read(1, at), top) for at in places]
            if tilts.count:
                priors = [emit.coordinate(index, step, axes.count) for step in range(UNROLLED)]
                zs = [fused(builder, scale, e, prior) for e, prior in zip(es, priors, strict=True)]
                zs = [builder.select(builder.fcmp_ordered(">", z, least), z, least) for z in zs]
                rounded = [fence(builder, builder.fadd(z, shift)) for z in zs]
                whole = [fence(builder, builder.fsub(r, shift)) for r in rounded]
                fractions = [builder.fsub(z, k) for z, k in zip(zs, whole, strict=True)]
            else:  # without rounding z
                rounded = [fence(builder, fused(builder, scale, e, shift)) for e in es]
                whole = [fence(builder, builder.fsub(r, shift)) for r in rounded]
                fractions = [fused(builder, scale, e, builder.fneg(k)) for e, k in zip(es, whole, strict=True)]
            powers = [power(builder, vector, f) for f in fractions]
            ws = [scaled(builder, vector, p, r) for p, r in zip(powers, rounded, strict=True)]
            ws = [builder.fsub(w, none) for w in ws]
            for step, w in enumerate(ws):
                emit.write(w, 1, places[step])
                x = builder.fsub(es[step], origin)
                wx = builder.fmul(w, x)
                totals = [
                    builder.fadd(totals[W], w),
                    builder.fadd(totals[WX], wx),
                    fused(builder, wx, x, totals[WXX]),
                    fused(builder, w, w, totals[WW]),
                ]
            return totals

        results = loop(builder, values[5], UNROLLED, [constant(vector.ir, 0.0)] * PUSH, body)
        _store_totals(builder, vector, results, lambda i, kind: emit.at(6, emit.place(values[7], 1, i), kind))
        return context.get_dummy_value()

    return types.void(panel, energy, begin, how, q, count, sums, place, axes, tilts), generate


@intrinsic
def push(
    typing: Any,
    panel: Any,
    points: Any,
    weight: Any,
    stride: Any,
    count: Any,
    sums: Any,
    width: Any,
    axes: Any,
    parts: Any,
    tilts: Any,
) -> Any:
    """Sums of w (y - h) of a pair, from PUSH on in rows of `sums`, which are `width` long."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emitter(context, builder, signature, values, axes.count + tilts.count)
        vector = emit.vector
        for first in range(0, axes.count, AT_ONCE):
            some = range(first, min(first + AT_ONCE, axes.count))
            steps = 2 if len(some) <= AT_ONCE // 2 else 1
            points = {(q, d): emit.point(q, d, axes.count, parts.count) for q in range(PAIR) for d in some}

            def body(index: Any, totals: list[Any], some: Any = some, steps: int = steps, points: Any = points) -> Any:
                for step in range(steps):
                    at = emit.place(index, vector.count, step * vector.count)
                    ws = [
                        emit.read(2, builder.add(builder.mul(values[3], ir.Constant(I64, q)), at)) for q in range(PAIR)
                    ]
                    for i, d in enumerate(some):
                        y = emit.coordinate(index, step, d)
                        for q in range(PAIR):
                            s, k = emit.difference(y, points[q, d]), q * len(some) + i
                            totals[k] = fused(builder, ws[q], s, totals[k])
                return totals

            start = [constant(vector.ir, 0.0)] * (PAIR * len(some))
            results = loop(builder, values[4], steps, start, body)
            for q in range(PAIR):
                row = builder.mul(values[6], ir.Constant(I64, q))
                own = results[q * len(some) : (q + 1) * len(some)]
                own += [constant(vector.ir, 0.0)] * (AT_ONCE - len(own))

                def at(i: int, kind: Any, row: Any = row, first: int = first) -> Any:
                    return emit.at(5, emit.place(row, 1, PUSH + first + i), kind)

                _store_totals(builder, vector, own, at)
        return context.get_dummy_value()

    return types.void(panel, points, weight, stride, count, sums, width, axes, parts, tilts), generate


def _store_totals(builder: Any, vector: Any, four: list[Any], at: Callable[[int, Any], Any]) -> None:
    """The sums over the lanes of four vectors, the i-th stored at(i, LLVM type); fewer steps than four reductions."""
    count, block = vector.count, 128 // vector.scalar.bitwidth

    def joined(x: Any, y: Any, size: int) -> Any:
        """In each block of 128 bits: sums of the two halves of x, then of y; `size` numbers stay beside each other."""
        half = block // 2

        def chosen(begin: int) -> list[int]:
            pieces = [
                [own + first + begin + i for i in range(size)] for first in range(0, half, size) for own in (0, count)
            ]
            return [b + i for b in range(0, count, block) for piece in pieces for i in piece]

        return builder.fadd(shuffled(builder, x, y, chosen(0)), shuffled(builder, x, y, chosen(half)))

    sums = [joined(four[0], four[1], 1), joined(four[2], four[3], 1)]
    if block == 4:
        sums = [joined(sums[0], sums[1], 2)]
    for i, x in enumerate(sums):
        while x.type.count > block:
            half = x.type.count // 2
            x = builder.fadd(shuffled(builder, x, x, range(half)), shuffled(builder, x, x, range(half, 2 * half)))
        builder.store(x, at(i * block, x.type), align=vector.scalar.bitwidth // 8)
