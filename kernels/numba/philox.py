"""Counter-based normal noise: Philox 4x32-10 (Salmon et al., SC 2011) and Box-Muller, in float64 and in vectors.

    start(counter, same, ...)    counters of 16 consecutive groups of four numbers, and what all of them share
    w, = words((counter,), same) their four words, here of one counter
    z = normals(*w)              float32 normal numbers, relative error below 4e-7 whatever the words
    z = in_order(*z)             the 64 of them as four vectors in the order of memory
    advance(counter, same)       to the next 16 groups

Words are kept in lanes of 64 bits, for which there is an exact product of the lower halves; what the upper halves hold
is never looked at. Everything is emitted for twice the width of a vector, so that each instruction comes in two
independent copies and neither waits for the other.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.noise import COS, LOG, LOG_4, SIN
from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.simd import F32, I32, I64, WORDS, address, constant, fused, llvm, shuffled, spread

MASK = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)
ROUNDS = 10
FACTORS = 0xD2511F53, 0xCD9E8D57
RAISES = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # of the two keys, a round

COUNTERS = WORDS.count
LONGS = ir.VectorType(I64, COUNTERS)
INTEGERS, FLOATS = ir.VectorType(I32, 2 * COUNTERS), ir.VectorType(ir.FloatType(), 2 * COUNTERS)
SAMPLE, DRAW, COUNTER = 0, COUNTERS, 2 * COUNTERS  # places in `counter`, and its length
STEP, STREAM, GROUPS, WHOLE, PART, KEYS = range(6)  # places in `same`; two keys a round from KEYS on
SAME = KEYS + 2 * ROUNDS
# Which group a lane holds. `in_order` moves nothing between blocks of four lanes: lane 4 q + r of the words is of group
# 4 r + q. Of the 64-bit lanes the first half become the even lanes of the words, which takes one permutation.
PLACE = tuple([4 * (lane % 4) + lane // 4 for lane in (*range(0, COUNTERS, 2), *range(1, COUNTERS, 2))])


@inner
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Ten rounds of Philox 4x32 on 32-bit words held in uint64."""
    c0, c1, c2, c3 = c0 & MASK, c1 & MASK, c2 & MASK, c3 & MASK
    for _ in range(ROUNDS):
        p0 = np.uint64(FACTORS[0]) * c0
        p1 = np.uint64(FACTORS[1]) * c2
        c0, c1, c2, c3 = (p1 >> WORD) ^ c1 ^ k0, p1 & MASK, (p0 >> WORD) ^ c3 ^ k1, p0 & MASK
        k0 = (k0 + RAISES[0]) & MASK
        k1 = (k1 + RAISES[1]) & MASK
    return c0, c1, c2, c3


@inner
def box_muller(first, second):  # type: ignore[no-untyped-def]
    radius = np.sqrt(-2.0 * np.log((np.float64(first) + 0.5) * 2.0**-32))
    angle = np.float64(second) * (2 * np.pi * 2.0**-32)
    return radius * np.cos(angle), radius * np.sin(angle)


