"""Figures of critical exponents: every power law with its window, and collapses."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


def sweep_figure(fitted: Mapping[tuple[str, int], Mapping[str, Exponent]], title: str = "") -> Figure:
    """One panel an exponent: its value and error for every (case, draws) that has one, and its mean-field value.

    Raises ValueError where none has.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [(f"{case}, N = {draws}" if draws else case, found) for (case, draws), found in fitted.items() if found]
    names = [name for name in LABELS if any(name in found for _, found in rows)]
    if not names:
        raise ValueError("fitted: wanted at least one case with exponents")
    with rc_context(STYLE):
        figure = Figure(figsize=(3 + 1.9 * len(names), 1.2 + 0.2 * len(rows)), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axis, name in zip(axes, names, strict=True):
            shown = [(i, found[name]) for i, (_, found) in enumerate(rows) if name in found]
            value, error = (np.array(v) for v in zip(*((e.value, e.error) for _, e in shown), strict=True))
            axis.errorbar(value, [i for i, _ in shown], xerr=error, fmt="o", markersize=3, color=NOISED)
            axis.axvline(shown[0][1].mean_field, color=GENERATED, linewidth=1, zorder=0)
            reach = max(0.1, 1.3 * float(np.abs(value - shown[0][1].mean_field).max() + error.max()))
            axis.set_xlim(shown[0][1].mean_field - reach, shown[0][1].mean_field + reach)
            axis.set_title(f"${_symbol(shown[0][1].symbol)}$")
        axes[0].set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=7)
        axes[0].invert_yaxis()
        figure.suptitle(title, fontsize=11)
    return figure


def _symbol(text: str) -> str:
    """A symbol's LaTeX."""
    for name in ("alpha", "beta", "gamma", "delta", "nu"):
        text = text.replace(name, f"\\{name}")
    return text.replace("(barrier)", r"\ \mathrm{(barrier)}")


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
    text = f"${_symbol(exponent.symbol)} = {exponent.value:.{digits}f} \\pm {exponent.error:.1g}$"
    axis.text(0.04, 0.04, text, transform=axis.transAxes, fontsize=9, bbox={"fc": "white", "ec": "none", "alpha": 0.8})


def collapse_figure(collapse: Collapse, control: Any, value: Any, title: str = "") -> Figure:
    """The measurements (n,) over the control beside their collapse and its Gaussian process +- 2 deviations."""
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    control, value = np.asarray(control), np.atleast_2d(np.asarray(value)).mean(0)
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        before, after = figure.subplots(1, 2)
        sizes = np.unique(collapse.size)
        for size, color in zip(sizes, colormaps["viridis"](np.linspace(0, 0.9, len(sizes))), strict=True):
            own = collapse.size == size
            order = np.argsort(control[own])
            before.plot(
                control[own][order], value[own][order], "o-", markersize=3, color=color, label=f"$L = {size:g}$"
            )
            after.errorbar(
                collapse.x[own],
                collapse.y[own],
                collapse.y_error[own],
                fmt="o",
                markersize=3,
                color=color,
                elinewidth=0.8,
            )
        before.axvline(collapse.critical.value, color="0.5", linewidth=0.8, linestyle="--")
        x = np.linspace(collapse.x.min(), collapse.x.max(), 300)
        mean, deviation = collapse.curve(x)
        after.fill_between(x, mean - 2 * deviation, mean + 2 * deviation, color="0.8", linewidth=0, zorder=0)
        after.plot(x, mean, color="0.4", linewidth=1, zorder=1)
        before.legend(loc="best")
        before.set_xlabel("$T$")
        before.set_ylabel("$y$")
        after.set_xlabel(r"$(T - T_c)\,L^{1/\nu}$")
        after.set_ylabel(r"$y\,L^{\kappa}$")
        after.set_title(
            f"$T_c = {collapse.critical.value:.4g}$, $1/\\nu = {collapse.inverse_nu.value:.3g} \\pm "
            f"{collapse.inverse_nu.error:.1g}$, $\\kappa = {collapse.kappa.value:.3g} \\pm {collapse.kappa.error:.1g}$"
        )
        figure.suptitle(title, fontsize=11)
    return figure
