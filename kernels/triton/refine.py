"""Energies of the tail again, in float64, of queries whose heads are too many for a list.

Rows hold float32 energies relative to e_near, whose rounding is relative to what matters.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import FEW_PROGRAMS, tile
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.heads import ROUGH, Heads
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import product
from fastthermo.kernels.triton.tile import relative_energy

PROGRAMS = 32  # a block of queries, at least


def refine(packed: Packed, field: torch.Tensor, work: torch.Tensor, found: Heads) -> None:
    """Energies of rough queries relative to e_near, computed in float64, and e_near itself."""
    (queries, dimension), size = field.shape, len(packed.states)
    t = tile("products float64", dimension, packed.architecture)
    blocks = cdiv(max(queries, 1), t.b)
    o = tile("finish", dimension, packed.architecture)
    launch(
        _origin_kernel,
        (queries,),
        packed.states, field, found.near, found.flags, found.origin, size, dimension, packed.anchor_index,
        BLOCK_D=o.d, num_warps=o.warps,
    )  # fmt: skip
    launch(
        _refine_kernel,
        (blocks, min(max(PROGRAMS, 2 * FEW_PROGRAMS // blocks), cdiv(size, t.n))),
        field, packed.states, packed.anchor, packed.half_squares, found.origin, found.flags, work,
        queries, size, dimension, work.shape[1],
        BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


@triton.jit
def _origin_kernel(Y, H, NEAR, FLAGS, ORIGIN, N, D, anchor, BLOCK_D: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    if tl.load(FLAGS + b) == ROUGH:
        near = tl.load(NEAR + b) + tl.zeros([1], tl.int64)
        e = relative_energy(Y, H, b, anchor, near, N, D, True, 1, BLOCK_D)
        tl.store(ORIGIN + b, tl.sum(e, 0))


@triton.jit
def _refine_kernel(
    H, Y, ANCHOR, HALF, ORIGIN, FLAGS, WORK, B, N, D, PITCH,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    rough = tl.load(FLAGS + b, mask=b < B, other=0) == ROUGH
    if tl.max(rough.to(tl.int32), 0) > 0:
        origin = tl.load(ORIGIN + b, mask=rough, other=0)
        for j in range(tl.program_id(1), tl.cdiv(N, BLOCK_N), tl.num_programs(1)):
            n = j * BLOCK_N + tl.arange(0, BLOCK_N)
            along = product(H, Y, ANCHOR, b, rough, n, N, D, True, BLOCK_B, BLOCK_N, BLOCK_D)
            e = (tl.load(HALF + n, mask=n < N, other=0)[None, :] - along) - origin[:, None]
            at = WORK + b.to(tl.int64)[:, None] * PITCH + n[None, :]
            inside = rough[:, None] & (n < N)[None, :]
            old = tl.load(at, mask=inside, other=0)
            tl.store(at, tl.where(old < float("inf"), e.to(tl.float32), float("inf")), mask=inside)
