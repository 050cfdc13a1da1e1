"""Condensation of digits with N: memorisation sets in later, the more data there are.

The weights of N data at a noised digit condense on few of them below T_cond; on the one it came from at the collapse.
For random data of D dimensions both temperatures go as D/log(N); digits lie on fewer.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

import fastthermo as ft
from fastthermo.datasets import load
from fastthermo.regimes import condensation_time


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    data, process = load("digits"), ft.VarianceExploding(t_min=1e-4, t_max=1e4)
    whole = len(data.states)
    sizes = np.array([50, 200, 800] if quick else [25, 50, 100, 200, 400, 800, whole])
    n = 64 if quick else 512
    order = np.random.default_rng(0).permutation(whole)
    laws = [ft.Ensemble(data.states[order[:size]], None, data.scale, data.shift) for size in sizes]
    collapse = [ft.collapse_time(law, process, n=min(n, law.size)) for law in laws]
    condensation = np.array([condensation_time(law, process) for law in laws])
    s = np.geomspace(0.1, 100, 10 if quick else 40)
    participation = np.empty((len(laws), len(s)))
    for row, law in zip(participation, laws, strict=True):
        y = law.draw(n, seed=1)
        fields = np.concatenate([ft.noised(law, process, x, y, seed=1) for x in s])
        state = law.boltzmann(fields, np.repeat(process.beta(s), n))
        row[:] = state.participation.reshape(len(s), n).mean(1)

    def draw(weights: Any, times: Any) -> None:
        for size, row in zip(sizes, participation, strict=True):
            weights.semilogx(s, row, label=f"N = {size}")
        weights.set(title="Σ w² along noised digits", xlabel="temperature s")
        weights.legend()
        times.errorbar(sizes, [c.value for c in collapse], [c.error for c in collapse], fmt="o-", label="collapse")
        times.plot(sizes, condensation, "s-", label="condensation of pure noise")
        times.set(title="temperatures", xlabel="N", xscale="log", ylabel="s", ylim=(0, None))
        times.set_xticks(sizes, [str(size) for size in sizes])
        times.minorticks_off()
        times.legend()

    figure(out / "condensation.png", 2, draw)
    return {"N": sizes, "collapse s": np.array([c.value for c in collapse]), "condensation s": condensation,
            "participation": participation}  # fmt: skip


if __name__ == "__main__":
    run(main, __doc__)
