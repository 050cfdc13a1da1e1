"""How the energies of each query are computed, from the proved error of products: a property of the query alone."""

from typing import NamedTuple

import torch

from fastthermo.kernels.bounds import CUTOFF, product_error
from fastthermo.kernels.numba.config import NEGLIGIBLE, SMALL_DIMENSION, TRUSTED
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.tile import DIFFERENCES, PRODUCTS, RESCORED

BLURRED = 1e-3  # error of a logit above which weights below e^-T are not taken from products either


class Plan(NamedTuple):
    mode: torch.Tensor  # (B,) int64
    cutoff: torch.Tensor  # (B,) float64: in mode RESCORED, logits relative to the largest above it matter
    error: torch.Tensor  # (B,) float64: the proved error of a product's logit


def plan(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> Plan:
    dimension = field.shape[1]
    distance = (field - torch.from_numpy(packed.anchor)).square().sum(1).sqrt()
    error = product_error(dimension, packed.radius, beta, distance)
    mode = torch.where(error > TRUSTED, RESCORED, PRODUCTS)
    if dimension <= SMALL_DIMENSION:
        mode.fill_(DIFFERENCES)
    cutoff = torch.where(error > BLURRED, NEGLIGIBLE, -CUTOFF) - 2 * error
    return Plan(mode, cutoff, error)
