"""A network against the exact denoiser: what is measured, resumed and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastthermo as ft
from fastthermo.cli import main
from fastthermo.datasets import Dataset, load
from fastthermo.experiments.comparison import comparison_figure

PAIR = Dataset("pair", np.array([[1.0, 0.0], [-1.0, 0.0]] * 20))
SMALL = {"times": 6, "queries": 16, "progress": False}


def test_an_untrained_network_is_the_gaussian_denoiser_and_the_summary_says_how_far_that_is(tmp_path: Path) -> None:
    import xarray as xr

    ft.train(PAIR, tmp_path / "run", 1, 8, 8, 1e-30, progress=False)
    process = ft.OrnsteinUhlenbeck()
    summary = ft.compare(PAIR, process, tmp_path / "c", tmp_path / "run", **SMALL)
    with xr.open_zarr(tmp_path / "c" / "comparison.zarr", consolidated=False, chunks=None) as arrays:
        beta = arrays["beta"].to_numpy()
        learned, exact = arrays["learned_gains"].to_numpy(), arrays["exact_gains"].to_numpy()
        error, distance = arrays["learned_error"].to_numpy(), arrays["distance"].to_numpy()
        mmse = arrays["exact_error"].to_numpy()
        wide = arrays.load().copy(deep=True)
    # data of mean zero and mean square 1/2 a coordinate: both gains are beta / (beta + 2)
    np.testing.assert_allclose(learned, np.broadcast_to((beta / (beta + 2))[:, None, None], learned.shape), rtol=1e-5)
    assert np.all(exact[:, :, 1] < 1e-12)  # the law is a line
    assert np.all(np.sqrt(error) <= np.sqrt(mmse) + np.sqrt(distance) + 1e-9)
    assert summary["symmetry_defect"] < 1e-5
    assert summary["critical_time"]["fixed_point"]["time"] == pytest.approx(0.346573590279973, rel=1e-6)
    assert summary["learned_critical_time"]["fixed_point"]["time"] is None  # Gaussian: no transition
    assert json.loads((tmp_path / "c" / "summary.json").read_text()) == summary
    assert (tmp_path / "c" / "comparison.png").stat().st_size > 10_000

    wide["distance"][:, 0] = 1e3  # of the 16 queries one is far: two errors below the mean are below zero
    figure = comparison_figure(wide, summary)
    low, high = figure.axes[0].get_ylim()
    assert high / low < 1e9
    assert high > wide["distance"].mean("query").max()
    lower = figure.axes[0].collections[2].get_paths()[0].vertices[:, 1].min()  # of the distance
    assert lower > min(wide["distance"].mean("query").min(), low) / 10


def test_comparisons_by_command_and_their_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = load("digits")
    np.savez(tmp_path / "few.npz", states=digits.states[:60], labels=digits.labels[:60])
    ft.train(load(tmp_path / "few.npz"), tmp_path / "run", 2, 8, 8, progress=False)
    arguments = ["compare", str(tmp_path / "few.npz"), "--network", str(tmp_path / "run"), "--times", "3"]
    arguments += ["--queries", "4", "--out", str(tmp_path / "c")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "learned     (fixed_point)" in printed
    assert "comparison.png" in printed
    assert main(arguments) == 2
    assert "exists; choose another folder" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"run: wanted a network for states of shape \(2,\)"):
        ft.compare(PAIR, ft.OrnsteinUhlenbeck(), tmp_path / "d", tmp_path / "run", **SMALL)
