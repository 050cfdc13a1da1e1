"""What second passes share: normalised weights given the sums of the first, and which queries products serve."""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.triton.config import NARROW, PROGRAMS, tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.differences import arguments, parts_of
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import energies
from fastthermo.kernels.triton.queries import Queries, divide
from fastthermo.kernels.triton.screen import Survey, survey
from fastthermo.kernels.triton.tile import group_of, relative_energy, share


class Given(NamedTuple):
    """Of (B,) queries, from the first pass."""

    dominant: torch.Tensor  # (B,) int64
    norm: torch.Tensor  # (B,) 1 / (1 + sum of all ratios w_n / w_r)
    shift: torch.Tensor  # (B, D)
    excess: torch.Tensor  # (B,)

    @classmethod
    def of(cls, sums: Sums, rows: slice) -> "Given":
        norm = torch.sigmoid(-sums.log_rest[rows])
        return cls(
            sums.dominant[rows].contiguous(), norm, sums.shift[rows].contiguous(), sums.excess[rows].contiguous()
        )


def surveyed(packed: Packed, field: torch.Tensor, beta: torch.Tensor, given: Given, precision: str) -> Survey:
    """As `survey`, but with products only where the ensemble is not narrow beside its distance from the anchor."""
    seen = survey(packed, field, beta, precision)
    if seen.is_dense is None:
        return seen
    dense = seen.is_dense & wide(packed, field, given, NARROW)
    sparse, others = divide(dense)
    return seen._replace(sparse=sparse, dense=others, is_dense=dense)


def wide(packed: Packed, field: torch.Tensor, given: Given, share: float) -> torch.Tensor:
    """Whether sqrt(<|y - m|^2>) is above a share of the radius of the data, (B,)."""
    away = packed.states[given.dominant].double() - field
    square = 2 * (given.excess - (given.shift * away).sum(1)) - given.shift.square().sum(1)
    return square > (share * packed.radius) ** 2


