"""The pool of workers: what callers, signals, forks and exits may count on."""

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba.core.compiler_lock import global_compiler_lock

from fastthermo import ops
from fastthermo.kernels.numba import pool
from fastthermo.kernels.numba.pool import run

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot interrupt itself here")

SPIN = """
import json, os, signal, sys, threading, time
import numpy as np, torch
from numba import njit
from fastthermo.kernels.numba.pool import run

@njit(nogil=True)
def spin(low, high, length, out):
    for q in range(low, high):
        x = 0.3
        for _ in range(length):
            x = 3.7 * x * (1 - x)
        out[q] = x

def spin_all():
    out = np.zeros(100)
    run(spin, 100, 3, 1000, out)
    assert out.all()
"""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """script(code, *arguments): what a fresh process writes; it must end well, and within a minute."""

    def start(code: str, *arguments: str) -> str:
        path = tmp_path / "script.py"
        path.write_text(SPIN + code, encoding="utf-8")
        command = [sys.executable, "-W", "error", str(path), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result.stdout

    return start


def workers_alive() -> int:
    return sum(thread.name == "fastthermo" for thread in threading.enumerate())


def problem(queries: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    states = ops.States(torch.randn(700, 6, generator=generator), torch.full((700,), 1 / 700).double().log())
    return states, torch.randn(queries, 6, generator=generator).double(), torch.logspace(-2, 2, queries).double()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_item_comes_once_in_blocks_of_the_size_asked_for_and_every_worker_gets_one(workers: int) -> None:
    torch.set_num_threads(workers)
    for queries, block in product([0, 1, 2, 5, 64, 1000], [1, 7, 128]):
        blocks: list[tuple[int, int]] = []
        run(lambda low, high, found: found.append((low, high)), queries, block, blocks)
        blocks.sort()
        assert all(0 < high - low <= block for low, high in blocks)
        assert all(one[1] == two[0] for one, two in pairwise([(0, 0), *blocks, (queries, queries)]))
        assert len(blocks) >= min(queries, workers)


def test_blocks_are_taken_by_whoever_is_free() -> None:
    others = threading.Semaphore(0)

    def kernel(low: int, high: int) -> None:
        if low == 0:
            assert all(others.acquire(timeout=10) for _ in range(99))
        else:
            others.release()

    run(kernel, 100, 1)


@pytest.mark.parametrize("queries", [3, 100, 333])
def test_answers_do_not_depend_on_the_number_of_threads(queries: int) -> None:
    arrays = problem(queries)
    found = []
    for workers in (1, 2, 3):
        torch.set_num_threads(workers)
        found.append(ops.boltzmann(*arrays))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_two_threads_calling_at_once_get_the_bits_of_one_after_the_other() -> None:
    states, field, beta = problem(600)
    parts = [(states, h, b) for h, b in zip(field.split(60), beta.split(60), strict=True)]
    expected = [ops.boltzmann(*part) for part in parts]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda part: ops.boltzmann(*part), parts))
    for one, two in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_threads_that_change_the_number_of_workers_at_once_still_get_their_answers() -> None:
    def kernel(low: int, high: int, out: np.ndarray) -> None:
        out[low:high] += 1

    def calls(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        done = True
        for _ in range(50):
            torch.set_num_threads(int(rng.integers(1, 5)))
            out = np.zeros(30)
            run(kernel, 30, 4, out)
            done &= bool((out == 1).all())
        return done

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(calls, range(4)))


def test_a_change_of_the_number_of_threads_is_respected_and_the_old_workers_end() -> None:
    for workers in (3, 2, 4, 2, 3):
        torch.set_num_threads(workers)
        together, seen = threading.Barrier(workers), set()

        def kernel(low: int, high: int, together: threading.Barrier = together, seen: set[int] = seen) -> None:
            together.wait(timeout=10)
            seen.add(threading.get_ident())

        run(kernel, workers * 5, 1)
        assert len(seen) == workers
    deadline = time.monotonic() + 10
    while workers_alive() > 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers_alive() == 2  # and the caller


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are not listed here")
def test_threads_of_torch_do_not_spin_beside_a_kernel(script: Callable[..., str]) -> None:
    code = """
def threads():
    return set(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
spin_all()
before, x = threads(), torch.ones(200, 1000)
x.double()
torchs = threads() - before
spin_all()
print(len(torchs), len(torchs & threads()), float(x.double().sum()))
"""
    assert script(code).split() == ["1", "0", "200000.0"]


def test_one_worker_is_the_caller() -> None:
    torch.set_num_threads(1)
    seen = set()
    run(lambda low, high: seen.add(threading.get_ident()), 100, 8)
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_error_is_raised_once_after_the_running_blocks_ended_and_the_others_are_dropped(workers: int) -> None:
    torch.set_num_threads(workers)
    together = threading.Barrier(workers)
    started, ended = [], []

    def kernel(low: int, high: int) -> None:
        started.append(low)
        together.wait(timeout=10)
        if low == 0:
            raise ArithmeticError("of block 0")
        time.sleep(0.1)
        ended.append(low)

    with pytest.raises(ArithmeticError, match="of block 0") as caught:
        run(kernel, 1000, 1)
    assert caught.value.__context__ is None
    assert len(started) == workers
    assert sorted([0, *ended]) == sorted(started)
    run(lambda low, high: ended.append(low), 1000, 1)  # raises nothing


def test_when_every_block_fails_one_error_is_raised() -> None:
    def kernel(low: int, high: int) -> None:
        raise ArithmeticError(low)

    for _ in range(20):
        with pytest.raises(ArithmeticError) as caught:
            run(kernel, 100, 1)
        assert caught.value.__context__ is None


class Array:
    """Something a weak reference can be had of."""


@pytest.mark.parametrize("fails", [False, True])
def test_arguments_and_errors_are_not_kept_alive_behind_the_call(fails: bool) -> None:
    class Failure(Exception):
        pass

    def kernel(low: int, high: int, array: Array) -> None:
        if fails:
            raise Failure

    def call() -> tuple[weakref.ref[Any], ...]:
        array = Array()
        try:
            run(kernel, 100, 1, array)
        except Failure as error:
            return weakref.ref(array), weakref.ref(error)
        return (weakref.ref(array),)

    gc.disable()
    try:
        assert [x() for x in call()] == [None] * (1 + fails)
    finally:
        gc.enable()


@needs_signals
def test_ctrl_c_drops_the_blocks_that_have_not_started_and_waits_for_the_others_even_if_pressed_again() -> None:
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

    with pytest.raises(KeyboardInterrupt):
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
