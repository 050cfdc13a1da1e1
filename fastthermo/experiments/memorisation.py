"""Memorisation against the number of data: networks of one size trained on more and more of a data set.

With few data a network learns the exact denoiser, whose samples are copies; with many it cannot and generalises. The
errors E|m - y|^2 / D on own and on unseen data, noised to the same time, part where it knows its data by heart.

A sweep is a folder: `memorisation.zarr` (an xarray data set), `summary.json`, `memorisation.png` and `.pdf`, and the
training runs in `runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.datasets import Dataset
from fastthermo.experiments.cases import (
    Swept,
    Variables,
    averaged,
    bars,
    begun,
    clean,
    distances,
    fill,
    over_seeds,
    qualities,
    shares,
)
from fastthermo.experiments.quality import rows_of
from fastthermo.plot import STYLE, events, headline, sample_rows, scatter, time_axis
from fastthermo.plot import mark as mark_times
from fastthermo.portrait.measure import mark
from fastthermo.process import Process
from fastthermo.regimes import collapse_time
from fastthermo.sampling import noised
from fastthermo.training import begin, subset, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "memorisation"
STEPS = 24  # of the sampler
TIMES, UNSEEN = 10, 64  # temperatures of the errors, and data at each
SIZES = (100, 300, 1000, 2000, 5000)


@dataclass(frozen=True)
class Trained(Swept):
    """With what the networks depend on."""

    training_steps: int
    batch: int
    width: int


def memorise(
    data: Dataset,
    process: Process,
    out: str | Path,
    sizes: Sequence[int] = SIZES,
    steps: int = 5000,
    batch: int = 128,
    width: int | None = None,
    queries: int = 1000,
    seeds: int = 3,
    seed: int = 0,
    overwrite: bool = False,
    device: Any = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Train a network on each of several numbers of labelled data and measure its samples, into the folder `out`.

    Parameters
    ----------
    sizes : numbers of data; each set holds the smaller ones.
    steps, batch, width, device : of every training, as of `train`.
    queries : samples a network and seed; seeds : of the samples' noise.

    Returns
    -------
    The summary: settings, landmarks, sizes, collapse times of the sets, and every quality at each size as (mean,
    standard deviation) over seeds.

    Raises
    ------
    ValueError for impossible numbers, data without labels, a folder that exists, or an unfinished sweep with other
    settings.
    """
    steps, queries = whole("steps", steps, 1), whole("queries", queries, 2)
    seeds, seed = whole("seeds", seeds, 1), whole("seed", seed, 0)
    numbers = sorted({whole("sizes", n, 2, len(data.states)) for n in sizes})
    if len(numbers) < 2:
        raise ValueError(f"sizes: wanted at least two numbers of data, got {list(sizes)}")
    parts = [subset(data, n, seed) for n in numbers]
    # what training refuses is told before any work
    width = begin(parts[0], steps, batch, width, device=device).width
    settings = Trained.about(
        data,
        data.ensemble(),
        process,
        STEPS,
        queries,
        seed,
        seeds=seeds,
        cases=f"on {', '.join(map(str, numbers))} data",
        network="trained here",
        training_steps=steps,
        batch=int(batch),
        width=width,
    )
    with begun(data, process, out, settings, overwrite, KIND, device) as sweep:
        networks = [
            train(
                part, sweep.folder / "runs" / str(n), steps, batch, width, seed=seed, device=device, progress=progress
            )
            for n, part in zip(numbers, parts, strict=True)
        ]
        t = sweep.t[np.linspace(0, STEPS, TIMES).astype(int)]
        axes = {"size": (numbers, {"long_name": "number of data of the training"})}
        store = sweep.open(axes, _no_errors(len(numbers), t))
        rows = [rows_of(part) for part in parts]

        def draw(i: int, k: int) -> np.ndarray:
            return sweep.samples(networks[i], k)

        def measure(x: np.ndarray, i: int, _: int) -> dict[str, float]:
            return sweep.yardstick.measure(x, rows[i])

        fill(store, draw, measure, f"memorisation of {data.name}", progress)
        order = np.random.default_rng(seed).permutation(sweep.ensemble.size)  # that of `subset`
        for i, (n, network) in enumerate(zip(numbers, networks, strict=True)):
            for name, index in (("own_error", order[:n]), ("unseen_error", order[n:])):
                if len(index):
                    store[name][i] = _errors(network, process, sweep.ensemble.data(index[:UNSEEN]), t, seed)
        collapse = [collapse_time(part.ensemble(), process, min(512, len(part.states)), seed) for part in parts]
        more = {
            "sizes": numbers,
            "collapse_times": [mark(process, value) for value in collapse],
            "qualities": {name: over_seeds(value) for name, value in qualities(store).items()},
        }
        return sweep.finish(more, memorisation_figure)


