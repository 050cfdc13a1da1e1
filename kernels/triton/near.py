"""Boltzmann sums in few dimensions: squared distances by float32 differences, twice over the states.

With e_n = |y_n - h|^2 the logits in bits are z_n = -beta log2(e)/2 e_n + log2 phi_n. The first pass finds the dominant
state r, the second sums w_n = 2^(z_n - z_r) over all others, a tile in float32 and tiles in float64. A field has more
digits than float32: s = (y - high) - low, so that the relative error of e is at most (D + 4) u.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import ROUNDING, near_error, near_log_error
from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.pack import Packed

BITS = tl.constexpr(1.4426950408889634)


def near(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> Sums:
    queries, dimension = field.shape
    high = field.float()
    low = (field - high.double()).float()
    dominant = torch.empty(queries, dtype=torch.int64, device=field.device)
    shift, scalars = torch.empty_like(field), field.new_empty(5, queries)
    t = tile("near", dimension, packed.architecture)
    launch(
        _near_kernel,
        (triton.cdiv(queries, t.b),),
        packed.states, packed.log_weights, field, high, low, beta, dominant, shift, scalars,
        queries, len(packed.states), D=dimension, WIDE=triton.next_power_of_2(dimension), BLOCK_B=t.b, BLOCK_N=t.n,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    rest, excess, square, participation, least = scalars
    shape = tuple(packed.states.shape)
    bound = near_error(shape, packed.radius, packed.spread, ROUNDING[4], beta, least, excess, square)
    log_error = near_log_error(shape, packed.spread, ROUNDING[4], beta, least, excess)
    return Sums(dominant, shift, rest.log(), least, excess, square, participation, bound, log_error)


@triton.jit
def _difference(Y, HIGH, LOW, b, n, row, inside, d, D):
    """y_n - h in dimension d, for b (BLOCK_B, 1) and n, which broadcast."""
    at = b.to(tl.int64) * D + d
    y = tl.load(Y + n.to(tl.int64) * D + d, mask=inside, other=0).to(tl.float32)
    return (y - tl.load(HIGH + at, mask=row, other=0)) - tl.load(LOW + at, mask=row, other=0)


@triton.jit
def _squares(Y, HIGH, LOW, b, n, row, inside, D: tl.constexpr):
    """|y_n - h|^2."""
    s = _difference(Y, HIGH, LOW, b, n, row, inside, 0, D)
    e = s * s
    for d in range(1, D):
        s = _difference(Y, HIGH, LOW, b, n, row, inside, d, D)
        e += s * s
    return e


@triton.jit
def _near_kernel(
    Y, PHI, H, HIGH, LOW, BETA, DOMINANT, SHIFT, SCALARS, B, N, D: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    row = b < B
    queries, rows = b[:, None], row[:, None]
    c = (tl.load(BETA + b, mask=row, other=1) * (-0.5 * BITS)).to(tl.float32)[:, None]
    best = tl.full([BLOCK_B], float("-inf"), tl.float32)
    r = tl.zeros([BLOCK_B], tl.int32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)[None, :]
        e = _squares(Y, HIGH, LOW, queries, n, rows, n < N, D)
        z = c * e + (tl.load(PHI + n, mask=n < N, other=float("-inf")) * BITS).to(tl.float32)
        found = tl.max(z, 1)
        place = tl.min(tl.where(z == found[:, None], n, N - 1), 1)
        r = tl.where(found > best, place, r)
        best = tl.maximum(best, found)
    e_r = _squares(Y, HIGH, LOW, queries, r[:, None], rows, rows, D)
    prior_r = tl.load(PHI + r, mask=row, other=0)[:, None]
    rest = tl.zeros([BLOCK_B], tl.float64)
    excess, square, squares = rest, rest, rest
    column = tl.arange(0, WIDE)[None, :]
    force = tl.zeros([BLOCK_B, WIDE], tl.float64)  # sums of weights times s
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)[None, :]
        x = _squares(Y, HIGH, LOW, queries, n, rows, n < N, D) - e_r
        prior = tl.load(PHI + n, mask=n < N, other=float("-inf"))
        w = tl.exp2(c * x + ((prior - prior_r) * BITS).to(tl.float32))
        w = tl.where((n != r[:, None]) & (n < N), w, 0.0)
        wx = w * x
        rest += tl.sum(w, 1).to(tl.float64)
        excess += tl.sum(wx, 1).to(tl.float64)
        square += tl.sum(wx * x, 1).to(tl.float64)
        squares += tl.sum(w * w, 1).to(tl.float64)
        for d in range(D):
            s = _difference(Y, HIGH, LOW, queries, n, rows, n < N, d, D)
            force += tl.where(column == d, tl.sum(w * s, 1)[:, None], 0.0).to(tl.float64)
    at = queries.to(tl.int64) * D + column
    inside = rows & (column < D)
    y = tl.load(Y + r.to(tl.int64)[:, None] * D + column, mask=inside, other=0).to(tl.float64)
    pull = y - tl.load(H + at, mask=inside, other=0)
    scale = 1 / (1 + rest)
    tl.store(SHIFT + at, scale[:, None] * (force - rest[:, None] * pull), mask=inside)
    tl.store(DOMINANT + b, r.to(tl.int64), mask=row)
    tl.store(SCALARS + b, rest, mask=row)
    tl.store(SCALARS + B + b, 0.5 * scale * excess, mask=row)
    tl.store(SCALARS + 2 * B + b, 0.25 * scale * square, mask=row)
    tl.store(SCALARS + 3 * B + b, (1 + squares) * scale * scale, mask=row)
    tl.store(SCALARS + 4 * B + b, 0.5 * tl.sum(pull * pull, 1), mask=row)
