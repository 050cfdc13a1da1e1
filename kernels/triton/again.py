"""Queries for which float32 products do not do, again: all states by float64 differences.

Two rounds find the dominant state, the second relative to what the first found, as in `differences`. A query is one
program's, in one launch; of few queries and many states several share it, as there, in four launches more.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton import differences
from fastthermo.kernels.triton.config import LONG, tile
from fastthermo.kernels.triton.device import launch, power_of_two
from fastthermo.kernels.triton.differences import SUMMED, added, largest, parts_of
from fastthermo.kernels.triton.heads import Heads
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.queries import divide
from fastthermo.kernels.triton.screen import unscreened
from fastthermo.kernels.triton.settle import Parts, Settled, normalise, settle


def sum_again(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, found: Heads, again: torch.Tensor, out: Settled
) -> None:
    """In the place of what `out` has of the queries of which `again` (B,) says so."""
    (queries, dimension), size = field.shape, len(packed.states)
    if is_shared(packed, queries):
        seen = unscreened(packed, found.near, divide(again)[1])
        r = differences.dominant_state(packed, field, beta, seen)
        whole = Parts(r, *differences.summed(packed, field, beta, seen, r))
        settle(packed, field, beta, again, whole, into=out)
        return
    t = tile("differences", dimension, packed.architecture)
    launch(
        _again_kernel,
        (queries,),
        packed.states, packed.log_weights, packed.anchor, packed.facts, field, beta, found.lists, found.near,
        again.view(torch.uint8), *out, queries, size, dimension,
        BLOCK_N=t.n, BLOCK_D=t.d, BLOCK_S=min(SUMMED, power_of_two(dimension)), num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


def is_shared(packed: Packed, queries: int) -> bool:
    """Whether several programs share a query."""
    return packed.states.numel() >= LONG and parts_of(packed, queries) > 1


@triton.jit
def _again_kernel(
    Y, PHI, ANCHOR, FACTS, H, BETA, LISTS, NEAR, AGAIN, DOMINANT, SHIFT, OUT, B, N, D,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """LISTS are not looked at."""
    b = tl.program_id(0).to(tl.int64)
    if tl.load(AGAIN + b) != 0:
        beta, groups = tl.load(BETA + b), tl.cdiv(N, BLOCK_N)
        r = tl.load(NEAR + b).to(tl.int32)
        for _ in range(2):
            _best, r = largest(Y, PHI, H, LISTS, b, beta, r, groups, 0, groups, N, D, 0, True, BLOCK_N, BLOCK_D)
        rest = tl.zeros([], tl.float64)
        excess, square, squares = rest, rest, rest
        for first in range(0, D, BLOCK_S):
            d = first + tl.arange(0, BLOCK_S)
            shift, rest, excess, square, squares = added(
                Y, PHI, H, LISTS, b, d, beta, r, groups, 0, groups, N, D, 0, BLOCK_N, BLOCK_D
            )
            tl.store(SHIFT + b * D + d, shift, mask=d < D)
        tl.debug_barrier()  # sums that other threads stored
        normalise(
            Y, ANCHOR, FACTS, H, BETA, SHIFT, SHIFT, DOMINANT, SHIFT, OUT, b, r, rest, excess, square, squares, False,
            B, N, D, 1, BLOCK_D,
        )  # fmt: skip
