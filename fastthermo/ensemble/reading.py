"""States and weights as the kernels take them, or an error that names what is wrong and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import to_float, to_tensor

if TYPE_CHECKING:
    import torch

BLOCK = 4096  # states looked at, or converted to float64, at a time


def read_states(states: Any) -> torch.Tensor:
    import torch

    tensor = to_tensor("states", states)
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise ValueError(f"states: wanted shape (N, D) or (N, ...), not empty, got {tuple(tensor.shape)}")
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    elif tensor.dtype not in (torch.float32, torch.float64, torch.uint8):
        tensor = tensor.double()
    for start in range(0, len(tensor), BLOCK):
        finite = tensor[start : start + BLOCK].isfinite()
        if not finite.all():
            place = (~finite).nonzero()[0]
            place[0] += start
            raise ValueError(f"states: wanted finite numbers, got {float(tensor[tuple(place)])} at {place.tolist()}")
    return tensor


def read_weights(log_weights: Any, rows: torch.Tensor) -> torch.Tensor:
    import torch

    if log_weights is None:
        return torch.full((len(rows),), -float(np.log(len(rows))), dtype=torch.float64, device=rows.device)
    weights = to_float("log_weights", log_weights).to(device=rows.device, dtype=torch.float64)
    if tuple(weights.shape) != (len(rows),):
        raise ValueError(f"log_weights: wanted shape ({len(rows)},), one a state, got {tuple(weights.shape)}")
    bad = weights.isnan() | (weights == torch.inf)
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"log_weights: wanted finite numbers or -inf, got {float(weights[i])} at {i}")
    if not weights.isfinite().any():
        raise ValueError("log_weights: wanted at least one state of positive weight, got -inf throughout")
    return weights - weights.logsumexp(0)
