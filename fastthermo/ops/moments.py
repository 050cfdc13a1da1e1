"""States with their packs, the moments of a batch of queries, and the union of disjoint sets of states."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from fastthermo import _dispatch
from fastthermo.kernels import Noise, Schedule, Sums
from fastthermo.kernels.bounds import union_error

Tensor = torch.Tensor
ROUNDING = 4 * 2.0**-53  # of reference - field, shift and their sum, relative to the rms force
UNKNOWN = 1e200  # for an error of which a backend says nothing
BLOCK = 4096  # states converted to float64 at a time


class How(NamedTuple):
    """Which kernels, in which precision; see `fastthermo.kernels`."""

    backend: str
    precision: str = "double"
    rtol: float | None = None  # queries whose bound is above half of it are summed in "double" after all


@dataclass(frozen=True, eq=False)
class States:
    """N states with prior weights, packed once a backend.

    states : (N, D) float32, float64 or uint8; log_weights : (N,) float64, -inf allowed.
    """

    states: Tensor
    log_weights: Tensor
    _packed: dict[str, tuple[int, Any]] = field(default_factory=dict, repr=False)  # with where the states were then

    def __post_init__(self) -> None:
        for name, x in (("states", self.states), ("log_weights", self.log_weights)):
            if x.requires_grad:
                raise ValueError(f"{name}: not differentiable, only field and beta are; detach() it")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_packed": {}}  # what is packed is packed anew, and may hold what no copy can

    def packed(self, backend: str) -> Any:
        # packs look at the states, which share_memory_(), and so pickling for another process, moves elsewhere
        place = self.states.data_ptr()
        if backend not in self._packed or self._packed[backend][0] != place:
            self._packed[backend] = place, _dispatch.load(backend).pack(self.states, self.log_weights)
        return self._packed[backend][1]

    @property
    def size(self) -> int:
        return len(self.states)

    @property
    def dimension(self) -> int:
        return self.states.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.states.dtype

    @property
    def device(self) -> torch.device:
        return self.states.device

    def moments(self, how: How, field: Tensor, beta: Tensor) -> Moments:
        sums = self._call("boltzmann", how, field, beta)
        own = getattr(_dispatch.load(how.backend), "derive", None)
        if own is None:
            return derive(sums, *self.rows(sums.dominant), field, beta)
        return _moments(sums, field, *own(self.states, self.log_weights, field, beta, sums))

    def second_pass(self, op: str, how: How, field: Tensor, beta: Tensor, sums: Sequence[Tensor], *rest: Any) -> Any:
        """Covariance, cumulant or top_weights, given what `second_pass` takes of the first."""
        dominant, shift, log_rest, excess, *_ = sums
        given = Sums(dominant, shift, log_rest, None, excess, None, None, None)
        return self._call(op, how, field, beta, given, *rest)

    def evolve(self, backend: str, x: Tensor, schedule: Schedule, noise: Noise, whole: bool) -> Tensor:
        out: Tensor = _dispatch.load(backend).evolve(self.packed(backend), x, schedule, noise, whole)
        return out

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """States `index` (B,) in float64 and their log-weights."""
        return self.states.index_select(0, index).double(), self.log_weights.index_select(0, index)

    def total(self, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sum of term(y, phi) over blocks of states (n, D) in float64 and their weights (n,)."""
        blocks = zip(self.states.split(BLOCK), self.log_weights.exp().split(BLOCK), strict=True)
        return functools.reduce(torch.add, (term(y.double(), phi) for y, phi in blocks))

    def _call(self, op: str, how: How, *arguments: Any) -> Any:
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
    log_error: Tensor  # (B,)
    parts: Tensor  # (B, P, 2) of states in parts: each part's own dominant and log_rest; else P = 0


RAW = 7  # from error_bound on: not differentiable


def derive(sums: Sums, reference: Tensor, log_prior: Tensor, field: Tensor, beta: Tensor) -> Moments:
    """Thermodynamic quantities from sums relative to the dominant state, without subtracting large numbers."""
    log_sum = log_prior + sums.log_rest.exp().log1p()  # log sum phi exp(-beta (H~ - H~_r))
    return _moments(
        sums,
        field,
        log_sum - beta * sums.energy_min,
        reference + sums.shift,
        (reference - field) + sums.shift,
        sums.energy_min + sums.excess,
        log_sum + beta * sums.excess,
        (sums.excess_square - sums.excess**2).clamp_min(0),
        reference,
        log_prior,
    )


