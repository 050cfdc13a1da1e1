"""Trajectories, step by step."""

from functools import partial

import torch

from fastthermo.kernels import Noise, Schedule, trajectory
from fastthermo.kernels.numba.boltzmann import boltzmann
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.step import step


def evolve(packed: Packed, x: torch.Tensor, schedule: Schedule, noise: Noise, whole: bool = False) -> torch.Tensor:
    states = torch.from_numpy(packed.states)
    return trajectory.evolve(partial(boltzmann, packed), step, states, x, schedule, noise, whole)
