"""What numbers kernels are given, looked at on the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

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
    """Raise ValueError where numbers (B, D) on the CPU are not finite."""
    if x.device.type != "cpu":
        return
    h = _array(x)
    with np.errstate(over="ignore", invalid="ignore"):
        if abs(h.sum()) < math.inf:  # one pass; finite numbers, too, may have an infinite sum
            return
        finite = (h - h == 0).reshape(-1)
    if not finite.all():
        place = finite.tolist().index(False)
        i, d = divmod(place, h.shape[-1])
        raise ValueError(
            f"{name}: wanted finite numbers, got {float(h.reshape(-1)[place])} at query {i}, dimension {d}"
        )


def _array(x: Tensor) -> Any:
    """For NumPy, as torch would start the threads that kernels end; under torch.func what its wrappers hold."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    try:
        return x.detach().numpy()
    except RuntimeError:
        return x
