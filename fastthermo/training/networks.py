"""Small networks and the preconditioning that makes a denoiser of them (Karras et al., arXiv:2206.00364, table 1).

    D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m), log(sigma) / 4)
    c_skip = s^2 / (sigma^2 + s^2)      c_out = sigma s / sqrt(sigma^2 + s^2)      c_in = 1 / sqrt(sigma^2 + s^2)

with m and s the mean and the root mean square deviation of the data. An untrained F = 0 is the optimal denoiser of the
isotropic Gaussian with these moments, which is also what remains at high temperature. Training draws log(sigma / s)
from N(0, SPREAD^2); beyond three standard deviations F is told the level there.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

SPREAD = 1.5  # from far above the critical temperatures of data to well below their collapse
HARMONICS = 16  # sines and cosines of the noise level
FEATURES = 64  # by which a classifier tells its classes
HEADS = 4  # of attention, which share its features evenly


class Denoiser(nn.Module):
    """E[y | y + sigma z] of a body F: called with (x (B, ...), sigma (B,))."""

    centre: Tensor
    deviation: Tensor

    def __init__(self, body: nn.Module, centre: Tensor, deviation: float) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("centre", centre)
        self.register_buffer("deviation", torch.tensor(deviation, dtype=centre.dtype))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
        total = (sigma**2 + self.deviation**2).sqrt()
        away = x - self.centre
        level = (sigma / self.deviation).log().clamp(-3 * SPREAD, 3 * SPREAD) + self.deviation.log()
        out = self.body(away / total, level.flatten() / 4)
        return self.centre + (self.deviation / total) ** 2 * away + (sigma * self.deviation / total) * out.to(x.dtype)


class Embedding(nn.Module):
    """Noise level (B,) to features (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.linspace(0.5, 8, HARMONICS) * math.pi / 2)
        self.layers = nn.Sequential(nn.Linear(2 * HARMONICS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, level: Tensor) -> Tensor:
        phase = level[:, None] * self.frequencies
        return self.layers(torch.cat([phase.cos(), phase.sin()], 1))


class MLP(nn.Module):
    """Residual blocks on states of any shape, taken as vectors."""

    def __init__(self, shape: tuple[int, ...], width: int, depth: int = 3) -> None:
        super().__init__()
        dimension = math.prod(shape)
        self.embed = Embedding(width)
        self.enter = nn.Linear(dimension, width)
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(width, width) for _ in range(3)]) for _ in range(depth))
        self.leave = _zero(nn.Linear(width, dimension))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        features = self.embed(level)
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            first, modulate, second = cast(nn.ModuleList, block)
            h = h + second(nn.functional.silu(first(nn.functional.silu(h)) + modulate(features)))
        return self.leave(nn.functional.silu(h)).reshape(x.shape)


