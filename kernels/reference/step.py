"""x' = a x + b mean + c z with counter-based normal noise (Philox 4x32-10, Salmon et al., SC 2011)."""

import math

import torch

MASK = 0xFFFFFFFF


def step(
    x: torch.Tensor,
    mean: torch.Tensor,
    a: float,
    b: float,
    c: float,
    seed: int,
    step: int,
    first_sample: int = 0,
    stream: int = 0,
) -> torch.Tensor:
    out = a * x.double() + b * mean.double()
    if c != 0:
        out += c * _normal(tuple(x.shape), seed, step, first_sample, stream, x.device)
    return out.to(x.dtype)


def _normal(
    shape: tuple[int, ...], seed: int, step: int, first_sample: int, stream: int, device: torch.device
) -> torch.Tensor:
    rows, dimension = shape
    sample = torch.arange(first_sample, first_sample + rows, device=device)[:, None]
    draw = torch.arange(-(-dimension // 4), device=device)[None, :]
    words = philox(sample, torch.full_like(sample, step), draw, torch.full_like(sample, stream), seed)
    pairs = [_box_muller(words[i].double(), words[i + 1].double()) for i in (0, 2)]
    return torch.stack([*pairs[0], *pairs[1]], -1).flatten(1)[:, :dimension]


def _box_muller(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    radius = (-2 * ((first + 0.5) * 2.0**-32).log()).sqrt()
    angle = second * (2 * math.pi * 2.0**-32)
    return radius * angle.cos(), radius * angle.sin()


def philox(
    c0: torch.Tensor, c1: torch.Tensor, c2: torch.Tensor, c3: torch.Tensor, seed: int
) -> tuple[torch.Tensor, ...]:
    """Ten rounds of Philox 4x32 on int64 lanes that hold 32-bit words; broadcasts the four counters."""
    c0, c1, c2, c3 = torch.broadcast_tensors(c0 & MASK, c1 & MASK, c2 & MASK, c3 & MASK)
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low word of a 32 x 32 bit product, without overflow of a signed 64-bit lane."""
    low, high = (a & 0xFFFF) * b, (a >> 16) * b
    middle = low + ((high & 0xFFFF) << 16)
    return ((high >> 16) + (middle >> 32)) & MASK, middle & MASK
