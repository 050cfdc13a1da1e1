"""Triton: compiled for the GPU that holds the tensors."""

from fastthermo.kernels.triton.step import step

__all__ = ["step"]