def _moments(sums: Sums, field: Tensor, *derived: Tensor) -> Moments:
    """derived : log_evidence, mean, force, energy, entropy, energy_variance, reference, log_prior."""
    log_evidence, mean, force, energy, entropy, energy_variance, reference, log_prior = derived
    bound = sums.error_bound  # torch would start the threads that kernels end
    return Moments(
        log_evidence=log_evidence,
        mean=mean,
        force=force,
        energy=energy,
        entropy=entropy,
        energy_variance=energy_variance,
        participation=sums.participation,
        error_bound=torch.from_numpy(bound.numpy() + ROUNDING) if bound.device.type == "cpu" else bound + ROUNDING,
        dominant=sums.dominant,
        reference=reference,
        shift=sums.shift,
        log_prior=log_prior,
        log_rest=sums.log_rest,
        energy_min=sums.energy_min,
        excess=sums.excess,
        excess_square=sums.excess_square,
        log_error=torch.full_like(sums.log_rest, UNKNOWN) if sums.log_error is None else sums.log_error,
        parts=field.new_empty(len(field), 0, 2),
    )


def relative(parts: Sequence[Moments], field: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """Best part, its reference state and prior; of every part t = y_r - y_best, energy and log weight of its y_r."""
    index = torch.arange(len(field), device=field.device)
    references = torch.stack([part.reference for part in parts])
    priors = torch.stack([part.log_prior for part in parts])
    logits = priors - beta * torch.stack([part.energy_min for part in parts])
    for _ in range(2):  # the second time relative to the best, so that near-ties are told apart
        best = logits.argmax(0)
        reference, prior = references[best, index], priors[best, index]
        t = references - reference
        energy = (t * (t / 2 + (reference - field))).sum(2)
        logits = priors - prior - beta * energy
    return best, reference, prior, t, energy, logits


def union(parts: Sequence[Moments], field: Tensor, beta: Tensor) -> Moments:
    """See `fastthermo.ops.merge`."""
    best, reference, prior, t, energy, logits = relative(parts, field, beta)
    index = torch.arange(len(field), device=field.device)

    def stack(name: str) -> Tensor:  # (parts, B, ...)
        return torch.stack([getattr(part, name) for part in parts])

    scale, rest, excess = logits.exp(), stack("log_rest").exp(), stack("excess")
    own = torch.nn.functional.one_hot(best, len(parts)).T
    total_rest = (scale * (rest + (1 - own))).sum(0)  # rest + 1 - 1 would lose it
    share = scale * (1 + rest) / (1 + total_rest)
    deviation = stack("shift") + t
    shift = (share[..., None] * deviation).sum(0)
    energy_min = stack("energy_min")[best, index]
    mean_excess = (share * (excess + energy)).sum(0)
    bound, log_error = union_error(
        (len(parts), field.shape[1]),
        beta,
        share,
        logits + rest.log1p() - total_rest.log1p(),
        stack("error_bound"),
        stack("log_error"),
        (2 * energy_min).sqrt(),
        t.norm(dim=2),
        (deviation - shift).norm(dim=2),
        (2 * (energy_min + mean_excess)).clamp_min(0).sqrt(),
        (2 * stack("energy")).clamp_min(0).sqrt(),
    )
    sums = Sums(
        stack("dominant")[best, index],
        shift,
        total_rest.log(),
        energy_min,
        mean_excess,
        (share * (stack("excess_square") + energy * (2 * excess + energy))).sum(0),
        (share**2 * stack("participation")).sum(0),
        bound,
        log_error,
    )
    return derive(sums, reference, prior, field, beta)


def second_pass(moments: Moments) -> tuple[Tensor, ...]:
    """What covariance and cumulants need of the first pass."""
    m = moments
    return m.dominant, m.shift, m.log_rest, m.excess, m.reference, m.log_prior, m.parts
