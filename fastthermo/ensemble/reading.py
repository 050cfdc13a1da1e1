"""States and weights as the kernels take them, or an error that names what is wrong and where."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import LARGEST_SQUARE, check_unmapped, is_torch, to_float, to_tensor

if TYPE_CHECKING:
    import torch

BLOCK = 4096  # states looked at, or converted to float64, at a time


def read_states(states: Any, empty: bool = False, places: Any = None) -> torch.Tensor:
    """As kernels take them; `empty` allows none at all; `places` are those of the states in what errors speak of."""
    import torch

    tensor = to_tensor("states", states)
    if tensor.ndim < 2 or 0 in tensor.shape[int(empty) :]:
        raise ValueError(f"states: wanted shape (N, D) or (N, ...), not empty, got {tuple(tensor.shape)}")
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    elif tensor.dtype not in (torch.float32, torch.float64, torch.uint8):
        tensor = tensor.double()
    for start in range(0, len(tensor), BLOCK):
        block = tensor[start : start + BLOCK]
        double = block.dtype == torch.float64  # the squares of others are finite where they are
        if double and block.square().sum(tuple(range(1, block.ndim))).max() <= LARGEST_SQUARE:
            continue
        good = block.isfinite()
        wanted = "finite numbers"
        if double and good.all():
            good, wanted = block.abs() <= (LARGEST_SQUARE / block[0].numel()) ** 0.5, "numbers whose squares are finite"
        if not good.all():
            place = (~good).nonzero()[0]
            value = float(block[tuple(place)])
            n = start + int(place[0])
            where = [n if places is None else int(places[n]), *place[1:].tolist()]
            raise ValueError(f"states: wanted {wanted}, got {value} at {where}")
    return tensor


def read_weights(log_weights: Any, rows: torch.Tensor) -> torch.Tensor:
    import torch

    if log_weights is None:
        return torch.full((len(rows),), -float(np.log(len(rows))), dtype=torch.float64, device=rows.device)
    weights = check_weights(log_weights, len(rows)).to(rows.device)
    if not weights.isfinite().any():
        raise ValueError("log_weights: wanted at least one state of positive weight, got -inf throughout")
    return weights - weights.logsumexp(0)


def check_weights(log_weights: Any, size: int) -> torch.Tensor:
    """(N,) float64, not normalised."""
    import torch

    weights = to_float("log_weights", log_weights).double()
    if tuple(weights.shape) != (size,):
        raise ValueError(f"log_weights: wanted shape ({size},), one a state, got {tuple(weights.shape)}")
    bad = weights.isnan() | (weights == torch.inf)
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"log_weights: wanted finite numbers or -inf, got {float(weights[i])} at {i}")
    return weights


def check_units(scale: Any, shift: Any) -> None:
    for name, x in (("scale", scale), ("shift", shift)):
        if np.ndim(x) != 0:
            raise ValueError(f"{name}: wanted one number for all coordinates, got shape {tuple(np.shape(x))}")
    if not 1e-75 <= scale <= 1e75:  # its fourth power is that of an energy's variance
        raise ValueError(f"scale: wanted a positive number, from 1e-75 to 1e75, got {scale}")
    if not isfinite(shift):
        raise ValueError(f"shift: wanted a finite number, got {shift}")


def read_index(index: Any, size: int, queries: int) -> torch.Tensor:
    """The number of a state, or one a query, as (queries,)."""
    import torch

    check_unmapped("index", index, "ask all queries at once")
    i = to_tensor("index", index)
    whole = not (i.is_floating_point() or i.dtype == torch.bool) and i.numel() in (1, queries)
    if not whole or bool(((i < 0) | (i >= size)).any()):
        raise ValueError(f"index: wanted {queries} integers, each from 0 to {size - 1}, got {index}")
    return i.long().reshape(-1).expand(queries)


def read_labels(labels: Any, size: int) -> np.ndarray:
    names = np.asarray(labels.cpu() if is_torch(labels) else labels)
    if names.shape != (size,):
        raise ValueError(f"labels: wanted shape ({size},), one a state, got {names.shape}")
    if names.dtype.kind == "f" and not np.isfinite(names).all():
        raise ValueError(f"labels: wanted class names, got NaN or infinity at {int(np.argmin(np.isfinite(names)))}")
    return names
