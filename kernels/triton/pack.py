"""States as they came, float16 copies for screening with what these leave out, and what the error bound needs."""

from typing import NamedTuple

import torch

from fastthermo.kernels.triton.config import GROUP, SCREEN_SIZE, SMALL_DIMENSION
from fastthermo.kernels.triton.device import architecture

BLOCK = 1 << 24  # numbers at once
UP = 1 + 1e-6  # rounds a norm up


class Codes(NamedTuple):
    """t = y - a in float16, scaled by a power of two; exact for bytes."""

    codes: torch.Tensor  # (N, D) float16: scale t, rounded
    scale: float
    residual: float  # max |t - codes / scale|


class Packed(NamedTuple):
    states: torch.Tensor  # (N, D) float32, float64 or uint8
    log_weights: torch.Tensor  # (N,) float64, the largest 0
    anchor: torch.Tensor  # (D,) float64: the state nearest the mean, so that t is exact for bytes
    half_squares: torch.Tensor  # (N,) float64: |t|^2 / 2
    radius: float  # max |t|
    spread: float  # of the finite log-weights
    codes: Codes | None  # None where all states are summed by differences
    architecture: str


def pack(states: torch.Tensor, log_weights: torch.Tensor) -> Packed:
    """Once an ensemble and device; unlike a call it waits for the device."""
    states, log_phi = states.contiguous(), log_weights.contiguous()
    arch = architecture(states.device)
    mean = torch.stack([block.double().sum(0) for block in _blocks(states)]).sum(0) / len(states)
    anchor = states[_squares(states, mean).argmin()].double()
    squares = _squares(states, anchor)
    radius = float(squares.max().sqrt()) * (1 + 1e-12)
    finite = log_phi[log_phi > -torch.inf]
    screened = states.shape[1] > SMALL_DIMENSION and len(states) >= SCREEN_SIZE
    codes = _encode(states, anchor) if screened else None
    spread = float(finite.max() - finite.min())
    return Packed(states, log_phi - finite.max(), anchor, squares / 2, radius, spread, codes, arch)


def _encode(states: torch.Tensor, anchor: torch.Tensor) -> Codes:
    largest = max(float((block.double() - anchor).abs().max()) for block in _blocks(states))
    scale = 1.0 if states.dtype == torch.uint8 else float(power_of_two(torch.tensor(largest, dtype=torch.float64)))
    codes = torch.empty(states.shape, dtype=torch.float16, device=states.device)
    residual = 0.0
    for block, out in zip(_blocks(states), _blocks(codes), strict=True):
        t = block.double() - anchor
        out.copy_(t * scale)
        residual = max(residual, float((t - out.double() / scale).norm(dim=1).max()))
    return Codes(codes, scale, residual * UP)


def power_of_two(largest: torch.Tensor) -> torch.Tensor:
    """By which numbers up to `largest` fill the range of float16 where it is dense: up to 2^11."""
    exponent = torch.frexp(largest.clamp_min(1e-60)).exponent
    return torch.ldexp(torch.ones_like(largest), 11 - exponent)


def groups(size: int) -> int:
    return -(-size // GROUP)


def _blocks(states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return states.split(max(1, BLOCK // states.shape[1]))


def _squares(states: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    return torch.cat([(block.double() - centre).square().sum(1) for block in _blocks(states)])
