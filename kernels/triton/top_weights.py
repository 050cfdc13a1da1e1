"""The k largest weights: all of them by differences into a workspace, a stable sort a row."""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.triton.config import PROGRAMS, tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.differences import parts_of
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import chunks
from fastthermo.kernels.triton.screen import Queries, survey
from fastthermo.kernels.triton.second import Given, lists
from fastthermo.kernels.triton.tile import group_of, relative_energy, share


def top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, k: int, precision: str = "double"
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [
        _top_weights(packed, field[q].contiguous(), beta[q].contiguous(), Given.of(sums, q), k, precision)
        for q in (slice(i, i + n) for i, n in chunks(packed, max(len(field), 1)))
    ]
    weights, index = zip(*parts, strict=True)
    return torch.cat(weights), torch.cat(index)


def _top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, given: Given, k: int, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    queries, dimension = field.shape
    # weights down to 1e-300 are asked for in double precision, whatever the runner-up
    seen = survey(packed if precision != "double" else packed._replace(codes=None), field, beta, precision)
    everything = torch.ones(queries, dtype=torch.bool, device=field.device)
    seen = seen._replace(sparse=Queries.where(everything))
    weights = field.new_zeros(queries, len(packed.states))
    t = tile("differences", dimension, packed.architecture)
    launch(
        _weights_kernel,
        (min(queries, PROGRAMS), parts_of(packed, queries)),
        *lists(packed, field, beta, seen, given), weights,
        BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    ordered, index = weights.sort(dim=1, descending=True, stable=True)
    return ordered[:, :k].contiguous(), index[:, :k].contiguous()


@triton.jit
def _weights_kernel(
    Y, PHI, H, BETA, GROUPS, KEPT, ORDER, COUNT, N, D, CAPACITY, DOMINANT, NORM, OUT,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    part, parts = tl.program_id(1), tl.num_programs(1)
    for i in range(tl.program_id(0), tl.load(COUNT), tl.num_programs(0)):
        b = tl.load(ORDER + i)
        beta, r, norm, kept = tl.load(BETA + b), tl.load(DOMINANT + b), tl.load(NORM + b), tl.load(KEPT + b)
        low, high = share(kept, part, parts)
        for j in range(low, high):
            n = group_of(GROUPS, b, j, kept, CAPACITY) * BLOCK_N + tl.arange(0, BLOCK_N)
            x = relative_energy(Y, H, b, r, n, N, D, True, BLOCK_N, BLOCK_D)
            logit = (tl.load(PHI + n, mask=n < N, other=float("-inf")) - tl.load(PHI + r)) - beta * x
            tl.store(OUT + b * N + n, norm * tl.exp(logit), mask=n < N)
