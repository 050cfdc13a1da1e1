"""What the axes of figures share: diffusion time and its landmarks, logarithms, reference values."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

EARLY = 0.1  # share of a linear axis of time in which what happens is too close to its end to be seen
DECADES = 8  # of a logarithmic axis: what is smaller still is zero to the eye
MARKS = {
    "critical": ("#7b3fa0", "critical"),
    "speciation": ("#3b7f8c", "speciation"),
    "collapse": ("#a8324a", "collapse"),
}


def _marked(summary: dict[str, Any]) -> dict[str, float]:
    """The critical, speciation and collapse times of a summary, those that there are."""
    found = {
        "critical": summary["critical_time"]["fixed_point"],
        "speciation": summary["speciation_time"],
        "collapse": summary["collapse_time"],
    }
    return {name: landmark["time"] for name, landmark in found.items() if landmark["time"] is not None}


def events(summary: dict[str, Any], t: np.ndarray, information: np.ndarray | None = None) -> list[float]:
    """What an axis of time has to show: the landmarks, and where information (T,) is given, when half of it is lost."""
    found = list(_marked(summary).values())
    if information is not None:
        found.append(float(t[np.abs(information - information.max() / 2).argmin()]))
    return found


def time_axis(axis: Axes, t: np.ndarray, when: Collection[float] = (), margin: float = 0.0) -> None:
    """Diffusion time along x, logarithmic where an event falls into the first tenth of a linear axis.

    when : the events; the middle one of t where there are none.
    margin : at both ends, as a share of the axis.
    """
    axis.set_xlabel("diffusion time $t$  (data → noise)")
    low, high = float(t.min()), float(t.max())
    if low > 0 and any(low <= event < low + EARLY * (high - low) for event in when or [np.median(t)]):
        axis.set_xscale("log")
        room = (high / low) ** margin
        axis.set_xlim(low / room, high * room)
        plain_numbers(axis.xaxis)
    else:
        room = (high - low) * margin
        axis.set_xlim(low - room, high + room)


def mark(axis: Axes, summary: dict[str, Any], labels: bool = True) -> None:
    """The critical, speciation and collapse times of a summary as lines, with or without labels in the legend."""
    for name, time in _marked(summary).items():
        color, label = MARKS[name]
        legend = f"{label} $t = {time:.3g}$" if labels else None
        axis.axvline(time, color=color, linewidth=1.1, linestyle=(0, (4, 2)), label=legend, zorder=1)


def level(axis: Axes, value: float, label: str, side: str = "left") -> None:
    """A reference value as a labelled line. side : at which end the label stands, above the curves."""
    from matplotlib.patheffects import withStroke

    axis.axhline(value, color="0.5", linewidth=0.8, linestyle="--")
    axis.annotate(
        label,
        (0.04 if side == "left" else 0.99, value),  # beside the bars of a first point
        xycoords=("axes fraction", "data"),
        ha=side,
        va="bottom",
        color="0.4",
        fontsize=8,
        zorder=5,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )


def plain_numbers(axis: Axis) -> None:
    """Numbers, not powers of ten, along a logarithmic axis whose limits are set."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1, 3) if high < 1e3 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def logarithmic(axis: Axes, *curves: np.ndarray) -> float:
    """A logarithmic y axis of room for the positive values of curves, DECADES at most; its lower end is returned.

    Bands that reach zero or below are to be cut there: drawn, they would stretch the axis to the smallest float.
    """
    values = np.concatenate([np.ravel(curve) for curve in curves])
    values = values[np.isfinite(values) & (values > 0)]
    axis.set_yscale("log")
    if not len(values):
        return 0.0
    top = 2 * float(values.max())
    bottom = max(float(values.min()) / 2, top * 10.0**-DECADES)
    axis.set_ylim(bottom, top)
    return bottom
