"""The portrait of real digits, end to end: its figures against independent float64 computations, and its files."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import fastthermo as ft
from fastthermo.datasets import Dataset, load
from fastthermo.plot import portrait_figure
from fastthermo.portrait import measure, portrait
from fastthermo.regimes import choose

TIMES, QUERIES = 8, 48


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A small portrait of all 1797 digits: its folder, summary and data set."""
    out = tmp_path_factory.mktemp("portrait") / "digits"
    summary = portrait(digits, ft.VariancePreserving(), out, times=TIMES, queries=QUERIES, progress=False)
    with xr.open_zarr(out / "portrait.zarr", consolidated=False, chunks=None) as dataset:
        return out, summary, dataset.load()


@pytest.fixture(scope="module")
def naive(digits):
    """Weights and energies of every query at one time, by plain NumPy in float64."""
    y = digits.states.reshape(len(digits.states), -1) * (2 / 16) - 1.0

    def weights(field, beta):
        energy = ((field[:, None] - y[None]) ** 2).sum(2) / 2
        logits = -beta * energy
        top = logits.max(1, keepdims=True)
        w = np.exp(logits - top)
        log_evidence = (top + np.log(w.sum(1, keepdims=True)))[:, 0] - math.log(len(y))
        return w / w.sum(1, keepdims=True), energy, log_evidence

    return y, weights


def noised_fields(digits, process, t):
    ensemble = digits.ensemble()
    clean = ensemble.data(choose(ensemble, QUERIES, 0)).reshape(QUERIES, -1)
    return ft.noised(ensemble, process, t, clean, 0) / process.alpha(t)


def test_observables_along_noised_data_are_those_of_plain_numpy(made, digits, naive):
    _, _, dataset = made
    process = ft.VariancePreserving()
    y, weights = naive
    for i, t in enumerate(dataset.time.to_numpy()):
        beta = float(process.beta(t))
        field = noised_fields(digits, process, t)
        w, regularised, log_evidence = weights(field, beta)
        energy = (y**2).sum(1) / 2 - field @ y.T
        mean = (w * energy).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nansum(np.where(w > 0, w * np.log(w), 0), axis=1) - math.log(len(y))
        labels = np.array([w[:, digits.labels == c].sum(1) for c in range(10)])
        expected = {
            "entropy": entropy,
            "energy": mean,
            "regularised_energy": (w * regularised).sum(1),
            "heat_capacity": beta**2 * (w * (energy - mean[:, None]) ** 2).sum(1),
            "n_eff": 1 / (w**2).sum(1),
            "log_evidence": log_evidence,
            "same_class": (labels**2).sum(0),
        }
        for name, values in expected.items():
            found = dataset[f"noised_{name}"][i].to_numpy()
            np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-9, err_msg=f"{name} at t = {t}")


def test_gains_at_the_data_mean_are_eigenvalues_of_the_covariance(made, naive):
    _, _, dataset = made
    y, weights = naive
    centre = y.mean(0)
    for i, beta in enumerate(dataset.beta.to_numpy()):
        w = weights(centre[None], beta)[0][0]
        delta = y - w @ y
        gains = np.linalg.eigvalsh(beta * (delta.T * w) @ delta)[::-1]
        np.testing.assert_allclose(dataset.gain_mean[i], gains[: dataset.sizes["eigenvalue"]], rtol=1e-6, atol=1e-12)


def test_critical_and_speciation_times_solve_their_equations(made, naive):
    _, summary, _ = made
    y, weights = naive
    process = ft.VariancePreserving()
    top = np.linalg.eigvalsh(np.cov(y.T, bias=True))[-1]
    assert process.alpha(summary["speciation_time"]["time"]) ** 2 * top == pytest.approx(1, abs=1e-9)
    beta = summary["critical_time"]["fixed_point"]["beta"]
    w = weights(y.mean(0)[None], beta)[0][0]
    delta = y - w @ y
    assert np.linalg.eigvalsh(beta * (delta.T * w) @ delta)[-1] == pytest.approx(1, abs=1e-9)


