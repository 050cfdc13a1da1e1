"""Laws of clean data whose thermodynamics is known in closed form: oracles for tests, theory for users.

Each is a law like an `Ensemble`: boltzmann, covariance, cumulant, mean, response, draw, principal, in float64 and from
beta = 1e-8 to 1e8.

    two_deltas      +-mu                        pitchfork at s = |mu|^2, a saddle-node for unequal weights
    simplex         q equidistant points        first order for q >= 3 (mean-field Potts)
    sphere          S^{d-1}(r)                  O(d) pitchfork at s = r^2/d
    gaussian        N(m, Sigma)                 no transition
    gaussian_mixture                            two at +-mu of variance v: s_c = |mu|^2 - v
    ising           phi ~ exp(y.W y / 2)        every coupling, to 20 spins
    ising_ring      nearest neighbours          s_c = (1+u)/(1-u) (1-u^n)/(1+u^n), u = tanh K
    curie_weiss     phi ~ exp(K M^2 / 2n)       s_c = 1/(1-K) for n -> inf; a uniform field at any n

Over any of them and over an Ensemble: `Bath`, many sites sharing one field, and `AssociativeMemory`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.solvable.base import ClosedForm, parameter, simplex_basis
from fastthermo.solvable.bath import Bath
from fastthermo.solvable.curie_weiss import CurieWeiss
from fastthermo.solvable.gaussian import Gaussian
from fastthermo.solvable.memory import AssociativeMemory, spherical_loads
from fastthermo.solvable.mixture import GaussianMixture
from fastthermo.solvable.ring import IsingRing
from fastthermo.solvable.sphere import Sphere
from fastthermo.solvable.spins import ising

__all__ = [
    "AssociativeMemory",
    "Bath",
    "ClosedForm",
    "CurieWeiss",
    "Gaussian",
    "GaussianMixture",
    "IsingRing",
    "Sphere",
    "curie_weiss",
    "gaussian",
    "gaussian_mixture",
    "ising",
    "ising_ring",
    "simplex",
    "sphere",
    "spherical_loads",
    "two_deltas",
]


def two_deltas(mu: Any, p: float = 0.5) -> GaussianMixture:
    """+mu with probability p, -mu with 1 - p; mu a number or (D,).

    <y> = mu tanh(a), C = mu mu^T / cosh(a)^2, a = beta h.mu + log(p/(1 - p))/2: a Curie-Weiss magnet, critical at
    s = |mu|^2 for p = 1/2.
    """
    if not 0 < p < 1:
        raise ValueError(f"p: wanted a probability between 0 and 1, got {p}")
    row = parameter("mu", mu, (0, 1)).reshape(1, -1)
    return gaussian_mixture(np.concatenate([row, -row]), 0.0, [p, 1 - p])


def simplex(q: int, r: float = 1.0) -> GaussianMixture:
    """q equidistant points of norm r, centred on the origin of q - 1 dimensions.

    For q >= 3 a first-order transition: the centre is unstable from beta r^2 = q - 1 and gives way at the Maxwell
    point beta r^2 = 2 (q-1)^2 log(q-1) / (q (q-2)) by a jump to r (q-2)/(q-1).
    """
    whole("q", q, 2)
    corners = simplex_basis(q, q - 1).T
    return gaussian_mixture(_positive("r", r) * np.sqrt(q / (q - 1)) * corners, 0.0)


def sphere(d: int, r: float = 1.0) -> ClosedForm:
    """Uniform on the sphere of radius r in d dimensions; for d = 1 the two points +-r.

    Order parameter (h*/r)^2 = (d + 2)/d (1 - s/s_c) near s_c = r^2/d.
    """
    radius = _positive("r", r)
    return two_deltas(radius) if whole("d", d, 1) == 1 else Sphere(int(d), radius)


def gaussian(cov: Any, mean: Any = None) -> Gaussian:
    """N(mean, cov): cov (D, D), (D,) for its diagonal, or a number; mean (D,), by default 0."""
    import torch

    sigma = parameter("cov", cov, (0, 1, 2))
    sigma = sigma if sigma.ndim == 2 else torch.diag(sigma.reshape(-1))
    if sigma.shape[0] != sigma.shape[1] or not torch.allclose(sigma, sigma.mT):
        raise ValueError(f"cov: wanted a symmetric matrix, got {tuple(sigma.shape)}")
    values, vectors = torch.linalg.eigh(sigma)
    if values[0] < -1e-12 * values[-1].abs():
        raise ValueError(f"cov: wanted no negative eigenvalues, got {float(values[0])}")
    centre = torch.zeros(len(sigma), dtype=sigma.dtype) if mean is None else parameter("mean", mean, (1,))
    if len(centre) != len(sigma):
        raise ValueError(f"mean: wanted {len(sigma)} numbers, got {len(centre)}")
    return Gaussian(centre, values.flip(0).clamp_min(0), vectors.mT.flip(0))


def gaussian_mixture(means: Any, var: Any, weights: Any = None) -> GaussianMixture:
    """sum_c pi_c N(mu_c, v_c 1): means (C, D), var a number or (C,), weights (C,), by default equal."""
    import torch

    mu, v = parameter("means", means, (2,)), parameter("var", var, (0, 1))
    pi = torch.ones(len(mu), dtype=mu.dtype) if weights is None else parameter("weights", weights, (1,))
    for name, x in (("var", v), ("weights", pi)):
        if x.ndim and len(x) != len(mu):
            raise ValueError(f"{name}: wanted {len(mu)} numbers, one a component, got {len(x)}")
        if (x < 0).any():
            raise ValueError(f"{name}: wanted no negative numbers, got {float(x.min())}")
    if not pi.any():
        raise ValueError("weights: wanted at least one positive number, got 0 throughout")
    kept = pi > 0
    return GaussianMixture(mu[kept], v.expand(len(mu))[kept].clone(), pi[kept] / pi.sum())


def ising_ring(n: int, K: float) -> IsingRing:
    """n spins on a ring with phi ~ exp(K sum y_i y_{i+1}), K of either sign, by transfer matrices."""
    if not np.isfinite(K):
        raise ValueError(f"K: wanted a finite number, got {K}")
    return IsingRing(whole("n", n, 2), float(K))


def curie_weiss(n: int, K: float) -> CurieWeiss:
    """n spins with phi ~ exp(K (sum y)^2 / 2n), K >= 0, in any field; `.symmetric()` in uniform fields, to n = 1e6.

    <y> = tanh((K + beta) <y>) for n -> inf. For K < 0 see `ising`.
    """
    if not 0 <= K < np.inf:
        raise ValueError(f"K: wanted a finite number, at least 0, got {K}; ising(W, K) takes any, to 20 spins")
    size = whole("n", n, 2)
    return CurieWeiss(size, float(K), size)


def _positive(name: str, x: float) -> float:
    if not 0 < x < float("inf"):
        raise ValueError(f"{name}: wanted a finite positive number, got {x}")
    return float(x)