def tilted(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    given: Given,
    rows: Queries,
    chunk: tuple[int, int],
    probes: list[torch.Tensor],
    energy_probes: torch.Tensor | None,
    scalars: torch.Tensor,
) -> torch.Tensor:
    """p_n = w_n a_1 .. a_K, (length, N), of a chunk of dense queries.

    Sums of p and p (H~ - <H~>) go to scalars (B, 2).
    """
    begin, length = chunk
    size = len(packed.states)
    work = field.new_empty(length, size)
    energies(packed, packed.anchor, field, 1.0, rows, begin, length, work)
    along = [field.new_empty(length, size) for _ in probes]
    centre = packed.states[given.dominant].double() - packed.anchor + given.shift  # m - a
    offsets = field.new_zeros(len(field), 2)
    for k, (v, out) in enumerate(zip(probes, along, strict=True)):
        energies(packed, None, v, 0.0, rows, begin, length, out)
        offsets[:, k] = (v * centre).sum(1)
    along += [work] * (2 - len(along))
    t = tile("row", 0, packed.architecture)
    u = field.new_zeros(len(field), 2) if energy_probes is None else energy_probes
    launch(
        _tilt_kernel,
        (length,),
        work, along[0], along[1], packed.log_weights, beta, rows.places, rows.number, begin,
        given.dominant, given.norm, given.excess, offsets, u, scalars, size, u.shape[1],
        K=len(probes), BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return work


def lists(packed: Packed, field: torch.Tensor, beta: torch.Tensor, seen: Survey, given: Given) -> tuple[Any, ...]:
    """What every kernel of a second pass over the lists takes first."""
    return (*arguments(packed, field, beta, seen), given.dominant, given.norm)


def weights(packed: Packed, field: torch.Tensor, beta: torch.Tensor, seen: Survey, given: Given) -> torch.Tensor:
    """w_n (B, N) of the sparse queries, by differences; 0 of states that are not listed."""
    out = field.new_zeros(len(field), len(packed.states))
    t = tile("differences", field.shape[1], packed.architecture)
    launch(
        _weights_kernel,
        (min(len(field), PROGRAMS), parts_of(packed, len(field))),
        *lists(packed, field, beta, seen, given), out,
        BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out


def weigh_again(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    rows: Queries,
    given: Given,
    again: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """out[i] = w_n, by differences, b = rows.places[i], where again[b]."""
    (queries, dimension), size = field.shape, len(packed.states)
    t = tile("differences", dimension, packed.architecture)
    launch(
        _weigh_again_kernel,
        (min(queries, PROGRAMS), parts_of(packed, queries)),
        packed.states, packed.log_weights, field, beta, *rows, again.view(torch.uint8), given.dominant, given.norm, out,
        size, dimension,
        BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


@triton.jit
def _weigh_again_kernel(
    Y, PHI, H, BETA, ORDER, COUNT, AGAIN, DOMINANT, NORM, OUT, N, D, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    for i in range(tl.program_id(0), tl.load(COUNT), tl.num_programs(0)):
        b = tl.load(ORDER + i)
        beta, r, norm = tl.load(BETA + b), tl.load(DOMINANT + b), tl.load(NORM + b)
        low, high = share(tl.cdiv(N, BLOCK_N), tl.program_id(1), tl.num_programs(1))
        high = tl.where(tl.load(AGAIN + b) != 0, high, low)
        for j in range(low, high):
            n = j * BLOCK_N + tl.arange(0, BLOCK_N)
            w = weight_of(Y, PHI, H, b, beta, r, norm, n, N, D, BLOCK_N, BLOCK_D)
            tl.store(OUT + (b * 0 + i) * N + n, w, mask=n < N)


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
            w = weight_of(Y, PHI, H, b, beta, r, norm, n, N, D, BLOCK_N, BLOCK_D)
            tl.store(OUT + b * N + n, w, mask=n < N)


@triton.jit
def weight_of(Y, PHI, H, b, beta, r, norm, n, N, D, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """w_n of query b, by differences."""
    x = relative_energy(Y, H, b, r, n, N, D, True, BLOCK_N, BLOCK_D)
    logit = (tl.load(PHI + n, mask=n < N, other=float("-inf")) - tl.load(PHI + r)) - beta * x
    return norm * tl.exp(logit)


@triton.jit
def _tilt_kernel(
    WORK, FIRST, SECOND, PHI, BETA, ORDER, COUNT, begin, DOMINANT, NORM, EXCESS, OFFSETS, U, SCALARS, N, WIDTH,
    K: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Energies in WORK become w a_1 .. a_K; FIRST and SECOND hold -t.v_k."""
    i = tl.program_id(0).to(tl.int64)
    if begin + i < tl.load(COUNT):
        b = tl.load(ORDER + begin + i)
        beta, r, norm = tl.load(BETA + b), tl.load(DOMINANT + b), tl.load(NORM + b)
        origin, prior, mean = tl.load(WORK + i * N + r), tl.load(PHI + r), tl.load(EXCESS + b)
        total = tl.zeros([BLOCK_N], tl.float64)
        total_energy = total
        tl.debug_barrier()  # `origin` is read before it is overwritten
        for start in range(0, N, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)
            at = i * N + n
            x = tl.load(WORK + at, mask=n < N, other=0) - origin
            p = norm * tl.exp((tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * x)
            x -= mean
            if K >= 1:
                along = -tl.load(FIRST + at, mask=n < N, other=0) - tl.load(OFFSETS + 2 * b)
                p *= along + tl.load(U + b * WIDTH) * x
            if K == 2:
                along = -tl.load(SECOND + at, mask=n < N, other=0) - tl.load(OFFSETS + 2 * b + 1)
                p *= along + tl.load(U + b * WIDTH + 1) * x
            tl.store(WORK + at, p, mask=n < N)
            total += p
            total_energy += p * x
        tl.store(SCALARS + 2 * b, tl.sum(total, 0))
        tl.store(SCALARS + 2 * b + 1, tl.sum(total_energy, 0))
