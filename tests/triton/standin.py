"""A device that is not there: calls as far as their launches, through Triton's own binder and compiler, for sm_90."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import triton
from aot import SHARED_LIMIT
from triton.backends.compiler import GPUTarget

from fastthermo.kernels import Noise, Schedule, Sums
from fastthermo.kernels import triton as kernels

TARGET = "sm_90"
MOST = 65535  # programs along the second and third axis of a grid


class Launcher:
    """Of a kernel, which does not run."""

    launched: set[str] = set()  # noqa: RUF012

    def __init__(self, source: Any, metadata: Any) -> None:
        self.name, self.launch_cooperative_grid = source.fn.__name__, False

    def __call__(self, x: int, y: int, z: int, *rest: Any) -> None:
        assert max(y, z) <= MOST, f"{self.name}: a grid of {(x, y, z)}"
        self.launched.add(self.name)


def driver() -> Any:
    properties = {"max_shared_mem": SHARED_LIMIT[TARGET], "multiprocessor_count": 132, "warpSize": 32}
    utils = SimpleNamespace(
        get_device_properties=lambda device: properties,
        load_binary=lambda *arguments: (1, 1, 32, 0, 1024),
        unload_module=lambda module: None,
    )
    return SimpleNamespace(
        utils=utils,
        launcher_cls=Launcher,
        get_current_target=lambda: GPUTarget("cuda", int(TARGET[3:]), 32),
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_active_torch_device=lambda: torch.device("cpu"),
        get_device_interface=lambda: torch.cuda,
        map_python_to_cpp_type=lambda name: name,
        is_active=lambda: True,
    )


@contextmanager
def device() -> Iterator[None]:
    """What kernels would write is 0."""
    empty, like, new = torch.empty, torch.empty_like, torch.Tensor.new_empty
    with ExitStack() as stack:
        for name, made in (
            ("torch.empty", lambda *a, **k: empty(*a, **k).zero_()),
            ("torch.empty_like", lambda *a, **k: like(*a, **k).zero_()),
            ("torch.Tensor.new_empty", lambda *a, **k: new(*a, **k).zero_()),
            ("torch.cuda.device_of", lambda tensor: nullcontext()),
            *((f"fastthermo.kernels.triton.{module}.architecture", lambda _: TARGET) for module in ("pack", "derive")),
        ):
            stack.enter_context(patch(name, made))
        triton.runtime.driver.set_active(driver())
        try:
            yield
        finally:
            triton.runtime.driver.set_active(None)


def launched(op: str, dtype: str, precision: str, size: int, dimension: int, queries: int) -> set[str]:
    """Kernels that a call of `op` launches; "mean" and other first passes do with states alone."""
    generator = torch.Generator().manual_seed(0)
    y = (40 * torch.randn(size, dimension, generator=generator) + 128).clamp(0, 255).to(getattr(torch, dtype))
    field, beta = y[:1].double().repeat(queries, 1), torch.full((queries,), 1e-3).double()
    Launcher.launched = set()
    with device():
        packed = kernels.pack(y, torch.full((size,), -1.0).double())
        nothing = torch.zeros(7, queries).double()
        sums = Sums(torch.zeros(queries, dtype=torch.int64), torch.zeros_like(field), *nothing)
        if op == "mean":
            kernels.boltzmann(packed, field, beta, precision)
        elif op == "covariance":
            kernels.covariance(packed, field, beta, sums, precision)
        elif op == "cumulant":
            probes = torch.ones(queries, 1, dimension).double()
            kernels.cumulant(packed, field, beta, sums, probes, torch.ones(queries, 1).double(), precision)
        else:
            kernels.evolve(packed, field.float(), Schedule(torch.ones(2, 5).double()), Noise(0, 0, 0, 0))
    return Launcher.launched