def _no_errors(sizes: int, t: np.ndarray) -> Variables:
    """Room for errors at times t (T,)."""
    variables: Variables = {
        name: (("size", "time"), np.full((sizes, len(t)), np.nan), {"long_name": text, "units": "data unit^2"})
        for name, text in (
            ("own_error", "|m - y|^2 / D of data of the training"),
            ("unseen_error", "|m - y|^2 / D of other data; NaN where there are none"),
        )
    }
    return variables | {"time": (("time",), t, {"long_name": "diffusion time t", "units": "1"})}


def _errors(model: Any, process: Process, y: np.ndarray, t: np.ndarray, seed: int) -> np.ndarray:
    """E|m - y|^2 / D of data y (n, ...) noised to times t (T,): shape (T,)."""
    found = []
    for s in t:
        x = noised(model, process, float(s), y, seed)
        found.append(float(((clean(model, process, x, float(s)) - y) ** 2).mean()))
    return np.array(found)


def memorisation_figure(dataset: Any, summary: dict[str, Any]) -> Figure:
    """Copies and quality against the number of data, errors on own and unseen data over time, samples."""
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    sizes, t = dataset["size"].to_numpy(), dataset["time"].to_numpy()
    colors = colormaps["viridis"](np.linspace(0, 0.9, len(sizes)))
    with rc_context(STYLE):
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        quality, distance, errors, samples = figure.subplots(2, 2).ravel()
        shares(quality, sizes, dataset)
        quality.set_title("a  shares of samples (memorised, recognised) and of classes")
        bars(distance, sizes, dataset["frechet"].to_numpy(), "#1f5fa8", "Frechet distance")
        distances(distance)
        distance.set_title("b  Frechet distance in a classifier's features")
        for axis in (quality, distance):
            axis.set_xscale("log")
            axis.set_xticks(sizes, [str(n) for n in sizes])
            axis.set_xticks([], minor=True)  # of x alone: on less than a decade of y they carry its labels
            axis.set_xlabel("number of data of the training")
            axis.legend(loc="best")
        for i, (n, color) in enumerate(zip(sizes, colors, strict=True)):
            errors.plot(t, dataset["own_error"][i], color=color, label=f"{n}: own, unseen dashed")
            errors.plot(t, dataset["unseen_error"][i], color=color, ls="--")
        errors.set_yscale("log")
        time_axis(errors, t, events(summary, t))
        mark_times(errors, summary, labels=False)
        errors.set_title("c  squared error of the mean a coordinate")
        errors.set_ylabel("data unit$^2$")
        errors.legend(loc="best")
        shots = dataset["shots"].to_numpy()
        samples.set_title("d  samples by number of data")
        if shots.ndim > 3:
            sample_rows(samples, shots, [str(n) for n in sizes], "data")
        else:
            scatter(samples, list(shots), [str(n) for n in sizes])
        figure.suptitle(f"{headline(summary)}; {averaged(summary)}", fontsize=11)
    return figure
