"""Float64 sums by differences or by products, a query a program: normalised, with `bounds.screened_error` and
`bounds.dense_error` of what summed them."""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import CUTOFF, EXPONENTIAL, SCREENED
from fastthermo.kernels.triton.certify import UNIT64, difference_error, expm1, product_error, reach_of, rms_of
from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.tile import row

Tensor = torch.Tensor
REACH, SCREENED_REACH = tl.constexpr(CUTOFF), tl.constexpr(SCREENED)
DROPPED, SCREENED_DROPPED = tl.constexpr(math.exp(-CUTOFF)), tl.constexpr(math.exp(-SCREENED))
WEIGHT = tl.constexpr(EXPONENTIAL[8])


class Parts(NamedTuple):
    """Sums relative to the dominant state, itself left out, over parts of the states; of some queries."""

    dominant: Tensor  # (B,) int64
    scalars: Tensor  # (B, parts, 4): of w, w x, w x^2, w^2
    shift: Tensor  # (B, parts, D): of w (y - y_r)


class Settled(NamedTuple):
    """`Sums`, and where its scalars are."""

    dominant: Tensor
    shift: Tensor
    scalars: Tensor  # (7, B)

    def sums(self) -> Sums:
        return Sums(self.dominant, self.shift, *self.scalars)


def settle(
    packed: Packed,
    field: Tensor,
    beta: Tensor,
    flags: Tensor | None,
    sparse: Parts,
    dense: Parts | None = None,
    into: Settled | None = None,
) -> Sums:
    """flags (B,) : the queries that are dense, in one part; or those that are put `into` the sums of others."""
    (queries, dimension), size = field.shape, len(packed.states)
    out = into or Settled(torch.empty_like(sparse.dominant), torch.empty_like(field), field.new_empty(7, queries))
    t = tile("finish", dimension, packed.architecture)
    launch(
        _settle_kernel,
        (queries,),
        packed.states, packed.anchor, packed.facts, field, beta,
        sparse.dominant if flags is None else flags.view(torch.uint8), *sparse, *(dense or sparse), *out,
        queries, size, dimension,
        DENSE=dense is not None, SOME=into is not None, PARTS=sparse.scalars.shape[1], BLOCK_D=t.d, num_warps=t.warps,
    )  # fmt: skip
    return out.sums()


@triton.jit
def _settle_kernel(
    Y, ANCHOR, FACTS, H, BETA, FLAGS, R, SCALARS, SUM, DENSE_R, DENSE_SCALARS, DENSE_SUM, DOMINANT, SHIFT, OUT,
    B, N, D, DENSE: tl.constexpr, SOME: tl.constexpr, PARTS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    is_dense, wanted = False, True
    if DENSE:
        is_dense = tl.load(FLAGS + b) != 0
    if SOME:
        wanted = tl.load(FLAGS + b) != 0
    if wanted:
        if is_dense:
            r = tl.load(DENSE_R + b)
            whole = DENSE_SCALARS + 4 * b
            rest, excess = tl.load(whole), tl.load(whole + 1)
            square, squares = tl.load(whole + 2), tl.load(whole + 3)
        else:
            r = tl.load(R + b)
            at = SCALARS + (b * PARTS + tl.arange(0, PARTS)) * 4
            rest, excess = tl.sum(tl.load(at), 0), tl.sum(tl.load(at + 1), 0)
            square, squares = tl.sum(tl.load(at + 2), 0), tl.sum(tl.load(at + 3), 0)
        r = tl.maximum(tl.minimum(r, N - 1), 0)
        normalise(
            Y, ANCHOR, FACTS, H, BETA, SUM, DENSE_SUM, DOMINANT, SHIFT, OUT, b, r, rest, excess, square, squares,
            is_dense, B, N, D, PARTS, BLOCK_D,
        )  # fmt: skip


@triton.jit
def normalise(
    Y, ANCHOR, FACTS, H, BETA, SUM, DENSE_SUM, DOMINANT, SHIFT, OUT, b, r, rest, excess, square, squares, is_dense,
    B, N, D, PARTS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Store `Sums` of query b, with their bounds."""
    beta, radius, spread = tl.load(BETA + b), tl.load(FACTS), tl.load(FACTS + 1)
    scale = 1 / (1 + rest)
    least = tl.zeros([BLOCK_D], tl.float64)
    away, bad = least, least
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        h = row(H, b, d, d < D, D, tl.float64)
        pull, g = row(Y, r, d, d < D, D, tl.float64) - h, h - tl.load(ANCHOR + d, mask=d < D, other=0)
        least += pull * pull
        away += g * g
        bad += h - h
    bad = tl.sum(bad, 0) + tl.where(beta > 0, beta - beta, float("nan"))
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        shift = tl.zeros([BLOCK_D], tl.float64)
        if is_dense:
            shift += row(DENSE_SUM, b, d, d < D, D, tl.float64)
        else:
            for part in range(PARTS):
                shift += row(SUM, b * PARTS + part, d, d < D, D, tl.float64)
        tl.store(SHIFT + b * D + d, shift * scale + bad, mask=d < D)
    least, away, excess = tl.sum(least, 0) / 2, tl.sqrt(tl.sum(away, 0)), excess * scale
    excess = tl.maximum(excess, -least)  # the error of products amid copies of a state
    product = product_error(D, reach_of(radius, spread, beta, away, REACH), away)
    tail = 0 * scale
    if is_dense:
        tail = rest * scale
    rms = rms_of(least, excess, 4 * tail * product)
    chains = (N + 8) * UNIT64
    origin = chains * (1 + tl.sqrt(2 * least) / rms)
    if is_dense:  # twice beta: the logits of both the state and the dominant one are products
        near = difference_error(D, radius, spread, 2 * beta, least, 0) + 16 * UNIT64 * (REACH + spread)
        far = expm1(2 * tl.minimum(2 * beta * product + WEIGHT, 300.0))
        share = tl.minimum(2 * tail * radius / rms, tl.sqrt(tail))
        lost = (512 * UNIT64 * tail + N * (4 * DROPPED + 1e-13)) * radius / rms
        bound = expm1(2 * near) / 2 + far * share + origin + lost
        log_error = expm1(2 * near) / 2 + (far + 512 * UNIT64) * tail + chains
        log_error += 2 * N * DROPPED + 1e-13 * (N / 32 + 1)
    else:
        near = difference_error(D, radius, spread, beta, least, 1) + 16 * UNIT64 * (SCREENED_REACH + spread)
        bound = expm1(2 * near) / 2 + 4 * N * tl.minimum(rest, 1.0) * SCREENED_DROPPED * radius / rms + origin
        log_error = expm1(2 * near) / 2 + chains + 2 * N * SCREENED_DROPPED * rest * scale
    tl.store(DOMINANT + b, r)
    tl.store(OUT + b, tl.log(rest) + bad)
    tl.store(OUT + B + b, least + bad)
    tl.store(OUT + 2 * B + b, excess + bad)
    tl.store(OUT + 3 * B + b, square * scale + bad)
    tl.store(OUT + 4 * B + b, (1 + squares) * scale * scale + bad)
    tl.store(OUT + 5 * B + b, bound + bad)
    tl.store(OUT + 6 * B + b, log_error + bad)
