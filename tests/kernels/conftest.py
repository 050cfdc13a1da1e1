"""Boltzmann problems that break naive sums, with their exact answers, for every backend."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastthermo.kernels import Schedule, Sums

BETAS = np.array([1e-6, 1e-3, 1.0, 30.0, 1e3, 1e6])


def _flat(size: int) -> np.ndarray:
    return np.full(size, -np.log(size))


def _random(seed: int, size: int, dimension: int, queries: int, dtype: Any = np.float64, beta: Any = None) -> Any:
    rng = np.random.default_rng(seed)
    states = rng.integers(0, 256, (size, dimension)) if dtype == np.uint8 else rng.normal(size=(size, dimension))
    scale = 60.0 if dtype == np.uint8 else 1.0
    log_weights = np.log(rng.dirichlet(np.ones(size)))
    beta = np.geomspace(0.1, 10, queries) / scale**2 if beta is None else beta
    return states.astype(dtype), log_weights, scale * rng.normal(size=(queries, dimension)), beta


def _removed(dimension: int) -> Any:
    states, log_weights, field, beta = _random(1, 11, dimension, 4, np.float32)
    log_weights[[0, 4, 10]] = -np.inf
    return states, log_weights, field, beta


def _ties(dimension: int, nudge: float) -> Any:
    states = np.random.default_rng(2).integers(-8, 8, (12, dimension)).astype(np.float64)
    middle = np.array([(states[0] + states[k]) / 2 for k in range(1, len(BETAS) + 1)])
    return states, _flat(12), middle + nudge * (states[0] - 1), BETAS


def _close_pair(dimension: int, size: float) -> Any:
    """A near-tie between two states of distance `size` that all others lie far from."""
    rng = np.random.default_rng(7)
    states = 50 * rng.normal(size=(9, dimension))
    states[0] += 200  # far from the mean of the data
    states[1] = states[0] + size * rng.normal(size=dimension)
    middle = (states[0] + states[1]) / 2 + 1e-9 * rng.normal(size=(len(BETAS), dimension))
    return states, _flat(9), middle, BETAS / size**2


def _duplicates(dimension: int) -> Any:
    states, log_weights, field, _ = _random(3, 5, dimension, len(BETAS))
    return np.repeat(states, 3, 0), np.repeat(log_weights, 3) - np.log(3), field, BETAS


def _far(dimension: int) -> Any:
    states, log_weights, field, _ = _random(4, 10, dimension, len(BETAS), np.float32)
    return states, log_weights, 1e4 * field / np.linalg.norm(field, axis=1, keepdims=True), BETAS


def _offset(dimension: int) -> Any:
    states, log_weights, field, _ = _random(5, 10, dimension, len(BETAS))
    return states + 1e4, log_weights, field + 1e4, BETAS


def _strided(dimension: int) -> Any:
    states, log_weights, field, beta = _random(6, 26, 3 * dimension, 3)
    return states[::2, ::3], log_weights[::2], field[:, ::3], beta


def _frozen(dimension: int) -> Any:
    """1 - w_max = 1e-11 and below: the second state is all there is."""
    states = np.full((4, dimension), 0.3)
    states[1:, :2] += [[1.0, 0.5], [0.0, 3.0], [-4.0, 1.0]]
    return states, _flat(4), np.full((6, dimension), 0.3), np.array([40.0, 74.0, 200.0, 400.0, 900.0, 1100.0])


def _in(dimensions: tuple[int, ...], name: str, make: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    return {f"{name} in {d}": lambda d=d: make(d, *arguments) for d in dimensions}


BOTH = (4, 24)  # below and above the dimension from which backends may use products
CASES: dict[str, Callable[[], Any]] = {
    "one state": lambda: _random(10, 1, 3, 4),
    "one dimension": lambda: _random(11, 7, 1, 3, np.float32),
    "float64": lambda: _random(13, 13, 7, 3),
    "float32": lambda: _random(14, 13, 37, 3, np.float32),
    "bytes": lambda: _random(15, 13, 30, 3, np.uint8),
    "above a tile": lambda: _random(16, 1027, 2, 2, np.float32, beta=np.array([0.1, 300.0])),
    "above a tile of many": lambda: _random(19, 259, 18, 5, np.float32, beta=np.geomspace(0.01, 10, 5)),
    "above a tile of long rows": lambda: _random(17, 34, 1100, 2, beta=np.array([1e-3, 0.02])),
    **_in(BOTH, "all temperatures", lambda d: _random(18, 11, d, len(BETAS), beta=BETAS)),
    **_in(BOTH, "states removed", _removed),
    **_in(BOTH, "exact ties", _ties, 0.0),
    **_in(BOTH, "near-ties", _ties, 1e-9),
    **_in(BOTH, "a close pair", _close_pair, 1.0),
    **_in(BOTH, "a closer pair", _close_pair, 1e-3),
    **_in(BOTH, "duplicates", _duplicates),
    **_in(BOTH, "far queries", _far),
    **_in(BOTH, "common offset", _offset),
    **_in(BOTH, "strided", _strided),
    **_in(BOTH, "frozen", _frozen),
}


@lru_cache(None)
def _problem(name: str, exact: Any, plain: Any) -> SimpleNamespace:
    arrays = CASES[name]()
    truth = exact(*arrays)
    torch_arrays = [torch.from_numpy(np.asarray(x)) if x.flags.c_contiguous else _view(x) for x in arrays]
    alive = truth.logits > -690
    plain_error = np.where(alive, np.abs(plain(*arrays, torch.float64).logits - np.where(alive, truth.logits, 0)), 0)
    inherent = arrays[3][:, None] * truth.work * (arrays[0].shape[1] + 4) * 2.0**-53
    state_slack = 1e-12 + 2 * plain_error + inherent
    matter = alive & (truth.logits >= np.minimum(truth.log_rest[:, None], 0) - 40)
    slack = np.where(matter, state_slack, 0).max(1)
    return SimpleNamespace(
        name=name,
        states=torch_arrays[0],
        rest=torch_arrays[1:],
        truth=truth,
        slack=slack,
        state_slack=state_slack,
    )


def _view(x: np.ndarray) -> torch.Tensor:
    """The same numbers as a tensor with the strides of x."""
    return torch.as_strided(torch.from_numpy(x.base), x.shape, [s // x.itemsize for s in x.strides])


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, exact: Any, plain: Any) -> SimpleNamespace:
    """states, rest = [log_weights, field, beta], the exact `truth` and `slack`: the relative error allowed a query.

    state_slack (B, N) is 1e-12, twice the logit error of a plain float64 implementation, and the rounding that the
    energy of a state relative to the dominant one has in itself; slack (B,) its largest over the states that matter.
    """
    return _problem(request.param, exact, plain)


class OnGpu:
    """A backend that is given copies of its arguments on the GPU and gives copies of its results on the CPU."""

    def __init__(self, name: str) -> None:
        self.backend = import_module(f"fastthermo.kernels.{name}")

    def __getattr__(self, op: str) -> Any:
        kernel = getattr(self.backend, op)
        if op == "pack":
            return lambda *arguments: kernel(*(x.cuda() for x in arguments))
        return lambda *arguments: moved_to("cpu", kernel(*(moved_to("cuda", x) for x in arguments)))


def moved_to(device: str, x: Any) -> Any:
    """x with all tensors but those of a pack on the device."""
    if isinstance(x, torch.Tensor):
        return x.to(device)
    if isinstance(x, Sums | Schedule):
        return type(x)(*(moved_to(device, y) for y in x))
    return tuple(moved_to(device, y) for y in x) if type(x) is tuple else x


# The interpreter takes seconds for what a GPU does at once: there, all cases are run.
INTERPRETED = {
    "one state",
    "one dimension",
    "float32",
    "bytes",
    "above a tile of many",
    "states removed in 4",
    "exact ties in 24",
    "near-ties in 4",
    "a closer pair in 24",
    "duplicates in 4",
    "far queries in 24",
    "frozen in 4",
    "frozen in 24",
}
BACKENDS = ["reference", "numba", "triton", pytest.param("triton on a GPU", marks=pytest.mark.gpu)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Any:
    """Triton in its interpreter, and on a GPU where there is one."""
    if request.param == "triton":
        name = getattr(request.node, "callspec", SimpleNamespace(params={})).params.get("case")
        if name is not None and name not in INTERPRETED:
            pytest.skip("left to a GPU")
        return request.getfixturevalue("interpreted")
    if request.param == "triton on a GPU":
        return OnGpu("triton")
    return import_module(f"fastthermo.kernels.{request.param}")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """poisoned(call, *arguments): with np.empty and np.empty_like filled with NaN, or the most negative integer."""
    empty, empty_like = np.empty, np.empty_like

    def poison(x: np.ndarray) -> np.ndarray:
        x.fill(np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).min)
        return x

    def run(call: Callable[..., Any], *arguments: Any) -> Any:
        call(*arguments)  # kernels are compiled with np.empty itself
        monkeypatch.setattr(np, "empty", lambda *a, **k: poison(empty(*a, **k)))
        monkeypatch.setattr(np, "empty_like", lambda *a, **k: poison(empty_like(*a, **k)))
        return call(*arguments)

    return run


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


@pytest.fixture
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
