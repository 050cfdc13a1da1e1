"""What follows from the sums of queries, in one launch instead of some twenty."""

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Sums
from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import architecture, cdiv, launch

SCALARS = 5


def derive(
    states: torch.Tensor, log_weights: torch.Tensor, field: torch.Tensor, beta: torch.Tensor, sums: Sums
) -> tuple[torch.Tensor, ...]:
    queries, dimension = field.shape
    scalars, vectors = field.new_empty(SCALARS, queries), field.new_empty(3, queries, dimension)
    t = tile("derive", dimension, architecture(field.device))
    columns = (sums.dominant, sums.shift, sums.log_rest, sums.energy_min, sums.excess, sums.excess_square)
    launch(
        _derive_kernel,
        (cdiv(queries, t.b),),
        states, log_weights, *(x.contiguous() for x in (field, beta, *columns)), scalars, vectors,
        queries, dimension, *states.stride(), *log_weights.stride(),
        BLOCK_B=t.b, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    log_evidence, energy, entropy, variance, log_prior = scalars
    mean, force, reference = vectors
    return log_evidence, mean, force, energy, entropy, variance, reference, log_prior


@triton.jit
def _log1p(x):
    """For x >= 0, to rounding: what 1 + x rounds by is made up for (Kahan)."""
    y = 1 + x
    return tl.where(y == 1, x, tl.log(y) * (x / tl.where(y == 1, 1.0, y - 1)))


@triton.jit
def _derive_kernel(
    Y, PHI, H, BETA, DOMINANT, SHIFT, LOG_REST, LEAST, EXCESS, SQUARE, SCALARS, VECTORS, B, D,
    row_stride: tl.int64, stride: tl.int64, prior_stride: tl.int64,
    BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = b < B
    r, beta = tl.load(DOMINANT + b, mask=inside, other=0), tl.load(BETA + b, mask=inside, other=1)
    least, x = tl.load(LEAST + b, mask=inside, other=0), tl.load(EXCESS + b, mask=inside, other=0)
    prior, square = tl.load(PHI + r * prior_stride), tl.load(SQUARE + b, mask=inside, other=0)
    log_sum = prior + _log1p(tl.exp(tl.load(LOG_REST + b, mask=inside, other=0)))
    variance = square - x * x
    tl.store(SCALARS + b, log_sum - beta * least, mask=inside)
    tl.store(SCALARS + B + b, least + x, mask=inside)
    tl.store(SCALARS + 2 * B + b, log_sum + beta * x, mask=inside)
    tl.store(SCALARS + 3 * B + b, tl.where(variance < 0, 0.0, variance), mask=inside)
    tl.store(SCALARS + 4 * B + b, prior, mask=inside)
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)[None, :]
        here = inside[:, None] & (d < D)
        at = b[:, None] * D + d
        y = tl.load(Y + r[:, None] * row_stride + d * stride, mask=here, other=0).to(tl.float64)
        shift = tl.load(SHIFT + at, mask=here, other=0)
        tl.store(VECTORS + at, y + shift, mask=here)
        tl.store(VECTORS + (b + B)[:, None] * D + d, (y - tl.load(H + at, mask=here, other=0)) + shift, mask=here)
        tl.store(VECTORS + (b + B + B)[:, None] * D + d, y, mask=here)
