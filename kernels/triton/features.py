"""Second moments of the tail of many queries at once: sum_n p_bn t_i t_j as a product of weights and features t_i t_j.

Features are made tile by tile, of 8 dimensions i by 16 dimensions j, and split in two float16 as states are; tiles
below the diagonal are left out. C = S2 - m S1^T - S1 m^T + S0 m m^T about the anchor, whose digits cancel where the
ensemble is narrow: such queries are not for this.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import WORKSPACE, tile
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.split import WEIGHT, sharers
from fastthermo.kernels.triton.tile import row, share
from fastthermo.kernels.triton.tilt import Tail

ROWS, COLUMNS = tl.constexpr(8), tl.constexpr(16)
SCALE = tl.constexpr(2.0**-8)  # of features: |t| is up to 2^11
SIDE = 32  # of a square of C


def add_spread(packed: Packed, tail: Tail, precision: str, out: torch.Tensor) -> None:
    """out (B, D, D) += sum over the tail of p (t - m)(t - m)^T."""
    codes, (queries, dimension), size = packed.codes, tail.centre.shape, len(packed.states)
    assert codes is not None
    wide = cdiv(dimension, COLUMNS.value)
    tiles = sum(wide - k // 2 for k in range(cdiv(dimension, ROWS.value)))
    t = tile("features", dimension, packed.architecture)
    rows = cdiv(queries, t.b)
    fitting = WORKSPACE // max(1, queries * tiles * 512)  # of what one program sums
    parts = sharers(cdiv(size, t.n), rows * tiles, min(32, fitting))
    second = torch.empty(parts, queries, tiles * 128, dtype=torch.float32, device=tail.work.device)
    launch(
        _features_kernel,
        (tiles * rows, parts),
        tail.work.view(torch.int32), tail.found.flags, codes.codes, codes.codes if codes.rest is None else codes.rest,
        second, queries, size, codes.codes.shape[1], tail.work.shape[1], tiles,
        HALVES=1 if codes.rest is None else 2, BLOCK_B=t.b, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    blocks = cdiv(dimension, SIDE)
    launch(
        _centre_kernel,
        (queries * blocks * blocks,),
        second, tail.averages(packed, precision), tail.centre, tail.scale, tail.sums, out,
        queries, dimension, tiles, blocks, 2.0 ** (8 - WEIGHT) / codes.scale**2,
        PARTS=parts, SIDE=SIDE, num_warps=4,
    )  # fmt: skip


@triton.jit
def _centre_kernel(
    S2, S1, CENTRE, SCALE, SUMS, OUT, B, D, TILES, blocks, unit: tl.float64, PARTS: tl.constexpr, SIDE: tl.constexpr
):  # fmt: skip
    """A square of C of a query."""
    b, square = (tl.program_id(0) // (blocks * blocks)).to(tl.int64), tl.program_id(0) % (blocks * blocks)
    scale = tl.load(SCALE + b)
    if scale > 0:
        i = (square // blocks * SIDE + tl.arange(0, SIDE))[:, None]
        j = (square % blocks * SIDE + tl.arange(0, SIDE))[None, :]
        inside = (i < D) & (j < D)
        low, high = tl.minimum(i, j), tl.maximum(i, j)  # so that C is symmetric to the last bit
        m_low, m_high = row(CENTRE, b, low, inside, D, tl.float64), row(CENTRE, b, high, inside, D, tl.float64)
        f_low, f_high = row(S1, b, low, inside, D, tl.float64), row(S1, b, high, inside, D, tl.float64)
        column = _place(low, high, tl.cdiv(D, COLUMNS))
        total = tl.zeros([SIDE, SIDE], tl.float64)
        for part in range(PARTS):
            at = (part * tl.cast(B, tl.int64) + b) * (TILES * ROWS * COLUMNS) + column
            total += tl.load(S2 + at, mask=inside, other=0).to(tl.float64)
        at = (b * D + i) * D + j
        found = total * (unit * scale) - f_low * m_high - m_low * f_high + tl.load(SUMS + 2 * b) * (m_low * m_high)
        tl.store(OUT + at, tl.load(OUT + at, mask=inside, other=0) + found, mask=inside)


@triton.jit
def _place(i, j, wide):
    """Where t_i t_j, i <= j, stands in a row of tiles."""
    tall = i // ROWS
    before = tall * wide - (tall // 2) * (tl.maximum(tall - 1, 0) // 2)  # tiles of earlier rows, wide - k // 2 each
    return (before + j // COLUMNS - tall // 2) * (ROWS * COLUMNS) + i % ROWS * COLUMNS + j % COLUMNS


@triton.jit
def _features_kernel(
    WORK, FLAGS, T, T_LOW, OUT, B, N, D, PITCH, TILES,
    HALVES: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    i_tile, j_tile = 0, tl.program_id(0) % TILES
    wide = tl.cdiv(D, COLUMNS)
    while j_tile >= wide - i_tile // 2:
        j_tile -= wide - i_tile // 2
        i_tile += 1
    i = i_tile * ROWS + tl.arange(0, ROWS)
    j = (i_tile // 2 + j_tile) * COLUMNS + tl.arange(0, COLUMNS)
    b = (tl.program_id(0) // TILES) * BLOCK_B + tl.arange(0, BLOCK_B)
    wanted = tl.load(FLAGS + b, mask=b < B, other=0) > 0
    if tl.max(wanted.to(tl.int32), 0) > 0:
        part, parts = tl.program_id(1), tl.num_programs(1)
        low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
        total = tl.zeros([BLOCK_B, ROWS * COLUMNS], tl.float32)
        for k in range(low, high):
            n = k * BLOCK_N + tl.arange(0, BLOCK_N)
            at = b.to(tl.int64)[:, None] * PITCH + n[None, :]
            w = tl.load(WORK + at, mask=wanted[:, None] & (n < PITCH)[None, :], other=0)
            first = (w & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True)
            second = (w >> 16).to(tl.int16).to(tl.float16, bitcast=True)
            t_i = _halves(T, T_LOW, n, i, N, D, HALVES)
            t_j = _halves(T, T_LOW, n, j, N, D, HALVES)
            feature = tl.reshape(t_i[:, :, None] * t_j[:, None, :] * SCALE, [BLOCK_N, ROWS * COLUMNS])
            upper = feature.to(tl.float16)
            lower = (feature - upper.to(tl.float32)).to(tl.float16)
            chunk = tl.dot(second, upper)
            chunk = tl.dot(first, lower, chunk)
            total += tl.dot(first, upper, chunk)
        column = (tl.program_id(0) % TILES) * (ROWS * COLUMNS) + tl.arange(0, ROWS * COLUMNS)
        at = (part.to(tl.int64) * B + b.to(tl.int64))[:, None] * (TILES * ROWS * COLUMNS) + column[None, :]
        tl.store(OUT + at, total, mask=(b < B)[:, None])


@triton.jit
def _halves(T, T_LOW, n, d, N, D, HALVES: tl.constexpr):
    """t in float32, times the scale of the codes."""
    at, inside = n.to(tl.int64)[:, None] * D + d[None, :], (n < N)[:, None] & (d < D)[None, :]
    t = tl.load(T + at, mask=inside, other=0).to(tl.float32)
    if HALVES == 2:
        t += tl.load(T_LOW + at, mask=inside, other=0).to(tl.float32)
    return t
