"""Counter-based normal noise: Philox 4x32-10 (Salmon et al., SC 2011) and Box-Muller, in float32 or float64."""

import triton
import triton.language as tl

from fastthermo.kernels import noise

LOG, SIN, COS = tl.constexpr(noise.LOG), tl.constexpr(noise.SIN), tl.constexpr(noise.COS)
LOG_4 = tl.constexpr(noise.LOG_4)
TURN = tl.constexpr(6.283185307179586 * 2.0**-32)


@triton.jit
def normals(seed, step, sample, draw, stream, WIDE: tl.constexpr):
    """Four standard normal numbers each for `sample` and `draw`, integers that broadcast; float64 where WIDE."""
    w0, w1, w2, w3 = words(seed, step, sample, draw, stream)
    if WIDE:
        z0, z1 = box_muller_wide(w0, w1)
        z2, z3 = box_muller_wide(w2, w3)
    else:
        z0, z1 = box_muller(w0, w1)
        z2, z3 = box_muller(w2, w3)
    return z0, z1, z2, z3


@triton.jit
def words(seed, step, sample, draw, stream):
    """Four 32-bit words each for the counter (sample, step, draw, stream)."""
    sample, draw = tl.broadcast(sample.to(tl.uint32), draw.to(tl.uint32))
    zero = tl.zeros_like(sample)
    return tl.philox(seed, sample, zero + step.to(tl.uint32), draw, zero + stream.to(tl.uint32))


@triton.jit
def in_order(z0, z1, z2, z3):
    """(A, B) each -> (A, 4 B), the four of a draw beside each other."""
    z = tl.join(tl.join(z0, z2), tl.join(z1, z3))
    return tl.reshape(z, [z0.shape[0], 4 * z0.shape[1]])


@triton.jit
def box_muller_wide(first, second):
    radius = tl.sqrt(-2 * tl.log((first.to(tl.float64) + 0.5) * 2.0**-32))
    angle = second.to(tl.float64) * TURN
    return radius * tl.cos(angle), radius * tl.sin(angle)


@triton.jit
def box_muller(first, second):
    radius = _radius(first.to(tl.int32, bitcast=True))
    cosine, sine = _cos_sin(second)
    return radius * cosine, radius * sine


@triton.jit
def _radius(word):
    """sqrt(-2 log u), u = (word + 1/2) 2^-32 = (1 + t) 2^-e with t in [-1/2, 0).

    Where u > 1/2, e = 0 and t = u - 1, which the word read as a signed number gives without cancellation; elsewhere e
    and 1 + t are exponent and mantissa. Nor does e log 2 - log(1 + t) cancel: both terms are positive.
    """
    signed = word.to(tl.float32) + 0.5
    bits = signed.to(tl.int32, bitcast=True)
    mantissa = ((bits & 0x7FFFFF) | (126 << 23)).to(tl.float32, bitcast=True)
    e = tl.where(word < 0, 0, 127 + 31 - (bits >> 23)).to(tl.float32)
    t = tl.where(word < 0, signed * 2.0**-32, mantissa - 1)
    return tl.sqrt_rn(tl.fma(t, _polynomial(t, LOG, 9), e * LOG_4))


@triton.jit
def _cos_sin(word):
    """Of 2 pi word 2^-32: the highest two bits of word + 2^29 count quarter turns; the rest, signed, is exact."""
    y = (word << 2).to(tl.int32, bitcast=True).to(tl.float32) * 2.0**-31
    sine, cosine = y * _polynomial(y * y, SIN, 4), _polynomial(y * y, COS, 5)
    quarter = (word + (1 << 29)) >> 30
    odd = (quarter & 1) != 0
    a, b = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    return tl.where(((quarter + 1) & 2) != 0, -a, a), tl.where((quarter & 2) != 0, -b, b)


@triton.jit
def _polynomial(x, COEFFICIENTS: tl.constexpr, COUNT: tl.constexpr):
    result = tl.full(x.shape, COEFFICIENTS[0], tl.float32)
    for i in tl.static_range(1, COUNT):
        result = tl.fma(result, x, tl.full(x.shape, COEFFICIENTS[i], tl.float32))
    return result
