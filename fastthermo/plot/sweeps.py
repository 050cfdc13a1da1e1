"""Figures of sweeps: every quantity with its error bars against size, dimension or time; collapses of finite sizes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo.plot import STYLE, plain_numbers
from fastthermo.plot.exponents import draw_collapse, symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOGARITHMIC = 20.0  # ratio of the largest to the smallest abscissa from which its axis is logarithmic
APART = 0.03  # share of an axis between two marks that stand at the same place
CROWDED = 0.12  # share of an axis from which two places are each given their number
PANELS = 4  # a row
COLLAPSES = 12  # drawn at most
NOTED = 6  # cases of a family up to which a note names each
NAMED = 16  # cases of a family up to which each has its own mark
MARKERS = "osD^v<>"  # as many as no divisor of ten colours: 70 pairs
LETTERS = 15  # an inch of a legend
SMALL, LARGE = 3.5, 7.0  # marks in points: of the smallest and the largest value of what else varies
GRADES = 5  # of them in a legend


def sweep_figures(rows: Sequence[tuple[str, str, dict[str, float], Any]], title: str = "") -> dict[str, Figure]:
    """ "quantities", and "collapses" where there are any.

    rows : of each case and size its family, its name, where it stands (size, dimension, time), and what was found:
        `.quantities`, name -> .symbol, .value, .error, .expected, `.reason` where they are missing, and `.collapse`.

    Raises ValueError where nothing was found.
    """
    figures = {"quantities": _quantities(rows, title)}
    collapses = [(name, found.collapse) for _, name, _, found in rows if found.collapse is not None]
    if collapses:
        figures["collapses"] = _collapses(collapses[:COLLAPSES], title)
    return figures


def _quantities(rows: Sequence[tuple[str, str, dict[str, float], Any]], title: str) -> Figure:
    """A panel a quantity, PANELS a row at most, for each abscissa that varies."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    symbols: dict[str, str] = {}
    for *_, found in rows:
        symbols |= {name: quantity.symbol for name, quantity in found.quantities.items()}
    if not symbols:
        raise ValueError("rows: wanted at least one case with quantities to draw, got none")
    drawn = [row for row in rows if _finite(row)]
    places = [place for _, _, place, _ in drawn] or [place for _, _, place, _ in rows]
    over = [key for key in places[0] if len({place[key] for place in places if place[key] > 0}) > 1] or ["dimension"]
    looks = Looks.of(drawn, over)
    columns = min(PANELS, len(symbols))
    lines = -(-len(symbols) // columns) * len(over)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.7 * columns + 1, 2.6 * lines + 1), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).reshape(len(over), -1)
        for key, line in zip(over, axes, strict=True):
            for name, axis in zip(symbols, line, strict=False):
                shown = [
                    row
                    for row in drawn
                    if name in row[3].quantities and math.isfinite(row[3].quantities[name].value) and row[2][key] > 0
                ]
                _panel(axis, key, name, shown, looks)
                axis.set_title(f"${symbol(symbols[name])}$")
            for axis in line[len(symbols) :]:
                axis.set_axis_off()
        _legend(figure, looks.handles(), _missing(rows))
        figure.suptitle(title, fontsize=11)
    return figure


def _legend(figure: Figure, handles: Sequence[Any], note: str) -> None:
    """Below the panels."""
    letters = LETTERS * figure.get_figwidth()
    columns = max(1, min(8, len(handles), int(letters / max((len(h.get_label()) + 6 for h in handles), default=1))))
    note = textwrap.fill(note, int(letters))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=note, title_fontsize=8)
    legend.get_title().set_color("0.4")


def _finite(row: Any) -> bool:
    return any(math.isfinite(quantity.value) for quantity in row[3].quantities.values())


def _missing(rows: Sequence[Any]) -> str:
    """The cases of which nothing is drawn, with the reason; their number where a family has more than a note holds."""
    there = {(family, name) for family, name, *_ in filter(_finite, rows)}
    absent: dict[str, dict[str, dict[str, None]]] = {}
    for family, name, _, found in rows:
        if (family, name) not in there:
            absent.setdefault(found.reason, {}).setdefault(family, {})[name] = None
    notes = []
    for reason, families in absent.items():
        listed = [
            ", ".join(names) if len(names) <= NOTED else f"{len(names)} cases of {family}"
            for family, names in families.items()
        ]
        notes.append(", ".join(listed) + (f" ({reason})" if reason else ""))
    return f"not drawn: {'; '.join(notes)}" if notes else ""