class Block(nn.Module):
    """Two convolutions around a modulation by the noise level, beside a skip connection."""

    def __init__(self, inside: int, outside: int, features: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_norm(inside), _norm(outside)])
        self.first = nn.Conv2d(inside, outside, 3, padding=1)
        self.second = _zero(nn.Conv2d(outside, outside, 3, padding=1))
        self.modulate = nn.Linear(features, 2 * outside)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        gain, shift = self.modulate(features)[:, :, None, None].chunk(2, 1)
        h = self.first(nn.functional.silu(self.norms[0](x)))
        h = self.second(nn.functional.silu(self.norms[1](h) * (1 + gain) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Every pixel looks at every other; written out, so that forward derivatives pass through it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.enter, self.leave = nn.Conv2d(width, 3 * width, 1), _zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.enter(self.norm(x)).flatten(2).unflatten(1, (3, HEADS, -1)).unbind(1)
        weights = (q.mT @ k / q.shape[2] ** 0.5).softmax(-1)  # (B, heads, pixels, pixels)
        return x + self.leave((v @ weights.mT).flatten(1, 2).unflatten(2, x.shape[2:]))


class UNet(nn.Module):
    """Images through levels that halve the resolution and double the width, and back.

    Large images enter as patches of 2 x 2 pixels. Sizes that do not divide are padded by repeating the edge.

    shape : of one image, (H, W), (C, H, W) or (H, W, C).
    """

    def __init__(self, shape: tuple[int, ...], width: int, depth: int = 1) -> None:
        super().__init__()
        channels, *size = channels_first(shape)
        self.last = tuple(shape) == (*size, channels)
        self.patch = 2 if max(size) > 16 else 1
        levels = max(2, math.ceil(math.log2(max(size) / self.patch / 8)) + 1)
        step = self.patch * 2 ** (levels - 1)
        self.margin = [-n % step for n in size]
        features = 4 * width
        self.embed = Embedding(features)
        self.enter = nn.Conv2d(channels * self.patch**2, width, 3, padding=1)
        widths = [width * min(2**level, 4) for level in range(levels)]
        if widths[-1] % HEADS:
            raise ValueError(f"width: wanted an even number for images of this size, got {width}")
        kept, current = [width], width
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, w in enumerate(widths):
            for _ in range(depth):
                self.down.append(Block(current, w, features))
                kept.append(current := w)
            if level < levels - 1:
                self.down.append(nn.Conv2d(w, w, 3, stride=2, padding=1))
                kept.append(w)
        self.middle = nn.ModuleList([Block(current, current, features), Attention(current)])
        for level, w in reversed(list(enumerate(widths))):
            for _ in range(depth + 1):
                self.up.append(Block(current + kept.pop(), w, features))
                current = w
            if level:
                self.up.append(nn.Upsample(scale_factor=2))
        self.norm, self.leave = _norm(width), _zero(nn.Conv2d(width, channels * self.patch**2, 3, padding=1))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        features = self.embed(level)
        image = x.movedim(-1, 1) if self.last else x.reshape(len(x), -1, *x.shape[-2:])
        height, width = image.shape[2:]
        h = nn.functional.pad(image, (0, self.margin[1], 0, self.margin[0]), mode="replicate")
        h = self.enter(nn.functional.pixel_unshuffle(h, self.patch))
        kept = [h]
        for layer in self.down:
            h = layer(h, features) if isinstance(layer, Block) else layer(h)
            kept.append(h)
        h = self.middle[1](self.middle[0](h, features))
        for layer in self.up:
            h = layer(torch.cat([h, kept.pop()], 1), features) if isinstance(layer, Block) else layer(h)
        h = self.leave(nn.functional.silu(self.norm(h)))
        h = nn.functional.pixel_shuffle(h, self.patch)[:, :, :height, :width]
        return h.movedim(1, -1) if self.last else h.reshape(x.shape)


class Recogniser(nn.Module):
    """States (B, ...) to features (B, FEATURES) and the logits of classes: convolutions for images, else an MLP."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        image = channels_first(shape)
        self.image, self.last = image, tuple(shape) == (*image[1:], *image[:1])
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(math.prod(shape), 128)]
        if image:
            side = math.prod(-(-n // 4) for n in image[1:])
            first, *more = (nn.Conv2d(a, b, 3, s, 1) for a, b, s in ((image[0], 16, 1), (16, 32, 2), (32, 64, 2)))
            layers = [first, *(part for layer in more for part in (nn.SiLU(), layer)), nn.SiLU(), nn.Flatten()]
            layers.append(nn.Linear(64 * side, 128))
        self.body = nn.Sequential(*layers, nn.SiLU(), nn.Linear(128, FEATURES), nn.SiLU())
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.image:
            x = x.movedim(-1, 1) if self.last else x.reshape(len(x), *self.image)
        features = self.body(x)
        return features, self.head(features)


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H, W) of an image (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels; () for other shapes."""
    if len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3):
        shape = (shape[2], *shape[:2])
    shape = (1, *shape) if len(shape) == 2 else tuple(shape)
    return shape if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) >= 4 else ()


def build(shape: tuple[int, ...], centre: Any, deviation: float, width: int | None = None) -> Denoiser:
    """A U-Net for images, an MLP for data of every other shape, with the preconditioning of their moments."""
    image = bool(channels_first(shape))
    body = UNet(shape, width or 32) if image else MLP(shape, width or 128)
    return Denoiser(body, torch.as_tensor(centre, dtype=torch.float32).reshape(shape), deviation)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(width, 8), width)


def _zero(layer: Any) -> Any:
    """A last layer that starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
