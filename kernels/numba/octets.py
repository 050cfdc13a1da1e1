"""Products of bytes with numbers of two or three signed bytes, in integers: a quarter of the price of float32 a byte.

Where the states are bytes, y = lo + step q (`codes`), so are the digits of queries and of weights, to the base 256,
k_0 first. A panel of `codes` serves both products: as it is for energies, here; for means in `octet_sums`.
"""

from typing import Any

import llvmlite.binding as llvm_binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.codes import PANEL
from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.matrix import COLUMNS, STEP, TILE, multiply, steps_of
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
    loop,
    prefetch,
    spread,
)

BYTES = ir.VectorType(ir.IntType(8), 64)
ROWS = {2: (0,) * 6, 3: (0,) * 4}  # queries at a time, by digits: 24 accumulators and 2 vectors in 32 registers
ONE = (0,)
CACHE = 1 << 15  # of the first cache, what a panel may fill


def dot(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """sums + the products of four unsigned bytes with four signed ones in each of 16 lanes; `signed` of int32 lanes."""
    recent = llvm_binding.llvm_version_info[0] >= 22  # the type of the byte operands changed
    pair = (unsigned, builder.bitcast(signed, BYTES)) if recent else (builder.bitcast(unsigned, WORDS.ir), signed)
    return llvm(builder, "llvm.x86.avx512.vpdpbusd.512", WORDS.ir, (sums, *pair))


def accumulate(
    context: Any, builder: Any, right: tuple[Any, Any], at: Any, steps: Any, left: tuple[Any, Any], bases: list[Any],
    begin: list[Any], made: tuple[Any, Any, Any, Any],
) -> list[Any]:  # fmt: skip
    """begin + left[m].right in registers: two vectors of int32 a row m, whose bytes begin at bases[m].

    right : array type and value, bytes: four for each of 32 columns, `steps` times, from `at` on.
    made : type of `matrix`; type and value of `products`; where those of the rows begin; made here if None.
    """

    def read(array: tuple[Any, Any], place: Any, target: Any) -> Any:
        return builder.load(address(context, builder, *array, place, target), align=1)

    def number(value: int) -> Any:
        return ir.Constant(I64, value)

    matrix, kind, values, first = made
    if matrix is not types.none:
        places = [builder.add(first, number(16 * i)) for i in range(len(begin))]
        return [builder.add(x, read((kind, values), place, WORDS.ir)) for x, place in zip(begin, places, strict=True)]

    def body(k: Any, sums: list[Any]) -> list[Any]:
        start = builder.add(at, builder.mul(k, number(PANEL * 4)))
        columns = [read(right, builder.add(start, number(64 * v)), BYTES) for v in range(2)]
        new = []
        for i, base in enumerate(bases):
            barrier(builder)
            row = spread(builder, read(left, builder.add(base, builder.mul(k, number(4))), I32), 16)
            new += [dot(builder, sums[2 * i + v], columns[v], row) for v in range(2)]
        return new

    return loop(builder, steps, 1, begin, body)


def joined(builder: Any, digits: list[Any]) -> Any:
    """The sum of 256^i k_i in float32 from int32 sums."""
    value = builder.sitofp(digits[-1], F32.ir)
    for digit in digits[-2::-1]:
        value = fused(builder, constant(F32.ir, 256.0), value, builder.sitofp(digit, F32.ir))
    return value


@intrinsic
def _project(
    typing: Any, codes: Any, at: Any, quads: Any, probes: Any, starts: Any, scale: Any, offset: Any, row: Any,
    base: Any, origin: Any, out: Any, to: Any, jump: Any, digits: Any, rows: Any, matrix: Any, products: Any,
    place: Any,
) -> Any:  # fmt: skip
    """out[m, :] = base + offset[m] - scale[m] (k_m.q + starts[m]) of 32 states and len(rows) queries.

    at, origin, to + m jump : where codes, base and out[m] begin; row : the first query; probes : (B, digits, 4 quads);
    starts : (B, digits); matrix, products, place : as in `accumulate`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        codes_, at_, quads_, probes_, starts_, scale_, offset_, row_, base_, origin_, out_, to_, jump_ = values[:13]
        made = (matrix, products, *values[16:])

        def number(value: int) -> Any:
            return ir.Constant(I64, value)

        def each(kind: Any, array: Any, place: Any) -> Any:
            scalar = I32 if kind is starts else F32.ir.element
            return spread(builder, builder.load(address(context, builder, kind, array, place, scalar), align=4), 16)

        stride = builder.mul(quads_, number(4))
        first = builder.mul(row_, number(digits.count))
        places = [builder.add(first, number(i)) for i in range(rows.count * digits.count)]
        bases = [builder.mul(place, stride) for place in places]
        begin = [each(starts, starts_, place) for place in places for _ in range(2)]
        sums = accumulate(context, builder, (codes, codes_), at_, quads_, (probes, probes_), bases, begin, made)
        places = [builder.add(origin_, number(16 * v)) for v in range(2)]
        added = [builder.load(address(context, builder, base, base_, place, F32.ir), align=4) for place in places]
        for m in range(rows.count):
            query = builder.add(row_, number(m))
            factor, addend = builder.fneg(each(scale, scale_, query)), each(offset, offset_, query)
            for v in range(2):
                product = joined(builder, [sums[2 * (digits.count * m + i) + v] for i in range(digits.count)])
                place = builder.add(to_, builder.add(builder.mul(jump_, number(m)), number(16 * v)))
                value = builder.fadd(added[v], fused(builder, factor, product, addend))
                builder.store(value, address(context, builder, out, out_, place, F32.ir), align=4)
        return context.get_dummy_value()

    i = types.int64
    given = (codes, i, i, probes, starts, scale, offset, i, base, i, out, i, i, digits, rows, matrix, products, i)
    return types.void(*given), generate


@inner
def share(span, count):  # type: ignore[no-untyped-def]
    """Bytes of the next panel that each of `count` queries asks for, where it fits the first cache.

    From memory, it would keep the first queries waiting.
    """
    return (span + count - 1) // count if span <= CACHE else 0


@inner
def ask(codes, begin, end):  # type: ignore[no-untyped-def]
    for i in range(begin // 64 * 64, end, 64):
        prefetch(codes, i)


@inner
def project(  # type: ignore[no-untyped-def]
    codes, first, padded, probes, starts, scale, offset, begin, count, base, origin, out, to, tile, digits, rows,
    matrix, left, products,
):  # fmt: skip
    """base + t.g of `padded` states from `first` on and `count` queries from `begin` on, in rows of `tile` numbers.

    base : of every state, from `origin` on.
    matrix, left, products : of `matrix.tiles`, the queries as `matrix.arrange` puts them, and room for products.
    """
    quads = codes.shape[1]
    span, steps = quads * PANEL * 4, steps_of(quads * 4)
    own = share(span, count)
    for i in range(0, padded, PANEL):
        at, q = (first + i) * quads * 4, 0
        multiply(matrix, left, STEP, TILE, steps * TILE, count * len(digits), codes, at, steps, products)
        while q < count:
            wide, place = len(rows) if q + len(rows) <= count else 1, q * len(digits) * COLUMNS
            ask(codes, at + span + q * own, at + span + (q + wide) * own)
            if wide > 1:
                _project(
                    codes, at, quads, probes, starts, scale, offset, begin + q, base, origin + i, out,
                    to + q * tile + i, tile, digits, rows, matrix, products, place,
                )  # fmt: skip
            else:
                _project(
                    codes, at, quads, probes, starts, scale, offset, begin + q, base, origin + i, out,
                    to + q * tile + i, tile, digits, ONE, matrix, products, place,
                )  # fmt: skip
            q += wide
