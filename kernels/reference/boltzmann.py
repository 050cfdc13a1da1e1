"""w_n = phi_n exp(-beta H~_n) / Z~ and its first moments in float64: find r, then sum relative to it."""

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import difference_error, force_error, log_error
from fastthermo.kernels.reference.pack import Packed, query_blocks, relative, state_blocks, weights


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "double") -> Sums:
    parts = [_boltzmann(packed, field[q], beta[q]) for q in query_blocks(packed, len(field))]
    if not parts:
        parts = [_boltzmann(packed, field, beta)]
    return Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> Sums:
    dominant = _dominant(packed, field, beta)
    shift = torch.zeros_like(field)
    rest, excess, excess_square, participation = (torch.zeros_like(beta) for _ in range(4))
    for block in state_blocks(packed, len(field)):
        t, energy, w = weights(packed, block, field, beta, dominant)
        index = torch.arange(block.start, block.stop, device=field.device)
        w = w.masked_fill(index == dominant[:, None], 0)
        rest += w.sum(1)
        shift += (w[..., None] * t).sum(1)
        excess += (w * energy).sum(1)
        excess_square += (w * energy**2).sum(1)
        participation += (w**2).sum(1)
    total = 1 + rest
    energy_min = (packed.states[dominant].double() - field).square().sum(1) / 2
    size, dimension = packed.states.shape
    logit_error = difference_error(dimension, packed.radius, packed.spread, beta, energy_min, 0)
    origin = (2 * (energy_min + excess / total)).sqrt() + (2 * energy_min).sqrt()
    bound = force_error(size, packed.radius, packed.spread, logit_error, origin, energy_min, excess / total)
    return Sums(
        dominant,
        shift / total[:, None],
        rest.log(),
        energy_min,
        excess / total,
        excess_square / total,
        (1 + participation) / total**2,
        bound,
        log_error(size, packed.spread, logit_error),
    )


def _dominant(packed: Packed, field: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    first = int((packed.log_weights > -torch.inf).nonzero()[0, 0])
    best = torch.full((len(field),), first, device=field.device)
    for block in state_blocks(packed, len(field)):
        for _ in range(2):  # the second time relative to the new best, so that near-ties are told apart
            _, energy = relative(packed, block, field, packed.states[best].double())
            logit = packed.log_weights[block] - packed.log_weights[best, None] - beta[:, None] * energy
            value, place = logit.max(1)
            best = torch.where(value > 0, place + block.start, best)
    return best
