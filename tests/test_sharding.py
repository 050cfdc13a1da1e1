"""States over processes, devices and disks: the answers of one ensemble, in bounded memory, and no hangs."""

import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft

SCRIPT = Path(__file__).with_name("sharding_process.py")
SHARED: Any = runpy.run_path(str(SCRIPT))
PROBLEMS = SHARED["problems"]()
INTEGERS = {"dominant", "class_dominant"}
RELATIVE = {"covariance", "c_v", "third", "participation", "log_rest"}  # of every query, condensed ones as well


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Answers of two gloo processes."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), str(rank), "2", str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        try:
            _, errors = process.communicate(timeout=250)
        finally:
            for other in running:
                if sys.exc_info()[0] is not None:
                    other.kill()
        assert process.returncode == 0, errors
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def same(found: dict[str, Any], want: dict[str, Any], single: bool, rms: np.ndarray) -> None:
    """Where float32 is asked for, the accuracy promised for it: 1e-6 of the rms force, of its powers for moments."""
    assert found.keys() == want.keys()
    for name, value in want.items():
        if name in INTEGERS:
            np.testing.assert_array_equal(found[name], value, err_msg=name)
            continue
        if name == "error_bound":
            assert (found[name] >= 0).all()
            assert (found[name] <= 10 * value + 1e-13).all()
            continue
        slack = 4e-6 if single else 2e-11
        power = {"covariance": 2, "c_v": 2, "third": 3}.get(name, 1)
        if single:
            scale = (rms**power).reshape(-1, *(1,) * (value.ndim - 1)) if len(value) == len(rms) else 1.0
        else:
            flat = np.abs(value.reshape(len(value), -1)).max(1)
            flat = flat if name in RELATIVE else np.maximum(flat, 1)
            flat = np.maximum(flat, rms**power) if power > 1 else flat
            scale = np.where(np.isfinite(flat), flat, 1).reshape(-1, *(1,) * (value.ndim - 1))
        finite = np.isfinite(value)
        np.testing.assert_array_equal(np.where(finite, 0, value), np.where(finite, 0, found[name]), err_msg=name)
        with np.errstate(invalid="ignore"):
            difference = np.where(finite, np.abs(found[name] - value), 0)
        assert (difference <= slack * scale + 1e-290).all(), (name, difference, scale)


def expected(name: str) -> tuple[dict[str, Any], bool, np.ndarray]:
    states, weights, units, field, beta = PROBLEMS[name]
    ens = ft.Ensemble(states, weights, **units)
    want = SHARED["answers"](ens, field, beta, np.arange(len(states)) % 3)
    return want, field.dtype == np.float32, np.sqrt(2 * want["regularised_energy"])


@pytest.mark.parametrize("name", PROBLEMS)
def test_processes_give_the_answers_of_one_ensemble(name: str, processes: list[Any]) -> None:
    want, single, rms = expected(name)
    own = [{k.split("/")[1]: v for k, v in p.items() if k.startswith(f"{name}/")} for p in processes]
    for key, value in own[0].items():
        np.testing.assert_array_equal(value, own[1][key], err_msg=f"{key} differs between the processes")
    same(own[0], want, single, rms)


@pytest.mark.parametrize("name", PROBLEMS)
def test_streams_and_devices_give_the_answers_of_one_ensemble(name: str, tmp_path: Path) -> None:
    states, weights, units, field, beta = PROBLEMS[name]
    want, single, rms = expected(name)
    np.save(tmp_path / "states.npy", states)
    parts = [
        ft.StreamedEnsemble(tmp_path / "states.npy", weights, **units, block=7),
        ft.ShardedEnsemble(states, weights, **units, devices=["cpu"] * 3),
    ]
    for ens in parts:
        same(SHARED["answers"](ens, field, beta, np.arange(len(states)) % 3), want, single, rms)


def test_every_process_streams_its_own_states(processes: list[Any]) -> None:
    states = np.concatenate([rank + np.arange(12.0).reshape(4, 3) for rank in range(2)])
    np.testing.assert_allclose(processes[1]["streamed"], ft.boltzmann(ft.Ensemble(states), np.ones(3), 0.1).mean)


def test_errors_of_one_process_are_errors_on_all(processes: list[Any]) -> None:
    for rank, found in enumerate(processes):
        assert "finite numbers, got nan" in str(found["nan"])
        assert ("process 1 refuses" in str(found["nan"])) == (rank == 0)
        assert "wanted the same shape" in str(found["shapes"])
        assert "No such file" in str(found["no file"])
        assert ("process 0 refuses" in str(found["no file"])) == (rank == 1)
        assert "finite numbers, got nan at [3, 0]" in str(found["nan on disk"])
        assert ("process 1 refuses" in str(found["nan on disk"])) == (rank == 0)
        for question in ("other field", "other question"):
            assert "the same call with the same numbers on all 2 processes" in str(found[question])


