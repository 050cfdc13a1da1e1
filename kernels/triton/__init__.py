"""GPU: Triton kernels, compiled for the device that holds the tensors; nothing in a call waits for the host."""

from fastthermo.kernels.triton.boltzmann import boltzmann
from fastthermo.kernels.triton.covariance import covariance
from fastthermo.kernels.triton.cumulant import cumulant
from fastthermo.kernels.triton.derive import derive
from fastthermo.kernels.triton.evolve import evolve
from fastthermo.kernels.triton.pack import pack
from fastthermo.kernels.triton.step import step
from fastthermo.kernels.triton.top_weights import top_weights

__all__ = ["boltzmann", "covariance", "cumulant", "derive", "evolve", "pack", "step", "top_weights"]
