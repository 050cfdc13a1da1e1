"""A sweep over cases and seeds: samples of each, measured by a `Yardstick` into the arrays of a result folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastthermo._arrays import device_of, to_tensor
from fastthermo._results import Settings, claimed, finish, open_arrays, rows
from fastthermo.datasets import Dataset
from fastthermo.experiments.quality import QUALITIES, Yardstick
from fastthermo.plot import save
from fastthermo.portrait.measure import grid, landmark_times, landmarks
from fastthermo.process import Process
from fastthermo.sampling import sample
from fastthermo.training import load_denoiser
from fastthermo.training.checkpoint import NETWORK, fingerprint
from fastthermo.training.classifier import labels_of

SHOTS = 10  # samples of a case that are kept, of the first seed
SCHEME = "heun"
SHARES = {"memorised": "#a8324a", "recognised": "#2f7d4f", "coverage": "0.5"}  # qualities and their colours
REST = 0.02  # noise at the last time over the rms deviation of the data
Variables = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Swept(Settings):
    """`times` steps of the sampler, `queries` samples a case and seed."""

    seeds: int
    cases: str
    network: str


def models(runs: list[str | Path], data: Dataset, device: Any = "cpu") -> tuple[list[Any], str]:
    """The networks of training runs, or the exact denoiser where there are none, and a name of what they are."""
    if not runs:
        states = to_tensor("states", data.states).to(device_of(device))
        return [replace(data.ensemble(), states=states)], "exact"
    found = [load_denoiser(run, data, device) for run in runs]
    weights = (Path(run) / NETWORK if Path(run).is_dir() else Path(run) for run in runs)
    return found, " ".join(map(fingerprint, weights))


@dataclass(frozen=True)
class Sweep:
    """A sweep over samples of some models, in its folder; made by `begun`."""

    out: Path
    kind: str
    folder: Path
    settings: Swept
    ensemble: Any
    process: Process
    yardstick: Yardstick
    marks: Any  # landmarks of the process
    t: np.ndarray  # times of the sampler
    last: int  # see `cooling`
    started: float

    def open(self, axes: Mapping[str, tuple[Any, dict[str, str]]], more: Variables | None = None) -> Any:
        """The arrays: every quality over `axes`, name: (values, attributes), and seeds; samples as `shots`."""

        def make() -> tuple[Any, dict[str, Any]]:
            import xarray as xr

            sizes, seeds, shape = [len(values) for values, _ in axes.values()], self.settings.seeds, self.ensemble.shape
            dims = (*axes, "seed")
            variables: Variables = {
                name: (dims, np.full((*sizes, seeds), np.nan), {"long_name": long_name, "units": units})
                for name, (long_name, units) in QUALITIES.items()
            }
            inner = tuple(f"axis{i}" for i in range(len(shape)))
            shots = np.full((*sizes, SHOTS, *shape), np.nan, np.float32)
            variables["shots"] = ((*axes, "shot", *inner), shots, {"long_name": "samples of the first seed"})
            variables["done"] = (dims, np.zeros((*sizes, seeds), bool), {"long_name": "case is complete"})
            variables |= more or {}
            coordinates = {name: (name, np.asarray(values), notes) for name, (values, notes) in axes.items()}
            return xr.Dataset(variables, coordinates), rows({"shots": variables["shots"]}, tuple(axes))

        return open_arrays(self.folder, self.kind, self.settings, make)

    def samples(self, model: Any, k: int, first: int = 0, start: str = "gaussian") -> np.ndarray:
        """Samples of a model from its time number `first` on, with the noise of seed number k."""
        n, t, seed = self.settings.queries, self.t[first:], self.settings.seed + k
        x = sample(model, self.process, n, t, SCHEME, x_start=start, seed=seed, progress=False)
        return clean(model, self.process, x, float(t[-1]))

    def finish(self, more: dict[str, Any], figure: Callable[[Any, dict[str, Any]], Any]) -> dict[str, Any]:
        """The summary, with what this kind of sweep tells; the whole result goes into its place."""
        summary = {
            **asdict(self.settings),
            **landmark_times(self.process, self.marks),
            "space": self.yardstick.space,
            **more,
            "seconds": round(time.monotonic() - self.started, 2),
        }
        finish(self.folder, self.out, self.kind, summary, lambda arrays: figure(arrays, summary), save)
        return summary


@contextmanager
def begun(
    data: Dataset, process: Process, out: str | Path, settings: Swept, overwrite: bool, kind: str, device: Any
) -> Iterator[Sweep]:
    """A sweep that is made or taken up again, with what it needs before its first case."""
    labels_of(data)  # refused before there is a folder
    with claimed(Path(out), settings, overwrite, kind) as folder:
        started, ensemble, yardstick = time.monotonic(), data.ensemble(), Yardstick(data, device)
        marks = landmarks(ensemble, process, settings.seed)
        t, last = cooling(yardstick, ensemble, process, settings.times, marks)
        yield Sweep(Path(out), kind, folder, settings, ensemble, process, yardstick, marks, t, last, started)


def fill(
    store: Any,
    draw: Callable[..., np.ndarray],
    measure: Callable[..., dict[str, float]],
    desc: str,
    progress: bool | None,
) -> None:
    """The cases that are not there yet: measure(draw(*index), *index), index over the axes and then the seeds."""
    from tqdm import tqdm

    left = np.argwhere(~np.asarray(store["done"][:]))
    bar = tqdm(left.tolist(), desc=desc, unit="case", disable=None if progress is None else not progress)
    for index in bar:
        x = draw(*index)
        for name, value in measure(x, *index).items():
            store[name][tuple(index)] = value
        if index[-1] == 0:
            shots = np.full(store["shots"].shape[len(index) - 1 :], np.nan, np.float32)
            shots[: len(x)] = x[:SHOTS]
            store["shots"][tuple(index[:-1])] = shots
        store["done"][tuple(index)] = True


def cooling(yardstick: Yardstick, ensemble: Any, process: Process, steps: int, marks: Any) -> tuple[np.ndarray, int]:
    """steps + 1 times, uniform in log beta, from where noise hides the data to where it is a small part of them.

    The second value is the number of the time that is well past the collapse, where a portrait ends.
    """
    start, *_, past = grid(ensemble, process, 2, marks)
    end = min(process.beta_range[1], 1 / (REST**2 * float(yardstick.rows.var(0).mean())))
    t = process.times(steps + 1, float(start), float(process.time(end)))
    return t, min(int(np.searchsorted(-t, -past)), steps - 1)


def clean(model: Any, process: Process, x: Any, t: float) -> np.ndarray:
    """The means of samples x at time t as NumPy, float32: what is left of the noise is taken off."""
    mean = getattr(model, "average", model.mean)(x / float(process.alpha(t)), float(process.beta(t)))
    array = np.asarray(mean if isinstance(mean, np.ndarray) else mean.cpu(), dtype=np.float32)
    return array.reshape(len(array), *model.shape)


def qualities(store: Any) -> dict[str, np.ndarray]:
    """Every quality over the axes of a sweep and its seeds."""
    return {name: np.asarray(store[name][:]) for name in QUALITIES}


def over_seeds(values: np.ndarray) -> list[Any]:
    """Mean and standard deviation over the last axis, nested lists for a summary; None where it is not known."""
    spread = values.std(-1, ddof=1) if values.shape[-1] > 1 else np.full(values.shape[:-1], np.nan)
    pairs = np.stack([values.mean(-1), spread], -1)
    return [_plain(row) for row in pairs.tolist()]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if math.isfinite(value) else None


def bars(axis: Any, x: np.ndarray, values: np.ndarray, color: Any, label: str, **options: Any) -> None:
    """Means over seeds (cases, seeds) with their standard deviations as bars."""
    spread = values.std(-1, ddof=1) if values.shape[-1] > 1 else 0 * values[..., 0]
    options = {"marker": "o", "ms": 3, "capsize": 2, **options}
    axis.errorbar(x, values.mean(-1), spread, color=color, label=label, **options)


def shares(axis: Any, x: np.ndarray, arrays: Any) -> None:
    """Shares of samples and of classes, each curve thinner than the one before: none hides another at 0 or 1."""
    for k, (name, color) in enumerate(SHARES.items()):
        bars(axis, x, arrays[name].to_numpy(), color, name, lw=max(1.0, 4.5 - 1.7 * k), ms=max(3.0, 8 - 2.5 * k))
    share_axis(axis)
    axis.legend(loc="best")


def share_axis(axis: Any) -> None:
    """Room from 0 to 1, and for what is above."""
    axis.set_ylim(-0.03, max(1.08, 1.03 * float(axis.dataLim.y1)))


def distances(axis: Any) -> None:
    """A logarithmic axis for what is drawn; within a decade its labels are plain numbers."""
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if high < 10 * low:
        axis.yaxis.set_major_locator(MaxNLocator(5))
        axis.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        axis.yaxis.set_minor_locator(NullLocator())


def averaged(summary: dict[str, Any]) -> str:
    """What points and bars are of, for a headline."""
    return "one seed" if summary["seeds"] == 1 else f"mean and s.d. of {summary['seeds']} seeds"
