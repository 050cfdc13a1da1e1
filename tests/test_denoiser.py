"""The exact denoiser: azula's calling convention, and a model wherever one is asked for."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(7, 2, 3)).astype(np.float32)
ENS = ft.Ensemble(torch.from_numpy(STATES))
PROCESS = ft.VariancePreserving()
D = ft.EmpiricalDenoiser(ENS, PROCESS)


@pytest.mark.parametrize("t", [0.25, torch.tensor(0.25), torch.full((4,), 0.25), np.full(4, 0.25)])
def test_mean_is_that_of_the_posterior_in_the_shape_of_x(t: Any) -> None:
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    found, want = D(x, t), ft.posterior(ENS, PROCESS, x, 0.25)
    assert found.mean.shape == x.shape
    assert found.mean.dtype == x.dtype
    assert torch.equal(found.mean, want.mean)
    assert torch.equal(found.score, want.score)


def test_mean_of_field_and_beta_is_the_same_model() -> None:
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    alpha, beta = float(PROCESS.alpha(0.3)), float(PROCESS.beta(0.3))
    assert torch.allclose(D.mean(x / alpha, beta), D(x, 0.3).mean, rtol=1e-13)


def test_options_reach_the_law() -> None:
    with pytest.raises(ValueError, match="rtol"):
        D(torch.zeros(1, 2, 3), 0.3, rtol=1e-30)


@pytest.mark.parametrize("t", [0.3, np.array([0.1, 0.5]), torch.tensor(0.3), torch.tensor([0.1, 0.5]).double()])
def test_schedule_is_alpha_and_sigma_of_the_kind_of_t(t: Any) -> None:
    alpha, sigma = D.schedule(t)
    plain = t.numpy() if isinstance(t, torch.Tensor) else t
    unit = 2.0**-24 if np.asarray(plain).dtype == np.float32 else 2.0**-53
    np.testing.assert_allclose(np.asarray(alpha), PROCESS.alpha(plain), rtol=unit)
    np.testing.assert_allclose(np.asarray(sigma), PROCESS.sigma(plain), rtol=unit)
    if isinstance(t, torch.Tensor):
        assert isinstance(alpha, torch.Tensor)
        assert alpha.dtype == sigma.dtype == t.dtype
        assert alpha.shape == sigma.shape == t.shape


def test_what_else_a_model_is_asked_is_answered_by_the_law() -> None:
    assert (D.dimension, D.shape, D.numpy) == (6, (2, 3), False)
    assert D.device == ENS.device
    assert torch.equal(D.draw(3, 0), ENS.draw(3, 0))
    with pytest.raises(AttributeError):
        _ = D.temperature


def test_denoisers_are_copied_and_pickled() -> None:
    x = torch.zeros(1, 2, 3)
    for again in (copy.copy(D), copy.deepcopy(D), pickle.loads(pickle.dumps(D))):
        assert torch.equal(again(x, 0.3).mean, D(x, 0.3).mean)


def test_gradients_pass_through_the_denoiser() -> None:
    x = torch.zeros(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: D(v, 0.3).mean, (x,))


@pytest.mark.parametrize(
    "name", ["DDPMSampler", "DDIMSampler", "EulerSampler", "HeunSampler", "zABSampler", "xEABSampler"]
)
def test_samplers_of_azula_take_it_unchanged(name: str) -> None:
    sampling = pytest.importorskip("azula.sample")
    process = ft.VariancePreserving(t_min=1e-3)
    points = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
    d = ft.EmpiricalDenoiser(ft.Ensemble(points), process)
    sampler = getattr(sampling, name)(d, start=1.0, stop=1e-3, steps=64, silent=True)
    x = sampler(torch.randn(200, 2, generator=torch.Generator().manual_seed(0)))
    nearest = torch.cdist(x, points).min(1)
    assert nearest.values.max() < 0.2
    counts = torch.bincount(nearest.indices, minlength=3).double()
    assert ((counts - 200 / 3) ** 2 / (200 / 3)).sum() <= 2 + 3 * 2  # chi squared of two degrees of freedom


def test_steps_of_azulas_ddim_are_ours() -> None:
    sampling = pytest.importorskip("azula.sample")
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1))
    sampler = sampling.DDIMSampler(D, start=0.9, stop=0.1, steps=8, silent=True)
    times = sampler.timesteps.double().numpy()
    want = ft.sample(D, PROCESS, steps=times, x_start=x.double(), scheme="ddim")
    found = sampler(x.double())  # azula's schedule is float32 here, as its times are
    assert torch.allclose(found.double(), want, rtol=0, atol=8 * 8 * 2.0**-24 * float(want.abs().max()))
