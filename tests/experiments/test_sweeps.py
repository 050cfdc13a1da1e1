"""Sweeps over start times, landscapes and numbers of data: what they measure, resume and refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import fastthermo as ft
from fastthermo import training
from fastthermo.cli import main
from fastthermo.datasets import Dataset
from fastthermo.experiments import quality
from fastthermo.experiments.cases import averaged, bars, share_axis
from fastthermo.experiments.memorisation import memorisation_figure
from fastthermo.experiments.quality import Yardstick, entropy, frechet, memorised
from fastthermo.training.classifier import train_classifier

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], 40)
CENTRES = np.array([[3.0, 0, 0], [-3.0, 0, 0], [0, 3.0, 0]])
DATA = Dataset("three", CENTRES[LABELS] + 0.6 * RNG.normal(size=(120, 3)), LABELS)
VP = ft.VariancePreserving()
SMALL: dict[str, Any] = {"queries": 40, "seeds": 2, "progress": False}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifiers of these data need few steps."""
    monkeypatch.setattr(
        quality, "train_classifier", lambda data, seed, device: train_classifier(data, seed, 60, device)
    )


def read(folder: Path, kind: str) -> xr.Dataset:
    with xr.open_zarr(folder / f"{kind}.zarr", consolidated=False, chunks=None) as arrays:
        return arrays.load()


# what is measured


def test_the_frechet_distance_is_that_of_gaussians() -> None:
    a, b = np.diag([1.0, 4.0]), np.diag([9.0, 4.0])
    assert frechet(np.zeros(2), a, np.array([3.0, 0]), b) == pytest.approx(9 + (1 - 3) ** 2)
    turn = np.linalg.qr(RNG.normal(size=(2, 2)))[0]
    moved = frechet(np.zeros(2), turn @ a @ turn.T, turn @ [3.0, 0], turn @ b @ turn.T)
    assert moved == pytest.approx(13)
    assert frechet(np.ones(2), a, np.ones(2), a) == pytest.approx(0, abs=1e-12)


def test_copies_are_told_from_new_samples() -> None:
    rows = DATA.states.astype(np.float32)
    copies = rows[:30] + np.float32(1e-3)
    between = (rows[:30] + rows[1:31]) / 2
    assert memorised(copies, rows) == 1
    assert memorised(np.concatenate([copies, between]), rows) <= 0.6


def test_data_judge_themselves() -> None:
    yardstick = Yardstick(DATA)
    found = yardstick.measure(DATA.states.astype(np.float32))
    assert found["frechet"] == pytest.approx(0, abs=1e-3)
    assert found["coverage"] == found["memorised"] == 1
    assert found["recognised"] > 0.9
    assert found["class_entropy"] == pytest.approx(np.log(3), abs=0.05)
    one = yardstick.measure(DATA.states[:40].astype(np.float32))
    assert one["coverage"] == pytest.approx(1 / 3)
    assert one["class_entropy"] < 0.3
    assert one["frechet"] > 1
    assert entropy(np.array([1.0, 0.0])) == 0


# late start


def test_late_starts_of_the_exact_denoiser(tmp_path: Path) -> None:
    summary = ft.late_start(DATA, VP, tmp_path / "out", times=4, steps=16, **SMALL)
    arrays = read(tmp_path / "out", "late_start")
    assert arrays["memorised"].min() > 0.9  # it always condenses on data
    assert summary["network"] == "exact"
    assert summary["learned_critical_time"] == []
    t = arrays["time"].to_numpy()
    assert (np.diff(t) < 0).all()
    assert t[0] > summary["critical_time"]["fixed_point"]["time"] > t[-1]
    assert t[-1] < summary["collapse_time"]["time"]
    early, late = (arrays["frechet"].isel(start=0, time=i).mean() for i in (0, -1))
    assert late > early  # a Gaussian has no classes
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert (tmp_path / "out" / "late_start.png").stat().st_size > 10_000


