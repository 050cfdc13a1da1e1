"""Trajectories on a GPU, where launches would take most of the time: in one kernel, or as a graph replayed.

Of few states in few dimensions, one kernel takes many steps. A program keeps its samples in registers and goes over the
states, which stay in the cache of its multiprocessor. With s_n = y_n - h the mean is h + sum w s / sum w. In float32,
w = phi exp(-beta |s|^2 / 2) as it stands is in range unless a sample is far from all states, beta H~ > 17, and s is
y - h as in `near`. Samples that are far, and those of float64, take the states twice, for the largest logit and for the
weights, by float64 differences.

Of others, a step is captured once in a CUDA graph that reads its row of the schedule from the device.
"""
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment, misc"

import threading
from collections.abc import Callable
from functools import partial

import torch
import triton
import triton.language as tl

from fastthermo.kernels import Noise, Schedule, trajectory
from fastthermo.kernels.triton.boltzmann import boltzmann
from fastthermo.kernels.triton.config import tile, tile_for
from fastthermo.kernels.triton.device import cdiv, launch
from fastthermo.kernels.triton.noise import normals
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import working_type
from fastthermo.kernels.triton.step import signed, step
from fastthermo.kernels.triton.tile import BITS, column, pulls, slope, square_of, two_floats

FUSED_BYTES = 100_000  # of states, at most
FUSED_DIMENSION = {torch.float32: 8, torch.float64: 4}  # at most, by the dtype of samples: beyond, registers spill
CAPTURED = 4  # steps from which a graph pays
FAR = tl.constexpr(2.0**-24)  # of the sum of exp(-beta H~), with the largest phi as 1
How = tuple[trajectory.Mean, Callable[..., torch.Tensor]]  # mean and step, as `trajectory` takes them


def evolve(packed: Packed, x: torch.Tensor, schedule: Schedule, noise: Noise, whole: bool = False) -> torch.Tensor:
    if _fits(packed.states, x, schedule):
        return _fused(packed, x, schedule, noise, whole)
    how = trajectory.mean_of(partial(boltzmann, packed), packed.states), step
    if not x.is_cuda:
        return trajectory.evolve(*how, x, schedule, noise, whole)
    x, path, steps = x.clone(), _room(x, schedule, whole), len(schedule.table)
    once = by_tables(how, x, schedule, noise, path)
    with torch.cuda.device_of(x):
        if steps >= CAPTURED and not torch.cuda.is_current_stream_capturing():
            _replay(packed, once, steps)
        else:
            for _ in range(steps):
                once()
    return x if path is None else path


def _replay(packed: Packed, once: Callable[[], None], steps: int) -> None:
    """The first step compiles what there is to compile; the second is captured, and replayed for all others.

    What a graph allocated goes back to the device only when the allocator runs out outside of a capture. So the last
    graph of a stream is kept until the next has taken over its memory.
    """
    stream, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    key = threading.get_ident(), stream.cuda_stream
    aside, last = packed.graphs.get(key) or (torch.cuda.Stream(), None)
    aside.wait_stream(stream)
    with torch.cuda.stream(aside):
        once()
        pool = None if last is None else last.pool()
        graph.capture_begin(pool, capture_error_mode="thread_local")  # without the synchronisation of torch.cuda.graph
        try:
            once()
        finally:
            graph.capture_end()
    packed.graphs[key] = aside, graph
    stream.wait_stream(aside)
    for _ in range(1, steps):
        graph.replay()


def by_tables(
    how: How, x: torch.Tensor, schedule: Schedule, noise: Noise, path: torch.Tensor | None
) -> Callable[[], None]:
    """A function that takes the next step of x in place, all that changes between steps being read from the device."""
    place = torch.zeros(1, dtype=torch.int64, device=x.device)

    def once() -> None:
        row, following = (
            None if table is None else table.index_select(0, place)[0].unbind()
            for table in (schedule.table, schedule.after)
        )
        x.copy_(trajectory.one_step(*how, x, schedule, row, following, place + noise.first_step, noise))
        if path is not None:
            path.index_copy_(0, place, x[None])
        place.add_(1)

    return once


