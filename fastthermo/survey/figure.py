"""The panels of a survey: information, costs, dimension, spectrum and, where there are labels, class memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.plot import GENERATED, MEAN, NOISED, STYLE, events, headline, level, mark, plain_numbers, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAIN = r"gain: eigenvalue of $\beta C = 1 + \sigma^2 \nabla^2 \log p_t$"
FEW = 8  # dimensions up to which eigenvalues are counted one by one
NAMED = 12  # classes up to which curves and cells carry names


def regimes_figure(dataset: Any, summary: dict[str, Any]) -> Figure:
    """Six panels over diffusion time from a survey's data set and summary; four without labels."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        labelled = summary["labelled"]
        figure = Figure(figsize=(13, 7.6) if labelled else (9, 7.6), layout="constrained")
        axes = figure.subplots(2, 3 if labelled else 2)
        t = dataset["time"].to_numpy()
        when = events(summary, t, dataset["mean_information"].to_numpy())
        panels = [(_information, axes[0, 0]), (_costs, axes[0, 1]), (_spectrum, axes[1, 0]), (_dimension, axes[1, 1])]
        for panel, axis in [*panels, *([(_classes, axes[0, 2])] if labelled else [])]:
            panel(axis, dataset, t, summary)
            time_axis(axis, t, when)
        if labelled:
            _parting(axes[1, 2], dataset, summary)
        figure.suptitle(headline(summary), fontsize=11)
    return figure


def curve(axis: Axes, dataset: Any, name: str, color: Any, label: str | None = None) -> None:
    """A mean with two standard errors to both sides."""
    t, value, error = (dataset[x].to_numpy() for x in ("time", name, f"{name}_error"))
    axis.fill_between(t, value - 2 * error, value + 2 * error, color=color, alpha=0.25, linewidth=0)
    axis.plot(t, value, color=color, label=label)


def _information(axis: Axes, dataset: Any, t: np.ndarray, summary: dict[str, Any]) -> None:
    curve(axis, dataset, "mean_information", NOISED)
    level(axis, math.log(summary["states"]), r"$\log N$")
    mark(axis, summary)
    axis.set_title("a  information and its rate")
    axis.set_ylabel(r"$I(y; x_t)$ [nat]", color=NOISED)
    axis.set_ylim(0, 1.25 * math.log(summary["states"]))  # room for the legend
    right = axis.twinx()
    curve(right, dataset, "entropy_rate", GENERATED)
    for peak in summary["entropy_rate_peaks"]:
        right.plot(peak["time"], peak["rate"], "v", color=GENERATED, markersize=6)
    right.set_ylabel(r"$dI/d\log\beta$ [nat]", color=GENERATED)
    right.set_ylim(0, 1.25 * float(dataset["entropy_rate"].max()))
    right.spines["right"].set_visible(True)
    right.grid(False)
    axis.legend(loc="upper right")


def _costs(axis: Axes, dataset: Any, t: np.ndarray, summary: dict[str, Any]) -> None:
    curve(axis, dataset, "gaussian_divergence", MEAN, r"Gaussian start: $KL(p_t \| {\rm Gaussian})$")
    curve(axis, dataset, "mean_gap", GENERATED, "memory: own over unseen data")
    mark(axis, summary, labels=False)
    axis.set_yscale("log")
    axis.set_ylim(1e-3, 1e3)
    axis.set_title("b  cost of a Gaussian, gain of memory")
    axis.set_ylabel("nat")
    axis.legend(loc="upper right")


def _classes(axis: Axes, dataset: Any, t: np.ndarray, summary: dict[str, Any]) -> None:
    from matplotlib import colormaps

    same = np.einsum("tcc->tc", dataset["class_posterior"].to_numpy())
    names = summary["classes"]["names"]
    few = len(names) <= NAMED
    for c, name in enumerate(names):
        color = colormaps["tab10" if len(names) <= 10 else "turbo"](c if len(names) <= 10 else c / len(names))
        axis.plot(t, same[:, c], color=color, linewidth=1, label=name if few else None)
    curve(axis, dataset, "u_turn", "black", "mean")
    mark(axis, summary, labels=False)
    axis.set_ylim(0, 1.02)
    axis.set_title("c  a U-turn returns to its class")
    axis.set_ylabel("probability")
    axis.legend(loc="best", ncols=2)


def _spectrum(axis: Axes, dataset: Any, t: np.ndarray, summary: dict[str, Any]) -> None:
    axis.set_title(f"{'d' if summary['labelled'] else 'c'}  spectrum of the score Jacobian")
    gains = dataset["gains"].mean("probe").to_numpy()
    if gains.shape[1] == 1:  # a map of one line shows nothing
        axis.plot(t, gains[:, 0], color=NOISED, label="the only eigenvalue")
        mark(axis, summary, labels=False)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(GAIN)
        axis.legend(loc="best")
        return
    index = np.arange(1, gains.shape[1] + 1)
    mesh = axis.pcolormesh(t, index, gains.T.clip(0, 1), shading="nearest", cmap="magma", rasterized=True)
    mesh.set_clim(0, 1)
    axis.figure.colorbar(mesh, ax=axis, pad=0.01, label=GAIN)
    axis.plot(t, dataset["dimension_trace"], color="white", linewidth=1, linestyle="--")
    mark(axis, summary, labels=False)
    if len(index) <= FEW:
        axis.set_ylim(0.5, len(index) + 0.5)
        axis.set_yticks(index)
    else:
        axis.set_yscale("log")
        axis.set_ylim(0.9, len(index))
        plain_numbers(axis.yaxis)
    axis.set_ylabel("eigenvalue number")
    axis.grid(False)


def _dimension(axis: Axes, dataset: Any, t: np.ndarray, summary: dict[str, Any]) -> None:
    curve(axis, dataset, "dimension_trace", MEAN, r"trace $\beta$ mmse")
    curve(axis, dataset, "dimension_gap", NOISED, "gap of the spectrum")
    if dataset["dimension_singular"].notnull().any():
        curve(axis, dataset, "dimension_singular", GENERATED, "singular values of scores")
    mark(axis, summary, labels=False)
    axis.set_ylim(bottom=0)
    axis.set_title(f"{'e' if summary['labelled'] else 'd'}  dimension of the data")
    axis.set_ylabel("dimension")
    axis.legend(loc="upper right")


def _parting(axis: Axes, dataset: Any, summary: dict[str, Any]) -> None:
    """When each two classes part, as a table."""
    middle, names = dataset["window_middle"].to_numpy(), summary["classes"]["names"]
    image = axis.imshow(middle, cmap="viridis")
    axis.figure.colorbar(image, ax=axis, pad=0.02, label="time $t$ at which TV = 1/2")
    axis.set_title("f  when two classes part")
    axis.grid(False)
    if len(names) > NAMED:
        return
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    dark = np.nanmean(middle)
    for i, j in np.argwhere(~np.isnan(middle)):
        color = "white" if middle[i, j] < dark else "black"
        axis.annotate(f"{middle[i, j]:.2g}", (j, i), ha="center", va="center", fontsize=6, color=color)
