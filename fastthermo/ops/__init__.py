"""The only door to the kernels: float64 queries (B, D) in, validated, differentiable moments out."""

from __future__ import annotations

from typing import Any

import torch

from fastthermo import _dispatch
from fastthermo._arrays import check_numbers, check_seed
from fastthermo.kernels import Noise as Noise
from fastthermo.kernels import Schedule as Schedule
from fastthermo.kernels.bounds import CUTOFF
from fastthermo.ops import derivatives
from fastthermo.ops.divided import Divided, Group
from fastthermo.ops.eager import eagerly
from fastthermo.ops.moments import How, Moments, States, relative, second_pass

__all__ = [
    "Divided",
    "Group",
    "Moments",
    "States",
    "boltzmann",
    "covariance",
    "cumulant",
    "evolve",
    "field_error",
    "log_odds",
    "merge",
    "normal",
    "relative_evidence",
    "rounding_error",
    "step",
    "top_weights",
]

Tensor = torch.Tensor
PRECISIONS = {"exact": "double", "fast": "fast", "tf32": "tf32"}


@eagerly
def boltzmann(
    states: States,
    field: Tensor,
    beta: Tensor,
    precision: str = "exact",
    backend: str | None = None,
    single: bool = False,
    rtol: float | None = None,
) -> Moments:
    """Boltzmann averages of the states for field (B, D) and beta (B,), float64; see `Moments`.

    precision : "exact", certified by error_bound, or "fast", arithmetic in the precision of the states; on a GPU
        also "tf32", products of 11 bits; error_bound says what that costs.
    single : the force is wanted to 1e-6 of its rms only, which is faster where states are float32 or bytes.
    rtol : queries whose bound is above half of it are computed in float64 after all.

    log_evidence, mean, force, energy and entropy are twice differentiable in field and beta, in reverse and forward
    mode and under torch.func. Raises ValueError where beta is not finite and positive or field is not finite.
    """
    how = _how(field, backend, single, precision)._replace(rtol=None if rtol is None else float(rtol))
    return Moments(*derivatives.Boltzmann.apply(field, beta, states, how))


@eagerly
def covariance(
    states: States, field: Tensor, beta: Tensor, moments: Moments, backend: str | None = None, single: bool = False
) -> Tensor:
    """Cov(y), shape (B, D, D) float64; once differentiable in field and beta."""
    how = _how(field, backend, single)
    out: Tensor = derivatives.Covariance.apply(field, beta, *second_pass(moments), states, how)
    return out


@eagerly
def cumulant(
    states: States,
    field: Tensor,
    beta: Tensor,
    moments: Moments,
    probes: Tensor,
    energy_probes: Tensor | None = None,
    backend: str | None = None,
    single: bool = False,
) -> tuple[Tensor, Tensor]:
    """Joint cumulants of y, shape (B, D), and of H~, shape (B,), with K = 1 or 2 combinations v.y + u H~.

    probes : v, (B, K, D); energy_probes : u, (B, K), zero by default. K = 1 is once differentiable in everything.
    """
    if probes.shape[1] not in (1, 2):
        raise ValueError(f"probes: wanted 1 or 2 of them, shape (B, K, D), got shape {tuple(probes.shape)}")
    u = probes.new_zeros(probes.shape[:2], dtype=torch.float64) if energy_probes is None else energy_probes
    how = _how(field, backend, single)
    return derivatives.cumulant(field, beta, probes, u, second_pass(moments), states, how)


def _how(field: Tensor, backend: str | None, single: bool, precision: str = "exact") -> How:
    if precision not in PRECISIONS:
        raise ValueError(f"precision: wanted 'exact' or 'fast' (or, on a GPU, 'tf32'), got {precision!r}")
    name = _dispatch.backend_name(field.device.type, backend)
    if precision == "tf32" and name != "triton":
        raise ValueError(f"precision: 'tf32' is arithmetic of backend 'triton', not of {name!r}")
    return How(name, "single" if single and precision == "exact" else PRECISIONS[precision])


def merge(parts: list[Moments], field: Tensor, beta: Tensor) -> Moments:
    """Moments of the union of disjoint sets of states. Values only: differentiating raises.

    Each part is a state of its own with weight exp(log_evidence); relative evidences come from energies relative to the
    best reference state, so that nothing is lost to cancellation. `dominant` keeps the index within its part.
    """
    return Moments(*derivatives.Merge.apply(field, beta, len(parts), *(x for part in parts for x in part)))


