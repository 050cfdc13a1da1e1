"""One sweep in this process, in others, on a Dask cluster and on SLURM's job script: the same numbers, whoever dies."""

import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastthermo import cli, sweep
from fastthermo.sweep import Grid, executors
from fastthermo.sweep.executors import executor

distributed = pytest.importorskip("distributed")
Values = Callable[[Path], np.ndarray]
ROOT = Path(__file__).parents[2]
KILLS = 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers of one thread."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


@pytest.fixture
def want(small: Grid, tmp_path: Path, values: Values) -> np.ndarray:
    """In this process, on one thread."""
    with executor("process", threads=1) as none:
        return values(sweep.run(small, tmp_path / "here.zarr", none))


def test_processes_give_the_same_numbers(small: Grid, tmp_path: Path, values: Values, want: np.ndarray) -> None:
    with executor("loky", 2, threads=1) as pool:
        np.testing.assert_array_equal(values(sweep.run(small, tmp_path / "loky.zarr", pool)), want)


def test_any_executor_gives_the_same_numbers(small: Grid, tmp_path: Path, values: Values, want: np.ndarray) -> None:
    with executor("process", threads=1), ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(values(sweep.run(small, tmp_path / "pool.zarr", pool)), want)


def test_no_task_is_lost_where_there_are_more_than_are_handed_out_ahead(
    small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "AHEAD", small.tasks - 2)
    with ThreadPoolExecutor(2) as pool:
        out = sweep.run(small, tmp_path / "pool.zarr", pool)
    assert sweep.Store(out).done.all()


def test_shards_give_the_same_numbers(small: Grid, tmp_path: Path, values: Values, want: np.ndarray) -> None:
    with executor("process", threads=1):
        for i in range(3):
            sweep.run(small, tmp_path / "shards.zarr", shard=(i, 3))
    np.testing.assert_array_equal(values(tmp_path / "shards.zarr"), want)


def test_dask_gives_the_same_numbers(
    cluster: Any, small_file: Path, tmp_path: Path, values: Values, want: np.ndarray
) -> None:
    out = tmp_path / "dask.zarr"
    command = ["sweep", str(small_file), "--out", str(out), "--executor", "dask"]
    assert cli.main([*command, "--address", cluster.scheduler_address]) == 0
    np.testing.assert_array_equal(values(out), want)


def test_other_numbers_of_threads_agree_within_rounding(
    small: Grid, tmp_path: Path, values: Values, want: np.ndarray
) -> None:
    with executor("process", threads=3):
        other = values(sweep.run(small, tmp_path / "threads.zarr"))
    np.testing.assert_allclose(other, want, rtol=1e-9)


@pytest.mark.slow
def test_workers_killed_at_ten_random_moments_cost_no_number(small_file: Path, tmp_path: Path, values: Values) -> None:
    text = small_file.read_text().replace("cells_per_task = 8", "cells_per_task = 1").replace("seeds = 8", "seeds = 16")
    small_file.write_text(text)
    grid, out, moments = sweep.load(small_file), tmp_path / "killed.zarr", random.Random(1)
    with executor("process", threads=1):
        want = values(sweep.run(grid, tmp_path / "whole.zarr"))
    ended, killed = threading.Event(), []

    def kill(cluster: Any) -> None:
        while not ended.wait(moments.uniform(0.1, 0.6)):
            pids = [worker.process.pid for worker in cluster.workers.values() if worker.process]
            if pids and len(killed) < KILLS:
                pid = moments.choice(pids)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster:
        cluster.scheduler.allowed_failures = KILLS
        killer = threading.Thread(target=kill, args=(cluster,))
        killer.start()
        try:
            with distributed.Client(cluster) as client:
                while len(killed) < KILLS:
                    sweep.run(grid, out, client.get_executor())
                    if len(killed) < KILLS:
                        np.testing.assert_array_equal(values(out), want)
                        out.rename(tmp_path / f"killed-{len(killed)}-{time.monotonic_ns()}.zarr")
                sweep.run(grid, out, client.get_executor())
        finally:
            ended.set()
            killer.join()
    assert len(set(killed)) > 2
    np.testing.assert_array_equal(values(out), want)


def test_a_killed_process_worker_is_an_error_that_keeps_what_was_finished(
    small_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    values: Values,
) -> None:
    import psutil

    out = tmp_path / "x.zarr"
    small_file.write_text(small_file.read_text().replace("cells_per_task = 8", "cells_per_task = 1"))
    written = sweep.Store.write

    def kill(self: sweep.Store, result: sweep.Result) -> None:
        written(self, result)
        if self.done.sum() == 2:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # one that has just ended
                    if "loky" in " ".join(child.cmdline()) and "tracker" not in " ".join(child.cmdline()):
                        child.send_signal(signal.SIGKILL)

    monkeypatch.setattr(sweep.Store, "write", kill)
    command = ["sweep", str(small_file), "--out", str(out), "--executor", "loky", "--workers", "1", "--threads", "1"]
    assert cli.main(command) == 2
    assert "a worker ended" in capsys.readouterr().err
    monkeypatch.undo()
    before = sweep.Store(out).done
    assert 2 <= before.sum() < len(before)
    assert cli.main(command) == 0
    with executor("process", threads=1):
        np.testing.assert_array_equal(values(out), values(sweep.run(sweep.load(small_file), tmp_path / "whole.zarr")))


