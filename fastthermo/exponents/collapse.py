"""Finite-size scaling: one curve f behind all sizes, y(T, L) = L^-kappa f((T - T_c) L^(1/nu)).

f is a Gaussian process, and T_c, 1/nu and kappa maximise the likelihood of the data as measured, not as scaled: the
Jacobian of y -> y L^kappa stays (Harada, Phys. Rev. E 84, 056704, 2011). Statistical errors are Laplace's, or a
bootstrap's where there are replicas; what the smaller and the larger half of the sizes disagree by is the systematic
one (that of corrections falling by 2 from half to half).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastthermo.exponents.quality import houdayer_hartmann
from fastthermo.regimes import Estimate

LENGTHS = (0.3, 1.0)  # starts of the process's length, in standard deviations of the scaled control
INVERSE_NU = (0.5, 1.0)  # starts of 1/nu
JITTER = 1e-10
NAMES = ("critical", "inverse_nu", "kappa")


@dataclass(frozen=True, eq=False)
class Collapse:
    """A data collapse. kappa is beta/nu of an order parameter, -gamma/nu of a susceptibility, 0 of a ratio."""

    critical: Estimate  # T_c; this and the next two with the statistical error alone
    inverse_nu: Estimate
    kappa: Estimate
    systematic: dict[str, float]  # by name: what the two halves of the sizes disagree by
    quality: float  # S of Houdayer and Hartmann
    size: np.ndarray  # (n,)
    x: np.ndarray  # (n,) scaled control
    y: np.ndarray  # (n,) scaled observable, and its error
    y_error: np.ndarray
    curve: Callable[[Any], tuple[np.ndarray, np.ndarray]]  # x -> mean and standard deviation of f

    def estimate(self, name: str) -> Estimate:
        """ "critical", "inverse_nu" or "kappa" with its statistical and systematic standard error together."""
        value, statistical = getattr(self, name)
        return Estimate(value, math.hypot(statistical, self.systematic[name]))

    def __str__(self) -> str:
        rows = [
            f"{name:12}{value:.6g} ± {error:.2g} (statistical) ± {self.systematic[name]:.2g} (halves of the sizes)"
            for name in NAMES
            for value, error in [getattr(self, name)]
        ]
        return "\n".join([*rows, f"{'S':12}{self.quality:.3g} (Houdayer-Hartmann, 1 for a collapse within errors)"])


def collapse(
    control: Any,
    size: Any,
    value: Any,
    error: Any = None,
    kappa: float | None = None,
    start: tuple[float, float, float] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Collapse:
    """Find T_c, 1/nu and kappa from an observable at many controls and sizes.

    Parameters
    ----------
    control, size : (n,) temperature (or another control) and linear size, or number of sites, of each measurement.
    value : (n,), or (R, n) of R replicas whose mean is fitted.
    error : (n,) standard errors besides the scatter of replicas; needed where there is one replica only.
    kappa : its value where known, 0 for a Binder ratio.
    start : T_c, 1/nu, kappa to search from; by default several.
    bootstrap : resamplings of the replicas, at least 2, for the statistical error, which is too small with fewer than
        5 replicas; 0 takes the likelihood's curvature.

    Raises
    ------
    ValueError for shapes that do not fit, fewer than 3 sizes, fewer than 5 measurements a size, or a bootstrap of one
    resampling or of one replica.
    """
    data = _read(control, size, value, error)
    if bootstrap and (bootstrap < 2 or len(data.rows) < 2):
        raise ValueError(
            f"bootstrap: wanted at least 2 resamplings of at least 2 replicas, got {bootstrap} of {len(data.rows)}"
        )
    best = _search(data, kappa, _starts(data, kappa, start))
    sizes = np.unique(data.size)
    halves = (sizes[: (len(sizes) + 1) // 2], sizes[len(sizes) // 2 :])
    small, large = (_search(data.subset(np.isin(data.size, half)), kappa, best[None]) for half in halves)
    if bootstrap:
        drawn = np.random.default_rng(seed).integers(0, len(data.rows), (bootstrap, len(data.rows)))
        fits = np.stack([_search(data.resampled(index), kappa, best[None])[:3] for index in drawn])
        replicas = len(data.rows)  # their resampled means scatter by (R - 1)/R of the variance of a mean
        deviation = fits.std(0, ddof=1) * math.sqrt(replicas / (replicas - 1))
    else:
        deviation = _laplace(data, kappa, best)
    if kappa is not None:
        deviation[2] = 0.0
    x, y, y_error = data.scaled(best)
    shift = dict(zip(NAMES, np.abs(small[:3] - large[:3]).tolist(), strict=True))
    deviation[0] *= data.unit
    shift["critical"] *= data.unit
    return Collapse(
        critical=Estimate(data.critical(best), float(deviation[0])),
        inverse_nu=Estimate(float(best[1]), float(deviation[1])),
        kappa=Estimate(float(best[2]), float(deviation[2])),
        systematic=shift,
        quality=houdayer_hartmann(x, y, y_error, data.size),
        size=data.size,
        x=x,
        y=y,
        y_error=y_error,
        curve=_curve(data, best),
    )


@dataclass(frozen=True)
class _Data:
    """Measurements, and the unit of the control in which T_c is searched, from the origin."""

    control: np.ndarray
    size: np.ndarray
    rows: np.ndarray  # (R, n)
    extra: np.ndarray  # (n,) errors besides the scatter of rows
    origin: float
    unit: float

    @property
    def value(self) -> np.ndarray:
        return self.rows.mean(0)

    @property
    def error(self) -> np.ndarray:
        scatter = self.rows.std(0, ddof=1) / math.sqrt(len(self.rows)) if len(self.rows) > 1 else 0.0
        return np.hypot(self.extra, scatter)

    def subset(self, keep: np.ndarray) -> _Data:
        return _Data(self.control[keep], self.size[keep], self.rows[:, keep], self.extra[keep], self.origin, self.unit)

    def resampled(self, index: np.ndarray) -> _Data:
        return _Data(self.control, self.size, self.rows[index].mean(0)[None], self.error, self.origin, self.unit)

    def critical(self, p: np.ndarray) -> float:
        return float(self.origin + self.unit * p[0])

    def scaled(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(T - T_c) L^(1/nu), y L^kappa and its error."""
        factor = self.size ** p[2]
        return (self.control - self.critical(p)) * self.size ** p[1], self.value * factor, self.error * factor