def test_seeds_take_networks_in_turns_and_an_interrupted_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = [tmp_path / name for name in ("a", "b")]
    for seed, run in enumerate(runs):
        ft.train(DATA, run, 30, 32, 16, seed=seed, progress=False)
    options = {"times": 2, "steps": 6, **SMALL}
    want = ft.late_start(DATA, VP, tmp_path / "whole", runs, **options)
    assert len(want["learned_critical_time"]) == 2
    alone = ft.late_start(DATA, VP, tmp_path / "alone", runs[1:], **options)
    arrays, other = (read(tmp_path / name, "late_start") for name in ("whole", "alone"))
    assert np.array_equal(arrays["frechet"][..., 1], other["frechet"][..., 1])
    assert not np.array_equal(arrays["frechet"][..., 0], other["frechet"][..., 0])
    assert alone["network"] != want["network"]

    calls, measure = [], Yardstick.measure

    def interrupted(self: Yardstick, *arguments: Any) -> dict[str, float]:
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Yardstick, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ft.late_start(DATA, VP, tmp_path / "parts", runs, **options)
    with pytest.raises(ValueError, match=r"network: .* unfinished late_start with network"):
        ft.late_start(DATA, VP, tmp_path / "parts", runs[:1], **options)
    again = ft.late_start(DATA, VP, tmp_path / "parts", runs, **options)
    assert {**again, "seconds": 0} == {**want, "seconds": 0}


# other landscapes


def test_smoothing_keeps_the_exact_denoiser_from_copying(tmp_path: Path) -> None:
    options = {"fields": (0.8, 1.0, 1.25), "smoothings": (0.0, 0.5, 3.0), "steps": 16, **SMALL}
    summary = ft.regularise(DATA, VP, tmp_path / "out", **options)
    arrays = read(tmp_path / "out", "regularisation").mean("seed")
    memory = arrays["memorised"].to_numpy()
    assert memory[0, 1] == memory[1, 0] > 0.9  # both are the plain landscape
    assert memory[1, 2] < 0.5
    times = [mark["time"] for mark in summary["critical_times"][0]]
    assert times == sorted(times, reverse=True)  # a stronger field term delays the choice
    assert times[1] == pytest.approx(summary["critical_time"]["fixed_point"]["time"], rel=1e-6)
    assert (tmp_path / "out" / "regularisation.png").stat().st_size > 10_000


# numbers of data


def test_more_data_are_copied_less(tmp_path: Path) -> None:
    summary = ft.memorise(DATA, VP, tmp_path / "out", (4, 100), 300, 32, 32, device="cpu", **SMALL)
    arrays = read(tmp_path / "out", "memorisation")
    few, many = arrays["memorised"].mean("seed").to_numpy()
    assert few > many
    own, unseen = arrays["own_error"].to_numpy(), arrays["unseen_error"].to_numpy()
    assert np.isfinite(own).all()
    assert unseen[0].mean() > 1.2 * own[0].mean()  # it knows its four by heart
    few_collapse, many_collapse = (mark["time"] for mark in summary["collapse_times"])
    assert few_collapse > many_collapse
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir()} == {"4", "100"}
    assert ft.load_denoiser(tmp_path / "out" / "runs" / "4").shape == (3,)


def test_networks_that_are_trained_are_kept_when_a_later_training_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, advance = [], training._Run.advance

    def interrupted(self: Any, *arguments: Any) -> Any:
        steps.append(len(self.states))
        if len(steps) == 7:
            raise KeyboardInterrupt
        return advance(self, *arguments)

    monkeypatch.setattr(training._Run, "advance", interrupted)
    arguments: Any = (DATA, VP, tmp_path / "out", (4, 100), 5, 8, 8)
    with pytest.raises(KeyboardInterrupt):
        ft.memorise(*arguments, device="cpu", **SMALL)
    ft.memorise(*arguments, device="cpu", **SMALL)
    assert steps.count(4) == 5


def test_distances_within_a_decade_have_labels_on_their_axis() -> None:
    never = {"time": None}
    marks = {"critical_time": {"fixed_point": never}, "speciation_time": never, "collapse_time": never}
    summary = {"data": "three", "states": 9, "dimension": 2, "process": "vp()", "seeds": 2, **marks}
    curves = {name: (("size", "seed"), np.ones((2, 2))) for name in ("memorised", "recognised", "coverage")}
    errors = {name: (("size", "time"), np.ones((2, 3))) for name in ("own_error", "unseen_error")}
    frechet, shots = (("size", "seed"), [[22.0, 23], [61, 60]]), (("size", "shot", "axis"), np.ones((2, 4, 2)))
    places = {"size": [100, 300], "time": [0.1, 0.2, 0.3]}
    figure = memorisation_figure(xr.Dataset({**curves, **errors, "frechet": frechet, "shots": shots}, places), summary)
    figure.draw_without_rendering()
    axis = figure.axes[1]
    inside = [tick for tick in axis.yaxis.get_ticklabels(which="both") if tick.get_text()]
    low, high = axis.get_ylim()
    assert sum(low < tick.get_position()[1] < high for tick in inside) >= 2
    assert [tick.get_text() for tick in axis.xaxis.get_ticklabels(which="both")] == ["100", "300"]
    assert not any("times" in tick.get_text() for tick in inside)
    lines = [bar.lines[0] for bar in figure.axes[0].containers]  # of shares that are all 1: each shows below the next
    assert [line.get_linewidth() for line in lines] == sorted((line.get_linewidth() for line in lines), reverse=True)
    assert "mean and s.d. of 2 seeds" in figure.get_suptitle()
    assert averaged({"seeds": 1}) == "one seed"


