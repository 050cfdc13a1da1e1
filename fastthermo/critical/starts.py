"""Where searches start, and which of the points they reach are one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import read_rows
from fastthermo.sampling import sample

if TYPE_CHECKING:
    import torch

SUBSET = 4  # data averaged at most
PLANE = 6  # dimensions of the grid on which near points are found
STEPS = 32  # of the sampler, for models that cannot draw data


def data(model: Any, n: int, seed: int = 0) -> torch.Tensor:
    """n data of a law, or samples of a denoiser that has no data, (n, D) float64."""
    if hasattr(model, "draw"):
        drawn = model.draw(n, seed)
    elif hasattr(model, "process"):
        drawn = sample(model, model.process, n, STEPS, "ddim", seed=seed, progress=False)
    else:
        raise ValueError("starts: the model can neither draw data nor be sampled (it has no process); give starts")
    rows, _, _ = read_rows("starts", drawn, model.dimension, model.device)
    return rows.double()


def spread(model: Any, beta: float, rows: torch.Tensor) -> float:
    """The unit of length: rms distance of rows (n, D) from their mean, or of a posterior mean from the origin."""
    scale = float((rows - rows.mean(0)).square().sum(1).mean().sqrt())
    if scale > 0:
        return scale
    mean = model.mean(rows[:1], rows.new_full((1,), beta))
    return float((mean - rows[:1]).norm()) or float(mean.norm()) or 1.0


def averages(points: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """The centre of `points` (P, D), then n - 1 averages of 1 to SUBSET of them: where minima and saddles are near."""
    rng = np.random.default_rng(seed)
    index = rng.integers(len(points), size=(n, SUBSET))
    kept = np.arange(SUBSET) <= (np.arange(n) % SUBSET)[:, None]
    weights = points.new_tensor(kept / kept.sum(1, keepdims=True))
    rows = (weights[..., None] * points[points.new_tensor(index).long()]).sum(1)
    rows[:1] = points.mean(0)
    return rows


def bins(points: torch.Tensor, group: torch.Tensor, radius: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One index a cell of a grid of width `radius` and group (P',), and of each point the number of its cell (P,).

    The grid lies in PLANE random directions at a random place: in more, near points would seldom share a cell.
    """
    import torch

    rng = np.random.default_rng(seed)
    size = points.shape[1]
    points = _project(points, rng) * max(1.0, size / PLANE) ** 0.5
    offset = points.new_tensor(rng.random(points.shape[1]))
    cells = torch.cat([(points / radius + offset).floor().long(), group[:, None]], 1)
    factors = rng.integers(2**62, size=cells.shape[1]) * 2 + 1
    keys = (cells * torch.as_tensor(factors, device=points.device)).sum(1)  # a hash: overflow is meant
    _, inverse = torch.unique(keys, return_inverse=True)
    return firsts(inverse), inverse


def _project(points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Points (P, D) in PLANE random orthonormal directions, where they are no farther apart; themselves in fewer."""
    size = points.shape[1]
    if size <= PLANE:
        return points
    return points @ points.new_tensor(np.linalg.qr(rng.normal(size=(size, PLANE)))[0])


def firsts(label: torch.Tensor) -> torch.Tensor:
    """The first point of each of the labels 0, 1, ..."""
    import torch

    first = torch.full((int(label.max()) + 1 if len(label) else 0,), len(label), device=label.device)
    return first.scatter_reduce_(0, label, torch.arange(len(label), device=label.device), "amin")


def clusters(points: torch.Tensor, group: torch.Tensor, radius: float) -> torch.Tensor:
    """Of each point the number of its cluster (P,): chains of points of one group closer than `radius`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    first, cell = bins(points, group, radius)
    kept = points[first]
    few = _project(kept, np.random.default_rng(0)).cpu().numpy() / radius  # in many dimensions a tree is slow
    apart = 4.0 * group[first].cpu().numpy()[:, None]
    pairs = cKDTree(np.concatenate([few, apart], 1)).query_pairs(1.0, output_type="ndarray")
    ends = kept[points.new_tensor(pairs.T).long()]
    pairs = pairs[((ends[0] - ends[1]).norm(dim=1) <= radius).cpu().numpy()]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(first),) * 2)
    _, label = connected_components(graph, directed=False)
    return points.new_tensor(label).long()[cell]
