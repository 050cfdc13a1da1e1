"""Curie-Weiss data: n spins with prior phi ~ exp(K M^2 / 2n), M = sum y. In a field temperatures add: K + beta.

    exp(K M^2 / 2n) = sum over nodes x of (STEP / sqrt(2 pi)) exp(-x^2/2 + g M),  g = sqrt(K/n) x

is the trapezoid rule for a Gaussian integral, right to 2 exp(-2 pi^2/STEP^2) = 6e-18 for every M: given a node, spins
are independent in the field beta h + g, and all averages are sums over a few hundred nodes, all of positive terms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import softplus

from fastthermo._arrays import check_leading
from fastthermo.solvable.base import ClosedForm, Product, Sums, Tensor, simplex_basis, streams

STEP, TAIL = 0.7, 9.0
EXACT = 40.0  # from where softplus(x) is x in float64; torch takes it so from 20, 2e-9 a spin


class _Nodes(NamedTuple):
    sign: Tensor  # (B, S) of the field: the reference configuration
    log_sum: Tensor  # (B,) log sum_y phi exp(-beta (H - H of the reference))
    weights: Tensor  # (B, G)
    flip: Tensor  # (B, G, S) probability of a spin against its reference
    mean_flip: Tensor  # (B, S)


@dataclass(frozen=True, eq=False)
class CurieWeiss(ClosedForm):
    """n spins in S groups, S = n or 1; coordinates are the groups' (sum of y)/sqrt(size). Made by `curie_weiss`."""

    n: int
    K: float
    groups: int

    @property
    def dimension(self) -> int:
        return self.groups

    @property
    def size(self) -> float:
        """Number of configurations."""
        return math.inf if self.n > 1023 else 2.0**self.n

    @property
    def prior_entropy(self) -> float:
        """Of the configurations, in nats: those of one magnetisation are equally likely."""
        from scipy.special import entr, gammaln

        up = np.arange(self.n + 1.0)
        p = self.magnetization()[1]
        return float(entr(p).sum() + p @ (gammaln(self.n + 1) - gammaln(up + 1) - gammaln(self.n - up + 1)))

    def symmetric(self) -> CurieWeiss:
        """The same spins in uniform fields only: a law of dimension 1 in u = sum y / sqrt(n) = sqrt(n) times the
        magnetisation. A field h along u is h/sqrt(n) on every spin; evidence, energies and entropy are those of all n.
        """
        return CurieWeiss(self.n, self.K, 1)

    def magnetization(self) -> tuple[np.ndarray, np.ndarray]:
        """The magnetisations M/n (n + 1,) of data, increasing, and their probabilities, by the exact sum."""
        from scipy.special import gammaln

        up = np.arange(self.n + 1.0)
        m = (2 * up - self.n) / self.n
        log_p = self.K * self.n / 2 * m**2 - gammaln(up + 1) - gammaln(self.n - up + 1)
        p = np.exp(log_p - log_p.max())
        return m, p / p.sum()

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        m, p = self.magnetization()
        top = self.n * float(p @ m**2)
        check_leading(k, self.dimension)
        values = np.r_[top, np.full(k - 1, (self.n - top) / max(1, self.n - 1))]
        uniform = np.full((1, self.dimension), self.dimension**-0.5)
        return values, np.concatenate([uniform, simplex_basis(self.dimension, k - 1)])

    def draw(self, n: int, seed: int = 0) -> Any:
        pick, noise = streams(seed, 2)
        log_p = self._log_prior(self.K)
        p = torch.softmax(log_p, 0).numpy()
        up = torch.sigmoid(2 * self._fields(self.K)[1]).numpy()[pick.choice(len(p), n, p=p / p.sum())]
        if self.groups == self.n:
            return 2.0 * (noise.random((n, self.n)) < up[:, None]) - 1
        return (2.0 * noise.binomial(self.n, up)[:, None] - self.n) / np.sqrt(self.n)

    @property
    def _group(self) -> int:
        return self.n // self.groups

    @cached_property
    def _width(self) -> int:
        return 6 * len(self._fields(2 * self.K)[0]) * self.groups

    def _fields(self, coupling: float) -> tuple[Tensor, Tensor]:
        """Nodes x and the fields g there, (G,)."""
        half = math.ceil((math.sqrt(coupling * self.n) + TAIL) / STEP)
        x = STEP * torch.arange(-half, half + 1, dtype=torch.float64)
        return x, math.sqrt(coupling / self.n) * x

    def _log_prior(self, coupling: float) -> Tensor:
        """Log weight of the nodes without a field, (G,), up to a constant."""
        x, g = self._fields(coupling)
        return -x * x / 2 + self.n * (g.abs() + softplus(-2 * g.abs()) - math.log(2))

    def _log_sum(self, sign: Tensor, b: Tensor, coupling: float) -> tuple[Tensor, Tensor, Tensor]:
        """log 2^-n sum_y exp(K M^2/2n + b.(y - reference)), its nodes' log weights, twice the fields on the spins."""
        x, g = (t.to(b.device) for t in self._fields(coupling))
        local = 2 * sign[:, None] * (b[:, None] + g[:, None])  # (B, G, S)
        spin = sign[:, None] * g[:, None] + softplus(-local, threshold=EXACT) - math.log(2)
        log_w = -x * x / 2 + self._group * spin.sum(2)
        return log_w.logsumexp(1) + math.log(STEP / math.sqrt(2 * math.pi)), log_w, local

    @cached_property
    def _log_normaliser(self) -> float:
        zero = torch.zeros(1, self.groups, dtype=torch.float64)
        return float(self._log_sum(zero + 1, zero, self.K)[0])

    def _nodes(self, h: Tensor, beta: Tensor) -> _Nodes:
        sign = torch.where(h < 0, -1.0, 1.0).to(h)
        b = beta[:, None] * h / math.sqrt(self._group)
        log_sum, log_w, local = self._log_sum(sign, b, self.K)
        weights, flip = log_w.softmax(1), torch.sigmoid(-local)
        mean_flip = (weights[:, None] @ flip)[:, 0]
        return _Nodes(sign, log_sum - self._log_normaliser, weights, flip, mean_flip)

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        s, root = self._nodes(h, beta), math.sqrt(self._group)
        reference = root * s.sign
        energy = (reference - h).square().sum(1) / 2
        cost = 2 * root * h.abs()  # of flipping a group
        excess = (s.flip @ cost[..., None])[..., 0]  # (B, G), at each node
        within = (s.flip * (1 - s.flip)) @ (4 * h * h)[..., None]
        mean_excess = (s.weights * excess).sum(1)
        b = beta[:, None] * h / root
        twice = self._log_sum(s.sign, 2 * b, 2 * self.K)[0]
        log_sum = s.log_sum + self._log_normaliser
        return Sums(
            log_evidence=s.log_sum - beta * energy,
            mean=reference * (1 - 2 * s.mean_flip),
            force=(reference - h) - 2 * reference * s.mean_flip,
            regularised_energy=energy + mean_excess,
            entropy=s.log_sum + beta * mean_excess,
            energy_variance=(s.weights * (within[..., 0] + (excess - mean_excess[:, None]) ** 2)).sum(1),
            participation=(twice - 2 * log_sum - self.n * math.log(2)).clamp_max(0).exp(),
        )

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        s = self._nodes(h, beta)
        own = s.weights[:, None] @ (4 * s.flip * (1 - s.flip))
        delta = 2 * math.sqrt(self._group) * s.sign[:, None] * (s.flip - s.mean_flip[:, None])

        def apply(v: Tensor) -> Tensor:
            return own * v + ((v @ delta.mT) * s.weights[:, None]) @ delta

        return apply
