"""Gaussian data N(m, Sigma). In the eigenbasis of Sigma, with tau = 1/(1 + beta lambda) and g = m - h,

    log Z~ = sum [log tau - beta tau g^2] / 2          <y> = h + tau g          C = lambda tau

so that every gain beta lambda tau is below 1: no transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastthermo._arrays import check_leading
from fastthermo.solvable.base import ClosedForm, Product, Sums, Tensor


@dataclass(frozen=True, eq=False)
class Gaussian(ClosedForm):
    """N(m, Sigma). Made by `gaussian`."""

    centre: Tensor  # (D,)
    values: Tensor  # (D,) eigenvalues of Sigma, decreasing
    vectors: Tensor  # (D, D), rows

    @property
    def dimension(self) -> int:
        return len(self.centre)

    @property
    def data_mean(self) -> np.ndarray:
        return self.centre.numpy()

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        check_leading(k, self.dimension)
        return self.values[:k].numpy(), self.vectors[:k].numpy()

    def draw(self, n: int, seed: int = 0) -> Any:
        z = np.random.default_rng(seed).standard_normal((n, self.dimension))
        return self.data_mean + (z * self.values.sqrt().numpy()) @ self.vectors.numpy()

    def mutual_information(self, beta: Any) -> Any:
        """I(y; x_t) = sum log(1 + beta lambda) / 2 in nats, at inverse temperatures of any shape."""
        return np.log1p(np.multiply.outer(beta, self.values.numpy())).sum(-1) / 2

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        centre, values, vectors = (x.to(h.device) for x in (self.centre, self.values, self.vectors))
        x = beta[:, None] * values
        tau = 1 / (1 + x)
        g = (centre - h) @ vectors.mT
        variance, square = values * tau, g * g
        log_tau = -x.log1p()
        return Sums(
            log_evidence=(log_tau - beta[:, None] * tau * square).sum(1) / 2,
            mean=(tau * (vectors @ centre) + x * tau * (h @ vectors.mT)) @ vectors,
            force=(tau * g) @ vectors,
            regularised_energy=(variance + (tau * g) ** 2).sum(1) / 2,
            entropy=(log_tau + x * tau - beta[:, None] * x * (tau * g) ** 2).sum(1) / 2,
            energy_variance=(variance**2 / 2 + variance * (tau * g) ** 2).sum(1),
        )

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        values, vectors = self.values.to(h.device), self.vectors.to(h.device)
        variance = values / (1 + beta[:, None] * values)
        return lambda v: ((v @ vectors.mT) * variance[:, None]) @ vectors

    def _third(self, h: Tensor, beta: Tensor, v: Tensor, u: Tensor) -> Tensor:
        return torch.zeros_like(h)
