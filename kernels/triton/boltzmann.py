"""w_n = phi_n exp(-beta H~_n) / Z~ and its moments: which kernel for which query, decided on the device.

D <= 16, float32 arithmetic : `near`, and `differences` for far queries, where |y - h|^2 is too coarse
few states matter           : `differences` of those that `screen` lists, in float64
most states matter          : `products` of all, in float64, averages in tf32x3 where the force is wanted to 1e-6
"""

from collections.abc import Iterator

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import (
    EXPONENTIAL,
    UNITS,
    dense_error,
    dense_log_error,
    screened_error,
    screened_log_error,
)
from fastthermo.kernels.triton import differences, products
from fastthermo.kernels.triton.config import FAR, SMALL_DIMENSION, WORKSPACE
from fastthermo.kernels.triton.near import near
from fastthermo.kernels.triton.pack import Packed, groups
from fastthermo.kernels.triton.products import FLOAT32, working_type
from fastthermo.kernels.triton.screen import Queries, Survey, survey


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "double") -> Sums:
    field, beta = field.contiguous(), beta.contiguous()
    parts = [_boltzmann(packed, field[q], beta[q], precision) for q in query_chunks(packed, len(field))]
    sums = parts[0] if len(parts) == 1 else Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    # no host has seen the values: what is not finite and positive is NaN in all that is derived
    bad = torch.where(beta > 0, beta - beta, torch.nan) + (field - field).sum(1)
    return sums._replace(
        shift=sums.shift + bad[:, None],
        log_rest=sums.log_rest + bad,
        energy_min=sums.energy_min + bad,
        participation=sums.participation + bad,
        error_bound=sums.error_bound + bad,
        log_error=sums.log_error + bad,
    )


def query_chunks(packed: Packed, queries: int) -> Iterator[slice]:
    """Chunks whose float64 rows and bounds of groups fit the workspace; one where there are no queries."""
    row = 32 * packed.states.shape[1] + 4 * groups(len(packed.states))
    most = max(64, WORKSPACE // row)
    return (slice(i, i + most) for i in range(0, max(queries, 1), most))


def _boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str) -> Sums:
    single = working_type(packed, precision) == "float32"
    if single and field.shape[1] <= SMALL_DIMENSION:
        sums = near(packed, field, beta)
        if precision in FLOAT32:
            return sums
        far = ~(beta * sums.energy_min <= FAR)
        seen = survey(packed, field, beta, precision)._replace(sparse=Queries.where(far))
        return _choose(far, _sparse(packed, field, beta, seen), sums)
    if precision in FLOAT32 and single:
        everything = torch.ones(len(field), dtype=torch.bool, device=field.device)
        return _dense(packed, field, beta, Queries.where(everything), precision)
    seen = survey(packed, field, beta, precision)
    sums = _sparse(packed, field, beta, seen)
    if seen.dense is None or seen.is_dense is None:
        return sums
    return _choose(seen.is_dense, _dense(packed, field, beta, seen.dense, precision), sums)


def _choose(rows: torch.Tensor, these: Sums, others: Sums) -> Sums:
    return Sums(
        *(torch.where(rows if x.ndim == 1 else rows[:, None], x, y) for x, y in zip(these, others, strict=True))
    )


def _sparse(packed: Packed, field: torch.Tensor, beta: torch.Tensor, seen: Survey) -> Sums:
    r = differences.dominant_state(packed, field, beta, seen)
    scalars, shift = differences.summed(packed, field, beta, seen, r)
    r, least, excess, square, participation, shift = _normalised(packed, field, r, scalars, shift)
    # the cutoffs of "double" hold in any precision here, and all that is not dropped is float64
    about = (tuple(packed.states.shape), packed.radius, packed.spread, "double", beta, least)
    rest, none = scalars[:, 0], torch.zeros_like(beta)
    bound = screened_error(*about, excess, rest, none, none)
    log_error = screened_log_error(*about, rest, none, none)
    return Sums(r, shift, rest.log(), least, excess, square, participation, bound, log_error)


def _dense(packed: Packed, field: torch.Tensor, beta: torch.Tensor, rows: Queries, precision: str) -> Sums:
    queries = len(field)
    r = torch.zeros(queries, dtype=torch.int64, device=field.device)
    scalars, shift = field.new_zeros(queries, 4), torch.zeros_like(field)
    products.summed(packed, field, beta, rows, precision, r, scalars, shift)
    r, least, excess, square, participation, shift = _normalised(packed, field, r, scalars, shift)
    tail = scalars[:, 0] / (1 + scalars[:, 0])
    shape, distance = tuple(packed.states.shape), (field - packed.anchor).norm(dim=1)
    number = 4 if working_type(packed, precision) == "float32" else 8
    of_energies = 4 if number == 4 and precision in FLOAT32 else 8
    # beta twice: the logits of both the state and the dominant one are products
    about = (shape, packed.radius, packed.spread, of_energies, 2 * beta, distance, least)
    bound, log_error = dense_error(*about, excess, tail, 0), dense_log_error(*about, tail, 0)
    if number != of_energies:
        rms = (2 * (least + excess)).sqrt() + 1e-300
        bound = bound + EXPONENTIAL[number] + 512 * UNITS[number] * tail * packed.radius / rms
    if precision == "tf32":
        bound, log_error = bound + torch.inf, log_error + torch.inf  # nothing bounds its error
    return Sums(r, shift, scalars[:, 0].log(), least, excess, square, participation, bound, log_error)


def _normalised(
    packed: Packed, field: torch.Tensor, r: torch.Tensor, scalars: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """r, energy_min, excess, excess_square, participation and shift."""
    r = r.clamp(0, len(packed.states) - 1)  # rows of queries that another kernel serves hold anything
    scale = 1 / (1 + scalars[:, 0])
    least = (packed.states[r].double() - field).square().sum(1) / 2
    excess, square = scalars[:, 1] * scale, scalars[:, 2] * scale
    return r, least, excess, square, (1 + scalars[:, 3]) * scale**2, shift * scale[:, None]
