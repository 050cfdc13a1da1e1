"""Which states of a query are summed by float64 differences, its heads, from the energies of all to float32 precision.

With z_n = log phi_n - beta e_n in float32, each in error by at most beta eps, expected `typical`:

1. A state below the runner-up by 2 beta eps + T, and below the largest by 2 beta eps + T', is left out of all sums
   (`bounds.cutoffs`). Where what remains fits the list, it is all there is to sum.
2. Else the heads are the states that weigh at least tau = (tolerance / typical)^2 of all: independent errors of the
   others, the tail, change the force by typical sqrt(sum of their w^2) <= typical sqrt(tau), relative to its rms.
   Where so many do not fit the list, the energies of the tail are computed again, in float64 (`refine`).

Passes over a row: largest logits and their sum; lists, of 1., of 2., or of as many as fit, given up where too many
come. Where queries are few several programs share a row, and count before they list. Heads are marked in the row by an
infinite energy.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.bounds import cutoffs
from fastthermo.kernels.triton.config import FEW_PROGRAMS, SPLIT_TOLERANCE, most_heads, tile
from fastthermo.kernels.triton.device import launch, power_below
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.split import Halves
from fastthermo.kernels.triton.tile import BITS, share, slope

DENSE, ROUGH = tl.constexpr(1), tl.constexpr(2)  # the tail matters; its energies are to be refined


class Heads(NamedTuple):
    lists: torch.Tensor  # (B, capacity) int32
    kept: torch.Tensor  # (B,) int32
    near: torch.Tensor  # (B,) int64: the state of largest weight, as far as float32 tells
    origin: torch.Tensor  # (B,): its energy relative to the anchor's
    flags: torch.Tensor  # (B,) int32: 0 no tail, DENSE, ROUGH
    lift: torch.Tensor  # (B,) float32: weights of the tail are stored times 2^lift, for float16 to hold more digits


def row_parts(queries: int, size: int) -> int:
    """Programs that share a row, a power of two."""
    return power_below(min(64, FEW_PROGRAMS // max(1, queries), size // 4096))


def cutoff_bits(size: int) -> tuple[float, float]:
    """`cutoffs`, rounded up to whole bits, for each of which kernels are compiled; stricter, for logits in float32."""
    runner_up, largest = (float(math.ceil(1.001 * x / math.log(2))) for x in cutoffs((size, 1), "single"))
    return runner_up, largest


def heads(packed: Packed, g: Halves, beta: torch.Tensor, work: torch.Tensor, precision: str) -> Heads:
    """Of rows of energies `work` (B, pitch), in which heads are marked."""
    queries, size, device = len(work), len(packed.states), work.device
    parts = row_parts(queries, size)
    stats = torch.empty(queries, parts, 8, dtype=torch.float32, device=device)
    counts = torch.empty(queries, parts, 4, dtype=torch.int32, device=device)
    capacity = min(most_heads(packed.architecture), size)
    found = Heads(
        torch.empty(queries, capacity, dtype=torch.int32, device=device),
        torch.empty(queries, dtype=torch.int32, device=device),
        torch.empty(queries, dtype=torch.int64, device=device),
        torch.empty_like(beta),
        torch.empty(queries, dtype=torch.int32, device=device),
        torch.empty(queries, dtype=torch.float32, device=device),
    )
    t = tile("row", 0, packed.architecture)
    rows = (work, packed.log_bits, beta)
    sizes, limited = (size, work.shape[1]), (size, work.shape[1], capacity)
    options = {"UNIFORM": packed.uniform, "BLOCK_N": t.n, "num_warps": t.warps, "num_stages": t.stages}
    launch(_stats_kernel, (queries, parts), *rows, stats, *sizes, **options)
    runner_up, largest = cutoff_bits(size)
    limits = {
        "RUNNER_UP": runner_up,
        "LARGEST": largest,
        "TOLERANCE": SPLIT_TOLERANCE if precision == "single" else math.inf,
        "PARTS": parts,
    }
    given = (*rows, stats, g.eps, g.typical, counts)
    if parts > 1:
        launch(_count_kernel, (queries, parts), *given, *limited, **limits, **options)
    launch(_list_kernel, (queries, parts), *given, *found, *limited, **limits, **options)
    return found


@triton.jit
def logits(WORK, PHI, c, b, n, N, PITCH, UNIFORM: tl.constexpr):
    """Of states n, in bits; -inf of others. PHI: log phi in bits, 0 where UNIFORM."""
    z = c * tl.load(WORK + b * PITCH + n, mask=n < PITCH, other=float("inf"))
    if not UNIFORM:
        z += tl.load(PHI + n, mask=n < N, other=float("-inf"))
    return z


@triton.jit
def _stats_kernel(WORK, PHI, BETA, STATS, N, PITCH, UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr):
    """Of a part of a row: largest logit, second largest, sum relative to the largest, its place and energy."""
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
    c = slope(tl.load(BETA + b))
    best = tl.full([BLOCK_N], -3e38, tl.float32)  # below every logit
    second = best
    total = tl.zeros([BLOCK_N], tl.float32)
    where = tl.zeros([BLOCK_N], tl.int32) + N
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        z = logits(WORK, PHI, c, b, n, N, PITCH, UNIFORM)
        new = tl.maximum(best, z)
        total = total * tl.exp2(best - new) + tl.exp2(z - new)
        second = tl.maximum(second, tl.minimum(best, z))
        where = tl.where(z > best, n, where)
        best = new
    top = tl.max(best, 0)
    near = tl.min(tl.where(best == top, where, N), 0)
    owner = tl.argmax(best, 0)
    lane = tl.arange(0, BLOCK_N)
    runner_up = tl.maximum(tl.max(second, 0), tl.max(tl.where(lane == owner, -3e38, best), 0))
    at = STATS + (b * parts + part) * 8
    tl.store(at, top)
    tl.store(at + 1, runner_up)
    tl.store(at + 2, tl.sum(total * tl.exp2(best - top), 0))
    tl.store(at + 3, near.to(tl.float32, bitcast=True))
    tl.store(at + 4, tl.load(WORK + b * PITCH + near, mask=near < N, other=0))


@triton.jit
def thresholds(
    STATS, EPS, TYPICAL, b, beta, capacity,
    RUNNER_UP: tl.constexpr, LARGEST: tl.constexpr, TOLERANCE: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Logits from which states are not left out, from which they are heads, and from which they are heads that fit;
    and how many bits the largest of a tail is below the largest of all, if that is sure, but one."""
    part = tl.arange(0, PARTS)
    at = STATS + (b * PARTS + part) * 8
    tops, seconds, sums = tl.load(at), tl.load(at + 1), tl.load(at + 2)
    top = tl.max(tops, 0)
    owner = tl.argmax(tops, 0)
    runner_up = tl.maximum(tl.max(seconds, 0), tl.max(tl.where(part == owner, -3e38, tops), 0)).to(tl.float64)
    total = tl.log2(tl.sum(sums * tl.exp2(tops - top), 0))
    top = top.to(tl.float64)
    slack = 2 * BITS * beta * tl.load(EPS + b)
    kept = tl.minimum(runner_up - RUNNER_UP, top - LARGEST) - slack
    ratio = tl.minimum(TOLERANCE / tl.load(TYPICAL + b), 1.0)
    heads = tl.minimum(top + total + 2 * tl.log2(ratio), top)
    fitting = tl.minimum(top + total - tl.log2(tl.cast(capacity - 1, tl.float32)), top)
    lift = tl.where(slack < 2, tl.floor(tl.minimum(tl.maximum(top - heads - 1, 0.0), 60.0)), 0.0)
    return _single(kept), _single(heads), _single(fitting), lift.to(tl.float32)


