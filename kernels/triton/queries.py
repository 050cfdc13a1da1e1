"""Lists of queries on the device, so that a kernel serves some of a batch that no host has seen."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastthermo.kernels.triton.device import launch

BLOCK = 4096


class Queries(NamedTuple):
    """Some queries of B: which, in order, first in `places`; how many."""

    places: torch.Tensor  # (B,) int64
    number: torch.Tensor  # (1,) int32


def divide(flags: torch.Tensor) -> tuple[Queries, Queries]:
    """Queries whose flag (B,) is false, and those whose flag is true."""
    queries = len(flags)
    places = torch.empty(2, queries, dtype=torch.int64, device=flags.device)
    numbers = torch.empty(2, 1, dtype=torch.int32, device=flags.device)
    launch(_divide_kernel, (2,), flags.view(torch.uint8), places, numbers, queries, BLOCK=BLOCK, num_warps=8)
    return Queries(places[0], numbers[0]), Queries(places[1], numbers[1])


def everyone(like: torch.Tensor) -> Queries:
    """All of B queries (B, ...)."""
    places = torch.arange(len(like), device=like.device)
    return Queries(places, torch.full((1,), len(like), dtype=torch.int32, device=like.device))


@triton.jit
def _divide_kernel(FLAGS, PLACES, NUMBERS, B, BLOCK: tl.constexpr):
    """A program lists the queries whose flag is its number."""
    which = tl.program_id(0)
    number = 0
    for start in range(0, B, BLOCK):
        b = start + tl.arange(0, BLOCK)
        mine = (b < B) & ((tl.load(FLAGS + b, mask=b < B, other=0) != 0).to(tl.int32) == which)
        place = number + tl.cumsum(mine.to(tl.int32), 0) - 1
        tl.store(PLACES + which.to(tl.int64) * B + place, b.to(tl.int64), mask=mine)
        number += tl.sum(mine.to(tl.int32), 0)
    tl.store(NUMBERS + which, number)
