"""Steps x' = a x + b <y> + c z by the sums and the step of any backend: what its `evolve` does, step by step."""

from collections.abc import Callable
from typing import Any

import torch

from fastthermo.kernels import Noise, Schedule, Sums

Mean = Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor]  # <y> at a field (B, D) and beta (B,), in a precision


def mean_of(boltzmann: Callable[..., Sums], states: torch.Tensor) -> Mean:
    """<y> by the sums of a backend."""

    def mean(field: torch.Tensor, beta: torch.Tensor, precision: str) -> torch.Tensor:
        sums = boltzmann(field, beta, precision=precision)
        return states[sums.dominant].double() + sums.shift

    return mean


def evolve(
    mean: Mean,
    step: Callable[..., torch.Tensor],
    x: torch.Tensor,
    schedule: Schedule,
    noise: Noise,
    whole: bool,
) -> torch.Tensor:
    table, after = schedule.table.tolist(), None if schedule.after is None else schedule.after.tolist()
    path = []
    for i, row in enumerate(table):
        following = None if after is None else after[i]
        x = one_step(mean, step, x, schedule, row, following, noise.first_step + i, noise)
        if whole:
            path.append(x)
    return torch.stack(path) if whole else x


def one_step(
    mean: Mean,
    step: Callable[..., torch.Tensor],
    x: torch.Tensor,
    schedule: Schedule,
    row: Any,
    following: Any,
    now: Any,
    noise: Noise,
) -> torch.Tensor:
    """By rows of the schedule and a number of the step: numbers, or tensors that a captured graph reads anew."""
    a, b, c, inverse, beta = row
    key = noise.seed, now, noise.first_sample, noise.stream
    now_mean = _mean(mean, x, schedule, inverse, beta)
    new = step(x, now_mean, a, b, c, *key)
    if following is None:
        return new
    inverse, beta, weight = following
    later = _mean(mean, new, schedule, inverse, beta)
    return step(x, now_mean + weight * (later - now_mean), a, b, c, *key)


def _mean(mean: Mean, x: torch.Tensor, schedule: Schedule, inverse: Any, beta: Any) -> torch.Tensor:
    field = (x.double() * inverse - schedule.shift) / schedule.scale
    precision = "single" if x.dtype == torch.float32 else "double"
    found = mean(field, torch.ones_like(field[:, 0]) * (beta * schedule.scale**2), precision)
    return (schedule.scale * found + schedule.shift).to(x.dtype)
