"""Second passes over heads and tail: p_n = w_n a_1 .. a_K with a_k = v_k.(y - m) + u_k (H~ - <H~>).

Heads by `listed`; of the tail energies and projections t.v_k are products of halves, and p takes their place, relative
to the state `near` and to a bound of a_1 .. a_K, packed as the weights of the first pass are.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.boltzmann import headed, pitch
from fastthermo.kernels.triton.config import tile
from fastthermo.kernels.triton.device import launch
from fastthermo.kernels.triton.heads import Heads, row_parts, weight
from fastthermo.kernels.triton.listed import moved, tilted
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.refine import energies_of
from fastthermo.kernels.triton.second import Given
from fastthermo.kernels.triton.split import WEIGHT, average, energies, halves, packed_weight
from fastthermo.kernels.triton.tile import share, slope

Tensor = torch.Tensor


class Tail(NamedTuple):
    """Sums of p over the tail are `scale` times those of what `work` holds."""

    found: Heads
    work: Tensor  # (B, pitch) float32: packed p
    scale: Tensor  # (B,), 0 where no tail matters
    centre: Tensor  # (B, D): m - a
    sums: Tensor  # (B, 2): of p and p (H~ - <H~>)

    def averages(self, packed: Packed, precision: str) -> Tensor:
        """Sum of p t over the tail, (B, D)."""
        assert packed.codes is not None
        parts, _ = average(packed, self.work, self.found.flags, precision)
        total = parts.sum(0, dtype=torch.float64) * (2.0**-WEIGHT / packed.codes.scale * self.scale)[:, None]
        return torch.where(self.scale[:, None] > 0, total, 0.0)


def tail_of(
    packed: Packed, field: Tensor, beta: Tensor, given: Given, probes: Tensor, energy_probes: Tensor, precision: str
) -> Tail:
    (queries, count), size = probes.shape[:2], len(packed.states)
    g, work, found = headed(packed, field, beta, precision)
    r = given.dominant
    centre = packed.states[r].double() - packed.anchor + given.shift
    own = torch.empty_like(beta)
    energies_of(packed, field, r, own)
    delta = found.origin - own  # energy of `near` relative to r's
    logit = packed.log_weights[found.near] - packed.log_weights[r] - beta * delta
    scale = torch.where(found.flags > 0, given.norm * logit.exp(), 0.0)
    reach = 2 * packed.radius * (packed.radius / 2 + g.length)  # of energies
    along, bound = [], torch.ones_like(beta)
    for k in range(count):
        v = halves(packed, probes[:, k].contiguous(), beta, precision, anchored=False)
        along.append(torch.empty_like(work))
        energies(packed, v, precision, along[-1], square=False)
        bound *= 2 * packed.radius * v.length + energy_probes[:, k].abs() * reach + 1e-300
    offsets = (probes * centre[:, None]).sum(2)
    parts = row_parts(queries, size)
    sums = field.new_empty(queries, parts, 2)
    along += [work] * (2 - count)
    t = tile("row", 0, packed.architecture)
    launch(
        _tilt_kernel,
        (queries, parts),
        work, *along, packed.log_bits, beta, work.view(torch.int32), found.near, found.origin, found.flags,
        delta - given.excess, offsets, energy_probes, bound, sums, size, pitch(packed),
        K=count, UNIFORM=packed.uniform, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return Tail(found, work, scale * bound, centre, sums.sum(1) * (scale * bound)[:, None])


def cumulant(
    packed: Packed, field: Tensor, beta: Tensor, given: Given, probes: Tensor, energy_probes: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    tail = tail_of(packed, field, beta, given, probes, energy_probes, precision)
    p, energy = tilted(packed, field, beta, tail.found, given, probes, energy_probes)
    out = torch.empty_like(field)
    moved(packed, tail.found, given.dominant, p, given.shift, out)
    return (
        out + tail.averages(packed, precision) - tail.sums[:, :1] * tail.centre,
        energy + tail.sums[:, 1],
    )


@triton.jit
def _tilt_kernel(
    WORK, FIRST, SECOND, PHI, BETA, OUT, NEAR, ORIGIN, FLAGS, GAP, OFFSETS, U, BOUND, SUMS, N, PITCH,
    K: tl.constexpr, UNIFORM: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """FIRST and SECOND hold -t.v_k."""
    b, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    c, prior, bound = slope(tl.load(BETA + b)), tl.load(PHI + tl.load(NEAR + b)), 1 / tl.load(BOUND + b)
    origin, shift = tl.load(ORIGIN + b).to(tl.float32), tl.load(GAP + b)
    low, high = share(tl.cdiv(N, BLOCK_N), part, parts)
    high = tl.where(tl.load(FLAGS + b) > 0, high, low)
    total = tl.zeros([BLOCK_N], tl.float64)
    total_energy = total
    for j in range(low, high):
        n = j * BLOCK_N + tl.arange(0, BLOCK_N)
        at = b * PITCH + n
        e = tl.load(WORK + at, mask=n < PITCH, other=float("inf"))
        w, x = weight(e, PHI, n, N, prior, c, origin, UNIFORM)
        gap = x.to(tl.float64) + shift
        p = w.to(tl.float64) * bound
        if K >= 1:
            along = -tl.load(FIRST + at, mask=n < N, other=0).to(tl.float64) - tl.load(OFFSETS + b * K)
            p *= along + tl.load(U + b * K) * gap
        if K == 2:
            along = -tl.load(SECOND + at, mask=n < N, other=0).to(tl.float64) - tl.load(OFFSETS + b * K + 1)
            p *= along + tl.load(U + b * K + 1) * gap
        p = tl.where(e < float("inf"), p, 0.0)
        tl.store(OUT + at, packed_weight(p.to(tl.float32)), mask=n < PITCH)
        total += p
        total_energy += p * gap
    tl.store(SUMS + (b * parts + part) * 2, tl.sum(total, 0))
    tl.store(SUMS + (b * parts + part) * 2 + 1, tl.sum(total_energy, 0))
