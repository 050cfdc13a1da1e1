"""Rows of energies become weights of the tail, which are summed, relative to the state `near` of largest weight:

w_n = exp((log phi_n - log phi_near) - beta (e_n - e_near)).
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.heads import ROUGH, Heads, row_parts
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.split import packed_weight
from fastthermo.kernels.triton.tile import share, slope

SUMMED = tl.constexpr(4)  # weights that are added in float32


def weigh(packed: Packed, beta: torch.Tensor, work: torch.Tensor, found: Heads) -> torch.Tensor:
    """Sums of w, w x, w x^2, w^2 of the tail, (B, parts, 4), x = e - e_near; rows of `work` become packed weights.

    w are 2^lift times the weights relative to `near`. Rows of rough queries hold energies relative to e_near.
    """
    queries, size = len(work), len(packed.states)
    parts = row_parts(queries, size)
    out = beta.new_empty(queries, parts, 4)
    t = tile("row", 0, packed.architecture)
    launch(
        _weigh_kernel,
        (queries, parts),
        work, packed.log_bits, beta, work.view(torch.int32), found.near, found.origin, found.flags, found.lift, out,
        size, work.shape[1],
        UNIFORM=packed.uniform, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out


@triton.jit
def weight(e, PHI, n, N, prior, c, origin, lift, UNIFORM: tl.constexpr):
    """2^lift w, w relative to `near`, and x = e - e_near, in float32; 0 of infinite energies."""
    there = e < float("inf")
    x = tl.where(there, e - origin, 0.0)
    z = c * x + lift
    if not UNIFORM:
        z += tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior
    return tl.where(there, tl.exp2(z), 0.0), x


@triton.jit
def few(x, BLOCK_N: tl.constexpr):
    """Sums of neighbours, in float64."""
    return tl.sum(tl.reshape(x, [BLOCK_N // SUMMED, SUMMED]), 1).to(tl.float64)


@triton.jit
def _weigh_kernel(
    WORK, PHI, BETA, OUT, NEAR, ORIGIN, FLAGS, LIFT, SUMS, N, PITCH, UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    flag, c, prior = tl.load(FLAGS + b), slope(tl.load(BETA + b)), tl.load(PHI + tl.load(NEAR + b))
    origin, lift = tl.where(flag == ROUGH, 0.0, tl.load(ORIGIN + b)).to(tl.float32), tl.load(LIFT + b)
    low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
    high = tl.where(flag > 0, high, low)
    rest = tl.zeros([BLOCK_N // SUMMED], tl.float64)
    excess, square, squares = rest, rest, rest
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        e = tl.load(WORK + b * PITCH + n, mask=n < PITCH, other=float("inf"))
        w, x = weight(e, PHI, n, N, prior, c, origin, lift, UNIFORM)
        tl.store(OUT + b * PITCH + n, packed_weight(w), mask=n < PITCH)
        wx = w * x
        rest += few(w, BLOCK_N)
        excess += few(wx, BLOCK_N)
        square += few(wx * x, BLOCK_N)
        squares += few(w * w, BLOCK_N)
    at = SUMS + (b * parts + part) * 4
    tl.store(at, tl.sum(rest, 0))
    tl.store(at + 1, tl.sum(excess, 0))
    tl.store(at + 2, tl.sum(square, 0))
    tl.store(at + 3, tl.sum(squares, 0))
