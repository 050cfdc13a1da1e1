"""alpha, sigma, drift and diffusion of every process against closed forms, and time as the inverse of beta."""

import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastthermo as ft

VP = ft.VariancePreserving(0.1, 20.0)
PROCESSES = {
    "VE": ft.VarianceExploding(),
    "VE 3": ft.VarianceExploding(3.0, t_min=0.1, t_max=20.0),
    "OU": ft.OrnsteinUhlenbeck(),
    "VP": VP,
    "EDM": ft.EDM(),
    "flow": ft.FlowMatching(),
    "DDPM": ft.DDPM.linear(),
}


def _rate(t: Any) -> Any:
    return 0.1 + 19.9 * t


CLOSED: dict[str, tuple[Callable[[Any], Any], ...]] = {  # alpha, sigma, drift, diffusion
    "VE": (np.ones_like, np.sqrt, np.zeros_like, np.ones_like),
    "VE 3": (np.ones_like, lambda t: 3 * np.sqrt(t), np.zeros_like, lambda t: np.full_like(t, 9)),
    "OU": (lambda t: np.exp(-t), lambda t: np.sqrt(-np.expm1(-2 * t)), lambda t: -np.ones_like(t), lambda t: 0 * t + 2),
    "VP": (
        lambda t: np.exp(-(t**2) * 19.9 / 4 - 0.1 * t / 2),
        lambda t: np.sqrt(-np.expm1(-(t**2) * 19.9 / 2 - 0.1 * t)),
        lambda t: -_rate(t) / 2,
        _rate,
    ),
    "EDM": (np.ones_like, lambda t: t, np.zeros_like, lambda t: 2 * t),
    "flow": (lambda t: 1 - t, lambda t: t, lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)),
}


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest) -> ft.Process:
    return PROCESSES[request.param]


def inside(process: ft.Process, n: int = 50) -> np.ndarray:
    return process.t_min + (process.t_max - process.t_min) * np.linspace(0, 1, n) ** 3


@pytest.mark.parametrize("name", CLOSED)
def test_amplitudes_and_rates_are_the_closed_forms(name: str) -> None:
    process = PROCESSES[name]
    t = inside(process)
    values = process.alpha(t), process.sigma(t), process.drift(t), process.diffusion(t)
    for found, formula in zip(values, CLOSED[name], strict=True):
        np.testing.assert_allclose(found, formula(t), rtol=1e-12)


def test_ddpm_passes_through_its_table() -> None:
    table = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    process, t = ft.DDPM(table), np.arange(1000)
    np.testing.assert_allclose(process.alpha(t) ** 2, table, rtol=1e-12)
    np.testing.assert_allclose(process.sigma(t) ** 2, 1 - table, rtol=1e-12)
    np.testing.assert_allclose(process.beta(t), table / (1 - table), rtol=1e-12)


def test_ddpm_between_steps_is_variance_preserving_and_linear_in_log_beta() -> None:
    process = ft.DDPM.linear(steps=10)
    t = np.linspace(0.05, 8.95, 90)
    assert np.allclose(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1, rtol=1e-14)
    np.testing.assert_allclose(process.diffusion(t), -2 * process.drift(t), rtol=1e-12)
    middle = np.sqrt(process.beta(np.arange(9)) * process.beta(np.arange(1, 10)))
    np.testing.assert_allclose(process.beta(np.arange(9) + 0.5), middle, rtol=1e-12)


def test_beta_is_alpha_squared_over_sigma_squared(process: ft.Process) -> None:
    t = inside(process)
    np.testing.assert_allclose(process.beta(t), process.alpha(t) ** 2 / process.sigma(t) ** 2, rtol=1e-14)


def test_beta_falls_with_time(process: ft.Process) -> None:
    assert (np.diff(process.beta(inside(process))) < 0).all()


def test_variance_obeys_the_forward_equation(process: ft.Process) -> None:
    """d sigma^2 / dt = 2 f sigma^2 + g^2 and d alpha / dt = f alpha, by central differences."""
    t = np.linspace(process.t_min, process.t_max, 14)[1:-1]  # between the steps of a DDPM
    h = 1e-5 * t

    def slope(f: Callable[[Any], Any]) -> Any:
        return (f(t + h) - f(t - h)) / (2 * h)

    variance = process.sigma(t) ** 2
    want = 2 * process.drift(t) * variance + process.diffusion(t)
    scale = np.abs(2 * process.drift(t) * variance) + process.diffusion(t)
    assert (np.abs(slope(lambda x: process.sigma(x) ** 2) - want) < 1e-6 * scale).all()
    assert (np.abs(slope(process.alpha) - process.drift(t) * process.alpha(t)) < 1e-6 / t).all()


@pytest.mark.parametrize("name", PROCESSES)
@given(share=st.floats(0, 1))
def test_time_inverts_beta(name: str, share: float) -> None:
    process = PROCESSES[name]
    low, high = np.log(process.beta_range)
    beta = float(np.exp(low + share * (high - low)))
    t = process.time(beta)
    assert process.t_min <= t <= process.t_max
    assert process.beta(t) == pytest.approx(beta, rel=1e-12)