def test_what_one_process_refuses_or_asks_otherwise_is_an_error_on_all(processes: list[Any]) -> None:
    for rank, found in enumerate(processes):
        errors = {name: str(error) for name, error in found.items() if name.startswith("door: ")}
        assert len(errors) == 14
        for name, error in errors.items():
            told = "process 1 refuses what it was asked", "the same call with the same numbers", "the same array"
            assert error.startswith(("ValueError", "IndexError")), (name, error)
            assert any(x in error for x in told) or rank == 1, (name, error)
        assert "held by several processes cannot be pickled" in str(found["pickle"])
    np.testing.assert_array_equal(processes[0]["after refusals"], processes[1]["after refusals"])


def test_a_process_that_ends_is_an_error_and_not_a_hang(processes: list[Any]) -> None:
    assert "RuntimeError: process 0 of 2 waited in vain" in str(processes[0]["death"])


@pytest.mark.parametrize("distance", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [3, 20])
def test_error_bound_of_parts_holds(distance: float, dtype: Any, dimension: int, exact: Any) -> None:
    """Narrow parts far from each other: their shares move the mean by more than any part is wide."""
    rng = np.random.default_rng(3)
    states = np.concatenate([c + 1e-2 * rng.normal(size=(9, dimension)) for c in rng.normal(size=(3, dimension))])
    states = states.astype(dtype)
    field = ((states[0] + states[10]) / 2 + distance * np.eye(dimension)[0] + np.zeros((4, 1))).astype(np.float64)
    beta = np.array([1e-3, 1.0, 30.0, 1e3]) / (1 + distance)
    truth = exact(states, np.full(27, -np.log(27)), field, beta)
    state = ft.boltzmann(ft.ShardedEnsemble(states, devices=["cpu"] * 3), field, beta, single=dtype == np.float32)
    error = np.linalg.norm(state.force - truth.force, axis=1) / truth.rms
    assert (error <= state.error_bound).all()
    assert (state.error_bound < (1e-2 if dtype == np.float32 else 1e-8)).all()


