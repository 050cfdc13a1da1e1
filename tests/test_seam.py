"""The seam between devices and backends: who serves whom, and what is said where nobody can."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fastthermo as ft
from fastthermo import _dispatch


def test_a_device_has_its_backend() -> None:
    assert [_dispatch.backend_name(kind) for kind in ("cpu", "cuda", "mps")] == ["numba", "triton", "reference"]


def test_triton_is_refused_where_the_states_are_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"backend: 'triton' runs on a GPU, the states are on 'cpu'.*TRITON_INTERPRET"):
        ft.Ensemble(torch.zeros(3, 2)).boltzmann(torch.zeros(2), 1.0, backend="triton")


def test_the_interpreter_takes_states_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert _dispatch.backend_name("cpu", "triton") == "triton"
    assert _dispatch.backend_name("cpu") == "numba"


def test_a_missing_triton_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("fastthermo.kernels.triton", "triton"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match=r"backend 'triton' needs Triton.*fastthermo\[gpu\].*reference"):
        _dispatch.load("triton")


def test_an_error_inside_a_backend_is_not_taken_for_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(_dispatch, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="'x'"):
        _dispatch.load("triton")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """device(major, minor): the module that asks for the architecture, on such a GPU."""
    pytest.importorskip("triton")
    from fastthermo.kernels.triton import device

    def on(major: int, minor: int) -> Any:
        properties = SimpleNamespace(major=major, minor=minor, name="Some GPU")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        return device

    return on


def test_an_old_architecture_is_refused_by_name(device: Any) -> None:
    with pytest.raises(RuntimeError, match=r"'triton' needs NVIDIA sm_80 .*Some GPU is sm_75: use backend='reference'"):
        device(7, 5).architecture(torch.device("cuda"))


def test_a_new_architecture_is_named(device: Any) -> None:
    assert device(9, 0).architecture(torch.device("cuda")) == "sm_90"


def test_kernels_that_are_not_interpreted_want_a_gpu(device: Any) -> None:
    with pytest.raises(RuntimeError, match=r"'triton' on the CPU wants TRITON_INTERPRET=1"):
        device(9, 0).architecture(torch.device("cpu"))


class Kernel:
    """Launches into an error."""

    __name__ = "_some_kernel"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, grid: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> None:
            raise self.error

        return run


def test_a_tile_that_does_not_fit_is_named(device: Any) -> None:
    from triton.runtime.errors import OutOfResources

    launch, error = device(9, 0).launch, OutOfResources(300000, 232448, "shared memory")
    with pytest.raises(RuntimeError, match=r"a tile of _some_kernel does not fit cpu .*shared memory.*'reference'"):
        launch(Kernel(error), (1,), torch.zeros(1))


def test_a_missing_driver_is_named(device: Any) -> None:
    error = RuntimeError("0 active drivers ([]). There should only be one.")
    with pytest.raises(RuntimeError, match=r"'triton' finds no GPU driver.*'reference'"):
        device(9, 0).launch(Kernel(error), (1,), torch.zeros(1))


def test_an_empty_grid_launches_nothing(device: Any) -> None:
    device(9, 0).launch(Kernel(RuntimeError("launched")), (3, 0), torch.zeros(1))


def test_queries_on_another_device_are_refused() -> None:
    ens = ft.Ensemble(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"field: wanted a tensor on cpu, where the states are, got one on meta"):
        ens.boltzmann(torch.zeros(2, device="meta"), 1.0)


def test_tf32_is_arithmetic_of_gpus_alone() -> None:
    with pytest.raises(ValueError, match=r"precision: 'tf32' is arithmetic of backend 'triton', not of 'numba'"):
        ft.Ensemble(torch.zeros(3, 2)).boltzmann(torch.zeros(2), 1.0, precision="tf32")
