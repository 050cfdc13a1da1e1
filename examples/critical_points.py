"""Critical points of Gaussian mixtures, Ising rings, Curie-Weiss data and hierarchical mixtures, measured and exact.

two Gaussians      s_c = m^2 - v
ring               s_c = (1+u)/(1-u) (1-u^n)/(1+u^n), u = tanh K
Curie-Weiss        s_c -> 1/(1-K)
a tree of classes  y = sum_l +-a_l e_l + noise of variance v: level l splits at a_l^2 - v, coarse before fine
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

import fastthermo as ft
from fastthermo import solvable

LEVELS, WITHIN, K = np.array([2.5, 1.5, 0.8]), 0.1, 0.5


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    process = ft.VarianceExploding()
    v = np.linspace(0, 3, 4 if quick else 13)
    pairs = np.array([ft.critical_time(solvable.gaussian_mixture([[2.0], [-2.0]], x), process) for x in v])

    n = np.array([3, 8, 16] if quick else [3, 4, 6, 8, 12, 16, 24, 32, 48])
    rings = np.array([ft.critical_time(solvable.ising_ring(int(m), K), process) for m in n])
    u = np.tanh(K)
    ring_theory = (1 + u) / (1 - u) * (1 - u**n) / (1 + u**n)
    magnets = np.array([ft.critical_time(solvable.curie_weiss(int(m), K).symmetric(), process) for m in n])

    corners = np.array(list(itertools.product([-1, 1], repeat=len(LEVELS)))) * LEVELS
    tree = solvable.gaussian_mixture(corners, WITHIN)
    s = np.geomspace(0.2, 9, 8 if quick else 40)
    valleys = np.array([f.stable.sum() for f in ft.fixed_points(tree, 1 / s, n=256)])

    def draw(mixture: Any, spins: Any, hierarchy: Any) -> None:
        mixture.plot(v, 4 - v, color="#d1611b", label="m² − v")
        mixture.plot(v, pairs, "o", markersize=4, color="#1f5fa8", label="measured")
        mixture.set(title="two Gaussians, m = 2", xlabel="variance v", ylabel="s_c")
        spins.plot(n, ring_theory, color="#d1611b", label="ring, transfer matrix")
        spins.plot(n, rings, "o", markersize=4, color="#1f5fa8", label="ring, measured")
        spins.plot(n, magnets, "s", markersize=4, color="#2f7d4f", label="Curie-Weiss, measured")
        spins.axhline(1 / (1 - K), color="0.5", linestyle=":", label="Curie-Weiss, n → ∞: 1/(1 − K)")
        spins.set(title=f"spins, K = {K}", xlabel="n")
        hierarchy.step(s, valleys, where="mid", color="#1f5fa8")
        for i, x in enumerate(LEVELS**2 - WITHIN):
            hierarchy.axvline(x, color="0.5", linestyle=":", label="a_l² − v" if i == 0 else None)
        hierarchy.set(title="valleys of a tree of 8 classes", xlabel="s", xscale="log", yticks=[1, 2, 4, 8])
        mixture.legend()
        hierarchy.legend(loc="lower left")
        spins.legend(loc="lower right")

    figure(out / "critical_points.png", 3, draw)
    return {"v": v, "mixture": pairs, "ring": rings, "ring theory": ring_theory, "curie-weiss": magnets, "s": s,
            "valleys": valleys, "splits": LEVELS**2 - WITHIN}  # fmt: skip


if __name__ == "__main__":
    run(main, __doc__)
