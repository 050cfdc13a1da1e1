"""On a GPU: a worker's sums by Triton, and one worker a GPU."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton")
pytest.importorskip("msgspec")
pytest.importorskip("zarr")

from fastthermo import sweep
from fastthermo.sweep import Grid, measures
from fastthermo.sweep.models import Data, Sphere
from fastthermo.sweep.times import Times
from fastthermo.sweep.transition import Transition

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def free_again() -> Iterator[None]:
    """The GPU that this process took."""
    yield
    measures.gpu.cache_clear()
    while measures._locks:
        measures._locks.pop().close()


@pytest.mark.parametrize(
    "keys",
    [
        {"models": (Sphere((3,)),), "measure": Transition((0.05, 0.5, 6)), "sizes": (2000,), "seeds": 2},
        {"models": (Data(("digits",), ((0, 1),)),), "measure": Times(queries=64), "sizes": (0, 200)},
    ],
    ids=["transition", "times"],
)
def test_a_sweep_on_a_gpu_agrees_with_one_on_the_cpu(keys: dict[str, object], tmp_path: Path) -> None:
    here = sweep.dataset(sweep.run(Grid(**keys), tmp_path / "cpu.zarr"))  # type: ignore[arg-type]
    there = sweep.dataset(sweep.run(Grid(**keys, backend="triton"), tmp_path / "gpu.zarr"))  # type: ignore[arg-type]
    for name in set(here) - {"seconds", "measured", "error_bound"}:
        rtol = 0.2 if name.endswith("_error") else 1e-5
        np.testing.assert_allclose(there[name], here[name], rtol=rtol, err_msg=name)
    assert (there["error_bound"].to_numpy() > 0).all()


def test_each_worker_has_a_gpu_of_its_own() -> None:
    import torch

    code = "from fastthermo.sweep.measures import gpu; print(gpu(), flush=True); input()"
    count = torch.cuda.device_count()
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        names = [worker.stdout.readline().strip() for worker in workers if worker.stdout]
        assert sorted(names) == sorted(f"cuda:{i}" for i in range(count))
        late = subprocess.run([sys.executable, "-c", code], input="\n", capture_output=True, text=True, timeout=250)
        assert f"{count} are visible and none of them is free" in late.stderr
    finally:
        for worker in workers:
            worker.communicate("\n")
