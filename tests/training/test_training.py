"""Training that goes on bit for bit, refuses what is broken and keeps what was whole."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fastthermo as ft
from fastthermo._files import locked
from fastthermo.cli import main
from fastthermo.datasets import Dataset, load
from fastthermo.training import subset
from fastthermo.training.networks import build

QUICK = {"batch": 16, "width": 8, "progress": False}
DIGITS = load("digits")
VECTORS = Dataset("vectors", np.random.default_rng(0).normal(size=(50, 3)))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint.safetensors")


@pytest.mark.parametrize("data", [DIGITS, VECTORS], ids=["U-Net", "MLP"])
def test_a_run_taken_up_again_is_the_uninterrupted_one(data: Dataset, tmp_path: Path) -> None:
    ft.train(data, tmp_path / "whole", 12, **QUICK)
    for steps in (5, 9, 12):
        ft.train(data, tmp_path / "parts", steps, **QUICK)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    again = load_file(tmp_path / "parts" / "network.safetensors")
    assert all(torch.equal(again[name], whole[f"average.{name}"]) for name in again)


def history(folder: Path) -> str:
    return (folder / "history.csv").read_text()


@pytest.mark.parametrize("second", [False, True], ids=["one Ctrl-C", "two"])
def test_a_run_stopped_within_a_step_goes_on_as_the_uninterrupted_one(
    second: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ft.train(VECTORS, tmp_path / "whole", 110, **QUICK)
    ft.train(VECTORS, tmp_path / "parts", 30, **QUICK)
    calls, step = [], torch.optim.Adam.step

    def stopped(self: torch.optim.Adam, *arguments: Any) -> Any:
        out = step(self, *arguments)
        calls.append(None)
        for _ in range(1 + second if len(calls) == 40 else 0):
            signal.raise_signal(signal.SIGINT)
        return out

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            ft.train(VECTORS, tmp_path / "parts", 110, **QUICK)
    assert load_metadata(tmp_path / "parts")["step"] == ("30" if second else "70")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for _ in range(2):  # a run that has ended is left as it is
        ft.train(VECTORS, tmp_path / "parts", 110, **QUICK)
        whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
        assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_all_files_of_a_run_are_readable_by_those_who_may_read_one(tmp_path: Path) -> None:
    for steps in (1, 2):
        ft.train(VECTORS, tmp_path, steps, **QUICK)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_a_full_disk_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "data.npy", VECTORS.states)

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert (
        main(["train", str(tmp_path / "data.npy"), "--steps", "1", "--width", "8", "--out", str(tmp_path / "r")]) == 2
    )
    assert "no space left" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "r").iterdir()] == ["history.csv"]


def test_a_history_edited_by_hand_is_gone_on_with(tmp_path: Path) -> None:
    ft.train(VECTORS, tmp_path, 50, **QUICK)
    (tmp_path / "history.csv").write_text("step,loss\n" + history(tmp_path).strip())
    ft.train(VECTORS, tmp_path, 100, **QUICK)
    assert [line.partition(",")[0] for line in history(tmp_path).splitlines()] == ["step", "50", "100"]


def test_critical_times_are_asked_of_a_run_as_of_a_law(tmp_path: Path) -> None:
    model = ft.train(VECTORS, tmp_path, 1, rate=1e-30, **QUICK)
    assert np.isnan(ft.critical_time(model, ft.EDM()))  # an untrained network is the Gaussian denoiser


def test_seeds_differ_and_repeat(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ft.train(VECTORS, tmp_path / name, 3, seed=seed, **QUICK)
    a, b, c = (weights(tmp_path / name)["network.body.enter.weight"] for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "shape", [(28, 28), (8, 8), (3, 32, 32), (32, 32, 3), (1, 12, 20), (64, 64, 3), (5,), (2, 3), (4, 7, 9)]
)
def test_networks_of_every_shape_start_as_the_best_isotropic_gaussian(shape: tuple[int, ...]) -> None:
    centre = np.random.default_rng(0).normal(size=shape)
    network = build(shape, centre, 0.7, 8)
    x, sigma = torch.randn(2, *shape), torch.tensor([0.1, 3.0])
    gain = (0.49 / (0.49 + sigma**2)).reshape(-1, *[1] * len(shape))
    want = torch.tensor(centre).float() + gain * (x - torch.tensor(centre).float())
    assert network(x, sigma).shape == x.shape
    assert torch.allclose(network(x, sigma), want, atol=1e-6)


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    data = Dataset("pair", np.sign(np.random.default_rng(0).normal(size=(50, 1))) * [[1.0, 1.0, 0.0]])
    ft.train(data, tmp_path, 200, 64, 32, 3e-3, progress=False)
    table = np.loadtxt(tmp_path / "history.csv", delimiter=",")
    assert table[:, 0].tolist() == [50, 100, 150, 200]
    assert table[3, 1] < 0.9 * table[0, 1]


def test_a_run_is_a_model_under_any_process(tmp_path: Path) -> None:
    data = subset(DIGITS, 100, 0)
    model = ft.train(data, tmp_path, 2, **QUICK)
    assert (model.shape, model.dimension) == ((8, 8), 64)
    for process in (ft.VariancePreserving(), ft.FlowMatching(), ft.EDM()):
        for start in ("noise", "gaussian", "data"):
            x = ft.sample(model, process, 3, 4, "ddim", x_start=start)
            assert x.shape == (3, 8, 8)
            assert x.isfinite().all()
    again = ft.load_denoiser(tmp_path)
    x = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x, 0.5).mean, model(x, 0.5).mean)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut, r"checkpoint.safetensors is truncated or no safetensors file.*kept as .*: rename it to checkpoint.saf"),
        (lambda path: path.write_bytes(b"short"), "is truncated or no safetensors file"),
        (lambda path: path.write_bytes(b""), "is truncated or no safetensors file"),
    ],
)
def test_a_broken_checkpoint_is_refused_and_the_previous_one_kept(spoil: Any, says: str, tmp_path: Path) -> None:
    ft.train(VECTORS, tmp_path, 2, **QUICK)
    ft.train(VECTORS, tmp_path, 4, **QUICK)
    current, previous = tmp_path / "checkpoint.safetensors", tmp_path / "previous.safetensors"
    spoil(current)
    before, broken = previous.read_bytes(), current.read_bytes()
    with pytest.raises(ValueError, match=says):
        ft.train(VECTORS, tmp_path, 6, **QUICK)
    assert (previous.read_bytes(), current.read_bytes()) == (before, broken)
    previous.replace(current)  # as the message says
    ft.train(VECTORS, tmp_path, 6, **QUICK)
    ft.train(VECTORS, tmp_path / "whole", 6, **QUICK)
    assert history(tmp_path) == history(tmp_path / "whole")
    assert torch.equal(
        weights(tmp_path)["network.body.enter.weight"], weights(tmp_path / "whole")["network.body.enter.weight"]
    )


def test_a_run_of_other_data_or_settings_is_refused_and_kept(tmp_path: Path) -> None:
    ft.train(VECTORS, tmp_path, 2, **QUICK)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"data: the run in .* has data = 'vectors', this one 'digits'"):
        ft.train(DIGITS, tmp_path, 4, **QUICK)
    wide = Dataset("vectors", np.random.default_rng(0).normal(size=(50, 4)))
    with pytest.raises(ValueError, match=r"shape: the run in .* has shape = \(3,\), this one \(4,\)"):
        ft.train(wide, tmp_path, 4, **QUICK)
    with pytest.raises(ValueError, match=r"width: .* = 8, this one 12"):
        ft.train(VECTORS, tmp_path, 4, **{**QUICK, "width": 12})
    for other in (VECTORS.states + 1e-9, VECTORS.states[::-1], VECTORS.states.astype(np.float32)):
        with pytest.raises(ValueError, match=r"data_fingerprint: the run in .* has data_fingerprint = '\w{16}', this"):
            ft.train(Dataset("vectors", other), tmp_path, 4, **QUICK)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    ft.train(DIGITS, tmp_path, 1, overwrite=True, **QUICK)
    assert ft.load_denoiser(tmp_path).shape == (8, 8)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock", "busy"), pytest.raises(ValueError, match="out: another process trains in"):
        ft.train(VECTORS, tmp_path, 1, **QUICK)
    ft.train(VECTORS, tmp_path, 1, **QUICK)
    assert not (tmp_path / ".lock").exists()


def test_networks_of_other_data_are_refused_or_warned_of(tmp_path: Path) -> None:
    ft.train(VECTORS, tmp_path, 1, **QUICK)
    for data in (DIGITS, DIGITS.ensemble()):
        with pytest.raises(ValueError, match=r"run: wanted a network for states of shape \(8, 8\), .* has \(3,\)"):
            ft.load_denoiser(tmp_path, data)
    with pytest.warns(UserWarning, match=r"run: .* was trained on 'vectors', not on 'others'"):
        ft.load_denoiser(tmp_path, replace(VECTORS, name="others"))
    np.save(tmp_path / "gray.npy", DIGITS.states[:9])
    out = ["--out", str(tmp_path / "s"), "-n", "2", "--steps", "2", "--start", "gaussian"]
    assert main(["sample", str(tmp_path / "gray.npy"), "--network", str(tmp_path), *out]) == 2


def test_a_file_is_no_folder_of_a_run(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", VECTORS.states)
    with pytest.raises(ValueError, match=r"out: wanted a folder, got .*data.npy, which is a file"):
        ft.train(VECTORS, tmp_path / "data.npy", 1, **QUICK)


def test_networks_of_other_origin_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match=r"network.safetensors does not exist; `fastthermo train` writes it"):
        ft.load_denoiser(tmp_path)
    save_file({"a": torch.zeros(2)}, tmp_path / "network.safetensors")
    with pytest.raises(ValueError, match="was not written by fastthermo train"):
        ft.load_denoiser(tmp_path)
    ft.train(VECTORS, tmp_path / "run", 1, **QUICK)
    with pytest.raises(ValueError, match=r"device: .*'foo'"):
        ft.load_denoiser(tmp_path / "run", device="foo")
    tensors = load_file(tmp_path / "run" / "network.safetensors")
    from fastthermo.training import checkpoint

    settings = checkpoint.read(tmp_path / "run" / "network.safetensors")[1]
    tensors["body.enter.weight"] = torch.zeros(8, 5)
    checkpoint.save(tmp_path / "run" / "network.safetensors", tensors, settings, 1)
    with pytest.raises(ValueError, match="other weights than its settings say"):
        ft.load_denoiser(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": DIGITS, "width": 3}, "width: wanted an even number .*, got 3"),
        ({"data": Dataset("one", np.ones((1, 3)))}, "states: wanted at least two that differ"),
        ({"device": "foo"}, "device: wanted cpu or a GPU that is here, got 'foo'"),
        ({"steps": 0}, "steps: wanted an integer of at least 1"),
        ({"batch": 1.5}, "batch: wanted"),
        ({"batch": True}, "batch: wanted"),
        ({"seed": -1}, "seed: wanted"),
        ({"seed": 2**64}, "seed: wanted"),
        ({"rate": 0.0}, "rate: wanted a positive number"),
        ({"width": 0}, "width: wanted"),
    ],
)
def test_impossible_numbers(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        ft.train(**{"data": VECTORS, "out": tmp_path, **options})


def test_a_diverging_run_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    ft.train(VECTORS, tmp_path, 1, rate=1e30, **QUICK)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"rate: the loss is .* at step 50, .*; the last checkpoint is kept in .*"):
        ft.train(VECTORS, tmp_path, 60, rate=1e30, **QUICK)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    with pytest.raises(
        ValueError, match=r"rate: the loss is nan at step 9, wanted a finite one; begin again with a sm"
    ):
        ft.train(VECTORS, tmp_path / "new", 9, rate=1e30, **QUICK)
    assert not (tmp_path / "new" / "checkpoint.safetensors").exists()


def test_ctrl_c_keeps_the_step_and_the_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "data.npy", VECTORS.states)
    run = tmp_path / "run"
    arguments = ["train", str(tmp_path / "data.npy"), "--out", str(run), "--batch", "8", "--width", "8", "--steps"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastthermo.cli", *arguments, "1000000"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (run / "history.csv").exists() or not (run / "history.csv").stat().st_size:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, error = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "goes on from there" in error
    step = int(load_metadata(run)["step"])
    assert step >= 50
    assert main([*arguments, str(step + 5)]) == 0
    assert int(load_metadata(run)["step"]) == step + 5
    assert str(run / "network.safetensors") in capsys.readouterr().out


def load_metadata(run: Path) -> dict[str, str]:
    raw = (run / "checkpoint.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size])["__metadata__"]
