"""Branches of fixed points, and trees of classes, over the temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.plot.axes import MARKS, plain_numbers
from fastthermo.plot.style import BLUE, ORANGE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastthermo.critical import Branch, Tree

STABLE, UNSTABLE, FOLD = BLUE, ORANGE, MARKS["collapse"][0]


def bifurcation_figure(branches: list[Branch], direction: Any = None) -> Figure:
    """Branches of `bifurcation_diagram` as `draw_branches` draws them."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        draw_branches(figure.subplots(), branches, direction)
    return figure


def draw_branches(axis: Axes, branches: list[Branch], direction: Any = None) -> None:
    """Fixed points over temperature: the field along `direction`, stable solid, unstable dashed, folds as dots.

    direction : (D,) or shaped like a state; by default the one in which the branches spread most.
    """
    points = [np.asarray(branch.points, dtype=np.float64).reshape(len(branch.beta), -1) for branch in branches]
    if direction is None:
        pooled = np.concatenate(points)
        centre = pooled.mean(0)
        along = np.linalg.svd(pooled - centre, full_matrices=False)[2][0]
    else:
        along = np.asarray(direction, dtype=np.float64).ravel()
        centre = np.zeros_like(along)
    for branch, rows in zip(branches, points, strict=True):
        height, s = (rows - centre) @ along, 1 / branch.beta
        axis.plot(s, height, color=UNSTABLE, linewidth=0.7, linestyle="--", zorder=1)
        axis.plot(s, np.where(branch.stable, height, np.nan), color=STABLE, zorder=2)
        axis.plot(s[branch.fold], height[branch.fold], "o", color=FOLD, markersize=3, zorder=3)
    axis.set_xscale("log")
    if branches:
        s = 1 / np.concatenate([branch.beta for branch in branches])
        axis.set_xlim(s.min(), s.max())
        plain_numbers(axis.xaxis)
    axis.set_xlabel(r"temperature $s = 1/\beta$  (cold → hot)")
    axis.set_ylabel("field along the leading direction" if direction is None else "field along the direction")
    axis.set_title("fixed points: stable solid, unstable dashed")


def tree_figure(tree: Tree) -> Figure:
    """A symmetry-breaking tree as `draw_tree` draws it."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        draw_tree(figure.subplots(), tree)
    return figure


def draw_tree(axis: Axes, tree: Tree) -> None:
    """A symmetry-breaking tree: classes that part at a temperature branch there."""
    from scipy.cluster.hierarchy import dendrogram

    if len(tree.linkage):
        labels = [str(name) for name in tree.names]
        drawing = dendrogram(tree.linkage, labels=labels, no_plot=True)
        for x, y in zip(drawing["icoord"], drawing["dcoord"], strict=True):
            axis.plot(x, y, color=STABLE)
        axis.set_xticks(5 + 10 * np.arange(len(labels)), drawing["ivl"])
        axis.set_ylim(0, 1.05 * float(tree.linkage[:, 2].max()))
    axis.grid(visible=False, axis="x")
    axis.set_xlabel("class")
    axis.set_ylabel(r"temperature $s = 1/\beta$ of the split")
    axis.set_title("which classes part when on cooling")