def test_a_worker_with_another_version_is_refused_before_its_numbers_are_written(small: Grid, tmp_path: Path) -> None:
    with (
        ProcessPoolExecutor(
            1, get_context("spawn"), exec, ("import fastthermo; fastthermo.__version__ = '9'",)
        ) as pool,
        pytest.raises(ValueError, match=r"executor: a worker has fastthermo 9, this is 0"),
    ):
        sweep.run(small, tmp_path / "x.zarr", pool)
    assert not sweep.Store(tmp_path / "x.zarr").done.any()


def test_dask_workers_with_another_version_or_none_are_refused_by_name(
    cluster: Any, small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.zarr"
    command = ["sweep", str(small_file), "--out", str(out), "--executor", "dask"]
    command += ["--address", cluster.scheduler_address]
    for preload, says in (
        ("import fastthermo; fastthermo.__version__ = '9'", "has fastthermo 9"),
        ("import sys; sys.modules['fastthermo'] = None", "cannot run fastthermo"),
    ):
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        worker += ["--no-nanny", "--no-dashboard", "--name", "stranger", "--preload", preload]
        stranger = subprocess.Popen(worker, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
        try:
            with distributed.Client(cluster) as client:
                client.wait_for_workers(3, timeout=60)
            assert cli.main(command) == 2
            error = capsys.readouterr().err
            assert says in error
            assert "executor: the worker tcp://" in error
            assert not out.exists()
        finally:
            stranger.terminate()
            stranger.wait()
        with distributed.Client(cluster) as client:
            while len(client.scheduler_info()["workers"]) > 2:
                time.sleep(0.1)


def test_schedulers_that_do_not_answer_or_have_no_workers_are_refused(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "PATIENCE", "1s")
    command = ["sweep", str(small_file), "--executor", "dask", "--address"]
    assert cli.main([*command, "tcp://127.0.0.1:9"]) == 2
    assert "address: no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert cli.main([*command, "nonsense://x"]) == 2
    assert "address: no Dask scheduler answers at nonsense://x: unknown address scheme" in capsys.readouterr().err
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty:
        assert cli.main([*command, empty.scheduler_address]) == 2
    assert "has no workers" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.zarr"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("loky", 0), "workers: wanted at least 1"),
        (("loky", 1, None, 0), "threads: wanted at least 1"),
        (("dask",), "address: wanted the address"),
        (("magic",), "executor: wanted process, loky or dask, got 'magic'"),
    ],
)
def test_a_bad_engine_is_refused_by_name(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match), executor(*arguments):
        pass


def test_the_job_script_of_slurm_starts_a_worker_that_does_the_sweep(
    small: Grid, tmp_path: Path, values: Values, want: np.ndarray
) -> None:
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("needs dask_jobqueue")
    spec = importlib.util.spec_from_file_location("slurm", ROOT / "sweeps" / "slurm.py")
    assert spec
    assert spec.loader
    slurm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slurm)
    with slurm.cluster(cores=1, memory="2GB", walltime="00:10:00", gpus=1, queue="long", account="physics") as cluster:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        script = cluster.job_script()
        for line in ("-p long", "-A physics", "--cpus-per-task=1", "--mem=2G", "-t 00:10:00", "--gpus-per-task=1"):
            assert f"#SBATCH {line}\n" in script
        assert "export OMP_NUM_THREADS=1\n" in script
        assert re.search(r"dask_worker tcp://\S+ .*--nthreads 1 ", script)
        (tmp_path / "job.sh").write_text(script)
        job = subprocess.Popen(
            ["bash", "job.sh"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with distributed.Client(cluster) as client:
                client.wait_for_workers(1, timeout=120)
                executors.check_workers(client)
                out = sweep.run(small, tmp_path / "slurm.zarr", client.get_executor())
        finally:
            os.killpg(job.pid, signal.SIGTERM)
            job.wait()
    np.testing.assert_array_equal(values(out), want)


def test_triton_without_a_gpu_is_refused_in_a_line_before_a_store_is_made(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    small_file.write_text('backend = "triton"\n' + small_file.read_text())
    for engine in (["process"], ["loky", "--workers", "1"]):
        assert cli.main(["sweep", str(small_file), "--executor", *engine]) == 2
        error = capsys.readouterr().err
        assert "error: backend: triton wants a GPU for each worker, 0 are visible" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "small.zarr").exists()
