"""2^x of vectors, lane by lane: range reduction and a polynomial on [-1/2, 1/2].

The relative error is below 2e-7 (float32) and 3e-16 (float64) between the exponents of normal numbers; smaller results
are 2^-126 and 2^-1022.
"""

import math
from typing import Any

from llvmlite import ir

from fastthermo.kernels.numba.simd import F32, F64, I64, WORDS, Vector, constant, fence, fused, lanewise, larger

# polynomials of 2^f on [-1/2, 1/2], highest power first: minimax in float32, Taylor in float64; 1 at 0 exactly
EXP2 = {
    F32: (1.3264727e-3, 9.671513e-3, 5.5507336e-2, 2.4022242e-1, 6.931470e-1, 1.0),
    F64: tuple(math.log(2) ** k / math.factorial(k) for k in range(13, -1, -1)),
}
FORMAT = {F32: (-126.0, 23, WORDS.ir), F64: (-1022.0, 52, ir.VectorType(I64, 8))}  # least exponent, mantissa, integers

# adding 1.5 2^mantissa rounds to an integer and leaves it in the lowest bits


def _exp2(builder: Any, vector: Vector, x: Any) -> Any:
    lowest, mantissa, _ = FORMAT[vector]
    magic = constant(vector.ir, 1.5 * 2.0**mantissa)
    x = larger(builder, x, constant(vector.ir, lowest))
    rounded = fence(builder, builder.fadd(x, magic))
    fraction = builder.fsub(x, fence(builder, builder.fsub(rounded, magic)))
    return scaled(builder, vector, power(builder, vector, fraction), rounded)


def _exp2_product(builder: Any, vector: Vector, scale: Any, x: Any, shifted: Any) -> Any:
    rounded = fence(builder, fused(builder, scale, x, shifted))
    fraction = fused(builder, scale, x, builder.fneg(builder.fsub(rounded, shifted)))
    return scaled(builder, vector, power(builder, vector, fraction), rounded)


def _exp2_shifted(builder: Any, vector: Vector, x: Any, shifted: Any) -> Any:
    rounded = fence(builder, builder.fadd(x, shifted))
    fraction = builder.fsub(x, fence(builder, builder.fsub(rounded, shifted)))
    return scaled(builder, vector, power(builder, vector, fraction), rounded)


def scaled(builder: Any, vector: Vector, x: Any, rounded: Any) -> Any:
    """x 2^k for an integer k that stands in the lowest bits of `rounded`."""
    _, mantissa, integers = FORMAT[vector]
    shift = builder.shl(builder.bitcast(rounded, integers), constant(integers, mantissa))
    return builder.bitcast(builder.add(builder.bitcast(x, integers), shift), vector.ir)


def power(builder: Any, vector: Vector, fraction: Any) -> Any:
    """2^f for f in [-1/2, 1/2]."""
    result = constant(vector.ir, EXP2[vector][0])
    for coefficient in EXP2[vector][1:]:
        result = fused(builder, result, fraction, constant(vector.ir, coefficient))
    return result


exp2 = lanewise(1, None, _exp2)
exp2_product = lanewise(3, None, _exp2_product)
exp2_shifted = lanewise(2, None, _exp2_shifted)
