"""Figures of critical exponents: every power law with its window, and collapses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.plot import GENERATED, NOISED, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastthermo.exponents import Collapse, Exponent

LABELS = {
    "order_parameter": (r"order parameter $x^*$", r"$\epsilon$"),
    "susceptibility": (r"susceptibility $\chi$", r"$\epsilon$"),
    "susceptibility_above": (r"$\chi$ above $s_c$", r"$-\epsilon$"),
    "isotherm": (r"critical isotherm $x(H)$", r"$H$"),
    "heat_capacity": (r"heat capacity, singular part", r"$\epsilon$"),
    "relaxation_time": (r"relaxation time $\tau$", r"$\epsilon$"),
    "barrier": (r"barrier $\Delta\tilde F$", r"$\epsilon$"),
}


def exponents_figure(exponents: Mapping[str, Exponent], title: str = "") -> Figure:
    """One panel an exponent: the measurements, the heaviest fit and its window, and the value with its error.

    Raises ValueError where there are none.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not exponents:
        raise ValueError(f"exponents: wanted at least one to draw, got {exponents}")
    columns = min(4, len(exponents))
    rows = -(-len(exponents) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.3 * columns, 2.9 * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (name, exponent) in zip(axes, exponents.items(), strict=False):
            _power_law(axis, name, exponent)
        for axis in axes[len(exponents) :]:
            axis.set_axis_off()
        figure.suptitle(title, fontsize=11)
    return figure


def symbol(text: str) -> str:
    """A symbol's LaTeX."""
    for name in ("alpha", "beta", "gamma", "delta", "kappa", "nu"):
        text = text.replace(name, f"\\{name}")
    text = text.replace("sum ", r"\sum\,")
    return re.sub(r" ?(\([A-Za-z]+\)|mmse)", r"\\ \\mathrm{\1}", text)


def _power_law(axis: Axes, name: str, exponent: Exponent) -> None:
    law = exponent.law
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = law.heaviest.window
    axis.axvspan(low, high, color="0.94", zorder=0)
    axis.errorbar(law.x, law.y, law.y_error, fmt="o", markersize=3, color=NOISED, elinewidth=0.8)
    x = np.geomspace(law.x.min(), law.x.max(), 200)
    axis.plot(x, law.heaviest(x), color=GENERATED, linewidth=1.1)
    label, over = LABELS[name]
    axis.set_title(label)
    axis.set_xlabel(over)
    digits = max(1, min(6, 1 - math.floor(math.log10(max(exponent.error, 1e-6)))))
    text = f"${symbol(exponent.symbol)} = {exponent.value:.{digits}f} \\pm {exponent.error:.1g}$"
    axis.text(0.04, 0.04, text, transform=axis.transAxes, fontsize=9, bbox={"fc": "white", "ec": "none", "alpha": 0.8})


def collapse_figure(collapse: Collapse, control: Any, value: Any, title: str = "") -> Figure:
    """The measurements (n,) over the control beside their collapse and its Gaussian process +- 2 deviations."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        before, after = figure.subplots(1, 2)
        control, value = np.asarray(control), np.atleast_2d(np.asarray(value)).mean(0)
        for size, color in _colors(collapse.size):
            own = collapse.size == size
            order = np.argsort(control[own])
            before.plot(
                control[own][order], value[own][order], "o-", markersize=3, color=color, label=f"$L = {size:g}$"
            )
        before.axvline(collapse.critical.value, color="0.5", linewidth=0.8, linestyle="--")
        before.legend(loc="best")
        before.set_xlabel("$T$")
        before.set_ylabel("$y$")
        draw_collapse(after, collapse)
        figure.suptitle(title, fontsize=11)
    return figure


def draw_collapse(
    axis: Axes, collapse: Collapse, ordinate: str = r"$y\,L^{\kappa}$", sizes: np.ndarray | None = None
) -> None:
    """The scaled measurements of every size, their Gaussian process +- 2 deviations, and what was found.

    sizes : those that share the colours, where they are more than the collapse's own.
    """
    for size, color in _colors(collapse.size if sizes is None else sizes):
        own = collapse.size == size
        if not own.any():
            continue
        x, y, error = collapse.x[own], collapse.y[own], collapse.y_error[own]
        axis.errorbar(x, y, error, fmt="o", markersize=3, color=color, elinewidth=0.8, label=f"$L = {size:g}$")
    x = np.linspace(collapse.x.min(), collapse.x.max(), 300)
    mean, deviation = collapse.curve(x)
    axis.fill_between(x, mean - 2 * deviation, mean + 2 * deviation, color="0.8", linewidth=0, zorder=0)
    axis.plot(x, mean, color="0.4", linewidth=1, zorder=1)
    axis.set_xlabel(r"$(T - T_c)\,L^{1/\nu}$")
    axis.set_ylabel(ordinate)
    inverse_nu, kappa = collapse.estimate("inverse_nu"), collapse.estimate("kappa")
    axis.set_title(
        f"$T_c = {collapse.critical.value:.4g}$, $1/\\nu = {inverse_nu.value:.3g} \\pm {inverse_nu.error:.1g}$, "
        f"$\\kappa = {kappa.value:.3g} \\pm {kappa.error:.1g}$"
    )


def _colors(sizes: np.ndarray) -> Iterator[tuple[float, Any]]:
    """Each size and its colour."""
    from matplotlib import colormaps

    sizes = np.unique(sizes)
    yield from zip(sizes, colormaps["viridis"](np.linspace(0, 0.9, len(sizes))), strict=True)