def _room(x: torch.Tensor, schedule: Schedule, whole: bool) -> torch.Tensor | None:
    return x.new_empty(len(schedule.table), *x.shape) if whole else None


def _fits(states: torch.Tensor, x: torch.Tensor, schedule: Schedule) -> bool:
    few = x.shape[1] <= FUSED_DIMENSION.get(x.dtype, 0) and states.numel() * states.element_size() <= FUSED_BYTES
    return few and schedule.after is None and schedule.scale == 1 and schedule.shift == 0


def _fused(packed: Packed, x: torch.Tensor, schedule: Schedule, noise: Noise, whole: bool) -> torch.Tensor:
    x, (rows, dimension) = x.contiguous(), x.shape
    out, path = torch.empty_like(x), _room(x, schedule, whole)
    key = signed(noise.seed), noise.first_step, noise.first_sample, noise.stream
    single = x.dtype == torch.float32 and working_type(packed, "single") == "float32"
    if single:
        t = tile_for(rows, "steps in float32", dimension, packed.architecture)
    else:
        t = tile("steps", dimension, packed.architecture)
    launch(
        _evolve_kernel,
        (cdiv(rows, t.b),),
        x, packed.states.float() if single else packed.states.double(), packed.log_weights, packed.log_bits, out, path,
        schedule.table.contiguous(), rows, len(packed.states), len(schedule.table), *key,
        D=dimension, WIDE=x.dtype == torch.float64, SINGLE=single, UNIFORM=packed.uniform, KEEP=whole,
        BLOCK_B=t.b, BLOCK_N=t.n, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out if path is None else path


@triton.jit(do_not_specialize=["rows", "states", "steps", "seed", "first_step", "first_sample", "stream"])
def _evolve_kernel(
    X, Y, PHI, LOG_BITS, OUT, PATH, TABLE, rows: tl.int64, states: tl.int32, steps: tl.int32,
    seed: tl.int64, first_step: tl.int64, first_sample: tl.int64, stream: tl.int64,
    D: tl.constexpr, WIDE: tl.constexpr, SINGLE: tl.constexpr, UNIFORM: tl.constexpr, KEEP: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """TABLE (T, 5): a, b, c, 1/alpha, beta."""
    number: tl.constexpr = tl.float64 if WIDE else tl.float32
    row = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    x = ()
    for d in tl.static_range(D):
        x = x + (tl.load(X + row * D + d, mask=row < rows, other=0).to(tl.float64),)
    for i in range(steps):
        a, b, c = tl.load(TABLE + 5 * i), tl.load(TABLE + 5 * i + 1), tl.load(TABLE + 5 * i + 2)
        inverse, beta = tl.load(TABLE + 5 * i + 3), tl.load(TABLE + 5 * i + 4)
        if SINGLE:
            force = _in_single(Y, LOG_BITS, x, inverse, beta, states, UNIFORM, D, BLOCK_B, BLOCK_N)
            far = (row < rows) & ~(force[D] >= FAR)
            if tl.max(far.to(tl.int32), 0) > 0:
                others = _average(Y, PHI, x, inverse, beta, states, D, number, BLOCK_B, BLOCK_N)
                chosen = ()
                for d in tl.static_range(D + 1):
                    chosen = chosen + (tl.where(far, others[d], force[d]),)
                force = chosen
        else:
            force = _average(Y, PHI, x, inverse, beta, states, D, number, BLOCK_B, BLOCK_N)
        moved = ()
        for d in tl.static_range(D):
            if d % 4 == 0:
                draw = tl.full([BLOCK_B], d // 4, tl.uint32)
                z = normals(seed, first_step + i, first_sample + row, draw, stream, WIDE)
            mean = x[d] * inverse + (force[d] / force[D]).to(tl.float64)
            value = (a * x[d] + b * mean + c * z[d % 4].to(tl.float64)).to(number)
            if KEEP:
                tl.store(PATH + (i * rows + row) * D + d, value, mask=row < rows)
            moved = moved + (value.to(tl.float64),)
        x = moved
    for d in tl.static_range(D):
        tl.store(OUT + row * D + d, x[d].to(number), mask=row < rows)


@triton.jit
def _in_single(
    Y, LOG_BITS, x, inverse, beta, states,
    UNIFORM: tl.constexpr, D: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Sums of w (y - h) a dimension, then of w, (BLOCK_B,), w times any number."""
    c = 0.5 * slope(beta)
    high, low, sums = (), (), ()
    for d in tl.static_range(D):
        first, second = two_floats(x[d] * inverse)
        high, low = high + (first[:, None],), low + (second[:, None],)
    for _ in tl.static_range(D + 1):
        sums = sums + (tl.zeros([BLOCK_B, BLOCK_N], tl.float32),)
    whole = states // BLOCK_N * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        sums = _added(Y, LOG_BITS, start, states, high, low, c, sums, False, UNIFORM, D, BLOCK_N)
    if whole < states:
        sums = _added(Y, LOG_BITS, whole, states, high, low, c, sums, True, UNIFORM, D, BLOCK_N)
    totals = ()
    for d in tl.static_range(D + 1):
        totals = totals + (tl.sum(sums[d], 1),)
    return totals


@triton.jit
def _added(
    Y, LOG_BITS, start, states, high, low, c, sums,
    RAGGED: tl.constexpr, UNIFORM: tl.constexpr, D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    n = start + tl.arange(0, BLOCK_N)[None, :]
    s = pulls(Y, n, n < states if RAGGED else True, high, low, D)
    z = c * square_of(s, D)
    if not UNIFORM:
        z += tl.load(LOG_BITS + n, mask=n < states, other=float("-inf"))
    w = tl.exp2(z)
    if RAGGED and UNIFORM:
        w = tl.where(n < states, w, 0.0)
    new = ()
    for d in tl.static_range(D):
        new = new + (sums[d] + w * s[d],)
    return new + (sums[D] + w,)


@triton.jit
def _average(
    Y, PHI, x, inverse, beta, states,
    D: tl.constexpr, number: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """As `in_single`, of float64 differences."""
    scale = -0.5 * BITS * beta
    top = tl.full([BLOCK_B, BLOCK_N], float("-inf"), tl.float64)
    for start in range(0, states, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)[None, :]
        s = _differences(Y, n, states, x, inverse, D)
        top = tl.maximum(top, _logit(PHI, n, states, scale, s, D))
    most = tl.max(top, 1)[:, None]
    total = tl.zeros([BLOCK_B, BLOCK_N], number)
    force = ()
    for _ in tl.static_range(D):
        force = force + (total,)
    for start in range(0, states, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)[None, :]
        s = _differences(Y, n, states, x, inverse, D)
        w = tl.exp2((_logit(PHI, n, states, scale, s, D) - most).to(number))
        total += w
        new = ()
        for d in tl.static_range(D):
            new = new + (force[d] + w * s[d].to(number),)
        force = new
    totals = ()
    for d in tl.static_range(D):
        totals = totals + (tl.sum(force[d], 1),)
    return totals + (tl.sum(total, 1),)


@triton.jit
def _logit(PHI, n, states, scale, s, D: tl.constexpr):
    """In bits, rounded alike wherever it is asked: far away its last digit is more than a bit."""
    return scale * square_of(s, D) + BITS * tl.load(PHI + n, mask=n < states, other=float("-inf"))


@triton.jit
def _differences(Y, n, states, x, inverse, D: tl.constexpr):
    """y_n - h in float64, a tuple of D columns."""
    s = ()
    for d in tl.static_range(D):
        s = s + (column(Y, n, n < states, d, D, tl.float64) - (x[d] * inverse)[:, None],)
    return s
