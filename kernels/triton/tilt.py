"""Second passes over heads and tail: p_n = w_n a_1 .. a_K with a_k = v_k.(y - m) + u_k (H~ - <H~>).

Heads by `listed`; of the tail energies and projections t.v_k are products of halves, and p takes their place, relative
to the state `near` and to a bound of a_1 .. a_K, packed as the weights of the first pass are.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.boltzmann import headed, pitch
from fastthermo.kernels.triton.certify import REACH, reach_of, single_does
from fastthermo.kernels.triton.config import NARROW_MEAN, NARROW_SPLIT, tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.heads import Heads, row_parts
from fastthermo.kernels.triton.listed import moved, tilted
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.second import Given
from fastthermo.kernels.triton.split import WEIGHT, average, energies, halves, packed_weight
from fastthermo.kernels.triton.tail import weight
from fastthermo.kernels.triton.tile import row, share, slope

Tensor = torch.Tensor
NARROW = tl.constexpr((NARROW_SPLIT, NARROW_MEAN, NARROW_MEAN))  # of so many probes


class Tail(NamedTuple):
    """Sums of p over the tail are `scale` times those of what `work` holds."""

    found: Heads
    work: Tensor  # (B, pitch) float32: packed p
    scale: Tensor  # (B,), 0 where no tail matters
    centre: Tensor  # (B, D): m - a
    trace: Tensor  # (B,): <|y - m|^2>, of all states
    reach: Tensor  # (B,): the largest |t| of states that matter
    rough: Tensor  # (B,): what is expected of the error of <|y - m|^2> for the error of weights, were all in the tail
    sums: Tensor  # (B, 2): of p and p (H~ - <H~>)
    again: Tensor  # (B,) bool: float32 does not do

    def averages(self, packed: Packed, precision: str) -> Tensor:
        """Sum of p t over the tail, (B, D)."""
        assert packed.codes is not None
        parts, _ = average(packed, self.work, self.found.flags, precision)
        total = parts.sum(0, dtype=torch.float64) * (2.0**-WEIGHT / packed.codes.scale * self.scale)[:, None]
        return torch.where(self.scale[:, None] > 0, total[:, : packed.states.shape[1]], 0.0)


def tail_of(
    packed: Packed, field: Tensor, beta: Tensor, given: Given, probes: Tensor, energy_probes: Tensor, precision: str
) -> Tail:
    (queries, count), (size, dimension) = probes.shape[:2], packed.states.shape
    g, work, found = headed(packed, field, beta, precision)
    along, lengths = [], []
    for k in range(count):
        v = halves(packed, probes[:, k].contiguous(), beta, precision, anchored=False)
        along.append(torch.empty_like(work))
        lengths.append(v.length)
        energies(packed, v, precision, along[-1], square=False)
    centre, scalars = torch.empty_like(field), field.new_empty(8, queries)
    again = torch.empty(queries, dtype=torch.bool, device=field.device)
    t = tile("finish", dimension, packed.architecture)
    launch(
        _prepare_kernel,
        (queries,),
        packed.states, packed.anchor, packed.log_weights, packed.facts, field, beta, *given,
        found.near, found.origin, found.flags, found.lift, g.length, g.eps, g.typical,
        *lengths, *[g.length] * (2 - count), probes, energy_probes, centre, scalars, again.view(torch.uint8),
        queries, size, dimension, packed.anchor_index,
        K=count, BLOCK_D=t.d, num_warps=t.warps,
    )  # fmt: skip
    parts = row_parts(queries, size)
    sums = field.new_empty(queries, parts, 2)
    t = tile("row", 0, packed.architecture)
    launch(
        _tilt_kernel,
        (queries, parts),
        work, *along, *[work] * (2 - count), packed.log_bits, beta, work.view(torch.int32), found.near, found.origin,
        found.flags, found.lift, scalars, energy_probes, sums, queries, size, pitch(packed),
        K=count, UNIFORM=packed.uniform, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    scale, trace, rough, reach = scalars[0], scalars[1], scalars[6], scalars[7]
    return Tail(found, work, scale, centre, trace, reach, rough, sums.sum(1) * scale[:, None], again)


def cumulant(
    packed: Packed, field: Tensor, beta: Tensor, given: Given, probes: Tensor, energy_probes: Tensor, precision: str
) -> tuple[Tensor, Tensor, Tail]:
    tail = tail_of(packed, field, beta, given, probes, energy_probes, precision)
    p, energy = tilted(packed, field, beta, tail.found, given, probes, energy_probes)
    out = torch.empty_like(field)
    moved(packed, tail.found, given.dominant, p, given.shift, out)
    return (
        out + tail.averages(packed, precision) - tail.sums[:, :1] * tail.centre,
        energy + tail.sums[:, 1],
        tail,
    )


@triton.jit
def _prepare_kernel(
    Y, ANCHOR, PHI, FACTS, H, BETA, DOMINANT, NORM, SHIFT, EXCESS, NEAR, ORIGIN, FLAGS, LIFT, LENGTH, EPS,
    TYPICAL, FIRST, SECOND, V, U, CENTRE, SCALARS, AGAIN, B, N, D, anchor, K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """CENTRE; AGAIN; SCALARS (8, B): scale, trace, H~ - <H~> less x, a bound of a_1 .. a_K, v_k times m - a, rough,
    and reach.

    LENGTH, FIRST, SECOND: |h - a|, |v_1|, |v_2|.
    """
    b = tl.program_id(0).to(tl.int64)
    r, near, beta, excess = tl.load(DOMINANT + b), tl.load(NEAR + b), tl.load(BETA + b), tl.load(EXCESS + b)
    radius = tl.load(FACTS)
    square = tl.zeros([BLOCK_D], tl.float64)
    own, away, first, second = square, square, square, square
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        inside = d < D
        a, h = tl.load(ANCHOR + d, mask=inside, other=0), row(H, b, d, inside, D, tl.float64)
        y = row(Y, r, d, inside, D, tl.float64)
        s, shift = y - a, row(SHIFT, b, d, inside, D, tl.float64)
        own += s * (0.5 * s + (a - h))
        square += shift * (2 * (y - h) + shift)
        away += (y - h) * (y - h)
        centre = s + shift
        tl.store(CENTRE + b * D + d, centre, mask=inside)
        if K >= 1:
            first += centre * row(V, b * K, d, inside, D, tl.float64)
        if K == 2:
            second += centre * row(V, b * K + 1, d, inside, D, tl.float64)
    delta = tl.load(ORIGIN + b) - tl.sum(own, 0)  # energy of `near` relative to r's
    reach = 2 * radius * (radius / 2 + tl.load(LENGTH + b))  # of energies
    bound = tl.full([], 1, tl.float64)
    if K >= 1:
        bound *= 2 * radius * tl.load(FIRST + b) + tl.abs(tl.load(U + b * K)) * reach + 1e-300
    if K == 2:
        bound *= 2 * radius * tl.load(SECOND + b) + tl.abs(tl.load(U + b * K + 1)) * reach + 1e-300
    lifted = tl.exp2(-tl.load(LIFT + b)).to(tl.float64)
    scale = tl.load(NORM + b) * bound * lifted * tl.exp(tl.load(PHI + near) - tl.load(PHI + r) - beta * delta)
    flag, distance, logit = tl.load(FLAGS + b), tl.load(LENGTH + b), 2 * beta * tl.load(EPS + b)
    trace, energy, others = 2 * excess - tl.sum(square, 0), tl.sum(away, 0) / 2 + excess, 1 - tl.load(NORM + b)
    local = reach_of(radius, tl.load(FACTS + 1), beta, distance, REACH)  # of |t|
    tl.store(SCALARS + 7 * B + b, local)
    size = tl.where(flag > 0, others, 0.0) * local
    does = single_does(NARROW[K], trace, size, flag, logit, energy, others, beta, radius, distance, local)
    tl.store(AGAIN + b, (~does & (others == others)).to(tl.uint8))
    tl.store(SCALARS + b, tl.where(flag > 0, scale, 0.0))
    tl.store(SCALARS + B + b, trace)
    tl.store(SCALARS + 2 * B + b, delta - excess)
    tl.store(SCALARS + 3 * B + b, bound)
    tl.store(SCALARS + 4 * B + b, tl.sum(first, 0))
    tl.store(SCALARS + 5 * B + b, tl.sum(second, 0))
    width = tl.minimum(2 * tl.sum(away, 0) + 80 / beta, radius * radius)  # |y - m|^2 of states that matter
    tl.store(SCALARS + 6 * B + b, tl.load(TYPICAL + b) * width)


@triton.jit
def _tilt_kernel(
    WORK, FIRST, SECOND, PHI, BETA, OUT, NEAR, ORIGIN, FLAGS, LIFT, SCALARS, U, SUMS, B, N, PITCH,
    K: tl.constexpr, UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """FIRST and SECOND hold -t.v_k."""
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    c, prior, at = slope(tl.load(BETA + b)), tl.load(PHI + tl.load(NEAR + b)), SCALARS + b
    origin, shift, bound = tl.load(ORIGIN + b).to(tl.float32), tl.load(at + 2 * B), 1 / tl.load(at + 3 * B)
    first, second, lift = tl.load(at + 4 * B), tl.load(at + 5 * B), tl.load(LIFT + b)
    low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
    high = tl.where(tl.load(FLAGS + b) > 0, high, low)
    total = tl.zeros([BLOCK_N], tl.float64)
    total_energy = total
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        place = b * PITCH + n
        e = tl.load(WORK + place, mask=n < PITCH, other=float("inf"))
        w, x = weight(e, PHI, n, N, prior, c, origin, lift, UNIFORM)
        gap = x.to(tl.float64) + shift
        p = w.to(tl.float64) * bound
        if K >= 1:
            along = -tl.load(FIRST + place, mask=n < N, other=0).to(tl.float64) - first
            p *= along + tl.load(U + b * K) * gap
        if K == 2:
            along = -tl.load(SECOND + place, mask=n < N, other=0).to(tl.float64) - second
            p *= along + tl.load(U + b * K + 1) * gap
        p = tl.where(e < float("inf"), p, 0.0)
        tl.store(OUT + place, packed_weight(p.to(tl.float32)), mask=n < PITCH)
        total += p
        total_energy += p * gap
    tl.store(SUMS + (b * parts + part) * 2, tl.sum(total, 0))
    tl.store(SUMS + (b * parts + part) * 2 + 1, tl.sum(total_energy, 0))
