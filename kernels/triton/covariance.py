"""C = sum w (y - m)(y - m)^T, centred on the mean: y - m = (y - y_r) - shift, as q q^T with q = sqrt(w) (y - m).

In float32 arithmetic heads by `listed` and the tail by `features`. Else, and where features would lose their digits,
weights go to a workspace, by differences or products, and a program makes a tile of the upper triangle of one query's
matrix, a Khatri-Rao product of a row of weights on tensor cores, and stores it and its transpose.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.triton import features, listed
from fastthermo.kernels.triton.boltzmann import is_split
from fastthermo.kernels.triton.config import NARROW_DIGITS, NARROW_ROUGH, NARROW_SPLIT, PROGRAMS, tile
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.differences import parts_of
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import chunks, factor, hidden, multiplied, working_type
from fastthermo.kernels.triton.queries import Queries, divide, everyone
from fastthermo.kernels.triton.screen import Survey
from fastthermo.kernels.triton.second import Given, surveyed, tilted, weigh_again, weights
from fastthermo.kernels.triton.split import FEW, WEIGHT
from fastthermo.kernels.triton.temperatures import temperatures
from fastthermo.kernels.triton.tile import group_of, row, share, symmetric
from fastthermo.kernels.triton.tilt import tail_of

SPLIT_DIMENSION = 64  # up to which the states are split between programs where queries are few
FEATURED = 256  # dimensions, above which features are for more than FEW queries: a tile of them serves 128


def covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str = "double"
) -> torch.Tensor:
    beta = temperatures(packed, beta, precision)
    out = field.new_empty(*field.shape, field.shape[1])
    of = _split_covariance if is_split(packed, precision) else _covariance
    for begin, length in chunks(packed, len(field)):
        q = slice(begin, begin + length)
        of(packed, field[q].contiguous(), beta[q].contiguous(), Given.of(sums, q), precision, out[q])
    return out


def _split_covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, given: Given, precision: str, out: torch.Tensor
) -> None:
    none = field.new_empty(len(field), 0, field.shape[1])
    tail = tail_of(packed, field, beta, given, none, none[:, :, 0], precision)
    if len(field) <= FEW and field.shape[1] > FEATURED:
        by_products(packed, field, beta, given, precision, everyone(field), out, tail.again)
        return
    p, _ = listed.tilted(packed, field, beta, tail.found, given, none, none[:, :, 0])
    listed.spread(packed, tail.found, given.dominant, p, given.shift, out)
    features.add_spread(packed, tail, precision, out)
    share, digits = tail.sums[:, 0], 2.0**-25 * 2.0**-WEIGHT * len(packed.states) ** 0.5 / NARROW_DIGITS
    error = tail.reach**2 * (NARROW_SPLIT**2 * share + digits * tail.scale) + tail.rough * share / NARROW_ROUGH
    narrow = (tail.scale > 0) & (tail.trace <= error)
    by_products(packed, field, beta, given, precision, divide(narrow | tail.again)[1], out, tail.again)


def _covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, given: Given, precision: str, out: torch.Tensor
) -> None:
    (queries, dimension), parts = field.shape, 1
    seen = surveyed(packed, field, beta, given, precision)
    if dimension <= SPLIT_DIMENSION:
        parts = parts_of(packed, queries)
    partial = out if parts == 1 else field.new_empty(queries, parts, dimension, dimension)
    _launch(packed, given, precision, seen.sparse, weights(packed, field, beta, seen, given), seen, partial, parts)
    if parts > 1:
        out.copy_(partial.sum(1))
    if seen.dense is not None:
        by_products(packed, field, beta, given, precision, seen.dense, out)


def by_products(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    given: Given,
    precision: str,
    rows: Queries,
    out: torch.Tensor,
    again: torch.Tensor | None = None,
) -> None:
    """Of some queries, whose weights are float64 products, or differences where `again`."""
    scalars = field.new_zeros(len(field), 2)
    work = tilted(packed, field, beta, given, rows, (0, len(field)), [], None, scalars)
    if again is not None:
        weigh_again(packed, field, beta, rows, given, again, work)
    _launch(packed, given, precision, rows, work, None, out, 1)


def _launch(
    packed: Packed,
    given: Given,
    precision: str,
    rows: Queries,
    work: torch.Tensor,
    seen: Survey | None,
    into: torch.Tensor,
    parts: int,
) -> None:
    """From weights of listed groups, or of all states."""
    (queries, dimension), number = given.shift.shape, working_type(packed, precision)
    t = tile(f"covariance {number}", dimension, packed.architecture)
    group = tile("differences", dimension, packed.architecture).n
    groups, kept = (given.dominant, given.dominant) if seen is None else (seen.groups, seen.kept)
    programs = min(queries, PROGRAMS)
    launch(
        _covariance_kernel,
        (programs * _pairs(dimension, t.d), 1, parts),
        packed.states, work, groups, kept, rows.places, rows.number, given.dominant, given.shift, into,
        len(packed.states), dimension, 0 if seen is None else groups.shape[1], programs,
        LISTED=seen is not None, GROUP=group, BLOCK_N=t.n if seen is None else min(t.n, group), BLOCK_S=t.d,
        num_warps=t.warps, num_stages=t.stages, **multiplied(packed, number),
    )  # fmt: skip


def _pairs(dimension: int, block: int) -> int:
    blocks = cdiv(dimension, block)
    return blocks * (blocks + 1) // 2


@triton.jit
def _covariance_kernel(
    Y, WORK, GROUPS, KEPT, ORDER, COUNT, DOMINANT, SHIFT, OUT, N, D, CAPACITY, programs,
    LISTED: tl.constexpr, NUMBER: tl.constexpr, PRECISION: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """LISTED: of listed groups, weights in row b of WORK; else of all states, weights of the i-th query in row i."""
    part, parts = tl.program_id(2), tl.num_programs(2)
    each: tl.constexpr = GROUP // BLOCK_N if LISTED else 1  # blocks a group
    blocks, across, down = tl.cdiv(D, BLOCK_S), tl.program_id(0) // programs, 0
    while across >= blocks - down:
        across -= blocks - down
        down += 1
    c, d = (down + across) * BLOCK_S + tl.arange(0, BLOCK_S), down * BLOCK_S + tl.arange(0, BLOCK_S)
    for i in range(tl.program_id(0) % programs, tl.load(COUNT), programs):
        b = tl.load(ORDER + i)
        r, kept = tl.load(DOMINANT + b), tl.load(KEPT + b)
        reference_c, reference_d = row(Y, r, c, c < D, D, tl.float64), row(Y, r, d, d < D, D, tl.float64)
        if Y.dtype.element_ty == tl.uint8:
            reference_c, reference_d = hidden(reference_c), hidden(reference_d)
        shift_c, shift_d = row(SHIFT, b, c, c < D, D, tl.float64), row(SHIFT, b, d, d < D, D, tl.float64)
        total = tl.zeros([BLOCK_S, BLOCK_S], tl.float64)
        low, high = share(kept if LISTED else tl.cdiv(N, BLOCK_N), part, parts)
        place = b if LISTED else b * 0 + i
        for j in range(low * each, high * each):
            block = group_of(GROUPS, b, j // each, kept, CAPACITY) * each + j % each if LISTED else j
            n = block * BLOCK_N + tl.arange(0, BLOCK_N)
            q = tl.sqrt(tl.load(WORK + place * N + n, mask=n < N, other=0))[:, None]
            inside = (n < N)[:, None]
            y = factor(Y, n[:, None], c[None, :], inside & (c < D)[None, :], D)
            right = q * ((y - reference_c[None, :]) - shift_c[None, :])
            y = factor(Y, n[:, None], d[None, :], inside & (d < D)[None, :], D)
            left = tl.trans(q * ((y - reference_d[None, :]) - shift_d[None, :]))
            product = tl.dot(left.to(NUMBER), right.to(NUMBER), input_precision=PRECISION, out_dtype=NUMBER)
            total += product.to(tl.float64)
        total = symmetric(total, across == 0)
        at = (b * parts + part) * D
        mask = (d < D)[:, None] & (c < D)[None, :]
        tl.store(OUT + (at + d[:, None]) * D + c[None, :], total, mask=mask)
        tl.store(OUT + (at + c[None, :]) * D + d[:, None], total, mask=mask)
