"""Generation in another landscape: the field term of F~ scaled, or the score smoothed (`fastthermo.adapters`).

Scaling moves the critical point to beta lambda(C) = field, so that choices fall earlier or later. Smoothing over
distances between data makes averages of neighbours of what the exact denoiser would copy.

A sweep is a folder: `regularisation.zarr` (an xarray data set), `summary.json`, `regularisation.png` and `.pdf`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo._results import finish
from fastthermo.adapters import regularised
from fastthermo.critical import critical_time
from fastthermo.datasets import Dataset
from fastthermo.experiments.cases import averaged, bars, clean, distances, fill, open_cases, over_seeds, prepare, shares
from fastthermo.experiments.quality import QUALITIES
from fastthermo.plot import STYLE, headline, sample_rows, save, scatter
from fastthermo.portrait.measure import landmark_times, mark
from fastthermo.process import Process
from fastthermo.regimes import Estimate
from fastthermo.sampling import sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "regularisation"
SCHEME = "heun"
FIELDS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25)
SMOOTHINGS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
COLORS = {"memorised": "#a8324a", "recognised": "#2f7d4f", "coverage": "0.5"}
TITLES = {"field": "strength of the field term", "smoothing": "smoothing over the distance of nearest data"}


def regularise(
    data: Dataset,
    process: Process,
    out: str | Path,
    runs: list[str | Path] | None = None,
    fields: Sequence[float] = FIELDS,
    smoothings: Sequence[float] = SMOOTHINGS,
    queries: int = 500,
    steps: int = 48,
    seeds: int = 3,
    seed: int = 0,
    overwrite: bool = False,
    device: Any = "cpu",
    progress: bool | None = None,
) -> dict[str, Any]:
    """Measure samples of a model in scaled and in smoothed landscapes into the folder `out`; labelled data.

    Parameters
    ----------
    runs : folders of `fastthermo train`, as of `late_start`; without any, the exact denoiser.
    fields : strengths of the field term; smoothings : in units of the mean distance of a datum to its nearest.
    queries, steps, seeds, device : as of `late_start`.

    Raises
    ------
    ValueError as `late_start`.
    """
    queries, steps = whole("queries", queries, 2), whole("steps", steps, 2)
    seeds, seed = whole("seeds", seeds, 1), whole("seed", seed, 0)
    if len(fields) != len(smoothings) or not len(fields):
        raise ValueError(f"smoothings: wanted as many as fields, {len(fields)}, got {len(smoothings)}")
    started, out = time.monotonic(), Path(out)
    found, ensemble, settings, yardstick, folder, marks, t, _ = prepare(
        data, process, out, runs or [], KIND, f"fields {list(fields)}, smoothings {list(smoothings)}",
        steps=steps, queries=queries, seeds=seeds, seed=seed, overwrite=overwrite, device=device,
    )  # fmt: skip
    unit = nearest(yardstick.rows)
    strengths = np.array([fields, smoothings], dtype=np.float64)
    axes = {
        "kind": (range(2), {"long_name": "0 field term scaled, 1 score smoothed"}),
        "case": (range(len(fields)), {"long_name": "number of the strength"}),
    }
    notes = {"long_name": "strength of the field term; smoothing over the mean distance of nearest data"}
    store = open_cases(folder, KIND, settings, axes, ensemble.shape, {"strength": (("kind", "case"), strengths, notes)})

    def landscape(model: Any, kind: int, i: int) -> Any:
        value = float(strengths[kind, i])
        return regularised(model, field=value) if kind == 0 else regularised(model, smoothing=unit * value)

    def draw(kind: int, i: int, k: int) -> np.ndarray:
        model = landscape(found[k % len(found)], kind, i)
        x = sample(model, process, queries, t, SCHEME, x_start="gaussian", seed=seed + k, progress=False)
        return clean(model, process, x, float(t[-1]))

    fill(store, draw, lambda x, *_: yardstick.measure(x), f"regularisation on {data.name}", progress)
    values = {name: np.asarray(store[name][:]) for name in QUALITIES}
    summary = {
        **asdict(settings),
        **landmark_times(process, marks),
        "nearest": unit,
        "space": yardstick.space,
        "strengths": strengths.tolist(),
        "critical_times": [
            [
                mark(process, Estimate(critical_time(landscape(found[0], kind, i), process), 0.0))
                for i in range(len(row))
            ]
            for kind, row in enumerate(strengths)
        ],
        "qualities": {name: over_seeds(value) for name, value in values.items()},
        "seconds": round(time.monotonic() - started, 2),
    }
    finish(folder, out, KIND, summary, lambda arrays: regularisation_figure(arrays, summary), save)
    return summary


def nearest(rows: np.ndarray) -> float:
    """The mean distance of a datum to the nearest other, over at most 1000 of them."""
    import torch

    y = torch.as_tensor(rows).double()
    return float(torch.cdist(y[:1000], y).topk(2, largest=False).values[:, 1].mean())


def regularisation_figure(dataset: Any, summary: dict[str, Any]) -> Figure:
    """A row for each way to change the landscape: Frechet distance, shares, samples."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        for kind, axes in enumerate(figure.subplots(2, 3)):
            of, name = dataset.isel(kind=kind), list(TITLES)[kind]
            x = of["strength"].to_numpy()
            distance, quality, samples = axes
            bars(distance, x, of["frechet"].to_numpy(), "#1f5fa8", "Frechet distance")
            distances(distance)
            shares(quality, x, {name: (of[name].to_numpy(), color) for name, color in COLORS.items()})
            for axis in (distance, quality):
                axis.set_xlabel(TITLES[name])
            distance.set_title(f"{'ad'[kind]}  Frechet distance in a classifier's features")
            quality.set_title(f"{'be'[kind]}  shares of samples and of classes")
            samples.set_title(f"{'cf'[kind]}  samples")
            shots = of["shots"].to_numpy()
            if shots.ndim > 3:
                sample_rows(samples, shots, [f"{value:.3g}" for value in x], name)
            else:
                scatter(samples, list(shots), [f"{value:.3g}" for value in x])
        model = "the exact denoiser" if summary["network"] == "exact" else "a trained network"
        figure.suptitle(f"{headline(summary)}; {model}, {averaged(summary)}", fontsize=11)
    return figure
