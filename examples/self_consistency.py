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
        for f in found:
            for point, stable in zip(f.points[:, 0], f.stable, strict=True):
                pitchfork.plot(1 / f.beta, point, "o" if stable else "x", color="#1f5fa8", markersize=3)
        pitchfork.plot(near, np.sqrt(3 * (1 - near)), color="#d1611b", label="√(3(1 − s))")
        pitchfork.set(title="fixed points, equal weights", xlabel="s", ylabel="h*")
        pitchfork.legend()
        response.semilogy(s, chi, "o-", markersize=3, color="#1f5fa8")
        response.axvline(s_c, color="0.5", linestyle=":")
        response.set(title="susceptibility of the stable point", xlabel="s")
        for b in branches:
            for stable, style in ((True, "-"), (False, ":")):
                saddle.plot(1 / b.beta, np.where(b.stable == stable, b.points[:, 0], np.nan), style, color="#1f5fa8")
        for x in fold:
            saddle.axvline(1 / x, color="0.5", linestyle=":")
        saddle.set(title="branches, weights 0.6 and 0.4", xlabel="s", ylabel="h*")

    figure(out / "self_consistency.png", 3, draw)
    return {"s_c": s_c, "s": s, "order parameter": order, "fold s": 1 / fold}


if __name__ == "__main__":
    run(main, __doc__)
