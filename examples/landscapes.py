"""Free energy landscapes of a bimodal law over diffusion time.

Generation descends F~(h) = -log Z~(h) / beta while it cools. Above s_c = 1 there is one valley, below it two; the
density of one particle shows their growth, a bath of many sites sharing one field shows a sharp transition.
"""

from pathlib import Path
from typing import Any

import numpy as np
from common import figure, run

import fastthermo as ft
from fastthermo.solvable import Bath


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    law, process = ft.solvable.two_deltas(1.0), ft.OrnsteinUhlenbeck()
    critical = ft.critical_time(law, process)
    h = np.linspace(-1.6, 1.6, 81 if quick else 401)
    temperatures = np.array([2.0, 1.4, 1.0, 0.7, 0.4])
    times = np.linspace(0.05, 1.0, 20 if quick else 120)

    def state(t: float) -> ft.Posterior:
        return ft.posterior(law, process, h[:, None] * process.alpha(t), t)

    landscapes = np.array([law.boltzmann(h[:, None], 1 / s).regularised_free_energy for s in temperatures])
    density = np.array([state(t).log_density + np.log(process.alpha(t)) for t in times])  # of h = x/alpha
    betas = process.beta(times[times < critical])
    valleys = np.array([np.abs(found.points).max() for found in ft.fixed_points(law, betas)])
    sites = (1, 10, 100)
    baths = [Bath(law, m).nodes(1 / 0.8, fineness=16) for m in sites]

    def draw(landscape: Any, flow: Any, bath: Any) -> None:
        middle = len(h) // 2
        for s, free in zip(temperatures, landscapes, strict=True):
            landscape.plot(h, free - free[middle], label=f"s = {s:g}")
        landscape.set(title="F~(h) − F~(0)", xlabel="field h", ylim=(-0.25, 0.8))
        landscape.legend(loc="upper center")
        shade = flow.pcolormesh(times, h, np.exp(density).T, cmap="Blues", rasterized=True)
        flow.figure.colorbar(shade, ax=flow, label="density of h")
        for sign in (-1, 1):
            flow.plot(times[times < critical], sign * valleys, color="#d1611b", label="valleys" if sign > 0 else None)
        flow.axvline(critical, color="0.5", linestyle=":", label="critical")
        flow.legend()
        flow.set(title="density of h, and valleys of F~", xlabel="diffusion time t", ylabel="h")
        flow.grid(False)
        for m, nodes in zip(sites, baths, strict=True):
            bath.plot(
                nodes.h, nodes.weights / (nodes.weights.sum() * np.diff(nodes.h)[0]), label=f"{m} site" + "s" * (m > 1)
            )
        bath.set(title="field of a bath at s = 0.8", xlabel="h", xlim=(-2.5, 2.5))
        bath.legend()

    figure(out / "landscapes.png", 3, draw)
    return {"critical time": critical, "times": times[times < critical], "valleys": valleys, "landscapes": landscapes}


if __name__ == "__main__":
    run(main, __doc__)