def test_the_collapse_time_is_where_own_weights_win_on_average(made, naive, digits):
    _, summary, _ = made
    y, weights = naive
    process = ft.VariancePreserving()
    own = np.random.default_rng(5).integers(len(y), size=400)
    noise = np.random.default_rng(6).normal(size=(400, y.shape[1]))

    def log_odds(t):
        field = y[own] + noise * float(process.sigma(t) / process.alpha(t))
        w = weights(field, float(process.beta(t)))[0]
        mine = w[np.arange(400), own]
        w[np.arange(400), own] = 0
        return np.log(mine) - np.log(w.sum(1))

    mark = summary["collapse_time"]
    values = log_odds(mark["time"])
    slope = (log_odds(mark["time"] + 0.005).mean() - log_odds(mark["time"] - 0.005).mean()) / 0.01
    assert abs(values.mean()) < 3 * math.hypot(values.std() / 20, mark["standard_error"] * slope)


def test_generated_trajectories_agree_with_noised_data_in_distribution(made):
    _, _, dataset = made
    for name in ("entropy", "regularised_energy", "log_evidence"):
        a, b = dataset[f"noised_{name}"][0], dataset[f"generated_{name}"][0]
        error = math.hypot(float(a.std()), float(b.std())) / math.sqrt(QUERIES)
        assert abs(float(a.mean() - b.mean())) < 4 * error, name


def test_information_grows_to_log_n_and_memory_to_one_on_cooling(made):
    _, _, dataset = made
    assert np.all(np.diff(dataset.information) > -0.05)
    assert float(dataset.information[0]) < 0.5
    assert float(dataset.information[-1]) == pytest.approx(math.log(1797), abs=1e-3)
    assert float(dataset.u_turn[-1]) == pytest.approx(1, abs=1e-3)


def test_a_portrait_is_a_figure_a_summary_and_a_labelled_data_set(made):
    out, summary, dataset = made
    assert {path.name for path in out.iterdir()} == {"portrait.png", "portrait.pdf", "portrait.zarr", "summary.json"}
    assert json.loads((out / "summary.json").read_text()) == summary
    assert bool(dataset.done.all())
    for name, variable in dataset.variables.items():
        assert "long_name" in variable.attrs, name
    assert all(not bool(np.isnan(dataset[name]).any()) for name in dataset if dataset[name].dtype.kind == "f")


def test_an_interrupted_portrait_goes_on_to_the_same_numbers(made, digits, tmp_path, monkeypatch):
    _, summary, dataset = made
    arguments = (digits, ft.VariancePreserving(), tmp_path / "digits", TIMES, QUERIES)
    calls = []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return ft.susceptibility(*args)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "susceptibility", interrupt)
        with pytest.raises(KeyboardInterrupt):
            portrait(*arguments, progress=False)
    assert not (tmp_path / "digits").exists()
    with pytest.raises(ValueError, match=r"queries: .* unfinished portrait with queries = 48"):
        portrait(*arguments[:-1], 32, progress=False)
    again = portrait(*arguments, progress=False)
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    with xr.open_zarr(tmp_path / "digits" / "portrait.zarr", consolidated=False, chunks=None) as resumed:
        xr.testing.assert_identical(resumed.load(), dataset)


def test_the_energy_has_a_band_of_two_standard_errors(made):
    _, summary, dataset = made
    right = next(axis for axis in portrait_figure(dataset, summary, (8, 8)).axes if "energy" in axis.get_ylabel())
    for band, path in zip(right.collections, ("noised", "generated"), strict=True):
        energy = dataset[f"{path}_energy"]
        error = energy.std("query", ddof=1) / math.sqrt(QUERIES)
        mean, (low, high) = energy.mean("query"), np.quantile(band.get_paths()[0].vertices[:, 1], [0, 1])
        np.testing.assert_allclose([low, high], [(mean - 2 * error).min(), (mean + 2 * error).max()])
        assert right.get_ylim()[0] <= low < high <= right.get_ylim()[1]


