"""Figures: the six panels of a portrait, branches of fixed points, trees of classes, and contact sheets of samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._files import replacing
from fastthermo.plot.axes import MARKS as MARKS
from fastthermo.plot.axes import events as events
from fastthermo.plot.axes import level as level
from fastthermo.plot.axes import logarithmic as logarithmic
from fastthermo.plot.axes import mark as mark
from fastthermo.plot.axes import plain_numbers as plain_numbers
from fastthermo.plot.axes import time_axis as time_axis
from fastthermo.plot.branches import bifurcation_figure as bifurcation_figure
from fastthermo.plot.branches import draw_branches as draw_branches
from fastthermo.plot.branches import draw_tree as draw_tree
from fastthermo.plot.branches import tree_figure as tree_figure
from fastthermo.plot.samples import contact_sheet as contact_sheet
from fastthermo.plot.samples import sample_rows as sample_rows
from fastthermo.plot.samples import scatter as scatter
from fastthermo.plot.style import BLUE, GREEN, ORANGE
from fastthermo.plot.style import STYLE as STYLE
from fastthermo.regimes import average

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOISED, GENERATED, MEAN = BLUE, ORANGE, GREEN


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure (.png at 160 dpi, .pdf); the file that was there stays until the new one is whole."""
    endings = figure.canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in endings:
        raise ValueError(f"out: wanted a file that ends in .{', .'.join(sorted(endings))}, got {path}")
    with replacing(Path(path)) as file:
        figure.savefig(file, dpi=160)


def portrait_figure(dataset: Any, summary: dict[str, Any], image_shape: tuple[int, ...] | None = None) -> Figure:
    """Six panels over diffusion time from a portrait's data set and summary."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        axes = figure.subplots(2, 3).ravel()
        t = dataset["time"].to_numpy()
        when = events(summary, t, dataset["information"].to_numpy())
        panels = (_entropy, _heat_capacity, _gains, _information, _classes)
        for panel, axis in zip(panels, axes, strict=False):
            panel(axis, dataset, t)
            time_axis(axis, t, when)
            mark(axis, summary)
        axes[0].legend(loc="best")
        _late_start(axes[5], dataset, image_shape)
        figure.suptitle(headline(summary), fontsize=11)
    return figure


def headline(summary: dict[str, Any]) -> str:
    """What was measured, in a line."""
    kind = summary["process"].split("(")[0]
    dimensions = "1 dimension" if summary["dimension"] == 1 else f"{summary['dimension']} dimensions"
    return f"{summary['data']}: {summary['states']} states in {dimensions}, {kind} process"


def _mean(axis: Axes, t: np.ndarray, values: np.ndarray, color: str, shade: float = 0.25, **style: Any) -> np.ndarray:
    """The mean over queries and, shaded, two standard errors to both sides, which are returned."""
    mean, error = average(values)
    ends = np.stack([mean - 2 * error, mean + 2 * error])
    axis.fill_between(t, *ends, color=color, alpha=shade, linewidth=0)
    axis.plot(t, mean, color=color, **style)
    return ends


def _band(axis: Axes, t: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    """Median and the middle 80 % over queries."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=1)
    axis.fill_between(t, low, high, color=color, alpha=0.18, linewidth=0)
    axis.plot(t, middle, color=color, label=label)


def _entropy(axis: Axes, dataset: Any, t: np.ndarray) -> None:
    size = math.log(dataset.attrs["states"])
    for path, color in (("noised", NOISED), ("generated", GENERATED)):
        _band(axis, t, size + dataset[f"{path}_entropy"].to_numpy(), color, f"{path}: $\\log N + S$")
        axis.plot(t, np.log(np.median(dataset[f"{path}_n_eff"], axis=1)), ":", color=color, label=r"$\log N_{\rm eff}$")
    level(axis, size, r"$\log N$", "right")
    axis.set_title("a  posterior entropy and effective states")
    axis.set_ylabel("nat")


