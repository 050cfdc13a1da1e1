"""Every thermodynamic quantity of a Boltzmann ensemble at (field h, inverse temperature beta), derived from a few sums.

    H = |y|^2/2 - h.y        H~ = |y - h|^2/2 = H + |h|^2/2        w ~ phi exp(-beta H) ~ phi exp(-beta H~)
    log Z~ = log sum phi exp(-beta H~)          log Z = log Z~ + beta |h|^2/2
    F = -log Z / beta        F~ = -log Z~ / beta = F + |h|^2/2
    S = log Z + beta <H> = -KL(w || phi)        heat capacity = beta^2 Var(H) = dU/dT at fixed h

The thermodynamics of generative diffusion as in Ambrogioni, arXiv:2310.17467 (sigma = 1, VE, at s = 1/beta).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from fastthermo._arrays import cast_like, check_bound, double, is_torch, read_rows, rounding, spread
from fastthermo.process import Process, check_process


@dataclass(frozen=True, eq=False)
class BoltzmannState:
    """Averages under the Boltzmann weights for a batch of queries.

    Arrays are those of the caller: NumPy or torch, with the shape of the field for vectors (mean, force) and one
    float64 number a query for scalars. mean, force, log_evidence and log_partition, the energies, the free energies and
    entropy are twice differentiable in field and beta. energy_variance, heat_capacity, participation and n_eff of an
    ensemble are not: NotImplementedError backwards, NaN forwards. dominant, log_rest and error_bound are constants,
    whose derivatives under torch.func are 0; `Ensemble.log_odds` of the dominant state, -log_rest, has its own.
    """

    field: Any  # h
    beta: Any  # inverse temperature
    mean: Any  # <y> = -dF/dh, the magnetisation vector and the optimal denoiser
    force: Any  # <y> - h = -grad F~
    log_evidence: Any  # log Z~
    regularised_energy: Any  # <H~>
    entropy: Any  # -KL(w || phi): 0 at infinite temperature, log of the dominant state's prior at zero
    energy_variance: Any  # Var(H) = Var(H~)
    participation: Any = None  # sum w^2
    dominant: Any = None  # index of the largest weight
    log_rest: Any = None  # log (1 - w_r)/w_r of the dominant state r
    error_bound: Any = None  # bounds |error of force| / sqrt(<|y - h|^2>)

    @property
    def log_partition(self) -> Any:
        """log Z = log sum phi exp(-beta H)."""
        return self.log_evidence + self.beta * self._half_square

    @property
    def free_energy(self) -> Any:
        """F = -log Z / beta."""
        return -self.log_partition / self.beta

    @property
    def regularised_free_energy(self) -> Any:
        """F~ = -log Z~ / beta, whose gradient is h - <y>."""
        return -self.log_evidence / self.beta

    @property
    def energy(self) -> Any:
        """U = <H>."""
        return self.regularised_energy - self._half_square

    @property
    def heat_capacity(self) -> Any:
        """beta^2 Var(H) = dU/dT at fixed field."""
        return self.beta**2 * self.energy_variance

    @property
    def n_eff(self) -> Any:
        """Effective number of states, 1 / sum w^2; infinite for a law without atoms."""
        with np.errstate(divide="ignore"):
            return 1 / self.participation

    @property
    def _half_square(self) -> Any:
        h = double(self.field)
        return (h * h).sum(tuple(range(self.beta.ndim, h.ndim))) / 2


@dataclass(frozen=True, eq=False)
class Posterior(BoltzmannState):
    """The state of clean data given x_t = alpha y + sigma z, at field = x/alpha and beta = alpha^2/sigma^2."""

    x: Any = None
    alpha: Any = None
    sigma: Any = None

    @property
    def score(self) -> Any:
        """grad_x log p_t(x) = alpha force / sigma^2."""
        factor = self.alpha / self.sigma**2
        return cast_like(spread(factor, self.force) * double(self.force), self.force)

    @property
    def log_density(self) -> Any:
        """log p_t(x) = log Z~ - (D/2) log(2 pi sigma^2)."""
        dimension = math.prod(self.force.shape[self.beta.ndim :])
        log_variance = (self.sigma**2).log() if is_torch(self.sigma) else np.log(self.sigma**2)
        return self.log_evidence - dimension / 2 * (math.log(2 * math.pi) + log_variance)


class Model(Protocol):
    """What fixed points, responses and samplers need; laws and denoisers both have it."""

    @property
    def dimension(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> Any: ...

    @property
    def numpy(self) -> bool: ...

    def mean(self, field: Any, beta: Any) -> Any: ...

    def response(self, field: Any, beta: Any) -> tuple[Callable[[Any], Any], Callable[[], Any]]: ...


class Law(Model, Protocol):
    """A distribution of clean data that answers at any field and inverse temperature."""

    def boltzmann(self, field: Any, beta: Any, **options: Any) -> BoltzmannState: ...

    def covariance(self, field: Any, beta: Any, **options: Any) -> Any: ...

    def cumulant(self, field: Any, beta: Any, *probes: Any, **options: Any) -> Any: ...

    def draw(self, n: int, seed: int) -> Any: ...


def boltzmann(law: Law, field: Any, beta: Any, **options: Any) -> BoltzmannState:
    """Boltzmann averages of `law` at `field` (D,), (B, D) or image-shaped and `beta`, a scalar or (B,).

    Options of an Ensemble: precision "exact" (default) or "fast", rtol, backend, single. See `Ensemble.boltzmann`.
    """
    return law.boltzmann(field, beta, **options)


def posterior(law: Law, process: Process, x: Any, t: Any, rtol: float | None = None, **options: Any) -> Posterior:
    """The posterior of clean data given the noisy `x` at time `t` of `process`.

    A `BoltzmannState` at field = x/alpha and beta = alpha^2/sigma^2 that also gives `score` and `log_density`.

    Parameters
    ----------
    x : (D,), (B, D) or shaped like states, NumPy or torch; results are of its kind, mean and force of its dtype.
    t : a scalar, or (B,), one a query.
    rtol : wanted bound on the error of the force relative to its rms; None: whatever `error_bound` says.
    options : of the law, as of `boltzmann`.

    Raises
    ------
    TypeError where `law` is none. ValueError for times outside [t_min, t_max], shapes that do not agree, and where the
    certified bound, with the rounding of x and of the results, exceeds rtol.
    """
    if not hasattr(law, "boltzmann"):
        raise TypeError(f"law: wanted an Ensemble or another law, got {type(law).__name__}")
    from fastthermo.ops import rounding_error
    from fastthermo.ops.checks import check_finite

    check_process(process)
    rows, _, one = read_rows("x", x, law.dimension, x.device if is_torch(x) else "cpu")
    rows = rows.double()
    check_finite("x", rows)
    times = _times(process.check_time(t), len(rows), one)
    alpha: Any
    sigma: Any
    wide: Any
    alpha, sigma = np.asarray(process.alpha(times)), np.asarray(process.sigma(times))
    if is_torch(x):
        import torch

        # one number for all stays on the CPU, where a device reads it without a copy that waits
        alpha, sigma = (torch.as_tensor(v, device=x.device if v.ndim else "cpu") for v in (alpha, sigma))
        wide = rows.reshape(x.shape)
    else:
        x = np.asarray(x)
        wide = rows.numpy().reshape(x.shape)
    # x/alpha stays float64: rounding it to float32 would change the logits at low temperature
    if rounding(x):  # float32 results are wanted
        options = {"single": True, **options}
    if rtol is not None:
        options["rtol"] = rtol
    state = law.boltzmann(wide / spread(alpha, wide), (alpha / sigma) ** 2, **options)
    known = {f.name: getattr(state, f.name) for f in fields(BoltzmannState)}
    known |= {name: cast_like(known[name], x) for name in ("mean", "force")}
    if known["error_bound"] is not None:
        of_field = rounding_error(state.field, state.beta, state.regularised_energy)
        known["error_bound"] = known["error_bound"] + rounding(x) + of_field
    if rtol is not None:
        check_bound(known["error_bound"], rtol, x.dtype)
    return Posterior(**known, x=x, alpha=alpha, sigma=sigma)


def _times(t: np.ndarray, rows: int, one: bool) -> np.ndarray:
    """A time for all rows of x, or one each; a ValueError for other numbers of them."""
    if t.ndim > 1 or (t.ndim == 1 and len(t) not in (1, rows)):
        raise ValueError(f"t: wanted a scalar or shape ({rows},), one a query, got shape {t.shape}")
    return t.reshape(()) if one else t
