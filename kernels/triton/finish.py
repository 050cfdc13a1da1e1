"""Heads and tail joined, a query a program: sums relative to the dominant state r and the bounds of their errors.

Tail weights are relative to the state `near`; relative to r they are

    exp((log phi_near - beta e_near) - (log phi_r - beta e_r)) 2^-lift times as large,

e_r from float64 differences, e_near what the tail was computed with. The bounds are those of `bounds.screened_error`,
where there is no tail, and of `bounds.dense_error` with the error of a tail's logit from `split`.
"""

import math

import torch
import triton
import triton.language as tl

from fastthermo.kernels.bounds import EXPONENTIAL, UNITS, cutoffs
from fastthermo.kernels.triton.certify import (
    REACH,
    UNIT64,
    difference_error,
    expm1,
    product_error,
    reach_of,
    rms_of,
    single_does,
)
from fastthermo.kernels.triton.config import NARROW_MEAN, tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.heads import ROUGH, Heads
from fastthermo.kernels.triton.listed import Listed
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.settle import Settled
from fastthermo.kernels.triton.split import ACCUMULATION, WEIGHT, Halves
from fastthermo.kernels.triton.tail import SUMMED
from fastthermo.kernels.triton.tile import relative_energy, row

Tensor = torch.Tensor
NARROW = tl.constexpr(NARROW_MEAN)
UNIT32 = tl.constexpr(UNITS[4])
WEIGHTS = tl.constexpr(2 * EXPONENTIAL[4])  # relative error of two weights of the tail
LEAST = tl.constexpr(2.0**-39)  # rounding of a stored weight, relative to the largest


def finish(
    packed: Packed,
    field: Tensor,
    beta: Tensor,
    g: Halves,
    found: Heads,
    head: Listed,
    tail: Tensor,
    averages: Tensor,
    added: int,
) -> tuple[Settled, Tensor]:
    """And which queries are to be summed again, as float32 does not do, (B,).

    tail : sums (B, parts, 4); averages : (parts, B, width) float32, each part of which adds so many in float32.
    """
    (queries, dimension), size, codes = field.shape, len(packed.states), packed.codes
    assert codes is not None
    out = Settled(head.dominant, torch.empty_like(field), field.new_empty(7, queries))
    again = torch.empty(queries, dtype=torch.bool, device=field.device)
    runner_up, largest = cutoffs((size, dimension), "single")
    t = tile("finish", dimension, packed.architecture)
    launch(
        _finish_kernel,
        (queries,),
        packed.states, packed.log_weights, packed.anchor, packed.facts, field, beta, g.length, g.eps,
        found.near, found.origin, found.flags, found.lift, *head, tail, averages, *out[1:],
        again.view(torch.uint8), queries, size, dimension, averages.shape[2], packed.anchor_index,
        2.0**-WEIGHT / codes.scale, (3 * 64 / 8 + 8 + added + SUMMED.value / 4) * ACCUMULATION,
        math.exp(-runner_up), math.exp(-largest),
        TAIL_PARTS=tail.shape[1], AVERAGE_PARTS=len(averages), BLOCK_D=t.d, num_warps=t.warps,
    )  # fmt: skip
    return out, again


@triton.jit
def _total(P, b, parts: tl.constexpr, k):
    """Sum over parts of column k of P (B, parts, 4)."""
    return tl.sum(tl.load(P + (b * parts + tl.arange(0, parts)) * 4 + k), 0)


