"""Exact denoisers in the real samplers of others, their networks as models: pip install "fastthermo[libraries]"."""

from typing import Any

import pytest
import torch

import fastthermo as ft
from fastthermo import adapters

POINTS = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]]).double()
LAW = ft.Ensemble(POINTS)


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpm_2", "sample_dpmpp_2m"])
def test_samplers_of_k_diffusion_take_the_exact_denoiser(name: str) -> None:
    sampling = pytest.importorskip("k_diffusion.sampling")
    sigmas = sampling.get_sigmas_karras(48, 10**-2.5, 30.0).double()
    x = sigmas[0] * torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double()
    found = getattr(sampling, name)(ft.to_edm(LAW), x, sigmas, disable=True)
    assert float(torch.cdist(found, POINTS).min(1).values.max()) < 0.05
    if name == "sample_heun":
        ours = ft.sample(LAW, ft.EDM(), steps=sigmas[:-1].numpy(), x_start=x, scheme="heun")
        want = sampling.sample_heun(ft.to_edm(LAW), x, sigmas[:-1], disable=True)
        assert torch.allclose(ours, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_means_of_a_network_of_diffusers_are_those_of_its_scheduler(prediction: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    ).double()
    scheduler: Any = diffusers.DDPMScheduler(prediction_type=prediction, clip_sample=False)
    model = adapters.diffusers(unet, scheduler, check=False)  # it is not trained
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for t in (10, 300, 900):
        with torch.no_grad():
            out = unet(x, t).sample
            want = scheduler.step(out, t, x).pred_original_sample
        assert torch.allclose(model(x, float(t)).mean, want, rtol=1e-5, atol=1e-6)  # its table is float32
    chi = ft.susceptibility(model, x, 1.0)
    v, u = torch.randn(2, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert float((u * chi.mv(v)).sum()) == pytest.approx(float((v * chi.rmv(u)).sum()), rel=1e-8)


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_means_of_a_network_of_denoising_diffusion_pytorch_are_its_own(objective: str) -> None:
    package = pytest.importorskip("denoising_diffusion_pytorch")
    torch.manual_seed(0)
    unet = package.Unet(dim=8, dim_mults=(1, 2), channels=1, flash_attn=False)
    diffusion = package.GaussianDiffusion(unet, image_size=8, objective=objective, timesteps=1000)
    model = adapters.denoising_diffusion_pytorch(diffusion.eval(), check=False)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in (10, 300, 900):
        with torch.no_grad():
            want = diffusion.model_predictions(x, torch.full((3,), t)).pred_x_start
        assert torch.allclose(model(x, float(t)).mean, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_flows_of_torchcfm_run_from_noise_to_data() -> None:
    matching = pytest.importorskip("torchcfm.conditional_flow_matching")
    z, y = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    t = torch.linspace(0.1, 0.9, 6).double()
    _, x, u = matching.ConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow(z, y, t)
    model = adapters.torchcfm(lambda time, x: u, shape=(2,), batch=6, check=False)
    assert torch.allclose(model(x, 1 - t).mean, y, rtol=0, atol=1e-12)
