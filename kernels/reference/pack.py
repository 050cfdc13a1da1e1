"""States as they came, and the two chunk loops that keep every intermediate below a tile."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from fastthermo.kernels.living import living

TILE = 1 << 21  # elements of a (b, n, D) block of differences


class Packed(NamedTuple):
    states: torch.Tensor  # (N, D)
    log_weights: torch.Tensor  # (N,) float64
    radius: float  # half of an upper bound of |y_n - y_m|
    spread: float  # of the finite log-weights


def pack(states: torch.Tensor, log_weights: torch.Tensor) -> Packed:
    states = living(states, log_weights)
    centre = states.double().mean(0)
    radius = max(float((chunk.double() - centre).norm(dim=1).max()) for chunk in states.split(4096))
    finite = log_weights[log_weights > -torch.inf]
    return Packed(states, log_weights, radius * (1 + 1e-12), float(finite.max() - finite.min()))


def query_blocks(packed: Packed, queries: int) -> Iterator[slice]:
    size = max(1, TILE // (packed.states.shape[1] * min(len(packed.states), 1024)))
    return (slice(i, min(i + size, queries)) for i in range(0, queries, size))


def state_blocks(packed: Packed, queries: int) -> Iterator[slice]:
    size = max(1, TILE // (packed.states.shape[1] * max(queries, 1)))
    return (slice(i, min(i + size, len(packed.states))) for i in range(0, len(packed.states), size))


def relative(packed: Packed, block: slice, field: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """y_n - y_r, shape (b, n, D), and H~_n - H~_r = (y_n - y_r).((y_n - y_r)/2 + y_r - h), shape (b, n)."""
    t = packed.states[block].double() - reference[:, None]
    return t, (t * (t / 2 + (reference - field)[:, None])).sum(-1)


def weights(
    packed: Packed, block: slice, field: torch.Tensor, beta: torch.Tensor, dominant: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """y_n - y_r, H~_n - H~_r and w_n / w_r for a block of states; the reference is the dominant state r."""
    t, energy = relative(packed, block, field, packed.states[dominant].double())
    log_weights = packed.log_weights[block] - packed.log_weights[dominant, None]
    return t, energy, (log_weights - beta[:, None] * energy).exp()
