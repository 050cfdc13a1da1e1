"""Sums over lists of single states by float64 differences: H~_n - H~_r = sum_d s (s/2 + y_r - h), s = y_n - y_r.

Energies are taken relative to the state `near`; where another turns out to weigh more, once more relative to that one,
so that near-ties are told apart. They are kept beside the lists, (B, capacity); weights relative to the dominant state
r, itself left out, take their place, and then sums of w (y - y_r) go over the states once.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.config import FEW_PROGRAMS, tile, tile_for
from fastthermo.kernels.triton.device import cdiv, launch, power_below, power_of_two
from fastthermo.kernels.triton.heads import Heads
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import multiplied
from fastthermo.kernels.triton.second import Given
from fastthermo.kernels.triton.tile import listed, projected, relative_energy, row, share, symmetric

Tensor = torch.Tensor


class Listed(NamedTuple):
    dominant: Tensor  # (B,) int64
    scalars: Tensor  # (B, 4): sums of w, w x, w x^2, w^2, x relative to the dominant state
    shift: Tensor  # (B, D): sum of w (y - y_r)


def summed(packed: Packed, field: Tensor, beta: Tensor, found: Heads) -> Listed:
    (queries, dimension), capacity = field.shape, found.lists.shape[1]
    parts = list_parts(queries)
    x = field.new_empty(queries, capacity)
    best, where = field.new_empty(2, queries, parts), torch.empty(2, queries, parts, dtype=torch.int64, device=x.device)
    t = tile("heads", dimension, packed.architecture)
    for again in (False, True):
        launch(
            _relative_kernel,
            (queries, parts),
            packed.states, packed.log_weights, field, beta, found.lists, found.kept, found.near, x, best, where,
            queries, len(packed.states), dimension, capacity,
            AGAIN=again, PARTS=parts, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
        )  # fmt: skip
    out = Listed(torch.empty_like(found.near), field.new_empty(queries, 4), torch.empty_like(field))
    launch(
        _weights_kernel,
        (queries,),
        packed.log_weights, beta, found.lists, found.kept, x, best[1], where[1], out.dominant, out.scalars,
        len(packed.states), capacity,
        PARTS=parts, BLOCK=power_of_two(capacity), num_warps=4, num_stages=1,
    )  # fmt: skip
    moved(packed, found, out.dominant, x, None, out.shift)
    return out


def tilted(
    packed: Packed,
    field: Tensor,
    beta: Tensor,
    found: Heads,
    given: Given,
    probes: Tensor,
    energy_probes: Tensor,
) -> tuple[Tensor, Tensor]:
    """p = w a_1 .. a_K of the listed states, (B, capacity), and the sum of p (H~ - <H~>); w alone of no probes."""
    (queries, dimension), capacity, count = field.shape, found.lists.shape[1], probes.shape[1]
    p, parts = field.new_empty(queries, capacity), list_parts(queries)
    energy = field.new_empty(queries, parts)
    t = tile("heads", dimension, packed.architecture)
    launch(
        _tilted_kernel,
        (queries, parts),
        packed.states, packed.log_weights, field, beta, found.lists, found.kept, *given, probes, energy_probes, p,
        energy, len(packed.states), dimension, capacity,
        K=count, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return p, energy.sum(1)


def moved(packed: Packed, found: Heads, r: Tensor, p: Tensor, centre: Tensor | None, out: Tensor) -> None:
    """out (B, D) = sum over the lists of p (y - y_r - centre), p (B, capacity)."""
    queries, dimension = out.shape
    t = tile_for(queries, "moved", dimension, packed.architecture)
    launch(
        _moved_kernel,
        (queries, cdiv(dimension, t.d)),
        packed.states, found.lists, found.kept, r, p, out if centre is None else centre, out,
        len(packed.states), dimension, p.shape[1],
        CENTRED=centre is not None, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip


def spread(packed: Packed, found: Heads, r: Tensor, p: Tensor, centre: Tensor, out: Tensor) -> None:
    """out (B, D, D) = sum over the lists of p (y - y_r - centre)(y - y_r - centre)^T, p >= 0."""
    queries, dimension = centre.shape
    t = tile("covariance float32", dimension, packed.architecture)
    blocks = cdiv(dimension, t.d)
    launch(
        _spread_kernel,
        (queries * blocks * (blocks + 1) // 2,),
        packed.states, found.lists, found.kept, r, p, centre, out, queries, len(packed.states), dimension, p.shape[1],
        BLOCK_N=t.n, BLOCK_S=t.d, num_warps=t.warps, num_stages=t.stages, **multiplied(packed, "float32"),
    )  # fmt: skip


def list_parts(queries: int) -> int:
    """Programs that share a list, a power of two."""
    return power_below(min(32, FEW_PROGRAMS // max(1, queries)))


@triton.jit
def _best(BEST, WHERE, b, PARTS: tl.constexpr):
    """The state of largest weight over all parts of a list, the lowest of equal ones."""
    at = b * PARTS + tl.arange(0, PARTS)
    best, where = tl.load(BEST + at), tl.load(WHERE + at)
    return tl.min(tl.where(best == tl.max(best, 0), where, 9223372036854775807), 0)


@triton.jit
def _relative_kernel(
    Y, PHI, H, BETA, LISTS, KEPT, NEAR, X, BEST, WHERE, B, N, D, CAPACITY,
    AGAIN: tl.constexpr, PARTS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    r, kept, beta = tl.load(NEAR + b), tl.load(KEPT + b), tl.load(BETA + b)
    at = b * PARTS + part
    unchanged = False
    if AGAIN:
        better = tl.minimum(_best(BEST, WHERE, b, PARTS), N - 1)
        unchanged = better == r
        r = better
    if unchanged:
        tl.store(BEST + B * PARTS + at, tl.load(BEST + at))
        tl.store(WHERE + B * PARTS + at, tl.load(WHERE + at))
    else:
        best = tl.full([], float("-inf"), tl.float64)
        where = tl.zeros([], tl.int64) + N
        low, high = share(tl.cdiv(kept, BLOCK_N), part, PARTS)
        for j in range(low, high):
            n = listed(LISTS, b, j, kept, N, CAPACITY, BLOCK_N)
            x = relative_energy(Y, H, b, r, n, N, D, True, BLOCK_N, BLOCK_D)
            place = j * BLOCK_N + tl.arange(0, BLOCK_N)
            tl.store(X + b * CAPACITY + place, x, mask=place < kept)
            logit = tl.load(PHI + n, mask=n < N, other=float("-inf")) - beta * x
            top = tl.max(logit, 0)
            lowest = tl.min(tl.where(logit == top, n, N), 0).to(tl.int64)
            where = tl.where(top > best, lowest, where)
            best = tl.maximum(best, top)
        offset = B * PARTS if AGAIN else 0
        tl.store(BEST + offset + at, best)
        tl.store(WHERE + offset + at, where)


@triton.jit
def _weights_kernel(
    PHI, BETA, LISTS, KEPT, X, BEST, WHERE, DOMINANT, SCALARS, N, CAPACITY,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    r, kept = tl.minimum(_best(BEST, WHERE, b, PARTS), N - 1), tl.load(KEPT + b)
    place = tl.arange(0, BLOCK)
    n = tl.load(LISTS + b * CAPACITY + place, mask=place < kept, other=0).to(tl.int64)
    x = tl.load(X + b * CAPACITY + place, mask=place < kept, other=0)
    own = (n == r) & (place < kept)
    x -= tl.sum(tl.where(own, x, 0.0), 0)
    logit = (tl.load(PHI + n, mask=place < kept, other=float("-inf")) - tl.load(PHI + r)) - tl.load(BETA + b) * x
    w = tl.where(own | (place >= kept), 0.0, tl.exp(logit))
    tl.store(X + b * CAPACITY + place, w, mask=place < kept)
    tl.store(DOMINANT + b, r)
    tl.store(SCALARS + 4 * b, tl.sum(w, 0))
    tl.store(SCALARS + 4 * b + 1, tl.sum(w * x, 0))
    tl.store(SCALARS + 4 * b + 2, tl.sum(w * x * x, 0))
    tl.store(SCALARS + 4 * b + 3, tl.sum(w * w, 0))


@triton.jit
def _tilted_kernel(
    Y, PHI, H, BETA, LISTS, KEPT, DOMINANT, NORM, SHIFT, EXCESS, V, U, P, ENERGY, N, D, CAPACITY,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    r, kept, beta, norm = tl.load(DOMINANT + b), tl.load(KEPT + b), tl.load(BETA + b), tl.load(NORM + b)
    prior, mean = tl.load(PHI + r), tl.load(EXCESS + b)
    low, high = share(tl.cdiv(kept, BLOCK_N), part, parts)
    energy = tl.zeros([BLOCK_N], tl.float64)
    for j in range(low, high):
        n = listed(LISTS, b, j, kept, N, CAPACITY, BLOCK_N)
        gap, first, second = projected(Y, H, SHIFT, V, b, r, n, N, D, K, BLOCK_N, BLOCK_D)
        p = norm * tl.exp((tl.load(PHI + n, mask=n < N, other=float("-inf")) - prior) - beta * gap)
        gap -= mean
        if K >= 1:
            p *= first + tl.load(U + b * K) * gap
        if K == 2:
            p *= second + tl.load(U + b * K + 1) * gap
        place = j * BLOCK_N + tl.arange(0, BLOCK_N)
        tl.store(P + b * CAPACITY + place, p, mask=place < kept)
        energy += tl.where(place < kept, p * gap, 0.0)
    tl.store(ENERGY + b * parts + part, tl.sum(energy, 0) + (norm - norm))


@triton.jit
def _moved_kernel(
    Y, LISTS, KEPT, DOMINANT, P, CENTRE, OUT, N, D, CAPACITY,
    CENTRED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    r, kept = tl.load(DOMINANT + b), tl.load(KEPT + b)
    reference = row(Y, r, d, d < D, D, tl.float64)
    if CENTRED:
        centre = row(CENTRE, b, d, d < D, D, tl.float64)
    total = tl.zeros([BLOCK_N, BLOCK_D], tl.float64)
    for j in range(0, tl.cdiv(kept, BLOCK_N)):
        n = listed(LISTS, b, j, kept, N, CAPACITY, BLOCK_N)
        place = j * BLOCK_N + tl.arange(0, BLOCK_N)
        p = tl.load(P + b * CAPACITY + place, mask=place < kept, other=0)
        y = row(Y, n[:, None], d[None, :], (n < N)[:, None] & (d < D)[None, :], D, tl.float64)
        s = y - reference[None, :]
        if CENTRED:
            s -= centre[None, :]
        total += p[:, None] * s
    moved = tl.sum(total, 0)
    if CENTRED:
        moved += centre - centre  # NaN of bad queries
    tl.store(OUT + b * D + d, moved, mask=d < D)


@triton.jit
def _spread_kernel(
    Y, LISTS, KEPT, DOMINANT, P, CENTRE, OUT, B, N, D, CAPACITY,
    NUMBER: tl.constexpr, PRECISION: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    b = (tl.program_id(0) % B).to(tl.int64)
    blocks, across, down = tl.cdiv(D, BLOCK_S), tl.program_id(0) // B, 0
    while across >= blocks - down:
        across -= blocks - down
        down += 1
    c, d = (down + across) * BLOCK_S + tl.arange(0, BLOCK_S), down * BLOCK_S + tl.arange(0, BLOCK_S)
    r, kept = tl.load(DOMINANT + b), tl.load(KEPT + b)
    reference_c, reference_d = row(Y, r, c, c < D, D, tl.float64), row(Y, r, d, d < D, D, tl.float64)
    centre_c, centre_d = row(CENTRE, b, c, c < D, D, tl.float64), row(CENTRE, b, d, d < D, D, tl.float64)
    total = tl.zeros([BLOCK_S, BLOCK_S], tl.float64)
    for j in range(0, tl.cdiv(kept, BLOCK_N)):
        n = listed(LISTS, b, j, kept, N, CAPACITY, BLOCK_N)
        place = j * BLOCK_N + tl.arange(0, BLOCK_N)
        q = tl.sqrt(tl.load(P + b * CAPACITY + place, mask=place < kept, other=0))
        y = row(Y, n[:, None], c[None, :], (n < N)[:, None] & (c < D)[None, :], D, tl.float64)
        right = q[:, None] * ((y - reference_c[None, :]) - centre_c[None, :])
        y = row(Y, n[None, :], d[:, None], (n < N)[None, :] & (d < D)[:, None], D, tl.float64)
        left = q[None, :] * ((y - reference_d[:, None]) - centre_d[:, None])
        product = tl.dot(left.to(NUMBER), right.to(NUMBER), input_precision=PRECISION, out_dtype=NUMBER)
        total += product.to(tl.float64)
    bad = tl.load(CENTRE + b * D)
    total = symmetric(total, across == 0) + (bad - bad)  # NaN of bad queries, also where none is listed
    inside = (d < D)[:, None] & (c < D)[None, :]
    tl.store(OUT + (b * D + d[:, None]) * D + c[None, :], total, mask=inside)
    tl.store(OUT + (b * D + c[None, :]) * D + d[:, None], total, mask=inside)