def _read(control: Any, size: Any, value: Any, error: Any) -> _Data:
    t, n = (np.asarray(v, dtype=np.float64) for v in (control, size))
    rows = np.atleast_2d(np.asarray(value, dtype=np.float64))
    if t.ndim != 1 or n.shape != t.shape or rows.shape[1:] != t.shape:
        raise ValueError(
            f"value: wanted shape (n,) or (R, n) as control {t.shape} and size {n.shape}, got {rows.shape}"
        )
    if error is None and len(rows) < 2:
        raise ValueError("error: wanted standard errors (n,), or at least 2 replicas in value, got neither")
    extra = np.broadcast_to(np.asarray(0.0 if error is None else error, dtype=np.float64), t.shape)
    if not all(np.isfinite(v).all() for v in (t, n, rows, extra)) or not (n > 0).all():
        raise ValueError("control, size, value, error: wanted finite numbers and positive sizes")
    sizes, counts = np.unique(n, return_counts=True)
    if len(sizes) < 3 or counts.min() < 5:
        got = ", ".join(f"{count} at {size:g}" for size, count in zip(sizes, counts, strict=True))
        raise ValueError(f"size: wanted at least 3 sizes with 5 measurements each, got {got}")
    data = _Data(t, n, rows, extra, float(t.mean()), float(t.std()))
    if not (data.error > 0).all():
        raise ValueError(f"error: wanted positive standard errors, got 0 at {int((data.error <= 0).argmax())}")
    return data


def _starts(data: _Data, kappa: float | None, start: tuple[float, float, float] | None) -> np.ndarray:
    """Where searches begin, (S, 6): T_c, 1/nu, kappa, and logarithms of the process's height, length and noise."""
    sizes = np.unique(data.size)
    level = [np.abs(data.value[data.size == size]).mean() for size in sizes]
    growth = float(np.polyfit(np.log(sizes), np.log(level), 1)[0]) if min(level) > 0 else 0.0
    guesses = (0.0, -growth) if kappa is None else (kappa,)
    centres = [(0.0, nu, guess) for nu in INVERSE_NU for guess in guesses]
    if start is not None:
        centres = [((start[0] - data.origin) / data.unit, *start[1:])]
    return np.array([[*centre, 0.0, math.log(length), math.log(1e-2)] for centre in centres for length in LENGTHS])


