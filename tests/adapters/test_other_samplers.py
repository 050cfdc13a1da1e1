"""Exact denoisers in the samplers of others: azula's own, and the published loops of k-diffusion and EDM."""

import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch

import fastthermo as ft

POINTS = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]]).double()
LAW = ft.Ensemble(POINTS)


def falls_on_the_points(x: torch.Tensor, reach: float) -> bool:
    """Every sample beside one of three points, and each chosen by a third (chi squared, two degrees of freedom)."""
    nearest = torch.cdist(x.double(), POINTS).min(1)
    counts = torch.bincount(nearest.indices, minlength=3).double()
    expected = len(x) / 3
    return bool(nearest.values.max() < reach) and float(((counts - expected) ** 2 / expected).sum()) <= 8


def to_d(x: torch.Tensor, sigma: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    return (x - denoised) / sigma[(...,) + (None,) * (x.ndim - sigma.ndim)]


def sample_heun_of_k_diffusion(model: Any, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """k_diffusion.sampling.sample_heun without churn."""
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        d = to_d(x, sigmas[i] * s_in, model(x, sigmas[i] * s_in))
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] == 0:
            x = x + d * dt
        else:
            x_2 = x + d * dt
            d_2 = to_d(x_2, sigmas[i + 1] * s_in, model(x_2, sigmas[i + 1] * s_in))
            x = x + (d + d_2) / 2 * dt
    return x


def edm_sampler(
    net: Any, latents: torch.Tensor, steps: int = 18, rho: float = 7.0, churn: float = 40.0
) -> torch.Tensor:
    """The stochastic sampler of EDM (Karras et al. 2022, algorithm 2) as in its repository."""
    low, high = max(0.002, net.sigma_min), min(80.0, net.sigma_max)
    index = torch.arange(steps, dtype=torch.float64)
    t = (high ** (1 / rho) + index / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    t = torch.cat([net.round_sigma(t), torch.zeros_like(t[:1])])
    generator = torch.Generator().manual_seed(1)
    x_next = latents.to(torch.float64) * t[0]
    for i, (t_cur, t_next) in enumerate(pairwise(t)):
        gamma = min(churn / steps, 2**0.5 - 1)
        t_hat = net.round_sigma(t_cur + gamma * t_cur)
        noise = torch.randn(x_next.shape, generator=generator, dtype=torch.float64)
        x_hat = x_next + (t_hat**2 - t_cur**2).sqrt() * noise
        d_cur = (x_hat - net(x_hat, t_hat, None).to(torch.float64)) / t_hat
        x_next = x_hat + (t_next - t_hat) * d_cur
        if i < steps - 1:
            d_prime = (x_next - net(x_next, t_next, None).to(torch.float64)) / t_next
            x_next = x_hat + (t_next - t_hat) * (0.5 * d_cur + 0.5 * d_prime)
    return x_next


def test_models_for_samplers_are_pickled() -> None:
    x = torch.ones(2, 2)
    assert torch.equal(pickle.loads(pickle.dumps(ft.to_edm(LAW)))(x, 1.0), ft.to_edm(LAW)(x, 1.0))


def test_a_sampler_of_k_diffusion() -> None:
    sigmas = torch.cat([torch.logspace(1.5, -2.5, 60, dtype=torch.float64), torch.zeros(1).double()])
    x = sigmas[0] * torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
    found = sample_heun_of_k_diffusion(ft.to_edm(LAW), x, sigmas)
    assert falls_on_the_points(found, 0.05)
    ours = ft.sample(LAW, ft.EDM(t_min=10**-2.5), steps=sigmas[:-1].numpy(), x_start=x, scheme="heun")
    assert torch.allclose(sample_heun_of_k_diffusion(ft.to_edm(LAW), x, sigmas[:-1]), ours, rtol=0, atol=1e-11)


def test_the_sampler_of_edm() -> None:
    latents = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
    assert falls_on_the_points(edm_sampler(ft.to_edm(LAW), latents), 0.05)


@pytest.mark.parametrize("name", ["DDPMSampler", "DDIMSampler", "HeunSampler"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_samplers_of_azula(name: str, wrapped: bool) -> None:
    sampling = pytest.importorskip("azula.sample")
    process = ft.VariancePreserving(t_min=1e-3)
    d: Any = ft.to_azula(LAW, process)
    if wrapped:  # as a network of EDM and back
        d = ft.to_azula(ft.wrap(ft.to_edm(LAW, 1e-3, 500.0), "mean", ft.EDM(t_max=500.0), "sigma", shape=(2,)), process)
    sampler = getattr(sampling, name)(d, start=1.0, stop=1e-3, steps=64, silent=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = sampler(torch.randn(300, 2).double())
    assert falls_on_the_points(x, 0.2)
