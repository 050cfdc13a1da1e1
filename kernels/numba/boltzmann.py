"""w_n = phi_n exp(-beta H~_n) / Z~ in one pass, relative to a reference state that moves to the largest weight.

When the reference moves from r to r', sums over the states seen so far move with it:
    f = w_r / w_r',  e = H~_r' - H~_r,  S = 1 + rest
    rest'   = f S                       shift'  = f (shift + S (y_r - y_r'))
    excess' = f (excess - S e)          square' = f (square - 2 e excess + S e^2)
"""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import float64_bound
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import NEGLIGIBLE, add_weighted, relative_energies, set_reference

REST, EXCESS, SQUARE, PARTICIPATION, ENERGY_MIN, CHANGES = range(6)


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> Sums:
    queries, dimension = field.shape
    dominant = np.empty(queries, np.int64)
    shift = np.empty((queries, dimension))
    scalars = np.empty((queries, 6))
    states, log_weights, first, tile = packed[:4]
    run(
        _boltzmann_kernel,
        queries,
        states,
        log_weights,
        first,
        tile,
        as_array(field),
        as_array(beta),
        dominant,
        shift,
        scalars,
    )
    column = [x.clone() for x in torch.from_numpy(scalars).unbind(1)]
    bound = float64_bound(
        len(states),
        dimension,
        packed.diameter,
        packed.spread,
        beta,
        column[ENERGY_MIN],
        column[EXCESS],
        column[CHANGES],
    )
    return Sums(
        torch.from_numpy(dominant),
        torch.from_numpy(shift),
        column[REST].log(),
        column[ENERGY_MIN],
        column[EXCESS],
        column[SQUARE],
        column[PARTICIPATION],
        bound,
    )


@jit
def _boltzmann_kernel(low, high, states, log_weights, first, tile, field, beta, dominant, shift, scalars):  # type: ignore[no-untyped-def]
    size, dimension = states.shape
    reference = np.empty((high - low, dimension))
    pull = np.empty((high - low, dimension))
    energy, logit, kept = np.empty(tile), np.empty(tile), np.empty(tile, np.int64)
    for b in range(low, high):
        dominant[b] = first
        set_reference(states[first], field[b], reference[b - low], pull[b - low])
        shift[b] = 0.0
        scalars[b] = 0.0
    for start in range(0, size, tile):
        stop = min(start + tile, size)
        for b in range(low, high):
            ref, g = reference[b - low], pull[b - low]
            best = _tile_logits(states, log_weights, start, stop, dominant[b], beta[b], ref, g, energy, logit)
            if logit[best - start] > 0:
                if dominant[b] < start:  # else nothing has been summed yet
                    _move(states[best], energy[best - start], logit[best - start], ref, shift[b], scalars[b])
                dominant[b] = best
                set_reference(states[best], field[b], ref, g)
                _tile_logits(states, log_weights, start, stop, best, beta[b], ref, g, energy, logit)
            _accumulate(dominant[b] - start, stop - start, energy, logit, scalars[b])
            add_weighted(states, start, stop, logit, kept, ref, shift[b])
    for b in range(low, high):
        _normalise(pull[b - low], shift[b], scalars[b])


@jit
def _tile_logits(states, log_weights, start, stop, dominant, beta, reference, pull, energy, logit):  # type: ignore[no-untyped-def]
    """Energies and log-weights of a tile relative to the reference; returns the state of largest weight."""
    relative_energies(states, start, stop, reference, pull, energy)
    best = start
    for n in range(start, stop):
        logit[n - start] = log_weights[n] - log_weights[dominant] - beta * energy[n - start]
        if logit[n - start] > logit[best - start]:
            best = n
    return best


@jit
def _move(state, energy, logit, reference, shift, scalars):  # type: ignore[no-untyped-def]
    factor = np.exp(-logit)
    total = 1 + scalars[REST]
    scalars[SQUARE] = factor * (scalars[SQUARE] - 2 * energy * scalars[EXCESS] + total * energy**2)
    scalars[EXCESS] = factor * (scalars[EXCESS] - total * energy)
    scalars[PARTICIPATION] = factor**2 * (1 + scalars[PARTICIPATION])
    scalars[REST] = factor * total
    scalars[CHANGES] += 1
    for d in range(shift.size):
        shift[d] = factor * (shift[d] + total * (reference[d] - np.float64(state[d])))


@jit
def _accumulate(reference, count, energy, logit, scalars):  # type: ignore[no-untyped-def]
    """Turn the logits of a tile into weights relative to the reference's (its own left out) and sum their moments."""
    for i in range(count):
        w = np.exp(logit[i]) if logit[i] > NEGLIGIBLE and i != reference else 0.0
        logit[i] = w
        scalars[REST] += w
        scalars[EXCESS] += w * energy[i]
        scalars[SQUARE] += w * energy[i] ** 2
        if w > 1e-150:
            scalars[PARTICIPATION] += w * w


@jit
def _normalise(pull, shift, scalars):  # type: ignore[no-untyped-def]
    total = 1 + scalars[REST]
    scalars[EXCESS] /= total
    scalars[SQUARE] /= total
    scalars[PARTICIPATION] = (1 + scalars[PARTICIPATION]) / total**2
    square = 0.0
    for d in range(shift.size):
        shift[d] /= total
        square += pull[d] ** 2
    scalars[ENERGY_MIN] = square / 2