@triton.jit
def average_of(AVERAGE, b, d, B, D, PARTS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Sum over the parts of `split.average`, eight at a time."""
    total = tl.zeros([BLOCK_D], tl.float64)
    for first in range(0, PARTS, 8):
        part = first + tl.arange(0, 8)
        at = (part.to(tl.int64)[:, None] * B + b) * D + d[None, :]
        mask = (part < PARTS)[:, None] & (d < D)[None, :]
        total += tl.sum(tl.load(AVERAGE + at, mask=mask, other=0).to(tl.float64), 0)
    return total


@triton.jit
def _finish_kernel(
    Y, PHI, ANCHOR, FACTS, H, BETA, DISTANCE, EPS, NEAR, ORIGIN, FLAGS, LIFT, DOMINANT, HEAD, HEAD_SHIFT, TAIL, AVERAGE,
    SHIFT, OUT, AGAIN, B, N, D, WIDTH, anchor, unit, added,
    dropped_runner_up: tl.float64, dropped_largest: tl.float64,
    TAIL_PARTS: tl.constexpr, AVERAGE_PARTS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    flag, r, near, beta = tl.load(FLAGS + b), tl.load(DOMINANT + b), tl.load(NEAR + b), tl.load(BETA + b)
    radius, spread, lost = tl.load(FACTS), tl.load(FACTS + 1), tl.load(FACTS + 3)
    e_r = tl.sum(relative_energy(Y, H, b, anchor, r + tl.zeros([1], tl.int64), N, D, True, 1, BLOCK_D), 0)
    delta = tl.load(ORIGIN + b) - e_r
    lifted = tl.exp2(-tl.load(LIFT + b)).to(tl.float64)
    factor = lifted * tl.exp((tl.load(PHI + near) - tl.load(PHI + r)) - beta * delta)
    factor = tl.where(flag > 0, factor, 0.0)
    t0, t1, t2 = _total(TAIL, b, TAIL_PARTS, 0), _total(TAIL, b, TAIL_PARTS, 1), _total(TAIL, b, TAIL_PARTS, 2)
    tail = factor * t0
    rest = tl.load(HEAD + 4 * b + 0) + tail
    excess = tl.load(HEAD + 4 * b + 1) + factor * (t1 + delta * t0)
    square = tl.load(HEAD + 4 * b + 2) + factor * (t2 + delta * (2 * t1 + delta * t0))
    squares = tl.load(HEAD + 4 * b + 3) + factor * factor * _total(TAIL, b, TAIL_PARTS, 3)
    scale = 1 / (1 + rest)
    least = tl.zeros([BLOCK_D], tl.float64)
    bad = tl.where(beta > 0, beta - beta, float("nan")) + (e_r - e_r)  # of any field that is not finite
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        inside = d < D
        y, h = row(Y, r, d, inside, D, tl.float64), row(H, b, d, inside, D, tl.float64)
        pull = y - h
        least += pull * pull
        shift = row(HEAD_SHIFT, b, d, inside, D, tl.float64)
        if flag > 0:
            average = average_of(AVERAGE, b, d, B, WIDTH, AVERAGE_PARTS, BLOCK_D)
            own = y - tl.load(ANCHOR + d, mask=inside, other=0)
            shift += factor * (average * unit - t0 * own)
        tl.store(SHIFT + b * D + d, shift * scale + bad, mask=inside)
    least = tl.sum(least, 0) / 2
    mean_excess = tl.maximum(excess * scale, -least)  # the error of products amid copies of a state

    differences = difference_error(D, radius, spread, beta, least, 1)
    heads = expm1(2 * (differences + 16 * UNIT64 * (REACH + spread))) / 2
    eps, distance = tl.load(EPS + b), tl.load(DISTANCE + b)
    reach = reach_of(radius, spread, beta, distance, REACH)
    refined = product_error(D, reach, distance)
    refined += 4 * (REACH + spread) / beta * UNIT32  # by products in float64, then float32 relative to `near`
    eps = tl.where(flag == ROUGH, refined, eps)
    logit = tl.minimum(2 * beta * eps + WEIGHTS, 300.0)
    share = tail * scale
    rms = rms_of(least, mean_excess, 4 * share * eps)
    spread_of_tail = tl.minimum(2 * share * radius / rms, tl.sqrt(share))
    chains = (N + 8) * UNIT64
    origin = chains * (1 + tl.sqrt(2 * least) / rms) + share * (added * radius + lost) / rms
    dropped = tl.minimum(rest * dropped_runner_up, dropped_largest)
    dropped = N * tl.where(flag > 0, LEAST * lifted * scale, 4 * dropped) * radius / rms
    energy, others = least + mean_excess, rest * scale
    does = single_does(NARROW, rms * rms, share * reach, flag, logit, energy, others, beta, radius, distance, reach)
    tl.store(AGAIN + b, (~does & (bad == bad)).to(tl.uint8))
    tl.store(OUT + b, tl.log(rest) + bad)
    tl.store(OUT + B + b, least + bad)
    tl.store(OUT + 2 * B + b, mean_excess + bad)
    tl.store(OUT + 3 * B + b, square * scale + bad)
    tl.store(OUT + 4 * B + b, (1 + squares) * scale * scale + bad)
    tl.store(OUT + 5 * B + b, heads + expm1(2 * logit) * spread_of_tail + origin + dropped + bad)
    left_out = tl.where(flag > 0, N * LEAST * lifted * scale, 2 * N * dropped_runner_up * rest * scale)
    tl.store(OUT + 6 * B + b, heads + expm1(2 * logit) * share + chains + left_out + bad)
