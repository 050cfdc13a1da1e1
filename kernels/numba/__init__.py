"""CPU: nogil kernels over blocks of queries, driven by one long-lived thread pool."""

from fastthermo.kernels.numba.boltzmann import boltzmann
from fastthermo.kernels.numba.covariance import covariance
from fastthermo.kernels.numba.cumulant import cumulant
from fastthermo.kernels.numba.pack import pack
from fastthermo.kernels.numba.step import step

__all__ = ["boltzmann", "covariance", "cumulant", "pack", "step"]
