"""Critical times: where a diffusion's landscape around its symmetric point turns from one valley into several.

With the top gain beta lambda of the denoiser (the largest eigenvalue of beta C), forward drift f x and diffusion g:

    fixed_point   1 - beta lambda = 0                               F~ and log p_t lose convexity; scale-free
    sde_drift     f + g^2 (1 - beta lambda) / sigma^2 = 0           curvature of the reverse SDE's drift
    ode_drift     f + g^2 (1 - beta lambda) / (2 sigma^2) = 0       curvature of the probability flow
    speciation    Lambda alpha^2 = 1                                Biroli et al., arXiv:2402.18491

with Lambda the largest eigenvalue of the data covariance. The conventions differ by factors of order one in time, so
none is implied (Raya & Ambrogioni 2023; Ambrogioni, arXiv:2310.17467).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastthermo.process import Process, check_process
from fastthermo.response import susceptibility

CONVENTIONS = ("fixed_point", "sde_drift", "ode_drift", "speciation")
GRID = 64  # temperatures scanned for a change of sign
FINEST = 1e-7  # of log beta, at which an extremum is not told from its neighbours
ROOT = 1e-13  # relative tolerance of a time


def critical_time(model: Any, process: Process, convention: str = "fixed_point", field: Any = None) -> float:
    """The latest time (from noise) at which the convention's condition changes sign; NaN where it never does.

    Looked for at 64 times uniform in log beta, and on ever finer grids about those of them at which the condition comes
    near to a change of sign. What changes sign twice between two times is missed only where none of them shows an
    extremum, or one so flat that its neighbours are nearer to it than it is to zero.

    Parameters
    ----------
    model : a law or denoiser; or an ensemble split into classes, which is asked as a whole: the first of its classes
        part there. What parts within a class is asked of that class's own ensemble.
    convention : "fixed_point", "sde_drift", "ode_drift" or "speciation", which is NaN where alpha is the same at all t.
    field : where the gain is measured, (D,) or shaped like a state; by default the data mean. For a law symmetric about
        its mean that is a fixed point at every temperature and the result is its critical time; for other laws it is
        where the landscape at the mean loses convexity.

    Raises
    ------
    ValueError for another convention and a field of another size; TypeError for what is no process.
    """
    return critical_times(model, process, (convention,), field)[convention]


def critical_times(
    model: Any, process: Process, conventions: tuple[str, ...] = CONVENTIONS[:3], field: Any = None
) -> dict[str, float]:
    """`critical_time` for several conventions, with one scan of the gain over temperatures."""
    check_process(process)
    for convention in conventions:
        if convention not in CONVENTIONS:
            raise ValueError(f"convention: wanted one of {', '.join(CONVENTIONS)}, got {convention!r}")
    model = getattr(model, "whole", model)
    grid = process.times(GRID)
    found: dict[str, float] = {}
    if "speciation" in conventions:
        moves = process.alpha(process.t_min) != process.alpha(process.t_max)
        found["speciation"] = _speciation(model, process, grid) if moves else float("nan")
    local = [convention for convention in conventions if convention != "speciation"]
    if not local:
        return found
    point = np.asarray(model.data_mean if field is None else field, dtype=np.float64).reshape(1, -1)
    if point.shape[1] != model.dimension:
        raise ValueError(f"field: wanted {model.dimension} numbers, got {point.shape[1]}")
    gains = leading_gain(model, point, process.beta(grid), tolerance=1e-4)
    for convention in local:

        def curvature(t: Any, gain: Any, convention: str = convention) -> Any:
            """Of the drift, in units of g^2 / sigma^2 or half of that: as smooth in log beta as the gain is."""
            drifts = {"fixed_point": 0, "sde_drift": 1, "ode_drift": 2}[convention]
            return 1 - gain + drifts * process.drift(t) * process.sigma(t) ** 2 / process.diffusion(t)

        def exact(t: Any, curvature: Any = curvature) -> Any:
            return curvature(t, leading_gain(model, point, process.beta(t)))

        found[convention] = first_crossing(exact, process, grid, curvature(grid, gains))
    return found


def _speciation(model: Any, process: Process, grid: np.ndarray) -> float:
    variance = float(model.principal(1)[0][0])

    def excess(t: Any) -> Any:
        return variance * process.alpha(t) ** 2 - 1

    return first_crossing(excess, process, grid, excess(grid))


def leading_gain(model: Any, field: np.ndarray, beta: Any, tolerance: float = 1e-10) -> np.ndarray:
    """The largest eigenvalue of beta C at one field (1, D) and many beta (T,), or at (T, D): shape (T,)."""
    import torch

    betas = np.atleast_1d(np.asarray(beta, dtype=np.float64))
    h = torch.as_tensor(np.broadcast_to(field, (len(betas), field.shape[1])).copy(), device=model.device)
    values, _ = susceptibility(model, h, torch.as_tensor(betas, device=model.device)).leading(1, tolerance)
    gains: np.ndarray = values[:, 0].cpu().numpy()
    return gains


def first_crossing(function: Any, process: Process, times: np.ndarray, values: np.ndarray) -> float:
    """The first sign change of a function of t (T,) along `times`, where it takes `values`; NaN without one."""
    from scipy.optimize import brentq

    times, values = refined(function, process, times, values)
    sign = np.sign(values)
    change = np.flatnonzero(sign[:-1] * sign[1:] <= 0)
    if not len(change):
        return float("nan")
    i = change[0]
    if sign[i] == 0:
        return float(times[i])
    known = dict(zip(times[i : i + 2], values[i : i + 2], strict=True))  # at a graze rounding may change a sign

    def at(t: float) -> float:
        return float(known[t] if t in known else function(np.array([t]))[0])

    return float(brentq(at, times[i + 1], times[i], xtol=ROOT * times[i], rtol=ROOT))


def refined(function: Any, process: Process, times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values with those put between that may show a change of sign before the first one on the grid.

    Halves the cells about each time at which |values| is least among its neighbours, as long as it is nearer to zero
    there than to the farther of them; a parabola would go beyond it by at most an eighth of the latter distance.
    """
    x = np.log(process.beta(times))
    while True:
        sign, size = np.sign(values), np.abs(values)
        ahead = np.append(np.flatnonzero(sign != sign[0]), len(x))[0]
        same = size[:ahead]
        left, here, right = same[:-2], same[1:-1], same[2:]
        near = (here <= left) & (here <= right) & (here < np.maximum(left, right) - here)
        i = 1 + np.flatnonzero(near)
        cells = np.union1d(i - 1, i)
        cells = cells[np.diff(x)[cells] > FINEST]
        if not len(cells):
            return times, values
        middle = (x[cells] + x[cells + 1]) / 2
        between = process.time(np.exp(middle))
        x, times, values = (
            np.insert(old, cells + 1, new) for old, new in ((x, middle), (times, between), (values, function(between)))
        )
