"""Terms of `fastthermo.kernels.bounds` that kernels share."""

import triton
import triton.language as tl

from fastthermo.kernels.bounds import CUTOFF, DOUBLE
from fastthermo.kernels.triton.config import ALIKE, NARROW_MEAN, UNSURE
from fastthermo.kernels.triton.tile import LARGEST

LIMITS = tl.constexpr((UNSURE, ALIKE, NARROW_MEAN**2))
LOGITS = tl.constexpr(1e36)  # that float32 holds
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
def reach_of(radius, spread, beta, distance, cutoff):
    """`bounds.reach`."""
    return tl.minimum(radius, distance + tl.sqrt(distance * distance + 2 * (cutoff + spread) / beta))


@triton.jit
def product_error(D, radius, distance):
    """Of a float64 product about the anchor, `distance` from the field: of an energy; radius as of `reach_of`."""
    return (tl.minimum(D, 256) + D / 256 + 7) * UNIT64 * radius * (radius / 2 + distance)


@triton.jit
def single_does(narrow: tl.constexpr, square, size, flag, logit, energy, others, beta, radius, distance, reach):
    """Whether float32 holds the energies of a query, and its products are precise enough: if flag > 0, of a tail whose
    logits err by at most `logit`; `others` is the weight of all but the dominant state.

    square : the mean square of what is wanted; size : the reach of states that matter times the share of the tail, of
    which the rounding of products is; narrow : how much of it the root of `square` must be. False of what is no number.
    """
    fine = (square >= size * size * (narrow * narrow)) & ((logit <= LIMITS[0]) | (flag == 0))
    largest = radius * (radius / 2 + distance)
    held = (largest <= LARGEST) & (beta * largest <= LOGITS)
    apart = (beta * energy >= LIMITS[1] * others) | (2 * energy >= LIMITS[2] * reach * reach)
    return fine & held & apart