@pytest.mark.parametrize("part", ["states", "labels", "scale", "shift"])
def test_an_unfinished_portrait_of_other_data_under_the_same_name_is_refused(part, digits, tmp_path, monkeypatch):
    small = Dataset("small", digits.states[:60], digits.labels[:60], digits.scale, digits.shift)
    changed = {"states": small.states[::-1], "labels": small.labels[::-1], "scale": 0.5, "shift": 1.0}[part]
    arguments = (ft.OrnsteinUhlenbeck(), tmp_path / "small", 3, 8)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measure, "late_starts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            portrait(small, *arguments, progress=False)
    with pytest.raises(ValueError, match=r"data: .* holds an unfinished portrait of other data than small holds now"):
        portrait(replace(small, **{part: changed}), *arguments, progress=False)
    assert portrait(small, *arguments, progress=False)["fingerprint"] == small.fingerprint


def test_labels_that_are_refused_leave_no_folder(digits, tmp_path):
    small = Dataset("small", digits.states[:60], np.full(60, np.nan))
    with pytest.raises(ValueError, match="labels: "):
        portrait(small, ft.OrnsteinUhlenbeck(), tmp_path / "small", 3, 8, progress=False)
    assert not list(tmp_path.iterdir())


def fingerprint(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_portrait_stays_whole_until_a_new_one_is(digits, tmp_path, monkeypatch):
    small = Dataset("small", digits.states[:60], digits.labels[:60], digits.scale, digits.shift)
    out = tmp_path / "small"
    portrait(small, ft.OrnsteinUhlenbeck(), out, 3, 8, progress=False)
    before = fingerprint(out)
    with pytest.raises(ValueError, match=r"out: .* exists"):
        portrait(small, ft.OrnsteinUhlenbeck(), out, 3, 8, progress=False)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            portrait(small, ft.OrnsteinUhlenbeck(), out, 3, 8, seed=1, overwrite=True, progress=False)
    assert fingerprint(out) == before
    portrait(small, ft.OrnsteinUhlenbeck(), out, 3, 8, seed=1, overwrite=True, progress=False)
    assert fingerprint(out) != before


def test_a_folder_that_is_not_a_portrait_is_never_overwritten(digits, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("ten years")
    with pytest.raises(ValueError, match="not a portrait result"):
        portrait(digits, ft.OrnsteinUhlenbeck(), tmp_path / "mine", overwrite=True, progress=False)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "ten years"


@pytest.mark.parametrize(
    ("states", "process"),
    [
        (np.random.default_rng(0).normal(size=(40, 1)), ft.VarianceExploding()),
        (np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), ft.EDM()),
        (np.random.default_rng(0).normal(size=(30, 3, 4, 4)), ft.FlowMatching()),
        (np.random.default_rng(0).normal(size=(2, 2)), ft.DDPM.linear()),
    ],
)
def test_data_of_any_shape_without_labels_have_portraits(states, process, tmp_path):
    summary = portrait(Dataset("any", states), process, tmp_path / "any", 4, 8, progress=False)
    assert summary["labelled"] is False
    assert (tmp_path / "any" / "portrait.png").stat().st_size > 10_000


def test_numbers_may_be_those_of_numpy(tmp_path):
    states = np.random.default_rng(0).normal(size=(20, 2))
    times, queries, seed = np.array([3, 8, 1])
    summary = portrait(
        Dataset("any", states), ft.VariancePreserving(), tmp_path / "x", times, queries, seed, progress=False
    )
    assert json.loads((tmp_path / "x" / "summary.json").read_text()) == summary
    assert (summary["times"], summary["queries"], summary["seed"]) == (3, 8, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("times", 1), ("queries", 0), ("seed", -1), ("times", 2.5), ("queries", True)]
)
def test_impossible_numbers_are_named(digits, tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}: wanted an integer"):
        portrait(digits, ft.OrnsteinUhlenbeck(), tmp_path / "x", **{name: value})
