"""w_n = phi_n exp(-beta H~_n) / Z~ and its moments: which kernel, in which precision, for which query.

A query's way depends on the query and the states alone, so that its answer does not depend on its batch.

    D <= 16 : `near`, differences. Far queries, where |y - h|^2 is too coarse, in float64 or by `dense`.
    else    : `screen`, where the CPU has byte products and few states matter; else `products`, the states that matter
              by differences.
"""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import ROUNDING, screened_error, screened_log_error
from fastthermo.kernels.numba import head, near, screen
from fastthermo.kernels.numba.assemble import join, replace, sums_of
from fastthermo.kernels.numba.config import ADRIFT, FAR, FIELD_BYTES, NEAR_WORK, SMALL_DIMENSION, even_block
from fastthermo.kernels.numba.pack import Packed, as_array, temperatures
from fastthermo.kernels.numba.plan import DOUBLE, SINGLE, alike, fits, working_type
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.products import by_products


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "double") -> Sums:
    h, b = as_array(field), temperatures(packed, beta)
    most = even_block(len(h), FIELD_BYTES // (8 * h.shape[1]))
    if len(h) <= most:
        return _boltzmann(packed, h, b, precision)
    out: list[torch.Tensor] = []
    for i in range(0, len(h), most):
        part = _boltzmann(packed, h[i : i + most], b[i : i + most], precision)
        out = out or [x.new_empty((len(h), *x.shape[1:])) for x in part]
        for x, y in zip(out, part, strict=True):
            x[i : i + most] = y
    return Sums(*out)


def _boltzmann(packed: Packed, h: np.ndarray, b: np.ndarray, precision: str) -> Sums:
    dtype = working_type(packed, precision)
    small = fits(packed, h, b)
    if not small.all():
        if small.any():
            return join(small, *(_boltzmann(packed, h[x], b[x], precision) for x in (small, ~small)))
        precision, dtype = "double", DOUBLE
    if h.shape[1] <= SMALL_DIMENSION:
        sums = _near(packed, h, b, dtype)
        far = b * sums.energy_min.numpy() > (ADRIFT if precision == "fast" else FAR[dtype.itemsize])
        if far.any():
            again = _boltzmann if dtype == SINGLE else by_products
            replace(sums, far, again(packed, h[far], b[far], "double"))
        return sums
    if not packed.codes.worthwhile(packed) or precision == "fast" or not small.any():
        return by_products(packed, h, b, precision)
    few, found = screen.screen(packed, packed.codes.get(packed), h, b, precision)
    if not few.any():
        return by_products(packed, h, b, precision)
    sums = _screened(packed, b[few], precision, found)
    if not few.all():
        sums = join(few, sums, by_products(packed, h[~few], b[~few], precision))
    again = few & alike(b, *(x.numpy() for x in (sums.energy_min, sums.excess, sums.log_rest)))
    if again.any():
        replace(sums, again, by_products(packed, h[again], b[again], precision))
    return sums


def _screened(packed: Packed, beta: np.ndarray, precision: str, sums: tuple[np.ndarray, ...]) -> Sums:
    """From `screen.screen` of the queries that have few candidates."""
    dominant, shift, scalars, least, rough, dropped = sums
    names = (head.REST, head.EXCESS, head.SQUARE, head.PARTICIPATION, head.TAIL)
    rest, excess, square, participation, tail = (scalars[:, k] for k in names)
    about = (packed.states.shape, packed.radius, packed.spread, precision)
    bound = screened_error(*about, beta, least, excess, rest, tail, rough, dropped)
    log_error = screened_log_error(*about, beta, least, rest, tail, rough, dropped)
    return sums_of(dominant, shift, rest, least, excess, square, participation, bound, log_error)


def _near(packed: Packed, field: np.ndarray, beta: np.ndarray, dtype: np.dtype) -> Sums:
    queries, dimension = field.shape
    rounded = field.astype(dtype)
    parts = (0,) if np.array_equal(rounded, field) else (0, 0)
    dominant, shift = np.empty(queries, np.int64), np.empty((queries, dimension))
    scalars = np.empty((near.SCALARS, queries))
    block = max(2, min(1024, NEAR_WORK // packed.states.size))
    run(
        near.near_kernel,
        queries,
        block,
        packed.states,
        packed.log_weights,
        packed.radius,
        packed.spread,
        ROUNDING[dtype.itemsize],
        field,
        beta,
        np.zeros(1, dtype),
        (0,) * dimension,
        parts,
        packed.tilts,
        dominant,
        shift,
        scalars,
    )
    rest, excess, square, participation, least, bound, log_error = scalars
    return sums_of(dominant, shift, rest, least, excess, square, participation, bound, log_error)
