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


def _t(_: Process, t: Any) -> Any:
    return t


def _reversed(_: Process, t: Any) -> Any:
    return 1 - t


def _sigma(p: Process, t: Any) -> Any:
    return p.sigma(t) / p.alpha(t)


def _log_snr(p: Process, t: Any) -> Any:
    return np.log(p.beta(t))


def _step(_: Process, t: Any) -> Any:
    return np.rint(t).astype(np.int64)


# what a network is told about the time; functions with names, so that models are pickled
TIMES: dict[str, Callable[[Process, Any], Any]] = {
    "t": _t,
    "1-t": _reversed,
    "sigma": _sigma,
    "log_snr": _log_snr,
    "step": _step,
}
