"""Exact against learned: the error of a network's mean over diffusion time, and its susceptibilities beside the exact.

    E|m - y|^2 = E tr C + E|m - <y>|^2

for noised data: the mmse of the exact denoiser and, on top, the distance of the network from it. A network that
generalises stays away from the exact denoiser where that condenses on single training data, below the collapse time.

A comparison is a folder: `comparison.zarr` (an xarray data set), `summary.json`, `comparison.png` and `.pdf`.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo._results import Settings, claimed, finish, open_arrays, rows, times
from fastthermo.critical import critical_times
from fastthermo.datasets import Dataset
from fastthermo.plot import GENERATED, NOISED, STYLE, events, headline, level, logarithmic, save, time_axis
from fastthermo.plot import mark as mark_times
from fastthermo.portrait.measure import CONVENTIONS, grid, landmark_times, landmarks, mark
from fastthermo.process import Process
from fastthermo.regimes import Estimate, average, choose
from fastthermo.response import susceptibility
from fastthermo.sampling import noised
from fastthermo.training import load_denoiser
from fastthermo.training.checkpoint import NETWORK, fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "comparison"
PROBES, EIGENVALUES = 4, 8  # noised data whose spectra are taken, and how much of them
RESIDUAL = 1e-3

# name: (dimensions, long name, units)
ARRAYS = {
    "exact_error": (("time", "query"), "|<y> - y|^2 / D of the exact mean", "data unit^2"),
    "learned_error": (("time", "query"), "|m - y|^2 / D of the learned mean", "data unit^2"),
    "distance": (("time", "query"), "|m - <y>|^2 / D of the learned from the exact mean", "data unit^2"),
    "exact_gains": (("time", "probe", "gain"), "largest eigenvalues of beta C, exact", "1"),
    "learned_gains": (("time", "probe", "gain"), "largest eigenvalues of d<y>/dh, learned, symmetric part", "1"),
    "symmetry_defect": (("time", "probe"), "|J - J^T| / |J + J^T| of the learned d<y>/dh", "1"),
}


@dataclass(frozen=True)
class Compared(Settings):
    """With the weights that were compared."""

    network: str


def compare(
    data: Dataset,
    process: Process,
    out: str | Path,
    run: str | Path,
    times: int = 32,
    queries: int = 256,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Compare the network of a training run with the exact denoiser of a data set, into the folder `out`.

    Parameters
    ----------
    run : folder of `fastthermo train`, or its network.safetensors.
    times : temperatures, as of a portrait. queries : noised data at each, the same with both models.

    Returns
    -------
    The summary: settings, landmarks, critical times of the network, mean errors and distance of the two above the
    critical time, between it and the collapse and below, and the defect of symmetry.

    Raises
    ------
    ValueError for impossible numbers, a network of another shape, a folder that exists, or an unfinished comparison
    with other settings.
    """
    times, queries, seed = whole("times", times, 2), whole("queries", queries, 2), whole("seed", seed, 0)
    ensemble = data.ensemble()
    model = load_denoiser(run, data)
    weights = Path(run) / NETWORK if Path(run).is_dir() else Path(run)
    settings = Compared.about(data, ensemble, process, times, queries, seed, network=fingerprint(weights))
    out = Path(out)
    with claimed(out, settings, overwrite, KIND) as folder:
        started = time.monotonic()
        marks = landmarks(ensemble, process, seed)
        store = _open(folder, settings, process, grid(ensemble, process, times, marks)[:-1])
        _measure(store, ensemble, model, process, settings, progress)
        summary = _summarise(store, model, process, settings, marks, time.monotonic() - started)
        finish(folder, out, KIND, summary, lambda arrays: comparison_figure(arrays, summary), save)
        return summary


def _open(folder: Path, settings: Settings, process: Process, t: np.ndarray) -> Any:
    def make() -> tuple[Any, dict[str, Any]]:
        import xarray as xr

        sizes = {
            "time": len(t),
            "query": settings.queries,
            "probe": min(PROBES, settings.queries),
            "gain": min(EIGENVALUES, settings.dimension),
        }
        variables: dict[str, tuple[Any, ...]] = {
            name: (dims, np.full([sizes[d] for d in dims], np.nan), {"long_name": long_name, "units": units})
            for name, (dims, long_name, units) in ARRAYS.items()
        }
        variables["done"] = (("time",), np.zeros(len(t), bool), {"long_name": "row is complete"})
        return xr.Dataset(variables, times(t, process.beta(t))), rows(variables)

    return open_arrays(folder, KIND, settings, make)


