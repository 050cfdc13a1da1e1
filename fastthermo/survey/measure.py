"""The numbers of a survey: a row a time, each independent of the others, then averages and times into the summary."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastthermo._results import Settings, open_arrays, rows, times
from fastthermo.portrait.measure import landmark_times, mark
from fastthermo.process import Process
from fastthermo.regimes.averages import Estimate, average, choose, host, noised_field
from fastthermo.regimes.information import log_others, matched_gaussian, own_gap, own_odds, peaks_of, spread_of
from fastthermo.regimes.memory import distances, stratified, windows_of
from fastthermo.regimes.spectra import gap_dimension, score_singular_values, singular_dimension, spectrum_at
from fastthermo.regimes.times import condensation_time

PROBES = 8  # noised data whose spectrum is taken
POINTS = 4  # data about which score vectors are taken
COMPLETE = 1024  # dimensions up to which the spectrum is complete
LEADING = 64  # eigenvalues beyond
EPS = 0.1  # of a critical window


class Survey(NamedTuple):
    """What is measured."""

    ensemble: Any
    classes: Any
    process: Process
    settings: Settings

    @property
    def complete(self) -> bool:
        """Whether all D gains are taken."""
        return self.settings.dimension <= COMPLETE

    @property
    def sizes(self) -> dict[str, int]:
        """Entries of each dimension of the arrays but time."""
        count = 0 if self.classes is None else len(self.classes)
        dimension = self.settings.dimension
        return {
            "query": self.settings.queries,
            "probe": min(PROBES, self.settings.queries),
            "gain": dimension if self.complete else LEADING,
            "point": min(POINTS, self.settings.queries) if self.complete else 0,
            "class": count,
            "other": count,
        }


# name: (dimensions, long name, units)
PER_QUERY = {
    "information": (("time", "query"), "KL(w || phi), whose mean is I(y; x_t)", "nat"),
    "spread": (("time", "query"), "tr C, whose mean is the mmse", "data unit^2"),
    "memorisation_gap": (("time", "query"), "log p_t / p_t without the own state", "nat"),
    "non_gaussianity": (("time", "query"), "what KL(w || phi) lacks to matched Gaussian data", "nat"),
    "gains": (("time", "probe", "gain"), "eigenvalues of beta C, decreasing", "1"),
    "singular_dimension": (("time", "point"), "dimension by singular values of score vectors", "1"),
}
PER_CLASS = {
    "class_posterior": (("time", "class", "other"), "E[p(other | x_t) | class]", "1"),
    "total_variation": (("time", "class", "other"), "total variation distance of noised classes", "1"),
}
WINDOWS = {
    f"window_{end}": (("class", "other"), f"time at which the distance of two classes is {level}", "1")
    for end, level in (("upper", EPS), ("middle", 0.5), ("lower", 1 - EPS))
}
AVERAGES = {
    "mean_information": ("mutual information I(y; x_t)", "nat"),
    "entropy_rate": ("dI / dlog beta = beta mmse / 2", "nat"),
    "excess_entropy": ("excess entropy density (log N - I) / D", "nat"),
    "mean_gap": ("memorisation gap", "nat"),
    "gaussian_divergence": ("KL(p_t || matched Gaussian)", "nat"),
    "dimension_gap": ("dimension by the gap of the gains", "1"),
    "dimension_trace": ("mmse dimension beta mmse", "1"),
    "dimension_singular": ("dimension by singular values of score vectors", "1"),
    "u_turn": ("probability that a U-turn returns to the same class", "1"),
}


def open_survey(folder: Path, what: Survey, t: np.ndarray) -> Any:
    """The Zarr arrays of the survey by name, made up front (a chunk a time) or found there."""

    def make() -> tuple[Any, dict[str, Any]]:
        import xarray as xr

        sizes = {"time": len(t), **what.sizes}
        variables: dict[str, tuple[Any, ...]] = {}
        classed: dict[str, Any] = {} if what.classes is None else {**PER_CLASS, **WINDOWS}

        def add(name: str, dims: tuple[str, ...], long_name: str, units: str) -> None:
            values = np.full([sizes[d] for d in dims], np.nan)
            variables[name] = (dims, values, {"long_name": long_name, "units": units})

        for name, (dims, long_name, units) in PER_QUERY.items():
            add(name, dims, long_name, units)
        averages = {name: (("time",), *rest) for name, rest in AVERAGES.items()}
        for name, (dims, long_name, units) in {**averages, **classed}.items():
            if what.classes is not None or name != "u_turn":
                add(name, dims, long_name, units)
                add(f"{name}_error", dims, f"standard error of {name}", units)
        variables["done"] = (("time",), np.zeros(len(t), bool), {"long_name": "row is complete"})
        coords: dict[str, Any] = {**times(t, what.process.beta(t))}
        if what.classes is not None:
            names = {"long_name": "class", "names": ", ".join(map(str, what.classes))}
            coords["class"] = ("class", np.arange(len(what.classes)), names)
        return xr.Dataset(variables, coords), rows(variables)

    return open_arrays(folder, "regimes", what.settings, make)


def measure(store: Any, what: Survey, progress: bool | None) -> None:
    """The rows of the store that are not there yet."""
    from scipy.special import softmax
    from tqdm import tqdm

    ensemble, process, settings = what.ensemble, what.process, what.settings
    index = choose(ensemble, settings.queries, settings.seed)
    y = ensemble.data(index)
    others = log_others(ensemble, index)
    gaussian = matched_gaussian(ensemble)
    staged = None if what.classes is None else stratified(what.classes, per_class(what), settings.seed)
    t, done = np.asarray(store["time"][:]), np.asarray(store["done"][:])
    bar = tqdm(
        np.flatnonzero(~done),
        desc=f"regimes of {settings.data}",
        unit="time",
        initial=int(done.sum()),
        total=len(t),
        disable=None if progress is None else not progress,
    )
    for i in bar:
        s, beta = float(t[i]), float(process.beta(t[i]))
        bar.set_postfix(t=f"{s:.3g}")
        field = noised_field(ensemble, process, s, y, settings.seed)
        state = ensemble.boltzmann(field, beta)
        values = {"information": -host(state.entropy), "spread": spread_of(state)}
        values["non_gaussianity"] = gaussian(host(field), beta) - values["information"]
        values["memorisation_gap"] = own_gap(own_odds(ensemble, index, field, beta), others)
        few = field[: what.sizes["probe"]]
        values["gains"] = spectrum_at(ensemble, process, s, few, None if what.complete else what.sizes["gain"]).gains
        if what.complete:
            singular = score_singular_values(ensemble, process, s, what.sizes["point"], seed=settings.seed)
            values["singular_dimension"] = singular_dimension(singular)
        if what.classes is not None:
            field = noised_field(ensemble, process, s, staged, settings.seed)
            evidence, count = host(what.classes.class_evidence(field, beta)), len(what.classes)
            p = softmax(evidence + what.classes.log_priors, 1)
            found = {
                "class_posterior": average(p.reshape(count, -1, count).swapaxes(1, 2)),
                "total_variation": distances(evidence),
            }
            for name, (mean, error) in found.items():
                values[name], values[f"{name}_error"] = mean, error
        for name, value in values.items():
            store[name][i] = value
        store["done"][i] = True


def per_class(what: Survey) -> int:
    """Noised data a class: about as many queries of each state as `queries` of the whole."""
    return max(16, 2 * what.settings.queries // len(what.classes))


def summarise(store: Any, what: Survey, landmarks: dict[str, Estimate], seconds: float) -> dict[str, Any]:
    """Averages into the store; times, peaks and plateaus into a dictionary."""
    ensemble, process, settings = what.ensemble, what.process, what.settings
    t = np.asarray(store["time"][:])
    beta = process.beta(t)
    curves = _averages(store, what, beta)
    for name, (value, error) in curves.items():
        store[name][:], store[f"{name}_error"][:] = value, error
    rate = beta[:, None] / 2 * np.asarray(store["spread"][:])
    widest = int(curves["dimension_trace"].value.argmax())
    return {
        **asdict(settings),
        **landmark_times(process, landmarks),
        "condensation_time": mark(process, Estimate(condensation_time(ensemble, process), 0.0)),
        "entropy_rate_peaks": [
            {**mark(process, peak.time), "rate": peak.rate.value, "rate_error": peak.rate.error}
            for peak in peaks_of(process, beta, rate)
        ],
        "data_dimension": {
            "time": float(t[widest]),
            **{
                name: _number(curves[f"dimension_{name}"], widest)
                for name in ("gap", "trace", *(("singular",) if what.complete else ()))
            },
        },
        "classes": None if what.classes is None else _windows(store, what, t),
        "seconds": round(seconds, 2),
    }


def _averages(store: Any, what: Survey, beta: np.ndarray) -> dict[str, Estimate]:
    """Every curve with its standard error, (T,)."""
    size, dimension = what.settings.states, what.settings.dimension
    information, spread = (average(np.asarray(store[name][:])) for name in ("information", "spread"))
    curves = {
        "mean_information": information,
        "entropy_rate": Estimate(beta / 2 * spread.value, beta / 2 * spread.error),
        "excess_entropy": Estimate((math.log(size) - information.value) / dimension, information.error / dimension),
        "mean_gap": average(np.asarray(store["memorisation_gap"][:])),
        "gaussian_divergence": average(np.asarray(store["non_gaussianity"][:])),
        "dimension_gap": average(gap_dimension(np.asarray(store["gains"][:]), what.complete)),
        "dimension_trace": Estimate(beta * spread.value, beta * spread.error),
    }
    if what.complete:
        curves["dimension_singular"] = average(np.asarray(store["singular_dimension"][:]))
    if what.classes is not None:
        phi = np.exp(what.classes.log_priors)
        same, error = (np.asarray(store[f"class_posterior{part}"][:]) for part in ("", "_error"))
        diagonal = np.einsum("tcc->tc", same), np.einsum("tcc->tc", error)
        curves["u_turn"] = Estimate(diagonal[0] @ phi, np.sqrt(diagonal[1] ** 2 @ phi**2))
    return curves


def _windows(store: Any, what: Survey, t: np.ndarray) -> dict[str, Any]:
    """Critical windows into the store; the pairs of classes that part first, in the middle and last on cooling."""
    distance = Estimate(*(np.asarray(store[f"total_variation{part}"][:]) for part in ("", "_error")))
    found = windows_of(list(what.classes), what.process, t, distance, EPS)
    for end in ("upper", "middle", "lower"):
        store[f"window_{end}"][:], store[f"window_{end}_error"][:] = getattr(found, end)
    first, second = np.triu_indices(len(found.names), 1)
    middle = found.middle.value[first, second]
    order = np.argsort(-middle, kind="stable")
    order = order[~np.isnan(middle[order])]

    def pair(k: int) -> dict[str, Any]:
        i, j = first[order[k]], second[order[k]]
        ends = {name: _number(getattr(found, name), (i, j)) for name in ("upper", "middle", "lower")}
        return {"pair": [str(found.names[i]), str(found.names[j])], **ends}

    named = {"first": 0, "median": len(order) // 2, "last": -1} if len(order) else {}
    return {"names": [str(name) for name in found.names], "eps": EPS, **{name: pair(k) for name, k in named.items()}}


def _number(estimate: Estimate, at: Any) -> dict[str, float | None]:
    value, error = float(estimate.value[at]), float(estimate.error[at])
    return {"value": None, "error": None} if math.isnan(value) else {"value": value, "error": error}
