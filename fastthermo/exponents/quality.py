"""The quality S of a data collapse (Houdayer & Hartmann, Phys. Rev. B 70, 014418, 2004): about 1 within errors."""

from __future__ import annotations

from typing import Any

import numpy as np


def houdayer_hartmann(x: Any, y: Any, error: Any, size: Any) -> float:
    """Mean square distance of each size's scaled points from the curve of all others, in units of both errors.

    The curve at a point is the weighted straight line through the two neighbours in each other size that encloses it.
    Raises ValueError for one size alone, and where no point is enclosed by another size's.
    """
    x, y, error, size = (np.asarray(v, dtype=np.float64) for v in (x, y, error, size))
    if len(np.unique(size)) < 2:
        raise ValueError(f"size: wanted at least 2 sizes, got {len(np.unique(size))}")
    squares = []
    for own in np.unique(size):
        at, wanted, deviation = (v[size == own] for v in (x, y, error))
        neighbours = []
        for other in np.unique(size[size != own]):
            order = np.argsort(x[size == other])
            xs, ys, es = (v[size == other][order] for v in (x, y, error))
            right = np.searchsorted(xs, at)
            inside = (right > 0) & (right < len(xs))
            pair = np.stack([right - 1, right]).clip(0, len(xs) - 1)
            neighbours.append((xs[pair], ys[pair], np.where(inside, 1 / es[pair] ** 2, 0.0)))
        xs, ys, w = (np.concatenate(v) for v in zip(*neighbours, strict=True))  # (2 sizes, points)
        total, first, second = w.sum(0), (w * xs).sum(0), (w * xs * xs).sum(0)
        determinant = total * second - first**2
        fair = determinant > 0
        safe = np.where(fair, determinant, 1.0)
        line = ((second - at * first) * (w * ys).sum(0) + (at * total - first) * (w * xs * ys).sum(0)) / safe
        variance = (second - 2 * at * first + at**2 * total) / safe
        squares.append(((wanted - line) ** 2 / (deviation**2 + variance))[fair])
    pooled = np.concatenate(squares)
    if not len(pooled):
        raise ValueError("x: wanted scaled controls of one size between those of another, got none")
    return float(pooled.mean())
