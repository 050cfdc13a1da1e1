"""Trajectories, step by step."""

from functools import partial

import torch

from fastthermo.kernels import Noise, Schedule, trajectory
from fastthermo.kernels.reference.boltzmann import boltzmann
from fastthermo.kernels.reference.pack import Packed
from fastthermo.kernels.reference.step import step


def evolve(packed: Packed, x: torch.Tensor, schedule: Schedule, noise: Noise, whole: bool = False) -> torch.Tensor:
    return trajectory.evolve(partial(boltzmann, packed), step, packed.states, x, schedule, noise, whole)
