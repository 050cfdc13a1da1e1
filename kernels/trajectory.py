"""Steps x' = a x + b <y> + c z by the sums and the step of any backend: what its `evolve` does, step by step."""

from collections.abc import Callable
from typing import Any

import torch

from fastthermo.kernels import Noise, Schedule, Sums

Average = Callable[..., Sums]


def evolve(
    boltzmann: Average,
    step: Callable[..., torch.Tensor],
    states: torch.Tensor,
    x: torch.Tensor,
    schedule: Schedule,
    noise: Noise,
    whole: bool,
) -> torch.Tensor:
    table, after = schedule.table.tolist(), None if schedule.after is None else schedule.after.tolist()
    path = []
    for i, row in enumerate(table):
        following = None if after is None else after[i]
        x = one_step(boltzmann, step, states, x, schedule, row, following, noise.first_step + i, noise)
        if whole:
            path.append(x)
    return torch.stack(path) if whole else x


def one_step(
    boltzmann: Average,
    step: Callable[..., torch.Tensor],
    states: torch.Tensor,
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
    mean = _mean(boltzmann, states, x, schedule, inverse, beta)
    new = step(x, mean, a, b, c, *key)
    if following is None:
        return new
    inverse, beta, weight = following
    later = _mean(boltzmann, states, new, schedule, inverse, beta)
    return step(x, mean + weight * (later - mean), a, b, c, *key)


def _mean(
    boltzmann: Average, states: torch.Tensor, x: torch.Tensor, schedule: Schedule, inverse: Any, beta: Any
) -> torch.Tensor:
    field = (x.double() * inverse - schedule.shift) / schedule.scale
    precision = "single" if x.dtype == torch.float32 else "double"
    sums = boltzmann(field, torch.ones_like(field[:, 0]) * (beta * schedule.scale**2), precision=precision)
    mean = schedule.scale * (states[sums.dominant].double() + sums.shift) + schedule.shift
    return mean.to(x.dtype)
