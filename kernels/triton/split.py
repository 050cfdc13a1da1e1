"""Numbers as sums of two float16, high + low, whose products on tensor cores have the precision of float32.

With g = h - a, t = y - a, g ~ g1 + g2 and t ~ t1 + t2, scaled by powers of two,

    |t.g - (t1.g1 + t1.g2 + t2.g1) as computed| <= |g - g1 - g2| R + |g| max |t - t1 - t2| + |g2| max |t2| + gamma |g| R

by Cauchy-Schwarz: `eps`, with the rounding of the energy |t|^2/2 - t.g and of what is made of it. R is max |t| of the
states that matter (`bounds.reach`), of which t - t1 is at most 2^-11 R and t - t1 - t2 at most 2^-22 R, but for the
smallest numbers of float16. Tensor cores accumulate a block of dimensions at a time, the three products of a block in
one chain: gamma = (3 block / 8 + 8 + D / block) 2^-22.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.bounds import CUTOFF
from fastthermo.kernels.triton.certify import reach_of
from fastthermo.kernels.triton.config import TYPICAL, Tile, tile
from fastthermo.kernels.triton.device import cdiv, launch, power_below
from fastthermo.kernels.triton.pack import Packed, width
from fastthermo.kernels.triton.tile import share

ACCUMULATION = 2.0**-22
WEIGHT = 14  # weights are stored times 2^14, as two float16: to 2^-38 of the largest
FEW = 16  # queries up to which a tile holds no more
PROGRAMS = 1056  # that fill a device
CHAIN = 256  # tiles that one program adds up in float32, about


class Halves(NamedTuple):
    """Vectors v - origin of (B,) queries in two parts, scaled, and what is lost."""

    high: torch.Tensor  # (B, width) float16, as `Codes`
    low: torch.Tensor
    unit: torch.Tensor  # (B,) float32: of a product with `Codes`
    length: torch.Tensor  # (B,): |v - origin|
    eps: torch.Tensor  # (B,): bounds the error of an energy
    typical: torch.Tensor  # (B,): expected error of a logit


def products_of(packed: Packed, precision: str) -> int:
    """1: high parts alone; 2: of states that are their high parts; 3."""
    assert packed.codes is not None
    return 1 if precision == "tf32" else 2 if packed.codes.rest is None else 3


def halves(
    packed: Packed,
    vectors: torch.Tensor,
    beta: torch.Tensor,
    precision: str,
    anchored: bool = True,
    gamma: float | None = None,
    cutoff: float = CUTOFF,
) -> Halves:
    """gamma : of other products than those of `energies`; cutoff : states above e^-cutoff matter."""
    queries, dimension = vectors.shape
    high = torch.empty(queries, width(dimension), dtype=torch.float16, device=vectors.device)
    low, unit = torch.empty_like(high), torch.empty(queries, dtype=torch.float32, device=vectors.device)
    length, eps, typical = vectors.new_empty(3, queries)
    block = _tile(packed, queries).d
    gamma = (3 * block / 8 + 8 + dimension / block) * ACCUMULATION if gamma is None else gamma
    t = tile("halves", dimension, packed.architecture)
    launch(
        _halves_kernel,
        (queries,),
        vectors, packed.anchor, beta, packed.facts, high, low, unit, length, eps, typical, dimension, high.shape[1],
        gamma, cutoff,
        ANCHORED=anchored, PRODUCTS=products_of(packed, precision), TYPICAL=TYPICAL * 2.0**-24,
        BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return Halves(high, low, unit, length, eps, typical)


def energies(packed: Packed, g: Halves, precision: str, work: torch.Tensor, square: bool = True) -> None:
    """work (B, pitch) float32: |t_n|^2/2 - t_n.g, or -t_n.g."""
    codes, (queries, wide), t = packed.codes, g.high.shape, _tile(packed, len(g.high))
    assert codes is not None
    size = len(packed.states)
    launch(
        _energies_kernel,
        (cdiv(queries, t.b) * cdiv(size, t.n),),
        g.high, g.low, codes.codes, codes.codes if codes.rest is None else codes.rest, g.unit, packed.half_squares,
        work, queries, size, wide, work.shape[1],
        PRODUCTS=products_of(packed, precision), SQUARE=square, BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


def average(packed: Packed, work: torch.Tensor, flags: torch.Tensor, precision: str) -> tuple[torch.Tensor, int]:
    """(parts, B, width) float32, to be summed: 2^14 scale sum_n w_n t_n of the queries whose flag is set; and how many
    tiles a part adds. Rows of the other queries hold anything."""
    codes, queries, size = packed.codes, len(work), len(packed.states)
    assert codes is not None
    t = tile("split average few" if queries <= FEW else "split average", packed.states.shape[1], packed.architecture)
    wide = codes.codes.shape[1]
    rows, columns = cdiv(queries, t.b), cdiv(wide, t.d)
    tiles = cdiv(size, t.n)
    parts = sharers(tiles, rows * columns, 64)
    out = torch.empty(parts, queries, wide, dtype=torch.float32, device=work.device)
    launch(
        _average_kernel,
        (columns * rows, parts),
        work.view(torch.int32), flags, codes.codes, codes.codes if codes.rest is None else codes.rest, out,
        queries, size, wide, work.shape[1],
        PRODUCTS=products_of(packed, precision), BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out, cdiv(tiles, parts)


def sharers(tiles: int, blocks: int, most: int) -> int:
    """Programs that share the tiles of states for each block of sums: to fill the device, and for sums in float32.

    A power of two, for kernels are compiled for each.
    """
    return power_below(min(most, tiles, max(PROGRAMS // max(1, blocks), tiles // CHAIN)))


def _tile(packed: Packed, queries: int) -> Tile:
    return tile("split few" if queries <= FEW else "split", packed.states.shape[1], packed.architecture)


@triton.jit
def _halves_kernel(
    V, ANCHOR, BETA, FACTS, HIGH, LOW, UNIT, LENGTH, EPS, ERROR, D, WIDTH, gamma, cutoff,
    ANCHORED: tl.constexpr, PRODUCTS: tl.constexpr, TYPICAL: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    largest = tl.zeros([BLOCK_D], tl.float64)
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        v = tl.load(V + b * D + d, mask=d < D, other=0)
        if ANCHORED:
            v -= tl.load(ANCHOR + d, mask=d < D, other=0)
        largest = tl.maximum(largest, tl.abs(v))
    bits = tl.maximum(tl.max(largest, 0), 1e-60).to(tl.int64, bitcast=True)
    exponent = ((bits >> 52) & 0x7FF) - 1022
    scale = ((11 - exponent + 1023) << 52).to(tl.float64, bitcast=True)
    square = tl.zeros([BLOCK_D], tl.float64)
    small, lost = square, square
    for k in range(0, WIDTH, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        v = tl.load(V + b * D + d, mask=d < D, other=0)
        if ANCHORED:
            v -= tl.load(ANCHOR + d, mask=d < D, other=0)
        high = (v * scale).to(tl.float16)
        left = v * scale - high.to(tl.float64)
        low = left.to(tl.float16)
        tl.store(HIGH + b * WIDTH + d, high, mask=d < WIDTH)
        tl.store(LOW + b * WIDTH + d, low, mask=d < WIDTH)
        square += v * v
        small += low.to(tl.float64) * low.to(tl.float64)
        left -= low.to(tl.float64)
        lost += left * left
    length = tl.sqrt(tl.sum(square, 0))
    beta, radius, spread = tl.load(BETA + b), tl.load(FACTS), tl.load(FACTS + 1)
    radius = reach_of(radius, spread, beta, length, cutoff)
    t_scale, t_lost, t_small = tl.load(FACTS + 2), tl.load(FACTS + 3), tl.load(FACTS + 4)
    smallest = tl.sqrt(D + 0 * length) * 2.0**-25 / t_scale
    t_lost = tl.minimum(t_lost, 2.0**-22 * radius + smallest)
    t_small = tl.minimum(t_small, 2.0**-11 * radius + smallest)
    g_small, g_lost = tl.sqrt(tl.sum(small, 0)) / scale, tl.sqrt(tl.sum(lost, 0)) / scale
    eps = g_lost * radius + length * t_lost + g_small * t_small + gamma * length * radius
    if PRODUCTS == 1:
        eps += g_small * radius + length * t_small
    size = radius * (radius / 2 + length)
    eps += 9.6e-7 * (size + spread / beta)  # 2^-20: of the energy, twice it in `heads`, and of logits in float32
    tl.store(UNIT + b, (1 / (scale * t_scale)).to(tl.float32))
    tl.store(LENGTH + b, length)
    tl.store(EPS + b, 1.01 * eps)
    tl.store(ERROR + b, TYPICAL * beta * size)


@triton.jit
def _energies_kernel(
    G, G_LOW, T, T_LOW, UNIT, HALF, OUT, B, N, D, PITCH,
    PRODUCTS: tl.constexpr, SQUARE: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(B, BLOCK_B)  # programs side by side share a tile of states
    b = (tl.program_id(0) % blocks) * BLOCK_B + tl.arange(0, BLOCK_B)
    n = (tl.program_id(0) // blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    row, column = b < B, n < N
    total = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        at, inside = b.to(tl.int64)[:, None] * D + d[None, :], row[:, None] & (d < D)[None, :]
        g = tl.load(G + at, mask=inside, other=0)
        at_t, inside_t = n.to(tl.int64)[:, None] * D + d[None, :], column[:, None] & (d < D)[None, :]
        t = tl.trans(tl.load(T + at_t, mask=inside_t, other=0))
        chunk = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
        if PRODUCTS >= 2:
            chunk = tl.dot(tl.load(G_LOW + at, mask=inside, other=0), t, chunk)
        if PRODUCTS == 3:
            chunk = tl.dot(g, tl.trans(tl.load(T_LOW + at_t, mask=inside_t, other=0)), chunk)
        total += tl.dot(g, t, chunk)
    e = -total * tl.load(UNIT + b, mask=row, other=0)[:, None]
    if SQUARE:
        e += tl.load(HALF + n, mask=column, other=0).to(tl.float32)[None, :]
    e = tl.where(column[None, :], e, float("inf"))  # up to the pitch, so that rows are read in whole vectors
    place = b.to(tl.int64)[:, None] * PITCH + n[None, :]
    tl.store(OUT + place, e, mask=row[:, None] & (n < PITCH)[None, :])


@triton.jit
def packed_weight(w):
    """2^14 w as two float16 in 32 bits."""
    scaled = w * 16384.0
    high = scaled.to(tl.float16)
    low = (scaled - high.to(tl.float32)).to(tl.float16)
    upper = low.to(tl.int16, bitcast=True).to(tl.int32) << 16
    return upper | (high.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF)


@triton.jit
def _average_kernel(
    WORK, FLAGS, T, T_LOW, OUT, B, N, D, PITCH,
    PRODUCTS: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    columns = tl.cdiv(D, BLOCK_D)  # programs side by side share a tile of weights
    b = (tl.program_id(0) // columns) * BLOCK_B + tl.arange(0, BLOCK_B)
    d = (tl.program_id(0) % columns) * BLOCK_D + tl.arange(0, BLOCK_D)
    wanted = tl.load(FLAGS + b, mask=b < B, other=0) > 0
    if tl.max(wanted.to(tl.int32), 0) > 0:
        part, parts = tl.program_id(1), tl.num_programs(1)
        low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
        total = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
        for j in range(low, high):
            n = j * BLOCK_N + tl.arange(0, BLOCK_N)
            at = b.to(tl.int64)[:, None] * PITCH + n[None, :]
            w = tl.load(WORK + at, mask=wanted[:, None] & (n < PITCH)[None, :], other=0)
            first = (w & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True)
            second = (w >> 16).to(tl.int16).to(tl.float16, bitcast=True)
            at_t, inside = n.to(tl.int64)[:, None] * D + d[None, :], (n < N)[:, None] & (d < D)[None, :]
            t = tl.load(T + at_t, mask=inside, other=0)
            chunk = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
            if PRODUCTS >= 2:
                chunk = tl.dot(second, t, chunk)
            if PRODUCTS == 3:
                chunk = tl.dot(first, tl.load(T_LOW + at_t, mask=inside, other=0), chunk)
            total += tl.dot(first, t, chunk)
        at = (part.to(tl.int64) * B + b.to(tl.int64))[:, None] * D + d[None, :]
        tl.store(OUT + at, total, mask=(b < B)[:, None] & (d < D)[None, :])
