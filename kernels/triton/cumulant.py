"""sum w a_1 .. a_K (y - m) and the same with H~ - <H~>, for a_k = v_k.(y - m) + u_k (H~ - <H~>).

By differences y - m = (y - y_r) - shift where few states matter, else by products: energies and projections t.v_k into
a workspace, their product with the weights in place, and an average as in `products`.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.triton import tilt
from fastthermo.kernels.triton.again import is_shared
from fastthermo.kernels.triton.boltzmann import is_split, query_chunks, split_chunks
from fastthermo.kernels.triton.config import PROGRAMS, tile
from fastthermo.kernels.triton.device import cdiv, launch, power_of_two
from fastthermo.kernels.triton.differences import SUMMED, parts_of
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import average, chunks
from fastthermo.kernels.triton.queries import divide
from fastthermo.kernels.triton.screen import Survey, unscreened
from fastthermo.kernels.triton.second import Given, lists, surveyed, tilted
from fastthermo.kernels.triton.temperatures import temperatures
from fastthermo.kernels.triton.tile import group_of, projected, row, share


def cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str = "double",
) -> tuple[torch.Tensor, torch.Tensor]:
    beta = temperatures(packed, beta, precision)
    parts = [
        _cumulant(
            packed,
            field[q].contiguous(),
            beta[q].contiguous(),
            Given.of(sums, q),
            probes[q].double().contiguous(),
            energy_probes[q].double().contiguous(),
            precision,
        )
        for q in (split_chunks if is_split(packed, precision) else query_chunks)(packed, len(field))
    ]
    vectors, scalars = zip(*parts, strict=True)
    return torch.cat(vectors), torch.cat(scalars)


def _cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    given: Given,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    if is_split(packed, precision):
        out, out_energy, tail = tilt.cumulant(packed, field, beta, given, probes, energy_probes, precision)
        _again(packed, field, beta, tail, given, probes, energy_probes, out, out_energy)
        return out, out_energy
    seen = surveyed(packed, field, beta, given, precision)
    out, out_energy = _by_differences(packed, field, beta, given, seen, probes, energy_probes)
    if seen.dense is None or seen.is_dense is None:
        return out, out_energy
    dense, scalars = torch.zeros_like(field), field.new_zeros(len(field), 2)
    columns = [probes[:, k].contiguous() for k in range(probes.shape[1])]
    for chunk in chunks(packed, len(field)):
        work = tilted(packed, field, beta, given, seen.dense, chunk, columns, energy_probes, scalars)
        average(packed, work, seen.dense, *chunk, given.dominant, scalars, dense)
    dense -= scalars[:, :1] * given.shift
    return (
        torch.where(seen.is_dense[:, None], dense, out),
        torch.where(seen.is_dense, scalars[:, 1], out_energy),
    )


def _by_differences(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    given: Given,
    seen: Survey,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    (queries, dimension), parts = field.shape, parts_of(packed, len(field))
    out, energy = field.new_empty(queries, parts, dimension), field.new_empty(queries, parts)
    t = tile("differences", dimension, packed.architecture)
    block = min(SUMMED, power_of_two(dimension))
    launch(
        _cumulant_kernel,
        (min(queries, PROGRAMS), parts, cdiv(dimension, block)),
        *lists(packed, field, beta, seen, given), given.shift, given.excess, probes, energy_probes, out, energy,
        K=probes.shape[1], BLOCK_N=t.n, BLOCK_D=t.d, BLOCK_S=block, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out.sum(1), energy.sum(1)


def _again(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    tail: tilt.Tail,
    given: Given,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    out: torch.Tensor,
    energy: torch.Tensor,
) -> None:
    """In the place of what out (B, D) and energy (B,) have of the queries of which `tail.again` says so."""
    (queries, dimension), size = field.shape, len(packed.states)
    if is_shared(packed, queries):
        seen = unscreened(packed, given.dominant, divide(tail.again)[1])
        whole, whole_energy = _by_differences(packed, field, beta, given, seen, probes, energy_probes)
        torch.where(tail.again[:, None], whole, out, out=out)
        torch.where(tail.again, whole_energy, energy, out=energy)
        return
    t = tile("differences", dimension, packed.architecture)
    block = min(SUMMED, power_of_two(dimension))
    launch(
        _again_kernel,
        (queries, cdiv(dimension, block)),
        packed.states, packed.log_weights, field, beta, tail.found.lists, tail.again.view(torch.uint8), *given,
        probes, energy_probes, out, energy, size, dimension,
        K=probes.shape[1], BLOCK_N=t.n, BLOCK_D=t.d, BLOCK_S=block, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


@triton.jit
def _again_kernel(
    Y, PHI, H, BETA, LISTS, AGAIN, DOMINANT, NORM, SHIFT, EXCESS, V, U, OUT, ENERGY, N, D,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """LISTS are not looked at."""
    b = tl.program_id(0).to(tl.int64)
    if tl.load(AGAIN + b) != 0:
        d, groups = tl.program_id(1) * BLOCK_S + tl.arange(0, BLOCK_S), tl.cdiv(N, BLOCK_N)
        out, energy = added(
            Y, PHI, H, BETA, LISTS, DOMINANT, NORM, SHIFT, EXCESS, V, U, b, d, groups, 0, groups, N, D, 0,
            K, BLOCK_N, BLOCK_D,
        )  # fmt: skip
        tl.store(OUT + b * D + d, out, mask=d < D)
        if tl.program_id(1) == 0:
            tl.store(ENERGY + b, energy)


@triton.jit
def _cumulant_kernel(
    Y, PHI, H, BETA, GROUPS, KEPT, ORDER, COUNT, N, D, CAPACITY, DOMINANT, NORM, SHIFT, EXCESS, V, U, OUT, ENERGY,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    part, parts = tl.program_id(1), tl.num_programs(1)
    d = tl.program_id(2) * BLOCK_S + tl.arange(0, BLOCK_S)
    for i in range(tl.program_id(0), tl.load(COUNT), tl.num_programs(0)):
        b = tl.load(ORDER + i)
        kept = tl.load(KEPT + b)
        low, high = share(kept, part, parts)
        out, energy = added(
            Y, PHI, H, BETA, GROUPS, DOMINANT, NORM, SHIFT, EXCESS, V, U, b, d, kept, low, high, N, D, CAPACITY,
            K, BLOCK_N, BLOCK_D,
        )  # fmt: skip
        tl.store(OUT + (b * parts + part) * D + d, out, mask=d < D)
        if tl.program_id(2) == 0:
            tl.store(ENERGY + b * parts + part, energy)


@triton.jit
def added(
    Y, PHI, H, BETA, GROUPS, DOMINANT, NORM, SHIFT, EXCESS, V, U, b, d, kept, low, high, N, D, CAPACITY,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Sums of p (y - m), dimensions d, and of p (H~ - <H~>), p = w a_1 .. a_K, of a part of a query's list."""
    beta, r, norm = tl.load(BETA + b), tl.load(DOMINANT + b), tl.load(NORM + b)
    prior, mean = tl.load(PHI + r), tl.load(EXCESS + b)
    out = tl.zeros([BLOCK_N, d.shape[0]], tl.float64)
    energy = tl.zeros([BLOCK_N], tl.float64)
    for j in range(low, high):
        n = group_of(GROUPS, b, j, kept, CAPACITY) * BLOCK_N + tl.arange(0, BLOCK_N)
        gap, first, second = projected(Y, H, SHIFT, V, b, r, n, N, D, K, BLOCK_N, BLOCK_D)
        logit = (tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * gap
        gap -= mean
        p = norm * tl.exp(logit) * (first + tl.load(U + b * K) * gap)
        if K == 2:
            p *= second + tl.load(U + b * K + 1) * gap
        energy += p * gap
        y = row(Y, n[:, None], d[None, :], (n < N)[:, None] & (d < D)[None, :], D, tl.float64)
        s = y - row(Y, r, d, d < D, D, tl.float64)[None, :]
        out += p[:, None] * (s - row(SHIFT, b, d, d < D, D, tl.float64)[None, :])
    return tl.sum(out, 0), tl.sum(energy, 0)
