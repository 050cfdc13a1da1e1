"""Identities of thermodynamics that every law in closed form obeys, what it answers, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import solvable

OU = ft.OrnsteinUhlenbeck()


def tensors(law: Any, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    h = torch.from_numpy(np.random.default_rng(1).normal(size=(n, law.dimension)))
    return h, torch.logspace(-1, 0.5, n, dtype=torch.float64)


def test_mean_is_the_gradient_of_the_free_energy(law: Any) -> None:
    h, beta = tensors(law)
    h.requires_grad_()
    state = law.boltzmann(h, beta)
    (gradient,) = torch.autograd.grad(state.log_evidence.sum(), h)
    torch.testing.assert_close(gradient, beta[:, None] * state.force, rtol=1e-11, atol=1e-12)


def test_energies_are_derivatives_in_beta(law: Any) -> None:
    h, beta = tensors(law)
    beta.requires_grad_()
    state = law.boltzmann(h, beta)
    (first,) = torch.autograd.grad(state.log_evidence.sum(), beta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), beta)
    torch.testing.assert_close(state.regularised_energy, -first, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(state.energy_variance, second, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(state.entropy, state.log_evidence + beta * state.regularised_energy)


def test_cumulants_are_derivatives_in_the_field(law: Any) -> None:
    h, beta = tensors(law)
    jacobian = torch.stack([torch.func.jacrev(lambda x, b=b: law.mean(x, b))(x) for x, b in zip(h, beta, strict=True)])
    c = law.covariance(h, beta)
    torch.testing.assert_close(beta[:, None, None] * c, jacobian, rtol=1e-10, atol=1e-12)
    v, u = h.flip(0), h.roll(1, 0)
    torch.testing.assert_close(law.cumulant(h, beta, v), (c @ v[..., None])[..., 0])
    apply, dense = law.response(h, beta)
    torch.testing.assert_close(dense(), c)
    torch.testing.assert_close(apply(torch.stack([v, u], 1)), torch.stack([v, u], 1) @ c)
    _, slope = torch.func.jvp(lambda x: law.cumulant(x, beta, v), (h,), (u,))
    torch.testing.assert_close(beta[:, None] * law.cumulant(h, beta, v, u), slope, rtol=1e-9, atol=1e-11)


def test_every_quantity_is_finite_at_every_temperature(law: Any, betas: np.ndarray) -> None:
    scale = np.array([0, 1e-6, 1.0, 1e4])[:, None, None]
    h = (scale * np.random.default_rng(2).normal(size=(3, law.dimension))).reshape(-1, law.dimension)
    for beta in betas:
        state = law.boltzmann(h, beta)
        for name in ("mean", "force", "log_evidence", "energy", "entropy", "heat_capacity", "participation"):
            assert np.isfinite(getattr(state, name)).all(), name
        assert (state.entropy <= 1e-12).all()
        assert (state.energy_variance >= 0).all()
        assert np.linalg.eigvalsh(law.covariance(h, beta)).min() > -1e-14


def test_hot_laws_are_the_data(law: Any) -> None:
    state = law.boltzmann(np.zeros(law.dimension), 1e-10)
    np.testing.assert_allclose(state.mean, law.data_mean, atol=1e-8)
    values, vectors = law.principal(law.dimension)
    assert (np.diff(values) <= 0).all()
    c = law.covariance(np.zeros(law.dimension), 1e-10)
    np.testing.assert_allclose(vectors.T * values @ vectors, c, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(law.dimension), atol=1e-12)
    assert law.data_variance == pytest.approx(values.sum(), rel=1e-12)
    np.testing.assert_allclose(law.principal(1)[0], values[:1])


def test_many_fields_are_differentiated_at_once_by_vmap(law: Any) -> None:
    h, beta = tensors(law)

    def evidence(h: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        return law.boltzmann(h, beta).log_evidence

    found = torch.func.vmap(torch.func.grad(evidence))(h, beta)
    want = torch.stack([torch.func.grad(evidence)(x, b) for x, b in zip(h, beta, strict=True)])
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="beta: wanted finite positive numbers, got -1"):
        torch.func.vmap(torch.func.grad(evidence))(h, -torch.ones_like(beta))


def test_draws_have_the_mean_and_covariance_of_the_law(law: Any) -> None:
    y = law.draw(20000, seed=3)
    assert y.shape == (20000, law.dimension)
    delta = y - law.data_mean
    values, vectors = law.principal(law.dimension)
    products = (delta[:, :, None] * delta[:, None]).reshape(len(y), -1)
    for sample, want in ((y, law.data_mean), (products, (vectors.T * values @ vectors).ravel())):
        error = sample.std(0, ddof=1) / np.sqrt(len(y)) + 1e-15
        assert (np.abs(sample.mean(0) - want) < 4 * error).all()
    assert (law.draw(5, seed=3) != law.draw(5, seed=4)).any()


def test_few_draws_are_the_first_of_many(law: Any) -> None:
    assert (law.draw(7, seed=3)[:3] == law.draw(3, seed=3)).all()


def test_laws_answer_in_the_kind_and_shape_they_are_asked(law: Any) -> None:
    h, beta = tensors(law)
    want = law.boltzmann(h, beta)
    array = law.boltzmann(h.numpy(), beta.numpy())
    assert isinstance(array.mean, np.ndarray)
    np.testing.assert_array_equal(array.mean, want.mean)
    single = law.boltzmann(h[0].float(), 2.0)
    assert single.mean.shape == (law.dimension,)
    assert single.mean.dtype == torch.float32
    assert single.log_evidence.dtype == torch.float64
    assert law.covariance(h[0].numpy(), 2.0).shape == (law.dimension,) * 2
    assert law.boltzmann(h[:0], 1.0).mean.shape == (0, law.dimension)
    assert ft.posterior(law, OU, h.numpy(), 0.3).score.shape == h.shape
    gain = ft.susceptibility(law, h.numpy(), 0.5).leading()[0]
    assert gain[:, 0] == pytest.approx(0.5 * np.linalg.eigvalsh(law.covariance(h.numpy(), 0.5))[:, -1])


@pytest.mark.parametrize("name", ["mixture", "sphere"])
def test_samplers_take_a_law(laws: Any, name: str) -> None:
    law = laws[name]
    x = ft.sample(law, OU, 2000, steps=40, scheme="ancestral", seed=1)
    assert np.abs(x.mean(0) - law.data_mean).max() < 5 * np.sqrt(law.data_variance / 2000)


@pytest.mark.parametrize(
    ("field", "beta", "match"),
    [
        (np.nan, 1.0, "field: .*nan"),
        (0.0, 0.0, "beta: "),
        (0.0, [1.0, np.inf], "beta: .*inf"),
        (0.0, np.ones(3), "beta: "),
    ],
)
def test_bad_queries_are_refused_by_name(law: Any, field: float, beta: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        law.boltzmann(np.full((2, law.dimension), field), beta)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: solvable.two_deltas(1.0, 0.0), "p: "),
        (lambda: solvable.two_deltas(np.nan), "mu: .*nan"),
        (lambda: solvable.two_deltas(np.ones((2, 2))), "mu: .*axes"),
        (lambda: solvable.simplex(1), "q: .*at least 2"),
        (lambda: solvable.simplex(3, -1.0), "r: .*-1"),
        (lambda: solvable.sphere(0), "d: .*at least 1"),
        (lambda: solvable.sphere(2.0), "d: "),
        (lambda: solvable.sphere(2, np.inf), "r: .*inf"),
        (lambda: solvable.ising_ring(1, 0.5), "n: .*at least 2"),
        (lambda: solvable.ising_ring(4, np.nan), "K: .*nan"),
        (lambda: solvable.curie_weiss(10, -0.5), "K: .*ising"),
        (lambda: solvable.curie_weiss(1.5, 0.5), "n: "),
        (lambda: solvable.gaussian(np.ones((2, 3))), "cov: .*symmetric"),
        (lambda: solvable.gaussian([1.0, -1.0]), "cov: .*negative"),
        (lambda: solvable.gaussian(1.0, [0.0, 1.0]), "mean: wanted 1"),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), [1.0]), "var: wanted 2"),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), 1.0, np.ones(3)), "weights: wanted 2"),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), -1.0), "var: "),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), 1.0, np.zeros(2)), "weights: .*positive"),
        (lambda: solvable.ising(np.triu(np.ones((3, 3)))), "W: .*symmetric"),
        (lambda: solvable.ising(np.ones((21, 21))), "W: .*20"),
        (lambda: solvable.simplex(4).boltzmann(np.zeros(3), 1.0, rtol=1e-3), "rtol: "),
        (lambda: solvable.simplex(4).mean(np.zeros(7), 1.0), "field: "),
        (lambda: solvable.simplex(4).cumulant(np.zeros(3), 1.0), "probes: "),
        (lambda: solvable.simplex(4).cumulant(np.zeros(3), 1.0, np.ones((2, 3))), "probe: "),
    ],
)
def test_bad_parameters_are_refused_by_name(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
