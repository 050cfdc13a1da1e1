"""GPU: Triton kernels, compiled for the device that holds the tensors; nothing in a call waits for the host."""

from fastthermo.kernels.triton.boltzmann import boltzmann
from fastthermo.kernels.triton.pack import pack

__all__ = ["boltzmann", "pack"]
