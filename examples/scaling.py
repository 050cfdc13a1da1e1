"""Exponents against dimension and size.

Symmetric data on a sphere break O(d) symmetry with the same, mean-field exponents in every dimension; only amplitudes
know d. Curie-Weiss data of n spins round the transition at a distance n^-1/2: their magnetization collapses with
1/nu = 1/2 and beta/nu = 1/4 in the number of spins.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

from fastthermo import solvable
from fastthermo.exponents import collapse, measure


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    dimensions = (1, 2, 10) if quick else (1, 2, 3, 5, 10, 30)
    laws = ("order_parameter", "susceptibility_above", "isotherm")
    found = [measure(solvable.sphere(d, np.sqrt(d))) for d in dimensions]
    exponents = {name: np.array([f[name].value for f in found]) for name in laws if name in found[0]}
    theory = {name: found[0][name].mean_field for name in exponents}

    sizes = (400, 1600, 6400) if quick else (400, 800, 1600, 3200, 6400, 12800)
    control = np.concatenate([1 + np.linspace(-1, 1, 9) * n**-0.5 for n in sizes])
    size = np.repeat(sizes, 9)
    value = np.empty(len(size))
    for i, (n, temperature) in enumerate(zip(size, control, strict=True)):
        m, p = solvable.curie_weiss(int(n), 1 / temperature).magnetization()
        value[i] = p @ np.abs(m)
    scaled = collapse(control, size, value, 1e-3 * value)

    def draw(dimension: Any, raw: Any, collapsed: Any) -> None:
        for name, values in exponents.items():
            (line,) = dimension.semilogx(dimensions, values, "o-", markersize=4, label=name.replace("_", " "))
            dimension.axhline(theory[name], color=line.get_color(), linestyle=":", linewidth=0.8)
        dimension.set(title="exponents of spheres", xlabel="dimension d")
        dimension.legend(loc="center right")
        for n in sizes:
            raw.plot(control[size == n], value[size == n], "o-", markersize=3, label=f"n = {n}")
            collapsed.plot(scaled.x[size == n], scaled.y[size == n], "o", markersize=4, markerfacecolor="none")
        line = np.linspace(scaled.x.min(), scaled.x.max(), 200)
        collapsed.plot(line, scaled.curve(line)[0], color="0.5", linewidth=0.8, zorder=0)
        raw.set(title="⟨|m|⟩ of Curie-Weiss data", xlabel="temperature 1/K")
        raw.legend()
        collapsed.set(
            title=f"T_c = {scaled.critical.value:.4f}, 1/ν = {scaled.inverse_nu.value:.3f}, β/ν = "
            f"{scaled.kappa.value:.3f}",
            xlabel="(T − T_c) n^(1/ν)",
            ylabel="⟨|m|⟩ n^(β/ν)",
        )

    figure(out / "scaling.png", 3, draw)
    names = {"T_c": "critical", "1/nu": "inverse_nu", "beta/nu": "kappa"}
    estimates = {symbol: scaled.estimate(name) for symbol, name in names.items()}
    return {"dimensions": dimensions, "exponents": exponents, "theory": theory, **estimates}


if __name__ == "__main__":
    run(main, __doc__)
