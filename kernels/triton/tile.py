"""What kernels share: states in float64, their energies relative to a reference, and the list of groups that matter."""

# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"

import math

import triton
import triton.language as tl

BITS = tl.constexpr(1 / math.log(2))
LARGEST = tl.constexpr(1e16)  # energy of which float32 holds sums of squares


@triton.jit
def row(P, n, d, inside, D, number: tl.constexpr):
    """Numbers d of rows n of a matrix (., D), which broadcast; 0 elsewhere."""
    return tl.load(P + tl.cast(n, tl.int64) * D + d, mask=inside, other=0).to(number)  # n may be a constant


@triton.jit
def relative_energy(Y, H, b, r, n, N, D, RELATIVE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """H~_n - H~_r = sum_d s (s/2 + y_r - h), s = y_n - y_r, for states n (BLOCK_N,); or, if not RELATIVE, H~_n."""
    x = tl.zeros([BLOCK_N, BLOCK_D], tl.float64)
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        h = row(H, b, d, d < D, D, tl.float64)
        reference = row(Y, r, d, d < D, D, tl.float64) if RELATIVE else h
        y = row(Y, n[:, None], d[None, :], (n < N)[:, None] & (d < D)[None, :], D, tl.float64)
        s = y - reference[None, :]
        x += s * (0.5 * s + (reference - h)[None, :])
    return tl.sum(x, 1)


@triton.jit
def projected(
    Y, H, SHIFT, V, b, r, n, N, D, K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """H~_n - H~_r and v_k.(y_n - y_r - shift) for the K <= 2 probes of query b; 0 of probes that are not there."""
    x = tl.zeros([BLOCK_N, BLOCK_D], tl.float64)
    first, second = x, x
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        inside = d < D
        reference = row(Y, r, d, inside, D, tl.float64)
        pull = reference - row(H, b, d, inside, D, tl.float64)
        y = row(Y, n[:, None], d[None, :], (n < N)[:, None] & inside[None, :], D, tl.float64)
        s = y - reference[None, :]
        x += s * (0.5 * s + pull[None, :])
        s -= row(SHIFT, b, d, inside, D, tl.float64)[None, :]
        if K >= 1:
            first += s * row(V, b * K, d, inside, D, tl.float64)[None, :]
        if K == 2:
            second += s * row(V, b * K + 1, d, inside, D, tl.float64)[None, :]
    return tl.sum(x, 1), tl.sum(first, 1), tl.sum(second, 1)


@triton.jit
def group_of(GROUPS, b, j, kept, CAPACITY):
    """The group at place j of the list of query b, which holds all groups if they do not fit the list."""
    listed = tl.load(GROUPS + b.to(tl.int64) * CAPACITY + j, mask=kept <= CAPACITY, other=0)
    return tl.where(kept <= CAPACITY, listed, j)


@triton.jit
def listed(LISTS, b, j, kept, N, CAPACITY, BLOCK_N: tl.constexpr):
    """States (BLOCK_N,) of the j-th block of the list of query b, N where there is none."""
    place = j * BLOCK_N + tl.arange(0, BLOCK_N)
    n = tl.load(LISTS + b.to(tl.int64) * CAPACITY + place, mask=place < kept, other=0)
    return tl.where(place < kept, n, N)


@triton.jit
def share(count, part, parts):
    """Where a part of `count` begins and ends."""
    each = tl.cdiv(count, parts)
    return part * each, tl.minimum((part + 1) * each, count)


@triton.jit
def symmetric(x, where):
    """The symmetric part of x if `where`: tensor cores add the parts of a product in an order of their own."""
    return tl.where(where, 0.5 * (x + tl.trans(x)), x)


@triton.jit
def slope(beta):
    """-beta in bits, in float32: negative and finite for any beta, as infinite energies have no weight."""
    c = (beta * -BITS).to(tl.float32)
    return tl.where(beta > 0, tl.minimum(tl.maximum(c, -1e38), -1e-37), -1.0)


@triton.jit
def two_floats(h):
    """A float64 as a sum of two float32."""
    high = h.to(tl.float32)
    return high, (h - high.to(tl.float64)).to(tl.float32)


@triton.jit
def column(Y, n, inside, d: tl.constexpr, D: tl.constexpr, number: tl.constexpr):
    return tl.load(Y + n.to(tl.int64) * D + d, mask=inside, other=0).to(number)


@triton.jit
def pulls(Y, n, inside, high, low, D: tl.constexpr):
    """y_n - h in float32, a tuple of D columns; n broadcasts against the fields high + low."""
    s = ()
    for d in tl.static_range(D):
        s = s + ((column(Y, n, inside, d, D, tl.float32) - high[d]) - low[d],)
    return s


@triton.jit
def square_of(s, D: tl.constexpr):
    """|s|^2 of a tuple of D columns."""
    total = s[0] * s[0]
    for d in tl.static_range(1, D):
        total += s[d] * s[d]
    return total
