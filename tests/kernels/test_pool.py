"""The pool of workers: what callers may count on."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastthermo import ops
from fastthermo.kernels.numba.pool import run

pytestmark = pytest.mark.usefixtures("two_threads")


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
