"""Second passes over the candidates of screening, whose weights follow from the sums of a first pass, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba import screen
from fastthermo.kernels.numba.codes import probe
from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.config import second_candidates
from fastthermo.kernels.numba.differences import differences
from fastthermo.kernels.numba.head import NEVER
from fastthermo.kernels.numba.judge import SECOND_REST, tighten_kernel
from fastthermo.kernels.numba.pack import Packed, as_array, temperatures
from fastthermo.kernels.numba.plan import alike, fits
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.sparse import collect


def by_candidates(
    kernel: Callable[..., None],
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    precision: str,
    given: tuple[np.ndarray, ...],
    out: tuple[np.ndarray, ...],
) -> np.ndarray:
    """Fill rows of `out` by kernel(low, high, states, log_weights, field, beta, ...); returns which are left, (B,).

    given, out : of all queries.
    """
    left = np.ones(len(beta), np.bool_)
    if precision == "fast" or not packed.codes.worthwhile(packed) or len(beta) == 0:
        return left
    h, b, codes = as_array(field), temperatures(packed, beta), packed.codes.get(packed)
    known = (as_array(sums.dominant), as_array(sums.log_rest), as_array(sums.shift), *given)
    start = _start(packed, h, b, *known[:2]) if precision == "single" else None
    made, width = probe(packed, codes, h, b), second_candidates(packed.states.shape)
    for x in screen.blocks(packed, codes, made, h, b, precision, width, start):
        rows = [y[x.rows] for y in (*known, *out)]
        states = (packed.states, packed.log_weights)
        if precision == "single":
            run(tighten_kernel, len(x.beta), 16, x.beta, x.limits, x.error, tuple(x.lists), x.few)
        run(kernel, len(x.beta), 4, *states, x.field, x.beta, x.few, x.limits, tuple(x.lists), *rows)
        left[x.rows] = ~x.few
    pull = packed.states[known[0]] - h
    least = np.einsum("bd,bd->b", pull, pull) / 2
    return left | ~fits(packed, h, b) | alike(b, least, as_array(sums.excess), known[1])


def _start(
    packed: Packed, field: np.ndarray, beta: np.ndarray, dominant: np.ndarray, log_rest: np.ndarray
) -> np.ndarray:
    """Energies from which on all states together weigh less than `judge.SECOND_REST` of all but the dominant one."""
    t = packed.states[dominant] - packed.anchor
    energy = packed.half_squares[dominant] - np.einsum("bd,bd->b", t, field - packed.anchor)
    margin = np.log(len(packed.states) / SECOND_REST) - log_rest
    return energy + (margin - packed.log_weights[dominant]) / beta


def subset(rows: np.ndarray, sums: Sums, *arrays: torch.Tensor) -> tuple[Any, ...]:
    """Those rows of everything."""
    where = torch.from_numpy(rows)
    return *(x[where] for x in arrays), Sums(*(None if x is None else x[where] for x in sums))


@inner
def weights_of(  # type: ignore[no-untyped-def]
    states, log_weights, field, beta, limits, index, energy, found, best, b, r, log_rest, away, chosen, weight, gap
):
    """The candidates of query b but r, their normalised weights and H~ - H~_r; returns how many they are."""
    for d in range(away.size):
        away[d] = np.float64(states[r, d]) - field[b, d]
    norm, kept = 1 / (1 + np.exp(log_rest)), 0
    count = collect(index, energy, found, best, limits, b, chosen, gap)
    differences(states, chosen, 0, count, r, away, gap)
    for i in range(count):
        n, x = chosen[i], gap[i]
        bits = -LOG2E * beta[b] * x + LOG2E * (log_weights[n] - log_weights[r])
        if n != r and bits > NEVER:
            chosen[kept], weight[kept], gap[kept] = n, norm * np.exp2(bits), x
            kept += 1
    return kept
