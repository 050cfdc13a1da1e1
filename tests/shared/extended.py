"""Boltzmann sums in extended precision by differences: exact at any offset and temperature."""

from types import SimpleNamespace
from typing import Any

import numpy as np

LONG = np.longdouble
CHUNK = 1 << 20  # numbers at once


def truth(states: Any, log_weights: Any, field: Any, beta: Any) -> SimpleNamespace:
    """force, rms, log_evidence, energy, variance and participation, (B,) or (B, D)."""
    y, b, phi = (np.asarray(x).astype(LONG) for x in (states, beta, log_weights))
    size = max(1, CHUNK // y.size)
    parts = [_truth(y, phi, field[i : i + size], b[i : i + size]) for i in range(0, len(field), size)]
    return SimpleNamespace(**{k: np.concatenate([part[k] for part in parts]) for k in parts[0]})


def posterior(states: Any, log_weights: Any, field: Any, beta: Any) -> tuple[Any, ...]:
    """w (B, N), y_n - y_r (B, N, D), H~_n - H~_r (B, N), y_r - h (B, D) and log of phi_r sum w_n/w_r (B,)."""
    y, b, phi = (np.asarray(x).astype(LONG) for x in (states, beta, log_weights))
    t = y - field[:, None]
    r = (phi - b[:, None] * (t * t).sum(-1) / 2).argmax(1)
    for _ in range(2):  # the second time relative to the state that matters most, so that near-ties are told apart
        pull, s = y[r] - field, y - y[r][:, None]
        energy = (s * (s / 2 + pull[:, None])).sum(-1)
        logits = phi - phi[r][:, None] - b[:, None] * energy
        used, r = r, logits.argmax(1)
    ratio = np.exp(logits)
    total = ratio.sum(1)
    return ratio / total[:, None], s, energy, pull, phi[used] + np.log(total)


def _truth(y: Any, phi: Any, field: Any, beta: Any) -> dict[str, Any]:
    w, s, energy, pull, log_sum = posterior(y, phi, field, beta)
    energy_min, excess = (pull * pull).sum(1) / 2, (w * energy).sum(1)
    return {
        "force": pull + (w[..., None] * s).sum(1),
        "rms": np.sqrt(2 * (energy_min + excess)),
        "log_evidence": log_sum - beta * energy_min,
        "energy": energy_min + excess,
        "variance": (w * (energy - excess[:, None]) ** 2).sum(1),
        "participation": (w * w).sum(1),
    }
