"""The command line as a user meets it: exit statuses, messages, interrupted and impossible runs."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastthermo.cli import main

SMALL = ("--times", "12", "--queries", "32")


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastthermo.cli", *arguments], stderr=subprocess.PIPE, text=True, **options
    )


def test_portrait_says_where_the_picture_is_and_when_things_happen(tmp_path, capsys):
    out = tmp_path / "digits"
    assert main(["portrait", "digits", "--out", str(out), "--times", "4", "--queries", "16"]) == 0
    printed = capsys.readouterr().out
    assert str(out / "portrait.png") in printed
    assert "critical time (fixed_point)" in printed
    assert "collapse time" in printed


def test_sample_writes_samples_and_a_contact_sheet(tmp_path, capsys):
    arguments = ["sample", "digits", "-n", "20", "--steps", "20", "--out", str(tmp_path / "s")]
    assert main(arguments) == 0
    x = np.load(tmp_path / "s" / "samples.npy")
    assert x.shape == (20, 8, 8)
    assert (tmp_path / "s" / "samples.png").stat().st_size > 3_000
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "s" / "samples.npy"), x)


def test_late_started_samples_of_an_array_file(tmp_path):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(50, 3)))
    arguments = ["sample", str(tmp_path / "data.npy"), "--process", "ou", "--t-start", "0.5", "--start", "gaussian"]
    assert main([*arguments, "-n", "10", "--steps", "10", "--out", str(tmp_path / "s")]) == 0
    assert np.load(tmp_path / "s" / "samples.npy").shape == (10, 3)


def test_doctor_reports_the_machine_and_checks_every_backend(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in ("fastthermo", "numba", "torch", "threads", "vector width", "gpu", "kernel cache"):
        assert word in printed
    assert printed.count(" ok") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["portrait", "nothing"], "digits, mnist-5k, fashion-mnist"),
        (["portrait", "digits", "--labels", "absent.npy"], "labels"),
        (["portrait", "digits", "--times", "1"], "times"),
        (["portrait", "digits", "--queries", "-3"], "queries"),
        (["portrait", "digits", "--seed", "-1"], "seed"),
        (["sample", "digits", "-n", "0"], "n: "),
        (["sample", "digits", "--steps", "0"], "steps"),
        (["sample", "digits", "--t-start", "7"], "t: wanted times in"),
    ],
)
def test_bad_input_is_named_and_exits_with_2(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastthermo: error: ")
    assert says in error
    assert not list(tmp_path.rglob("*.npy")) + list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("arguments", [["portrait"], ["portrait", "digits", "--process", "magic"], ["dance"], []])
def test_a_command_line_that_cannot_be_read_exits_with_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path):
    arguments = ("portrait", "digits", "--out", str(tmp_path / "a"), *SMALL)
    process = command(*arguments, stdout=subprocess.DEVNULL)
    checkpoint = tmp_path / ".a.partial" / "checkpoint.npz"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from there" in error
    assert checkpoint.exists()
    assert not (tmp_path / "a").exists()
    assert main(list(arguments)) == 0
    assert (tmp_path / "a" / "portrait.png").exists()
    assert not (tmp_path / ".a.partial").exists()


@pytest.mark.parametrize(("command", "kept"), [("portrait", True), ("sample", False), ("doctor", False)])
def test_only_commands_that_go_on_say_so_when_they_are_stopped(command, kept, monkeypatch, capsys):
    from fastthermo.cli import doctor, generate, measure

    def stop(arguments):
        raise KeyboardInterrupt

    module = {"portrait": measure, "sample": generate, "doctor": doctor}[command]
    monkeypatch.setattr(module, f"_{command}", stop)
    assert main([command, *([] if command == "doctor" else ["digits"])]) == 130
    error = capsys.readouterr().err
    assert "stopped" in error
    assert ("goes on from there" in error) == kept


def test_a_terminal_without_the_signs_shows_a_finished_portrait(tmp_path):
    arguments = ["portrait", "digits", "--out", str(tmp_path / "a"), "--times", "4", "--queries", "16"]
    process = command(*arguments, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    printed, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "?" in printed.split("collapse time")[1].splitlines()[0]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left_ends_the_command_without_a_word(unbuffered):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-m", "fastthermo", "doctor"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (141, "")


@pytest.mark.parametrize(("command", "kept"), [("_sweep", True), ("_export", False)])
def test_a_full_disk_is_named_and_only_what_can_be_is_continued(command, kept, monkeypatch, capsys):
    from fastthermo.cli import sweeps

    def full(arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweeps, command, full)
    arguments = {"_sweep": ["sweep", "x.toml", "--out", "out.x"], "_export": ["export", "x.zarr", "out.x"]}[command]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "error: out.x: no space left" in error
    assert ("can be continued" in error) == kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a child process are set between fork and exec")
def test_a_disk_without_room_is_an_error_that_leaves_earlier_samples_whole(tmp_path):
    import resource

    arguments = ["sample", "digits", "-n", "40", "--steps", "4", "--out", str(tmp_path / "s")]
    assert main(arguments) == 0
    before = (tmp_path / "s" / "samples.npy").read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = command(*arguments, "--overwrite", "--seed", "1", preexec_fn=limit)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2, error
    assert "error" in error
    assert (tmp_path / "s" / "samples.npy").read_bytes() == before
