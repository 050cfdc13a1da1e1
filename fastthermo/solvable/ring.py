"""Data of the Ising ring: n spins with prior phi ~ exp(K sum_i y_i y_{i+1}), by transfer matrices.

Relative to the spins along the field every weight is at most 1, and every entry of a product of transfer matrices a sum
of positive terms, kept as its logarithm: in rings that cannot follow their field all of a product may be below 1e-308.
With A the product from site i to j, B from j around to i and Z their trace,

    C_ij = 4 (A_00 A_11 det B + B_01 B_10 det A) / Z^2

has two terms of one sign for K > 0 or n even: no correlation is a difference. With u = tanh K, critical at
s = (1+u)/(1-u) (1-u^n)/(1+u^n). Where K < 0 and n is odd, a bond at least is frustrated: u^n -> -1, 1 + u^n and the
like are expm1 of log |u|, and C_ij = 4 (A_00 A_11 B_00 B_11 - A_01 A_10 B_01 B_10) / Z^2, whose terms are at most 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fastthermo._arrays import check_leading
from fastthermo.solvable.base import ClosedForm, Product, Sums, Tensor, streams

TINY = 1e-300


@dataclass(frozen=True, eq=False)
class IsingRing(ClosedForm):
    """n spins on a ring. Made by `ising_ring`."""

    n: int
    K: float

    @property
    def dimension(self) -> int:
        return self.n

    @property
    def size(self) -> float:
        """Number of configurations."""
        return math.inf if self.n > 1023 else 2.0**self.n

    @property
    def prior_entropy(self) -> float:
        """Of the configurations, in nats: log Z - K d log Z / dK."""
        neighbours = float(self._correlations(np.ones(1))[0])
        return self._log_normaliser + self.n * (abs(self.K) - self.K * neighbours)

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Fourier modes of the correlations (u^l + u^(n-l)) / (1 + u^n)."""
        check_leading(k, self.n)
        distance = np.arange(self.n)
        spectrum = np.fft.fft(self._correlations(distance)).real
        mode = np.arange(self.n)
        frequency = (mode + 1) // 2
        chosen = np.argsort(-spectrum[frequency], kind="stable")[:k]
        angle = 2 * np.pi / self.n * frequency[chosen, None] * distance
        odd = (chosen % 2 == 0) & (chosen > 0)
        vectors = np.where(odd[:, None], np.sin(angle), np.cos(angle))
        return spectrum[frequency[chosen]], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def draw(self, n: int, seed: int = 0) -> Any:
        """By domain walls: an even number of them, of weight exp(-2K) each, anywhere."""
        from scipy.special import gammaln

        pick, place, turn = streams(seed, 3)
        walls = np.arange(0, self.n + 1, 2.0)
        log_p = -2 * self.K * walls - gammaln(walls + 1) - gammaln(self.n - walls + 1)
        p = np.exp(log_p - log_p.max())
        count = pick.choice(walls, n, p=p / p.sum())
        wall = place.random((n, self.n)).argsort(1) < count[:, None]
        return np.where(turn.random(n) < 0.5, -1.0, 1.0)[:, None] * np.cumprod(np.where(wall, -1.0, 1.0), 1)

    @property
    def _width(self) -> int:
        return 64 * self.n

    @property
    def _product_width(self) -> int:
        return 8 * self.n**2

    @cached_property
    def _log_normaliser(self) -> float:
        """log sum_y exp(K sum y y') - n |K|"""
        if not self._frustrated:
            return self.n * math.log1p(math.exp(-2 * abs(self.K))) + math.log1p(math.tanh(abs(self.K)) ** self.n)
        q, log_u = self._unlike
        relative = -math.expm1(self.n * log_u) / (2 * self.n * q)
        return math.log(2 * self.n) - 2 * abs(self.K) + self.n * math.log1p(q) + math.log(relative)

    @property
    def _frustrated(self) -> bool:
        return self.K < 0 and self.n % 2 == 1

    @property
    def _unlike(self) -> tuple[float, float]:
        """q = exp(-2|K|), but 1e-300 at least, where ratios have reached their limits, and log |u| = -2 atanh q."""
        q = max(math.exp(-2 * abs(self.K)), TINY)
        return q, -2 * math.atanh(q)

    def _correlations(self, distance: np.ndarray) -> np.ndarray:
        """<y_0 y_l> without a field at distances l from 0 to n."""
        if not self._frustrated:
            u = math.tanh(self.K)
            return (u**distance + u ** (self.n - distance)) / (1 + u**self.n)
        _, log_u = self._unlike
        around = np.expm1((self.n - 2 * distance) * log_u) / math.expm1(self.n * log_u)
        correlations: np.ndarray = (-1.0) ** distance * np.exp(distance * log_u) * around
        return correlations

    def _transfer(self, sign: Tensor, b: Tensor) -> Tensor:
        """Logarithms (B, n, 2, 2), from site i to i + 1; the second of each pair of indices is against the field."""
        bond = self.K * sign * sign.roll(-1, 1)
        like, unlike = bond - abs(self.K), -bond - abs(self.K)
        pair = torch.stack([like, unlike, unlike, like], -1).unflatten(-1, (2, 2))
        site = torch.stack([torch.zeros_like(b), -2 * b.abs()], -1)
        return site[..., None] + pair

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        sign = torch.where(h < 0, -1.0, 1.0).to(h)
        b = beta[:, None] * h
        transfer = self._transfer(sign, b)
        log_z, flip = _trace(_cycles(transfer))
        excess, variance = _energy(transfer, 2 * h.abs())
        log_sum = log_z[:, 0] - self._log_normaliser
        square = _trace(_cycles(2 * transfer)[:, :1])[0][:, 0]
        energy = (sign - h).square().sum(1) / 2
        return Sums(
            log_evidence=log_sum - beta * energy,
            mean=sign * (1 - 2 * flip),
            force=(sign - h) - 2 * sign * flip,
            regularised_energy=energy + excess,
            entropy=log_sum + beta * excess,
            energy_variance=variance,
            participation=(square - 2 * log_z[:, 0]).clamp_max(0).exp(),
        )

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        n = self.n
        sign = torch.where(h < 0, -1.0, 1.0).to(h)
        b = beta[:, None] * h
        transfer = self._transfer(sign, b)
        log_z, flip = _trace(cycle := _cycles(transfer))
        stay = (cycle[..., 0, 0] - log_z).exp()
        arcs = [transfer]
        for length in range(1, n - 1):
            arcs.append(_times(arcs[-1], transfer.roll(-length, 1)))
        log_det = math.log(max(-math.expm1(-4 * abs(self.K)), TINY)) - 2 * b.abs()
        dets = [log_det]  # log |det A| of the arcs from every site
        for length in range(1, n - 1):
            dets.append(dets[-1] + log_det.roll(-length, 1))
        sign_det = math.copysign(1.0, self.K)
        bands = [4 * flip * stay]  # C[i, i + length]
        for length in range(1, n):
            a, r = arcs[length - 1], arcs[n - length - 1].roll(-length, 1)
            inside, outside = dets[length - 1], dets[n - length - 1].roll(-length, 1)
            same, other = a[..., 0, 0] + a[..., 1, 1] - 2 * log_z, r[..., 0, 1] + r[..., 1, 0] - 2 * log_z
            if self._frustrated:
                same, other = same + r[..., 0, 0] + r[..., 1, 1], other + a[..., 0, 1] + a[..., 1, 0]
                bands.append(4 * sign * sign.roll(-length, 1) * (same.exp() - other.exp()))
                continue
            first, second = (same + outside).exp(), (other + inside).exp()
            bands.append(4 * sign_det**length * (first + second))
        i = torch.arange(n, device=h.device)
        c = torch.stack(bands, 1)[:, (i - i[:, None]) % n, i[:, None]]
        return lambda v: v @ c


