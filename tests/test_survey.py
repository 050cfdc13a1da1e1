"""The survey of real digits, end to end: its numbers against the functions that measure them, and its files."""

import json

import numpy as np
import pytest
import xarray as xr

import fastthermo as ft
from fastthermo.cli import main
from fastthermo.datasets import Dataset, load
from fastthermo.portrait import portrait
from fastthermo.regimes import gap_dimension
from fastthermo.survey import measure, survey
from fastthermo.survey.figure import regimes_figure

TIMES, QUERIES, VP = 6, 40, ft.VariancePreserving()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    """A small survey of all 1797 digits: its folder, summary and data set."""
    out = tmp_path_factory.mktemp("survey") / "digits"
    summary = survey(digits, VP, out, times=TIMES, queries=QUERIES, progress=False)
    with xr.open_zarr(out / "regimes.zarr", consolidated=False, chunks=None) as dataset:
        return out, summary, dataset.load()


def test_curves_are_those_of_the_regimes_within_their_errors(made, digits):
    _, _, dataset = made
    ens, t = digits.ensemble(), dataset.time.to_numpy()
    for name, found in (
        ("mean_information", ft.mutual_information(ens, VP, t, n=400, seed=1)),
        ("entropy_rate", ft.entropy_rate(ens, VP, t, n=400, seed=1)),
        ("gaussian_divergence", ft.gaussian_divergence(ens, VP, t, n=400, seed=1)),
        ("mean_gap", ft.memorisation_gap(ens, VP, t, n=400, seed=1)),
        ("u_turn", ft.u_turn(ens.split(digits.labels), VP, t, n=400, seed=1)),
    ):
        error = np.hypot(found.error, dataset[f"{name}_error"])
        assert (abs(dataset[name] - found.value) <= 4 * error + 1e-6).all(), name


