"""CPU: nogil kernels over blocks of queries, driven by one long-lived thread pool."""

from fastthermo.kernels.numba.boltzmann import boltzmann
from fastthermo.kernels.numba.covariance import covariance
from fastthermo.kernels.numba.cumulant import cumulant
from fastthermo.kernels.numba.derive import derive
from fastthermo.kernels.numba.evolve import evolve
from fastthermo.kernels.numba.pack import pack
from fastthermo.kernels.numba.step import step
from fastthermo.kernels.numba.top_weights import top_weights

__all__ = ["boltzmann", "covariance", "cumulant", "derive", "evolve", "pack", "step", "top_weights"]
