"""Certified screening: byte products tell which states may matter; `sparse` sums over those alone.

Where the CPU multiplies bytes four at a time (AVX-512 VNNI), products with the codes of `codes` cost half of float32
products and are exact, so that energies err by no more than eps. A state is dropped where its energy less 2 eps says
that it weighs less than e^-T of the runner-up and less than e^-T' of the largest. Where too many are left, `dense`
takes the query.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fastthermo.kernels.bounds import cutoffs
from fastthermo.kernels.numba.codes import Codes, Probes, probe
from fastthermo.kernels.numba.compile import has
from fastthermo.kernels.numba.config import (
    JUDGED,
    PARTS,
    SCREEN_BLOCK,
    SCREEN_BYTES,
    candidates,
    even_block,
    kept,
)
from fastthermo.kernels.numba.judge import judge_kernel
from fastthermo.kernels.numba.matrix import tiles
from fastthermo.kernels.numba.octets import ROWS as DIGIT_ROWS
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E
from fastthermo.kernels.numba.sieve import sieve_kernel
from fastthermo.kernels.numba.sparse import Lists, sparse_sums


@lru_cache
def available() -> bool:
    """Whether the CPU has AVX-512 VNNI."""
    return has("avx512vnni")


class Found(NamedTuple):
    """Candidates of a block of queries."""

    first: int  # the first query
    field: np.ndarray
    beta: np.ndarray
    few: np.ndarray  # (B,) whether all fit the lists, else to be left to `dense`
    limits: np.ndarray
    error: np.ndarray  # of screened energies
    lists: Lists

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + len(self.beta))


def screen(
    packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray, precision: str
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Whether the candidates of (B,) queries are few, and of those `sparse_sums`."""
    shape = packed.states.shape
    probes = probe(packed, codes, field, beta)
    few = _judge(packed, codes, probes, beta, precision)
    if not few.any():
        return few, ()
    if not few.all():
        field, beta, probes = field[few], beta[few], probes.of(few)
    most = kept(shape, codes.exact)
    found = [
        (x.few, *sparse_sums(packed, x.field, x.beta, x.limits, x.error, x.lists, x.few, precision, most))
        for x in blocks(packed, codes, probes, field, beta, precision, candidates(shape))
    ]
    few[few], *sums = (np.concatenate(x) for x in zip(*found, strict=True))
    return few, tuple(sums)


def _judge(packed: Packed, codes: Codes, probes: Probes, beta: np.ndarray, precision: str) -> np.ndarray:
    """Which of (B,) queries would, as far as a sample of the states tells, keep no more than is worth their while."""
    size = len(packed.states)
    stride = max(1, size // JUDGED)
    most = kept(packed.states.shape, codes.exact) / stride
    limits, worthwhile = _limits(packed, probes, beta, precision), np.empty(len(beta), np.bool_)
    states, digits = (codes.codes, codes.half_squares, codes.priors), (0, 0)
    block = even_block(len(beta), SCREEN_BLOCK, len(DIGIT_ROWS[2]))
    about = (states, tuple(probes[:4]), beta, limits, probes.error, block, stride, precision == "single", most)
    given = (*about, np.zeros(1, np.float32), digits, DIGIT_ROWS[2], tiles(), worthwhile)
    run(judge_kernel, -(-len(beta) // block), 1, *given)
    return worthwhile


def blocks(
    packed: Packed,
    codes: Codes,
    probes: Probes,
    field: np.ndarray,
    beta: np.ndarray,
    precision: str,
    width: int,
    start: np.ndarray | None = None,
) -> Iterator[Found]:
    """Candidates, at most `width` in a part, of all queries, some at a time; the lists are used again.

    start : (B,) energies H~_n - H~_a - log(phi_n) / beta from which on no state is wanted, less `Probes.error`.
    """
    count = min(len(beta), 8 * SCREEN_BLOCK, max(6, SCREEN_BYTES // (PARTS * width * 8) // 6 * 6))
    lists = make_lists(count, width)
    for i in range(0, len(beta), count):
        some = slice(i, i + count)
        h, b, own = field[some], beta[some], probes.of(some)
        limits = _limits(packed, own, b, precision)
        lists.found[:], lists.best[:] = -1, np.inf
        rows = np.flatnonzero(np.isfinite(limits).all(1))
        first = np.full(len(b), np.inf) if start is None else start[some] + 2 * own.error
        for part, parts in ((0, 1), (1, PARTS - 1)):
            find_candidates(packed, codes, own, limits, first.astype(np.float32), b, rows, part, parts, lists)
            rows = rows[lists.found[0, rows] >= 0]  # a part with too many candidates spares the others
        few = np.all(lists.found[:, : len(b)] >= 0, axis=0)
        yield Found(i, h, b, few, limits, own.error, lists)


def _limits(packed: Packed, probes: Probes, beta: np.ndarray, precision: str) -> np.ndarray:
    """(B, 2) float32: how far above the second best and the best energy a state may be to matter."""
    with np.errstate(over="ignore"):
        margins = 2 * probes.error[:, None] + np.array(cutoffs(packed.states.shape, precision)) / beta[:, None]
        return (margins * (1 + 1e-5)).astype(np.float32)


def make_lists(queries: int, width: int) -> Lists:
    shape = (PARTS, queries)
    index, energy = np.empty((*shape, width), np.int32), np.empty((*shape, width), np.float32)
    return Lists(index, energy, np.empty(shape, np.int64), np.empty((*shape, 2), np.float32))


def find_candidates(
    packed: Packed,
    codes: Codes,
    probes: Probes,
    limits: np.ndarray,
    start: np.ndarray,
    beta: np.ndarray,
    rows: np.ndarray,
    part: int,
    parts: int,
    lists: Lists,
) -> None:
    """Fill the lists of the queries `rows` for the parts from `part` on."""
    queries = (*probes[:3], (-1 / (LOG2E * beta)).astype(np.float32), limits)
    if len(rows) < len(beta):
        queries = tuple(x[rows] for x in queries)
    block = even_block(len(rows), SCREEN_BLOCK, 6)
    states, tasks = (codes.codes, codes.half_squares, codes.priors), parts * -(-len(rows) // block)
    run(sieve_kernel, tasks, 1, states, queries, start, rows, packed.tilts, block, part, parts, tuple(lists), tiles())
