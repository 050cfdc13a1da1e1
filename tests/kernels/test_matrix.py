"""The matrix unit of the CPU: the integers that vector units make, and its use only where it may be used."""

import multiprocessing
from importlib import import_module
from types import ModuleType
from typing import Any

import numba as compiler
import numpy as np
import pytest
import torch

from fastthermo.kernels import Sums, numba
from fastthermo.kernels.numba import matrix, screen
from fastthermo.kernels.numba.codes import SLACK

USERS: tuple[ModuleType, ...] = (
    screen,
    *(import_module(f"fastthermo.kernels.numba.{name}") for name in ("products", "cumulant")),
)
needs_unit = pytest.mark.skipif(matrix.tiles() is None, reason="no matrix unit here")


@compiler.njit
def multiply(config: Any, probes: Any, begin: Any, count: Any, panel: Any, left: Any, out: Any):  # type: ignore[no-untyped-def]
    steps = matrix.steps_of(probes.shape[2])
    matrix.arrange(config, probes, begin, count, left)
    matrix.configure(config)
    rows = count * probes.shape[1]
    matrix.multiply(config, left, matrix.STEP, matrix.TILE, steps * matrix.TILE, rows, panel, 0, steps, out)
    matrix.release(config)


@needs_unit
@pytest.mark.parametrize("digits", [2, 3])
@pytest.mark.parametrize("queries", [1, 5, 6, 11, 16, 40])
@pytest.mark.parametrize("quads", [9, 16, 17, 196])
def test_products_are_exact(queries: int, digits: int, quads: int) -> None:
    rng = np.random.default_rng(queries)
    probes = rng.integers(-128, 128, (queries + 3, digits, 4 * quads)).astype(np.int8)
    panel = rng.integers(0, 256, quads * 128 + SLACK).astype(np.uint8)  # what follows the panel must not count
    probes[2], panel[:128] = -128, 255
    rows, steps = -(-queries * digits // 16) * 16, -(-quads // 16)
    left, out = rng.integers(-128, 128, rows * steps * 64).astype(np.int8), np.empty((rows, 32), np.int32)
    multiply(matrix.tiles(), probes, 2, queries, panel, left, out.reshape(-1))
    columns = panel[: quads * 128].reshape(quads, 32, 4).transpose(0, 2, 1).reshape(-1, 32).astype(np.int64)
    want = probes[2 : 2 + queries].reshape(-1, 4 * quads).astype(np.int64) @ columns
    np.testing.assert_array_equal(out[: len(want)], want)


def answers(size: int, dimension: int, unit: float, orders: int) -> list[torch.Tensor]:
    """Sums and cumulants where two digits serve, three, and lists; of one order, with unequal weights."""
    rng = np.random.default_rng(dimension)
    centres = rng.integers(40, 210, (3, dimension))
    bytes_ = np.clip(centres[rng.integers(0, 3, size)] + 25 * rng.normal(size=(size, dimension)), 0, 255)
    y = torch.from_numpy(bytes_.astype(np.uint8) if unit == 1 else (unit * np.floor(bytes_)).astype(np.float32))
    phi = torch.full((size,), -np.log(size)) if orders == 2 else torch.from_numpy(rng.normal(size=size)).log_softmax(0)
    packed = numba.pack(y, phi.double())
    beta = torch.from_numpy(np.geomspace(1e-8, 1e-1, 23)) / unit**2
    field = y[:23].double() + torch.from_numpy(rng.normal(size=(23, dimension))) * beta[:, None] ** -0.5
    sums = numba.boltzmann(packed, field, beta, "single")
    probes, slopes = rng.normal(size=(23, orders, dimension)), rng.normal(size=(23, orders))
    found = numba.cumulant(packed, field, beta, sums, torch.from_numpy(probes), torch.from_numpy(slopes), "single")
    return [x for x in (*sums, *found) if x is not None]


@needs_unit
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("orders", [1, 2])
@pytest.mark.parametrize(
    ("size", "dimension", "unit"),
    [(8980, 40, 1.0), (8980, 131, 1 / 256), (8200, 784, 1.0)],  # 8980: the last tile holds 32 states, half a step
)
def test_answers_are_those_of_vector_units_to_the_bit(
    size: int, dimension: int, unit: float, orders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = answers(size, dimension, unit, orders)
    for module in USERS:
        monkeypatch.setattr(module, "tiles", lambda: None)
    for x, y in zip(used, answers(size, dimension, unit, orders), strict=True):
        assert torch.equal(x, y)


def forces() -> Sums:
    y = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9000, 40)).astype(np.uint8))
    packed = numba.pack(y, torch.full((9000,), -np.log(9000)).double())
    sums: Sums = numba.boltzmann(packed, y[:20].double(), torch.full((20,), 1e-5).double(), "single")
    return sums


def assert_forces(want: list[np.ndarray]) -> None:
    assert all((x.numpy() == y).all() for x, y in zip(forces(), want, strict=True))


@needs_unit
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_may_use_it_too() -> None:
    want = [x.numpy() for x in forces()]
    child = multiprocessing.get_context("fork").Process(target=assert_forces, args=(want,))
    child.start()
    child.join(60)
    code = child.exitcode
    child.kill()
    assert code == 0


class Refusing:
    """A C library whose system saves no tiles."""

    def __init__(self, name: None) -> None:
        pass

    def syscall(self, *numbers: Any) -> int:
        assert [x.value for x in numbers] == [158, 0x1023, 18]
        return -1


@pytest.mark.parametrize("lacking", ["system", "CPU", "leave"])
def test_there_is_none_where_system_cpu_or_leave_to_use_it_is_lacking(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix.sys, "platform", "darwin" if lacking == "system" else "linux")
    monkeypatch.setattr(matrix.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(matrix, "has", lambda feature: lacking != "CPU")
    monkeypatch.setattr(matrix.ctypes, "CDLL", Refusing)
    assert matrix.tiles.__wrapped__() is None
