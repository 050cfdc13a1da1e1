"""Sums over all states by products, for queries to which most states matter: three passes over a chunk of queries.

    energies   H~_n - H~_a = |t_n|^2/2 - t_n.g, t = y - a, g = h - a, on tensor cores, into a workspace
    weights    a row at a time: the dominant state r, held out; w_n = exp(-beta (H~_n - H~_r)) phi_n / phi_r in place
    averages   sum_n w_n t_n on tensor cores

All in float64.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import WORKSPACE, tile
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.queries import Queries
from fastthermo.kernels.triton.tile import row


def chunks(packed: Packed, queries: int) -> Iterator[tuple[int, int]]:
    """Begin and length of chunks of queries whose float64 weights fit the workspace."""
    most = max(64, WORKSPACE // (8 * len(packed.states)) // 64 * 64)
    return ((i, min(most, queries - i)) for i in range(0, queries, most))


def multiplied(packed: Packed, number: str) -> dict[str, Any]:
    """How a kernel multiplies `number`: three products of tf32, or float32 where AMD has it on its matrix cores."""
    wide = number == "float64" or packed.architecture.startswith("gfx")
    return {"NUMBER": getattr(tl, number), "PRECISION": "ieee" if wide else "tf32x3"}


def working_type(packed: Packed, precision: str) -> str:
    wide = precision == "double" or packed.states.dtype == torch.float64 or not packed.ordinary
    return "float64" if wide else "float32"


def summed(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, dense: Queries
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dominant state (B,), sums (B, 1, 4) and shift (B, 1, D) of the dense queries, as in `differences`."""
    (queries, dimension), size = field.shape, len(packed.states)
    dominant = torch.empty(queries, dtype=torch.int64, device=field.device)
    scalars, shift = field.new_empty(queries, 1, 4), field.new_empty(queries, 1, dimension)
    for begin, length in chunks(packed, queries):
        work = field.new_empty(length, size)
        energies(packed, packed.anchor, field, 1.0, dense, begin, length, work)
        t = tile("row", 0, packed.architecture)
        launch(
            _weigh_kernel,
            (length,),
            work, packed.log_weights, beta, dense.places, dense.number, begin, dominant, scalars, size,
            BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
        )  # fmt: skip
        average(packed, work, dense, begin, length, dominant, scalars[:, 0], shift[:, 0])
    return dominant, scalars, shift


