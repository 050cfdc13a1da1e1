"""Terms of `fastthermo.kernels.bounds` that kernels share."""

import triton
import triton.language as tl

from fastthermo.kernels.bounds import CUTOFF, DOUBLE

UNIT64, REACH = tl.constexpr(DOUBLE), tl.constexpr(CUTOFF)


@triton.jit
def expm1(x):
    """At least e^x - 1, for x >= 0; finite."""
    x = tl.minimum(x, 1e100)
    return x / (1 - tl.minimum(x, 0.9)) + tl.where(x > 0.9, x * 1e200, 0.0)


@triton.jit
def rms_of(least, excess, slack):
    """At most the rms force, and never 0; of numbers that are NaN, any."""
    return tl.sqrt(tl.maximum(2 * (least + excess) - slack, 0.0)) + 1e-300


@triton.jit
def difference_error(D, radius, spread, beta, least, CHANGES: tl.constexpr):
    """Of a logit that matters whose energy is a float64 sum of differences."""
    distance = tl.sqrt(2 * least)
    reach = tl.minimum(tl.sqrt(2 * (least + (REACH + spread) / beta)) + distance, 2 * radius)
    return (1 + CHANGES) * beta * (D + 4) * UNIT64 * reach * (reach / 2 + distance)


@triton.jit
def product_error(D, radius, distance):
    """Of a float64 product about the anchor, `distance` from the field: of an energy."""
    return (tl.minimum(D, 256) + D / 256 + 7) * UNIT64 * radius * (radius / 2 + distance)
