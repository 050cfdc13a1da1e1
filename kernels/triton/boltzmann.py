"""w_n = phi_n exp(-beta H~_n) / Z~ and its moments: which kernel for which query, decided on the device.

D <= 16, float32 arithmetic : `near`
else, float32 arithmetic    : energies of all by `split` products; `heads` by `differences`, the rest as a `tail`
else, few states matter     : `differences` of those that `screen` lists, in float64
else, most states matter    : `products` of all, in float64
"""

from collections.abc import Iterator

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.bounds import (
    dense_error,
    dense_log_error,
    product_error,
    screened_error,
    screened_log_error,
)
from fastthermo.kernels.triton import differences, products
from fastthermo.kernels.triton.config import SMALL_DIMENSION, WORKSPACE
from fastthermo.kernels.triton.finish import finish
from fastthermo.kernels.triton.heads import Heads, heads, weigh
from fastthermo.kernels.triton.listed import summed
from fastthermo.kernels.triton.near import near
from fastthermo.kernels.triton.pack import Packed, groups
from fastthermo.kernels.triton.products import working_type
from fastthermo.kernels.triton.refine import refine
from fastthermo.kernels.triton.screen import Queries, Survey, survey
from fastthermo.kernels.triton.split import FEW, Halves, average, energies, halves


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "double") -> Sums:
    field, beta = field.contiguous(), beta.contiguous()
    split = is_split(packed, precision)
    if not split and working_type(packed, precision) == "float32" and field.shape[1] <= SMALL_DIMENSION:
        return near(packed, field, beta, precision)
    of, chunks = (_split, split_chunks) if split else (_boltzmann, query_chunks)
    parts = [of(packed, field[q], beta[q], precision) for q in chunks(packed, len(field))]
    sums = parts[0] if len(parts) == 1 else Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    if split:
        return sums
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


def is_split(packed: Packed, precision: str) -> bool:
    """Whether energies are products of two float16 parts."""
    return packed.codes is not None and working_type(packed, precision) == "float32"


def split_chunks(packed: Packed, queries: int) -> Iterator[slice]:
    """Chunks of queries whose float32 energies fit the workspace; one where there are no queries."""
    most = max(FEW, WORKSPACE // (4 * pitch(packed)) // 128 * 128)
    return (slice(i, i + most) for i in range(0, max(queries, 1), most))


def pitch(packed: Packed) -> int:
    """Length of a row of energies, which vectors divide."""
    return -(-len(packed.states) // 16) * 16


def query_chunks(packed: Packed, queries: int) -> Iterator[slice]:
    """Chunks whose float64 rows and bounds of groups fit the workspace; one where there are no queries."""
    row = 32 * packed.states.shape[1] + 4 * groups(len(packed.states))
    most = max(64, WORKSPACE // row)
    return (slice(i, i + most) for i in range(0, max(queries, 1), most))


def _split(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str) -> Sums:
    g, work, found = headed(packed, field, beta, precision)
    if precision == "single":
        refine(packed, field, work, found)
    tail = weigh(packed, beta, work, found)
    averages = average(packed, work, found.flags, precision)
    return finish(packed, field, beta, g, found, summed(packed, field, beta, found), tail, *averages)


def headed(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str
) -> tuple[Halves, torch.Tensor, Heads]:
    """Queries in halves, energies of all states with heads marked, and the heads."""
    g = halves(packed, field, beta, precision)
    work = torch.empty(len(field), pitch(packed), dtype=torch.float32, device=field.device)
    energies(packed, g, precision, work)
    return g, work, heads(packed, g, beta, work, precision)


def _boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str) -> Sums:
    seen = survey(packed, field, beta, precision)
    sums = _sparse(packed, field, beta, seen)
    if seen.dense is None or seen.is_dense is None:
        return sums
    return _choose(seen.is_dense, _dense(packed, field, beta, seen.dense), sums)


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


def _dense(packed: Packed, field: torch.Tensor, beta: torch.Tensor, rows: Queries) -> Sums:
    queries = len(field)
    r = torch.zeros(queries, dtype=torch.int64, device=field.device)
    scalars, shift = field.new_zeros(queries, 4), torch.zeros_like(field)
    products.summed(packed, field, beta, rows, r, scalars, shift)
    r, least, excess, square, participation, shift = _normalised(packed, field, r, scalars, shift)
    tail = scalars[:, 0] / (1 + scalars[:, 0])
    # beta twice: the logits of both the state and the dominant one are products
    product = product_error(field.shape[1], packed.radius, 8, 2 * beta, (field - packed.anchor).norm(dim=1))
    about = (tuple(packed.states.shape), packed.radius, packed.spread, 8, 2 * beta, product, least)
    bound, log_error = dense_error(*about, excess, tail, 0), dense_log_error(*about, tail, 0)
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