MEMORY = """
import resource, sys
import numpy as np, torch
import fastthermo as ft
torch.set_num_threads(1)
ft.boltzmann(ft.StreamedEnsemble(sys.argv[2]), np.zeros((4, 64), np.float32), 1e-4)  # compiled, warm
def memory():
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return {name: int(status[name].split()[0]) << 10 for name in ("VmData", "VmRSS", "VmHWM")}
used = memory()
limit = 96 << 20
resource.setrlimit(resource.RLIMIT_DATA, (used["VmData"] + limit,) * 2)
ens = ft.StreamedEnsemble(sys.argv[1], block=1 << 17)
state = ft.boltzmann(ens, np.full((4, 64), 100, np.float32), 1e-4)
assert memory()["VmHWM"] < max(used["VmHWM"], used["VmRSS"] + limit), (memory(), used)
try:
    np.array(np.load(sys.argv[1], mmap_mode="r"))
except MemoryError:
    print(ens.size, *state.mean[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts allocations on Linux only")
def test_a_stream_larger_than_the_memory_limit(tmp_path: Path) -> None:
    """192 MiB of bytes under a limit of 96 MiB, on allocations by the kernel and on resident pages by measurement."""
    size = 3 << 20
    rows = np.random.default_rng(0).integers(0, 256, (1 << 13, 64)).astype(np.uint8)
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (size, 64))
    large.reshape(-1, *rows.shape)[:] = rows
    large.flush()
    np.save(tmp_path / "small.npy", rows)
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "large.npy"), str(tmp_path / "small.npy")],
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    count, *mean = result.stdout.split()
    assert int(count) == size
    want = ft.boltzmann(ft.Ensemble(rows), np.full(64, 100, np.float32), 1e-4).mean
    np.testing.assert_allclose(np.array(mean, float), want, rtol=1e-5)


def test_zarr_arrays_are_streamed_and_bars_are_shown(tmp_path: Path, capsys: Any) -> None:
    zarr = pytest.importorskip("zarr")
    states = np.random.default_rng(0).normal(size=(23, 2, 3))
    stored = zarr.create_array(tmp_path / "states.zarr", shape=states.shape, chunks=(5, 2, 3), dtype="f8")
    stored[:] = states
    ens, one = ft.StreamedEnsemble(tmp_path / "states.zarr", block=4, progress=True), ft.Ensemble(states)
    field = np.zeros((2, 2, 3))
    np.testing.assert_allclose(ft.boltzmann(ens, field, 1.0).mean, ft.boltzmann(one, field, 1.0).mean, rtol=1e-13)
    assert "/6" in capsys.readouterr().err
    labels = np.arange(23) % 2
    np.testing.assert_allclose(
        ens.split(labels).class_posterior(field, 1.0), one.split(labels).class_posterior(field, 1.0), rtol=1e-13
    )
    np.testing.assert_array_equal(ens.data([[3, -1], [3, 0]]), one.data([[3, -1], [3, 0]]))


def test_chunks_that_are_lost_are_not_read_as_zeros(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(tmp_path / "states.zarr", shape=(12, 3), chunks=(2, 3), dtype="f8")
    stored[:10] = 1.0
    ens = ft.StreamedEnsemble(tmp_path / "states.zarr")
    np.testing.assert_allclose(ft.boltzmann(ens, np.zeros(3), 1e-9).mean, 10 / 12)
    (tmp_path / "states.zarr" / "c" / "1" / "0").unlink()
    for question in (lambda: ft.boltzmann(ens, np.zeros(3), 1.0), lambda: ens.data([2])):
        with pytest.raises(ValueError, match="states: 1 of 5 chunks of the Zarr array are gone"):
            question()


def test_rows_that_are_not_finite_are_named_by_their_place(tmp_path: Path) -> None:
    np.save(tmp_path / "states.npy", np.where(np.arange(100)[:, None] == 96, np.nan, np.zeros((100, 2))))
    with pytest.raises(ValueError, match=r"got nan at \[96, 0\]"):
        ft.StreamedEnsemble(tmp_path / "states.npy").data([96, 3])


def test_laws_in_parts_are_pickled_with_the_path_of_states_on_disk(tmp_path: Path) -> None:
    states = np.random.default_rng(0).normal(size=(3000, 2))
    np.save(tmp_path / "states.npy", states)
    want = ft.boltzmann(ft.Ensemble(states), np.zeros(2), 1.0).mean
    streams = [make(tmp_path / "states.npy", block=999) for make in (ft.StreamedEnsemble, ft.StreamedEnsemble.scatter)]
    for ens in (*streams, ft.ShardedEnsemble(states)):
        stored = pickle.dumps(ens)
        assert ens not in streams or len(stored) < 2000
        np.testing.assert_allclose(ft.boltzmann(pickle.loads(stored), np.zeros(2), 1.0).mean, want, rtol=1e-12)
    backwards = ft.StreamedEnsemble(np.load(tmp_path / "states.npy", mmap_mode="r")[::-1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(backwards)).data([0]), states[-1:])


def test_laws_in_parts_sample_as_one(tmp_path: Path) -> None:
    states = np.random.default_rng(0).normal(size=(30, 2))
    np.save(tmp_path / "states.npy", states)
    found, want = (
        ft.sample(ens, ft.VarianceExploding(), 5, steps=4)
        for ens in (ft.StreamedEnsemble(tmp_path / "states.npy", block=8), ft.Ensemble(states))
    )
    np.testing.assert_allclose(found, want, rtol=1e-9)


def test_bad_input_is_refused_by_name(tmp_path: Path) -> None:
    states = np.eye(3)
    with pytest.raises(ValueError, match="states: wanted the path"):
        ft.StreamedEnsemble(tmp_path / "states.txt")
    for content in (b"", b"\x93NUMPY\x01\x00"):
        (tmp_path / "cut.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"states: .*cut\.npy cannot be read"):
            ft.StreamedEnsemble(tmp_path / "cut.npy")
    with pytest.raises(TypeError, match="states: wanted a path"):
        ft.StreamedEnsemble(torch.eye(3))
    with pytest.raises(ValueError, match="states: wanted real numbers of shape"):
        ft.StreamedEnsemble(np.zeros(3))
    with pytest.raises(ValueError, match="block: "):
        ft.StreamedEnsemble(states, block=0)
    with pytest.raises(ValueError, match=r"states: wanted finite numbers, got nan at \[2, 0\]"):
        ft.StreamedEnsemble(np.array([[0.0], [1.0], [np.nan]]), block=1).mean(np.zeros(1), 1.0)
    assert ft.ShardedEnsemble.scatter([[0.0, 1.0], [2.0, 3.0]]).size == 2
    for kind in (ft.ShardedEnsemble, ft.StreamedEnsemble):
        for make in (kind, kind.scatter):
            with pytest.raises(ValueError, match="log_weights: wanted shape"):
                make(states, np.zeros(4))
        with pytest.raises(ValueError, match="log_weights: wanted at least one state"):
            kind(states, np.full(3, -np.inf))
        with pytest.raises(ValueError, match="states: wanted at least one"):
            kind(np.zeros((0, 3)))
        with pytest.raises(ValueError, match="scale: "):
            kind(states, scale=0.0)
        with pytest.raises(ValueError, match="devices: "):
            kind(states, devices=[])
        with pytest.raises(IndexError, match="index: "):
            kind(states).data([3])
        with pytest.raises(NotImplementedError, match="path: "):
            kind(states).save(tmp_path / "ens.npz")
        state = kind(states).boltzmann(torch.zeros(3, dtype=torch.float64, requires_grad=True), 1.0)
        with pytest.raises(NotImplementedError, match="differentiable"):
            state.participation.backward()
