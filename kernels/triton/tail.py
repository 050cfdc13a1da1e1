"""Weights of the tail: of all states but the heads, relative to the state `near`, and their sums.

w_n = exp((log phi_n - log phi_near) - beta (e_n - e_near)); a row of energies becomes a row of packed weights.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.heads import BITS, DENSE, ROUGH, Heads, row_parts
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import product
from fastthermo.kernels.triton.split import packed_weight
from fastthermo.kernels.triton.tile import relative_energy, share

REFINING = 32  # programs a block of queries


def tail(packed: Packed, beta: torch.Tensor, work: torch.Tensor, found: Heads) -> torch.Tensor:
    """(B, parts, 4): sums of w, w x, w x^2, w^2, x = e - e_near, of queries whose tail matters; else 0."""
    queries, size = len(work), len(packed.states)
    parts = row_parts(queries, size)
    scalars = beta.new_empty(queries, parts, 4)
    t = tile("row", 0, packed.architecture)
    launch(
        _tail_kernel,
        (queries, parts),
        work, work.view(torch.int32), packed.log_weights, beta, found.near, found.origin, found.flags, scalars,
        size, work.shape[1],
        BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return scalars


def refine(packed: Packed, field: torch.Tensor, work: torch.Tensor, found: Heads) -> None:
    """Energies of rough queries relative to e_near, computed in float64, and e_near itself."""
    (queries, dimension), size = field.shape, len(packed.states)
    t = tile("products float64", dimension, packed.architecture)
    launch(
        _origin_kernel,
        (queries,),
        packed.states, field, found.near, found.flags, found.origin, size, dimension, packed.anchor_index,
        BLOCK_D=256, num_warps=4,
    )  # fmt: skip
    launch(
        _refine_kernel,
        (triton.cdiv(queries, t.b), min(REFINING, triton.cdiv(size, t.n))),
        field, packed.states, packed.anchor, packed.half_squares, found.origin, found.flags, work,
        queries, size, dimension, work.shape[1],
        BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


@triton.jit
def _tail_kernel(
    WORK, OUT, PHI, BETA, NEAR, ORIGIN, FLAGS, SCALARS, N, PITCH, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    flag = tl.load(FLAGS + b)
    beta, prior = tl.load(BETA + b), tl.load(PHI + tl.load(NEAR + b))
    origin = tl.where(flag == 2, 0.0, tl.load(ORIGIN + b))
    low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
    high = tl.where(flag > 0, high, low)
    rest = tl.zeros([BLOCK_N], tl.float64)
    excess, square, squares = rest, rest, rest
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        e = tl.load(WORK + b * PITCH + n, mask=n < PITCH, other=float("inf"))
        x = tl.where(e < float("inf"), e.to(tl.float64) - origin, 0.0)
        z = (tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * x
        w = tl.where(e < float("inf"), tl.exp2((z * BITS).to(tl.float32)), 0.0)
        tl.store(OUT + b * PITCH + n, packed_weight(w), mask=n < PITCH)
        wide = w.to(tl.float64)
        rest += wide
        excess += wide * x
        square += wide * x * x
        squares += wide * wide
    at = SCALARS + (b * parts + part) * 4
    tl.store(at, tl.sum(rest, 0))
    tl.store(at + 1, tl.sum(excess, 0))
    tl.store(at + 2, tl.sum(square, 0))
    tl.store(at + 3, tl.sum(squares, 0))


@triton.jit
def _origin_kernel(Y, H, NEAR, FLAGS, ORIGIN, N, D, anchor, BLOCK_D: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    if tl.load(FLAGS + b) == 2:
        near = tl.load(NEAR + b) + tl.zeros([1], tl.int64)
        e = relative_energy(Y, H, b, anchor, near, N, D, True, 1, BLOCK_D)
        tl.store(ORIGIN + b, tl.sum(e, 0))


@triton.jit
def _refine_kernel(
    H, Y, ANCHOR, HALF, ORIGIN, FLAGS, WORK, B, N, D, PITCH,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    rough = tl.load(FLAGS + b, mask=b < B, other=0) == 2
    if tl.max(rough.to(tl.int32), 0) > 0:
        origin = tl.load(ORIGIN + b, mask=rough, other=0)
        for j in range(tl.program_id(1), tl.cdiv(N, BLOCK_N), tl.num_programs(1)):
            n = j * BLOCK_N + tl.arange(0, BLOCK_N)
            along = product(H, Y, ANCHOR, b, rough, n, N, D, True, tl.float64, "ieee", BLOCK_B, BLOCK_N, BLOCK_D)
            e = (tl.load(HALF + n, mask=n < N, other=0)[None, :] - along) - origin[:, None]
            at = WORK + b.to(tl.int64)[:, None] * PITCH + n[None, :]
            inside = rough[:, None] & (n < N)[None, :]
            old = tl.load(at, mask=inside, other=0)
            tl.store(at, tl.where(old < float("inf"), e.to(tl.float32), float("inf")), mask=inside)
