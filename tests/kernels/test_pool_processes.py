"""The pool of workers: what signals, forks and exits may count on."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba.core.compiler_lock import global_compiler_lock

from fastthermo.kernels.numba import pool
from fastthermo.kernels.numba.pool import run

pytestmark = [
    pytest.mark.usefixtures("two_threads"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot interrupt itself here")


def leave(number: int, frame: Any) -> None:
    sys.exit()


@needs_signals
@pytest.mark.parametrize(("handler", "error"), [(signal.default_int_handler, KeyboardInterrupt), (leave, SystemExit)])
def test_ctrl_c_drops_the_blocks_that_have_not_started_and_waits_for_the_others_even_if_pressed_again(
    handler: Callable[..., None], error: type[BaseException], request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, handler)))
    together = threading.Barrier(2)
    started, ended = [], []

    def kernel(low: int, high: int) -> None:
        started.append(low)
        together.wait(timeout=10)
        if threading.current_thread() is threading.main_thread():  # the caller's own block is cut short
            time.sleep(10)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        ended.append(low)

    with pytest.raises(error):
        run(kernel, 1000, 1)
    assert len(started) == 2
    assert len(ended) == 1
    out = np.zeros(1000)
    run(lambda low, high: out[low:high].fill(1), 1000, 1)
    assert out.all()


@needs_signals
def test_ctrl_c_is_raised_within_a_block_of_a_compiled_kernel_and_the_pool_stays_usable(
    script: Callable[..., str],
) -> None:
    code = """
spin_all()
start = time.perf_counter()
spin(0, 1, 10**6, np.zeros(1))
length = int(10**6 * 0.03 / (time.perf_counter() - start))

def interrupt(out):
    global sent, done
    time.sleep(0.2)
    sent, done = time.perf_counter(), np.count_nonzero(out)
    os.kill(os.getpid(), signal.SIGINT)

def delay(workers):
    out = np.zeros(500)
    threading.Thread(target=interrupt, args=(out,)).start()
    try:
        run(spin, 500, 1, length, out)
        sys.exit("not interrupted")
    except KeyboardInterrupt:
        found = time.perf_counter() - sent
    before = out.copy()
    time.sleep(0.15)
    assert (out == before).all(), "a block still ran"
    assert np.count_nonzero(out) <= done + 4 * workers
    spin_all()
    return found

delays = []
for workers in (1, 2, 3):
    torch.set_num_threads(workers)
    delays.append(min(delay(workers) for _ in range(3)))
print(json.dumps(delays))
"""
    delays = json.loads(script(code))
    assert max(delays) < 0.2, delays


def test_a_spawned_child_works_and_both_processes_exit(script: Callable[..., str]) -> None:
    code = """
import multiprocessing

if __name__ == "__main__":
    spin_all()
    with multiprocessing.get_context("spawn").Pool(1) as children:
        children.apply(spin_all)
"""
    script(code)


def test_the_interpreter_exits_while_a_thread_computes(script: Callable[..., str]) -> None:
    code = """
work = (spin, 10**6, 1, 10**7, np.zeros(10**6))
threading.Thread(target=run, args=work, daemon=True).start()
time.sleep(1)
"""
    script(code)


def compiled() -> Any:
    @numba.njit(nogil=True)
    def kernel(low, high, out):  # type: ignore[no-untyped-def]
        for i in range(low, high):
            out[i] += i

    return kernel


def use_pool_and_torch(kernel: Any) -> None:
    out = np.zeros(100)
    run(kernel, 100, 3, out)
    assert (out == np.arange(100)).all()
    torch.mm(torch.ones(500, 500), torch.ones(500, 500))


def assert_forked_child_works(kernel: Any) -> None:
    process = multiprocessing.get_context("fork").Process(target=use_pool_and_torch, args=(kernel,))
    process.start()
    process.join(20)
    hangs = process.is_alive()
    process.kill()
    process.join()
    assert not hangs
    assert process.exitcode == 0


@needs_fork
def test_a_forked_child_works_after_its_parent_used_the_pool_and_torch_and_so_does_the_parent() -> None:
    kernel = compiled()
    use_pool_and_torch(kernel)
    for _ in range(3):
        assert_forked_child_works(kernel)
        use_pool_and_torch(kernel)
    assert torch.get_num_threads() == 2


@needs_fork
@pytest.mark.parametrize("how", ["run", "lock", "compiler"])
def test_a_child_forked_while_another_thread_is_in_run_or_holds_a_lock_works(how: str) -> None:
    kernel, stop, started = compiled(), threading.Event(), threading.Event()
    use_pool_and_torch(kernel)

    def compute() -> None:
        while not stop.is_set():
            run(lambda low, high: started.set() or time.sleep(0.001), 50, 1)

    def hold() -> None:
        with pool._lock:
            started.set()
            stop.wait()

    def compile_for_a_while() -> None:
        with global_compiler_lock:
            started.set()
            time.sleep(0.5)

    thread = threading.Thread(target={"run": compute, "lock": hold, "compiler": compile_for_a_while}[how])
    thread.start()
    started.wait()
    try:
        assert_forked_child_works(compiled() if how == "compiler" else kernel)
    finally:
        stop.set()
        thread.join()
