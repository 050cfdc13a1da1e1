"""The self-consistency equation h = <y> and its critical point.

Equal weights: h* = tanh(h*/s), a pitchfork at s = 1 with h* = sqrt(3 (1 - s)). Unequal weights: the pitchfork opens to
a saddle-node, whose fold the branch turns through.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

import fastthermo as ft
from fastthermo.critical.branch import follow

LOW, MIDDLE, HIGH = 0.5, 3.0, 5.0  # beta


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    pair, biased = ft.solvable.two_deltas(1.0), ft.solvable.two_deltas(1.0, 0.6)
    s_c = ft.critical_time(pair, ft.VarianceExploding())
    s = np.linspace(0.3, 1.4, 11 if quick else 55)
    found = ft.fixed_points(pair, 1 / s)
    order = np.array([np.abs(f.points).max() for f in found])
    chi = np.array(
        [ft.susceptibility(pair, f.points[0], f.beta).self_consistent()[0, 0] if len(f) else np.nan for f in found]
    )
    last = ft.fixed_points(biased, MIDDLE)
    branches = [follow(biased, point, MIDDLE, (LOW, HIGH)) for point in last.points[last.stable]]
    fold = np.concatenate([b.fold_beta for b in branches])

    def draw(pitchfork: Any, response: Any, saddle: Any) -> None:
        near = np.linspace(0.7, 1, 100)
        temperatures = np.concatenate([np.full(len(f), 1 / f.beta) for f in found])
        points, stable = np.concatenate([f.points[:, 0] for f in found]), np.concatenate([f.stable for f in found])
        for some, marker, label in ((stable, "o", "stable"), (~stable, "x", "unstable")):
            pitchfork.plot(temperatures[some], points[some], marker, color="#1f5fa8", markersize=3, label=label)
        pitchfork.plot(near, np.sqrt(3 * (1 - near)), color="#d1611b", label="√(3(1 − s))")
        pitchfork.set(title="fixed points, equal weights", xlabel="s", ylabel="h*")
        pitchfork.legend()
        response.semilogy(s, chi, "o-", markersize=3, color="#1f5fa8")
        response.axvline(s_c, color="0.5", linestyle=":", label="critical")
        response.set(title="susceptibility of the stable point", xlabel="s")
        response.legend()
        for i, b in enumerate(branches):
            for some, style, label in ((b.stable, "-", "stable"), (~b.stable, "--", "unstable")):
                line = np.where(some, b.points[:, 0], np.nan)
                saddle.plot(1 / b.beta, line, style, color="#1f5fa8", label=label if i == 0 else None)
        for i, x in enumerate(fold):
            saddle.axvline(1 / x, color="0.5", linestyle=":", label="fold" if i == 0 else None)
        saddle.legend()
        saddle.set(title="branches, weights 0.6 and 0.4", xlabel="s", ylabel="h*")

    figure(out / "self_consistency.png", 3, draw)
    return {"s_c": s_c, "s": s, "order parameter": order, "fold s": 1 / fold}


if __name__ == "__main__":
    run(main, __doc__)