def test_time_takes_arrays_of_any_shape(process: ft.Process) -> None:
    t = np.linspace(process.t_min, process.t_max, 6).reshape(2, 3)
    assert process.time(process.beta(t)).shape == (2, 3)
    np.testing.assert_allclose(process.time(process.beta(t)), t, rtol=1e-9, atol=1e-12)


def test_the_ends_are_their_own_times(process: ft.Process) -> None:
    low, high = process.beta_range
    assert process.time(low) == process.t_max
    assert process.time(high) == process.t_min


def test_times_are_uniform_in_log_beta(process: ft.Process) -> None:
    times = process.times(20)
    assert times[0] == process.t_max
    assert times[-1] == process.t_min
    np.testing.assert_allclose(np.diff(np.log(process.beta(times)), 2), 0, atol=1e-9)


def test_times_may_start_and_end_inside() -> None:
    times = ft.OrnsteinUhlenbeck().times(5, 2.0, 0.5)
    assert times[0] == 2.0
    assert times[-1] == 0.5
    with pytest.raises(ValueError, match="t_start"):
        ft.OrnsteinUhlenbeck().times(5, 0.5, 2.0)


@pytest.mark.parametrize("method", ["alpha", "sigma", "beta", "drift", "diffusion"])
@pytest.mark.parametrize("t", [-1.0, 2e4, math.nan])
def test_times_out_of_range_are_refused(process: ft.Process, method: str, t: float) -> None:
    with pytest.raises(ValueError, match=r"^t: "):
        getattr(process, method)([process.t_min, t])


def test_ends_rounded_to_float32_are_still_in_range(process: ft.Process) -> None:
    for t in (process.t_min, process.t_max):
        assert process.alpha(np.float32(t)) == pytest.approx(float(process.alpha(t)), rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, -1.0, 1e30, math.nan, math.inf])
def test_betas_out_of_range_are_refused(process: ft.Process, beta: float) -> None:
    with pytest.raises(ValueError, match=r"^beta: "):
        process.time(beta)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ft.VarianceExploding(0.0), "sigma"),
        (lambda: ft.VarianceExploding(-1.0), "sigma"),
        (lambda: ft.VarianceExploding(math.inf), "sigma"),
        (lambda: ft.VarianceExploding(math.nan), "sigma"),
        (lambda: ft.VarianceExploding(t_min=0.0), "t_min"),
        (lambda: ft.VarianceExploding(t_min=-1.0), "t_min"),
        (lambda: ft.VarianceExploding(t_max=math.inf), "t_max"),
        (lambda: ft.OrnsteinUhlenbeck(t_min=0.0), "t_min"),
        (lambda: ft.OrnsteinUhlenbeck(t_min=-0.1), "t_min"),
        (lambda: ft.OrnsteinUhlenbeck(t_min=2.0, t_max=1.0), "t_min"),
        (lambda: ft.OrnsteinUhlenbeck(t_min=math.nan), "t_min"),
        (lambda: ft.EDM(t_min=0.0), "t_min"),
        (lambda: ft.FlowMatching(t_max=1.0), "t_max"),
        (lambda: ft.FlowMatching(t_min=0.0), "t_min"),
        (lambda: ft.VariancePreserving(-1.0, -2.0), "beta|t_min"),
        (lambda: ft.VariancePreserving(10.0, -5.0), "beta"),
        (lambda: ft.DDPM([0.5]), "alphas_bar"),
        (lambda: ft.DDPM([0.5, 0.5]), "alphas_bar"),
        (lambda: ft.DDPM([0.5, 0.9]), "alphas_bar"),
        (lambda: ft.DDPM([1.0, 0.5]), "alphas_bar"),
        (lambda: ft.DDPM([0.5, 0.0]), "alphas_bar"),
        (lambda: ft.DDPM([0.5, math.nan]), "alphas_bar"),
        (lambda: ft.DDPM([]), "alphas_bar"),
        (lambda: ft.DDPM([[0.5, 0.4]]), "alphas_bar"),
    ],
)
def test_bad_parameters_are_refused_by_name(make: Callable[[], ft.Process], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_processes_are_values(process: ft.Process) -> None:
    assert process == pickle.loads(pickle.dumps(process))
    assert dataclasses.is_dataclass(process)
    with pytest.raises(dataclasses.FrozenInstanceError):
        process.t_min = 0.5  # type: ignore[misc]


def test_processes_with_different_tables_differ() -> None:
    assert ft.DDPM.linear(last=0.01) != ft.DDPM.linear(last=0.02)
    assert ft.VarianceExploding(1.0) != ft.VarianceExploding(2.0)
    assert ft.OrnsteinUhlenbeck(t_max=5.0) != ft.OrnsteinUhlenbeck()


def test_a_table_changed_later_does_not_change_the_process() -> None:
    table = np.array([0.9, 0.5, 0.1])
    process = ft.DDPM(table)
    before = float(process.alpha(1))
    table[1] = 0.4
    assert process.alpha(1) == before


@pytest.mark.parametrize("n", [1, 0, 2.0])
def test_both_ends_are_times(n: int) -> None:
    with pytest.raises(ValueError, match=f"n: wanted an integer of at least 2, .*got {n}"):
        ft.OrnsteinUhlenbeck().times(n)
