"""What a late start costs: the quality of samples against the time at which generation starts.

Generation from t with a Gaussian that has the mean and covariance of the noised data (Raya & Ambrogioni 2023), and from
noised data, which is as good a start as there is. All starts share one grid of times, so that only the start differs.

A sweep is a folder: `late_start.zarr` (an xarray data set), `summary.json`, `late_start.png` and `.pdf`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.critical import critical_time
from fastthermo.datasets import Dataset
from fastthermo.experiments.cases import (
    Swept,
    averaged,
    bars,
    begun,
    distances,
    fill,
    models,
    over_seeds,
    qualities,
    share_axis,
)
from fastthermo.plot import GENERATED, NOISED, STYLE, events, headline, level, sample_rows, scatter, time_axis
from fastthermo.plot import mark as mark_times
from fastthermo.portrait.measure import mark
from fastthermo.process import Process
from fastthermo.regimes import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "late_start"
STARTS = {"gaussian": (GENERATED, "Gaussian start"), "data": (NOISED, "noised data")}
KNEE = 2.0  # times the Frechet distance of the first start: where the plateau has ended


def late_start(
    data: Dataset,
    process: Process,
    out: str | Path,
    runs: list[str | Path] | None = None,
    times: int = 12,
    queries: int = 1000,
    steps: int = 48,
    seeds: int = 3,
    seed: int = 0,
    overwrite: bool = False,
    device: Any = "cpu",
    progress: bool | None = None,
) -> dict[str, Any]:
    """Measure the qualities of samples against their start time into the folder `out`; labelled data.

    Parameters
    ----------
    runs : folders of `fastthermo train`, one network a seed, or fewer in turns; without any, the exact denoiser.
    times : start times, from where noise hides the data to past the collapse; queries : samples at each.
    steps : of Heun's scheme from the first time down to the last.
    device : of the networks, or of the data without any, and of the samples.

    Returns
    -------
    The summary: settings, landmarks, critical times of the networks, start times, the knee of the Frechet distance, and
    every quality of either start at each time as (mean, standard deviation) over seeds.

    Raises
    ------
    ValueError for impossible numbers, data without labels, a network of another shape, a folder that exists, or an
    unfinished sweep with other settings.
    """
    times, queries = whole("times", times, 2), whole("queries", queries, 2)
    steps, seeds, seed = whole("steps", steps, times + 1), whole("seeds", seeds, 1), whole("seed", seed, 0)
    found, network = models(runs or [], data, device)
    settings = Swept.about(
        data, data.ensemble(), process, steps, queries, seed, seeds=seeds, cases=f"{times} starts", network=network
    )
    with begun(data, process, out, settings, overwrite, KIND, device) as sweep:
        first = np.linspace(0, max(sweep.last, times - 1), times).astype(int)
        start_times = sweep.t[first]
        store = sweep.open(
            {
                "start": (range(len(STARTS)), {"long_name": "law at the start: 0 Gaussian, 1 noised data"}),
                "time": (start_times, {"long_name": "diffusion time of the start", "units": "1"}),
            }
        )

        def draw(start: int, i: int, k: int) -> np.ndarray:
            return sweep.samples(found[k % len(found)], k, first[i], list(STARTS)[start])

        yardstick = sweep.yardstick
        fill(store, draw, lambda x, *_: yardstick.measure(x), f"late starts on {data.name}", progress)
        learned = [Estimate(critical_time(model, process), 0.0) for model in found if runs]
        values = qualities(store)
        more = {
            "learned_critical_time": [mark(process, value) for value in learned],
            "data_frechet": yardstick.measure(sweep.ensemble.draw(queries, seed + 1).astype(np.float32))["frechet"],
            "start_times": start_times.tolist(),
            "knee": {kind: _knee(start_times, values["frechet"][i].mean(-1)) for i, kind in enumerate(STARTS)},
            "qualities": {
                kind: {name: over_seeds(value[i]) for name, value in values.items()} for i, kind in enumerate(STARTS)
            },
        }
        return sweep.finish(more, late_start_figure)


def _knee(t: np.ndarray, frechet: np.ndarray) -> float | None:
    """The last start time, from noise, before the Frechet distance has grown KNEE-fold; None where it never has."""
    worse = np.flatnonzero(frechet > KNEE * frechet[0])
    return float(t[worse[0] - 1]) if len(worse) else None


def late_start_figure(dataset: Any, summary: dict[str, Any]) -> Figure:
    """Qualities against start time, and samples of the Gaussian start."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    t = dataset["time"].to_numpy()
    with rc_context(STYLE):
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        axes = figure.subplots(2, 2)
        distance, classes, shares, samples = axes.ravel()
        for start, (color, label) in enumerate(STARTS.values()):
            of = dataset.isel(start=start)
            bars(distance, t, of["frechet"].to_numpy(), color, label)
            bars(classes, t, of["coverage"].to_numpy(), color, f"{label}: coverage")
            ratio = of["class_entropy"].to_numpy() / summary["space"]["class_entropy"]
            bars(classes, t, ratio, color, f"{label}: class entropy over the data's", ls="--", mfc="none")
            bars(shares, t, of["memorised"].to_numpy(), color, f"{label}: memorised")
            bars(shares, t, of["recognised"].to_numpy(), color, f"{label}: recognised", ls="--", mfc="none")
        distances(distance)
        level(distance, summary["data_frechet"], f"{summary['queries']} of the data")
        distance.set_title("a  Frechet distance in a classifier's features")
        classes.set_title("b  classes")
        shares.set_title("c  copies of data, and samples that classifiers are sure of")
        for axis in (classes, shares):
            share_axis(axis)
        for axis in (distance, classes, shares):
            time_axis(axis, t, events(summary, t), margin=0.02)  # whole bars at the first and the last time
            mark_times(axis, summary, labels=axis is distance)
            axis.set_xlabel("start time $t$  (data → noise)")
            axis.legend(loc="best")
        shots = dataset["shots"].isel(start=0).to_numpy()
        samples.set_title("d  samples of Gaussian starts")
        if shots.ndim > 3:
            sample_rows(samples, shots, [f"{value:.2g}" for value in t], "start time $t$")
        else:
            scatter(samples, list(shots), [f"$t = {value:.2g}$" for value in t])
        model = "the exact denoiser" if summary["network"] == "exact" else "a trained network"
        figure.suptitle(f"{headline(summary)}; {model}, {averaged(summary)}", fontsize=11)
    return figure
