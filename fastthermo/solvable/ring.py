"""Data of the Ising ring: n spins with prior phi ~ exp(K sum_i y_i y_{i+1}), by transfer matrices.

Relative to the spins along the field every weight is at most 1, and every entry of a product of transfer matrices a sum
of positive terms. With A the product from site i to j, B from j around to i and Z their trace,

    C_ij = 4 (A_00 A_11 det B + B_01 B_10 det A) / Z^2

has two terms of one sign for K > 0: no correlation is a difference. With u = tanh K, critical at
s = (1+u)/(1-u) (1-u^n)/(1+u^n).
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
        u = math.tanh(self.K)
        neighbours = (u + u ** (self.n - 1)) / (1 + u**self.n)
        return self._log_normaliser + self.n * (abs(self.K) - self.K * neighbours)

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Fourier modes of the correlations (u^l + u^(n-l)) / (1 + u^n)."""
        check_leading(k, self.n)
        u, distance = math.tanh(self.K), np.arange(self.n)
        spectrum = np.fft.fft((u**distance + u ** (self.n - distance)) / (1 + u**self.n)).real
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
        u = math.tanh(abs(self.K))
        wrap = u**self.n if self.K > 0 or self.n % 2 == 0 else -(u**self.n)
        return self.n * math.log1p(math.exp(-2 * abs(self.K))) + math.log1p(wrap)

    def _transfer(self, sign: Tensor, b: Tensor, coupling: float) -> Tensor:
        """(B, n, 2, 2), from site i to i + 1; the second index of each pair is the spin against the field."""
        bond = coupling * sign * sign.roll(-1, 1)
        like, unlike = (bond - abs(coupling)).exp(), (-bond - abs(coupling)).exp()
        pair = torch.stack([like, unlike, unlike, like], -1).unflatten(-1, (2, 2))
        site = torch.stack([torch.zeros_like(b), -2 * b.abs()], -1).exp()
        return site[..., None] * pair

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        sign = torch.where(h < 0, -1.0, 1.0).to(h)
        b = beta[:, None] * h
        transfer = self._transfer(sign, b, self.K)
        cycle, log_scale = _cycles(transfer)
        trace = cycle[..., 0, 0] + cycle[..., 1, 1]
        flip = cycle[..., 1, 1] / trace
        log_trace = trace[:, 0].log() + log_scale[:, 0]
        excess, variance = _energy(transfer, 2 * h.abs())
        log_sum = log_trace - self._log_normaliser
        squares, log_squares = _cycles(transfer**2)
        square = (squares[:, 0, 0, 0] + squares[:, 0, 1, 1]).log() + log_squares[:, 0]
        energy = (sign - h).square().sum(1) / 2
        return Sums(
            log_evidence=log_sum - beta * energy,
            mean=sign * (1 - 2 * flip),
            force=(sign - h) - 2 * sign * flip,
            regularised_energy=energy + excess,
            entropy=log_sum + beta * excess,
            energy_variance=variance,
            participation=(square - 2 * log_trace).clamp_max(0).exp(),
        )

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        n = self.n
        sign = torch.where(h < 0, -1.0, 1.0).to(h)
        b = beta[:, None] * h
        transfer = self._transfer(sign, b, self.K)
        cycle, log_scale = _cycles(transfer)
        trace = cycle[..., 0, 0] + cycle[..., 1, 1]
        log_z = trace.log() + log_scale
        flip = cycle[..., 1, 1] / trace
        arcs = [(transfer, torch.zeros_like(b))]
        for length in range(1, n - 1):
            arcs.append(_scaled(arcs[-1][0] @ transfer.roll(-length, 1), arcs[-1][1]))
        log_det = math.log(max(-math.expm1(-4 * abs(self.K)), TINY)) - 2 * b.abs()
        total = log_det.sum(1, keepdim=True)
        sign_det = math.copysign(1.0, self.K)
        inside = torch.zeros_like(b)  # log |det A| of the arcs from every site
        bands = [4 * flip * cycle[..., 0, 0] / trace]  # C[i, i + length]
        for length in range(1, n):
            inside = inside + log_det.roll(1 - length, 1)
            (a, log_a), (r, log_r) = arcs[length - 1], (x.roll(-length, 1) for x in arcs[n - length - 1])
            first = (_log(a, 0, 0) + _log(a, 1, 1) + 2 * log_a + (total - inside) - 2 * log_z).exp()
            second = (_log(r, 0, 1) + _log(r, 1, 0) + 2 * log_r + inside - 2 * log_z).exp()
            bands.append(4 * (sign_det ** (n - length) * first + sign_det**length * second))
        i = torch.arange(n, device=h.device)
        c = torch.stack(bands, 1)[:, (i - i[:, None]) % n, i[:, None]]
        return lambda v: v @ c


def _log(x: Tensor, i: int, j: int) -> Tensor:
    return x[..., i, j].clamp_min(TINY).log()


def _scaled(x: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """x (..., 2, 2) divided by its largest entry, and the logarithm of what it was divided by so far."""
    top = x.amax((-2, -1))
    return x / top[..., None, None], log_scale + top.log()


def _cycles(transfer: Tensor) -> tuple[Tensor, Tensor]:
    """Products once around from every site (B, n, 2, 2), with the logarithm of their scale (B, n), by doubling."""
    n = transfer.shape[1]
    power: tuple[Tensor, Tensor] = (transfer, torch.zeros_like(transfer[..., 0, 0]))
    out, done, length = None, 0, 1
    while True:
        if n & length:
            x, log_x = (t.roll(-done, 1) for t in power)
            out = (x, log_x) if out is None else _scaled(out[0] @ x, out[1] + log_x)
            done += length
        if done == n:
            assert out is not None
            return out
        x, log_x = power
        power = _scaled(x @ x.roll(-length, 1), log_x + log_x.roll(-length, 1))
        length *= 2


def _energy(transfer: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the energy sum_i cost_i [spin i against the field], (B,): a product of truncated series."""
    against = cost[..., None] * transfer[..., 1, :]
    first = torch.stack([torch.zeros_like(against), against], -2)
    series = [transfer, first, cost[..., None, None] * first]
    while (n := transfer.shape[1]) > 1:
        (a0, a1, a2), (b0, b1, b2) = ([x[:, i : n // 2 * 2 : 2] for x in series] for i in (0, 1))
        pairs = [a0 @ b0, a0 @ b1 + a1 @ b0, a0 @ b2 + 2 * (a1 @ b1) + a2 @ b0]
        top = pairs[0].amax((-2, -1), keepdim=True)
        series = [torch.cat([x / top, y[:, n // 2 * 2 :]], 1) for x, y in zip(pairs, series, strict=True)]
        transfer = series[0]
    z, z1, z2 = (x[:, 0].diagonal(dim1=1, dim2=2).sum(1) for x in series)
    mean = z1 / z
    return mean, (z2 / z - mean**2).clamp_min(0)
