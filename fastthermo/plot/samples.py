"""Samples as pictures: contact sheets, rows of images, scatter plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastthermo.plot.style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    """Points on the two leading principal axes of all groups together; a histogram in one dimension."""
    pooled = np.concatenate(groups)
    centre = pooled.mean(0)
    _, _, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    from matplotlib import colormaps

    colors = colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
    for group, label, color in zip(groups, labels, colors, strict=True):
        if pooled.shape[1] == 1:
            axis.hist(group[:, 0], bins=32, histtype="step", color=color, label=label)
        else:
            x, y = ((group - centre) @ axes[:2].T).T
            axis.plot(x, y, ".", color=color, label=label, alpha=0.7)
    axis.set_xlabel("data" if pooled.shape[1] == 1 else "first principal component")
    axis.set_ylabel("samples" if pooled.shape[1] == 1 else "second principal component")
    axis.legend(loc="best")
