"""Sums of states times weights, in integers: weights become digits, tiles of codes are flipped.

Flipped, four states stand side by side for each of 16 dimensions, as in `octets` four dimensions for each of 16 states.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.codes import LARGEST, PANEL
from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.matrix import COLUMNS, ROWS, STEP, multiply, steps_of
from fastthermo.kernels.numba.octets import BYTES, ONE, accumulate, dot, joined
from fastthermo.kernels.numba.simd import (
    F32,
    I32,
    I64,
    WORDS,
    address,
    constant,
    fused,
    lanes,
    largest,
    llvm,
    load,
    maximum,
    shuffled,
    splat,
    spread,
)

BLOCK = 32  # dimensions side by side in a flipped tile: two vectors


@intrinsic
def _flip(typing: Any, codes: Any, at: Any, out: Any, to: Any, jump: Any) -> Any:
    """16 states by 16 dimensions from codes.flat[at] on become four groups of four states, `jump` bytes apart."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        codes_, at_, out_, to_, jump_ = values

        def place(kind: Any, array: Any, offset: Any) -> Any:
            return address(context, builder, kind, array, offset, BYTES)

        within = [16 * i + 4 * r + c for i in range(4) for c in range(4) for r in range(4)]
        rows = []
        for j in range(4):
            offset = builder.add(at_, ir.Constant(I64, j * PANEL * 4))
            row = builder.load(place(codes, codes_, offset), align=1)
            rows.append(shuffled(builder, row, row, within))
        pairs = []
        for a in (0, 2):
            for half in ((0, 1), (2, 3)):
                chosen = [16 * i + x + 64 * j for i in half for j in (0, 1) for x in range(16)]
                pairs.append(shuffled(builder, rows[a], rows[a + 1], chosen))
        for i in range(4):
            first, last = pairs[i // 2], pairs[2 + i // 2]
            lanes = [32 * (i % 2) + x + 64 * side for side in (0, 1) for x in range(32)]
            offset = builder.add(to_, builder.mul(jump_, ir.Constant(I64, i)))
            builder.store(shuffled(builder, first, last, lanes), place(out, out_, offset), align=1)
        return context.get_dummy_value()

    i = types.int64
    return types.void(codes, i, out, i, i), generate


@intrinsic
def _write(
    typing: Any, weights: Any, at: Any, scale: Any, dither: Any, lane: Any, out: Any, to: Any, jump: Any, sums: Any,
    digits: Any,
) -> Any:  # fmt: skip
    """The digits of round(scale w + dither[lane]) of 16 weights: out.flat[to + i jump + lane], and added up in sums.

    sums : int32, 4 for each digit.
    """
    balance = 0x808080 & (256**digits.count - 1)  # k + balance has the digits, each 128 too large, as its bytes

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        weights_, at_, scale_, dither_, lane_, out_, to_, jump_, sums_ = values[:9]
        w = builder.load(address(context, builder, weights, weights_, at_, F32.ir), align=4)
        shift = builder.load(address(context, builder, dither, dither_, lane_, F32.ir), align=4)
        whole = llvm(builder, "llvm.rint.v16f32", F32.ir, (fused(builder, w, spread(builder, scale_, 16), shift),))
        centre = constant(WORDS.ir, balance)
        k = builder.xor(builder.add(builder.fptosi(whole, WORDS.ir), centre), centre)
        bytes_ = builder.bitcast(k, BYTES)
        planes = shuffled(builder, bytes_, bytes_, [4 * lane + i for i in range(4) for lane in range(16)])
        for i in range(digits.count):
            part = shuffled(builder, planes, planes, range(16 * i, 16 * i + 16))
            offset = builder.add(to_, builder.mul(jump_, ir.Constant(I64, i)))
            builder.store(part, address(context, builder, out, out_, offset, part.type), align=1)
        pointer = address(context, builder, sums, sums_, ir.Constant(I64, 0), WORDS.ir)
        words = builder.bitcast(planes, WORDS.ir)
        more = dot(builder, builder.load(pointer, align=4), constant(BYTES, 1), words)
        builder.store(more, pointer, align=4)
        return context.get_dummy_value()

    i = types.int64
    return types.void(weights, i, types.float32, dither, i, out, i, i, sums, digits), generate


@intrinsic
def _gather(
    typing: Any, flipped: Any, at: Any, groups: Any, written: Any, start: Any, jump: Any, totals: Any, anchor: Any,
    d: Any, scale: Any, row: Any, out: Any, to: Any, stride: Any, digits: Any, rows: Any, matrix: Any, products: Any,
    place: Any,
) -> Any:  # fmt: skip
    """out[m, :] += scale[m] sum over n of k_mn (q_n - q_a) in 32 dimensions from d on, for len(rows) queries.

    flipped : `groups` of four states, from `at` on; written : the digits of query m, `jump` apart, from `start` on for
    rows[0]; totals : int32 (queries, digits), their negative sums; anchor : q_a, int32; row : the query of rows[0];
    out[m] begins at to + m stride; matrix, products, place : as in `accumulate`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (
            flipped_, at_, groups_, written_, start_, jump_, totals_, anchor_, d_, scale_, row_, out_, to_, stride_,
        ) = values[:14]  # fmt: skip
        made = (matrix, products, *values[17:])

        def number(value: int) -> Any:
            return ir.Constant(I64, value)

        def read(kind: Any, array: Any, place: Any, target: Any) -> Any:
            return builder.load(address(context, builder, kind, array, place, target), align=4)

        count = rows.count * digits.count
        bases = [builder.add(start_, builder.mul(jump_, number(i))) for i in range(count)]
        origin = [read(anchor, anchor_, builder.add(d_, number(16 * v)), WORDS.ir) for v in range(2)]
        begin = []
        for i in range(count):
            place = builder.add(builder.mul(row_, number(digits.count)), number(i))
            total = spread(builder, read(totals, totals_, place, I32), 16)
            begin += [builder.mul(total, origin[v]) for v in range(2)]
        sums = accumulate(context, builder, (flipped, flipped_), at_, groups_, (written, written_), bases, begin, made)
        for m in range(rows.count):
            factor = spread(builder, read(scale, scale_, builder.add(row_, number(m)), F32.ir.element), 16)
            for v in range(2):
                product = joined(builder, [sums[2 * (digits.count * m + i) + v] for i in range(digits.count)])
                place = builder.add(to_, builder.add(builder.mul(stride_, number(m)), number(16 * v)))
                pointer = address(context, builder, out, out_, place, F32.ir)
                builder.store(fused(builder, factor, product, builder.load(pointer, align=4)), pointer, align=4)
        return context.get_dummy_value()

    i = types.int64
    given = (flipped, i, i, written, i, i, totals, anchor, i, scale, i, out, i, i, digits, rows, matrix, products, i)
    return types.void(*given), generate


@inner
def fill_dither(dither):  # type: ignore[no-untyped-def]
    """Numbers spread evenly over (-1/2, 1/2), however many of them are taken."""
    for i in range(dither.size):
        dither[i] = (0.6180339887 * i) % 1 - 0.4999


@inner
def write(weights, q, padded, tile, dither, written, sums, totals, digits):  # type: ignore[no-untyped-def]
    """The weights of query q as digits; returns their step, and the sum of the integers.

    dither : (tile,), so that errors of rounding have nothing to do with the states, even where weights differ by less.
    """
    step, none = lanes(weights), splat(np.float32(0.0))
    most = none
    for i in range(0, padded, step):
        w = load(weights, q * tile + i)
        most = maximum(most, maximum(w, none - w))
    top = np.float64(largest(most))
    per = np.float32(min(LARGEST[len(digits)] / top, 1e38)) if top > 0 else np.float32(0.0)
    sums[:] = 0
    for i in range(0, padded, step):
        _write(weights, q * tile + i, per, dither, i, written, q * len(digits) * tile + i, tile, sums, digits)
    whole = 0.0
    for i in range(len(digits) - 1, -1, -1):
        totals[q, i] = -(sums[4 * i] + sums[4 * i + 1] + sums[4 * i + 2] + sums[4 * i + 3])
        whole = 256 * whole - totals[q, i]
    return 1 / np.float64(per) if top > 0 else 0.0, whole


@inner
def gather(  # type: ignore[no-untyped-def]
    codes, first, padded, flipped, written, tile, totals, anchor, scale, count, out, depth, digits, rows, matrix,
    products,
):  # fmt: skip
    """Add the sums of written weights times q - q_a to rows of `depth` numbers of `out`.

    matrix, products : of `matrix.tiles`, and room for products.
    """
    quads, groups, high = codes.shape[1], padded // 4, count * len(digits)
    if matrix is not None:
        for m in range(high):
            for i in range(padded, steps_of(padded) * STEP):
                written[m * tile + i] = 0
    for d in range(0, depth, BLOCK):
        for i in range(0, padded, 16):
            at = ((first + i) // PANEL * quads + d // 4) * PANEL * 4 + (i % PANEL) * 4
            for v in range(2):
                if d + 16 * v < quads * 4:
                    _flip(codes, at + v * PANEL * 16, flipped, i // 4 * 4 * BLOCK + 64 * v, 4 * BLOCK)
        multiply(matrix, written, tile, STEP, ROWS * tile, high, flipped, 0, steps_of(padded), products)
        q = 0
        while q < count:
            wide, at, place = len(rows) if q + len(rows) <= count else 1, q * len(digits), q * len(digits) * COLUMNS
            if wide > 1:
                _gather(
                    flipped, 0, groups, written, at * tile, tile, totals, anchor, d, scale, q, out, q * depth + d,
                    depth, digits, rows, matrix, products, place,
                )  # fmt: skip
            else:
                _gather(
                    flipped, 0, groups, written, at * tile, tile, totals, anchor, d, scale, q, out, q * depth + d,
                    depth, digits, ONE, matrix, products, place,
                )  # fmt: skip
            q += wide
