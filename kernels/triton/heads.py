"""Which states of a query are summed by float64 differences, its heads, from the energies of all to float32 precision.

With z_n = log phi_n - beta e_n, each in error by at most beta eps, expected `typical`:

1. A state below the runner-up by 2 beta eps + T, and below the largest by 2 beta eps + T', is left out of all sums
   (`bounds.cutoffs`). Where what remains fits the list, it is all there is to sum.
2. Else the heads are the states that weigh at least tau = (tolerance / typical)^2 of all: independent errors of the
   others, the tail, change the force by typical sqrt(sum of their w^2) <= typical sqrt(tau), relative to its rms.
   Where so many heads would not fit, the energies of the tail are computed again, in float64 (`refine`).

Three passes over a row, each by several programs where queries are few: largest logits and their sum; counts; lists.
Heads are marked in the row by an infinite energy.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.bounds import cutoffs
from fastthermo.kernels.triton.config import FEW_PROGRAMS, SPLIT_TOLERANCE, most_heads, tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.split import Halves
from fastthermo.kernels.triton.tile import share

BITS = tl.constexpr(1 / math.log(2))
DENSE, ROUGH = 1, 2  # flags: the tail matters; its energies are computed again


class Heads(NamedTuple):
    lists: torch.Tensor  # (B, capacity) int32
    kept: torch.Tensor  # (B,) int32
    near: torch.Tensor  # (B,) int64: the state of largest weight, as far as float32 tells
    origin: torch.Tensor  # (B,): its energy relative to the anchor's
    flags: torch.Tensor  # (B,) int32


def row_parts(queries: int, size: int) -> int:
    """Programs that share a row, a power of two."""
    return 1 << max(0, min(64, FEW_PROGRAMS // max(1, queries), size // 4096).bit_length() - 1)


def heads(packed: Packed, g: Halves, beta: torch.Tensor, work: torch.Tensor, precision: str) -> Heads:
    """Of rows of energies `work` (B, pitch), in which heads are marked."""
    queries, size, device = len(work), len(packed.states), work.device
    parts = row_parts(queries, size)
    stats = beta.new_empty(queries, parts, 8)
    counts = torch.empty(queries, parts, 2, dtype=torch.int32, device=device)
    capacity = min(most_heads(packed.architecture), size)
    found = Heads(
        torch.empty(queries, capacity, dtype=torch.int32, device=device),
        torch.empty(queries, dtype=torch.int32, device=device),
        torch.empty(queries, dtype=torch.int64, device=device),
        torch.empty_like(beta),
        torch.empty(queries, dtype=torch.int32, device=device),
    )
    t = tile("row", 0, packed.architecture)
    rows = (work, packed.log_weights, beta)
    sizes = (size, work.shape[1])
    options = {"BLOCK_N": t.n, "num_warps": t.warps, "num_stages": t.stages}
    launch(_stats_kernel, (queries, parts), *rows, stats, *sizes, **options)
    runner_up, largest = (1.001 * x / math.log(2) for x in cutoffs((size, 1), "single"))
    limits = {
        "RUNNER_UP": runner_up,
        "LARGEST": largest,
        "TOLERANCE": SPLIT_TOLERANCE if precision == "single" else math.inf,
        "PARTS": parts,
    }
    given = (*rows, stats, g.eps, g.typical, counts)
    launch(_count_kernel, (queries, parts), *given, *sizes, capacity, **limits, **options)
    launch(_list_kernel, (queries, parts), *given, *found, *sizes, capacity, **limits, **options)
    return found


@triton.jit
def logits(WORK, PHI, beta, b, n, N, PITCH):
    """Of states n, in bits; -inf of others."""
    e = tl.load(WORK + b * PITCH + n, mask=n < PITCH, other=float("inf"))
    prior = tl.load(PHI + n, mask=n < N, other=float("-inf"))
    return (prior - beta * e.to(tl.float64)) * BITS


@triton.jit
def _stats_kernel(WORK, PHI, BETA, STATS, N, PITCH, BLOCK_N: tl.constexpr):
    """Of a part of a row: largest logit, second largest, sum relative to the largest, its place and energy."""
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
    beta = tl.load(BETA + b)
    best = tl.full([BLOCK_N], float("-inf"), tl.float64)
    second = best
    total = tl.zeros([BLOCK_N], tl.float32)
    where = tl.zeros([BLOCK_N], tl.int32) + N
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        z = logits(WORK, PHI, beta, b, n, N, PITCH)
        new = tl.maximum(best, z)
        base = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp2((best - base).to(tl.float32)) + tl.exp2((z - base).to(tl.float32))
        second = tl.maximum(second, tl.minimum(best, z))
        where = tl.where(z > best, n, where)
        best = new
    top = tl.max(best, 0)
    near = tl.min(tl.where(best == top, where, N), 0)
    owner = tl.argmax(best, 0)
    lane = tl.arange(0, BLOCK_N)
    runner_up = tl.maximum(tl.max(second, 0), tl.max(tl.where(lane == owner, float("-inf"), best), 0))
    base = tl.where(top == float("-inf"), 0.0, top)
    at = STATS + (b * parts + part) * 8
    tl.store(at, top)
    tl.store(at + 1, runner_up)
    tl.store(at + 2, tl.sum(total * tl.exp2((best - base).to(tl.float32)), 0).to(tl.float64))
    tl.store(at + 3, near.to(tl.float64))
    tl.store(at + 4, tl.load(WORK + b * PITCH + near, mask=near < N, other=0).to(tl.float64))


@triton.jit
def thresholds(
    STATS, EPS, TYPICAL, b, beta, capacity,
    RUNNER_UP: tl.constexpr, LARGEST: tl.constexpr, TOLERANCE: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Logits from which states are not left out, and from which they are heads; whether heads are too many."""
    part = tl.arange(0, PARTS)
    at = STATS + (b * PARTS + part) * 8
    tops, seconds, sums = tl.load(at), tl.load(at + 1), tl.load(at + 2)
    top = tl.max(tops, 0)
    owner = tl.argmax(tops, 0)
    runner_up = tl.maximum(tl.max(seconds, 0), tl.max(tl.where(part == owner, float("-inf"), tops), 0))
    total = tl.sum(sums * tl.exp2(tl.maximum(tops - top, -1000.0)), 0)
    slack = 2 * BITS * beta * tl.load(EPS + b)
    kept = tl.minimum(runner_up - RUNNER_UP, top - LARGEST) - slack
    ratio = TOLERANCE / tl.load(TYPICAL + b)
    least = 1.0 / (capacity - 1)
    tau = tl.minimum(tl.maximum(ratio * ratio, least), 1.0)
    heads = tl.minimum(top + tl.log2(total * tau), top)
    return kept, heads, ratio * ratio < least


