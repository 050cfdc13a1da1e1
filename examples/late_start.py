"""Late start and diversity (Raya & Ambrogioni 2023) on handwritten digits.

Before the critical time the landscape is one valley, and a Gaussian with the moments of the noised data is as good a
start as noise at t_max. Started later, samples lose the classes that a Gaussian cannot tell apart.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

import fastthermo as ft
from fastthermo.datasets import load


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    data = load("digits")
    count, n, steps = (300, 100, 20) if quick else (len(data.states), 400, 50)
    ens = ft.Ensemble(data.states[:count], None, data.scale, data.shift)
    labels, process = data.labels[:count], ft.VariancePreserving()  # type: ignore[index]
    critical, speciation = ft.critical_time(ens, process), ft.speciation_time(ens, process)
    t = np.linspace(0.02, 1.0, 4 if quick else 12)
    share = np.bincount(labels, minlength=10) / count

    def ends(start: float, kind: str) -> np.ndarray:
        """The data that samples end at."""
        x = ft.sample(ens, process, n, steps=steps, scheme="ddim", t_start=start, x_start=kind, seed=0)
        last = process.t_min
        return ens.boltzmann(x / process.alpha(last), float(process.beta(last))).dominant

    distance, distinct = {}, {}
    for kind in ("gaussian", "noise"):
        found = [ends(float(start), kind) for start in t]
        classes = np.array([np.bincount(labels[i], minlength=10) / n for i in found])
        distance[kind] = np.abs(classes - share).sum(1) / 2
        distinct[kind] = np.array([len(np.unique(i)) for i in found])

    def draw(classes: Any, points: Any) -> None:
        for kind, label in (("gaussian", "Gaussian start"), ("noise", "start from noise of variance α² + σ²")):
            classes.plot(t, distance[kind], "o-", markersize=3, label=label)
            points.plot(t, distinct[kind] / n, "o-", markersize=3, label=label)
        for axis in (classes, points):
            axis.axvline(critical, color="#7b3fa0", linestyle=":", label="critical")
            axis.axvline(speciation, color="#3b7f8c", linestyle="--", label="speciation")
            axis.set_xlabel("start time t")
        classes.legend()
        points.legend(loc="lower right")
        classes.set_title("distance of class frequencies from the data's")
        points.set_title("distinct digits per sample")

    figure(out / "late_start.png", 2, draw)
    return {
        "critical time": critical,
        "speciation time": speciation,
        "t": t,
        "distance": distance,
        "distinct": distinct,
    }


if __name__ == "__main__":
    run(main, __doc__)
