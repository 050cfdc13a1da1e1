"""The thermodynamics of a data set over diffusion time, measured along noised data and along generated trajectories.

A portrait is a folder: `portrait.zarr` (an xarray data set), `summary.json`, `portrait.png` and `.pdf`. It is made in a
hidden folder beside its place and moved there when it is whole; an interrupted one is taken up again by the same call.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fastthermo
from fastthermo.datasets import Dataset
from fastthermo.portrait import measure
from fastthermo.portrait.store import Settings, open_store
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
    for name, value, least in (("times", times, 2), ("queries", queries, 2), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: wanted an integer of at least {least}, got {value!r}")
    ensemble = data.ensemble()
    settings = Settings(
        data.name,
        ensemble.size,
        ensemble.dimension,
        data.labels is not None,
        repr(process),
        times,
        queries,
        seed,
        fastthermo.__version__,
    )
    out = Path(out)
    folder = _claim(out, settings, overwrite)
    classes = None if data.labels is None else ensemble.split(data.labels)
    started = time.monotonic()
    landmarks = measure.landmarks(ensemble, process, seed)
    grid = measure.grid(ensemble, process, times, landmarks)
    store = open_store(folder, data, process, grid, settings, classes)
    measure.measure(store, folder, ensemble, classes, process, grid, settings, progress)
    measure.late_starts(store, ensemble, classes, process, grid, landmarks, seed)
    summary = measure.summarise(store, ensemble, process, landmarks, settings, time.monotonic() - started)
    _finish(folder, out, summary, data)
    return summary


def check_out(out: Path, overwrite: bool) -> None:
    """Raise ValueError where `out` exists and may not be replaced."""
    if not out.exists():
        return
    if not overwrite:
        raise ValueError(f"out: {out} exists; choose another folder or --overwrite")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "summary.json").is_file()):
        raise ValueError(f"out: {out} is not a portrait, it will not be overwritten")


def _claim(out: Path, settings: Settings, overwrite: bool) -> Path:
    """The hidden folder to work in, empty or holding an unfinished portrait with the same settings."""
    check_out(out, overwrite)
    folder = out.with_name(f".{out.name}.partial")
    if folder.exists():
        try:
            found = json.loads((folder / "settings.json").read_text())
        except (OSError, ValueError):
            found = None
        if found == asdict(settings):
            return folder
        if found is not None and not overwrite:
            key = next(key for key, value in asdict(settings).items() if found.get(key) != value)
            raise ValueError(
                f"{key}: {folder} holds an unfinished portrait with {key} = {found.get(key)!r}, this one has "
                f"{getattr(settings, key)!r}; repeat those settings to finish it, or overwrite it"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _finish(folder: Path, out: Path, summary: dict[str, Any], data: Dataset) -> None:
    """Figure and summary, then the whole portrait into its place."""
    import xarray as xr

    from fastthermo.plot import portrait_figure, save

    with xr.open_zarr(folder / "portrait.zarr", consolidated=False) as dataset:
        figure = portrait_figure(dataset.load(), summary, data.image_shape)
    save(figure, folder / "portrait.png")
    figure.set_layout_engine("none")  # found once
    save(figure, folder / "portrait.pdf")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    for name in ("checkpoint.npz", "settings.json"):
        (folder / name).unlink(missing_ok=True)
    if out.exists():
        shutil.rmtree(out)
    folder.rename(out)
