"""Trajectories, step by step."""

from functools import partial

import torch

from fastthermo.kernels import Noise, Schedule, trajectory
from fastthermo.kernels.numba.boltzmann import boltzmann
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.step import step


def evolve(
    packed: Packed, x: torch.Tensor, schedule: Schedule, noise: Noise, path: torch.Tensor | None = None
) -> torch.Tensor:
    return trajectory.evolve(
        partial(boltzmann, packed), step, torch.from_numpy(packed.states), x, schedule, noise, path
    )
