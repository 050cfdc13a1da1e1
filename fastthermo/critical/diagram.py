"""Bifurcation diagrams: every branch of fixed points that searches at several temperatures lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.critical.branch import Branch, assemble, check_betas, shaped
from fastthermo.critical.curve import Line, trace, within
from fastthermo.critical.newton import newton
from fastthermo.critical.starts import averages, data, spread
from fastthermo.critical.stationary import fixed_points

if TYPE_CHECKING:
    import torch

NEAR = 1e-4  # distance of two points that are one, in units of the spread
TOLERANCE = 1e-11


def bifurcation_diagram(
    model: Any, betas: tuple[float, float], temperatures: int = 8, n: int = 256, max_points: int = 400, seed: int = 0
) -> list[Branch]:
    """The branches of fixed points for beta in `betas`, stable ones first.

    Fixed points are looked for at `temperatures` of them, uniform in log beta, from cold to hot; those that lie on no
    branch yet are followed both ways, through folds.

    Parameters
    ----------
    betas : the range looked at, 0 < low < high.
    n, seed : starts at each temperature, as in `fixed_points`.
    max_points : of each side of a branch; one that takes more ends there and is not `complete`.

    Raises
    ------
    ValueError for a range or a number that cannot be, and for a model that can neither draw data nor be sampled.
    """
    check_betas(betas)
    whole("temperatures", temperatures, 1)
    whole("n", n, 1)
    rows = averages(data(model, n, seed), n, seed)
    scale = spread(model, betas[0], rows)
    edges = -np.log(betas[1]), -np.log(betas[0])
    grid = np.geomspace(betas[1], betas[0], temperatures + 1)[:-1]
    pairs: list[list[Line]] = []
    for found in fixed_points(model, grid, rows, newton_starts=n, seed=seed):
        log_s = float(-np.log(found.beta))
        points = _unknown(model, pairs, found.points, log_s, scale)
        both = points.repeat(2, 1)
        direction = np.repeat([1.0, -1.0], len(points))
        sides = trace(model, both, both.new_full((len(both),), log_s), direction, edges, scale, max_points)
        lines = within(model, sides, edges, scale)
        known = len(pairs)
        for point, *sides_of in zip(points, lines[: len(points)], lines[len(points) :], strict=True):
            if len(_unknown(model, pairs[known:], point[None], log_s, scale)):
                pairs.append(sides_of)
    branches = assemble(model, pairs, scale, shaped(model))
    return sorted(branches, key=lambda branch: (branch.index[0], -len(branch.beta)))


def _unknown(model: Any, pairs: list[list[Line]], points: torch.Tensor, log_s: float, scale: float) -> torch.Tensor:
    """The points (P, D) at log s that are not on any of the branches."""
    import torch

    near = [line.at(log_s)[:, :-1] for sides in pairs for line in sides]
    if not sum(map(len, near)):
        return points
    h = torch.cat(near) * scale
    h, _ = newton(model, h, h.new_full((len(h),), float(np.exp(-log_s))), scale, TOLERANCE, 20)
    return points[torch.cdist(points, h).amin(1) > NEAR * scale]
