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
ROOT = 1e-13  # relative tolerance of a time


def critical_time(model: Any, process: Process, convention: str = "fixed_point", field: Any = None) -> float:
    """The latest time (from noise) at which the convention's condition changes sign; NaN where it never does.

    Parameters
    ----------
    model : a law or denoiser; or an ensemble split into classes, which is asked as a whole: the first of its classes
        part there. What parts within a class is asked of that class's own ensemble.
    convention : "fixed_point", "sde_drift", "ode_drift" or "speciation".
    field : where the gain is measured, (D,) or shaped like a state; by default the data mean. For a law symmetric about
        its mean that is a fixed point at every temperature and the result is its critical time; for other laws it is
        where the landscape at the mean loses convexity.
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
        if process.alpha(process.t_min) == process.alpha(process.t_max):
            raise ValueError("convention: speciation needs an alpha that falls with time; with alpha = 1 there is none")
        variance = float(model.principal(1)[0][0])

        def excess(t: Any) -> Any:
            return variance * process.alpha(t) ** 2 - 1

        found["speciation"] = first_crossing(excess, grid, excess(grid))
    local = [convention for convention in conventions if convention != "speciation"]
    if not local:
        return found
    point = np.asarray(model.data_mean if field is None else field, dtype=np.float64).reshape(1, -1)
    if point.shape[1] != model.dimension:
        raise ValueError(f"field: wanted {model.dimension} numbers, got {point.shape[1]}")
    gains = leading_gain(model, point, process.beta(grid), tolerance=1e-4)
    for convention in local:

        def curvature(t: Any, gain: Any, convention: str = convention) -> Any:
            if convention == "fixed_point":
                return 1 - gain
            g2 = process.diffusion(t) / (1 if convention == "sde_drift" else 2)
            return process.drift(t) + g2 * (1 - gain) / process.sigma(t) ** 2

        def exact(t: float, curvature: Any = curvature) -> float:
            return float(curvature(t, leading_gain(model, point, process.beta(t))[0]))

        found[convention] = first_crossing(exact, grid, curvature(grid, gains))
    return found


def leading_gain(model: Any, field: np.ndarray, beta: Any, tolerance: float = 1e-10) -> np.ndarray:
    """The largest eigenvalue of beta C at one field (1, D) and many beta (T,), or at (T, D): shape (T,)."""
    import torch

    betas = np.atleast_1d(np.asarray(beta, dtype=np.float64))
    h = torch.as_tensor(np.broadcast_to(field, (len(betas), field.shape[1])).copy(), device=model.device)
    values, _ = susceptibility(model, h, torch.as_tensor(betas, device=model.device)).leading(1, tolerance)
    gains: np.ndarray = values[:, 0].cpu().numpy()
    return gains


def first_crossing(function: Any, times: np.ndarray, values: np.ndarray) -> float:
    """The first sign change of a function of t along `times`, where it takes `values`; NaN without one."""
    from scipy.optimize import brentq

    sign = np.sign(values)
    change = np.flatnonzero(sign[:-1] * sign[1:] <= 0)
    if not len(change):
        return float("nan")
    i = change[0]
    if sign[i] == 0:
        return float(times[i])
    return float(brentq(function, times[i + 1], times[i], xtol=ROOT * times[i], rtol=ROOT))
