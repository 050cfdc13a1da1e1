"""The dynamical regimes of a data set: what x_t knows of its data point, its class and its manifold, against time.

A survey is a folder: `regimes.zarr` (an xarray data set), `summary.json`, `regimes.png` and `.pdf`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fastthermo._arrays import whole
from fastthermo._results import Settings, claimed, finish
from fastthermo.datasets import Dataset
from fastthermo.plot import save
from fastthermo.portrait.measure import grid, landmarks
from fastthermo.process import Process
from fastthermo.survey import measure
from fastthermo.survey.figure import regimes_figure

SIGNAL = 0.004  # beta times the largest data variance at the first time, where the farthest classes still overlap


def survey(
    data: Dataset,
    process: Process,
    out: str | Path,
    times: int = 64,
    queries: int = 512,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Measure the regimes of a data set along noised data into the folder `out` and return their summary.

    Information and its rate, the memorisation gap, the loss of a Gaussian late start, class posteriors and distances
    (where there are labels), spectra of the score Jacobian and the dimension they imply, with standard errors.

    Parameters
    ----------
    times : temperatures, uniform in log beta from where noise hides the data to well past the collapse.
    queries : noised data at each.
    overwrite : replace a survey that is there already, or an unfinished one with other settings.

    Raises
    ------
    ValueError for impossible numbers, a folder that exists, or an unfinished survey with other settings.
    """
    times, queries, seed = whole("times", times, 5), whole("queries", queries, 2), whole("seed", seed, 0)
    ensemble = data.ensemble()
    classes = None if data.labels is None else ensemble.split(data.labels)
    settings = Settings.about(data, ensemble, process, times, queries, seed)
    out = Path(out)
    with claimed(out, settings, overwrite, "regimes") as folder:
        started = time.monotonic()
        marks = landmarks(ensemble, process, seed)
        what = measure.Survey(ensemble, classes, process, settings)
        store = measure.open_survey(folder, what, grid(ensemble, process, times, marks, SIGNAL)[:-1])
        measure.measure(store, what, progress)
        summary = measure.summarise(store, what, marks, time.monotonic() - started)
        finish(folder, out, "regimes", summary, lambda arrays: regimes_figure(arrays, summary), save)
        return summary
