"""The data under their prior weights: the law at infinite temperature."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import check_leading

if TYPE_CHECKING:
    import torch

DENSE = 1024  # dimensions up to which the data covariance is diagonalised densely


class Prior:
    """Sizes, mean, variance and principal components of the data, scale * states + shift."""

    log_weights: Any
    scale: float
    shift: float
    _core: Any  # ops.States, or ops.Divided

    @property
    def size(self) -> int:
        """N, the number of states."""
        return self._core.size

    @property
    def dimension(self) -> int:
        """D, the number of coordinates of a state."""
        return self._core.dimension

    @cached_property
    def prior_entropy(self) -> float:
        """-sum phi log phi in nats: log N for equal weights."""
        if self.log_weights is None:
            return math.log(self.size)
        log_phi = self._core.log_weights.cpu().numpy()
        held = log_phi[log_phi > -np.inf]
        return float(-np.exp(held) @ held)

    @property
    def device(self) -> torch.device:
        return self._core.device

    @cached_property
    def data_mean(self) -> np.ndarray:
        """sum phi y, shape (D,) float64, read-only."""
        total = self._core.total(lambda y, phi: phi @ y)
        mean = self.scale * total.cpu().numpy() + self.shift
        mean.flags.writeable = False  # of all who ask
        return mean

    @cached_property
    def data_variance(self) -> float:
        """tr Cov of the data."""
        centre = self._centre()
        return self.scale**2 * float(self._core.total(lambda y, phi: phi @ (y - centre).square().sum(1)))

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The k largest eigenvalues (k,) of the data covariance, decreasing, and unit eigenvectors (k, D).

        A ValueError where k is not from 1 to D.
        """
        check_leading(k, self.dimension)
        if self.dimension <= DENSE or 4 * k > self.dimension:
            values, vectors = self._components
        else:
            values, vectors = self._leading(k)
        return self.scale**2 * values[::-1][:k], vectors.T[::-1][:k].copy()

    def _leading(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the k largest eigenvalues, as `_components` are."""
        import torch
        from scipy.sparse.linalg import LinearOperator, eigsh

        size, unit = self.dimension, self.data_variance / self.scale**2
        if not unit:
            return np.zeros(k), np.eye(size, k)

        def matvec(v: np.ndarray) -> np.ndarray:
            return self._covary(torch.as_tensor(v / unit, device=self.device).reshape(size, -1)).cpu().numpy()

        # in units of their sum, as eigenvalues below 4e-11 are not told from 0; from a start that no data are across to
        operator = LinearOperator((size, size), matvec=matvec, matmat=matvec, dtype=np.float64)
        values, vectors = eigsh(operator, k, v0=np.random.default_rng(0).standard_normal(size))
        return unit * values, vectors

    @cached_property
    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, increasing, and eigenvectors of the covariance of the states, asked by every Gaussian start."""
        import torch

        unit = torch.eye(self.dimension, dtype=torch.float64, device=self.device)
        values, vectors = np.linalg.eigh(self._covary(unit).cpu().numpy())
        return values, vectors

    def _covary(self, v: torch.Tensor) -> torch.Tensor:
        """The covariance of the states times v (D, m)."""
        centre = self._centre()
        return self._core.total(lambda y, phi: (y - centre).T @ (phi[:, None] * ((y - centre) @ v)))

    def _centre(self) -> torch.Tensor:
        """The mean of the states as they are stored."""
        import torch

        return torch.as_tensor((self.data_mean - self.shift) / self.scale, device=self.device)
