"""Power laws near a critical point, y = A x^p (1 + c_1 x^w + c_2 x^2w + ...), with no window chosen by hand.

Each fit is linear in log y. All contiguous windows, at every order of the correction to scaling, are averaged with
weights proportional to p-value / variance (Beane et al., arXiv:2009.12357), where the variance includes the square of
what one more order changes. This and the spread of their exponents is the systematic error; the covariance of the mean
over replicas gives the statistical one. Two things make windows of sampled data honest. Points of one replica are
correlated over x: chi^2 is brought to an effective number of degrees of freedom by its first two moments (Satterthwaite
1946). And where replicas scatter by a fraction v^(1/2), the mean is rounded off by the order of v,
however many replicas there are: v is an error of every point, and of the slope.

All of these are meant to be too large rather than too small. The statistical error alone is 2 to 5 times too small,
since it takes the windows as given; of both together exponents miss by a third to a half, on power laws with a
correction and 1 to 20 % of noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

ORDERS = 4  # of the correction to scaling: 0 to 3
FREEDOM = 2  # least degrees of freedom of a fit
CLEAR = 4.0  # standard errors by which a mean exceeds zero where its logarithm is taken


class Fit(NamedTuple):
    """One fit: y = amplitude x^exponent exp(c_1 x^w + c_2 x^2w + ...) for x in the window."""

    exponent: float
    amplitude: float
    correction: np.ndarray  # c_1, c_2, ...
    power: float  # w
    window: tuple[float, float]
    p_value: float

    def __call__(self, x: Any) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        series = sum((c * x ** (self.power * k) for k, c in enumerate(self.correction, 1)), np.zeros_like(x))
        return self.amplitude * x**self.exponent * np.exp(series)


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """The exponent p of y ~ x^p as x -> 0, its errors, and what they rest on. Made by `power_law`."""

    exponent: float
    statistical: float  # standard error, over replicas or from the errors given
    systematic: float  # over windows, by the next order of the correction, and by rounding from scattered replicas
    replicas: int
    heaviest: Fit
    x: np.ndarray  # (T,) where y is clear of zero, with mean and standard error
    y: np.ndarray
    y_error: np.ndarray

    @property
    def error(self) -> float:
        """Statistical and systematic standard error together."""
        return math.hypot(self.statistical, self.systematic)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the exponent: Student's, replicas - 1 degrees of freedom for the statistical part."""
        from scipy.stats import norm, t

        if not 0 < level < 1:
            raise ValueError(f"level: wanted a number between 0 and 1, got {level}")
        quantile = (1 + level) / 2
        if self.replicas > 1 and self.statistical > 0:  # Welch and Satterthwaite
            reach = t.ppf(quantile, (self.replicas - 1) * (self.error / self.statistical) ** 4)
        else:
            reach = norm.ppf(quantile)
        return self.exponent - float(reach) * self.error, self.exponent + float(reach) * self.error


def power_law(x: Any, y: Any, error: Any = None, correction: float = 1.0, name: str = "y", axis: str = "x") -> PowerLaw:
    """Fit y ~ x^p as x -> 0.

    Parameters
    ----------
    x : (T,) distances from the critical point; points at x <= 0 are left out.
    y : (T,), or (R, T) of R independent replicas, whose mean is fitted; points where that is NaN are left out.
    error : (T,) standard errors besides the scatter of replicas; needed where there is one replica only.
    correction : w > 0, the power of the leading correction to scaling.
    name, axis : what y and x are called in errors.

    Raises
    ------
    ValueError for shapes that do not fit, negative errors, a correction not above 0, and for a window too small to fit;
    it names what is missing.
    """
    if not 0 < correction < math.inf:
        raise ValueError(f"correction: wanted a finite positive number, got {correction}")
    x, y, error = _read(x, y, error, name, axis)
    replicas = len(y)
    mean = y.mean(0)
    deviation = y - mean
    covariance = deviation.T @ deviation / max(replicas * (replicas - 1), 1)
    covariance += np.diag(error**2 + (np.finfo(float).eps * mean) ** 2)
    clear = (x > 0) & (mean > CLEAR * np.sqrt(np.diag(covariance)))
    _check_window(x, clear, name, axis)

    x, mean, covariance = x[clear], mean[clear], covariance[np.ix_(clear, clear)] / np.outer(mean[clear], mean[clear])
    rounding = covariance.diagonal() * (replicas if replicas > 1 else 0)
    scale = float(x.max())
    corrections = [(x / scale) ** (k * correction) for k in range(1, ORDERS + 1)]
    basis = np.stack([np.ones_like(x), np.log(x / scale), *corrections], 1)
    fits = _fit_windows(basis, np.log(mean), covariance, rounding)
    slope, average = fits.coefficients[:, 1], fits.weight @ fits.slopes
    exponent = float(fits.weight @ slope)
    spread = float(fits.weight @ ((slope - exponent) ** 2 + fits.truncation**2))
    best = int(fits.weight.argmax())
    inside = x[fits.masks[best]]
    a, p, *c = fits.coefficients[best]
    heaviest = Fit(
        exponent=float(p),
        amplitude=float(np.exp(a) * scale**-p),
        correction=np.array([ck * scale ** -(k * correction) for k, ck in enumerate(c, 1)]),
        power=correction,
        window=(float(inside.min()), float(inside.max())),
        p_value=float(fits.p_value[best]),
    )
    return PowerLaw(
        exponent=exponent,
        statistical=math.sqrt(float(average @ covariance @ average)),
        systematic=math.sqrt(spread + float(average @ rounding) ** 2),
        replicas=replicas,
        heaviest=heaviest,
        x=x,
        y=mean,
        y_error=np.sqrt(covariance.diagonal()) * mean,
    )


