"""One long-lived pool of torch.get_num_threads() workers; kernels release the GIL and never nest.

Numba's parallel=True aborts when two threads enter it (workqueue) and hangs after a fork (omp); a pool does neither.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import torch

_lock = threading.Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None


def run(kernel: Callable[..., None], queries: int, block: int, *arguments: Any) -> None:
    """kernel(low, high, *arguments) for blocks of at most `block` queries; raises what a block raises."""
    workers = torch.get_num_threads()
    size = max(1, min(block, -(-queries // (2 * workers))))
    blocks = [(low, min(low + size, queries)) for low in range(0, queries, size)]
    if workers == 1 or len(blocks) <= 1:
        for low, high in blocks:
            kernel(low, high, *arguments)
        return
    futures = [_executor(workers).submit(kernel, low, high, *arguments) for low, high in blocks]
    try:
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _executor(workers: int) -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None or _pool[0] != workers:
            _pool = workers, ThreadPoolExecutor(workers, thread_name_prefix="fastthermo")
        return _pool[1]


def _after_fork() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()  # the parent's threads do not exist here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