def test_shares_above_one_are_drawn_whole() -> None:
    axis = Figure().subplots()
    bars(axis, np.arange(2.0), np.array([[1.0, 1.0], [1.1, 1.4]]), "k", "class entropy over the data's")
    share_axis(axis)
    assert axis.get_ylim()[1] > 1.25 + np.std([1.1, 1.4], ddof=1)


# by command, and refusals


def test_sweeps_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "three.npz", states=DATA.states, labels=DATA.labels)
    source, small = str(tmp_path / "three.npz"), ["--queries", "12", "--seeds", "1"]
    run = ["--network", str(tmp_path / "run")]
    assert main(["train", source, "--out", str(tmp_path / "run"), "--steps", "5", "--width", "8"]) == 0
    late = ["late-start", source, *run, *small, "--times", "2", "--steps", "4", "--out", str(tmp_path / "l")]
    assert main(late) == 0
    assert "gaussian start at t =" in capsys.readouterr().out
    assert main(late) == 2
    assert "exists; choose another folder" in capsys.readouterr().err
    reg = ["regularise", source, *run, *small, "--fields", "1", "--smoothings", "0", "--steps", "4"]
    assert main([*reg, "--out", str(tmp_path / "r")]) == 0
    assert "regularisation.png" in capsys.readouterr().out
    mem = ["memorise", source, *small, "--sizes", "5", "9", "--steps", "4", "--width", "8", "--device", "cpu"]
    assert main([*mem, "--out", str(tmp_path / "m")]) == 0
    assert "trained on" in capsys.readouterr().out
    shots = ["sample", source, *run, "-n", "3", "--steps", "4", "--out", str(tmp_path / "s")]
    assert main(shots) == 0
    assert np.load(tmp_path / "s" / "samples.npy").shape == (3, 3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda out: ft.late_start(DATA, VP, out, times=1), "times: wanted an integer of at least 2"),
        (lambda out: ft.late_start(DATA, VP, out, times=8, steps=8), "steps: wanted an integer of at least 9"),
        (lambda out: ft.late_start(Dataset("bare", np.eye(4)), VP, out), "labels: wanted a class for each of bare"),
        (lambda out: ft.regularise(DATA, VP, out, fields=(1.0,)), "smoothings: wanted as many as fields"),
        (lambda out: ft.regularise(DATA, VP, out, fields=(1, 0), smoothings=(0, 0)), "field: wanted a finite positive"),
        (
            lambda out: ft.regularise(DATA, VP, out, fields=(1, 1), smoothings=(0, -1)),
            "smoothing: wanted a finite number",
        ),
        (lambda out: ft.memorise(DATA, VP, out, (5, 9), batch=0), "batch: wanted an integer of at least 1, got 0"),
        (lambda out: ft.memorise(DATA, VP, out, (5, 9), width=0), "width: wanted an integer of at least 1, got 0"),
        (lambda out: ft.memorise(DATA, VP, out, (5, 9), device="gpu"), "device: wanted cpu or a GPU that is here"),
        (lambda out: ft.memorise(DATA, VP, out.parent, (5, 9)), "out: .* exists"),
        (lambda out: ft.late_start(DATA, VP, out.parent), "out: .* exists"),
        (lambda out: ft.memorise(DATA, VP, out, (5,)), "sizes: wanted at least two numbers"),
        (lambda out: ft.memorise(DATA, VP, out, (5, 1000)), "sizes: wanted an integer from 2 to 120, got 1000"),
        (lambda out: ft.memorise(DATA, VP, out, (5, 9.5)), "sizes: wanted an integer from 2 to 120, got 9.5"),
    ],
)
def test_impossible_sweeps_are_refused_before_any_work(
    call: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "train_classifier", None)
    with pytest.raises(ValueError, match=says):
        call(tmp_path / "out")
    assert not list(tmp_path.iterdir())