def _read(x: Any, y: Any, error: Any, name: str, axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (T,), y (R, T), error (T,), by increasing x."""
    x, y = np.asarray(x, dtype=np.float64), np.atleast_2d(np.asarray(y, dtype=np.float64))
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x):
        raise ValueError(f"{name}: wanted shape (replicas, {axis}) with {axis} of shape {x.shape}, got {y.shape}")
    if error is None and len(y) < 2:
        raise ValueError(f"{name}: wanted at least 2 replicas or {name}_error for error bars, got one replica without")
    error = np.broadcast_to(np.asarray(0.0 if error is None else error, dtype=np.float64), x.shape)
    if (error < 0).any():
        raise ValueError(f"{name}_error: wanted standard errors of at least 0, got {error.min()}")
    order = np.argsort(x)
    return x[order], y[:, order], error[order]


def _check_window(x: np.ndarray, clear: np.ndarray, name: str, axis: str) -> None:
    """Raise where fewer than 2 + FREEDOM points can be fitted, saying which are missing."""
    needed, found = 2 + FREEDOM, int(clear.sum())
    if found >= needed:
        return
    span = f" in [{x.min():.3g}, {x.max():.3g}]" if len(x) else ""
    remedy = (
        f"add values of {axis} > 0"
        if (x > 0).sum() < needed
        else f"elsewhere {name} is not {CLEAR:.0f} errors above 0: add replicas or values of {axis} where it is"
    )
    raise ValueError(
        f"{name}: wanted at least {needed} values of {axis} > 0 with {name} clear of 0, "
        f"got {found} of {len(x)}{span}; {remedy}"
    )


class _Windows(NamedTuple):
    """F fits of T points, each in a window at an order of the correction."""

    masks: np.ndarray  # (F, T)
    slopes: np.ndarray  # (F, T): the exponent is slopes @ log y
    coefficients: np.ndarray  # (F, 1 + ORDERS), zero beyond a fit's order
    weight: np.ndarray  # (F,), sum 1
    p_value: np.ndarray  # (F,)
    truncation: np.ndarray  # (F,): what one more order of the correction adds to the slope


def _fit_windows(basis: np.ndarray, log_y: np.ndarray, covariance: np.ndarray, rounding: np.ndarray) -> _Windows:
    """Weighted least squares of log y in the columns of the basis (T, P), over all windows and orders at once."""
    from scipy.stats import chi2 as distribution

    points = len(log_y)
    noise = covariance + np.diag(rounding**2)
    sigma = np.sqrt(noise.diagonal())
    correlation = noise / np.outer(sigma, sigma)
    first, last = np.triu_indices(points)
    masks = (np.arange(points) >= first[:, None]) & (np.arange(points) <= last[:, None])
    rows = []
    for parameters in range(2, basis.shape[1]):
        inside = masks[masks.sum(1) >= parameters + FREEDOM]
        design = inside[..., None] * (basis[:, :parameters] / sigma[:, None])  # (F, T, P)
        inverse = np.linalg.pinv(design)
        residual = inside[:, None] * np.eye(points) - design @ inverse
        chi2 = ((residual @ (log_y / sigma)) ** 2).sum(1)
        spread = residual @ correlation @ residual
        first_moment, second_moment = np.trace(spread, axis1=1, axis2=2), (spread**2).sum((1, 2))
        chi2, freedom = chi2 * first_moment / second_moment, first_moment**2 / second_moment
        maps = inverse / sigma
        further = inside[..., None] * (basis[:, : parameters + 1] / sigma[:, None])
        truncation = ((np.linalg.pinv(further)[:, 1] / sigma) - maps[:, 1]) @ log_y
        slopes, coefficients = maps[:, 1], np.pad(maps @ log_y, ((0, 0), (0, basis.shape[1] - parameters)))
        variance = np.einsum("ft,tu,fu->f", slopes, covariance, slopes) + (slopes @ rounding) ** 2 + truncation**2
        log_weight = _log_survival(chi2, freedom) - np.log(variance)
        rows.append((inside, slopes, coefficients, log_weight, distribution.sf(chi2, freedom), truncation))
    inside, slopes, coefficients, log_weight, p_value, truncation = (
        np.concatenate(row) for row in zip(*rows, strict=True)
    )
    weight = np.exp(log_weight - log_weight.max())
    return _Windows(inside, slopes, coefficients, weight / weight.sum(), p_value, truncation)


def _log_survival(chi2: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """log P(X > chi2), and where that is below 1e-308 its asymptote: fits that are all bad are told apart as well."""
    from scipy.special import gammaln
    from scipy.stats import chi2 as distribution

    found, half = distribution.logsf(chi2, freedom), np.maximum(chi2, 1) / 2
    far = (freedom / 2 - 1) * np.log(half) - half - gammaln(freedom / 2)
    return np.where(np.isfinite(found), found, far)
