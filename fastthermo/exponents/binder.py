"""Binder's ratio U = 1 - <m^4> / (3 <m^2>^2) takes one value at T_c for all sizes: its curves cross there."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastthermo.regimes import Estimate

BOOTSTRAP = 200
SAME = 1e-14  # difference of ratios that are equal but for rounding, as far below T_c, where all are 2/3


def binder_ratio(m2: Any, m4: Any) -> np.ndarray:
    """1 - <m^4> / (3 <m^2>^2): 2/3 in an ordered phase, 0 for a Gaussian m, NaN for m = 0.

    Raises ValueError for negative moments.
    """
    m2, m4 = np.asarray(m2, dtype=np.float64), np.asarray(m4, dtype=np.float64)
    for name, moment in (("m2", m2), ("m4", m4)):
        if (moment < 0).any():
            raise ValueError(f"{name}: wanted averages of an even power, at least 0, got {moment.min()}")
    with np.errstate(invalid="ignore"):
        ratio: np.ndarray = 1 - m4 / (3 * m2**2)
    return ratio


def binder_crossings(
    control: Any, ratios: dict[float, Any], bootstrap: int = BOOTSTRAP, seed: int = 0
) -> dict[tuple[float, float], Estimate]:
    """Where the curves of neighbouring sizes cross: (size, next size) -> control at the crossing.

    Parameters
    ----------
    control : (T,), increasing.
    ratios : size -> (T,), or (R, T) of R independent replicas, which are resampled for the error; NaN error without.

    Monotone cubic interpolation (PCHIP) between the measurements. NaN where two curves do not cross; curves that only
    touch, or are equal far from T_c, do not.

    Raises
    ------
    ValueError for fewer than 2 sizes, fewer than 4 controls, controls that do not increase, and shapes that do not fit.
    """
    t = np.asarray(control, dtype=np.float64)
    curves = {size: np.atleast_2d(np.asarray(ratio, dtype=np.float64)) for size, ratio in sorted(ratios.items())}
    if len(curves) < 2:
        raise ValueError(f"ratios: wanted at least 2 sizes, got {len(curves)}")
    if t.ndim != 1 or len(t) < 4 or not (np.diff(t) > 0).all():
        raise ValueError(f"control: wanted at least 4 increasing numbers, got {control}")
    for size, curve in curves.items():
        if curve.shape[1:] != t.shape:
            raise ValueError(f"ratios: wanted {len(t)} values a row, as many as controls, got {curve.shape} at {size}")
    rng = np.random.default_rng(seed)
    drawn = {size: np.stack([curve.mean(0), *_resampled(curve, bootstrap, rng)]) for size, curve in curves.items()}
    found = {}
    for a, b in zip(list(drawn)[:-1], list(drawn)[1:], strict=True):
        rows = min(len(drawn[a]), len(drawn[b]))
        difference = drawn[b][:rows] - drawn[a][:rows]
        difference[np.abs(difference) < SAME] = 0
        at = _first_crossing(t, difference)
        error = float(np.nanstd(at[1:], ddof=1)) if np.isfinite(at[1:]).sum() > 1 else float("nan")
        found[a, b] = Estimate(float(at[0]), error)
    return found


def _resampled(curve: np.ndarray, bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Means over replicas drawn with replacement, (bootstrap, T); none for a single replica.

    Such means scatter by (n - 1)/n of the variance of a mean: their deviations are stretched.
    """
    n = len(curve)
    if n < 2:
        return curve[:0]
    mean = curve.mean(0)
    deviations = rng.multinomial(n, np.full(n, 1 / n), bootstrap) / n @ (curve - mean)
    means: np.ndarray = mean + np.sqrt(n / (n - 1)) * deviations
    return means


def _first_crossing(t: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """The first root along t of each row (rows, T); NaN without a change of sign."""
    from scipy.interpolate import PchipInterpolator
    from scipy.optimize.elementwise import find_root

    sign = np.sign(difference)
    before = np.maximum.accumulate(np.where(sign != 0, np.arange(len(t)), 0), axis=1)  # the last that is not 0
    change = np.take_along_axis(sign, before[:, :-1], 1) * sign[:, 1:] < 0
    crosses, i = change.any(1), change.argmax(1)
    coefficients = PchipInterpolator(t, difference, axis=1).c[:, i, np.arange(len(i))]  # (4, rows)

    def cubic(x: np.ndarray, row: np.ndarray) -> np.ndarray:
        value: np.ndarray = np.polyval(coefficients[:, row], x - t[i[row]])
        return value

    rows = np.flatnonzero(crosses)
    roots = np.full(len(difference), np.nan)
    if len(rows):
        roots[rows] = find_root(cubic, (t[i[rows]], t[i[rows] + 1]), args=(rows,)).x
    return roots
