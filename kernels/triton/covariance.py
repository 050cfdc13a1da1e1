"""C = sum w (y - m)(y - m)^T, centred on the mean: y - m = (y - y_r) - shift, as q q^T with q = sqrt(w) (y - m).

A program makes a tile of the upper triangle of one query's matrix, a Khatri-Rao product of a row of weights on tensor
cores, and stores it and its transpose. Weights come from differences of listed groups, or from products, stored.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.triton.boltzmann import query_chunks
from fastthermo.kernels.triton.config import PROGRAMS, tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.differences import parts_of
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import FLOAT32, chunks, working_type
from fastthermo.kernels.triton.screen import Queries
from fastthermo.kernels.triton.second import Given, lists, surveyed, tilted
from fastthermo.kernels.triton.tile import group_of, relative_energy, row, share

SPLIT_DIMENSION = 64  # up to which the states are split between programs where queries are few


def covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str = "double"
) -> torch.Tensor:
    parts = [
        _covariance(packed, field[q].contiguous(), beta[q].contiguous(), Given.of(sums, q), precision)
        for q in query_chunks(packed, len(field))
    ]
    return torch.cat(parts)


def _covariance(packed: Packed, field: torch.Tensor, beta: torch.Tensor, given: Given, precision: str) -> torch.Tensor:
    (queries, dimension), number = field.shape, working_type(packed, precision)
    seen = surveyed(packed, field, beta, given, precision)
    parts = parts_of(packed, queries) if dimension <= SPLIT_DIMENSION else 1
    out = field.new_empty(queries, parts, dimension, dimension)
    t = tile(f"covariance {number}", dimension, packed.architecture)
    options = {"NUMBER": getattr(tl, number), "PRECISION": "ieee" if number == "float64" else "tf32x3"}
    if precision == "tf32" and number == "float32":
        options["PRECISION"] = FLOAT32["tf32"]
    inputs = lists(packed, field, beta, seen, given)
    launch(
        _covariance_kernel,
        (min(queries, PROGRAMS), _pairs(dimension, t.d), parts),
        *inputs, given.shift, out, 0, out,
        STORED=False, BLOCK_N=t.n, BLOCK_D=min(t.d, 64), BLOCK_S=t.d, num_warps=t.warps, num_stages=t.stages, **options,
    )  # fmt: skip
    total = out.sum(1) if parts > 1 else out[:, 0]
    if seen.dense is None:
        return total
    scalars = field.new_zeros(queries, 2)
    t = tile(f"stored {number}", dimension, packed.architecture)
    for begin, length in chunks(packed, queries):
        work = tilted(packed, field, beta, given, seen.dense, (begin, length), [], None, precision, scalars)
        rows = Queries(seen.dense.index, seen.dense.count)
        inputs = lists(packed, field, beta, seen._replace(sparse=rows), given)
        launch(
            _covariance_kernel,
            (length, _pairs(dimension, t.d), 1),
            *inputs, given.shift, work, begin, total,
            STORED=True, BLOCK_N=t.n, BLOCK_D=min(t.d, 64), BLOCK_S=t.d, num_warps=t.warps, num_stages=t.stages,
            **options,
        )  # fmt: skip
    return total


def _pairs(dimension: int, block: int) -> int:
    blocks = triton.cdiv(dimension, block)
    return blocks * (blocks + 1) // 2


@triton.jit
def _covariance_kernel(
    Y, PHI, H, BETA, GROUPS, KEPT, ORDER, COUNT, N, D, CAPACITY, DOMINANT, NORM, SHIFT, WORK, begin, OUT,
    STORED: tl.constexpr, NUMBER: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """For one tile; STORED: with the weights of row i in WORK, for dense queries from `begin` on, one a program."""
    part, parts = tl.program_id(2), tl.num_programs(2)
    over, across = tl.program_id(1), 0
    while over >= tl.cdiv(D, BLOCK_S) - across:
        over -= tl.cdiv(D, BLOCK_S) - across
        across += 1
    across, down = across + over, across
    c, d = across * BLOCK_S + tl.arange(0, BLOCK_S), down * BLOCK_S + tl.arange(0, BLOCK_S)
    first = begin + tl.program_id(0)
    last = tl.minimum(tl.load(COUNT), first + 1) if STORED else tl.load(COUNT)
    for i in range(first, last, tl.num_programs(0)):
        b = tl.load(ORDER + i)
        beta, r, norm, kept = tl.load(BETA + b), tl.load(DOMINANT + b), tl.load(NORM + b), tl.load(KEPT + b)
        prior = tl.load(PHI + r)
        reference_c, reference_d = row(Y, r, c, c < D, D, tl.float64), row(Y, r, d, d < D, D, tl.float64)
        shift_c, shift_d = row(SHIFT, b, c, c < D, D, tl.float64), row(SHIFT, b, d, d < D, D, tl.float64)
        total = tl.zeros([BLOCK_S, BLOCK_S], tl.float64)
        low, high = share(tl.cdiv(N, BLOCK_N) if STORED else kept, part, parts)
        for j in range(low, high):
            if STORED:
                n = j * BLOCK_N + tl.arange(0, BLOCK_N)
                w = tl.load(WORK + (i - begin).to(tl.int64) * N + n, mask=n < N, other=0)
            else:
                n = group_of(GROUPS, b, j, kept, CAPACITY) * BLOCK_N + tl.arange(0, BLOCK_N)
                x = relative_energy(Y, H, b, r, n, N, D, True, BLOCK_N, BLOCK_D)
                w = norm * tl.exp((tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * x)
            q = tl.sqrt(w)[:, None]
            inside = (n < N)[:, None]
            y = row(Y, n[:, None], c[None, :], inside & (c < D)[None, :], D, tl.float64)
            left = q * ((y - reference_c[None, :]) - shift_c[None, :])
            y = row(Y, n[:, None], d[None, :], inside & (d < D)[None, :], D, tl.float64)
            right = q * ((y - reference_d[None, :]) - shift_d[None, :])
            product = tl.dot(tl.trans(right).to(NUMBER), left.to(NUMBER), input_precision=PRECISION, out_dtype=NUMBER)
            total += product.to(tl.float64)
        at = (b * parts + part) * D
        mask = (d < D)[:, None] & (c < D)[None, :]
        tl.store(OUT + (at + d[:, None]) * D + c[None, :], total, mask=mask)
        tl.store(OUT + (at + c[None, :]) * D + d[:, None], total, mask=mask)