@triton.jit
def _single(x):
    return tl.maximum(x, -3e38).to(tl.float32)


@triton.jit
def _count_kernel(
    WORK, PHI, BETA, STATS, EPS, TYPICAL, COUNTS, N, PITCH, capacity,
    RUNNER_UP: tl.constexpr, LARGEST: tl.constexpr, TOLERANCE: tl.constexpr, PARTS: tl.constexpr,
    UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    beta = tl.load(BETA + b)
    kept, heads, fitting, _ = thresholds(STATS, EPS, TYPICAL, b, beta, capacity, RUNNER_UP, LARGEST, TOLERANCE, PARTS)
    c = slope(beta)
    low, high = share(tl.cdiv(N, BLOCK_N), part, PARTS)
    count = tl.zeros([BLOCK_N], tl.int32)
    count_heads, count_fitting = count, count
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        z = logits(WORK, PHI, c, b, n, N, PITCH, UNIFORM)
        count += (z >= kept).to(tl.int32)
        count_heads += (z >= heads).to(tl.int32)
        count_fitting += (z >= fitting).to(tl.int32)
    at = COUNTS + (b * PARTS + part) * 4
    tl.store(at, tl.sum(count, 0))
    tl.store(at + 1, tl.sum(count_heads, 0))
    tl.store(at + 2, tl.sum(count_fitting, 0))


@triton.jit
def _list_kernel(
    WORK, PHI, BETA, STATS, EPS, TYPICAL, COUNTS, LISTS, KEPT, NEAR, ORIGIN, FLAGS, LIFT, N, PITCH, capacity,
    RUNNER_UP: tl.constexpr, LARGEST: tl.constexpr, TOLERANCE: tl.constexpr, PARTS: tl.constexpr,
    UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    beta = tl.load(BETA + b)
    least, heads, fitting, lift = thresholds(
        STATS, EPS, TYPICAL, b, beta, capacity, RUNNER_UP, LARGEST, TOLERANCE, PARTS
    )
    c = slope(beta)
    low, high = share(tl.cdiv(N, BLOCK_N), part, PARTS)
    row = LISTS + b * capacity
    if PARTS == 1:
        first = low * 0
        flag = first
        kept = _listed(WORK, PHI, row, b, c, least, low, high, first, N, PITCH, capacity, UNIFORM, BLOCK_N)
        if kept > capacity:
            flag = first + DENSE
            kept = _listed(WORK, PHI, row, b, c, heads, low, high, first, N, PITCH, capacity, UNIFORM, BLOCK_N)
            if kept > capacity:
                flag = first + ROUGH
                kept = _listed(WORK, PHI, row, b, c, fitting, low, high, first, N, PITCH, capacity, UNIFORM, BLOCK_N)
        last = tl.minimum(kept, capacity)
    else:
        parts = tl.arange(0, PARTS)
        given = COUNTS + (b * PARTS + parts) * 4
        counts, counts_heads, counts_fitting = tl.load(given), tl.load(given + 1), tl.load(given + 2)
        flag = tl.where(tl.sum(counts, 0) <= capacity, 0, tl.where(tl.sum(counts_heads, 0) <= capacity, DENSE, ROUGH))
        least = tl.where(flag == 0, least, tl.where(flag == DENSE, heads, fitting))
        counts = tl.where(flag == 0, counts, tl.where(flag == DENSE, counts_heads, counts_fitting))
        first, kept = tl.sum(tl.where(parts < part, counts, 0), 0), tl.sum(counts, 0)
        last = _listed(WORK, PHI, row, b, c, least, low, high, first, N, PITCH, capacity, UNIFORM, BLOCK_N)
        last = tl.minimum(last, capacity)
    if flag > 0:
        tl.debug_barrier()  # what other threads listed
        for begin in range(first, last, BLOCK_N):
            place = begin + tl.arange(0, BLOCK_N)
            n = tl.load(row + place, mask=place < last, other=0)
            tl.store(WORK + b * PITCH + n, float("inf"), mask=place < last)
    if part == 0:
        tops = tl.load(STATS + (b * PARTS + tl.arange(0, PARTS)) * 8)
        found = STATS + (b * PARTS + tl.argmax(tops, 0)) * 8
        near = tl.load(found + 3).to(tl.int32, bitcast=True)
        tl.store(NEAR + b, tl.minimum(near, N - 1).to(tl.int64))
        tl.store(ORIGIN + b, tl.load(found + 4).to(tl.float64))
        tl.store(KEPT + b, tl.minimum(kept, capacity))
        tl.store(FLAGS + b, flag)
        tl.store(LIFT + b, tl.where(flag == DENSE, lift, 0.0))


@triton.jit
def _listed(
    WORK, PHI, ROW, b, c, least, low, high, place, N, PITCH, capacity, UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """List states of logit `least` and above from `place` on; where the list ends, or would if it were long enough."""
    j = low
    while (j < high) & (place <= capacity):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        keep = logits(WORK, PHI, c, b, n, N, PITCH, UNIFORM) >= least
        number = tl.sum(keep.to(tl.int32), 0)
        if number > 0:
            free = place + tl.cumsum(keep.to(tl.int32), 0) - 1
            tl.store(ROW + free, n, mask=keep & (free < capacity))
            place += number
        j += 1
    return place
