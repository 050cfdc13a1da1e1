"""Ising data: spins y in {-1, 1}^N with prior phi ~ exp(y.W y / 2). In a field h they are Ising models in beta h.

log Z = -beta N/2 + log Z_I(beta h)/Z_I(0)          <y> = the Ising magnetisation in the field beta h
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastthermo.ensemble import Ensemble
from fastthermo.solvable.base import parameter

ENUMERATED = 20  # spins up to which all configurations are listed


def ising(W: Any, K: float = 1.0) -> Ensemble:
    """All 2^N configurations of spins with phi ~ exp(K y.W y / 2), W (N, N) symmetric, N <= 20.

    The diagonal of W is of no consequence. Bytes 0 and 1 with scale 2 and shift -1, in the order of binary numbers.
    """
    w = parameter("W", W, (2,)).numpy()
    n = len(w)
    if w.shape != (n, n) or not np.allclose(w, w.T):
        raise ValueError(f"W: wanted a symmetric matrix, got shape {w.shape}")
    if n > ENUMERATED:
        raise ValueError(f"W: wanted at most {ENUMERATED} spins, got {n}; ising_ring and curie_weiss have no limit")
    if not np.isfinite(K):
        raise ValueError(f"K: wanted a finite number, got {K}")
    bits = (np.arange(2**n, dtype=np.uint32)[:, None] >> np.arange(n, dtype=np.uint32) & 1).astype(np.uint8)
    log_weights = np.empty(len(bits))
    for block in np.array_split(np.arange(len(bits)), max(1, len(bits) >> 16)):
        y = 2.0 * bits[block] - 1
        log_weights[block] = K / 2 * ((y @ w) * y).sum(1)
    return Ensemble(bits, log_weights, 2.0, -1.0)
