"""Boltzmann sums in few dimensions: squared distances by float32 differences, twice over the states.

With e_n = |y_n - h|^2 the logits in bits are z_n = -beta log2(e)/2 e_n + log2 phi_n. The first pass finds the dominant
state r, the second sums w_n = 2^(z_n - z_r) over all others, a tile in float32 and tiles in float64. A field has more
digits than float32: s = (y - high) - low, so that the relative error of e is at most (D + 4) u.
"""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import near_error
from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.pack import Packed

BITS = tl.constexpr(1.4426950408889634)


def near(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> Sums:
    queries, dimension = field.shape
    dominant = torch.empty(queries, dtype=torch.int64, device=field.device)
    shift, scalars = torch.empty_like(field), field.new_empty(5, queries)
    t = tile("near", dimension, packed.architecture)
    launch(
        _near_kernel,
        (triton.cdiv(queries, t.b),),
        packed.states, packed.log_weights, field, beta, dominant, shift, scalars, queries, len(packed.states),
        D=dimension, WIDE=triton.next_power_of_2(dimension), BLOCK_B=t.b, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    rest, excess, square, participation, least = scalars
    shape = tuple(packed.states.shape)
    bound = near_error(shape, packed.radius, packed.spread, 4, beta, least, excess, square)
    return Sums(dominant, shift, rest.log(), least, excess, square, participation, bound)


@triton.jit
def _difference(Y, n, inside, high, low, d: tl.constexpr, D: tl.constexpr):
    """y_n - h in dimension d, (BLOCK_B, BLOCK_N)."""
    y = tl.load(Y + n.to(tl.int64) * D + d, mask=inside, other=0).to(tl.float32)
    return (y - high) - low


@triton.jit
def _field(H, b, inside, d: tl.constexpr, D: tl.constexpr):
    """Component d of the field as a sum of two float32 numbers, each (BLOCK_B, 1)."""
    h = tl.load(H + b.to(tl.int64) * D + d, mask=inside, other=0)
    high = h.to(tl.float32)
    return high[:, None], (h - high.to(tl.float64)).to(tl.float32)[:, None]


@triton.jit
def _near_kernel(
    Y, PHI, H, BETA, DOMINANT, SHIFT, SCALARS, B, N, D: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    row = b < B
    beta = tl.load(BETA + b, mask=row, other=1)
    c = (beta * (-0.5 * BITS)).to(tl.float32)[:, None]
    best = tl.full([BLOCK_B], float("-inf"), tl.float32)
    r = tl.zeros([BLOCK_B], tl.int32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        inside = n < N
        e = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
        for d in tl.static_range(D):
            high, low = _field(H, b, row, d, D)
            s = _difference(Y, n[None, :], inside[None, :], high, low, d, D)
            e += s * s
        prior = (tl.load(PHI + n, mask=inside, other=float("-inf")) * BITS).to(tl.float32)
        z = c * e + prior[None, :]
        found = tl.max(z, 1)
        place = tl.min(tl.where(z == found[:, None], n[None, :], N - 1), 1)
        r = tl.where(found > best, place, r)
        best = tl.maximum(best, found)
    e_r = tl.zeros([BLOCK_B, 1], tl.float32)
    least = tl.zeros([BLOCK_B], tl.float64)
    for d in tl.static_range(D):
        high, low = _field(H, b, row, d, D)
        s = _difference(Y, r[:, None], row[:, None], high, low, d, D)
        e_r += s * s
        y = tl.load(Y + r.to(tl.int64) * D + d, mask=row, other=0).to(tl.float64)
        pull = y - tl.load(H + b.to(tl.int64) * D + d, mask=row, other=0)
        least += 0.5 * pull * pull
    prior_r = tl.load(PHI + r, mask=row, other=0)[:, None]
    rest = tl.zeros([BLOCK_B], tl.float64)
    excess, square, squares = rest, rest, rest
    column = tl.arange(0, WIDE)[None, :]
    force = tl.zeros([BLOCK_B, WIDE], tl.float64)  # sums of weights times s
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        inside = n < N
        e = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
        for d in tl.static_range(D):
            high, low = _field(H, b, row, d, D)
            s = _difference(Y, n[None, :], inside[None, :], high, low, d, D)
            e += s * s
        prior = tl.load(PHI + n, mask=inside, other=float("-inf"))
        x = e - e_r
        w = tl.exp2(c * x + ((prior[None, :] - prior_r) * BITS).to(tl.float32))
        w = tl.where((n[None, :] != r[:, None]) & inside[None, :], w, 0.0)
        rest += tl.sum(w, 1).to(tl.float64)
        wx = w * x
        excess += tl.sum(wx, 1).to(tl.float64)
        square += tl.sum(wx * x, 1).to(tl.float64)
        squares += tl.sum(w * w, 1).to(tl.float64)
        for d in tl.static_range(D):
            high, low = _field(H, b, row, d, D)
            s = _difference(Y, n[None, :], inside[None, :], high, low, d, D)
            force += tl.where(column == d, tl.sum(w * s, 1)[:, None], 0.0).to(tl.float64)
    scale = 1 / (1 + rest)
    at = b.to(tl.int64)[:, None] * D + column
    inside = row[:, None] & (column < D)
    y = tl.load(Y + r.to(tl.int64)[:, None] * D + column, mask=inside, other=0).to(tl.float64)
    pull = y - tl.load(H + at, mask=inside, other=0)
    tl.store(SHIFT + at, scale[:, None] * (force - rest[:, None] * pull), mask=inside)
    tl.store(DOMINANT + b, r.to(tl.int64), mask=row)
    tl.store(SCALARS + b, rest, mask=row)
    tl.store(SCALARS + B + b, 0.5 * scale * excess, mask=row)
    tl.store(SCALARS + 2 * B + b, 0.25 * scale * square, mask=row)
    tl.store(SCALARS + 3 * B + b, (1 + squares) * scale * scale, mask=row)
    tl.store(SCALARS + 4 * B + b, least, mask=row)