@inner
def start(counter, same, sample, groups, key0, key1, step, stream):  # type: ignore[no-untyped-def]
    """The first groups of a sample that has `groups` of them."""
    for lane in range(COUNTERS):
        counter[SAMPLE + lane] = sample + np.uint64(PLACE[lane] // groups)
        counter[DRAW + lane] = PLACE[lane] % groups
    same[STEP], same[STREAM], same[GROUPS] = step, stream, groups
    same[WHOLE], same[PART] = COUNTERS // groups, COUNTERS % groups
    for i in range(ROUNDS):
        same[KEYS + 2 * i] = (key0 + np.uint64(i) * RAISES[0]) & MASK
        same[KEYS + 2 * i + 1] = (key1 + np.uint64(i) * RAISES[1]) & MASK


def _at(context: Any, builder: Any, kind: Any, array: Any, place: int, target: Any) -> Any:
    return address(context, builder, kind, array, ir.Constant(I64, place), target)


def _everywhere(context: Any, builder: Any, kind: Any, array: Any, place: int) -> Any:
    return spread(builder, builder.load(_at(context, builder, kind, array, place, I64)), COUNTERS)


@intrinsic
def words(typing: Any, counters: Any, same: Any) -> Any:
    """The four words of each of a tuple of counters, round by round: the chains of one fill the gaps of the other."""
    four = types.UniTuple(WORDS, 4)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [(counters.dtype, builder.extract_value(values[0], i)) for i in range(counters.count)]
        found = _philox(context, builder, same, values[1], arrays)
        return context.make_tuple(builder, signature.return_type, [context.make_tuple(builder, four, x) for x in found])

    return types.UniTuple(four, counters.count)(counters, same), generate


def _philox(context: Any, builder: Any, kind: Any, same: Any, counters: Any) -> list[list[Any]]:
    """The four words of each of the counters, (type, array) pairs."""

    def shared(place: int) -> Any:
        return _everywhere(context, builder, kind, same, place)

    def product(c: Any, factor: int) -> Any:
        return builder.mul(builder.and_(c, constant(LONGS, int(MASK))), constant(LONGS, factor))

    def mixed(product_: Any, c: Any, key: Any) -> Any:
        return builder.xor(builder.xor(builder.lshr(product_, constant(LONGS, 32)), c), key)

    found = []
    for counter, array in counters:
        places = [_at(context, builder, counter, array, place, LONGS) for place in (SAMPLE, DRAW)]
        own = [builder.load(place, align=8) for place in places]
        found.append([own[0], shared(STEP), own[1], shared(STREAM)])
    for i in range(ROUNDS):
        keys = shared(KEYS + 2 * i), shared(KEYS + 2 * i + 1)
        products = [(product(c[0], FACTORS[0]), product(c[2], FACTORS[1])) for c in found]
        found = [
            [mixed(p1, c[1], keys[0]), p1, mixed(p0, c[3], keys[1]), p0]
            for (p0, p1), c in zip(products, found, strict=True)
        ]
    return [[_lower(builder, c) for c in four] for four in found]


def _lower(builder: Any, longs: Any) -> Any:
    """The lower words of 64-bit lanes, those of the second half between those of the first."""
    both = builder.bitcast(longs, INTEGERS)
    return shuffled(builder, both, both, [i for k in range(0, COUNTERS, 2) for i in (k, COUNTERS + k)])


@intrinsic
def advance(typing: Any, counter: Any, same: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        places = [_at(context, builder, counter, values[0], place, LONGS) for place in (SAMPLE, DRAW)]
        sample, draw = (builder.load(place, align=8) for place in places)
        groups, whole, part = (_everywhere(context, builder, same, values[1], place) for place in (GROUPS, WHOLE, PART))
        sample, draw = builder.add(sample, whole), builder.add(draw, part)
        over = builder.icmp_unsigned(">=", draw, groups)
        builder.store(builder.select(over, builder.add(sample, constant(LONGS, 1)), sample), places[0], align=8)
        builder.store(builder.select(over, builder.sub(draw, groups), draw), places[1], align=8)
        return context.get_dummy_value()

    return types.void(counter, same), generate


@intrinsic
def normals(typing: Any, w0: Any, w1: Any, w2: Any, w3: Any) -> Any:
    """Box-Muller on the words (w0, w1) and (w2, w3)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        first, second = (shuffled(builder, values[i], values[i + 2], range(2 * COUNTERS)) for i in (0, 1))
        radius = _radius(builder, first)
        cosine, sine = (_halves(builder, builder.fmul(radius, x)) for x in _cos_sin(builder, second))
        return context.make_tuple(builder, signature.return_type, [cosine[0], sine[0], cosine[1], sine[1]])

    return types.UniTuple(F32, 4)(w0, w1, w2, w3), generate


def _halves(builder: Any, x: Any) -> list[Any]:
    return [shuffled(builder, x, x, range(begin, begin + COUNTERS)) for begin in (0, COUNTERS)]


def _radius(builder: Any, word: Any) -> Any:
    """sqrt(-2 log u), u = (word + 1/2) 2^-32 = (1 + t) 2^-e with t in [-1/2, 0).

    Where u > 1/2, e = 0 and t = u - 1, which the word read as a signed number gives without cancellation; elsewhere e
    and 1 + t are exponent and mantissa. Nor does e log 2 - log(1 + t) cancel: both terms are positive.
    """
    signed = builder.fadd(builder.sitofp(word, FLOATS), constant(FLOATS, 0.5))
    upper = builder.icmp_signed("<", word, constant(INTEGERS, 0))
    bits = builder.bitcast(signed, INTEGERS)
    e = builder.sub(constant(INTEGERS, 127 + 31), builder.lshr(bits, constant(INTEGERS, 23)))
    e = builder.sitofp(builder.select(upper, constant(INTEGERS, 0), e), FLOATS)
    mantissa = builder.or_(builder.and_(bits, constant(INTEGERS, (1 << 23) - 1)), constant(INTEGERS, 126 << 23))
    lower_t = builder.fsub(builder.bitcast(mantissa, FLOATS), constant(FLOATS, 1.0))
    t = builder.select(upper, builder.fmul(signed, constant(FLOATS, 2.0**-32)), lower_t)
    square = fused(builder, t, _polynomial(builder, t, LOG), builder.fmul(e, constant(FLOATS, LOG_4)))
    return llvm(builder, f"llvm.sqrt.v{2 * COUNTERS}f32", FLOATS, (square,))


def _cos_sin(builder: Any, word: Any) -> tuple[Any, Any]:
    """Of 2 pi word 2^-32: the highest two bits of word + 2^29 count quarter turns; the rest, signed, is exact."""

    def signed(x: Any, sign: Any) -> Any:
        flip = builder.and_(sign, constant(INTEGERS, -(1 << 31)))
        return builder.bitcast(builder.xor(builder.bitcast(x, INTEGERS), flip), FLOATS)

    rest = builder.sitofp(builder.shl(word, constant(INTEGERS, 2)), FLOATS)
    y = builder.fmul(rest, constant(FLOATS, 2.0**-31))
    square = builder.fmul(y, y)
    sine, cosine = builder.fmul(y, _polynomial(builder, square, SIN)), _polynomial(builder, square, COS)
    turns = builder.add(word, constant(INTEGERS, 1 << 29))
    next_turn = builder.add(turns, constant(INTEGERS, 1 << 30))
    odd = builder.icmp_unsigned("!=", builder.and_(turns, constant(INTEGERS, 1 << 30)), constant(INTEGERS, 0))
    return signed(builder.select(odd, sine, cosine), next_turn), signed(builder.select(odd, cosine, sine), turns)


def _polynomial(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    result = constant(x.type, coefficients[0])
    for coefficient in coefficients[1:]:
        result = fused(builder, result, x, constant(x.type, coefficient))
    return result


@intrinsic
def in_order(typing: Any, z0: Any, z1: Any, z2: Any, z3: Any) -> Any:
    """Vectors of four groups each, the four numbers of a group beside each other."""
    blocks = range(0, COUNTERS, 4)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def chosen(x: Any, y: Any, *lanes: int) -> Any:
            """In each block of four lanes: 0 to 3 of x, 4 to 7 of y."""
            return shuffled(builder, x, y, [b + lane % 4 + lane // 4 * COUNTERS for b in blocks for lane in lanes])

        found = []
        for r in (0, 2):
            front, back = (chosen(values[i], values[i + 1], r, r + 4, r + 1, r + 5) for i in (0, 2))
            found += [chosen(front, back, 0, 1, 4, 5), chosen(front, back, 2, 3, 6, 7)]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(F32, 4)(z0, z1, z2, z3), generate