def test_rows_are_what_the_functions_give_for_the_same_seed(made, digits):
    _, summary, dataset = made
    ens = digits.ensemble()
    classes = ens.split(digits.labels)
    for i in (1, 4):
        t = float(dataset.time[i])
        posterior = ft.class_posteriors(classes, VP, t, n=16)
        np.testing.assert_allclose(dataset.class_posterior[i], posterior.value, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(dataset.class_posterior_error[i], posterior.error, rtol=1e-6, atol=1e-12)
        gap = ft.memorisation_gap(ens, VP, t, n=QUERIES)
        np.testing.assert_allclose(dataset.mean_gap[i], gap.value, rtol=1e-9)
        dims = gap_dimension(dataset.gains[i].to_numpy())
        assert float(dataset.dimension_gap[i]) == dims.mean()
    windows = ft.critical_windows(classes, VP, times=dataset.time.to_numpy(), n=16)
    np.testing.assert_allclose(dataset.window_middle, windows.middle.value, rtol=1e-6)
    first = summary["classes"]["first"]
    assert first["middle"]["value"] == pytest.approx(np.nanmax(windows.middle.value), rel=1e-6)


def test_digits_are_told_apart_before_they_collapse(made):
    _, summary, dataset = made
    assert summary["classes"]["last"]["middle"]["value"] > summary["collapse_time"]["time"]
    assert (dataset.u_turn.diff("time") > -0.05).all()
    assert float(dataset.u_turn[-1]) == pytest.approx(1, abs=0.01)
    assert 1 < summary["data_dimension"]["trace"]["value"] < 20


def test_results_are_not_read_by_a_dask_cluster_that_is_the_default(digits, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Dask was asked")

    monkeypatch.setattr("xarray.namedarray.daskmanager.DaskManager.compute", refuse)
    survey(digits, VP, tmp_path / "digits", TIMES, QUERIES, progress=False)


def test_a_survey_is_a_figure_a_summary_and_a_labelled_data_set(made):
    out, summary, dataset = made
    assert {path.name for path in out.iterdir()} == {"regimes.png", "regimes.pdf", "regimes.zarr", "summary.json"}
    assert json.loads((out / "summary.json").read_text()) == summary
    assert bool(dataset.done.all())
    assert all("long_name" in variable.attrs for variable in dataset.variables.values())


def test_an_interrupted_survey_goes_on_to_the_same_numbers(made, digits, tmp_path, monkeypatch):
    _, summary, dataset = made
    arguments = (digits, VP, tmp_path / "digits", TIMES, QUERIES)
    calls = []

    def interrupt(*args, **options):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measured(*args, **options)

    measured = measure.spectrum_at
    with monkeypatch.context() as patch:
        patch.setattr(measure, "spectrum_at", interrupt)
        with pytest.raises(KeyboardInterrupt):
            survey(*arguments, progress=False)
    assert not (tmp_path / "digits").exists()
    with pytest.raises(ValueError, match=r"queries: .* unfinished regimes with queries = 40"):
        survey(*arguments[:-1], 32, progress=False)
    with pytest.raises(ValueError, match=r"kind: .* unfinished regimes"):
        portrait(*arguments, progress=False)
    again = survey(*arguments, progress=False)
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    with xr.open_zarr(tmp_path / "digits" / "regimes.zarr", consolidated=False, chunks=None) as resumed:
        xr.testing.assert_identical(resumed.load(), dataset)


def test_a_portrait_is_not_overwritten_by_a_survey(digits, tmp_path):
    (tmp_path / "portrait.zarr").mkdir()
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="not a regimes result"):
        survey(digits, VP, tmp_path, overwrite=True, progress=False)


@pytest.mark.parametrize(
    ("states", "process"),
    [
        (np.random.default_rng(0).normal(size=(40, 1)), ft.VarianceExploding()),
        (np.random.default_rng(0).normal(size=(60, 1100)), ft.DDPM.linear()),
    ],
)
def test_data_of_any_shape_without_labels_have_regimes(states, process, tmp_path):
    summary = survey(Dataset("any", states), process, tmp_path / "any", 5, 8, progress=False)
    assert summary["classes"] is None
    assert (tmp_path / "any" / "regimes.png").stat().st_size > 10_000


def test_the_spectrum_of_one_dimension_is_the_curve_of_its_only_eigenvalue(tmp_path):
    states = np.random.default_rng(0).normal(size=(40, 1))
    summary = survey(Dataset("line", states), ft.VarianceExploding(), tmp_path, 5, 8, overwrite=True, progress=False)
    with xr.open_zarr(tmp_path / "regimes.zarr", consolidated=False, chunks=None) as dataset:
        axis = regimes_figure(dataset, summary).axes[2]
        np.testing.assert_allclose(axis.lines[0].get_ydata(), dataset["gains"].mean("probe").to_numpy()[:, 0])
    assert axis.get_legend().get_texts()[0].get_text() == "the only eigenvalue"
    assert axis.get_ylim()[0] == 0


def test_eigenvalues_of_few_dimensions_are_counted_one_by_one(tmp_path):
    states = np.random.default_rng(0).normal(size=(40, 3))
    summary = survey(Dataset("space", states), VP, tmp_path, 5, 8, overwrite=True, progress=False)
    with xr.open_zarr(tmp_path / "regimes.zarr", consolidated=False, chunks=None) as dataset:
        axis = next(x for x in regimes_figure(dataset, summary).axes if x.get_ylabel() == "eigenvalue number")
    assert (axis.get_yscale(), list(axis.get_yticks()), axis.get_ylim()) == ("linear", [1, 2, 3], (0.5, 3.5))


def test_the_command_says_when_things_happen(tmp_path, capsys):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(60, 3)) + 6 * np.repeat([[0.0], [1.0]], 30, axis=0)
    np.savez(tmp_path / "data.npz", states=states, labels=np.repeat([0, 1], 30))
    arguments = ["regimes", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out"), "--times", "24"]
    assert main([*arguments, "--queries", "64"]) == 0
    printed = capsys.readouterr().out
    for word in ("speciation time", "condensation time", "collapse time", "dimension (trace)", "regimes.png"):
        assert word in printed
    for name in ("first classes to part", "last classes to part", "collapse time"):
        assert f"{name:28} " in printed


@pytest.mark.parametrize(("name", "value"), [("times", 4), ("queries", 0), ("seed", -1)])
def test_impossible_numbers_are_named(digits, tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}: wanted an integer"):
        survey(digits, VP, tmp_path / "x", **{name: value})
