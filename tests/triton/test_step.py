"""The noise and the steps of the Triton backend, interpreted: words as published, the rest as the reference."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastthermo.kernels import Noise, Schedule, reference
from fastthermo.kernels.reference.step import philox

WORD = 1 << 32
NOISE = 5e-7  # relative error allowed to a float32 normal number; the interpreter rounds products before it adds
KNOWN = [  # Random123, kat_vectors: counter, key, result
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(interpreted: Any, sample: Any, draw: Any, seed: int, step: int, stream: int) -> torch.Tensor:
    counters = (torch.as_tensor(c, dtype=torch.int64) for c in (sample, draw))
    signed = (seed + (1 << 63)) % (1 << 64) - (1 << 63)
    return interpreted.call("probes:words", *counters, signed, step, stream)


@pytest.mark.parametrize(("counter", "key", "published"), KNOWN)
def test_philox_gives_the_published_words(interpreted: Any, counter: list[int], key: list[int], published: str) -> None:
    sample, step, draw, stream = counter
    found = words(interpreted, [sample], [draw], key[0] + (key[1] << 32), step, stream)
    assert " ".join(f"{int(w):08x}" for w in found) == published


@settings(max_examples=10)
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    step=st.integers(0, WORD - 1),
    first=st.integers(0, WORD + 5),
    stream=st.integers(0, 9),
)
def test_words_are_those_of_the_reference(interpreted: Any, seed: int, step: int, first: int, stream: int) -> None:
    sample, draw = first + torch.arange(3000) // 7, torch.arange(3000) % 7
    found = words(interpreted, sample, draw, seed, step, stream)
    want = philox(sample, torch.tensor(step), draw, torch.tensor(stream), seed)
    assert torch.equal(found, torch.stack(want))


def exact_box_muller(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In extended precision, without cancellation where u is near 1."""
    first, second = first.astype(np.longdouble), second.astype(np.longdouble)
    u, complement = (first + 0.5) / WORD, (WORD - 1 - first + 0.5) / WORD
    radius = np.sqrt(-2 * np.where(u < 0.5, np.log(u), np.log1p(-complement)))
    turn, rest = np.divmod(second + WORD / 8, WORD / 4)
    angle = (rest - WORD / 8) / WORD * 2 * np.longdouble("3.14159265358979323846")
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = turn.astype(int) % 4
    return radius * np.array(
        [np.choose(turn, [cosine, -sine, -cosine, sine]), np.choose(turn, [sine, cosine, -sine, -cosine])]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_box_muller_is_right_at_both_ends_at_every_eighth_of_a_turn_and_elsewhere(
    interpreted: Any, dtype: torch.dtype
) -> None:
    near = np.arange(-8, 9)
    powers = np.concatenate([2**k + near for k in range(4, 33)])
    ends = np.concatenate([powers, WORD - 1 - powers, np.arange(16), WORD - 1 - np.arange(16)]) % WORD
    eighths = np.concatenate([k * 2**29 + near for k in range(8)]) % WORD
    first, second = (x.ravel() for x in np.meshgrid(ends, eighths))
    random = np.random.default_rng(0).integers(0, WORD, (2, 1 << 18))
    first, second = np.concatenate([first, random[0]]), np.concatenate([second, random[1]])
    found = interpreted.call("probes:box_muller", torch.from_numpy(first), torch.from_numpy(second), dtype).numpy()
    want = exact_box_muller(first, second)
    if dtype == torch.float32:
        error = np.abs(found - want) / np.abs(want).clip(1e-30)
        assert error.max() < NOISE
    else:
        assert np.abs(found - want).max() < 4e-15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "dimension"), [(0, 3), (1, 1), (300, 2), (7, 5), (3, 4), (5, 67), (2, 1030)])
def test_a_step_is_that_of_the_reference(interpreted: Any, rows: int, dimension: int, dtype: torch.dtype) -> None:
    x, mean = torch.randn(2, rows, dimension, generator=torch.Generator().manual_seed(0)).to(dtype)
    for c, first in ((0.7, WORD - 2), (0.0, 5)):
        arguments = 1 / 3, -1.9, c, 12345678901234, 77, first, 2
        found = interpreted.step(x, mean, *arguments)
        want = reference.step(x.double(), mean.double(), *arguments)
        size = x.abs() / 3 + 1.9 * mean.abs() + 8 * c
        rounding = torch.finfo(dtype).eps if dtype == torch.float32 else 4e-15
        assert found.dtype == dtype
        assert ((found - want).abs() <= rounding * size).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_reads_its_factors_and_number_from_the_device(interpreted: Any, dtype: torch.dtype) -> None:
    x, mean = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    factors = 1 / 3, -1.9, 0.7
    on_device = [torch.tensor(factor, dtype=torch.float64) for factor in factors]
    found = interpreted.step(x, mean, *on_device, -1, torch.tensor([77]), 5, 2)
    assert torch.equal(found, interpreted.step(x, mean, *factors, -1, 77, 5, 2))