class Looks(NamedTuple):
    """The mark of each case, by what the legend calls it, and the size of the marks of each value of what else varies.

    told : of an abscissa, what else varies within a case and is told by sizes of marks; "" where nothing does.
    """

    labels: Mapping[tuple[str, str], str]
    styles: Mapping[str, dict[str, Any]]
    told: Mapping[str, str]
    grades: Mapping[str, dict[float, float]]

    @classmethod
    def of(cls, rows: Sequence[Any], over: Sequence[str]) -> Looks:
        from matplotlib import colormaps

        labels = _labels(rows, over)
        names = list(dict.fromkeys(labels.values()))
        colors = colormaps["tab10"](np.arange(len(names)) % 10)
        styles = {name: {"color": colors[i], "marker": MARKERS[i % len(MARKERS)]} for i, name in enumerate(names)}
        cases = {(family, name) for family, name, *_ in rows}
        several = [
            other
            for other in ("size", "time")
            if other in over and len({(*case, place[other]) for *case, place, _ in rows}) > len(cases)
        ]
        told = {key: next((other for other in several if other != key), "") for key in over}
        grades = {}
        for other in filter(None, dict.fromkeys(told.values())):
            values = sorted({place[other] for _, _, place, _ in rows}, key=lambda value: value or math.inf)
            grades[other] = dict(zip(values, np.linspace(SMALL, LARGE, len(values)).tolist(), strict=True))
        return cls(labels, styles, told, grades)

    def grade(self, key: str, place: dict[str, float]) -> float:
        """Size of a mark over an abscissa."""
        other = self.told[key]
        return self.grades[other][place[other]] if other else SMALL

    def handles(self) -> list[Any]:
        """Of a legend."""
        from matplotlib.lines import Line2D

        cases = [Line2D([], [], linestyle="", label=label, **style) for label, style in self.styles.items()]
        for other, grades in self.grades.items():
            for value, size in list(grades.items())[:: -(-len(grades) // GRADES)]:
                label = f"{other} {value:g}" if value else "exact"
                cases.append(Line2D([], [], linestyle="", marker="o", color="0.5", markersize=size, label=label))
        return cases


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


def _panel(axis: Axes, key: str, name: str, rows: Sequence[Any], looks: Looks) -> None:
    """rows : those whose quantity `name` is finite."""
    axis.set_xlabel(key)
    if not rows:
        return
    order = {label: i for i, label in enumerate(looks.styles)}
    marks = [
        (order[looks.labels[family, case]], looks.grade(key, place), place[key], found.quantities[name])
        for family, case, place, found in rows
    ]
    x = np.array([place for *_, place, _ in marks])
    places = np.unique(x)
    logarithmic = _geometric(places)
    moved = _side_by_side(x, [mark[:2] for mark in marks], logarithmic)
    styles = list(looks.styles.values())
    for look, size in dict.fromkeys(mark[:2] for mark in marks):
        own = [i for i, mark in enumerate(marks) if mark[:2] == (look, size)]
        value, error = ([getattr(marks[i][3], part) for i in own] for part in ("value", "error"))
        axis.errorbar(moved[own], value, error, ls="", markersize=size, elinewidth=0.8, alpha=0.7, **styles[look])
    _numbered(axis, places, logarithmic)
    quantities = [found.quantities[name] for *_, found in rows]
    expected = quantities[0].expected
    if math.isfinite(expected):
        axis.axhline(expected, color="0.4", linewidth=1, linestyle="--", zorder=1.7)  # above the grid
        reach = max(0.02, 1.2 * max(abs(q.value - expected) + q.error for q in quantities))
        axis.set_ylim(expected - reach, expected + reach)


def _geometric(places: np.ndarray) -> bool:
    """Whether places (increasing, positive) are to stand on a logarithmic axis: more even there, or far apart."""

    def uneven(steps: np.ndarray) -> float:
        return float(steps.std() / steps.mean())

    if len(places) < 3 or places[-1] > LOGARITHMIC * places[0]:
        return bool(places[-1] > LOGARITHMIC * places[0])
    return uneven(np.diff(np.log(places))) < uneven(np.diff(places)) - 1e-9


def _side_by_side(x: np.ndarray, slots: Sequence[Any], logarithmic: bool) -> np.ndarray:
    """Abscissae at which nothing hides what stands at the same place: a step apart, in the order of their slots."""
    at = np.log(x) if logarithmic else x.copy()
    ranks = {slot: i for i, slot in enumerate(sorted(set(slots)))}
    rank = np.array([ranks[slot] for slot in slots])
    places = np.unique(at)
    span = float(np.ptp(places))
    gaps = np.diff(places, prepend=places[0] - (span or 1), append=places[-1] + (span or 1))
    moved = at.copy()
    for place, gap in zip(places, np.minimum(gaps[:-1], gaps[1:]), strict=True):
        own = at == place
        present, slot = np.unique(rank[own], return_inverse=True)
        step = min(APART * span or math.inf, 0.7 * gap / len(present))
        moved[own] += step * (slot - (len(present) - 1) / 2)
    return np.exp(moved) if logarithmic else moved


def _numbered(axis: Axes, places: np.ndarray, logarithmic: bool) -> None:
    """The abscissa: its scale, and ticks at the places themselves where their numbers do not run into each other."""
    if logarithmic:
        axis.set_xscale("log")
    at = np.log(places) if logarithmic else places
    if len(places) == 1:
        axis.set_xlim(places[0] - 0.6, places[0] + 0.6)
    if len(places) == 1 or np.diff(at).min() > CROWDED * (at[-1] - at[0]):
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.set_xticks([], minor=True)
    elif logarithmic:
        plain_numbers(axis.xaxis)


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