def _times(x: Tensor, y: Tensor) -> Tensor:
    """The product of matrices (..., 2, 2) from logarithms of their entries, as logarithms."""
    return torch.logaddexp(x[..., :1] + y[..., :1, :], x[..., 1:] + y[..., 1:, :])


def _trace(x: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of the trace of products once around, and the probability of a spin against the field."""
    log_z = torch.logaddexp(x[..., 0, 0], x[..., 1, 1])
    return log_z, (x[..., 1, 1] - log_z).exp()


def _cycles(transfer: Tensor) -> Tensor:
    """Products once around from every site (B, n, 2, 2), by doubling."""
    n = transfer.shape[1]
    power, out, done, length = transfer, None, 0, 1
    while True:
        if n & length:
            x = power.roll(-done, 1)
            out = x if out is None else _times(out, x)
            done += length
        if done == n:
            assert out is not None
            return out
        power = _times(power, power.roll(-length, 1))
        length *= 2


def _energy(transfer: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the energy sum_i cost_i [spin i against the field], (B,).

    Along every stretch of the ring and for both spins at its ends: the weight, and given these the mean and variance.
    """
    zero = torch.zeros_like(cost)
    mean = torch.stack([zero, zero, cost, cost], -1).unflatten(-1, (2, 2))
    parts = [transfer, mean, torch.zeros_like(mean)]
    while (n := parts[0].shape[1]) > 1:
        a, b = ([x[:, i : n // 2 * 2 : 2] for x in parts] for i in (0, 1))
        along, against = ([x[..., k, None] + y[..., k, None, :] for x, y in zip(a, b, strict=True)] for k in (0, 1))
        parts = [torch.cat([x, y[:, n // 2 * 2 :]], 1) for x, y in zip(_mixed(along, against), parts, strict=True)]
    along, against = ([x[:, 0, k, k] for x in parts] for k in (0, 1))
    _, average, variance = _mixed(along, against)
    return average, variance


def _mixed(a: list[Tensor], b: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Log weight, mean and variance of a mixture of two."""
    odds, step = b[0] - a[0], b[1] - a[1]
    p, q = odds.sigmoid(), (-odds).sigmoid()
    return torch.logaddexp(a[0], b[0]), a[1] + p * step, q * a[2] + p * b[2] + p * q * step**2
