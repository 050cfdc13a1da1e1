"""x' = a x + b mean + c z, with the noise of test_noise.py."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from noise import normal

KERNELS = import_module("fastthermo.kernels.numba.step")  # not the function of that name
DIMENSIONS = [1, 2, 3, 5, 64, 784]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_step_does_not_depend_on_how_samples_are_split(backend: Any, dimension: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(2, 100, dimension, generator=generator, dtype=dtype)
    for c in (0.0, 0.7):
        whole = backend.step(x, mean, 0.3, -1.9, c, 3, 2)
        parts = [
            backend.step(x[i:j], mean[i:j], 0.3, -1.9, c, 3, 2, i)
            for i, j in [(0, 1), (1, 2), (2, 19), (19, 64), (64, 100)]
        ]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_step_does_not_depend_on_the_threads(dimension: int, dtype: torch.dtype, monkeypatch: Any) -> None:
    x = torch.randn(101, dimension, generator=torch.Generator().manual_seed(0), dtype=dtype)
    whole = KERNELS.step(x, -x, 0.3, -1.9, 0.7, 3, 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for task in (1, 7, 60):
            monkeypatch.setattr(KERNELS, "VECTOR_TASK", task)
            monkeypatch.setattr(KERNELS, "SCALAR_TASK", task)
            assert torch.equal(KERNELS.step(x, -x, 0.3, -1.9, 0.7, 3, 2), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("c", [0.0, 0.7])
@pytest.mark.parametrize("dimension", [*DIMENSIONS, 4, 7, 17, 100])
def test_a_block_writes_its_own_rows_only(dimension: int, c: float) -> None:
    x = np.random.default_rng(0).normal(size=(40, dimension)).astype(np.float32)
    key = [np.uint64(k) for k in (1, 2, 3, 4, 5)]
    whole = np.empty_like(x)
    KERNELS._vector_kernel(0, 40, dimension, x.ravel(), x.ravel(), whole.ravel(), 0.3, -1.9, c, *key)
    for low, high in [(0, 1), (3, 4), (7, 26), (39, 40), (8, 8)]:
        out = np.full_like(x, np.nan)
        KERNELS._vector_kernel(low, high, dimension, x.ravel(), x.ravel(), out.ravel(), 0.3, -1.9, c, *key)
        np.testing.assert_array_equal(out[low:high], whole[low:high])
        assert np.isnan(np.delete(out, range(low, high), 0)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [0.0, 0.7])
@pytest.mark.parametrize("dimension", [6, 64])
def test_step_is_a_x_plus_b_mean_plus_c_noise(backend: Any, dimension: int, dtype: torch.dtype, c: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(2, 9, dimension, generator=generator).to(dtype)
    found = backend.step(x, mean, 0.3, -1.9, c, 4, 5, 6, 1)
    z = normal(backend, 9, dimension, seed=4, step=5, first=6, stream=1)
    terms = 0.3 * x.double(), -1.9 * mean.double(), c * z
    size = sum(term.abs() for term in terms)
    assert found.dtype == dtype
    assert ((found.double() - sum(terms)).abs() <= 3 * torch.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("c", [0.0, 1e-3])
@pytest.mark.parametrize(("a", "b"), [(1 / 3, 0.1), (0.0, 1 / 3), (1 + 2.0**-25, -1 / 7)])
def test_a_step_in_float32_has_no_bias(backend: Any, a: float, b: float, c: float) -> None:
    """Factors rounded to float32 would move every step of a trajectory by up to 3e-8 the same way."""
    x, mean = 1 + torch.rand(2, 2000, 50, generator=torch.Generator().manual_seed(0))
    found = backend.step(x, mean, a, b, c, 0, 0).double()
    noise = normal(backend, 2000, 50)
    wrong = (found - (a * x.double() + b * mean.double() + c * noise)) / (abs(a) + abs(b))
    assert abs(wrong.mean()) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_reads_its_factors_and_number_from_the_device(interpreted: Any, dtype: torch.dtype) -> None:
    x, mean = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    factors = 1 / 3, -1.9, 0.7
    on_device = [torch.tensor(factor, dtype=torch.float64) for factor in factors]
    found = interpreted.step(x, mean, *on_device, -1, torch.tensor([77]), 5, 2)
    assert torch.equal(found, interpreted.step(x, mean, *factors, -1, 77, 5, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_without_noise_depends_on_no_key(backend: Any, dtype: torch.dtype) -> None:
    x = torch.randn(9, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = backend.step(x, -x, 0.3, -1.9, 0.0, 1, 2, 3, 4)
    assert torch.equal(found, backend.step(x, -x, 0.3, -1.9, 0.0, 5, 6, 7, 8))


def test_step_takes_strided_input(backend: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(2, 12, 6, generator=generator)
    want = backend.step(x[::2, ::3].contiguous(), mean[::2, ::3].contiguous(), 0.5, 0.5, 1.0, 0, 0)
    assert torch.equal(backend.step(x[::2, ::3], mean[::2, ::3], 0.5, 0.5, 1.0, 0, 0), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 4, 7, 64, 67])
def test_every_output_is_written(backend: Any, dimension: int, dtype: torch.dtype, poisoned: Any) -> None:
    assert not poisoned(lambda: normal(backend, 65, dimension, dtype=dtype)).isnan().any()
