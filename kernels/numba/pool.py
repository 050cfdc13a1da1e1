"""Work for torch.get_num_threads() threads: the caller and a long-lived pool; kernels release the GIL and never nest.

Numba's parallel=True aborts when two threads enter it (workqueue) and hangs after a fork (omp); a pool does neither.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import torch
from numba.core.compiler_lock import global_compiler_lock

POLL = 0.05  # seconds; a signal just before the caller starts to wait, or taken by another thread, does not wake it


def run(kernel: Callable[..., None], queries: int, block: int, *arguments: Any) -> None:
    """kernel(low, high, *arguments) for blocks of at most `block` of `queries` independent items of any kind.

    What a block or a signal handler raises (Ctrl-C) is raised here, once the blocks that had started have ended;
    the others are dropped.
    """
    workers = torch.get_num_threads()
    rounds = max(min(workers, 2), -(-queries // (block * workers)))  # equal shares of at least two blocks
    size = max(1, -(-queries // (rounds * workers)))
    starts = range(0, queries, size)
    if workers == 1 or len(starts) <= 1:
        for low in starts:
            kernel(low, min(low + size, queries), *arguments)
        return
    _quiet()
    call = _Call(kernel, queries, size, arguments)
    try:
        _share(call, workers - 1)
        call.work()  # others take up to a tenth of a millisecond to wake
        call.wait()
    finally:
        call.end()
    if call.error is not None:
        try:
            raise call.error
        finally:
            call.error = None  # its traceback holds this frame


class _Call:
    """The blocks of one `run`. A worker takes the next until none is left, so that they may differ in cost."""

    def __init__(self, kernel: Callable[..., None], queries: int, size: int, arguments: tuple[Any, ...]) -> None:
        self.kernel, self.queries, self.size, self.arguments = kernel, queries, size, arguments
        self.starts = deque(range(0, queries, size))
        self.inside: set[int] = set()  # workers that may hold a block: they enter before they take one
        self.left: SimpleQueue[None] = SimpleQueue()
        self.error: BaseException | None = None

    def work(self) -> None:
        worker = threading.get_ident()
        self.inside.add(worker)
        try:
            while (low := self._take()) is not None:
                self.kernel(low, min(low + self.size, self.queries), *self.arguments)
        except BaseException as error:
            self.starts.clear()
            if self.error is None:
                self.error = error
        self.inside.discard(worker)
        if not self.inside:
            self.left.put(None)

    def _take(self) -> int | None:
        try:
            return self.starts.popleft()
        except IndexError:
            return None

    def wait(self) -> None:
        while self.starts or self.inside:
            with suppress(Empty):
                self.left.get(timeout=POLL)

    def end(self) -> None:
        self.starts.clear()
        self.inside.discard(threading.get_ident())  # where a signal handler raised as it entered or left
        while self.inside:
            try:
                self.wait()
            except BaseException as error:  # of a signal handler; another one may be on its way already
                self.error = self.error or error
        self.arguments = ()  # workers keep the call until they get another


class _Pool:
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        try:
            for _ in range(workers):
                threading.Thread(target=_serve, args=(self.calls,), name="fastthermo", daemon=True).start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for _ in range(self.workers):
            self.calls.put(None)


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    for call in iter(calls.get, None):
        call.work()


_lock = threading.Lock()
_pool: _Pool | None = None


def _nothing(kind: int) -> int:
    return 0


def _openmp() -> Callable[[int], int]:
    """omp_pause_resource_all of the OpenMP that torch was linked with; nothing where there is none."""
    try:
        pause: Any = ctypes.CDLL(torch._C.__file__).omp_pause_resource_all
    except (AttributeError, OSError):
        return _nothing
    pause.argtypes = [ctypes.c_int]
    return pause


_pause = _openmp()


def _quiet() -> None:
    """End the caller's OpenMP threads, which torch starts again with its next parallel operation, for 50 us.

    They would spin for several milliseconds after its last one, on the processors that kernels are to have.
    """
    soft = 1  # settings stay
    _pause(soft)


def _share(call: _Call, workers: int) -> None:
    """Offer a call to a pool of that many workers, which replaces a pool of another number."""
    global _pool
    with _lock:  # no call may come behind the end of a closed pool
        if _pool is None or _pool.workers != workers:
            if _pool is not None:
                _pool.close()
            _pool = None
            _pool = _Pool(workers)
        for _ in range(min(workers, len(call.starts))):
            _pool.calls.put(call)


def _after_fork() -> None:
    """The parent's threads do not exist here: not the pool's, nor torch's, for which its products would wait."""
    global _pool, _lock, _pause
    _pool, _lock = None, threading.Lock()
    _pause = _nothing
    global_compiler_lock.release()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(  # a thread that compiles would leave its lock behind
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_after_fork,
    )
