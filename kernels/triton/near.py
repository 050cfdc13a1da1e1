"""Boltzmann sums in few dimensions: squared distances by differences, twice over the states.

With e_n = |y_n - h|^2 the logits in bits are z_n = log2 phi_n - beta log2(e)/2 e_n. The first pass finds the dominant
state r, the second sums w_n = 2^(z_n - z_r) over all others: some tiles in float32, lane by lane, then in float64. A
field has more digits than float32: s = y - h = (y - high) - low, so that the relative error of e is at most (D + 4) u.
Where that is too coarse for a query, beta H~_r > FAR, or float32 does not hold its energies, a second kernel, which has
registers for it, takes both passes again by float64 differences, H~_n - H~_r = sum_d s (s/2 + y_r - h), s = y_n - y_r.
It sums powers of x = k (H~_n - H~_r), k the larger of beta and of what makes all x at most 1, which float32 holds.
"""
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"

import math

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import EXPONENTIAL, NONE, UNITS
from fastthermo.kernels.triton.certify import REACH, UNIT64, difference_error, expm1, rms_of
from fastthermo.kernels.triton.config import FAR, FEW_QUERIES, tile, tile_for
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.tile import BITS, LARGEST, column, pulls, slope, square_of, two_floats

TILES = tl.constexpr(64)  # that are summed in float32
UNIT32, WEIGHTS, LEFT = tl.constexpr(UNITS[4]), tl.constexpr(EXPONENTIAL[4]), tl.constexpr(NONE[4])


def near(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "single") -> Sums:
    """In precision "fast" without float64 for far queries whose energies float32 holds."""
    queries, dimension = field.shape
    dominant = torch.empty(queries, dtype=torch.int64, device=field.device)
    shift, out, far = torch.empty_like(field), field.new_empty(7, queries), torch.empty_like(dominant)
    few = queries < FEW_QUERIES
    again = tile("near few" if few else "near", dimension, packed.architecture)  # of all, where one of them is far
    first = again if few else tile_for(queries, "near", dimension, packed.architecture)
    for wide in (False, True):
        t = again if wide else first
        launch(
            _near_kernel,
            (cdiv(queries, t.b),),
            packed.states, packed.log_weights, packed.log_bits, packed.facts, field, beta, dominant, shift, out, far,
            queries, len(packed.states),
            WIDE=wide, UNIFORM=packed.uniform, FAR=math.inf if precision == "fast" else FAR, D=dimension,
            BLOCK_B=t.b, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
        )  # fmt: skip
    return Sums(dominant, shift, *out)


@triton.jit
def _differences(Y, n, inside, own, pull, D: tl.constexpr):
    """H~_n - H~_r in float64, of y_r = own and y_r - h = pull."""
    s = column(Y, n, inside, 0, D, tl.float64) - own[0][:, None]
    x = s * (0.5 * s + pull[0][:, None])
    for d in tl.static_range(1, D):
        s = column(Y, n, inside, d, D, tl.float64) - own[d][:, None]
        x += s * (0.5 * s + pull[d][:, None])
    return x


@triton.jit
def _place(best, where, N):
    """The lowest place of the largest logit of a query."""
    top = tl.max(best, 1)
    return tl.minimum(tl.min(tl.where(best == top[:, None], where, N), 1), N - 1)


@triton.jit
def _rows(Y, H, b, row, r, D: tl.constexpr):
    """y_r and y_r - h, tuples of D columns."""
    own = ()
    pull = ()
    for d in tl.static_range(D):
        y = tl.load(Y + r.to(tl.int64) * D + d, mask=row, other=0).to(tl.float64)
        own = own + (y,)
        pull = pull + (y - tl.load(H + b.to(tl.int64) * D + d, mask=row, other=0),)
    return own, pull


@triton.jit
def _largest(Y, PHI, beta, own, pull, N, D: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr):
    """The state of largest weight, from energies relative to that of `own`."""
    best = tl.full([BLOCK_B, BLOCK_N], float("-inf"), tl.float64)
    where = tl.zeros([BLOCK_B, BLOCK_N], tl.int32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)[None, :]
        z = tl.load(PHI + n, mask=n < N, other=float("-inf"))
        z = z - beta[:, None] * _differences(Y, n, n < N, own, pull, D)
        better = z > best
        where = tl.where(better, n, where)
        best = tl.where(better, z, best)
    return _place(best, where, N)


