"""What follows from the sums of queries, in one pass; torch would take twenty, by threads that kernels have ended."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.config import DERIVED_WORK
from fastthermo.kernels.numba.pack import as_array
from fastthermo.kernels.numba.pool import run

SCALARS = 5


def derive(
    states: torch.Tensor, log_weights: torch.Tensor, field: torch.Tensor, beta: torch.Tensor, sums: Sums
) -> tuple[torch.Tensor, ...]:
    queries, dimension = field.shape
    scalars, vectors = np.empty((SCALARS, queries)), np.empty((3, queries, dimension))
    columns = (sums.dominant, sums.shift, sums.log_rest, sums.energy_min, sums.excess, sums.excess_square)
    given = (states, log_weights, field.detach(), beta.detach(), *columns)
    run(derive_kernel, queries, 1 + DERIVED_WORK // (dimension + 16), *map(as_array, given), scalars, vectors)
    log_evidence, energy, entropy, variance, log_prior = map(torch.from_numpy, scalars)
    mean, force, reference = map(torch.from_numpy, vectors)
    return log_evidence, mean, force, energy, entropy, variance, reference, log_prior


@jit
def derive_kernel(  # type: ignore[no-untyped-def]
    low, high, states, log_weights, field, beta, dominant, shift, log_rest, energy_min, excess, square, scalars,
    vectors,
):  # fmt: skip
    for b in range(low, high):
        r, x = dominant[b], excess[b]
        prior = log_weights[r]
        log_sum = prior + np.log1p(np.exp(log_rest[b]))  # log sum phi exp(-beta (H~ - H~_r))
        scalars[0, b] = log_sum - beta[b] * energy_min[b]
        scalars[1, b] = energy_min[b] + x
        scalars[2, b] = log_sum + beta[b] * x
        scalars[3, b] = max(square[b] - x * x, 0.0)
        scalars[4, b] = prior
        for d in range(field.shape[1]):
            y = np.float64(states[r, d])
            vectors[2, b, d] = y
            vectors[0, b, d] = y + shift[b, d]
            vectors[1, b, d] = y - field[b, d]
        for d in range(field.shape[1]):  # on its own, lest y + (shift - h) be taken
            vectors[1, b, d] += shift[b, d]