def test_a_step_in_float32_has_no_bias(interpreted: Any) -> None:
    """Factors rounded to float32 would move every step of a trajectory by up to 3e-8 the same way."""
    x, mean = 1 + torch.rand(2, 500, 200, generator=torch.Generator().manual_seed(0))
    found = interpreted.step(x, mean, 1 / 3, 0.1, 0.0, 0, 0).double()
    assert abs((found - (x.double() / 3 + 0.1 * mean.double())).mean()) < 1e-9


def test_a_step_takes_strided_input(interpreted: Any) -> None:
    x, mean = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(0))
    want = interpreted.step(x[::2, ::3].contiguous(), mean[::2, ::3].contiguous(), 0.5, 0.5, 1.0, 0, 0)
    assert torch.equal(interpreted.step(x[::2, ::3], mean[::2, ::3], 0.5, 0.5, 1.0, 0, 0), want)


def problem(dimension: int, dtype: torch.dtype, size: int = 37, rows: int = 6) -> SimpleNamespace:
    """States with weights, one without, and a pair at 1e-4 that samples near it must tell apart; three steps."""
    generator = torch.Generator().manual_seed(dimension)
    states, x = (torch.randn(n, dimension, generator=generator) for n in (size, rows))
    states[1] = states[0] + 1e-4
    log_weights = torch.randn(size, generator=generator).double().log_softmax(0)
    log_weights[2] = -torch.inf
    x[:2] = states[0]
    table = [[0.9, 0.1, 0.3, 1.2, 0.7], [0.3, 0.8, 0.1, 1.0, 50.0], [0.01, 1.1, 0.0, 0.9, 1e5]]
    schedule = Schedule(torch.tensor(table, dtype=torch.float64))
    return SimpleNamespace(states=states.to(dtype), log_weights=log_weights, x=x.to(dtype), schedule=schedule)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 2, 4, 5, 8])
def test_fused_steps_are_those_of_the_reference(interpreted: Any, dimension: int, dtype: torch.dtype) -> None:
    p = problem(dimension, dtype)
    path = torch.full((3, *p.x.shape), torch.nan, dtype=dtype)
    noise = Noise(-3, 7, WORD - 2, 1)
    packed = interpreted.pack(p.states, p.log_weights)
    end, path = interpreted.call("probes:evolve", packed, p.x, p.schedule, noise, path)
    x, want = p.x, reference.pack(p.states, p.log_weights)
    for i in range(3):  # one at a time, so that what rounding does to one step is not the next one's error
        single = Schedule(p.schedule.table[i : i + 1])
        next_x = reference.evolve(want, x.double(), single, noise._replace(first_step=7 + i))
        tolerance = 2e-6 if dtype == torch.float32 else 1e-13
        assert ((path[i] - next_x).abs() <= tolerance * (1 + x.abs())).all()
        x = path[i]
    assert torch.equal(end, path[-1])


@pytest.mark.parametrize("scheme", ["one mean", "two means"])
def test_steps_that_do_not_fit_one_kernel_are_those_of_the_reference(interpreted: Any, scheme: str) -> None:
    p = problem(5, torch.float64, rows=2)
    after = (
        torch.tensor([[1.1, 2.0, 0.4], [1.0, 60.0, 0.5], [0.9, 1e5, 0.6]]).double() if scheme == "two means" else None
    )
    schedule = p.schedule._replace(after=after, scale=0.5, shift=0.25)
    path = torch.full((3, *p.x.shape), torch.nan, dtype=torch.float64)
    end, path = interpreted.call(
        "probes:evolve", interpreted.pack(p.states, p.log_weights), p.x, schedule, Noise(1), path
    )
    want = torch.empty_like(path)
    reference.evolve(reference.pack(p.states, p.log_weights), p.x, schedule, Noise(1), want)
    assert torch.equal(end, path[-1])
    assert (path - want).abs().max() < 1e-9
