"""What the kernels' noise is made of, brought out; runs where Triton is interpreted."""

from functools import partial
from importlib import import_module
from typing import Any

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton import again, noise

LANES = 1024


@triton.jit
def _words_kernel(
    OUT, SAMPLE, DRAW, count, seed: tl.int64, step: tl.int64, stream: tl.int64, BLOCK: tl.constexpr
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    sample, draw = tl.load(SAMPLE + i, mask=i < count, other=0), tl.load(DRAW + i, mask=i < count, other=0)
    w = noise.words(seed, step, sample, draw, stream)
    for k in tl.static_range(4):
        tl.store(OUT + k * count + i, w[k].to(tl.int64), mask=i < count)


@triton.jit
def _box_muller_kernel(OUT, FIRST, SECOND, count, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(FIRST + i, mask=i < count, other=0).to(tl.uint32)
    second = tl.load(SECOND + i, mask=i < count, other=0).to(tl.uint32)
    if WIDE:
        cosine, sine = noise.box_muller_wide(first, second)
    else:
        cosine, sine = noise.box_muller(first, second)
    tl.store(OUT + i, cosine, mask=i < count)
    tl.store(OUT + count + i, sine, mask=i < count)


def words(sample: torch.Tensor, draw: torch.Tensor, seed: int, step: int, stream: int) -> torch.Tensor:
    """(4, n) int64 words for counters (sample, step, draw, stream)."""
    out, count = torch.empty(4, len(sample), dtype=torch.int64), len(sample)
    grid = (triton.cdiv(count, LANES),)
    _words_kernel[grid](out, sample, draw, count, seed, step, stream, BLOCK=LANES)
    return out


def box_muller(first: torch.Tensor, second: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(2, n) normal numbers of int64 words."""
    out, count = torch.empty(2, len(first), dtype=dtype), len(first)
    grid, block = (triton.cdiv(count, 16 * LANES),), 16 * LANES
    _box_muller_kernel[grid](out, first, second, count, WIDE=dtype == torch.float64, BLOCK=block)
    return out


def replayed(packed: Any, x: torch.Tensor, schedule: Any, noise: Any) -> torch.Tensor:
    """(T, B, D): the steps that a CUDA graph would take."""
    from fastthermo.kernels.trajectory import mean_of
    from fastthermo.kernels.triton import boltzmann, step
    from fastthermo.kernels.triton.evolve import by_tables

    x, path = x.clone(), x.new_empty(len(schedule.table), *x.shape)
    how = mean_of(partial(boltzmann, packed), packed.states), step
    once = by_tables(how, x, schedule, noise, path)
    for _ in range(len(path)):
        once()
    return path


def summed_again(packed: Any, field: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """(B,) whether a query's sums in single precision are made again in float64."""
    boltzmann: Any = import_module("fastthermo.kernels.triton.boltzmann")
    flags, original = [], boltzmann.sum_again

    def noted(*arguments: Any) -> None:
        flags.append(arguments[4].clone())
        original(*arguments)

    boltzmann.sum_again = noted
    try:
        boltzmann.boltzmann(packed, field, beta, "single")
    finally:
        boltzmann.sum_again = original
    return torch.cat(flags)


def by_many_programs(name: str, *arguments: Any) -> Any:
    """What a kernel makes where several programs share a query that is summed again."""
    longest, again.LONG = again.LONG, 0
    try:
        return getattr(import_module("fastthermo.kernels.triton"), name)(*arguments)
    finally:
        again.LONG = longest
