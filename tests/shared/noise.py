"""Noise of a backend, alone."""

from typing import Any

import torch


def normal(
    backend: Any,
    rows: int,
    dimension: int,
    seed: int = 0,
    step: int = 0,
    first: int = 0,
    stream: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Any:
    zero = torch.zeros(rows, dimension, dtype=dtype)
    return backend.step(zero, zero, 0.0, 0.0, 1.0, seed, step, first, stream)
