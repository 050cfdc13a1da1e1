"""States as they came, their float16 parts with what these leave out, and what the error bound needs."""

import math
from typing import NamedTuple

import torch

from fastthermo.kernels.bounds import SINGLE_RANGE
from fastthermo.kernels.living import living
from fastthermo.kernels.triton.config import GROUP, SCREEN_SIZE, SMALL_DIMENSION
from fastthermo.kernels.triton.device import architecture, cdiv

BLOCK = 1 << 24  # numbers at once
SCREENED_RANGE = 1e-15, 1e15  # of R, of which float32 holds the bounds of screening
UP = 1 + 1e-6  # rounds a norm up


class Codes(NamedTuple):
    """t = y - a in float16, scaled by a power of two: scale t = codes + rest, rounded; codes alone for bytes."""

    codes: torch.Tensor  # (N, width) float16, 0 from D on
    rest: torch.Tensor | None  # the same; None where it is zero, and of float64 states
    scale: float
    lost: float  # max |t - (codes + rest) / scale|
    small: float  # max |rest / scale|


class Packed(NamedTuple):
    states: torch.Tensor  # (N, D) float32, float64 or uint8
    log_weights: torch.Tensor  # (N,) float64, the largest 0
    log_bits: torch.Tensor  # (N,) float32: log_weights to base 2
    uniform: bool  # all log_weights 0
    anchor: torch.Tensor  # (D,) float64: the state nearest the mean, so that t is exact for bytes
    anchor_index: int
    half_squares: torch.Tensor  # (N,) float64: |t|^2 / 2
    radius: float  # max |t|
    spread: float  # of the finite log-weights
    facts: torch.Tensor  # float64: radius, spread and what `Codes` says in numbers, on the device
    codes: Codes | None  # None where all states are summed by differences
    architecture: str
    graphs: dict[tuple[int, int], tuple[torch.cuda.Stream, torch.cuda.CUDAGraph]]  # of `evolve`, by thread and stream

    @property
    def ordinary(self) -> bool:
        """Whether float32 holds energies of the data."""
        return _between(self.radius, SINGLE_RANGE)


def pack(states: torch.Tensor, log_weights: torch.Tensor) -> Packed:
    """Once an ensemble and device; unlike a call it waits for the device."""
    states, log_phi = living(states, log_weights).contiguous(), log_weights.contiguous()
    arch = architecture(states.device)
    mean = torch.stack([block.double().sum(0) for block in _blocks(states)]).sum(0) / len(states)
    nearest = int(_squares(states, mean).argmin())
    anchor = states[nearest].double()
    squares = _squares(states, anchor)
    radius = float(squares.max().sqrt()) * (1 + 1e-12)
    finite = log_phi[log_phi > -torch.inf]
    screened = states.shape[1] > SMALL_DIMENSION and len(states) >= SCREEN_SIZE and _between(radius, SCREENED_RANGE)
    codes = _encode(states, anchor) if screened else None
    spread = float(finite.max() - finite.min())
    numbers = [radius, spread, *((codes.scale, codes.lost, codes.small) if codes else ())]
    log_phi, halves = log_phi - finite.max(), squares / 2
    log_bits = (log_phi / math.log(2)).float()
    uniform = spread == 0 and len(finite) == len(states)
    # last, for it waits for all before: calls may come from other streams
    facts = torch.tensor(numbers, dtype=torch.float64, device=states.device)
    return Packed(states, log_phi, log_bits, uniform, anchor, nearest, halves, radius, spread, facts, codes, arch, {})


def _between(radius: float, ends: tuple[float, ...]) -> bool:
    return radius == 0 or ends[0] <= radius <= ends[1]


def _encode(states: torch.Tensor, anchor: torch.Tensor) -> Codes:
    largest = max(float((block.double() - anchor).abs().max()) for block in _blocks(states))
    scale = 1.0 if states.dtype == torch.uint8 else _power_of_two(largest)
    size, dimension = states.shape
    codes = torch.zeros(size, width(dimension), dtype=torch.float16, device=states.device)
    rest = torch.zeros_like(codes) if states.dtype == torch.float32 else None
    lost, small, begin = 0.0, 0.0, 0
    for block in _blocks(states):
        rows = slice(begin, begin + len(block))
        t = (block.double() - anchor) * scale
        left = t - codes[rows, :dimension].copy_(t).double()
        if rest is not None:
            low = rest[rows, :dimension].copy_(left).double()
            small, left = max(small, _longest(low)), left - low
        lost, begin = max(lost, _longest(left)), rows.stop
    return Codes(codes, rest if small > 0 else None, scale, lost * UP / scale, small * UP / scale)


def width(dimension: int) -> int:
    """Length of a row of float16, which vectors divide: else each number would be loaded by itself."""
    return cdiv(dimension, 16) * 16


def _longest(rows: torch.Tensor) -> float:
    return float(rows.norm(dim=1).max())


def _power_of_two(largest: float) -> float:
    """By which numbers up to `largest` fill the range of float16 where it is dense: up to 2^11."""
    return 2.0 ** (11 - math.frexp(max(largest, 1e-60))[1])


def groups(size: int) -> int:
    return cdiv(size, GROUP)


def _blocks(states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return states.split(max(1, BLOCK // states.shape[1]))


def _squares(states: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    return torch.cat([(block.double() - centre).square().sum(1) for block in _blocks(states)])
