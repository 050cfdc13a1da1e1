"""x' = a x + b mean + c z, and the counter-based noise in it."""

from importlib import import_module
from typing import Any

import numba
import numpy as np
import pytest
import torch

KNOWN = [  # Random123, kat_vectors: counter, key, result
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def normal(
    backend: Any, rows: int, dimension: int, seed: int = 0, step: int = 0, first: int = 0, stream: int = 0
) -> Any:
    zero = torch.zeros(rows, dimension).double()
    return backend.step(zero, zero, 0.0, 0.0, 1.0, seed, step, first, stream)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words_in_torch(counter: list[int], key: list[int], words: str) -> None:
    from fastthermo.kernels.reference.step import philox

    found = philox(*(torch.tensor(c) for c in counter), key[0] + (key[1] << 32))
    assert " ".join(f"{int(w):08x}" for w in found) == words


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words_in_numba(counter: list[int], key: list[int], words: str) -> None:
    philox = import_module("fastthermo.kernels.numba.step").philox

    @numba.njit
    def call(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
        return philox(c0, c1, c2, c3, k0, k1)

    found = call(*(np.uint64(c) for c in counter), *(np.uint64(k) for k in key))
    assert " ".join(f"{int(w):08x}" for w in found) == words


def test_noise_is_box_muller_of_the_counter(backend: Any) -> None:
    """The first four numbers of sample 0 at seed 0 are those of the published words."""
    word = [int(w, 16) for w in KNOWN[0][2].split()]
    radius = [np.sqrt(-2 * np.log((word[i] + 0.5) / 2**32)) for i in (0, 2)]
    angle = [2 * np.pi * word[i] / 2**32 for i in (1, 3)]
    want = [f(angle[i]) * radius[i] for i in (0, 1) for f in (np.cos, np.sin)]
    assert normal(backend, 1, 4)[0].tolist() == pytest.approx(want, rel=1e-13)


def test_noise_is_standard_normal(backend: Any) -> None:
    n, dimension = 20000, 10
    z = normal(backend, n, dimension, seed=5).numpy().ravel()
    size = len(z)
    assert abs(z.mean()) < 3 / np.sqrt(size)
    assert abs(z.var() - 1) < 3 * np.sqrt(2 / size)
    assert abs((z**3).mean()) < 3 * np.sqrt(15 / size)
    assert abs((z**4).mean() - 3) < 3 * np.sqrt(96 / size)
    assert np.abs(z).max() < np.sqrt(-2 * np.log(2.0**-33)) + 1e-12


def test_noise_of_different_dimensions_samples_and_steps_is_uncorrelated(backend: Any) -> None:
    n = 20000
    one, two = normal(backend, n, 6, seed=1).numpy(), normal(backend, n, 6, seed=1, step=1).numpy()
    pairs = [one[:, i] * one[:, j] for i in range(6) for j in range(i)]
    pairs += [one[1:, 0] * one[:-1, 0], *(one[:, i] * two[:, i] for i in range(6))]
    deviations = np.array([np.sqrt(len(p)) * p.mean() for p in pairs])
    assert abs((deviations**2).sum() - len(pairs)) < 3 * np.sqrt(2 * len(pairs))


@pytest.mark.parametrize("change", [{"seed": 1}, {"seed": 1 << 40}, {"step": 1}, {"first": 9}, {"stream": 1}])
def test_noise_depends_on_every_part_of_its_key(backend: Any, change: dict[str, int]) -> None:
    assert not torch.isclose(normal(backend, 4, 5), normal(backend, 4, 5, **change)).any()


def test_noise_does_not_depend_on_how_samples_are_split(backend: Any) -> None:
    whole = normal(backend, 100, 7, seed=3, step=2)
    parts = [
        normal(backend, stop - start, 7, seed=3, step=2, first=start) for start, stop in [(0, 1), (1, 64), (64, 100)]
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_noise_of_a_coordinate_does_not_depend_on_the_dimension(backend: Any) -> None:
    assert torch.equal(normal(backend, 5, 9)[:, :6], normal(backend, 5, 6))


def test_a_negative_seed_is_the_64_bit_word(backend: Any) -> None:
    assert torch.equal(normal(backend, 2, 3, seed=-1), normal(backend, 2, 3, seed=2**64 - 1))


@pytest.mark.parametrize(("rows", "dimension"), [(0, 3), (1, 1), (3, 4), (70, 5), (2, 1023)])
def test_backends_agree_to_rounding(rows: int, dimension: int) -> None:
    from fastthermo.kernels import numba, reference

    one = normal(numba, rows, dimension, seed=12345678901234, step=77, first=1 << 31, stream=2)
    two = normal(reference, rows, dimension, seed=12345678901234, step=77, first=1 << 31, stream=2)
    assert one.shape == two.shape == (rows, dimension)
    assert torch.allclose(one, two, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [0.0, 0.7])
def test_step_is_a_x_plus_b_mean_plus_c_noise(backend: Any, dtype: torch.dtype, c: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(2, 9, 6, generator=generator).to(dtype)
    found = backend.step(x, mean, 0.3, -1.9, c, 4, 5, 6, 1)
    want = 0.3 * x.double() - 1.9 * mean.double() + c * normal(backend, 9, 6, seed=4, step=5, first=6, stream=1)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), want, rtol=torch.finfo(dtype).eps, atol=8 * 2.0**-52)


def test_step_takes_strided_input(backend: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(2, 12, 6, generator=generator)
    want = backend.step(x[::2, ::3].contiguous(), mean[::2, ::3].contiguous(), 0.5, 0.5, 1.0, 0, 0)
    assert torch.equal(backend.step(x[::2, ::3], mean[::2, ::3], 0.5, 0.5, 1.0, 0, 0), want)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dimension", [1, 4, 7])
def test_every_output_is_written(backend: Any, dimension: int) -> None:
    assert not normal(backend, 65, dimension).isnan().any()