def energies(
    packed: Packed,
    origin: torch.Tensor | None,
    vectors: torch.Tensor,
    square: float,
    rows: Queries,
    begin: int,
    length: int,
    out: torch.Tensor,
) -> None:
    """out[i] = square |t_n|^2/2 - t_n.(v - origin) for the rows i of a chunk, v = vectors[rows.places[begin + i]]."""
    t = tile("products float64", vectors.shape[1], packed.architecture)
    launch(
        _products_kernel,
        (cdiv(length, t.b) * cdiv(len(packed.states), t.n),),
        vectors, packed.states, packed.anchor, packed.half_squares, rows.places, rows.number, begin, length, out,
        len(packed.states), vectors.shape[1],
        FIELDS=origin is not None, SQUARE=square != 0, BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


def average(
    packed: Packed,
    work: torch.Tensor,
    rows: Queries,
    begin: int,
    length: int,
    dominant: torch.Tensor,
    scalars: torch.Tensor,
    shift: torch.Tensor,
) -> None:
    """shift[b] = sum_n work[i, n] (y_n - y_r), b = rows.places[begin + i], with sum_n work[i, n] = scalars[b, 0]."""
    dimension = shift.shape[1]
    t = tile("average float64", dimension, packed.architecture)
    launch(
        _average_kernel,
        (cdiv(length, t.b), cdiv(dimension, t.d)),
        work, packed.states, packed.anchor, rows.places, rows.number, begin, length, dominant, scalars, shift,
        len(packed.states), dimension, scalars.shape[1],
        BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


@triton.jit
def hidden(x):
    """x, of which the compiler cannot tell that it was bytes: it fails on operands of float64 products that were."""
    return tl.sum(x[None], 0)


@triton.jit
def factor(Y, n, d, inside, D):
    """States in float64, an operand of a product."""
    y = row(Y, n, d, inside, D, tl.float64)
    if Y.dtype.element_ty == tl.uint8:
        y = hidden(y)
    return y


@triton.jit
def product(
    V, Y, ANCHOR, b, present, n, N, D,
    FIELDS: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """(y_n - a).(v_b - a), or (y_n - a).v_b, of queries b, where present, and states n."""
    total = tl.zeros([BLOCK_B, BLOCK_N], tl.float64)
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        inside = d < D
        anchor = tl.load(ANCHOR + d, mask=inside, other=0)
        v = row(V, b[:, None], d[None, :], present[:, None] & inside[None, :], D, tl.float64)
        if FIELDS:
            v = v - anchor[None, :]
        y = factor(Y, n[None, :], d[:, None], (n < N)[None, :] & inside[:, None], D)
        t = y - anchor[:, None]
        total = tl.dot(v, t, total, input_precision="ieee", out_dtype=tl.float64)
    return total


@triton.jit
def _products_kernel(
    V, Y, ANCHOR, HALF, ORDER, COUNT, begin, length, OUT, N, D,
    FIELDS: tl.constexpr, SQUARE: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(length, BLOCK_B)
    first = (tl.program_id(0) % blocks) * BLOCK_B
    i = first + tl.arange(0, BLOCK_B)
    present = (i < length) & (begin + i < tl.load(COUNT))
    if begin + first < tl.load(COUNT):
        b = tl.load(ORDER + begin + i, mask=present, other=0)
        n = (tl.program_id(0) // blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
        along = product(V, Y, ANCHOR, b, present, n, N, D, FIELDS, BLOCK_B, BLOCK_N, BLOCK_D)
        e = -along
        if SQUARE:
            e += tl.load(HALF + n, mask=n < N, other=0)[None, :]
        place = i.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(OUT + place, e, mask=present[:, None] & (n < N)[None, :])


@triton.jit
def _weigh_kernel(
    WORK, PHI, BETA, ORDER, COUNT, begin, DOMINANT, SCALARS, N, BLOCK_N: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64)
    if begin + i < tl.load(COUNT):
        b = tl.load(ORDER + begin + i)
        beta = tl.load(BETA + b)
        lane = tl.arange(0, BLOCK_N)
        best = tl.full([BLOCK_N], float("-inf"), tl.float64)
        where = tl.zeros([BLOCK_N], tl.int32)
        for start in range(0, N, BLOCK_N):
            n = start + lane
            e = tl.load(WORK + i * N + n, mask=n < N, other=0)
            logit = tl.load(PHI + n, mask=n < N, other=float("-inf")) - beta * e
            where = tl.where(logit > best, n, where)
            best = tl.maximum(best, logit)
        r = tl.min(tl.where(best == tl.max(best, 0), where, N - 1), 0)
        origin, prior = tl.load(WORK + i * N + r), tl.load(PHI + r)
        rest = tl.zeros([BLOCK_N], tl.float64)
        excess, square, squares = rest, rest, rest
        tl.debug_barrier()  # `origin` is read before it is overwritten
        for start in range(0, N, BLOCK_N):
            n = start + lane
            x = tl.load(WORK + i * N + n, mask=n < N, other=0) - origin
            w = tl.exp((tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * x)
            w = tl.where(n == r, 0.0, w)
            tl.store(WORK + i * N + n, w, mask=n < N)
            rest += w
            excess += w * x
            square += w * x * x
            squares += w * w
        tl.store(DOMINANT + b, r.to(tl.int64))
        tl.store(SCALARS + b * 4 + 0, tl.sum(rest, 0))
        tl.store(SCALARS + b * 4 + 1, tl.sum(excess, 0))
        tl.store(SCALARS + b * 4 + 2, tl.sum(square, 0))
        tl.store(SCALARS + b * 4 + 3, tl.sum(squares, 0))


@triton.jit
def _average_kernel(
    WORK, Y, ANCHOR, ORDER, COUNT, begin, length, DOMINANT, SCALARS, SHIFT, N, D, WIDTH,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    present = (i < length) & (begin + i < tl.load(COUNT))
    if begin + tl.program_id(0) * BLOCK_B < tl.load(COUNT):
        d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
        anchor = tl.load(ANCHOR + d, mask=d < D, other=0)
        total = tl.zeros([BLOCK_B, BLOCK_D], tl.float64)
        for start in range(0, N, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)
            inside = n < N
            place = i.to(tl.int64)[:, None] * N + n[None, :]
            w = tl.load(WORK + place, mask=present[:, None] & inside[None, :], other=0)
            y = factor(Y, n[:, None], d[None, :], inside[:, None] & (d < D)[None, :], D)
            t = y - anchor[None, :]
            total = tl.dot(w, t, total, input_precision="ieee", out_dtype=tl.float64)
        b = tl.load(ORDER + begin + i, mask=present, other=0)
        r = tl.load(DOMINANT + b, mask=present, other=0)
        inside = present[:, None] & (d < D)[None, :]
        own = row(Y, r[:, None], d[None, :], inside, D, tl.float64) - anchor[None, :]
        rest = tl.load(SCALARS + b * WIDTH, mask=present, other=0)
        tl.store(SHIFT + b[:, None] * D + d[None, :], total - rest[:, None] * own, mask=inside)
