"""The generative bath (Ambrogioni, arXiv:2310.17467): M sites of clean data that share one field.

    Z_M = (beta M / 2 pi)^{D/2} int dh exp(-M beta F~(h))       h ~ exp(M log Z~(h))       h | y ~ N(m_M, 1/(M beta))

with m_M the mean of the sites. M = 1 is the diffusing particle, h = x/alpha; M -> infinity is the sharp transition. The
density of h is a law of means smoothed by a Gaussian, so that in one dimension sums over nodes a fraction of its width
apart are exact: to 2 exp(-2 pi^2/STEP^2) = 6e-18.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo.solvable.curie_weiss import CurieWeiss
from fastthermo.solvable.gaussian import Gaussian
from fastthermo.solvable.mixture import GaussianMixture

if TYPE_CHECKING:
    import torch

STEP, TAIL = 0.7, 45.0  # spacing of nodes over the width of the smoothing; logarithm of what is left out
PANEL, ORDER = 4.0, 20  # width of a panel likewise, and its Gauss-Legendre nodes
NODES = 2**24
FINE, SLACK = 16, 1.02  # nodes within STEP for draws; more than a density exceeds its chords there
ISLANDS, MOVES = 8, 8  # independent groups of particles, moves between two steps of annealing
ACCEPTANCE = 0.6


class FieldNodes(NamedTuple):
    """Nodes h (G,) of a one-dimensional bath with weights of sum 1: averages of smooth f are weights @ f(h)."""

    h: np.ndarray
    weights: np.ndarray
    log_partition: float


class FieldSample(NamedTuple):
    """Fields (n, D) of a bath, and its log Z_M with a standard error, 0 where it is exact."""

    field: Any
    log_partition: float
    error: float


@dataclass(frozen=True)
class Bath:
    """M sites over one law, closed form or `Ensemble`, in thermal contact through one field.

    Raises ValueError for sites below 1; `nodes` for more than one dimension.
    """

    law: Any
    sites: float

    def __post_init__(self) -> None:
        if not 1 <= self.sites < math.inf:
            raise ValueError(f"sites: wanted a finite number from 1, got {self.sites}")

    def log_density(self, field: Any, beta: float) -> Any:
        """M log Z~(h), the log density of the field up to the constant log_partition - (D/2) log(beta M/2 pi)."""
        return self.sites * self.law.boltzmann(field, beta).log_evidence

    def nodes(self, beta: float, fineness: int = 1, kink: float | None = None) -> FieldNodes:
        """The exact field distribution in one dimension, on `fineness` times the nodes that averages need.

        kink : the field where what is averaged is not smooth, as |h - kink| is not: Gauss-Legendre nodes on both sides.
        """
        if self.law.dimension != 1:
            raise ValueError(f"law: wanted one dimension, got {self.law.dimension}; `sample` takes any")
        _check_beta(beta)
        low, high = self._range(beta)
        width = 1 / fineness / math.sqrt(self.sites * beta)
        spacing = STEP * width
        if not (high - low) / spacing < NODES:
            raise ValueError(f"sites, beta: wanted at most {NODES} nodes, got {(high - low) / spacing:.3g} for {self}")
        if kink is None:
            h = spacing * _integers(low / spacing, high / spacing)
            share = np.full(len(h), spacing)
        else:
            panel, (x, v) = PANEL * width, np.polynomial.legendre.leggauss(ORDER)
            middle = kink + panel * (_integers((low - kink) / panel, (high - kink) / panel)[:-1, None] + 0.5)
            h, share = (middle + panel / 2 * x).ravel(), np.tile(panel / 2 * v, len(middle))
        log_w = self._log_density(h, beta)
        top = log_w.max()
        w = share * np.exp(log_w - top)
        log_integral = top + math.log(w.sum())
        return FieldNodes(h, w / w.sum(), float(log_integral + math.log(beta * self.sites / (2 * math.pi)) / 2))

    def sample(self, beta: float, n: int = 1024, seed: int = 0) -> FieldSample:
        """n fields of the bath at `beta`: independent and exact in one dimension.

        Else by annealing from the exact M = 1 to M sites: weighted, resampled particles that Langevin proposals move,
        accepted by Metropolis (sequential Monte Carlo; Del Moral, Doucet & Jasra 2006), so that modes keep their
        weights. The standard error of log Z_M is that between independent groups of them.
        """
        _check_beta(beta)
        if self.law.dimension == 1:
            return self._sample_line(beta, n, seed)
        import torch

        generator = torch.Generator().manual_seed(seed)
        rows = math.ceil(n / ISLANDS) * ISLANDS
        h = torch.as_tensor(self.law.draw(rows, seed), dtype=torch.float64).reshape(rows, -1).cpu()
        h = h + torch.randn(h.shape, dtype=torch.float64, generator=generator) / math.sqrt(beta)
        log_z = torch.full((ISLANDS,), self.law.dimension / 2 * math.log(self.sites), dtype=torch.float64)
        power, rate = 1.0, 1.0
        evidence, force = self._evidence(h, beta)
        while power < self.sites:
            step = _step(evidence, self.sites - power)
            log_w = (step * evidence).reshape(ISLANDS, -1)
            log_z += log_w.logsumexp(1) - math.log(log_w.shape[1])
            power += step
            chosen = _resample(log_w, generator)
            h, evidence, force = h[chosen], evidence[chosen], force[chosen]
            for _ in range(MOVES):
                h, evidence, force, accepted = self._move(h, evidence, force, beta, power, rate, generator)
                rate = min(1.0, rate * math.exp(accepted - ACCEPTANCE))
        z = (log_z - log_z.max()).exp()
        kept = _resample(log_z.repeat_interleave(rows // ISLANDS)[None], generator)
        field = h[
            kept[torch.randperm(rows, generator=generator)[:n]]
        ]  # shuffled before it is cut: islands are in order
        error = float(z.std() / z.mean()) / math.sqrt(ISLANDS)
        out = field.numpy() if self.law.numpy else field.to(self.law.device)
        return FieldSample(out, float(log_z.max() + z.mean().log()), error)

    def _sample_line(self, beta: float, n: int, seed: int) -> FieldSample:
        """From the chords of the density between fine nodes, by rejection against the density itself."""
        rng = np.random.default_rng(seed)
        h, w, log_z = self.nodes(beta, FINE)
        tries = n + n // 8 + 64  # 2 % are rejected
        cell = rng.choice(len(h) - 1, tries, p=(w[1:] + w[:-1]) / (w[1:] + w[:-1]).sum())
        left, right = w[cell], w[cell + 1]
        place = np.sqrt(rng.random(tries))
        place = np.where(rng.random(tries) * (left + right) < left, 1 - place, place)
        fields = h[cell] + place * (h[1] - h[0])
        log_sum = log_z - math.log(beta * self.sites / (2 * math.pi)) / 2 - math.log(h[1] - h[0])  # w = p / sum p
        density = np.exp(self._log_density(fields, beta) - log_sum)
        kept = rng.random(tries) * SLACK * (left + place * (right - left)) < density
        fields = fields[kept][:n, None]
        if self.law.numpy:
            return FieldSample(fields, log_z, 0.0)
        import torch

        return FieldSample(torch.as_tensor(fields, device=self.law.device), log_z, 0.0)

    def _range(self, beta: float) -> tuple[float, float]:
        """Beyond which the density is below exp(-TAIL) of that inside. Outside the hull of the states it only falls."""
        low, high = _hull(self.law)
        top = self._log_density(np.array([low, (low + high) / 2, high]), beta).max()
        reach = 10 / math.sqrt(self.sites * beta) * 2.0 ** np.arange(60)
        below, above = (self._log_density(ends, beta) < top - TAIL for ends in (low - reach, high + reach))
        return low - reach[below.argmax()], high + reach[above.argmax()]

    def _log_density(self, h: np.ndarray, beta: float) -> np.ndarray:
        import torch

        rows = torch.as_tensor(h[:, None], device=self.law.device)
        log_p: np.ndarray = self.log_density(rows, beta).cpu().numpy()
        return log_p

    def _evidence(self, h: torch.Tensor, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.law.boltzmann(h.to(self.law.device), beta)
        return state.log_evidence.cpu(), state.force.cpu()

    def _move(
        self,
        h: torch.Tensor,
        evidence: torch.Tensor,
        force: torch.Tensor,
        beta: float,
        power: float,
        rate: float,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        """One Metropolis-adjusted Langevin move in the units of the smoothing, 1/sqrt(M beta)."""
        import torch

        variance = rate / (power * beta)
        z = torch.randn(h.shape, dtype=h.dtype, generator=generator)
        new = h + rate / 2 * force + math.sqrt(variance) * z
        new_evidence, new_force = self._evidence(new, beta)
        back = (h - new - rate / 2 * new_force).square().sum(1) / variance
        log_ratio = power * (new_evidence - evidence) + (z.square().sum(1) - back) / 2
        accept = torch.rand(len(h), dtype=h.dtype, generator=generator).log() < log_ratio
        pick = accept[:, None]
        return (
            torch.where(pick, new, h),
            torch.where(accept, new_evidence, evidence),
            torch.where(pick, new_force, force),
            float(accept.double().mean()),
        )


def _integers(low: float, high: float) -> np.ndarray:
    """All from low to high, and one on either side where these are none."""
    return np.arange(math.floor(low), math.ceil(high) + 1.0)


def _check_beta(beta: float) -> None:
    if not 0 < beta < math.inf:
        raise ValueError(f"beta: wanted a finite positive number, got {beta}")


def _hull(law: Any) -> tuple[float, float]:
    """The least and the largest state of a law in one dimension, or mean of a Gaussian of it."""
    if isinstance(law, CurieWeiss):
        return -math.sqrt(law.n), math.sqrt(law.n)
    points = (
        law.means if isinstance(law, GaussianMixture) else law.data_mean if isinstance(law, Gaussian) else law.data()
    )
    return float(points.min()), float(points.max())


def _step(evidence: torch.Tensor, most: float) -> float:
    """The step of annealing, at most `most`, that leaves 3/4 of the particles effective."""
    from scipy.optimize import brentq

    def effective(step: float) -> float:
        w = (step * (evidence - evidence.max())).exp()
        return float(w.sum() ** 2 / (w.square().sum() * len(w))) - 0.75

    return most if effective(most) >= 0 else float(brentq(effective, 0.0, most, rtol=1e-3))


def _resample(log_w: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Systematic resampling of particles (groups, n) within their groups: indices (groups * n,)."""
    import torch

    groups, n = log_w.shape
    ends = log_w.softmax(1).cumsum(1)
    points = (torch.arange(n) + torch.rand(groups, 1, dtype=ends.dtype, generator=generator)) / n
    index = torch.searchsorted(ends, points).clamp_max(n - 1)
    return (index + n * torch.arange(groups)[:, None]).reshape(-1)
