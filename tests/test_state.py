"""Thermodynamic identities of a Boltzmann state, at random ensembles, fields and temperatures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastthermo as ft

SCALARS = ["log_evidence", "regularised_energy", "entropy", "energy_variance", "participation", "n_eff"]


@st.composite
def problems(draw: Callable[..., Any], coldest: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """states (N, D) and field (B, D) on a grid of sixteenths, log_weights (N,) and beta."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, dimension = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    states = rng.integers(-64, 65, (size, dimension)) / 16
    field = rng.integers(-64, 65, (draw(st.integers(1, 3)), dimension)) / 16
    return states, np.log(rng.dirichlet(np.ones(size))), field, 10 ** draw(st.floats(-4, coldest))


def slack(states: np.ndarray, field: np.ndarray, beta: float) -> float:
    """1e-12 of the largest logit, which is what rounding of the inputs does."""
    return 1e-12 * max(1.0, beta * ((states[:, None] - field) ** 2).sum(-1).max())


def assert_same(one: Any, two: Any, allowed: float, names: list[str] = SCALARS) -> None:
    for name in names:
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(a, b, rtol=allowed, atol=allowed, err_msg=name)


@given(problems())
def test_free_energy_is_energy_minus_temperature_times_entropy(problem: Any) -> None:
    states, log_weights, field, beta = problem
    s = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    allowed = 1e-12 * (1 + np.abs(s.energy) + np.abs(s.entropy) / beta + (field**2).sum(1))
    assert (np.abs(s.free_energy - (s.energy - s.entropy / beta)) <= allowed).all()
    assert (np.abs(s.regularised_free_energy - (s.regularised_energy - s.entropy / beta)) <= allowed).all()
    assert (np.abs(s.free_energy + s.log_partition / beta) <= allowed).all()


@given(problems())
def test_regularisation_adds_half_the_squared_field(problem: Any) -> None:
    states, log_weights, field, beta = problem
    s = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    half = (field**2).sum(1) / 2
    assert (np.abs(s.log_evidence + beta * half - s.log_partition) <= 1e-12 * (1 + np.abs(s.log_evidence))).all()
    assert (np.abs(s.energy + half - s.regularised_energy) <= 1e-12 * (1 + s.regularised_energy)).all()
    allowed = 1e-12 * (1 + np.abs(s.regularised_free_energy))
    assert (np.abs(s.free_energy + half - s.regularised_free_energy) <= allowed).all()


@given(problems())
def test_entropy_lies_between_that_of_one_state_and_of_the_prior(problem: Any) -> None:
    states, log_weights, field, beta = problem
    s = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    assert (s.entropy <= 1e-12).all()
    assert (s.entropy >= log_weights.min() - 1e-12).all()
    assert ((s.n_eff >= 1 - 1e-12) & (s.n_eff <= len(states) * (1 + 1e-12))).all()
    assert (s.heat_capacity >= 0).all()


@given(problems(), st.integers(-1000, 1000))
def test_a_common_translation_moves_only_the_mean(problem: Any, offset: int) -> None:
    states, log_weights, field, beta = problem
    one = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    two = ft.boltzmann(ft.Ensemble(states + offset, log_weights), field + offset, beta)
    assert_same(one, two, 1e-12, [*SCALARS, "force"])
    np.testing.assert_allclose(two.mean, one.mean + offset, rtol=1e-14, atol=1e-12)


@given(problems(), st.integers(0, 100))
def test_a_rotation_rotates_the_mean_and_changes_no_scalar(problem: Any, seed: int) -> None:
    states, log_weights, field, beta = problem
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(states.shape[1],) * 2))
    one = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    two = ft.boltzmann(ft.Ensemble(states @ turn, log_weights), field @ turn, beta)
    allowed = slack(states, field, beta)
    assert_same(one, two, allowed)
    np.testing.assert_allclose(two.mean, one.mean @ turn, atol=allowed)


@given(problems(), st.integers(0, 100))
def test_the_order_of_the_states_does_not_matter(problem: Any, seed: int) -> None:
    states, log_weights, field, beta = problem
    order = np.random.default_rng(seed).permutation(len(states))
    one = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    two = ft.boltzmann(ft.Ensemble(states[order], log_weights[order]), field, beta)
    assert_same(one, two, 1e-12, [*SCALARS, "force", "mean"])


@given(problems(), st.integers(-8, 8))
def test_a_change_of_units_leaves_the_weights(problem: Any, power: int) -> None:
    states, log_weights, field, beta = problem
    unit = 2.0**power
    one = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    two = ft.boltzmann(ft.Ensemble(unit * states, log_weights), unit * field, beta / unit**2)
    assert_same(one, two, 1e-12, ["log_evidence", "entropy", "participation", "heat_capacity"])
    np.testing.assert_allclose(two.mean, unit * one.mean, rtol=1e-12, atol=1e-12 * unit)
    np.testing.assert_allclose(two.regularised_energy, unit**2 * one.regularised_energy, rtol=1e-12)


