"""Derivatives by identity: reverse and forward mode, first and second order, against finite differences."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from fastthermo import ops

Tensor = torch.Tensor
Point = tuple[Tensor, Tensor]
NAMES = ["log_evidence", "mean", "force", "energy", "entropy"]


@pytest.mark.parametrize("name", NAMES)
def test_first_derivatives_are_finite_differences(quantity: Any, point: Point, name: str) -> None:
    assert gradcheck(quantity(name), point, check_forward_ad=True)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_finite_differences(quantity: Any, point: Point, name: str) -> None:
    assert gradgradcheck(quantity(name), point, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_first_derivatives_of_all_quantities_together_are_finite_differences(states: ops.States, point: Point) -> None:
    def every(field: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        moments = ops.boltzmann(states, field, beta)
        return tuple(getattr(moments, name) for name in NAMES)

    assert gradcheck(every, point, check_forward_ad=True)


def test_derivatives_of_the_covariance_are_finite_differences(states: ops.States, point: Point) -> None:
    def covariance(field: Tensor, beta: Tensor) -> Tensor:
        return ops.covariance(states, field, beta, ops.boltzmann(states, field, beta))

    assert gradcheck(covariance, point, check_forward_ad=True)


def test_derivatives_of_the_covariance_are_not_only_of_symmetric_parts(
    states: ops.States, point: Point, dense: Any
) -> None:
    grad = torch.arange(18.0, dtype=torch.float64).reshape(2, 3, 3)
    found = torch.autograd.grad(ops.covariance(states, *point, ops.boltzmann(states, *point)), point, grad)
    for a, b in zip(found, torch.autograd.grad(dense(*point)["covariance"], point, grad), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_derivatives_of_one_cumulant_are_finite_differences_in_every_argument(states: ops.States, point: Point) -> None:
    generator = torch.Generator().manual_seed(2)
    probes = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    energies = torch.randn(2, 1, generator=generator, dtype=torch.float64, requires_grad=True)

    def product(field: Tensor, beta: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return ops.cumulant(states, field, beta, ops.boltzmann(states, field, beta), v, u)

    assert gradcheck(product, (*point, probes, energies), check_forward_ad=True)


def test_gradient_of_the_log_evidence_is_beta_times_the_force(states: ops.States, point: Point) -> None:
    moments = ops.boltzmann(states, *point)
    by_field, by_beta = torch.autograd.grad(moments.log_evidence.sum(), point)
    assert torch.allclose(by_field, point[1][:, None] * moments.force, rtol=1e-14)
    assert torch.allclose(by_beta, -moments.energy, rtol=1e-14)


def test_gradient_of_the_mean_is_beta_times_the_covariance(states: ops.States, point: Point) -> None:
    field, beta = point
    moments = ops.boltzmann(states, field, beta)
    covariance = ops.covariance(states, field, beta, moments)
    for d in range(3):
        row = torch.autograd.grad(moments.mean[:, d].sum(), field, retain_graph=True)[0]
        assert torch.allclose(row, beta[:, None] * covariance[:, d], rtol=1e-12)


def test_derivative_of_the_energy_by_beta_is_minus_its_variance(states: ops.States, point: Point) -> None:
    moments = ops.boltzmann(states, *point)
    by_beta = torch.autograd.grad(moments.energy.sum(), point[1])[0]
    assert torch.allclose(by_beta, -moments.energy_variance, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_backends_give_the_same_derivatives(states: ops.States, point: Point, name: str) -> None:
    grads = []
    for backend in ("numba", "reference"):
        value = getattr(ops.boltzmann(states, *point, backend=backend), name)
        first = torch.autograd.grad(value.square().sum(), point, create_graph=True)
        second = torch.autograd.grad(sum(x.square().sum() for x in first), point)
        grads.append([*first, *second])
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-13) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("index", [[0, 3], [4, 1]])
def test_derivatives_of_log_odds_are_finite_differences(states: ops.States, point: Point, index: list[int]) -> None:
    def odds(field: Tensor, beta: Tensor) -> Tensor:
        return ops.log_odds(states, torch.tensor(index), field, beta, ops.boltzmann(states, field, beta))

    assert gradcheck(odds, point, check_forward_ad=True)
    first = torch.autograd.grad(odds(*point).sum(), point, create_graph=True)
    with pytest.raises(NotImplementedError, match="log_odds are once differentiable"):
        torch.autograd.grad(first[0].sum(), point)


def test_derivatives_of_log_odds_hold_where_the_weight_is_nearly_all() -> None:
    """log w_0 / (1 - w_0) = beta (1 - 2 h) / 2 of two states, at 1 - w_0 = e^-200."""
    pair = ops.States(torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.full((2,), 0.5).double().log())
    field = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    beta = torch.full((2,), 400.0, dtype=torch.float64, requires_grad=True)
    found = ops.log_odds(pair, torch.arange(2), field, beta, ops.boltzmann(pair, field, beta))
    by_field, by_beta = torch.autograd.grad(found, (field, beta), torch.ones(2).double())
    assert by_field.flatten().tolist() == pytest.approx([-400, 400], rel=1e-13)
    assert by_beta.tolist() == pytest.approx([0.5, -0.5], rel=1e-13)


def test_third_derivatives_are_refused_in_reverse_mode(quantity: Any, point: Point) -> None:
    field, beta = point
    first = torch.autograd.grad(quantity("mean")(field, beta).sum(), field, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), field, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="twice differentiable"):
        torch.autograd.grad(second.sum(), field)


def test_third_derivatives_are_refused_in_forward_mode(quantity: Any) -> None:
    beta = torch.ones(1, dtype=torch.float64)

    def along(rank: int) -> Callable[[Tensor], Tensor]:
        if rank == 0:
            return lambda x: quantity("mean")(x.expand(1, 3), beta)
        return lambda x: torch.func.jvp(along(rank - 1), (x,), (torch.ones_like(x),))[1]

    x = torch.tensor(0.3, dtype=torch.float64)
    assert along(2)(x).isfinite().all()
    with pytest.raises(NotImplementedError, match="twice differentiable"):
        along(3)(x)


def test_second_derivatives_of_the_covariance_are_refused(states: ops.States, point: Point) -> None:
    covariance = ops.covariance(states, *point, ops.boltzmann(states, *point))
    first = torch.autograd.grad(covariance.square().sum(), point, create_graph=True)
    with pytest.raises(NotImplementedError, match="once"):
        torch.autograd.grad(first[0].sum(), point)


@pytest.mark.parametrize("name", ["energy_variance", "participation"])
def test_reverse_mode_refuses_what_has_no_derivative(quantity: Any, point: Point, name: str) -> None:
    with pytest.raises(NotImplementedError, match="not differentiable"):
        torch.autograd.grad(quantity(name)(*point).sum(), point)


@pytest.mark.parametrize("name", ["energy_variance", "participation"])
def test_forward_mode_gives_nan_for_what_has_no_derivative(quantity: Any, name: str) -> None:
    field, beta = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    value, tangent = torch.func.jvp(lambda h: quantity(name)(h, beta), (field,), (torch.ones_like(field),))
    assert value.isfinite().all()
    assert tangent.isnan().all()


def test_sums_relative_to_the_dominant_state_carry_no_gradient(states: ops.States, point: Point) -> None:
    moments = ops.boltzmann(states, *point)
    assert not any(x.requires_grad for x in moments[7:])


@pytest.mark.parametrize("name", ["states", "log_weights"])
def test_states_and_weights_that_require_grad_are_refused(states: ops.States, name: str) -> None:
    given = {"states": states.states.clone(), "log_weights": states.log_weights.clone()}
    given[name].requires_grad_()
    with pytest.raises(ValueError, match=f"{name}: not differentiable"):
        ops.States(**given)


def test_merge_is_refused_under_differentiation(states: ops.States, point: Point) -> None:
    merged = ops.merge([ops.boltzmann(states, *point)] * 2, *point)
    with pytest.raises(NotImplementedError, match="merged"):
        torch.autograd.grad(merged.log_evidence.sum(), point)
    with forward_ad.dual_level():
        h, b = forward_ad.make_dual(point[0].detach(), torch.ones(2, 3, dtype=torch.float64)), point[1].detach()
        parts = [ops.boltzmann(states, h, b)]
        with pytest.raises(NotImplementedError, match="merged"):
            ops.merge(parts, h, b)


def test_steps_refuse_gradients(point: Point) -> None:
    with pytest.raises(ValueError, match="no gradient"):
        ops.step(point[0], point[0], 1.0, 0.0, 0.0, 0, 0)


def test_gradients_hold_at_low_temperature(states: ops.States) -> None:
    """At weights of 1e-30 a softmax in float64 has no gradient left; the sums relative to the dominant state have."""
    pair = ops.States(torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.full((2,), 0.5).double().log())
    field = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    beta = torch.tensor([140.0], dtype=torch.float64)
    slope = torch.autograd.grad(ops.boltzmann(pair, field, beta).mean.sum(), field)[0]
    w = torch.tensor(-70.0, dtype=torch.float64).exp()
    assert float(slope) == pytest.approx(float(140 * w / (1 + w) ** 2), rel=1e-12)