@triton.jit
def _nearest(
    Y, LOG_BITS, c, high, low, N, UNIFORM: tl.constexpr, D: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """The state of largest weight, from squared distances in float32."""
    best = tl.full([BLOCK_B, BLOCK_N], float("-inf"), tl.float32)
    where = tl.zeros([BLOCK_B, BLOCK_N], tl.int32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)[None, :]
        z = c * square_of(pulls(Y, n, n < N, high, low, D), D)
        if UNIFORM:
            z = tl.where(n < N, z, float("-inf"))
        else:
            z += tl.load(LOG_BITS + n, mask=n < N, other=float("-inf"))
        better = z > best
        where = tl.where(better, n, where)
        best = tl.where(better, z, best)
    return _place(best, where, N)


@triton.jit
def _near_kernel(
    Y, PHI, LOG_BITS, FACTS, H, BETA, DOMINANT, SHIFT, OUT, FLAGS, B, N,
    WIDE: tl.constexpr, UNIFORM: tl.constexpr, FAR: tl.constexpr, D: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """WIDE: of far queries, which it was found out without."""
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    row = b < B
    if WIDE:
        row = tl.load(FLAGS + b, mask=row, other=0) != 0
    if not WIDE or tl.max(row.to(tl.int32), 0) > 0:
        beta = tl.load(BETA + b, mask=row, other=1)
        c = 0.5 * slope(beta)[:, None]
        bad = tl.where(beta > 0, beta - beta, float("nan"))
        high, low = (), ()
        for d in tl.static_range(D):
            h = tl.load(H + b.to(tl.int64) * D + d, mask=row, other=0)
            bad += h - h
            first, second = two_floats(h)
            high, low = high + (first[:, None],), low + (second[:, None],)
        if WIDE:
            r = tl.load(DOMINANT + b, mask=row, other=0).to(tl.int32)
            own, pull = _rows(Y, H, b, row, r, D)
            beyond = row & (square_of(pull, D) > 2 * LARGEST)  # r may be any state
            for _ in range(1 + tl.max(beyond.to(tl.int32), 0)):
                r = _largest(Y, PHI, beta, own, pull, N, D, BLOCK_B, BLOCK_N)
                own, pull = _rows(Y, H, b, row, r, D)
        else:
            r = _nearest(Y, LOG_BITS, c, high, low, N, UNIFORM, D, BLOCK_B, BLOCK_N)
            own, pull = _rows(Y, H, b, row, r, D)
        if not WIDE:
            least = 0.5 * square_of(pull, D)
            far = row & ~((beta * least <= FAR) & (least <= LARGEST))
            tl.store(FLAGS + b, far.to(tl.int64), mask=row)
        _sum(
            Y, PHI, LOG_BITS, FACTS, DOMINANT, SHIFT, OUT, b, row, beta, c, bad, r, own, pull, high, low, B, N,
            WIDE, UNIFORM, D, BLOCK_B, BLOCK_N,
        )  # fmt: skip


@triton.jit
def _sum(
    Y, PHI, LOG_BITS, FACTS, DOMINANT, SHIFT, OUT, b, row, beta, c, bad, r, own, pull, high, low, B, N,
    WIDE: tl.constexpr, UNIFORM: tl.constexpr, D: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    least = 0.5 * square_of(pull, D)
    radius, spread = tl.load(FACTS), tl.load(FACTS + 1)
    k = tl.maximum(beta, 1 / (2 * radius * (radius + tl.sqrt(2 * least)) + 1e-300)) if WIDE else 2.0 + 0 * beta
    e_r = square_of(pulls(Y, r[:, None], row[:, None], high, low, D), D)
    prior_r = tl.load(PHI + r, mask=row, other=0)[:, None]
    bits_r = tl.load(LOG_BITS + r, mask=row, other=0)[:, None]
    rest = tl.zeros([BLOCK_B], tl.float64)
    excess, square, squares = rest, rest, rest
    shift, first = (), ()
    for d in tl.static_range(D):
        shift, first = shift + (rest,), first + (own[d].to(tl.float32)[:, None],)
    nothing = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
    for begin in range(0, N, TILES * BLOCK_N):
        a0, a1, a2, a3 = nothing, nothing, nothing, nothing
        moved = ()
        for _ in tl.static_range(D):
            moved = moved + (nothing,)
        for start in range(begin, tl.minimum(begin + TILES * BLOCK_N, N), BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)[None, :]
            if WIDE:
                prior = tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior_r
                x64 = _differences(Y, n, n < N, own, pull, D)
                w = tl.exp2(((prior - beta[:, None] * x64) * BITS).to(tl.float32))
                x = tl.minimum(tl.maximum(k[:, None] * x64, -1e15), 1e15).to(tl.float32)  # beyond, nothing weighs
            else:
                x = square_of(pulls(Y, n, n < N, high, low, D), D) - e_r
                z = c * x
                if not UNIFORM:
                    z += tl.load(LOG_BITS + n, mask=n < N, other=float("-inf")) - bits_r
                w = tl.exp2(z)
            w = tl.where((n != r[:, None]) & (n < N), w, 0.0)
            wx = w * x
            a0 += w
            a1 += wx
            a2 += wx * x
            a3 += w * w
            new = ()
            for d in tl.static_range(D):
                new = new + (moved[d] + w * (column(Y, n, n < N, d, D, tl.float32) - first[d]),)
            moved = new
        rest += tl.sum(a0, 1).to(tl.float64)
        excess += tl.sum(a1, 1).to(tl.float64)
        square += tl.sum(a2, 1).to(tl.float64)
        squares += tl.sum(a3, 1).to(tl.float64)
        total = ()
        for d in tl.static_range(D):
            total = total + (shift[d] + tl.sum(moved[d], 1).to(tl.float64),)
        shift = total
    scale = 1 / (1 + rest)
    excess, square = excess * scale / k, square * scale / k / k
    for d in tl.static_range(D):
        tl.store(SHIFT + b.to(tl.int64) * D + d, shift[d] * scale + bad, mask=row)
    tl.store(DOMINANT + b, r.to(tl.int64), mask=row)
    tl.store(OUT + b, tl.log(rest) + bad, mask=row)
    tl.store(OUT + B + b, least + bad, mask=row)
    tl.store(OUT + 2 * B + b, excess + bad, mask=row)
    tl.store(OUT + 3 * B + b, square + bad, mask=row)
    tl.store(OUT + 4 * B + b, (1 + squares) * scale * scale + bad, mask=row)

    # `bounds.near_error` and `near_log_error`, or with energies by differences
    relative = (D + 7) * (UNIT64 if WIDE else UNIT32)
    worst = relative * (beta * least + REACH + spread) + WEIGHTS
    second = least * least + 2 * least * excess + square  # <H~^2>
    rms = rms_of(least, excess, 8 * N * LEFT * radius * radius)
    logits = relative * beta * tl.sqrt(tl.maximum(second, 0.0)) + 8 * UNIT32 * spread + WEIGHTS
    differences = difference_error(D, radius, spread, beta, least, 1) + WEIGHTS + 4 * UNIT32 * (REACH + spread)
    share = tl.sqrt(rest * scale)
    force = expm1(2 * differences) * share if WIDE else (1 + expm1(2 * worst)) * logits
    bound = force + 160 * UNIT32 + N * UNIT64 + 4 * N * LEFT * radius / rms
    tl.store(OUT + 5 * B + b, bound + bad, mask=row)
    logits = relative * beta * (2 * least + excess) + 8 * UNIT32 * spread + 2 * WEIGHTS
    error = expm1(2 * differences) * share * share if WIDE else (1 + expm1(2 * worst)) * logits
    tl.store(OUT + 6 * B + b, error + 160 * UNIT32 + N * (UNIT64 + 2 * LEFT) + bad, mask=row)
