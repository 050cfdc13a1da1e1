"""x' = a x + b mean + c z with counter-based normal noise; the sum in float64, rounded once."""

from typing import Any

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.device import cdiv, launch, power_of_two
from fastthermo.kernels.triton.noise import in_order, normals

GROUPS = 256  # of four numbers, a program


def step(
    x: torch.Tensor,
    mean: torch.Tensor,
    a: Any,
    b: Any,
    c: Any,
    seed: int,
    step: Any,
    first_sample: int = 0,
    stream: int = 0,
) -> torch.Tensor:
    x, mean = x.contiguous(), mean.contiguous()
    out = torch.empty_like(x)
    rows, dimension = x.shape
    on_device = isinstance(a, torch.Tensor)
    factors, place, numbers = None, None, (a, b, c, step)
    if on_device:
        factors, place, numbers = torch.stack((a, b, c)).double(), step, (0.0, 0.0, 0.0, 0)
    key = signed(seed), first_sample, stream
    groups = cdiv(dimension, 4)
    block_g = min(power_of_two(groups), 64)
    block_b = GROUPS // block_g
    launch(
        _step_kernel,
        (cdiv(rows, block_b), cdiv(groups, block_g)),
        x, mean, out, factors, place, rows, dimension, *numbers, *key,
        BLOCK_B=block_b, BLOCK_G=block_g, WIDE=x.dtype == torch.float64, ON_DEVICE=on_device,
    )  # fmt: skip
    return out


def signed(seed: int) -> int:
    """The same 64 bits as a signed number."""
    return (seed + (1 << 63)) % (1 << 64) - (1 << 63)


@triton.jit(do_not_specialize=["rows", "step", "seed", "first_sample", "stream"])
def _step_kernel(
    X, MEAN, OUT, FACTORS, PLACE, rows: tl.int64, dimension,
    a: tl.float64, b: tl.float64, c: tl.float64, step: tl.int64, seed: tl.int64, first_sample: tl.int64,
    stream: tl.int64,
    BLOCK_B: tl.constexpr, BLOCK_G: tl.constexpr, WIDE: tl.constexpr, ON_DEVICE: tl.constexpr,
):  # fmt: skip
    """Where ON_DEVICE, FACTORS holds a, b, c and PLACE the step: what a captured graph may change."""
    if ON_DEVICE:
        a, b, c = tl.load(FACTORS), tl.load(FACTORS + 1), tl.load(FACTORS + 2)
        step = tl.load(PLACE)
    row = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    group = tl.program_id(1) * BLOCK_G + tl.arange(0, BLOCK_G)[None, :]
    column = tl.program_id(1) * (4 * BLOCK_G) + tl.arange(0, 4 * BLOCK_G)[None, :]
    place = row * dimension + column
    inside = (row < rows) & (column < dimension)
    x = tl.load(X + place, mask=inside, other=0).to(tl.float64)
    mean = tl.load(MEAN + place, mask=inside, other=0).to(tl.float64)
    out = a * x + b * mean
    if c != 0:
        z = in_order(*normals(seed, step, first_sample + row, group, stream, WIDE))
        out += c * z.to(tl.float64)
    tl.store(OUT + place, out.to(OUT.dtype.element_ty), mask=inside)
