"""Data uniform on the sphere of radius r in d dimensions (von Mises-Fisher). With k = beta r |h|, n = h/|h|,

    log Z = -beta r^2/2 + log [Gamma(d/2) (2/k)^(d/2-1) I_{d/2-1}(k)]
    <y> = r A n,  A = I_{d/2}(k) / I_{d/2-1}(k)          C = r^2 [dA/dk n n^T + A/k (1 - n n^T)]

O(d) symmetry breaks at s = r^2/d: beta r^2 A/k = 1 at every ordered fixed point, the Goldstone modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastthermo._arrays import check_leading
from fastthermo.solvable.base import ClosedForm, Product, Sums, Tensor
from fastthermo.solvable.bessel import Ratios, ratios


@dataclass(frozen=True, eq=False)
class Sphere(ClosedForm):
    """Uniform on S^{d-1}(r), d >= 2. Made by `sphere`."""

    d: int
    r: float

    @property
    def dimension(self) -> int:
        return self.d

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        check_leading(k, self.d)
        return np.full(k, self.r**2 / self.d), np.eye(k, self.d)

    def draw(self, n: int, seed: int = 0) -> Any:
        z = np.random.default_rng(seed).standard_normal((n, self.d))
        return self.r * z / np.linalg.norm(z, axis=1, keepdims=True)

    def _ratios(self, h: Tensor, beta: Tensor) -> tuple[Tensor, Ratios]:
        """|h|, with a derivative of 0 at the origin, and the ratios at k = beta r |h|."""
        square = (h * h).sum(1)
        zero = square == 0
        length = torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())
        return length, ratios(self.d / 2 - 1, beta * self.r * length)

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        length, q = self._ratios(h, beta)
        r, k = self.r, beta * self.r * length
        distance = r - length
        gain = beta * r**2 * q.rho / self.d
        near = k < 1
        outward = (distance - r * q.gap) / torch.where(near, 1.0, length)
        return Sums(
            log_evidence=q.log_integral - beta * distance**2 / 2,
            mean=gain[:, None] * h,
            force=torch.where(near, gain - 1, outward)[:, None] * h,
            regularised_energy=distance**2 / 2 + r * length * q.gap,
            entropy=q.log_integral + k * q.gap,
            energy_variance=(r * length) ** 2 * q.slope,
        )

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        length, q = self._ratios(h, beta)
        across = (self.r**2 * q.rho / self.d)[:, None, None]
        along = (self.r**2 * q.slope)[:, None, None] - across
        n = (h / torch.where(length == 0, 1.0, length)[:, None])[:, None]
        return lambda v: across * v + along * (v * n).sum(2, keepdim=True) * n