def _heat_capacity(axis: Axes, dataset: Any, t: np.ndarray) -> None:
    for path, color in (("noised", NOISED), ("generated", GENERATED)):
        _mean(axis, t, dataset[f"{path}_heat_capacity"].to_numpy(), color, label=f"{path}, mean ± 2 s.e.")
    axis.set_ylim(0, 1.35 * dataset["generated_heat_capacity"].mean("query").to_numpy().max())  # room for the legend
    axis.set_title(r"b  heat capacity and energy")
    axis.set_ylabel(r"heat capacity $\beta^2\,\mathrm{Var}(H)$")
    axis.legend(loc="upper right")
    right = axis.twinx()
    bands = [
        _mean(right, t, dataset[f"{path}_energy"].to_numpy(), color, shade=0.1, linestyle="--", linewidth=1)
        for path, color in (("noised", NOISED), ("generated", GENERATED))
    ]
    middle = float(np.mean(bands))
    reach = max(abs(middle), float(np.abs(np.array(bands) - middle).max()))  # changes show beside the energy's own size
    right.set_ylim(middle - reach, middle + reach)
    right.set_ylabel(r"energy $\langle H\rangle$ [data unit$^2$], dashed", color="0.35")
    right.spines["right"].set_visible(True)
    right.grid(False)


def _gains(axis: Axes, dataset: Any, t: np.ndarray) -> None:
    at_mean = dataset["gain_mean"].to_numpy()
    for k in range(at_mean.shape[1]):
        axis.plot(t, at_mean[:, k], color=MEAN, alpha=1 - 0.28 * k, label="at the data mean" if k == 0 else None)
    _band(axis, t, dataset["gain_generated"].to_numpy(), GENERATED, "along trajectories")
    level(axis, 1, "critical", "right")
    top = max(1.6, float(np.quantile(dataset["gain_generated"].to_numpy(), 0.99)) * 1.2)
    axis.set_ylim(0, min(top, 30))
    axis.set_title(r"c  top susceptibilities $\beta\lambda(C)$")
    axis.set_ylabel(r"eigenvalue of $\beta C$")
    axis.legend(loc="upper right")


def _information(axis: Axes, dataset: Any, t: np.ndarray) -> None:
    value, error = dataset["information"].to_numpy(), dataset["information_error"].to_numpy()
    axis.fill_between(t, value - 2 * error, value + 2 * error, color=NOISED, alpha=0.25, linewidth=0)
    axis.plot(t, value, color=NOISED)
    level(axis, math.log(dataset.attrs["states"]), r"$\log N$")
    axis.set_title(r"d  information and excess entropy")
    axis.set_ylabel(r"$I(y; x_t)$ [nat]", color=NOISED)
    right = axis.twinx()
    right.plot(t, dataset["excess_entropy"].to_numpy(), color=GENERATED)
    right.set_ylabel(r"excess entropy $f(t) = (\log N - I)/D$ [nat]", color=GENERATED)
    right.spines["right"].set_visible(True)
    right.grid(False)


def _classes(axis: Axes, dataset: Any, t: np.ndarray) -> None:
    if "generated_same_class" in dataset:
        value, error = dataset["u_turn"].to_numpy(), dataset["u_turn_error"].to_numpy()
        axis.fill_between(t, value - 2 * error, value + 2 * error, color=NOISED, alpha=0.25, linewidth=0)
        axis.plot(t, value, color=NOISED, label="U-turn returns to its class")
        axis.plot(t, dataset["generated_same_class"].mean("query"), color=GENERATED, label="along trajectories")
        axis.set_title(r"e  class memory $\langle\sum_c p(c|x_t)^2\rangle$")
        axis.set_ylabel("probability")
        level(axis, 1 / dataset.sizes["class"], "1 / classes")
    else:
        for path, color in (("noised", NOISED), ("generated", GENERATED)):
            _band(axis, t, 1 / dataset[f"{path}_n_eff"].to_numpy(), color, path)
        axis.set_title(r"e  participation $\sum_n w_n^2$")
        axis.set_ylabel("probability to draw one state twice")
    axis.set_ylim(0, 1.02)
    axis.legend(loc="best")


def _late_start(axis: Axes, dataset: Any, image_shape: tuple[int, ...] | None) -> None:
    times, samples = dataset["late_time"].to_numpy(), dataset["late_samples"].to_numpy()
    axis.set_title("f  samples by time of a Gaussian late start")
    if image_shape is None:
        scatter(axis, list(samples.reshape(*samples.shape[:2], -1)), [f"$t = {t:.3g}$" for t in times])
        return
    sample_rows(axis, samples[:, :9], [f"{t:.3g}" for t in times], "start time $t$")