def _measure(
    store: Any, ensemble: Any, model: Any, process: Process, settings: Settings, progress: bool | None
) -> None:
    """The rows of the store that are not there yet."""
    from tqdm import tqdm

    y = ensemble.data(choose(ensemble, settings.queries, settings.seed))
    flat = y.reshape(len(y), -1).astype(np.float64)
    t, done = np.asarray(store["time"][:]), np.asarray(store["done"][:])
    bar = tqdm(
        np.flatnonzero(~done),
        desc=f"comparison on {settings.data}",
        unit="time",
        initial=int(done.sum()),
        total=len(t),
        disable=None if progress is None else not progress,
    )
    for i in bar:
        bar.set_postfix(t=f"{t[i]:.3g}")
        beta = float(process.beta(t[i]))
        field = noised(ensemble, process, float(t[i]), y, settings.seed).reshape(flat.shape).astype(np.float64)
        field /= float(process.alpha(t[i]))
        exact, learned = (np.asarray(one.mean(field, beta), dtype=np.float64) for one in (ensemble, model))
        few = field[: store["exact_gains"].shape[1]]
        spectra = [susceptibility(one, few, beta) for one in (ensemble, model)]
        count = store["exact_gains"].shape[2]
        values = {
            "exact_error": ((exact - flat) ** 2).mean(1),
            "learned_error": ((learned - flat) ** 2).mean(1),
            "distance": ((learned - exact) ** 2).mean(1),
            "exact_gains": spectra[0].leading(count, RESIDUAL)[0],
            "learned_gains": spectra[1].leading(count, RESIDUAL)[0],
            "symmetry_defect": spectra[1].symmetry_defect(),
        }
        for name, value in values.items():
            store[name][i] = value
        store["done"][i] = True


def _summarise(
    store: Any, model: Any, process: Process, settings: Settings, marks: dict[str, Estimate], seconds: float
) -> dict[str, Any]:
    t = np.asarray(store["time"][:])
    critical, collapse = marks["fixed_point"].value, marks["collapse"].value
    # from noise to data; a landmark that there is not splits nothing
    upper, lower = (math.inf if math.isnan(v) else v for v in (critical, collapse))
    stages = {
        "above_critical": t > upper,
        "between": (t <= upper) & (t > (-math.inf if math.isnan(collapse) else lower)),
        "below_collapse": t <= (-math.inf if math.isnan(collapse) else lower),
    }
    values = {name: average(np.asarray(store[name][:])).value for name in ("exact_error", "learned_error", "distance")}
    errors = {
        stage: {name: float(value[chosen].mean()) if chosen.any() else None for name, value in values.items()}
        for stage, chosen in stages.items()
    }
    found = critical_times(model, process, CONVENTIONS)
    return {
        **asdict(settings),
        **landmark_times(process, marks),
        "learned_critical_time": {name: mark(process, Estimate(value, 0.0)) for name, value in found.items()},
        "errors": errors,
        "symmetry_defect": float(np.asarray(store["symmetry_defect"][:]).mean()),
        "seconds": round(seconds, 2),
    }


def comparison_figure(dataset: Any, summary: dict[str, Any]) -> Figure:
    """Errors, leading gains and the spectrum beside the critical time, exact and learned."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        errors, gains, spectrum = figure.subplots(1, 3)
        t = dataset["time"].to_numpy()
        drawn = {
            "exact_error": (NOISED, "exact, the mmse"),
            "learned_error": (GENERATED, "learned"),
            "distance": ("0.4", "learned from exact"),
        }
        found = {name: average(dataset[name].to_numpy()) for name in drawn}
        for name, (color, label) in drawn.items():
            errors.plot(t, found[name].value, color=color, label=label)
        # two standard errors of the logarithm: the lower end stays above zero where the error is as large as the mean
        spans = {name: np.exp(2 * error / np.where(mean > 0, mean, np.inf)) for name, (mean, error) in found.items()}
        floor = logarithmic(errors, *(found[name].value * x for name, span in spans.items() for x in (1, span)))
        for name, span in spans.items():
            low, high = (np.maximum(found[name].value * x, floor) for x in (1 / span, span))
            errors.fill_between(t, low, high, color=drawn[name][0], alpha=0.2, lw=0)
        errors.set_title("a  squared error of the mean a coordinate, ± 2 s.e.")
        errors.set_ylabel("data unit$^2$")
        for name, color in (("exact", NOISED), ("learned", GENERATED)):
            values = dataset[f"{name}_gains"].to_numpy()
            for k in range(values.shape[2]):
                gains.plot(t, values[:, :, k].mean(1), color=color, alpha=1 - 0.1 * k, label=name if k == 0 else None)
        level(gains, 1, "critical", "right")
        gains.set_title("b  largest susceptibilities along noised data")
        gains.set_ylabel(r"eigenvalue of $\partial\langle y\rangle/\partial h$")
        for axis in (errors, gains):
            time_axis(axis, t, events(summary, t))
            mark_times(axis, summary, labels=axis is errors)
            axis.legend(loc="best")
        where = summary["critical_time"]["fixed_point"]["time"]
        i = len(t) // 2 if where is None else int(np.abs(t - where).argmin())
        for name, color in (("exact", NOISED), ("learned", GENERATED)):
            values = dataset[f"{name}_gains"].to_numpy()[i]
            spectrum.plot(np.arange(1, values.shape[1] + 1), values.T, "o-", color=color, alpha=0.6)
            spectrum.plot([], [], "o-", color=color, label=name)
        spectrum.set_title(f"c  spectra of {len(values)} noised data at $t = {t[i]:.3g}$")
        spectrum.set_xlabel("number of the eigenvalue")
        spectrum.legend(loc="best")
        figure.suptitle(headline(summary), fontsize=11)
    return figure
