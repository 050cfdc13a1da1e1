"""Symmetry-breaking trees: at which temperature the classes of labelled data part on cooling.

At a temperature a class belongs to the valley of F~ into which its mean descends. Hot, all classes share one; each
split on cooling is a branching of the tree (hierarchies as in Sclocchi, Favero & Wyart, arXiv:2402.16991).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.critical.branch import check_betas
from fastthermo.critical.newton import downhill, force
from fastthermo.ensemble.mixture import check_split

if TYPE_CHECKING:
    import torch

DESCENTS = 300
SETTLED = 1e-6  # |<y> - h| in units of the spread of the class means
SAME = 1e-2  # distance of two minima that are one, in the same units
HALVINGS = 8
ROUNDING = 1e-28  # relative to the square of their mean, of the variance of data that are all the same


@dataclass(frozen=True, eq=False)
class Tree:
    """Which classes part when on cooling.

    names : of the C classes.
    split_beta : (C, C) the inverse temperature at which two classes part, to 1/256 of the step between two of the
        `temperatures` in log beta, on either side; infinite if they never do in the range.
    linkage : (C - 1, 4) as in scipy.cluster.hierarchy, with the temperature 1/beta of the split as the height.
    unsettled : descents that had not reached a minimum.
    """

    names: tuple[Any, ...]
    split_beta: np.ndarray
    linkage: np.ndarray
    unsettled: int

    def groups(self, beta: float) -> list[tuple[Any, ...]]:
        """The classes that are still together at beta, largest group first."""
        apart = self.split_beta <= beta
        rows = {tuple(np.flatnonzero(~row)) for row in apart}
        return sorted((tuple(self.names[i] for i in row) for row in rows), key=lambda g: (-len(g), str(g)))


def symmetry_breaking(
    classes: Any, betas: tuple[float, float] | None = None, temperatures: int = 64, model: Any = None
) -> Tree:
    """The tree of an ensemble split by labels, `Ensemble.split(labels)`.

    betas : the range looked at; by default from 0.3 to 30 over the data's variance in its leading direction.
    temperatures : in the range, uniform in log beta; between two of them a split is found by eight halvings. Descents
        end where |<y> - h| is 1e-6 and valleys are one within 1e-2 of the spread of the class means, which is how a
        continuous split may be seen 2e-4 early or late in beta.
    model : another landscape for the same classes, a learned denoiser or an ensemble of class means; by default theirs.

    Raises
    ------
    TypeError for what is not split; ValueError for data that do not vary and for a range or a number that cannot be.
    """
    import torch
    from scipy.cluster.hierarchy import cophenet, linkage
    from scipy.spatial.distance import squareform

    check_split(classes)
    law = classes.whole if model is None else model
    if betas is None:
        variance = float(classes.whole.principal(1)[0][0])
        if not variance > ROUNDING * float(np.square(classes.whole.data_mean).sum()):
            raise ValueError("classes: wanted data that vary, got states that are all the same: nothing can part")
        betas = 0.3 / variance, 30 / variance
    check_betas(betas)
    whole("temperatures", temperatures, 1)
    means = torch.as_tensor(np.stack([part.data_mean for part in classes.values()]), device=law.device)
    count = len(means)
    scale = float((means - means.mean(0)).norm(dim=1).square().mean().sqrt()) or 1.0
    unsettled = 0

    def apart(beta: np.ndarray) -> np.ndarray:
        """Whether classes are in different valleys, (T, C, C)."""
        nonlocal unsettled
        h, lost = _descend(law, means, means.new_tensor(beta), scale)
        unsettled += lost
        return (torch.cdist(h, h) > SAME * scale).cpu().numpy()

    parting = _parting(apart, np.geomspace(*betas, temperatures))
    temperature = 1 / np.minimum((parting + parting.T) / 2, 1e300)
    np.fill_diagonal(temperature, 0)
    if count == 1:
        return Tree(tuple(classes), np.full((1, 1), np.inf), np.zeros((0, 4)), unsettled)
    links = linkage(squareform(temperature, checks=False), "single")
    closed = squareform(cophenet(links))
    with np.errstate(divide="ignore"):
        split_beta = np.where(closed > 1e-200, 1 / closed, np.inf)
    return Tree(tuple(classes), split_beta, links, unsettled)


def _parting(apart: Callable[[np.ndarray], np.ndarray], grid: np.ndarray) -> np.ndarray:
    """The beta from which on two classes are apart (C, C), bisected within increasing `grid`; infinite for never."""
    parted = apart(grid)
    first = np.where(parted.any(0), parted.argmax(0), len(grid))
    high = np.append(grid, np.inf)[first]
    low = np.minimum(np.append(grid, grid[-1])[np.maximum(first - 1, 0)], high)
    for _ in range(HALVINGS):
        live = np.isfinite(high) & (high > low * (1 + 1e-9))
        middle = np.where(live, np.sqrt(low * np.where(live, high, 1)), low)
        at, where = np.unique(middle[live], return_inverse=True)
        if not len(at):
            break
        split = apart(at)
        rows, columns = np.nonzero(live)
        now = split[where.reshape(-1), rows, columns]
        high[rows[now], columns[now]] = middle[rows[now], columns[now]]
        low[rows[~now], columns[~now]] = middle[rows[~now], columns[~now]]
    return high


def _descend(model: Any, starts: torch.Tensor, beta: torch.Tensor, scale: float) -> tuple[torch.Tensor, int]:
    """The minima below starts (C, D) at each beta (T,), (T, C, D), and how many descents had not settled."""
    import torch

    h = starts.repeat(len(beta), 1)
    b = beta.repeat_interleave(len(starts))
    active = torch.arange(len(h), device=h.device)
    step, before = torch.zeros_like(h), torch.zeros_like(h)
    for _ in range(DESCENTS):
        f = force(model, h[active], b[active])
        step[active], before[active] = downhill(f, step[active], before[active], scale), f
        h[active] += step[active]
        active = active[f.norm(dim=1) > SETTLED * scale]
        if not len(active):
            break
    return h.reshape(len(beta), len(starts), -1), len(active)
