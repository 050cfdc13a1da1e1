"""Memorisation against the number of data: networks of one size trained on more and more of a data set.

With few data a network learns the exact denoiser, whose samples are copies; with many it cannot and generalises. The
errors E|m - y|^2 / D on own and on unseen data, noised to the same time, part where it knows its data by heart.

A sweep is a folder: `memorisation.zarr` (an xarray data set), `summary.json`, `memorisation.png` and `.pdf`, and the
training runs in `runs`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo._results import claim, finish
from fastthermo.datasets import Dataset
from fastthermo.experiments.cases import (
    Swept,
    Variables,
    averaged,
    bars,
    clean,
    cooling,
    distances,
    fill,
    open_cases,
    over_seeds,
    shares,
)
from fastthermo.experiments.quality import QUALITIES, Yardstick
from fastthermo.plot import STYLE, events, headline, sample_rows, save, scatter, time_axis
from fastthermo.plot import mark as mark_times
from fastthermo.portrait.measure import landmark_times, landmarks, mark
from fastthermo.process import Process
from fastthermo.regimes import collapse_time
from fastthermo.sampling import noised, sample
from fastthermo.training import subset, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "memorisation"
SCHEME, STEPS = "heun", 24
TIMES, UNSEEN = 10, 64  # temperatures of the errors, and data at each
SIZES = (100, 300, 1000, 2000, 5000)


@dataclass(frozen=True)
class Trained(Swept):
    """With what the networks depend on."""

    training_steps: int
    batch: int
    width: int | None


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
    ensemble = data.ensemble()
    settings = Trained.about(
        data,
        ensemble,
        process,
        STEPS,
        queries,
        seed,
        seeds=seeds,
        cases=f"on {', '.join(map(str, numbers))} data",
        network="trained here",
        training_steps=steps,
        batch=batch,
        width=width,
    )
    out = Path(out)
    yardstick = Yardstick(data, device)
    folder = claim(out, settings, overwrite, KIND)
    started = time.monotonic()
    marks = landmarks(ensemble, process, seed)
    t, _ = cooling(yardstick, ensemble, process, STEPS, marks)
    index = np.linspace(0, STEPS, TIMES).astype(int)
    runs = [folder / "runs" / str(n) for n in numbers]
    networks = [
        train(part, run, steps, batch, width, seed=seed, device=device, progress=progress)
        for part, run in zip(parts, runs, strict=True)
    ]
    errors: Variables = {
        name: (("size", "time"), np.full((len(numbers), TIMES), np.nan), {"long_name": text, "units": "data unit^2"})
        for name, text in (
            ("own_error", "|m - y|^2 / D of data of the training"),
            ("unseen_error", "|m - y|^2 / D of other data; NaN where there are none"),
        )
    }
    errors["time"] = (("time",), t[index], {"long_name": "diffusion time t", "units": "1"})
    axes = {"size": (numbers, {"long_name": "number of data of the training"})}
    store = open_cases(folder, KIND, settings, axes, ensemble.shape, errors)
    rows = [(part.scale * part.states.reshape(len(part.states), -1) + part.shift).astype(np.float32) for part in parts]

    def draw(i: int, k: int) -> np.ndarray:
        x = sample(networks[i], process, queries, t, SCHEME, x_start="gaussian", seed=seed + k, progress=False)
        return clean(networks[i], process, x, float(t[-1]))

    fill(store, draw, lambda x, i, _: yardstick.measure(x, rows[i]), f"memorisation of {data.name}", progress)
    order = np.random.default_rng(seed).permutation(ensemble.size)  # that of `subset`
    for i, (n, network) in enumerate(zip(numbers, networks, strict=True)):
        own, unseen = order[:n][:UNSEEN], order[n:][:UNSEEN]
        store["own_error"][i] = _errors(network, process, ensemble.data(own), t[index], seed)
        if len(unseen):
            store["unseen_error"][i] = _errors(network, process, ensemble.data(unseen), t[index], seed)
    values = {name: np.asarray(store[name][:]) for name in QUALITIES}
    summary = {
        **asdict(settings),
        **landmark_times(process, marks),
        "sizes": numbers,
        "collapse_times": [
            mark(process, collapse_time(part.ensemble(), process, min(512, len(part.states)), seed)) for part in parts
        ],
        "space": yardstick.space,
        "qualities": {name: over_seeds(value) for name, value in values.items()},
        "seconds": round(time.monotonic() - started, 2),
    }
    finish(folder, out, KIND, summary, lambda arrays: memorisation_figure(arrays, summary), save)
    return summary


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
        drawn = {"memorised": "#a8324a", "recognised": "#2f7d4f", "coverage": "0.5"}
        shares(quality, sizes, {name: (dataset[name].to_numpy(), color) for name, color in drawn.items()})
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