@triton.jit
def _count_kernel(
    WORK, PHI, BETA, STATS, EPS, TYPICAL, COUNTS, N, PITCH, capacity,
    RUNNER_UP: tl.constexpr, LARGEST: tl.constexpr, TOLERANCE: tl.constexpr, PARTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    beta = tl.load(BETA + b)
    kept, heads, rough = thresholds(STATS, EPS, TYPICAL, b, beta, capacity, RUNNER_UP, LARGEST, TOLERANCE, PARTS)
    low, high = share(tl.cdiv(N, BLOCK_N), part, PARTS)
    count = tl.zeros([BLOCK_N], tl.int32)
    count_heads = count
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        z = logits(WORK, PHI, beta, b, n, N, PITCH)
        count += ((z >= kept) & (z > float("-inf"))).to(tl.int32)
        count_heads += (z >= heads).to(tl.int32)
    at = COUNTS + (b * PARTS + part) * 2
    tl.store(at, tl.sum(count, 0))
    tl.store(at + 1, tl.sum(count_heads, 0))


@triton.jit
def _list_kernel(
    WORK, PHI, BETA, STATS, EPS, TYPICAL, COUNTS, LISTS, KEPT, NEAR, ORIGIN, FLAGS, N, PITCH, capacity,
    RUNNER_UP: tl.constexpr, LARGEST: tl.constexpr, TOLERANCE: tl.constexpr, PARTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    beta = tl.load(BETA + b)
    least, heads, rough = thresholds(STATS, EPS, TYPICAL, b, beta, capacity, RUNNER_UP, LARGEST, TOLERANCE, PARTS)
    parts = tl.arange(0, PARTS)
    given = COUNTS + (b * PARTS + parts) * 2
    counts, counts_heads = tl.load(given), tl.load(given + 1)
    dense = tl.sum(counts, 0) > capacity
    least = tl.where(dense, heads, least)
    counts = tl.where(dense, counts_heads, counts)
    place = tl.sum(tl.where(parts < part, counts, 0), 0)
    low, high = share(tl.cdiv(N, BLOCK_N), part, PARTS)
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        z = logits(WORK, PHI, beta, b, n, N, PITCH)
        keep = (z >= least) & (z > float("-inf"))
        number = tl.sum(keep.to(tl.int32), 0)
        if number > 0:
            free = place + tl.cumsum(keep.to(tl.int32), 0) - 1
            tl.store(LISTS + b * capacity + free, n, mask=keep & (free < capacity))
            tl.store(WORK + b * PITCH + n, float("inf"), mask=keep & (free < capacity))
            place += number
    if part == 0:
        tops = tl.load(STATS + (b * PARTS + parts) * 8)
        owner = tl.argmax(tops, 0)
        found = STATS + (b * PARTS + owner) * 8
        near = tl.minimum(tl.load(found + 3).to(tl.int64), N - 1)
        tl.store(NEAR + b, near)
        tl.store(ORIGIN + b, tl.load(found + 4))
        tl.store(KEPT + b, tl.minimum(tl.sum(counts, 0), capacity))
        tl.store(FLAGS + b, tl.where(dense, tl.where(rough, 2, 1), 0))
