"""The posterior of clean data given a noisy x at a time of a process."""

from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft

PROCESSES = {
    "VE": (ft.VarianceExploding(2.0), 0.7),
    "OU": (ft.OrnsteinUhlenbeck(), 0.4),
    "VP": (ft.VariancePreserving(), 0.3),
    "EDM": (ft.EDM(), 1.5),
    "flow": (ft.FlowMatching(), 0.6),
    "DDPM": (ft.DDPM.linear(), 333.25),
}
STATES = np.array([[1.0, 0.5], [-1.0, 0.25], [0.0, -2.0], [0.5, 0.5]])
X = np.array([[0.3, -0.2], [1.5, 0.1], [-4.0, 3.0]])


@pytest.fixture(params=PROCESSES)
def case(request: pytest.FixtureRequest) -> tuple[ft.Process, float]:
    return PROCESSES[request.param]


@pytest.fixture
def ens() -> ft.Ensemble:
    return ft.Ensemble(STATES, np.log([0.1, 0.2, 0.3, 0.4]))


def test_posterior_is_the_boltzmann_state_at_its_field_and_temperature(ens: ft.Ensemble, case: Any) -> None:
    process, t = case
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    one, two = ft.posterior(ens, process, X, t), ft.boltzmann(ens, X / alpha, alpha**2 / sigma**2)
    for name in ("mean", "log_evidence", "entropy", "energy", "participation", "free_energy", "heat_capacity"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-12, atol=1e-12)


def test_log_density_is_that_of_a_mixture_of_gaussians(ens: ft.Ensemble, case: Any) -> None:
    process, t = case
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    exponent = -((X[:, None] - alpha * STATES) ** 2).sum(-1) / (2 * sigma**2)
    want = np.logaddexp.reduce(exponent + np.log([0.1, 0.2, 0.3, 0.4]), axis=1) - np.log(2 * np.pi * sigma**2)
    np.testing.assert_allclose(ft.posterior(ens, process, X, t).log_density, want, rtol=1e-12)


def test_score_is_the_gradient_of_the_log_density(ens: ft.Ensemble, case: Any) -> None:
    process, t = case
    x = torch.tensor(X, requires_grad=True)
    p = ft.posterior(ens, process, x, t)
    assert torch.allclose(torch.autograd.grad(p.log_density.sum(), x)[0], p.score, rtol=1e-12, atol=1e-12)


def test_jacobian_of_the_score_is_that_of_the_covariance(ens: ft.Ensemble, case: Any) -> None:
    """(beta C - 1) / sigma^2"""
    process, t = case
    x = torch.tensor(X[0])
    found = torch.func.jacrev(lambda v: ft.posterior(ens, process, v, t).score)(x)
    beta, sigma = float(process.beta(t)), float(process.sigma(t))
    gain = beta * ft.covariance(ens, x / float(process.alpha(t)), beta)
    assert torch.allclose(found, (gain - torch.eye(2)) / sigma**2, rtol=1e-12, atol=1e-12)


def test_density_of_one_dimension_integrates_to_one(case: Any) -> None:
    process, t = case
    ens = ft.Ensemble(np.array([[1.0], [-1.5], [0.2]]))
    x = np.linspace(-40, 40, 20001)
    density = np.exp(ft.posterior(ens, process, x[:, None], t).log_density)
    assert density.sum() * (x[1] - x[0]) == pytest.approx(1, rel=1e-12)


def test_times_may_differ_between_queries(ens: ft.Ensemble) -> None:
    process, t = ft.OrnsteinUhlenbeck(), np.array([0.1, 0.5, 2.0])
    together = ft.posterior(ens, process, X, t)
    for i in range(3):
        alone = ft.posterior(ens, process, X[i], t[i])
        for name in ("mean", "score", "log_density", "log_evidence", "beta"):
            np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name), rtol=1e-14)


