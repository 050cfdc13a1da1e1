"""w_n = phi_n exp(-beta H~_n) / Z~ and its moments: which kernel for which query, decided on the device.

D <= 16, float32 arithmetic : `near`, unless queries are few and states many: then as in float64
else, float32 arithmetic    : energies of all by `split` products; `heads` by `differences`, the rest as a `tail`; where
                              float32 does not do, `differences` of all, in float64
else, few states matter     : `differences` of those that `screen` lists, in float64
else, most states matter    : `products` of all, in float64
"""

from collections.abc import Iterator

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.triton import differences, products
from fastthermo.kernels.triton.again import sum_again
from fastthermo.kernels.triton.config import BUSY, MANY_STATES, SMALL_DIMENSION, WORKSPACE
from fastthermo.kernels.triton.device import cdiv
from fastthermo.kernels.triton.finish import finish
from fastthermo.kernels.triton.heads import Heads, heads
from fastthermo.kernels.triton.listed import summed
from fastthermo.kernels.triton.near import near
from fastthermo.kernels.triton.pack import Packed, groups
from fastthermo.kernels.triton.products import working_type
from fastthermo.kernels.triton.refine import refine
from fastthermo.kernels.triton.screen import survey
from fastthermo.kernels.triton.settle import Parts, settle
from fastthermo.kernels.triton.split import FEW, Halves, average, energies, halves
from fastthermo.kernels.triton.tail import weigh
from fastthermo.kernels.triton.temperatures import temperatures


def boltzmann(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str = "double") -> Sums:
    field, beta = field.contiguous(), temperatures(packed, beta, precision)
    split, single = is_split(packed, precision), working_type(packed, precision) == "float32"
    idle = len(field) < BUSY and len(packed.states) >= MANY_STATES
    if not split and single and field.shape[1] <= SMALL_DIMENSION and not idle:
        return near(packed, field, beta, precision)
    of, chunks = (_split, split_chunks) if split else (_boltzmann, query_chunks)
    parts = [of(packed, field[q], beta[q], precision) for q in chunks(packed, len(field))]
    return parts[0] if len(parts) == 1 else Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def is_split(packed: Packed, precision: str) -> bool:
    """Whether energies are products of two float16 parts."""
    return packed.codes is not None and working_type(packed, precision) == "float32"


def split_chunks(packed: Packed, queries: int) -> Iterator[slice]:
    """Chunks of queries whose float32 energies fit the workspace; one where there are no queries."""
    most = WORKSPACE // (4 * pitch(packed))
    most = most // 128 * 128 or max(FEW, most // FEW * FEW)
    return (slice(i, i + most) for i in range(0, max(queries, 1), most))


def pitch(packed: Packed) -> int:
    """Length of a row of energies, which vectors divide."""
    return cdiv(len(packed.states), 16) * 16


def query_chunks(packed: Packed, queries: int) -> Iterator[slice]:
    """Chunks whose float64 rows and bounds of groups fit the workspace; one where there are no queries."""
    row = 32 * packed.states.shape[1] + 4 * groups(len(packed.states))
    most = max(64, WORKSPACE // row)
    return (slice(i, i + most) for i in range(0, max(queries, 1), most))


def _split(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str) -> Sums:
    g, work, found = headed(packed, field, beta, precision)
    refine(packed, field, work, found)
    tail = weigh(packed, beta, work, found)
    averages = average(packed, work, found.flags, precision)
    out, again = finish(packed, field, beta, g, found, summed(packed, field, beta, found), tail, *averages)
    sum_again(packed, field, beta, found, again, out)
    return out.sums()


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
    r = differences.dominant_state(packed, field, beta, seen)
    sparse = Parts(r, *differences.summed(packed, field, beta, seen, r))
    dense = None if seen.dense is None else Parts(*products.summed(packed, field, beta, seen.dense))
    return settle(packed, field, beta, seen.is_dense, sparse, dense)
