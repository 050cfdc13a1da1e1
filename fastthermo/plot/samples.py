"""Samples as pictures: contact sheets, rows of images, scatter plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastthermo.plot.style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 32  # of a histogram


def contact_sheet(samples: np.ndarray, title: str, columns: int = 16) -> Figure:
    """Images (n, H, W) or (n, H, W, 3) in [-1, 1] or any range on one sheet; a scatter plot for other states."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        if samples.ndim < 3:
            figure = Figure(figsize=(5, 5), layout="constrained")
            scatter(figure.subplots(), [samples], ["samples"])
        else:
            columns = min(columns, len(samples))
            rows = -(-len(samples) // columns)
            figure = Figure(figsize=(0.6 * columns, 0.6 * rows + 0.4), layout="constrained")
            tile(figure.subplots(), samples, columns)
        figure.suptitle(title, fontsize=10)
    return figure


def sample_rows(axis: Axes, samples: np.ndarray, labels: list[str], title: str) -> None:
    """Images (rows, columns, ...), a labelled row each."""
    rows, columns = samples.shape[:2]
    height = tile(axis, samples.reshape(-1, *samples.shape[2:]), columns) + 1
    axis.set_axis_on()
    axis.grid(False)
    axis.set_xticks([])
    axis.set_yticks([(i + 0.5) * height for i in range(rows)], labels)
    axis.set_ylabel(title)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)


def tile(axis: Axes, images: np.ndarray, columns: int) -> int:
    """Images in rows on one axis, a pixel apart; channels first or last. Returns the height of one."""
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    images = (images - low) / (high - low or 1)
    rows = -(-len(images) // columns)
    height, width = images.shape[1:3]
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:]))
    for i, image in enumerate(images):
        r, c = divmod(i, columns)
        sheet[r * (height + 1) : r * (height + 1) + height, c * (width + 1) : c * (width + 1) + width] = image
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()
    return height


def scatter(axis: Axes, groups: list[np.ndarray], labels: list[str]) -> None:
    """Points on the two leading principal axes of all groups together; histograms, a row each, in one dimension."""
    from matplotlib import colormaps

    colors = colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
    pooled = np.concatenate(groups)
    if pooled.shape[1] == 1:
        _histograms(axis, groups, labels, colors)
        return
    centre = pooled.mean(0)
    _, _, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    for group, label, color in zip(groups, labels, colors, strict=True):
        x, y = ((group - centre) @ axes[:2].T).T
        axis.plot(x, y, ".", color=color, label=label, alpha=0.7)
    axis.set_xlabel("first principal component")
    axis.set_ylabel("second principal component")
    if len(groups) > 1:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the points, which may be anywhere


def _histograms(axis: Axes, groups: list[np.ndarray], labels: list[str], colors: np.ndarray) -> None:
    """Numbers (n, 1) of each group over the same bins, a labelled row each, the first one on top."""
    edges = np.histogram_bin_edges(np.concatenate(groups), BINS)
    rows = np.arange(len(groups))[::-1]
    for group, row, color in zip(groups, rows, colors, strict=True):
        counts, _ = np.histogram(group, edges)
        axis.stairs(row + 0.85 * counts / max(1, counts.max()), edges, baseline=row, fill=True, color=color, zorder=2)
    axis.set_yticks(rows, labels)
    axis.yaxis.tick_right()  # where the legend of points stands
    axis.set_ylim(0, len(groups))
    axis.set_xlabel("data")
