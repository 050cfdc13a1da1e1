"""What a portrait's numbers depend on, and the Zarr arrays they are written to, a chunk a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastthermo._results import Settings, open_arrays, rows, times
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


def open_store(
    folder: Path, data: Dataset, process: Process, grid: np.ndarray, settings: Settings, classes: Any
) -> Any:
    """The Zarr arrays of the portrait by name, made up front (a chunk a time) or found there."""
    return open_arrays(folder, "portrait", settings, lambda: _arrays(data, process, grid, settings, classes))


def _arrays(data: Dataset, process: Process, grid: np.ndarray, settings: Settings, classes: Any) -> tuple[Any, Any]:
    """The empty data set and its chunks."""
    import xarray as xr

    t = grid[:-1]
    shape = data.states.shape[1:]
    queries = settings.queries
    sizes = {
        "time": len(t),
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
    variables["done"] = (("time",), np.zeros(len(t), bool), {"long_name": "row is complete"})
    coords: dict[str, Any] = {**times(t, process.beta(t))}
    if classes is not None:
        names = ", ".join(map(str, classes))
        coords["class"] = ("class", np.arange(len(classes)), {"long_name": "class", "names": names})
    return xr.Dataset(variables, coords), rows(variables, ("time", "start"))
