"""The numbers of a portrait: landmarks in time, a row of observables a temperature, late starts, averages."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastthermo import ops
from fastthermo._files import replacing
from fastthermo._results import Settings
from fastthermo.critical import critical_times
from fastthermo.portrait.store import LATE_SAMPLES, OBSERVABLES, STARTS
from fastthermo.process import Process
from fastthermo.regimes import Estimate, average, choose, collapse_time
from fastthermo.response import susceptibility
from fastthermo.sampling import START, sample

CONVENTIONS = ("fixed_point", "sde_drift", "ode_drift")
LATE_STEPS = 32
RESIDUAL = 1e-3  # of an eigenvector, relative to the top eigenvalue; that of its eigenvalue is the square


def landmarks(ensemble: Any, process: Process, seed: int) -> dict[str, Estimate]:
    """Critical, speciation and collapse times; NaN where there is none."""
    found = critical_times(ensemble, process, (*CONVENTIONS, "speciation"))
    marks = {name: Estimate(time, 0.0) for name, time in found.items()}
    return marks | {"collapse": collapse_time(ensemble, process, min(512, ensemble.size), seed)}


def landmark_times(process: Process, landmarks: dict[str, Estimate]) -> dict[str, Any]:
    """Landmarks for a summary."""
    marks = {name: mark(process, estimate) for name, estimate in landmarks.items()}
    critical = {name: marks[name] for name in CONVENTIONS}
    return {"critical_time": critical, "speciation_time": marks["speciation"], "collapse_time": marks["collapse"]}


def mark(process: Process, estimate: Estimate) -> dict[str, float | None]:
    """A time with its error and temperature for a summary; None where there is none."""
    if math.isnan(estimate.value):
        return {"time": None, "standard_error": None, "beta": None}
    beta = float(process.beta(estimate.value))
    return {"time": estimate.value, "standard_error": estimate.error, "beta": beta}


def grid(
    ensemble: Any, process: Process, times: int, landmarks: dict[str, Estimate], signal: float = 0.02
) -> np.ndarray:
    """times + 1 decreasing times; samples are at the first `times` of them and arrive at the last.

    signal : beta times the largest data variance where it starts.
    """
    low, high = process.beta_range
    start = signal / float(ensemble.principal(1)[0][0])
    collapse = landmarks["collapse"].value
    end = high if math.isnan(collapse) else 30 * float(process.beta(collapse))
    start, end = max(low, min(start, high / 10)), min(high, end)
    return process.times(times + 1, float(process.time(start)), float(process.time(end)))


class _Recorder:
    """The ensemble as the sampler's model: each call also observes noised data at its temperature, in the same pass.

    Noised data in field units are y + z / sqrt(beta), with the same y and z at every temperature.
    """

    def __init__(self, ensemble: Any, classes: Any, y: np.ndarray, z: np.ndarray) -> None:
        self.ensemble, self.classes, self.y, self.z = ensemble, classes, y, z

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ensemble, name)

    def mean(self, field: Any, beta: float, single: bool | None = None) -> Any:
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
        return field.new_tensor(state.mean[:n])


def measure(
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
    recorder = _Recorder(ensemble, classes, y, ops.normal(len(y), settings.dimension, settings.seed, 0, START).numpy())
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


def late_starts(
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


def summarise(
    store: Any, ensemble: Any, process: Process, landmarks: dict[str, Estimate], settings: Settings, seconds: float
) -> dict[str, Any]:
    """Curves of averages into the store; times and peaks into a dictionary."""
    size, dimension = ensemble.size, ensemble.dimension
    t = np.asarray(store["time"][:])

    information, error = average(-np.asarray(store["noised_entropy"][:]))
    curves = {"information": (information, error)}
    curves["excess_entropy"] = ((math.log(size) - information) / dimension, error / dimension)
    if settings.labelled:
        curves["u_turn"] = average(store["noised_same_class"][:])
    for name, (value, deviation) in curves.items():
        store[name][:], store[f"{name}_error"][:] = value, deviation

    def peak(values: Any) -> dict[str, float]:
        i = int(values.argmax())
        return {"time": float(t[i]), "value": float(values[i])}

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
        **landmark_times(process, landmarks),
        "peaks": {
            "heat_capacity_noised": peak(average(store["noised_heat_capacity"][:]).value),
            "heat_capacity_generated": peak(average(store["generated_heat_capacity"][:]).value),
            "gain_mean": peak(np.asarray(store["gain_mean"][:])[:, 0]),
            "gain_generated": peak(np.asarray(store["gain_generated"][:]).mean(1)),
        },
        "late_start": late,
        "seconds": round(seconds, 2),
    }
