"""States for the cases: real images where the machine has them, else synthetic ones that are hard in the same way.

Makers are deterministic: the same (N, D) is the same data on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

Tensor = torch.Tensor
BYTE = 256.0  # states of bytes are byte / 256, so that float32 holds them exactly


class Data(NamedTuple):
    """States (N, D) float32, the same as bytes where they are bytes / 256, and where they come from."""

    states: Tensor
    as_bytes: Tensor | None
    source: str

    def to(self, device: str) -> Data:
        if self.as_bytes is None:
            return Data(self.states.to(device), None, self.source)
        as_bytes = self.as_bytes.to(device)
        return Data(as_bytes.float().div_(BYTE), as_bytes, self.source)


def moons(states: int, dimension: int) -> Data:
    """Two half circles in the plane, with noise 0.1."""
    _check(dimension, 2, "moons")
    rng = np.random.default_rng(0)
    angle = np.pi * rng.random(states)
    lower = np.arange(states) % 2
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle))
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], 1) + 0.1 * rng.normal(size=(states, 2))
    return Data(torch.from_numpy(points.astype(np.float32)), None, "two moons")


def mixture(states: int, dimension: int) -> Data:
    """32 Gaussian clusters, each with standard deviations that decay as k^-1/2 along axes of its own."""
    rng = np.random.default_rng(1)
    spread = np.arange(1, dimension + 1) ** -0.5
    centres = 2 * rng.normal(size=(32, dimension)) * spread
    axes = np.linalg.qr(rng.normal(size=(32, dimension, dimension)))[0]
    cluster = rng.integers(32, size=states)
    points = np.empty((states, dimension), np.float32)
    for k in range(32):
        own = cluster == k
        points[own] = centres[k] + (spread * rng.normal(size=(own.sum(), dimension))) @ axes[k]
    return Data(torch.from_numpy(points), None, "Gaussian mixture")


def grey_images(states: int, dimension: int) -> Data:
    """28 x 28 images of fashion where the machine has them, else drawn strokes."""
    from fastthermo import datasets

    _check(dimension, 784, "grey_images")
    try:
        images = datasets.load("fashion-mnist").states[:states].reshape(-1, 784)
        source = "fashion-mnist"
    except FileNotFoundError:
        images, source = _strokes(states), "strokes"
    _check(len(images), states, source)
    return _from_bytes(images, source)


def natural_images(states: int, dimension: int) -> Data:
    """3 x 32 x 32 Gaussian images with the 1/f amplitudes and correlated colours of photographs, in bytes."""
    _check(dimension, 3072, "natural_images")
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)).astype(np.float32)
    frequency[0, 0] = 1 / 32
    colours = np.array([[1, 0.25, 0.1], [1, 0, -0.2], [1, -0.25, 0.1]], np.float32)  # luminance, then two opponent ones
    images = np.empty((states, 3, 32, 32), np.uint8)

    def draw(start: int) -> None:
        block = images[start : start + 2048]
        noise = np.random.default_rng([2, start]).standard_normal(block.shape, np.float32)
        smooth = np.fft.irfft2(np.fft.rfft2(noise) / (32 * frequency), s=(32, 32))
        mixed = np.einsum("ck,nkij->ncij", colours, smooth)
        np.clip(128 + 380 * mixed, 0, 255, out=block, casting="unsafe")

    with ThreadPoolExecutor() as pool:  # NumPy's generators and transforms let each other run
        list(pool.map(draw, range(0, states, 2048)))
    return _from_bytes(images.reshape(states, -1), "1/f images")


MAKERS: dict[str, Callable[[int, int], Data]] = {
    maker.__name__: maker for maker in (moons, mixture, grey_images, natural_images)
}


def _strokes(states: int) -> np.ndarray:
    """Two to four quadratic Bezier strokes an image, (N, 784) bytes, black but for the strokes."""
    rng = np.random.default_rng(3)
    t = np.linspace(0, 1, 12)[:, None]
    basis = np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], 1)  # (12, 3)
    grid = np.arange(28.0)
    images = np.empty((states, 784), np.uint8)
    for start in range(0, states, 4096):
        count = min(4096, states - start)
        corners = rng.uniform(4, 24, (count, 4, 3, 2))
        drawn = np.arange(4) < rng.integers(2, 5, (count, 1))
        points = np.einsum("tk,nskc->nstc", basis, corners)
        rows, columns = (np.exp(-((points[..., None, c] - grid) ** 2) / 2) for c in (0, 1))
        ink = np.einsum("nsti,nstj->nij", rows * drawn[..., None, None], columns, optimize=True)
        ink = np.minimum(ink, 1)
        images[start : start + count] = (255 * np.where(ink > 0.1, ink, 0)).reshape(count, -1)
    return images


def _from_bytes(images: np.ndarray, source: str) -> Data:
    as_bytes = torch.from_numpy(np.ascontiguousarray(images))
    return Data(as_bytes.float().div_(BYTE), as_bytes, source)


def _check(got: int, wanted: int, name: str) -> None:
    if got != wanted:
        raise ValueError(f"{name}: wanted {wanted}, got {got}")
