"""Generation in another landscape: the field term of F~ scaled, or the score smoothed (`fastthermo.adapters`).

Scaling moves the critical point to beta lambda(C) = field, so that choices fall earlier or later. Smoothing over
distances between data makes averages of neighbours of what the exact denoiser would copy.

A sweep is a folder: `regularisation.zarr` (an xarray data set), `summary.json`, `regularisation.png` and `.pdf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.adapters import regularised
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
    shares,
)
from fastthermo.plot import STYLE, headline, sample_rows, scatter
from fastthermo.portrait.measure import mark
from fastthermo.process import Process
from fastthermo.regimes import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "regularisation"
FIELDS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25)
SMOOTHINGS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
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

    Returns
    -------
    The summary: settings, landmarks, strengths, the critical time of each landscape, and every quality in each as
    (mean, standard deviation) over seeds.

    Raises
    ------
    ValueError as `late_start`.
    """
    queries, steps = whole("queries", queries, 2), whole("steps", steps, 2)
    seeds, seed = whole("seeds", seeds, 1), whole("seed", seed, 0)
    if len(fields) != len(smoothings) or not len(fields):
        raise ValueError(f"smoothings: wanted as many as fields, {len(fields)}, got {len(smoothings)}")
    found, network = models(runs or [], data, device)
    for kind, values in enumerate((fields, smoothings)):
        for value in values:  # what cannot be is told before any work
            _landscape(found[0], kind, value)
    cases = f"fields {list(fields)}, smoothings {list(smoothings)}"
    settings = Swept.about(
        data, data.ensemble(), process, steps, queries, seed, seeds=seeds, cases=cases, network=network
    )
    with begun(data, process, out, settings, overwrite, KIND, device) as sweep:
        unit = nearest(sweep.yardstick.rows)
        strengths = np.array([fields, smoothings], dtype=np.float64)
        absolute = strengths * [[1], [unit]]
        axes = {
            "kind": (range(2), {"long_name": "0 field term scaled, 1 score smoothed"}),
            "case": (range(len(fields)), {"long_name": "number of the strength"}),
        }
        notes = {"long_name": "strength of the field term; smoothing over the mean distance of nearest data"}
        store = sweep.open(axes, {"strength": (("kind", "case"), strengths, notes)})

        def draw(kind: int, i: int, k: int) -> np.ndarray:
            return sweep.samples(_landscape(found[k % len(found)], kind, absolute[kind, i]), k)

        fill(store, draw, lambda x, *_: sweep.yardstick.measure(x), f"regularisation on {data.name}", progress)
        critical = [
            [critical_time(_landscape(found[0], kind, value), process) for value in row]
            for kind, row in enumerate(absolute)
        ]
        more = {
            "nearest": unit,
            "strengths": strengths.tolist(),
            "critical_times": [[mark(process, Estimate(value, 0.0)) for value in row] for row in critical],
            "qualities": {name: over_seeds(value) for name, value in qualities(store).items()},
        }
        return sweep.finish(more, regularisation_figure)


def _landscape(model: Any, kind: int, value: float) -> Any:
    """Of a strength of the field term (kind 0), or of a smoothing in data units (1)."""
    return regularised(model, field=float(value)) if kind == 0 else regularised(model, smoothing=float(value))


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
            shares(quality, x, of)
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
