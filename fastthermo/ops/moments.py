"""States with their packs, the moments of a batch of queries, and the union of disjoint sets of states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from fastthermo import _dispatch
from fastthermo.kernels import Sums

Tensor = torch.Tensor
ROUNDING = 4 * 2.0**-53  # of reference - field, shift and their sum, relative to the rms force


class How(NamedTuple):
    """Which kernels, in which precision; see `fastthermo.kernels`."""

    backend: str
    precision: str = "double"


@dataclass(frozen=True, eq=False)
class States:
    """N states with prior weights, packed once a backend.

    states : (N, D) float32, float64 or uint8; log_weights : (N,) float64, -inf allowed.
    """

    states: Tensor
    log_weights: Tensor
    _packed: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, x in (("states", self.states), ("log_weights", self.log_weights)):
            if x.requires_grad:
                raise ValueError(f"{name}: not differentiable, only field and beta are; detach() it")

    def packed(self, backend: str) -> Any:
        if backend not in self._packed:
            self._packed[backend] = _dispatch.load(backend).pack(self.states, self.log_weights)
        return self._packed[backend]

    def call(self, op: str, how: How, *arguments: Any) -> Any:
        kernel = getattr(_dispatch.load(how.backend), op)
        return kernel(self.packed(how.backend), *arguments, precision=how.precision)


class Moments(NamedTuple):
    """What `boltzmann` gives for B queries: differentiable quantities, then the kernel's sums relative to state r."""

    log_evidence: Tensor  # (B,) log Z~
    mean: Tensor  # (B, D) <y>
    force: Tensor  # (B, D) <y> - h
    energy: Tensor  # (B,) <H~>
    entropy: Tensor  # (B,) -KL(w || phi)
    energy_variance: Tensor  # (B,) Var(H~)
    participation: Tensor  # (B,) sum w^2
    error_bound: Tensor  # (B,)
    dominant: Tensor  # (B,) int64
    reference: Tensor  # (B, D) y_r
    shift: Tensor  # (B, D)
    log_prior: Tensor  # (B,) log phi_r
    log_rest: Tensor  # (B,)
    energy_min: Tensor  # (B,)
    excess: Tensor  # (B,)
    excess_square: Tensor  # (B,)


RAW = 7  # from error_bound on: not differentiable


def derive(sums: Sums, reference: Tensor, log_prior: Tensor, field: Tensor, beta: Tensor) -> Moments:
    """Thermodynamic quantities from sums relative to the dominant state, without subtracting large numbers."""
    log_sum = log_prior + sums.log_rest.exp().log1p()  # log sum phi exp(-beta (H~ - H~_r))
    force = (reference - field) + sums.shift
    return Moments(
        log_evidence=log_sum - beta * sums.energy_min,
        mean=(reference + sums.shift),
        force=force,
        energy=sums.energy_min + sums.excess,
        entropy=log_sum + beta * sums.excess,
        energy_variance=(sums.excess_square - sums.excess**2).clamp_min(0),
        participation=sums.participation,
        error_bound=sums.error_bound + ROUNDING,
        dominant=sums.dominant,
        reference=reference,
        shift=sums.shift,
        log_prior=log_prior,
        log_rest=sums.log_rest,
        energy_min=sums.energy_min,
        excess=sums.excess,
        excess_square=sums.excess_square,
    )


def relative(parts: list[Moments], field: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """Best part, its reference state and prior; of every part t = y_r - y_best, energy and log weight of its y_r."""
    index = torch.arange(len(field), device=field.device)
    references = torch.stack([part.reference for part in parts])
    priors = torch.stack([part.log_prior for part in parts])
    logits = priors - beta * torch.stack([part.energy_min for part in parts])
    for _ in range(2):  # the second time relative to the best, so that near-ties are told apart
        best = logits.argmax(0)
        reference, prior = references[best, index], priors[best, index]
        t = references - reference
        energy = (t * (t / 2 + reference - field)).sum(2)
        logits = priors - prior - beta * energy
    return best, reference, prior, t, energy, logits


def union(parts: list[Moments], field: Tensor, beta: Tensor) -> Moments:
    """See `fastthermo.ops.merge`."""
    best, reference, prior, t, energy, logits = relative(parts, field, beta)
    index = torch.arange(len(field), device=field.device)

    def stack(name: str) -> Tensor:  # (parts, B, ...)
        return torch.stack([getattr(part, name) for part in parts])

    scale, rest, excess = logits.exp(), stack("log_rest").exp(), stack("excess")
    own = torch.nn.functional.one_hot(best, len(parts)).T
    total_rest = (scale * (rest + 1 - own)).sum(0)
    share = scale * (1 + rest) / (1 + total_rest)
    sums = Sums(
        stack("dominant")[best, index],
        (share[..., None] * (stack("shift") + t)).sum(0),
        total_rest.log(),
        stack("energy_min")[best, index],
        (share * (excess + energy)).sum(0),
        (share * (stack("excess_square") + energy * (2 * excess + energy))).sum(0),
        (share**2 * stack("participation")).sum(0),
        stack("error_bound").amax(0),
    )
    return derive(sums, reference, prior, field, beta)


def second_pass(moments: Moments) -> tuple[Tensor, ...]:
    """What covariance and cumulants need of the first pass."""
    return moments.dominant, moments.shift, moments.log_rest, moments.excess


def as_sums(dominant: Tensor, shift: Tensor, log_rest: Tensor, excess: Tensor) -> Sums:
    return Sums(dominant, shift, log_rest, None, excess, None, None, None)
