"""Mixtures of Gaussians y ~ sum_c pi_c N(mu_c, v_c 1), atoms where v_c = 0.

With tau_c = 1/(1 + beta v_c) and g_c = mu_c - h, given the component the posterior is Gaussian:

    log Z~_c = (D/2) log tau_c - beta tau_c |g_c|^2 / 2          mean m_c = h + tau_c g_c          variance v_c tau_c
    <y> = sum w_c m_c          C = sum w_c (v_c tau_c 1 + d_c d_c^T),  d_c = m_c - <y>,  w ~ pi_c Z~_c

Everything is relative to the likeliest component r, as in the kernels: 1 - w_r is known where w_r rounds to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from fastthermo._arrays import check_leading
from fastthermo.solvable.base import ClosedForm, Product, Sums, Tensor, streams


class _Components(NamedTuple):
    """Posterior components of B queries, relative to the likeliest, r."""

    r: Tensor  # (B,)
    weights: Tensor  # (B, C)
    rest: Tensor  # (B,) sum over c != r of w_c / w_r
    tau: Tensor  # (B, C)
    variance: Tensor  # (B, C) v tau
    square: Tensor  # (B, C) |g|^2
    difference: Tensor  # (B, C) |g_c|^2 - |g_r|^2
    steps: Tensor  # (B, C, D) m_c - m_r
    shift: Tensor  # (B, D) <y> - m_r

    def own(self, x: Tensor) -> Tensor:
        """x of the likeliest component, (B, 1)."""
        return x.gather(1, self.r[:, None])


@dataclass(frozen=True, eq=False)
class GaussianMixture(ClosedForm):
    """sum_c pi_c N(mu_c, v_c 1). Made by `two_deltas`, `simplex` and `gaussian_mixture`."""

    means: Tensor  # (C, D)
    variances: Tensor  # (C,)
    weights: Tensor  # (C,), positive, of sum 1

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    @property
    def size(self) -> float:
        return float("inf") if self.variances.any() else len(self.means)

    @property
    def prior_entropy(self) -> float:
        return float("inf") if self.variances.any() else float(torch.special.entr(self.weights).sum())

    @property
    def _width(self) -> int:
        return 4 * self.means.numel()

    @cached_property
    def data_mean(self) -> np.ndarray:
        return (self.weights @ self.means).numpy()

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        check_leading(k, self.dimension)
        spread = np.sqrt(self.weights.numpy())[:, None] * (self.means.numpy() - self.data_mean)
        _, singular, vectors = np.linalg.svd(spread, full_matrices=k > len(spread))
        values = np.full(k, float(self.weights @ self.variances))
        values[: len(singular)] += singular[:k] ** 2
        return values, vectors[:k]

    def draw(self, n: int, seed: int = 0) -> Any:
        pick, noise = streams(seed, 2)
        c = pick.choice(len(self.means), n, p=self.weights.numpy())
        y = self.means.numpy()[c]
        if self.variances.any():
            y += np.sqrt(self.variances.numpy()[c])[:, None] * noise.standard_normal(y.shape)
        return y

    def _components(self, h: Tensor, beta: Tensor) -> _Components:
        mu, v, pi = (x.to(h.device) for x in (self.means, self.variances, self.weights))
        b = beta[:, None]
        tau = 1 / (1 + b * v)
        g = mu - h[:, None]
        square = (g * g).sum(2)
        prior = pi.log() - mu.shape[1] / 2 * (b * v).log1p()
        logits = prior - b * tau * square / 2
        for _ in range(2):  # the second time relative to the best, so that near-ties are told apart
            r = logits.argmax(1)[:, None]
            g_r = g.gather(1, r[..., None].expand(-1, 1, g.shape[2]))
            t = mu - mu[r]
            difference = (t * (g + g_r)).sum(2)
            tau_step = b * (v[r] - v) * tau * tau.gather(1, r)
            exponent = tau * difference + tau_step * square.gather(1, r)
            logits = prior - prior.gather(1, r) - b * exponent / 2
        others = torch.ones_like(logits).scatter(1, r, 0.0)
        ratio = logits.exp()
        rest = (ratio * others).sum(1)
        weights = ratio / (1 + rest[:, None])
        steps = tau[..., None] * t + tau_step[..., None] * g_r
        shift = (weights[..., None] * steps).sum(1)
        return _Components(r[:, 0], weights, rest, tau, v * tau, square, difference, steps, shift)

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        c, d = self._components(h, beta), self.dimension
        mu, v, pi = (x.to(h.device)[c.r] for x in (self.means, self.variances, self.weights))
        tau, variance, square = (c.own(x)[:, 0] for x in (c.tau, c.variance, c.square))
        log_sum = pi.log() - d / 2 * (beta * v).log1p() + c.rest.log1p()
        tau_step = c.tau - tau[:, None]
        energy = (  # of every component, relative to r
            d * (c.variance - variance[:, None])
            + c.tau**2 * c.difference
            + tau_step * (c.tau + tau[:, None]) * square[:, None]
        ) / 2
        excess = (c.weights * energy).sum(1)
        within = d * c.variance**2 / 2 + c.variance * c.tau**2 * c.square
        atoms = (self.variances == 0).to(h)
        return Sums(
            log_evidence=log_sum - beta * tau * square / 2,
            mean=tau[:, None] * mu + (beta * variance)[:, None] * h + c.shift,
            force=tau[:, None] * (mu - h) + c.shift,
            regularised_energy=(d * variance + tau**2 * square) / 2 + excess,
            entropy=log_sum + beta * (d * variance - tau * beta * variance * square) / 2 + beta * excess,
            energy_variance=(c.weights * ((energy - excess[:, None]) ** 2 + within)).sum(1),
            participation=(c.weights**2 * atoms).sum(1),
            dominant=c.r,
            log_rest=c.rest.detach().log(),
        )

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        c = self._components(h, beta)
        delta = c.steps - c.shift[:, None]
        within = (c.weights * c.variance).sum(1)

        def apply(v: Tensor) -> Tensor:
            return within[:, None, None] * v + ((v @ delta.mT) * c.weights[:, None]) @ delta

        return apply

    def _third(self, h: Tensor, beta: Tensor, v: Tensor, u: Tensor) -> Tensor:
        """sum_c w_c [d (d.v)(d.u) + v_c tau_c (v (d.u) + u (d.v) + d (u.v))]"""
        c = self._components(h, beta)
        delta = c.steps - c.shift[:, None]
        dv, du = ((delta * x[:, None]).sum(2) for x in (v, u))
        along = c.weights * (dv * du + c.variance * (u * v).sum(1, keepdim=True))
        w = c.weights * c.variance
        return (along[..., None] * delta).sum(1) + (w * du).sum(1, keepdim=True) * v + (w * dv).sum(1, keepdim=True) * u
