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
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastthermo
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
def test_workers_killed_at_ten_random_moments_cost_no_number(
    small_file: Path, tmp_path: Path, values: Values
) -> None:
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

    settings = {"distributed.scheduler.allowed-failures": 100}
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster:
        cluster.scheduler.allowed_failures = settings["distributed.scheduler.allowed-failures"]
        killer = threading.Thread(target=kill, args=(cluster,))
        killer.start()
        try:
            with distributed.Client(cluster) as client:
                while len(killed) < KILLS:
                    sweep.run(grid, tmp_path / f"{out.name}", client.get_executor())
                    if len(killed) < KILLS:
                        np.testing.assert_array_equal(values(out), want)
                        out.rename(tmp_path / f"killed-{len(killed)}-{time.monotonic_ns()}.zarr")
                sweep.run(grid, out, client.get_executor())
        finally:
            ended.set()
            killer.join()
    assert len(set(killed)) > 2
    np.testing.assert_array_equal(values(out), want)
