"""The protocol: warm up everybody, then take turns, and compare with what the machine can do in the same minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import Work
from contest import Running, best_of
from numba import njit
from tqdm import tqdm

OFTEN = 1000
PAUSE = 0.02  # before each call: idle threads of the last one stop spinning


class Times(NamedTuple):
    """Least and median milliseconds of some rounds."""

    least: float
    middle: float
    rounds: int


def race(
    runs: Mapping[str, Running],
    rounds: int = 3,
    seconds: float = 10.0,
    progress: bool = True,
    lost: Callable[[str, Exception], None] | None = None,
) -> dict[str, Times]:
    """Times of all runs, in turns, each round starting with another: at least `rounds`, then more within `seconds`.

    lost : told of a run that fails, which is out of the race (memory may not do for all at once); it may raise.
    """
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}

    def turn(name: str) -> None:
        try:
            times[name].append(1e3 * runs[name].seconds())
        except Exception as error:
            if lost is None:
                raise
            lost(name, error)
            names.remove(name)
            del times[name]

    for name in list(names):
        turn(name)
    times = {name: [] for name in names}
    start, done = time.perf_counter(), 0
    with tqdm(desc="rounds", leave=False, disable=None if progress else True) as bar:
        while done < rounds or (time.perf_counter() - start) * (1 + 1 / done) < seconds:
            for name in names[done % len(names) :] + names[: done % len(names)]:
                time.sleep(PAUSE)
                turn(name)
            done += 1
            bar.update()
    return {name: Times(min(found), median(found), done) for name, found in times.items()}


class Rates(NamedTuple):
    """Operations a second of torch.mm, exponentials a second, bytes a second, with all threads."""

    flops: float
    exps: float
    bandwidth: float

    def floor(self, work: Work) -> float:
        """Least milliseconds: products and exponentials share the units, memory traffic runs beside them."""
        return 1e3 * max(work.flop / self.flops + work.exps / self.exps, work.bytes / self.bandwidth)

    def __str__(self) -> str:
        return (
            f"torch.mm {self.flops / 1e9:.0f} Gflop/s, exp {self.exps / 1e9:.2f} G/s, "
            f"memory {self.bandwidth / 1e9:.1f} GB/s"
        )


def measure_rates(size: int = 1536, memory: int = 2**26, device: str = "cpu") -> Rates:
    """What this machine does at the moment: a square float32 product, exponentials in cache, a copy and a sum.

    On a GPU a float32 product is three of tf32, on tensor cores.
    """
    if device == "cuda":
        return _gpu_rates(memory)
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty_like(a)
    flops = 2 * size**3 / best_of(lambda: torch.mm(a, b, out=out), 4)
    x = torch.zeros(memory)
    y = torch.empty_like(x)
    copy, read = best_of(lambda: y.copy_(x)), best_of(x.sum)
    return Rates(flops, max(_torch_exp_rate(), _vector_exp_rate()), 4 * memory * max(2 / copy, 1 / read))


def _gpu_rates(memory: int) -> Rates:
    from gpu_exponentials import exponentials

    a, b = torch.randn(8192, 8192, device="cuda"), torch.randn(8192, 8192, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = True
    flops = 2 * 8192**3 / best_of(lambda: torch.mm(a, b), 4) / 3
    torch.backends.cuda.matmul.allow_tf32 = False
    x = torch.zeros(16 * memory, device="cuda")
    y = torch.empty_like(x)
    copy, read = best_of(lambda: y.copy_(x), 4), best_of(x.sum, 4)
    count, call = exponentials(OFTEN)
    return Rates(flops, count / best_of(call, 4), 4 * 16 * memory * max(2 / copy, 1 / read))


def _torch_exp_rate() -> float:
    x = torch.linspace(-10, 0, 2**17)
    out = torch.empty_like(x)
    return _repeated(lambda: torch.exp(x, out=out), len(x))


def _vector_exp_rate() -> float:
    """A polynomial in vectors, each thread over a piece that fits its cache."""
    threads = torch.get_num_threads()
    pieces = [np.linspace(-10, 0, 2**12, dtype=np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return _repeated(lambda: list(pool.map(_exp2_often, pieces)), OFTEN * threads * 2**12, 1)


def _repeated(call: Callable[[], Any], count: int, times: int = 20) -> float:
    return times * count / best_of(lambda: [call() for _ in range(times)], 4)


@njit(nogil=True, fastmath={"contract", "nsz"})
def _exp2_often(x: np.ndarray) -> np.ndarray:
    """2^x, over and over: range reduction by rounding, a polynomial of degree 6, the exponent as bits."""
    out = np.empty_like(x)
    magic = np.float32(12582912.0)  # 1.5 2^23: adding it rounds to the nearest integer
    for _ in range(OFTEN):
        for i in range(len(x)):
            k = (x[i] + magic) - magic
            f = x[i] - k
            p = np.float32(1.535336188319500e-4)
            p = p * f + np.float32(1.339887440266574e-3)
            p = p * f + np.float32(9.618437357674640e-3)
            p = p * f + np.float32(5.550332471162809e-2)
            p = p * f + np.float32(2.402264791363012e-1)
            p = p * f + np.float32(6.931472028550421e-1)
            p = p * f + np.float32(1)
            out[i] = p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return out