@given(problems(), st.integers(0, 100))
def test_states_of_no_weight_do_not_count(problem: Any, seed: int) -> None:
    states, log_weights, field, beta = problem
    rng = np.random.default_rng(seed)
    removed = rng.random(len(states)) < 0.5
    removed[rng.integers(len(states))] = False
    masked = np.where(removed, -np.inf, log_weights)
    one = ft.boltzmann(ft.Ensemble(states, masked), field, beta)
    two = ft.boltzmann(ft.Ensemble(states[~removed], log_weights[~removed]), field, beta)
    assert_same(one, two, 1e-12, [*SCALARS, "force", "mean"])


@given(problems())
def test_a_duplicated_state_is_one_of_twice_the_weight(problem: Any) -> None:
    states, log_weights, field, beta = problem
    twice = np.concatenate([log_weights[:1] + np.log(2), log_weights[1:]])
    one = ft.boltzmann(
        ft.Ensemble(np.concatenate([states[:1], states]), np.append(log_weights[:1], log_weights)), field, beta
    )
    two = ft.boltzmann(ft.Ensemble(states, twice), field, beta)
    assert_same(one, two, 1e-12, [*SCALARS[:4], "force", "mean"])


@given(problems(), st.floats(-30, 30))
def test_the_prior_need_not_be_normalised(problem: Any, constant: float) -> None:
    states, log_weights, field, beta = problem
    one = ft.boltzmann(ft.Ensemble(states, log_weights), field, beta)
    assert_same(one, ft.boltzmann(ft.Ensemble(states, log_weights + constant), field, beta), 1e-12)


@given(problems())
def test_equal_weights_are_the_default(problem: Any) -> None:
    states, _, field, beta = problem
    one = ft.boltzmann(ft.Ensemble(states), field, beta)
    assert_same(one, ft.boltzmann(ft.Ensemble(states, np.zeros(len(states))), field, beta), 1e-12)


def grads(problem: Any, name: str) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The state at torch arguments, and the derivatives of the sum of one of its scalars by field and beta."""
    states, log_weights, field, beta = problem
    h = torch.tensor(field, requires_grad=True)
    b = torch.full((len(field),), beta, dtype=torch.float64, requires_grad=True)
    s = ft.boltzmann(ft.Ensemble(states, log_weights), h, b)
    return s, *torch.autograd.grad(getattr(s, name).sum(), (h, b))


@given(problems(1.0))
def test_mean_is_minus_the_gradient_of_the_free_energy(problem: Any) -> None:
    s, by_field, _ = grads(problem, "free_energy")
    assert torch.allclose(by_field, -s.mean, rtol=1e-12, atol=1e-12)


@given(problems(1.0))
def test_force_is_minus_the_gradient_of_the_regularised_free_energy(problem: Any) -> None:
    s, by_field, _ = grads(problem, "regularised_free_energy")
    assert torch.allclose(by_field, -s.force, rtol=1e-12, atol=1e-12)


@given(problems(1.0))
def test_entropy_is_minus_the_derivative_of_the_free_energy_by_temperature(problem: Any) -> None:
    s, _, by_beta = grads(problem, "free_energy")
    allowed = 1e-12 * (1 + s.log_partition.abs() + s.beta * s.energy.abs())
    assert ((s.beta**2 * by_beta - s.entropy).abs() <= allowed).all()


@given(problems(1.0))
def test_heat_capacity_is_the_derivative_of_the_energy_by_temperature(problem: Any) -> None:
    s, _, by_beta = grads(problem, "energy")
    assert torch.allclose(-(s.beta**2) * by_beta, s.heat_capacity, rtol=1e-12, atol=1e-12)


@given(problems(1.0))
def test_response_of_the_mean_is_beta_times_the_covariance(problem: Any) -> None:
    states, log_weights, field, beta = problem
    ens = ft.Ensemble(states, log_weights)
    h = torch.tensor(field[0])
    jacobian = torch.func.jacrev(lambda x: ft.boltzmann(ens, x, beta).mean)(h)
    assert torch.allclose(jacobian, beta * ft.covariance(ens, h, beta), rtol=1e-12, atol=1e-12)


def test_what_has_no_derivative_says_so() -> None:
    h = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    state = ft.boltzmann(ft.Ensemble(np.eye(2)), h, 1.0)
    for name in ("heat_capacity", "participation", "n_eff"):
        with pytest.raises(NotImplementedError, match="not differentiable"):
            torch.autograd.grad(getattr(state, name).sum(), h, retain_graph=True)
