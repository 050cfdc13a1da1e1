"""Register-blocked products, and the transposition that feeds them.

A panel holds `width(panel)` = 2 vectors of numbers for every k, one k after the other: rows (k, width).
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.simd import I32, I64, VECTORS, address, barrier, constant, fused, loop, spread

VECTORS_WIDE = 2
ROWS = (0,) * 12  # 24 accumulators, 2 vectors of the panel: the 32 registers of AVX-512; fewer are spilled elsewhere
FEW = (0,) * 4
ONE = (0,)


@intrinsic
def width(typing: Any, panel: Any) -> Any:
    """Columns of a panel."""
    count = VECTORS_WIDE * VECTORS[panel.dtype].count
    return types.int64(panel), lambda context, builder, signature, values: ir.Constant(I64, count)


@intrinsic
def outer(
    typing: Any,
    left: Any,
    at: Any,
    stride: Any,
    panel: Any,
    start: Any,
    steps: Any,
    base: Any,
    begin: Any,
    leap: Any,
    out: Any,
    to: Any,
    jump: Any,
    rows: Any,
) -> Any:
    """out[m, :] = base[m, :] + sum over k < steps of left[m, k] panel[k, :] for len(rows) rows m, in the order of k.

    left[m, k] is left.flat[at + m stride + k], panel[k, :] begins at start + k width, base[m, :] at begin + m leap,
    out[m, :] at to + m jump.
    """
    vector = VECTORS[panel.dtype]
    scalar_bytes = panel.dtype.bitwidth // 8
    wide = range(VECTORS_WIDE)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        left_, at_, stride_, panel_, start_, steps_, base_, begin_, leap_, out_, to_, jump_ = values[:12]

        def place(kind: Any, array: Any, offset: Any, target: Any) -> Any:
            return address(context, builder, kind, array, offset, target)

        bases = [builder.add(at_, builder.mul(stride_, ir.Constant(I64, m))) for m in range(rows.count)]

        def body(k: Any, sums: list[Any]) -> list[Any]:
            column = builder.add(start_, builder.mul(k, ir.Constant(I64, VECTORS_WIDE * vector.count)))
            right = [
                builder.load(
                    place(panel, panel_, builder.add(column, ir.Constant(I64, v * vector.count)), vector.ir),
                    align=scalar_bytes,
                )
                for v in wide
            ]
            new = []
            for m in range(rows.count):
                barrier(builder)
                scalar = builder.load(place(left, left_, builder.add(bases[m], k), vector.ir.element))
                factor = spread(builder, scalar, vector.count)
                new += [fused(builder, factor, right[v], sums[m * VECTORS_WIDE + v]) for v in wide]
            return new

        zero = constant(vector.ir, 0.0)
        sums = loop(builder, steps_, 1, [zero] * (rows.count * VECTORS_WIDE), body)
        for m in range(rows.count):
            row = ir.Constant(I64, m)
            source, target = builder.add(begin_, builder.mul(leap_, row)), builder.add(to_, builder.mul(jump_, row))
            for v in wide:
                column = ir.Constant(I64, v * vector.count)
                old = place(base, base_, builder.add(source, column), vector.ir)
                result = builder.fadd(sums[m * VECTORS_WIDE + v], builder.load(old, align=scalar_bytes))
                builder.store(result, place(out, out_, builder.add(target, column), vector.ir), align=scalar_bytes)
        return context.get_dummy_value()

    i = types.int64
    return types.void(left, i, i, panel, i, i, base, i, i, out, i, i, rows), generate


@intrinsic
def transpose(typing: Any, source: Any, at: Any, stride: Any, target: Any, to: Any, jump: Any) -> Any:
    """target[j, i] = source[i, j] for a square of as many rows as a vector has lanes."""
    vector = VECTORS[source.dtype]
    count, scalar_bytes = vector.count, source.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def pointer(kind: Any, array: Any, offset: Any, step: Any, row: int) -> Any:
            where = builder.add(offset, builder.mul(step, ir.Constant(I64, row)))
            return address(context, builder, kind, array, where, vector.ir)

        rows = [
            builder.load(pointer(source, values[0], values[1], values[2], i), align=scalar_bytes) for i in range(count)
        ]
        half = 1
        while half < count:
            for i in range(count):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    low = [j if not j & half else count + j - half for j in range(count)]
                    high = [j + half if not j & half else count + j for j in range(count)]
                    rows[i], rows[i + half] = (
                        builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, count), mask))
                        for mask in (low, high)
                    )
            half *= 2
        for i in range(count):
            builder.store(rows[i], pointer(target, values[3], values[4], values[5], i), align=scalar_bytes)
        return context.get_dummy_value()

    i = types.int64
    return types.void(source, i, i, target, i, i), generate


@inner
def multiply(left, at, stride, rows, panel, start, steps, out, to, jump):  # type: ignore[no-untyped-def]
    """out += products; see `outer`."""
    multiply_onto(left, at, stride, rows, panel, start, steps, out, to, jump, out, to, jump)


@inner
def multiply_onto(left, at, stride, rows, panel, start, steps, base, begin, leap, out, to, jump):  # type: ignore[no-untyped-def]
    """`outer` for any number of rows; a row's sums do not depend on how many there are."""
    m = 0
    while m < rows:
        x, y, z = at + m * stride, begin + m * leap, to + m * jump
        if m + 12 <= rows:
            outer(left, x, stride, panel, start, steps, base, y, leap, out, z, jump, ROWS)
            m += 12
        elif m + 4 <= rows:
            outer(left, x, stride, panel, start, steps, base, y, leap, out, z, jump, FEW)
            m += 4
        else:
            outer(left, x, stride, panel, start, steps, base, y, leap, out, z, jump, ONE)
            m += 1