def field_error(beta: Tensor, energy_min: Tensor, energy: Tensor, error: Tensor) -> Tensor:
    """What a field known to |dh| <= error adds to error_bound: dh in the force, beta (y_n - y_r).dh in a logit.

    energy_min, energy : H~_r, or more than that, and <H~>.
    """
    reach = (2 * (energy_min + CUTOFF / beta)).sqrt() + (2 * energy_min).sqrt()
    return error / (2 * energy + 1e-300).sqrt() + (2 * beta * reach * error).expm1() / 2


def rounding_error(field: Any, beta: Any, energy: Any) -> Any:
    """`field_error` of fields (B, ...) that were rounded to float64, arrays of NumPy or torch."""
    given = field, beta, energy
    h, b, e = (x.detach() if isinstance(x, Tensor) else torch.as_tensor(x, device="cpu") for x in given)
    error = 2.0**-53 * (h * h).sum(tuple(range(e.ndim, h.ndim))).sqrt()
    found = field_error(b, e + CUTOFF / b, e, error)  # beta H~_r exceeds beta <H~> by log N and what priors differ by
    return found if isinstance(field, Tensor) else found.numpy()


def relative_evidence(parts: list[Moments], field: Tensor, beta: Tensor) -> Tensor:
    """log Z~ of each part up to a constant of the query, (parts, B), without cancellation. Values only."""
    *_, logits = relative(parts, field, beta)
    return logits + torch.stack([part.log_rest for part in parts]).exp().log1p()


@eagerly
def log_odds(states: States, index: Tensor, field: Tensor, beta: Tensor, moments: Moments) -> Tensor:
    """log w_i / (1 - w_i) of the states `index` (B,), without cancellation where w_i is near 0 or 1.

    Once differentiable in field and beta, where it is finite.
    """
    m = moments
    sums = m.dominant, m.reference, m.log_prior, m.log_rest, m.shift, m.excess
    out: Tensor = derivatives.LogOdds.apply(field, beta, index, *sums, states)[0]
    return out


@eagerly
def top_weights(
    states: States,
    field: Tensor,
    beta: Tensor,
    moments: Moments,
    k: int,
    backend: str | None = None,
    single: bool = False,
) -> tuple[Tensor, Tensor]:
    """The k largest weights, decreasing, and their states: (B, k) float64 and int64. Values only."""
    sums = [x.detach() for x in second_pass(moments)]
    how = _how(field, backend, single)
    out: tuple[Tensor, Tensor] = states.second_pass("top_weights", how, field.detach(), beta.detach(), sums, int(k))
    return out


@eagerly
def step(
    x: Tensor,
    mean: Tensor,
    a: float,
    b: float,
    c: float,
    seed: int,
    step: int,
    first_sample: int = 0,
    stream: int = 0,
    backend: str | None = None,
) -> Tensor:
    """a x + b mean + c z for x, mean (B, D), with z keyed by (seed, step, sample, dimension, stream). Values only."""
    check_seed(seed)
    check_numbers("step", step, 1)
    check_numbers("first_sample", first_sample, len(x))
    if torch.is_grad_enabled() and (x.requires_grad or mean.requires_grad):
        raise ValueError(
            "x, mean: the step kernel carries no gradient; write a * x + b * mean for a differentiable step"
        )
    kernel = _dispatch.load(_dispatch.backend_name(x.device.type, backend)).step
    out: Tensor = kernel(x, mean, a, b, c, seed, step, first_sample, stream)
    return out


_step = step  # where an argument has its name


@eagerly
def evolve(
    states: States,
    x: Tensor,
    schedule: Schedule,
    noise: Noise,
    whole: bool = False,
    backend: str | None = None,
) -> Tensor:
    """x (B, D) after the steps of a schedule or, if `whole`, after each of them, (T, B, D). Values only."""
    check_seed(noise.seed)
    check_numbers("first_step", noise.first_step, len(schedule.table))
    check_numbers("first_sample", noise.first_sample, len(x))
    name = _dispatch.backend_name(x.device.type, backend)
    out: Tensor = states.evolve(name, x, schedule, noise, whole)
    return out


def normal(
    rows: int, dimension: int, seed: int, step: int, stream: int, first_sample: int = 0, device: Any = "cpu"
) -> Tensor:
    """Standard normal numbers (rows, dimension), float64, keyed as in `step`."""
    zero = torch.zeros(rows, dimension, dtype=torch.float64, device=device)
    return _step(zero, zero, 0.0, 0.0, 1.0, seed, step, first_sample, stream)
