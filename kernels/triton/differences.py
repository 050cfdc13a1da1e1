"""Sums over listed groups of states by float64 differences: H~_n - H~_r = sum_d s (s/2 + y_r - h), s = y_n - y_r.

One query a program, or a part of its states where queries are few. First the dominant state is found, in two rounds,
the second relative to what the first found, so that near-ties are told apart; then all is summed relative to it, so
that the sums of parts simply add. The state itself is left out.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import FEW_PROGRAMS, PROGRAMS, tile
from fastthermo.kernels.triton.device import cdiv, launch, power_below, power_of_two
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.screen import Survey
from fastthermo.kernels.triton.tile import group_of, relative_energy, row, share

REST, EXCESS, SQUARE, PARTICIPATION = range(4)
SUMMED = 128  # dimensions of the shift a program


def parts_of(packed: Packed, queries: int) -> int:
    """Programs that share the states of a query, a power of two."""
    return power_below(min(64, FEW_PROGRAMS // max(1, queries), len(packed.states) // 1024))


def arguments(packed: Packed, field: torch.Tensor, beta: torch.Tensor, seen: Survey) -> tuple[Any, ...]:
    """What every kernel that goes over the lists takes first."""
    lists = (seen.groups, seen.kept, seen.sparse.places, seen.sparse.number)
    sizes = (len(packed.states), field.shape[1], seen.groups.shape[1])
    return (packed.states, packed.log_weights, field, beta, *lists, *sizes)


def dominant_state(packed: Packed, field: torch.Tensor, beta: torch.Tensor, seen: Survey) -> torch.Tensor:
    """(B,) int64, of the sparse queries."""
    queries, parts = len(field), parts_of(packed, len(field))
    best = field.new_empty(queries, parts)
    t = tile("differences", field.shape[1], packed.architecture)
    r = seen.near
    for i in range(2):
        where = torch.empty(queries, parts, dtype=torch.int64, device=field.device)
        launch(
            _find_kernel,
            (min(queries, PROGRAMS), parts),
            *arguments(packed, field, beta, seen), r, best, where,
            RELATIVE=i > 0 or packed.codes is not None,
            BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
        )  # fmt: skip
        r = where.gather(1, best.argmax(1, keepdim=True))[:, 0] if parts > 1 else where[:, 0]
    return r


def summed(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, seen: Survey, r: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unnormalised sums of w, w x, w x^2, w^2, (B, parts, 4), and of w (y - y_r), (B, parts, D), of sparse queries."""
    (queries, dimension), parts = field.shape, parts_of(packed, len(field))
    shift, scalars = field.new_empty(queries, parts, dimension), field.new_empty(queries, parts, 4)
    t = tile("differences", dimension, packed.architecture)
    block = min(SUMMED, power_of_two(dimension))
    launch(
        _sum_kernel,
        (min(queries, PROGRAMS), parts, cdiv(dimension, block)),
        *arguments(packed, field, beta, seen), r, shift, scalars,
        BLOCK_N=t.n, BLOCK_D=t.d, BLOCK_S=block, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return scalars, shift


@triton.jit
def largest(
    Y, PHI, H, GROUPS, b, beta, r, kept, low, high, N, D, CAPACITY,
    RELATIVE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The state of largest weight of a part of a query's list, the lowest of equal ones, after its logit."""
    best = tl.full([], float("-inf"), tl.float64)
    where = tl.full([], 0, tl.int32)
    for j in range(low, high):
        n = group_of(GROUPS, b, j, kept, CAPACITY) * BLOCK_N + tl.arange(0, BLOCK_N)
        x = relative_energy(Y, H, b, r, n, N, D, RELATIVE, BLOCK_N, BLOCK_D)
        logit = tl.load(PHI + n, mask=n < N, other=float("-inf")) - beta * x
        found = tl.max(logit, 0)
        place = tl.min(tl.where(logit == found, n, N - 1), 0)
        where = tl.where(found > best, place, where)
        best = tl.maximum(best, found)
    return best, where


@triton.jit
def added(
    Y, PHI, H, GROUPS, b, d, beta, r, kept, low, high, N, D, CAPACITY, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """Sums of w (y - y_r), dimensions d, and of w, w x, w x^2, w^2 of a part of a query's list."""
    prior, reference = tl.load(PHI + r), row(Y, r, d, d < D, D, tl.float64)
    rest = tl.zeros([BLOCK_N], tl.float64)
    excess, square, squares = rest, rest, rest
    shift = tl.zeros([BLOCK_N, d.shape[0]], tl.float64)
    for j in range(low, high):
        n = group_of(GROUPS, b, j, kept, CAPACITY) * BLOCK_N + tl.arange(0, BLOCK_N)
        x = relative_energy(Y, H, b, r, n, N, D, True, BLOCK_N, BLOCK_D)
        logit = (tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * x
        w = tl.where(n == r, 0.0, tl.exp(logit))
        rest += w
        excess += w * x
        square += w * x * x
        squares += w * w
        y = row(Y, n[:, None], d[None, :], (n < N)[:, None] & (d < D)[None, :], D, tl.float64)
        shift += w[:, None] * (y - reference[None, :])
    return tl.sum(shift, 0), tl.sum(rest, 0), tl.sum(excess, 0), tl.sum(square, 0), tl.sum(squares, 0)


@triton.jit
def _find_kernel(
    Y, PHI, H, BETA, GROUPS, KEPT, ORDER, COUNT, N, D, CAPACITY, REFERENCE, BEST, WHERE,
    RELATIVE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Of each part of the states."""
    part, parts = tl.program_id(1), tl.num_programs(1)
    for i in range(tl.program_id(0), tl.load(COUNT), tl.num_programs(0)):
        b = tl.load(ORDER + i)
        beta, r, kept = tl.load(BETA + b), tl.load(REFERENCE + b), tl.load(KEPT + b)
        low, high = share(kept, part, parts)
        best, where = largest(
            Y, PHI, H, GROUPS, b, beta, r, kept, low, high, N, D, CAPACITY, RELATIVE, BLOCK_N, BLOCK_D
        )  # fmt: skip
        tl.store(BEST + b * parts + part, best)
        tl.store(WHERE + b * parts + part, where.to(tl.int64))


@triton.jit
def _sum_kernel(
    Y, PHI, H, BETA, GROUPS, KEPT, ORDER, COUNT, N, D, CAPACITY, DOMINANT, SHIFT, SCALARS,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    part, parts = tl.program_id(1), tl.num_programs(1)
    d = tl.program_id(2) * BLOCK_S + tl.arange(0, BLOCK_S)
    for i in range(tl.program_id(0), tl.load(COUNT), tl.num_programs(0)):
        b = tl.load(ORDER + i)
        beta, r, kept = tl.load(BETA + b), tl.load(DOMINANT + b), tl.load(KEPT + b)
        low, high = share(kept, part, parts)
        shift, rest, excess, square, squares = added(
            Y, PHI, H, GROUPS, b, d, beta, r, kept, low, high, N, D, CAPACITY, BLOCK_N, BLOCK_D
        )
        at = b * parts + part
        tl.store(SHIFT + at * D + d, shift, mask=d < D)
        if tl.program_id(2) == 0:
            tl.store(SCALARS + at * 4 + 0, rest)
            tl.store(SCALARS + at * 4 + 1, excess)
            tl.store(SCALARS + at * 4 + 2, square)
            tl.store(SCALARS + at * 4 + 3, squares)
