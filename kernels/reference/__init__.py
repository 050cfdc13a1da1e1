"""Plain torch in float64, any device: the definition of each op and the oracle of its tests."""

from fastthermo.kernels.reference.boltzmann import boltzmann
from fastthermo.kernels.reference.covariance import covariance
from fastthermo.kernels.reference.cumulant import cumulant
from fastthermo.kernels.reference.evolve import evolve
from fastthermo.kernels.reference.pack import pack
from fastthermo.kernels.reference.step import step
from fastthermo.kernels.reference.top_weights import top_weights

__all__ = ["boltzmann", "covariance", "cumulant", "evolve", "pack", "step", "top_weights"]
