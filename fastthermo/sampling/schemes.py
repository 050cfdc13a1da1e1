"""Every first-order scheme is x' = a x + b <y> + c z, with scalars from (t, s), s < t.

In the variables of the VE theory, h = x/alpha and tau = sigma/alpha, with r = tau_s / tau_t:

    ddim         h' = r h + (1 - r) <y>                                   the probability flow, exact for constant <y>
    ancestral    h' = r^2 h + (1 - r^2) <y> + tau_s sqrt(1 - r^2) z       the reverse SDE, exact for constant <y>
    euler        x' = x - dt (f x - g^2 score) + g sqrt(dt) z             Euler-Maruyama in t
    heun         ddim again with a blend of the means at both ends        (Karras et al. 2022, algorithm 1)
    heun_sde     ancestral again with a blend and the same noise          trapezoid in beta
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastthermo.process import Process

Coefficients = tuple[Any, Any, Any]


class Scheme(NamedTuple):
    """(process, t, s) -> (a, b, c), and the weight of the mean at s in the blend (None: the mean at t alone)."""

    coefficients: Callable[[Process, Any, Any], Coefficients]
    blend: Callable[[Process, Any, Any], Any] | None = None


def _ddim(process: Process, t: Any, s: Any) -> Coefficients:
    r = _tau(process, s) / _tau(process, t)
    return r * process.alpha(s) / process.alpha(t), process.alpha(s) * (1 - r), 0 * r


def _ancestral(process: Process, t: Any, s: Any) -> Coefficients:
    r2 = (_tau(process, s) / _tau(process, t)) ** 2
    a = r2 * process.alpha(s) / process.alpha(t)
    return a, process.alpha(s) * (1 - r2), process.sigma(s) * np.sqrt(1 - r2)


def _euler(process: Process, t: Any, s: Any) -> Coefficients:
    dt, g2, variance = t - s, process.diffusion(t), process.sigma(t) ** 2
    a = 1 - dt * (process.drift(t) + g2 / variance)
    return a, dt * g2 * process.alpha(t) / variance, np.sqrt(g2 * dt)


def _tau(process: Process, t: Any) -> Any:
    return process.sigma(t) / process.alpha(t)


def _half(process: Process, t: Any, s: Any) -> Any:
    return 0.5 + 0 * np.asarray(t)


SCHEMES = {
    "euler": Scheme(_euler),
    "ancestral": Scheme(_ancestral),
    "ddim": Scheme(_ddim),
    "heun": Scheme(_ddim, lambda process, t, s: _tau(process, t) / (2 * _tau(process, s))),
    "heun_sde": Scheme(_ancestral, _half),
}

DETERMINISTIC = tuple(name for name, scheme in SCHEMES.items() if scheme.coefficients is _ddim)


def tables(scheme: str, process: Process, times: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """`table` (T, 5) and `after` (T, 3), or None, of the kernels' `Schedule`."""
    t, s = times[:-1], times[1:]
    rule = SCHEMES[scheme]
    table = np.stack([*rule.coefficients(process, t, s), 1 / process.alpha(t), process.beta(t)], 1)
    if rule.blend is None:
        return table, None
    return table, np.stack([1 / process.alpha(s), process.beta(s), rule.blend(process, t, s)], 1)
