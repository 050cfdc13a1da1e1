"""What numbers kernels are given, looked at on the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fastthermo._arrays import LARGEST_SQUARE

Tensor = torch.Tensor


def check_values(field: Tensor, beta: Tensor) -> None:
    """On the CPU; a GPU is not synchronised for it, invalid queries come out as NaN there."""
    if field.device.type != "cpu":
        return
    b = _array(beta)
    good = ((b > 0) & (b < math.inf)).reshape(-1)
    if not good.all():
        i = good.tolist().index(False)
        raise ValueError(f"beta: wanted finite positive numbers, got {float(b.reshape(-1)[i])} for query {i}")
    check_finite("field", field)


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError where numbers (B, D) on the CPU are not finite, or have no finite energies."""
    if x.device.type != "cpu":
        return
    h = _array(x).reshape(-1, x.shape[-1])  # of vmap, all rows
    einsum = np.einsum if isinstance(h, np.ndarray) else torch.einsum
    with np.errstate(over="ignore", invalid="ignore"):
        if einsum("bd,bd->", h, h) <= LARGEST_SQUARE:  # one pass; of many queries, the sum may be larger
            return
        fine = einsum("bd,bd->b", h, h) <= LARGEST_SQUARE
        if fine.all():
            return
        i = fine.tolist().index(False)
        wrong = (h[i] - h[i] != 0).tolist()
    wanted = "finite numbers" if any(wrong) else "numbers whose squares are finite"
    d = wrong.index(True) if any(wrong) else int(abs(h[i]).argmax())
    raise ValueError(f"{name}: wanted {wanted}, got {float(h[i, d])} at query {i}, dimension {d}")


def _array(x: Tensor) -> Any:
    """For NumPy, as torch would start the threads that kernels end; under torch.func what its wrappers hold."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    try:
        return x.detach().numpy()
    except RuntimeError:
        return x