def _loss(data: _Data, kappa: float | None) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Minus the log likelihood of the measurements and its gradient, as a function of the six parameters."""
    from scipy.linalg import cho_factor, cho_solve

    t, value, error = (data.control - data.origin) / data.unit, data.value, data.error
    a = np.log(data.size) - np.log(data.size).mean()  # sizes in units of their mean decouple the parameters
    centre = np.array([0, 0, 0, 0, 0, math.log(1e-3)])  # of weak priors, which bound what the data do not
    width = np.array([np.inf, np.inf, np.inf, 3, 3, 3])

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        x = (t - p[0]) * np.exp(p[1] * a)
        factor = np.exp((p[2] if kappa is None else kappa) * a) / value.std()
        y, noise = value * factor, error * factor
        height, length, extra = np.exp(p[3:])
        spread = x.std()
        z = x / (spread * length)
        distance = z[:, None] - z
        smooth = height**2 * np.exp(-0.5 * distance**2)
        floor = (extra**2 + JITTER) * height**2
        covariance = smooth + np.diag(noise**2 + floor)
        root = cho_factor(covariance, lower=True)
        r = y - y.mean()
        inverse = cho_solve(root, np.eye(len(r)))
        alpha = inverse @ r
        nll = 0.5 * r @ alpha + np.log(root[0].diagonal()).sum() - np.log(factor).sum()

        slope = (inverse - np.outer(alpha, alpha)) / 2  # d nll / d covariance
        by_z = -2 * (slope * smooth * distance).sum(1)

        def along(dx: np.ndarray) -> float:  # d nll for a change of x
            stretch = ((x - x.mean()) * (dx - dx.mean())).mean() / spread**2
            return float(by_z @ (dx / (spread * length) - z * stretch))

        diagonal = slope.diagonal()
        gradient = np.array(
            [
                along(-np.exp(p[1] * a)),
                along(a * x),
                alpha @ (a * y - (a * y).mean()) + 2 * diagonal @ (a * noise**2) - a.sum() if kappa is None else 0.0,
                2 * ((slope * smooth).sum() + floor * diagonal.sum()),
                (slope * smooth * distance**2).sum(),
                2 * extra**2 * height**2 * diagonal.sum(),
            ]
        )
        prior = (p - centre) / width
        return float(nll + 0.5 * prior @ prior), gradient + prior / width

    return loss


def _search(data: _Data, kappa: float | None, starts: np.ndarray) -> np.ndarray:
    """The six parameters that maximise the likelihood, from the best of several starts."""
    from scipy.optimize import minimize

    loss = _loss(data, kappa)
    low, high = ((end - data.origin) / data.unit for end in (data.control.min(), data.control.max()))
    bounds = [(low, high), (0.01, 10), (-10, 10), (-6, 6), (-4, 4), (-12, 2)]
    found = [minimize(loss, p, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300}) for p in starts]
    best: np.ndarray = min(found, key=lambda result: result.fun).x.copy()
    if kappa is not None:
        best[2] = kappa
    return best


def _laplace(data: _Data, kappa: float | None, best: np.ndarray) -> np.ndarray:
    """Standard errors of T_c, 1/nu, kappa from the curvature of the log likelihood."""
    loss, step = _loss(data, kappa), 1e-4 * np.eye(len(best))
    curvature = np.stack([(loss(best + e)[1] - loss(best - e)[1]) / 2e-4 for e in step])
    curvature = (curvature + curvature.T) / 2
    if kappa is not None:
        curvature[2, 2] = 1.0
    covariance = np.linalg.pinv(curvature, hermitian=True)
    deviation: np.ndarray = np.sqrt(np.maximum(covariance.diagonal()[:3], 0))
    return deviation


def _curve(data: _Data, best: np.ndarray) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """The Gaussian process behind the scaled data, as a function."""
    from scipy.linalg import cho_factor, cho_solve

    x, y, noise = data.scaled(best)
    middle = math.exp(np.log(data.size).mean())
    unit = data.value.std() * middle ** best[2]  # of heights in _loss
    height, length, extra = np.exp(best[3:]) * np.array([unit, x.std(), 1.0])

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return height**2 * np.exp(-0.5 * ((a[:, None] - b) / length) ** 2)

    factor = cho_factor(kernel(x, x) + np.diag(noise**2 + (extra**2 + JITTER) * height**2))
    level = y.mean()

    def curve(at: Any) -> tuple[np.ndarray, np.ndarray]:
        at = np.asarray(at, dtype=np.float64)
        cross = kernel(at, x)
        mean = level + cross @ cho_solve(factor, y - level)
        variance = height**2 - np.einsum("ij,ji->i", cross, cho_solve(factor, cross.T))
        return mean, np.sqrt(np.maximum(variance, 0))

    return curve
