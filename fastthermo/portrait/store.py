"""What a portrait's numbers depend on, and the Zarr arrays they are written to, a chunk a time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastthermo._files import replacing
from fastthermo.datasets import Dataset
from fastthermo.process import Process

PROBES = 16  # trajectories whose susceptibility is diagonalised
EIGENVALUES = 3
STARTS = 6  # late starts
LATE_SAMPLES = 64

# name: (long name, units); one number a query
OBSERVABLES = {
    "entropy": ("entropy S = -KL(w || phi)", "nat"),
    "energy": ("energy <H>", "data unit^2"),
    "regularised_energy": ("regularised energy <H~>", "data unit^2"),
    "heat_capacity": ("heat capacity beta^2 Var(H)", "1"),
    "n_eff": ("effective number of states", "1"),
    "log_evidence": ("log evidence log Z~", "nat"),
    "same_class": ("sum_c p(c|x)^2", "1"),
}


@dataclass(frozen=True)
class Settings:
    """What a portrait's numbers depend on; a run is taken up again only where all of it agrees."""

    data: str
    states: int
    dimension: int
    labelled: bool
    process: str
    times: int
    queries: int
    seed: int
    version: str


def open_store(
    folder: Path, data: Dataset, process: Process, grid: np.ndarray, settings: Settings, classes: Any
) -> Any:
    """The Zarr arrays of the portrait by name, made up front (a chunk a time) or found there."""
    import xarray as xr
    import zarr

    path = folder / "portrait.zarr"
    if not (folder / "settings.json").is_file():
        t = grid[:-1]
        shape = data.states.shape[1:]
        rows, queries = len(t), settings.queries
        sizes = {
            "time": rows,
            "query": queries,
            "eigenvalue": min(EIGENVALUES, settings.dimension),
            "probe": min(PROBES, queries),
            "start": STARTS,
            "sample": LATE_SAMPLES,
            "class": 0 if classes is None else len(classes),
        }
        variables: dict[str, tuple[Any, ...]] = {}

        def add(name: str, dims: tuple[str, ...], long_name: str, units: str, extra: tuple[int, ...] = ()) -> None:
            inner = tuple(f"axis{i}" for i in range(len(extra)))
            values = np.full([sizes[dim] for dim in dims] + list(extra), np.nan)
            variables[name] = (dims + inner, values, {"long_name": long_name, "units": units})

        for path_name in ("noised", "generated"):
            for name, (long_name, units) in OBSERVABLES.items():
                if name != "same_class" or classes is not None:
                    add(f"{path_name}_{name}", ("time", "query"), f"{long_name}, {path_name} data", units)
        add("gain_mean", ("time", "eigenvalue"), "eigenvalues of beta C at the data mean", "1")
        add("gain_generated", ("time", "probe"), "top eigenvalue of beta C along trajectories", "1")
        for name, long_name, units in (
            ("information", "mutual information I(y; x_t)", "nat"),
            ("excess_entropy", "excess entropy density (log N - I) / D", "nat"),
            ("u_turn", "probability that a U-turn returns to the same class", "1"),
        ):
            add(name, ("time",), long_name, units)
            add(f"{name}_error", ("time",), f"standard error of {name}", units)
        add("late_time", ("start",), "time of a late start", "1")
        add("late_samples", ("start", "sample"), "samples from a Gaussian late start", "data unit", shape)
        if classes is not None:
            add("late_class", ("start", "class"), "share of samples by class", "1")
        variables["done"] = (("time",), np.zeros(rows, bool), {"long_name": "row is complete"})
        coords = {
            "time": ("time", t, {"long_name": "diffusion time t", "units": "1"}),
            "beta": ("time", process.beta(t), {"long_name": "inverse temperature", "units": "1 / data unit^2"}),
        }
        if classes is not None:
            names = ", ".join(map(str, classes))
            coords["class"] = ("class", np.arange(len(classes)), {"long_name": "class", "names": names})
        dataset = xr.Dataset(variables, coords, {"title": f"portrait of {data.name}", **asdict(settings)})
        chunks = {
            name: {"chunks": (1, *v[1].shape[1:])}
            for name, v in variables.items()
            if v[0][0] in ("time", "start") and v[1].ndim > 1 and v[1].size
        }
        dataset.to_zarr(path, mode="w", encoding=chunks, consolidated=False)
        with replacing(folder / "settings.json") as file:
            file.write_text(json.dumps(asdict(settings), indent=2))
    return dict(zarr.open_group(path, mode="r+").arrays())
