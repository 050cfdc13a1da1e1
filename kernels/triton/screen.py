"""Certified screening: float16 products tell which groups of states may matter to a query.

States t = y - a and queries g = h - a are the upper of the two float16 of `split`, which bounds by eps the error of the
energy u = t.g - |t|^2/2 + log phi / beta, with gamma = (D/8 + 8) 2^-22 of a tensor core that accumulates all dimensions
in one chain of float32. A state whose u is below the second best by 2 eps + T/beta weighs less than e^-T of the
runner-up. A group keeps the largest u of its states; groups of which none matters are dropped, the others listed. Where
the list overflows the query is dense: most states matter, at a temperature at which float64 products are exact enough;
where they are not, all groups count as listed.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.bounds import SCREENED
from fastthermo.kernels.triton.config import GROUP, KEPT, KEPT_SHARE, TOLERANCE, tile
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.pack import Packed, groups
from fastthermo.kernels.triton.queries import Queries, divide, everyone
from fastthermo.kernels.triton.split import ACCUMULATION, halves

DOUBLE_CUTOFF = 700.0  # T in double precision: e^-700 = 1e-304


class Survey(NamedTuple):
    """Which groups of states matter to (B,) queries, and how each is summed."""

    groups: torch.Tensor  # (B, capacity) int32
    kept: torch.Tensor  # (B,) int32: how many of them; all groups where more than `capacity`
    near: torch.Tensor  # (B,) int64: a state to begin with
    sparse: Queries  # by differences
    dense: Queries | None  # by products
    is_dense: torch.Tensor | None  # (B,) bool


def survey(packed: Packed, field: torch.Tensor, beta: torch.Tensor, precision: str) -> Survey:
    """Without codes all groups are listed: of all states by differences."""
    queries, device = len(field), field.device
    if packed.codes is None:
        return unscreened(packed, torch.zeros(queries, dtype=torch.int64, device=device), everyone(field))
    gamma = (field.shape[1] / 8 + 8) * ACCUMULATION
    g = halves(packed, field, beta, "tf32", gamma=gamma, cutoff=DOUBLE_CUTOFF)
    count = groups(len(packed.states))
    bounds = torch.empty(queries, count, dtype=torch.float32, device=device)
    t = tile("screen", field.shape[1], packed.architecture)
    launch(
        _screen_kernel,
        (cdiv(queries, t.b) * cdiv(len(packed.states), t.n),),
        g.high, packed.codes.codes, g.unit, packed.half_squares, packed.log_weights, beta, bounds,
        queries, len(packed.states), g.high.shape[1], count,
        GROUP=GROUP, BLOCK_B=t.b, BLOCK_N=t.n, BLOCK_D=t.d, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    capacity = min(count, max(KEPT, int(KEPT_SHARE * count)))
    listed = torch.empty(queries, capacity, dtype=torch.int32, device=device)
    kept = torch.empty(queries, dtype=torch.int32, device=device)
    near = torch.empty(queries, dtype=torch.int64, device=device)
    t = tile("row", 0, packed.architecture)
    launch(
        _sift_kernel,
        (queries,),
        bounds, g.eps, beta, listed, kept, near, count, capacity,
        CUTOFF=DOUBLE_CUTOFF if precision == "double" else SCREENED, GROUP=GROUP, BLOCK_N=t.n,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    wanted = TOLERANCE[8 if precision == "double" else 4] * 2.0**29  # float64 products err by u = 2^-53, not 2^-24
    dense = (kept > capacity) & (g.typical <= wanted)
    return Survey(listed, kept, near, *divide(dense), dense)


def unscreened(packed: Packed, near: torch.Tensor, some: Queries) -> Survey:
    """All groups are listed, of some queries."""
    count = cdiv(len(packed.states), tile("differences", packed.states.shape[1], packed.architecture).n)
    kept = torch.full(near.shape, count, dtype=torch.int32, device=near.device)
    none = torch.zeros(len(near), 0, dtype=torch.int32, device=near.device)
    return Survey(none, kept, near, some, None, None)


@triton.jit
def _screen_kernel(
    G, T, UNIT, HALF, PHI, BETA, BOUNDS, B, N, D, COUNT,
    GROUP: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(B, BLOCK_B)  # programs side by side share a tile of states
    across = tl.program_id(0) // blocks
    b = (tl.program_id(0) % blocks) * BLOCK_B + tl.arange(0, BLOCK_B)
    n = across * BLOCK_N + tl.arange(0, BLOCK_N)
    row, column = b < B, n < N
    u = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
    for k in range(0, D, BLOCK_D):
        d = k + tl.arange(0, BLOCK_D)
        inside = d < D
        g = tl.load(G + b.to(tl.int64)[:, None] * D + d[None, :], mask=row[:, None] & inside[None, :], other=0)
        t = tl.load(T + n.to(tl.int64)[:, None] * D + d[None, :], mask=column[:, None] & inside[None, :], other=0)
        u = tl.dot(g, tl.trans(t), u, input_precision="tf32")  # float16: the name is not used
    unit = tl.load(UNIT + b, mask=row, other=0)
    half = tl.load(HALF + n, mask=column, other=0).to(tl.float32)
    temperature = tl.maximum(1 / tl.load(BETA + b, mask=row, other=1), 1e-37).to(tl.float32)  # not 0, for prior 0
    prior = tl.load(PHI + n, mask=column, other=float("-inf")).to(tl.float32)
    u = (u * unit[:, None] - half[None, :]) + prior[None, :] * temperature[:, None]
    u = tl.where(u == u, u, float("inf"))  # what overflows is kept
    best = tl.max(tl.reshape(u, [BLOCK_B, BLOCK_N // GROUP, GROUP]), 2)
    group = across * (BLOCK_N // GROUP) + tl.arange(0, BLOCK_N // GROUP)
    place = b.to(tl.int64)[:, None] * COUNT + group[None, :]
    tl.store(BOUNDS + place, best, mask=row[:, None] & (group < COUNT)[None, :])


@triton.jit
def _sift_kernel(
    BOUNDS, EPS, BETA, GROUPS, KEPT, NEAR, COUNT, CAPACITY,
    CUTOFF: tl.constexpr, GROUP: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """List the groups of a query whose bound reaches the second best group's less 2 eps + T/beta."""
    b = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK_N)
    best = tl.full([BLOCK_N], float("-inf"), tl.float32)
    second = best
    where = tl.zeros([BLOCK_N], tl.int32)
    for start in range(0, COUNT, BLOCK_N):
        j = start + lane
        u = tl.load(BOUNDS + b * COUNT + j, mask=j < COUNT, other=float("-inf"))
        second = tl.maximum(second, tl.minimum(best, u))
        where = tl.where(u > best, j, where)
        best = tl.maximum(best, u)
    owner = tl.argmax(best, 0)
    tl.store(NEAR + b, tl.max(tl.where(lane == owner, where, 0), 0).to(tl.int64) * GROUP)
    runner_up = tl.maximum(tl.max(second, 0), tl.max(tl.where(lane == owner, float("-inf"), best), 0))
    beta = tl.load(BETA + b)
    least = runner_up.to(tl.float64) - 2 * tl.load(EPS + b) - CUTOFF / beta
    sound = (tl.abs(least) < float("inf")) & (beta > 0)  # else, as where energies overflow, all is kept
    least = tl.where(sound, least, float("-inf"))
    kept = 0
    for start in range(0, COUNT, BLOCK_N):
        j = start + lane
        u = tl.load(BOUNDS + b * COUNT + j, mask=j < COUNT, other=float("-inf"))
        keep = (j < COUNT) & (u.to(tl.float64) >= least)
        place = kept + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.store(GROUPS + b * CAPACITY + place, j, mask=keep & (place < CAPACITY))
        kept += tl.sum(keep.to(tl.int32), 0)
    tl.store(KEPT + b, tl.where(kept > CAPACITY, COUNT, kept))
