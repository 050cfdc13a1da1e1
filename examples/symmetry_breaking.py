"""How handwritten digits break their symmetry on cooling: valleys of F~, when classes part, and what the valleys are.

Hot, the landscape has one valley, an average of all digits. Cooling opens others beside it, most by saddle-nodes: a
stable point and a saddle appear at a fold. The classes leave one by one, 0 first; 5 and 9 share a valley for longest.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

import fastthermo as ft
from fastthermo.datasets import load
from fastthermo.plot import draw_branches, draw_tree, sample_rows


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    data = load("digits")
    count = 300 if quick else len(data.states)
    law = ft.Ensemble(data.states[:count], None, data.scale, data.shift)
    classes = law.split(data.labels[:count])  # type: ignore[index]
    range_ = (1 / 3.5, 1 / 2) if quick else (1 / 3.5, 1 / 1.2)
    branches = ft.bifurcation_diagram(law, range_, temperatures=2 if quick else 6, n=64 if quick else 256)
    tree = ft.symmetry_breaking(classes, temperatures=16 if quick else 64)
    temperatures = np.array([2.6, 2.2] if quick else [3.0, 2.6, 2.2, 1.8, 1.4])
    found = ft.fixed_points(law, 1 / temperatures, newton_starts=8 if quick else 256)
    valleys = [points.points[points.stable] for points in found]
    images = np.full((len(valleys), max(map(len, valleys)), *law.shape), np.nan)
    for row, points, s in zip(images, valleys, temperatures, strict=True):
        row[: len(points)] = points[classes.class_posterior(points, 1 / s).argmax(-1).argsort()]

    def draw(left: Any, middle: Any, right: Any) -> None:
        draw_branches(left, branches)
        draw_tree(middle, tree)
        sample_rows(right, images, [f"{s:g}" for s in temperatures], "temperature s")
        right.set(title="stable points, by their likeliest class", anchor="N")

    figure(out / "symmetry_breaking.png", 3, draw)
    return {"folds s": np.sort(1 / np.concatenate([b.fold_beta for b in branches])), "splits s": tree.linkage[::-1, 2],
            "s": temperatures, "valleys": np.array([len(points) for points in valleys]),
            "stable branches": sum(stable_at(b, 1 / temperatures) for b in branches)}  # fmt: skip


def stable_at(branch: ft.Branch, beta: np.ndarray) -> np.ndarray:
    """How many stable parts of a branch there are at each beta (T,)."""
    before, after, stable = branch.beta[:-1], branch.beta[1:], branch.stable[:-1] & branch.stable[1:]
    return (stable & ((before - beta[:, None]) * (after - beta[:, None]) < 0)).sum(1)


if __name__ == "__main__":
    run(main, __doc__)
