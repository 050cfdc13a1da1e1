"""How networks differ: what they predict of the noisy x, and what they are told about its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastthermo.process import Process


def _v(p: Process, t: Any) -> tuple[Any, Any]:
    total = p.alpha(t) ** 2 + p.sigma(t) ** 2
    return p.alpha(t) / total, -p.sigma(t) / total


def _velocity(p: Process, t: Any) -> tuple[Any, Any]:
    alpha, sigma, half = p.alpha(t), p.sigma(t), p.diffusion(t) / 2
    # alpha' = f alpha, sigma' = f sigma + g^2 / (2 sigma)
    return (p.drift(t) * sigma**2 + half) / (alpha * half), -(sigma**2) / (alpha * half)


# mean = first x + second prediction
PREDICTS: dict[str, Callable[[Process, Any], tuple[Any, Any]]] = {
    "mean": lambda p, t: (0 * p.alpha(t), 0 * p.alpha(t) + 1),
    "eps": lambda p, t: (1 / p.alpha(t), -p.sigma(t) / p.alpha(t)),
    "score": lambda p, t: (1 / p.alpha(t), p.sigma(t) ** 2 / p.alpha(t)),
    "v": _v,
    "velocity": _velocity,
}

# what a network is told about the time
TIMES: dict[str, Callable[[Process, Any], Any]] = {
    "t": lambda p, t: t,
    "1-t": lambda p, t: 1 - t,
    "sigma": lambda p, t: p.sigma(t) / p.alpha(t),
    "log_snr": lambda p, t: np.log(p.beta(t)),
    "step": lambda p, t: np.rint(t).astype(np.int64),
}
