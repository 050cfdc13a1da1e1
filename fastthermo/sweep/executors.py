"""Executors by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import fastthermo
from fastthermo.sweep.measure import version

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
PATIENCE = "20s"  # for a scheduler to answer


@contextmanager
def executor(
    name: str, workers: int = 2, address: str | None = None, threads: int | None = None
) -> Iterator[Executor | None]:
    """None for "process", `workers` processes for "loky", the scheduler at `address` for "dask".

    threads : of each worker's kernels; by default the cores shared among them. Dask's workers have their own settings.

    Raises ValueError for a scheduler that does not answer, one without workers, and workers with another version of the
    package or without it.
    """
    if workers < 1:
        raise ValueError(f"workers: wanted at least 1, got {workers}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: wanted at least 1, got {threads}")
    if name == "process":
        with _threads(threads):
            yield None
    elif name == "loky":
        from loky import ProcessPoolExecutor

        environment = dict.fromkeys(THREADS, str(threads or max(1, (os.cpu_count() or 1) // workers)))
        pool = ProcessPoolExecutor(workers, env=environment)
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, kill_workers=True)
    elif name == "dask":
        if address is None:
            raise ValueError("address: wanted the address of a Dask scheduler, such as tcp://host:8786")
        from distributed import Client

        try:
            client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ValueError(f"address: no Dask scheduler answers at {address}: {error}") from error
        with client:
            check_workers(client)
            yield client.get_executor()
    else:
        raise ValueError(f"executor: wanted process, loky or dask, got {name!r}")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Kernels of this process on `count` threads, for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_workers(client: Any) -> None:
    """ValueError where a Dask scheduler has no workers, or one that lacks this version of the package."""
    found = client.run(version, on_error="return")
    if not found:
        raise ValueError(f"address: the scheduler at {client.scheduler.address} has no workers")
    for worker, answer in found.items():
        if isinstance(answer, Exception):
            raise ValueError(f"executor: the worker {worker} cannot run fastthermo: {answer!r}") from answer
        if answer != fastthermo.__version__:
            raise ValueError(f"executor: the worker {worker} has fastthermo {answer}, this is {fastthermo.__version__}")