@pytest.mark.parametrize("t", [torch.tensor(0.5), torch.tensor([0.5, 0.5, 0.5]), np.float64(0.5), np.full(3, 0.5)])
def test_times_may_be_numpy_or_torch(ens: ft.Ensemble, t: Any) -> None:
    want = ft.posterior(ens, ft.OrnsteinUhlenbeck(), X, 0.5)
    for x in (X, torch.from_numpy(X)):
        found = ft.posterior(ens, ft.OrnsteinUhlenbeck(), x, t)
        assert isinstance(found.score, type(x))
        np.testing.assert_allclose(found.score, want.score, rtol=1e-14)
        np.testing.assert_allclose(found.log_density, want.log_density, rtol=1e-14)


@pytest.mark.parametrize("t", [[0.5], torch.tensor([0.5]), torch.tensor(0.5, dtype=torch.bfloat16)], ids=str)
def test_one_image_may_be_told_its_time_in_a_list(t: Any) -> None:
    images = ft.Ensemble(np.random.default_rng(0).normal(size=(5, 3, 3)))
    x = images.data(0)
    found, want = (ft.posterior(images, ft.OrnsteinUhlenbeck(), x, when) for when in (t, 0.5))
    assert found.score.shape == (3, 3)
    np.testing.assert_array_equal(found.score, want.score)
    np.testing.assert_array_equal(found.log_density, want.log_density)
    with pytest.raises(ValueError, match=r"t: wanted a scalar or shape \(1,\)"):
        ft.posterior(images, ft.OrnsteinUhlenbeck(), x, [0.5] * 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_have_the_dtype_of_x_and_scalars_are_float64(ens: ft.Ensemble, dtype: Any) -> None:
    x = X.astype(dtype)
    for given in (x, torch.from_numpy(x)):
        p = ft.posterior(ens, ft.OrnsteinUhlenbeck(), given, 0.5)
        assert p.mean.dtype == p.score.dtype == p.force.dtype == given.dtype
        assert str(p.log_density.dtype).endswith("float64")
        assert str(p.log_partition.dtype).endswith("float64")


@pytest.mark.parametrize("name", ["log_evidence", "log_density", "log_partition", "free_energy", "energy", "entropy"])
def test_scalars_of_a_float32_x_are_those_of_the_same_numbers_in_float64(ens: ft.Ensemble, name: str) -> None:
    x = (100 * X).astype(np.float32)
    process, t = ft.OrnsteinUhlenbeck(), 0.05
    one, two = ft.posterior(ens, process, x, t), ft.posterior(ens, process, x.astype(np.float64), t)
    np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-12)


def test_error_bound_covers_the_rounding_of_the_output(ens: ft.Ensemble) -> None:
    x = X.astype(np.float32)
    process, t = ft.OrnsteinUhlenbeck(), 0.5
    one, two = ft.posterior(ens, process, x, t), ft.posterior(ens, process, x.astype(np.float64), t)
    rms = np.sqrt(2 * two.regularised_energy)
    assert (np.linalg.norm(one.force - two.force, axis=1) / rms <= one.error_bound).all()


def test_integer_x_is_float64(ens: ft.Ensemble) -> None:
    x = np.array([[1, -2], [3, 0]])
    found, want = (ft.posterior(ens, ft.EDM(), v, 1.0) for v in (x, x.astype(float)))
    np.testing.assert_array_equal(found.score, want.score)


def test_options_reach_the_law(ens: ft.Ensemble) -> None:
    with pytest.raises(ValueError, match="rtol"):
        ft.posterior(ens, ft.EDM(), X, 1.0, rtol=1e-30)
    with pytest.raises(ValueError, match="backend"):
        ft.posterior(ens, ft.EDM(), X, 1.0, backend="none")


@pytest.mark.parametrize("t", [-0.1, 7.0, np.nan])
def test_times_out_of_range_are_refused(ens: ft.Ensemble, t: float) -> None:
    with pytest.raises(ValueError, match=r"^t: "):
        ft.posterior(ens, ft.OrnsteinUhlenbeck(), X, t)
