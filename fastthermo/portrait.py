"""The thermodynamics of a data set over diffusion time, measured along noised data and along generated trajectories.

A portrait is a folder: `portrait.zarr` (an xarray data set), `summary.json`, `portrait.png` and `.pdf`. It is made in a
hidden folder beside its place and moved there when it is whole; an interrupted one is taken up again by the same call.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastthermo
from fastthermo import ops
from fastthermo._files import replacing
from fastthermo.critical import critical_times
from fastthermo.datasets import Dataset
from fastthermo.process import Process
from fastthermo.regimes import Estimate, average, choose, collapse_time, pointwise_information
from fastthermo.response import susceptibility
from fastthermo.sampling import START, sample

PROBES = 16  # trajectories whose susceptibility is diagonalised
EIGENVALUES = 3
RESIDUAL = 1e-4  # of an eigenvector, relative to the top eigenvalue; that of its eigenvalue is the square
STARTS = 6  # late starts
LATE_SAMPLES = 64
LATE_STEPS = 32
CONVENTIONS = ("fixed_point", "sde_drift", "ode_drift")

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


class _Recorder:
    """The ensemble as the sampler's model: each call also observes noised data at its temperature, in the same pass.

    Noised data in field units are y + z / sqrt(beta), with the same y and z at every temperature.
    """

    def __init__(self, ensemble: Any, classes: Any, y: np.ndarray, z: np.ndarray) -> None:
        self.ensemble, self.classes, self.y, self.z = ensemble, classes, y, z

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ensemble, name)

    def mean(self, field: Any, beta: float) -> Any:
        noised = self.y + self.z / math.sqrt(beta)
        both = np.concatenate([field.numpy(), noised])
        if self.classes is None:
            state, same = self.ensemble.boltzmann(both, beta), None
        else:
            state, posterior = self.classes.resolve(both, beta)
            same = (posterior**2).sum(-1)
        values = {name: getattr(state, name, same) for name in OBSERVABLES}
        n = len(field)
        self.generated = {name: value[:n] for name, value in values.items() if value is not None}
        self.noised = {name: value[n:] for name, value in values.items() if value is not None}
        self.noised["information"] = pointwise_information(noised, self.y, beta, self.noised["log_evidence"])
        return field.new_tensor(state.mean[:n])


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
    landmarks = _landmarks(ensemble, process, seed)
    grid = _grid(ensemble, process, times, landmarks)
    store = _open(folder, data, process, grid, settings, classes)
    _measure(store, folder, ensemble, classes, process, grid, settings, progress)
    _late_starts(store, ensemble, classes, process, grid, landmarks, seed)
    summary = _summarise(store, ensemble, process, landmarks, settings, time.monotonic() - started)
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


def _landmarks(ensemble: Any, process: Process, seed: int) -> dict[str, Estimate]:
    """Critical, speciation and collapse times; NaN where there is none."""
    speciates = process.alpha(process.t_min) != process.alpha(process.t_max)
    found = critical_times(ensemble, process, (*CONVENTIONS, "speciation") if speciates else CONVENTIONS)
    marks = {name: Estimate(found.get(name, math.nan), 0.0) for name in (*CONVENTIONS, "speciation")}
    return marks | {"collapse": collapse_time(ensemble, process, min(512, ensemble.size), seed)}


def _grid(ensemble: Any, process: Process, times: int, landmarks: dict[str, Estimate]) -> np.ndarray:
    """times + 1 decreasing times; samples are at the first `times` of them and arrive at the last."""
    low, high = process.beta_range
    start = 0.02 / float(ensemble.principal(1)[0][0])
    collapse = landmarks["collapse"].value
    end = high if math.isnan(collapse) else 30 * float(process.beta(collapse))
    start, end = max(low, min(start, high / 10)), min(high, end)
    return process.times(times + 1, float(process.time(start)), float(process.time(end)))


def _open(folder: Path, data: Dataset, process: Process, grid: np.ndarray, settings: Settings, classes: Any) -> Any:
    """The Zarr group of the portrait, made up front (a chunk a time) or found there."""
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
        add("noised_information", ("time", "query"), "pointwise information log p(x|y)/p(x)", "nat")
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
    return zarr.open_group(path, mode="r+")


def _measure(
    store: Any,
    folder: Path,
    ensemble: Any,
    classes: Any,
    process: Process,
    grid: np.ndarray,
    settings: Settings,
    progress: bool | None,
) -> None:
    """Rows of the store, one a time, while trajectories descend the grid; taken up where a checkpoint says."""
    from tqdm import tqdm

    checkpoint = folder / "checkpoint.npz"
    first, x_start = 0, None
    if checkpoint.is_file():
        with np.load(checkpoint) as saved:
            first, x_start = int(saved["row"]), saved["x"]
    if np.all(store["done"][:]):
        return
    y = ensemble.data(choose(ensemble, settings.queries, settings.seed)).reshape(settings.queries, -1)
    recorder = _Recorder(ensemble, classes, y, ops.normal(*y.shape, settings.seed, 0, START).numpy())
    centre = ensemble.data_mean[None]
    probes = store["gain_generated"].shape[1]
    bar = tqdm(
        total=len(grid) - 1,
        initial=first,
        desc=f"portrait of {settings.data}",
        unit="time",
        disable=None if progress is None else not progress,
    )

    def row(i: int, t: float, x: Any, _: Any) -> None:
        i += first
        with replacing(checkpoint) as file:
            np.savez(file, row=i, x=x.numpy())
        alpha, beta = float(process.alpha(t)), float(process.beta(t))
        for kind, values in (("noised", recorder.noised), ("generated", recorder.generated)):
            for name, value in values.items():
                store[f"{kind}_{name}"][i] = value
        at_mean = susceptibility(ensemble, centre, beta).leading(store["gain_mean"].shape[1], RESIDUAL)
        store["gain_mean"][i] = at_mean[0][0]
        along = susceptibility(ensemble, x[:probes].double().numpy() / alpha, beta).leading(1, RESIDUAL)
        store["gain_generated"][i] = along[0][:, 0]
        store["done"][i] = True
        bar.set_postfix(t=f"{t:.3g}")
        bar.update()

    with bar:
        sample(
            recorder,
            process,
            n=None if x_start is not None else settings.queries,
            steps=grid[first:],
            scheme="ancestral",
            x_start="gaussian" if x_start is None else x_start,
            seed=settings.seed + 1,
            callback=row,
            first_step=first,
            progress=False,
        )


def _late_starts(
    store: Any,
    ensemble: Any,
    classes: Any,
    process: Process,
    grid: np.ndarray,
    landmarks: dict[str, Estimate],
    seed: int,
) -> None:
    """Samples from a matched Gaussian at several times, from far above the critical time to well below it."""
    low, high = float(process.beta(grid[0])), float(process.beta(grid[-1]))
    critical = landmarks["fixed_point"].value
    centre = math.sqrt(low * high) if math.isnan(critical) else float(process.beta(critical))
    betas = np.geomspace(max(low, centre / 30), min(high / 2, centre * 30), STARTS)
    end = float(grid[-1])
    for j, t in enumerate(process.time(betas)):
        steps = process.times(LATE_STEPS + 1, float(t), end)
        x = sample(
            ensemble, process, LATE_SAMPLES, steps, "ancestral", x_start="gaussian", seed=seed + 2, progress=False
        )
        field, beta = x / float(process.alpha(end)), float(process.beta(end))
        store["late_time"][j] = t
        store["late_samples"][j] = ensemble.mean(field, beta)
        if classes is not None:
            store["late_class"][j] = classes.class_posterior(field, beta).mean(0)


def _summarise(
    store: Any, ensemble: Any, process: Process, landmarks: dict[str, Estimate], settings: Settings, seconds: float
) -> dict[str, Any]:
    """Curves of averages into the store; times and peaks into a dictionary."""
    size, dimension = ensemble.size, ensemble.dimension
    t = np.asarray(store["time"][:])

    information, error = average(store["noised_information"][:])
    curves = {"information": (information, error)}
    curves["excess_entropy"] = ((math.log(size) - information) / dimension, error / dimension)
    if settings.labelled:
        curves["u_turn"] = average(store["noised_same_class"][:])
    for name, (value, deviation) in curves.items():
        store[name][:], store[f"{name}_error"][:] = value, deviation

    def peak(values: Any) -> dict[str, float]:
        i = int(values.argmax())
        return {"time": float(t[i]), "value": float(values[i])}

    def mark(estimate: Estimate) -> dict[str, float | None]:
        if math.isnan(estimate.value):
            return {"time": None, "standard_error": None, "beta": None}
        beta = float(process.beta(estimate.value))
        return {"time": estimate.value, "standard_error": estimate.error, "beta": beta}

    late = []
    for j, start in enumerate(np.asarray(store["late_time"][:])):
        samples = np.asarray(store["late_samples"][j]).reshape(LATE_SAMPLES, -1)
        share = np.asarray(store["late_class"][j]) if settings.labelled else None
        late.append(
            {
                "time": float(start),
                "distinct_samples": len(np.unique(samples.round(3), axis=0)) / LATE_SAMPLES,
                "class_entropy": None if share is None else float(-(share * np.log(share + 1e-300)).sum()),
            }
        )
    return {
        **asdict(settings),
        "critical_time": {name: mark(landmarks[name]) for name in CONVENTIONS},
        "speciation_time": mark(landmarks["speciation"]),
        "collapse_time": mark(landmarks["collapse"]),
        "peaks": {
            "heat_capacity_noised": peak(average(store["noised_heat_capacity"][:]).value),
            "heat_capacity_generated": peak(average(store["generated_heat_capacity"][:]).value),
            "gain_mean": peak(np.asarray(store["gain_mean"][:])[:, 0]),
            "gain_generated": peak(np.asarray(store["gain_generated"][:]).mean(1)),
        },
        "late_start": late,
        "seconds": round(seconds, 2),
    }


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
