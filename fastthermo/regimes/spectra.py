"""Spectra of the score Jacobian and the dimension of the data that they imply.

    J = (beta C - 1) / sigma^2        gains g of beta C:  sigma^2 J = g - 1

Near a manifold of dimension d, cooler than its extent and warmer than the distance of neighbours, d gains are near 1
(the score is flat along the manifold) and the rest near 0 (it pushes back): d is where the spectrum has its gap.
Colder, an empirical law loses its directions one after the other and ends with none, d = 0: memorisation seen from the
spectrum (Achilli et al., arXiv:2410.08727; Ventura et al., arXiv:2410.05898).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastthermo.process import Process, check_process
from fastthermo.regimes.averages import Estimate, at_times, average, check_number, host, law_like, noised_field
from fastthermo.response import susceptibility


class Spectrum(NamedTuple):
    """Eigenvalues along noised data, decreasing: gains of beta C and those of the score Jacobian, (n, D) or (n, k)."""

    gains: np.ndarray
    score: np.ndarray


class Dimension(NamedTuple):
    """Estimates of the dimension of the data, at one time or (T,)."""

    gap: Estimate  # gains above the largest gap of the spectrum of beta C
    trace: Estimate  # E tr(beta C) = beta mmse, the mmse dimension
    singular: Estimate  # score vectors about one point: directions in which they vanish


def jacobian_spectrum(
    model: Any, process: Process, t: float, n: int = 16, seed: int = 0, k: int | None = None
) -> Spectrum:
    """Eigenvalues of beta C and of the score Jacobian at n noised data, decreasing, (n, D).

    model : a law, or a denoiser of one; its response must be symmetric.
    k : only the largest k, (n, k), by Lanczos where that is cheaper.
    """
    field = noised_field(model, process, t, model.draw(n, seed), seed)
    return spectrum_at(model, process, t, field, k)


def spectrum_at(model: Any, process: Process, t: float, field: Any, k: int | None = None) -> Spectrum:
    """The spectrum at fields (n, ...)."""

    chi = susceptibility(model, field, float(process.beta(t)))
    gains = host(chi.leading(k)[0] if k is not None else chi.gains())
    return Spectrum(gains, (gains - 1) / float(process.sigma(t)) ** 2)


def gap_dimension(gains: Any, complete: bool = True) -> np.ndarray:
    """The number of gains (..., D), decreasing, above the largest gap between neighbours: (...,) int.

    Gains are taken between 0 and 1, with a 1 before the first, so that no direction (memorised, or lost in noise) is an
    answer, and a 0 after the last where the spectrum is complete, so that all of them is one.
    """
    g = np.clip(np.asarray(gains, dtype=np.float64), 0, 1)
    ends = [np.ones((*g.shape[:-1], 1)), g, *([np.zeros((*g.shape[:-1], 1))] if complete else [])]
    return np.argmax(-np.diff(np.concatenate(ends, -1), axis=-1), -1)


def score_singular_values(
    model: Any, process: Process, t: float, n: int = 8, copies: int | None = None, seed: int = 0
) -> np.ndarray:
    """Singular values (n, D), decreasing, of sigma score / sqrt(K) at K noised copies of each of n data.

    Directions off the data have 1, directions along them less: the score does not resist them. Copies are noised by the
    rows of random orthogonal matrices of length sqrt(D), so that K = D of them are enough for those ones to be exact.
    (Stanczuk, Batzolis, Deveney & Schonlieb, arXiv:2212.12611, with independent noise.)

    copies : K, a multiple of D; D by default.
    """
    check_process(process)
    size = model.dimension
    blocks, rest = divmod(size if copies is None else copies, size)
    if rest or blocks < 1:
        raise ValueError(f"copies: wanted a multiple of the dimension {size}, got {copies}")
    y = host(model.draw(n, seed)).reshape(n, 1, size).astype(np.float64)
    rng = np.random.default_rng(seed)
    z = np.linalg.qr(rng.normal(size=(n * blocks, size, size)))[0].reshape(n, blocks * size, size) * np.sqrt(size)
    beta = float(process.beta(t))
    field = (y + z / np.sqrt(beta)).reshape(-1, size)
    mean = host(model.mean(law_like(model, field), beta))
    scores = np.sqrt(beta) * (mean.reshape(field.shape) - field).reshape(z.shape)  # sigma score
    values: np.ndarray = np.linalg.svd(scores / np.sqrt(blocks * size), compute_uv=False)
    return values


def singular_dimension(values: Any) -> np.ndarray:
    """Directions left out by singular values (..., D): those past their largest drop, (...,) int."""
    return gap_dimension(1 - np.asarray(values)[..., ::-1])


def manifold_dimension(model: Any, process: Process, t: Any, n: int = 16, seed: int = 0) -> Dimension:
    """The dimension of the data at t, a scalar or (T,), as the mean over n noised data (8 for singular values)."""
    check_number(n)

    def at(s: float) -> Estimate:
        gains = jacobian_spectrum(model, process, s, n, seed).gains
        singular = singular_dimension(score_singular_values(model, process, s, min(n, 8), seed=seed))
        return Estimate(*np.transpose([average(x) for x in (gap_dimension(gains), gains.sum(-1), singular)]))

    return Dimension(*(Estimate(*pair) for pair in np.moveaxis(np.array(at_times(process, t, at)), -1, 0)))
