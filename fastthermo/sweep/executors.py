"""Executors by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
PATIENCE = "20s"  # for a scheduler to answer


@contextmanager
def executor(name: str, workers: int = 2, address: str | None = None) -> Iterator[Executor | None]:
    """None for "process", `workers` processes sharing the cores for "loky", the scheduler at `address` for "dask".

    Raises ValueError for a scheduler that does not answer and one without workers.
    """
    if name == "process":
        yield None
    elif name == "loky":
        from loky import ProcessPoolExecutor

        environment = dict.fromkeys(THREADS, str(max(1, (os.cpu_count() or 1) // workers)))
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
            client = Client(address, timeout=PATIENCE)
        except (OSError, TimeoutError) as error:
            raise ValueError(f"address: no Dask scheduler answers at {address}") from error
        with client:
            if not client.scheduler_info()["workers"]:
                raise ValueError(f"address: the scheduler at {address} has no workers")
            yield client.get_executor()
    else:
        raise ValueError(f"executor: wanted process, loky or dask, got {name!r}")
