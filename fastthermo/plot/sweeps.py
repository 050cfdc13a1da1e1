"""Figures of sweeps: every quantity with its error bars against size, dimension or time; collapses of finite sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.plot import STYLE
from fastthermo.plot.exponents import draw_collapse, symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOGARITHMIC = 20.0  # ratio of the largest to the smallest abscissa from which its axis is logarithmic
COLLAPSES = 12  # drawn at most
NAMED = 16  # cases of a family up to which each has its own mark
MARKERS = "osD^v<>"  # as many as no divisor of ten colours: 70 pairs
LETTERS = 15  # an inch of a legend


def sweep_figures(rows: Sequence[tuple[str, str, dict[str, float], Any]], title: str = "") -> dict[str, Figure]:
    """ "quantities", and "collapses" where there are any.

    rows : of each case and size its family, its name, where it stands (size, dimension, time), and what was found:
        `.quantities`, name -> .symbol, .value, .error, .expected, and `.collapse`.

    Raises ValueError where nothing was found.
    """
    figures = {"quantities": _quantities(rows, title)}
    collapses = [(name, found.collapse) for _, name, _, found in rows if found.collapse is not None]
    if collapses:
        figures["collapses"] = _collapses(collapses[:COLLAPSES], title)
    return figures


def _quantities(rows: Sequence[tuple[str, str, dict[str, float], Any]], title: str) -> Figure:
    """A panel a quantity, a row of panels for each abscissa that varies."""
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    symbols: dict[str, str] = {}
    for *_, found in rows:
        symbols |= {name: quantity.symbol for name, quantity in found.quantities.items()}
    if not symbols:
        raise ValueError("rows: wanted at least one case with quantities to draw, got none")
    drawn = [row for row in rows if any(math.isfinite(q.value) for q in row[3].quantities.values())]
    places = [place for _, _, place, _ in drawn] or [place for _, _, place, _ in rows]
    over = [key for key in places[0] if len({place[key] for place in places if place[key] > 0}) > 1] or ["dimension"]
    labels = _labels(drawn, over)
    looks = {label: i for i, label in enumerate(dict.fromkeys(labels.values()))}
    colors = colormaps["tab10"](np.arange(len(looks)) % 10)
    styles = {label: {"color": colors[i], "marker": MARKERS[i % len(MARKERS)]} for label, i in looks.items()}
    with rc_context(STYLE):
        figure = Figure(figsize=(2.7 * len(symbols) + 1, 2.6 * len(over) + 0.8), layout="constrained")
        axes = figure.subplots(len(over), len(symbols), squeeze=False)
        for key, line in zip(over, axes, strict=True):
            for name, axis in zip(symbols, line, strict=True):
                shown = [
                    row
                    for row in drawn
                    if name in row[3].quantities and math.isfinite(row[3].quantities[name].value) and row[2][key] > 0
                ]
                _panel(axis, key, name, shown, labels, styles)
        for name, axis in zip(symbols, axes[0], strict=True):
            axis.set_title(f"${symbol(symbols[name])}$" if "(" not in symbols[name] else symbols[name])
        handles = [_handle(style, label) for label, style in styles.items()]
        columns = int(LETTERS * figure.get_figwidth() / max((len(label) + 6 for label in styles), default=1))
        figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(8, columns, len(handles))))
        figure.suptitle(title, fontsize=11)
    return figure


def _labels(rows: Sequence[Any], over: Sequence[str]) -> dict[tuple[str, str], str]:
    """Of each family and case what the legend calls it: the case where another of its family stands at the same place.

    The family where its cases stand apart, or are more than a legend holds.
    """
    cases: dict[str, set[str]] = {}
    meeting: dict[tuple[str, str, float], set[str]] = {}
    for family, name, place, _ in rows:
        cases.setdefault(family, set()).add(name)
        for key in over:
            meeting.setdefault((family, key, place[key]), set()).add(name)
    shared = {family for (family, _, where), names in meeting.items() if where > 0 and len(names) > 1}
    named = {family for family in shared if len(cases[family]) <= NAMED}
    ordered = sorted(rows, key=lambda row: row[0])
    return {(family, name): name if family in named else family for family, name, *_ in ordered}


def _panel(
    axis: Axes,
    key: str,
    name: str,
    rows: Sequence[Any],
    labels: dict[tuple[str, str], str],
    styles: dict[str, dict[str, Any]],
) -> None:
    """rows : those whose quantity `name` is finite."""
    axis.set_xlabel(key)
    if not rows:
        return
    for label, style in styles.items():
        own = [(place[key], found.quantities[name]) for *case, place, found in rows if labels[tuple(case)] == label]
        if own:
            x, value, error = (np.array(v) for v in zip(*((x, q.value, q.error) for x, q in own), strict=True))
            axis.errorbar(x, value, error, linestyle="", markersize=3.5, elinewidth=0.8, alpha=0.7, **style)
    places = [place[key] for _, _, place, _ in rows]
    if max(places) > LOGARITHMIC * min(places):
        axis.set_xscale("log")
    quantities = [found.quantities[name] for *_, found in rows]
    expected = quantities[0].expected
    if math.isfinite(expected):
        axis.axhline(expected, color="0.4", linewidth=1, linestyle="--", zorder=0)
        reach = max(0.02, 1.2 * max(abs(q.value - expected) + q.error for q in quantities))
        axis.set_ylim(expected - reach, expected + reach)


def _handle(style: dict[str, Any], label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", label=label, **style)


def _collapses(collapses: Sequence[tuple[str, Any]], title: str) -> Figure:
    """Of the order parameter of baths, over temperatures in units of s_c."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(3, len(collapses))
    lines = -(-len(collapses) // columns)
    sizes = np.unique(np.concatenate([collapse.size for _, collapse in collapses]))
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns, 3.6 * lines + 0.8), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        handles: dict[str, Any] = {}
        for axis, (name, collapse) in zip(axes, collapses, strict=False):
            draw_collapse(axis, collapse, r"order parameter $\langle|h - h_0|\rangle\,L^\kappa$", sizes)
            axis.set_title(f"{name}\n{axis.get_title(loc='left')}", fontsize=8)
            handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        for axis in axes[len(collapses) :]:
            axis.set_axis_off()
        figure.legend(handles.values(), handles, title="sites", loc="outside lower center", ncols=len(handles))
        figure.suptitle(title, fontsize=11)
    return figure
