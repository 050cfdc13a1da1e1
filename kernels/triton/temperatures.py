"""Inverse temperatures in a range that the arithmetic holds, beyond which the weights are those of its ends."""

import torch
import triton
import triton.language as tl

from fastthermo.kernels.bounds import COLD, FROZEN, HOT
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import working_type

BLOCK = 1024


def temperatures(packed: Packed, beta: torch.Tensor, precision: str) -> torch.Tensor:
    """beta (B,); what is not finite and positive stays as it is."""
    if packed.radius == 0:
        return beta.contiguous()
    out = torch.empty_like(beta, memory_format=torch.contiguous_format)
    cold = COLD if working_type(packed, precision) == "float32" else FROZEN
    ends = HOT / packed.radius**2, cold / packed.radius**2
    launch(_within_kernel, (cdiv(len(beta), BLOCK),), beta.contiguous(), out, len(beta), *ends, BLOCK=BLOCK)
    return out


@triton.jit
def _within_kernel(BETA, OUT, B, low: tl.float64, high: tl.float64, BLOCK: tl.constexpr):
    b = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    beta = tl.load(BETA + b, mask=b < B, other=1)
    within = tl.minimum(tl.maximum(beta, low), high)
    tl.store(OUT + b, tl.where((beta > 0) & (beta < float("inf")), within, beta), mask=b < B)
