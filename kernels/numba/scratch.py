"""What kernels share: aligned scratch memory, and the range of weights in a precision."""

from functools import partial

import numpy as np

from fastthermo.kernels.numba.compile import inner

LOG2E = 1.4426950408889634


@partial(inner, counting=True)
def aligned(size, zero):  # type: ignore[no-untyped-def]
    """Scratch of the dtype of `zero` that begins on a cache line."""
    line = 64 // zero.itemsize
    scratch = np.empty(size + line, zero.dtype)
    begin = (-(scratch.ctypes.data // zero.itemsize)) % line
    return scratch[begin : begin + size]


@inner
def floor(x):  # type: ignore[no-untyped-def]
    """Weights in the precision of x below 2^-floor of the reference's count as none."""
    return 100.0 if x.itemsize == 4 else 1020.0


@inner
def least_sum(x):  # type: ignore[no-untyped-def]
    """Sums of weights below are not to be trusted: some of them may be missing."""
    return 1e-26 if x.itemsize == 4 else 1e-300


@inner
def magic(x):  # type: ignore[no-untyped-def]
    """What leaves an integer in the lowest bits; see `exponential.exp2_product`."""
    return 1.5 * 2.0**23 if x.itemsize == 4 else 1.5 * 2.0**52
