"""x' = a x + b mean + c z with counter-based normal noise (Philox 4x32-10, Salmon et al., SC 2011)."""

import numpy as np
import torch

from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import query_block
from fastthermo.kernels.numba.pack import as_array
from fastthermo.kernels.numba.pool import run

MASK = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)


def step(
    x: torch.Tensor,
    mean: torch.Tensor,
    a: float,
    b: float,
    c: float,
    seed: int,
    step: int,
    first_sample: int = 0,
    stream: int = 0,
) -> torch.Tensor:
    position, target = as_array(x), as_array(mean)
    out = np.empty_like(position)
    counters = (np.uint64(first_sample), np.uint64(step), np.uint64(stream))
    keys = (np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF))
    run(
        _step_kernel,
        len(position),
        query_block(x.shape[1]),
        position,
        target,
        float(a),
        float(b),
        float(c),
        *keys,
        *counters,
        out,
    )
    return torch.from_numpy(out)


@jit
def _step_kernel(low, high, x, mean, a, b, c, key0, key1, first_sample, step, stream, out):  # type: ignore[no-untyped-def]
    dimension = x.shape[1]
    normal = np.zeros(4)
    for i in range(low, high):
        for d0 in range(0, dimension, 4):
            if c != 0:
                w0, w1, w2, w3 = philox(first_sample + np.uint64(i), step, np.uint64(d0 // 4), stream, key0, key1)
                normal[0], normal[1] = _box_muller(w0, w1)
                normal[2], normal[3] = _box_muller(w2, w3)
            for d in range(d0, min(d0 + 4, dimension)):
                out[i, d] = a * x[i, d] + b * mean[i, d] + c * normal[d - d0]


@inner
def _box_muller(first, second):  # type: ignore[no-untyped-def]
    radius = np.sqrt(-2.0 * np.log((np.float64(first) + 0.5) * 2.0**-32))
    angle = np.float64(second) * (2 * np.pi * 2.0**-32)
    return radius * np.cos(angle), radius * np.sin(angle)


@inner
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Ten rounds of Philox 4x32 on 32-bit words held in uint64."""
    c0 &= MASK
    c1 &= MASK
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> WORD) ^ c1 ^ k0, p1 & MASK, (p0 >> WORD) ^ c3 ^ k1, p0 & MASK
        k0 = (k0 + np.uint64(0x9E3779B9)) & MASK
        k1 = (k1 + np.uint64(0xBB67AE85)) & MASK
    return c0, c1, c2, c3
