"""The thermodynamics of a data set over diffusion time, measured along noised data and along generated trajectories.

A portrait is a folder: `portrait.zarr` (an xarray data set), `summary.json`, `portrait.png` and `.pdf`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fastthermo._arrays import whole
from fastthermo._results import Settings, claimed, finish
from fastthermo.datasets import Dataset
from fastthermo.plot import portrait_figure, save
from fastthermo.portrait import measure
from fastthermo.portrait.store import open_store
from fastthermo.process import Process


def portrait(
    data: Dataset,
    process: Process,
    out: str | Path,
    times: int = 64,
    queries: int = 512,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Make the portrait of a data set in the folder `out` and return its summary.

    Parameters
    ----------
    times : temperatures, uniform in log beta from where noise hides the data to well past the collapse.
    queries : noised data and trajectories at each.
    overwrite : replace a portrait that is there already, or an unfinished one with other settings.

    Raises
    ------
    ValueError for impossible numbers, a folder that exists, or an unfinished portrait with other settings.
    """
    times, queries, seed = whole("times", times, 2), whole("queries", queries, 2), whole("seed", seed, 0)
    ensemble = data.ensemble()
    classes = None if data.labels is None else ensemble.split(data.labels)
    settings = Settings.about(data, ensemble, process, times, queries, seed)
    out = Path(out)
    with claimed(out, settings, overwrite, "portrait") as folder:
        started = time.monotonic()
        landmarks = measure.landmarks(ensemble, process, seed)
        grid = measure.grid(ensemble, process, times, landmarks)
        store = open_store(folder, data, process, grid, settings, classes)
        measure.measure(store, folder, ensemble, classes, process, grid, settings, progress)
        measure.late_starts(store, ensemble, classes, process, grid, landmarks, seed)
        summary = measure.summarise(store, ensemble, process, landmarks, settings, time.monotonic() - started)
        finish(
            folder, out, "portrait", summary, lambda arrays: portrait_figure(arrays, summary, data.image_shape), save
        )
        return summary
