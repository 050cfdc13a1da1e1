"""What the axes of figures share: diffusion time and its landmarks, logarithms, reference values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADES = 8  # of a logarithmic axis: what is smaller still is zero to the eye
MARKS = {
    "critical": ("#7b3fa0", "critical"),
    "speciation": ("#3b7f8c", "speciation"),
    "collapse": ("#a8324a", "collapse"),
}


def time_axis(axis: Axes, t: np.ndarray, margin: float = 0.0) -> None:
    """Diffusion time along x, logarithmic where it spans decades. margin : at both ends, as a share of the axis."""
    axis.set_xlabel("diffusion time $t$  (data → noise)")
    low, high = float(t.min()), float(t.max())
    if high / low > 1e3 and high > 2:
        axis.set_xscale("log")
        room = (high / low) ** margin
        axis.set_xlim(low / room, high * room)
    else:
        room = (high - low) * margin
        axis.set_xlim(low - room, high + room)


def mark(axis: Axes, summary: dict[str, Any], labels: bool = True) -> None:
    """The critical, speciation and collapse times of a summary as lines, with or without labels in the legend."""
    found = {
        "critical": summary["critical_time"]["fixed_point"],
        "speciation": summary["speciation_time"],
        "collapse": summary["collapse_time"],
    }
    for name, landmark in found.items():
        if landmark["time"] is not None:
            color, label = MARKS[name]
            legend = f"{label} $t = {landmark['time']:.3g}$" if labels else None
            axis.axvline(landmark["time"], color=color, linewidth=1.1, linestyle=(0, (4, 2)), label=legend, zorder=1)


def level(axis: Axes, value: float, label: str) -> None:
    """A reference value as a labelled line."""
    axis.axhline(value, color="0.5", linewidth=0.8, linestyle="--")
    axis.annotate(label, (0.01, value), xycoords=("axes fraction", "data"), va="bottom", color="0.4", fontsize=8)


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
