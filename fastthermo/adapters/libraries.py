"""The conventions of other libraries, by their attributes alone: nothing of them is imported.

library                      call                  returns                     time
azula                        d(x, t)               object with .mean           [0, 1], 0 = data
EDM, k-diffusion             net(x, sigma)         mean                        sigma itself, alpha = 1
diffusers                    unet(x, i).sample     eps, mean or v; z - y       steps of a DDPM; 1000 t of a flow
denoising-diffusion-pytorch  diffusion.model(x, i) eps, mean or v              steps of a DDPM
torchcfm                     model(t, x)           dx/dt from noise to data    [0, 1], 0 = noise
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastthermo._arrays import is_torch
from fastthermo.adapters.learned import Denoised, LearnedDenoiser
from fastthermo.adapters.wrapping import wrap
from fastthermo.denoiser import Model, schedule
from fastthermo.process import DDPM, EDM, FlowMatching, Process


@dataclass(frozen=True, eq=False)
class Schedule(Process):
    """alpha and sigma of a function of t on tensors, as azula's schedules are; it must take complex t."""

    function: Callable[[Any], tuple[Any, Any]]

    def _alpha(self, t: Any) -> Any:
        return self._both(t)[0]

    def _sigma(self, t: Any) -> Any:
        return self._both(t)[1]

    def _both(self, t: Any) -> list[Any]:
        import torch

        tensor = torch.as_tensor(
            np.asarray(t), dtype=torch.complex128 if np.iscomplexobj(t) else torch.float64, device="cpu"
        )
        return [torch.as_tensor(v).expand(tensor.shape).detach().cpu().numpy()[()] for v in self.function(tensor)]


def azula(
    denoiser: Any, process: Process | None = None, t_min: float = 1e-3, t_max: float = 1.0, **options: Any
) -> LearnedDenoiser:
    """A denoiser of azula, or anything with its calling convention: d(x, t).mean and d.schedule(t).

    process : instead of `denoiser.schedule` on [t_min, t_max]. options : as of `wrap`.
    """
    if process is None:
        process = Schedule(function=_attribute("azula", denoiser, "schedule"), t_min=t_min, t_max=t_max)

    return wrap(partial(_azula, denoiser), "mean", process, name="azula", **options)


def edm(net: Any, process: Process | None = None, **options: Any) -> LearnedDenoiser:
    """A preconditioned network of EDM (Karras et al. 2022): net(x, sigma, class_labels) returns the mean.

    Shape and range of sigma are read from img_channels, img_resolution, sigma_min and sigma_max where it has them.
    """
    channels, size = getattr(net, "img_channels", None), getattr(net, "img_resolution", None)
    if channels is not None and size is not None:
        options = {"shape": (channels, size, size), **options}
    return wrap(net, "mean", process or _sigmas(net), "sigma", name="edm", **options)


def k_diffusion(model: Any, process: Process | None = None, **options: Any) -> LearnedDenoiser:
    """A denoiser of k-diffusion: model(x, sigma, **extra_args) returns the mean.

    sigma comes in the precision of x, in which its networks multiply the two.
    """
    call = partial(_k_diffusion, model)
    return wrap(call, "mean", process or _sigmas(model), "sigma", name="k_diffusion", **options)


def diffusers(unet: Any, scheduler: Any, **options: Any) -> LearnedDenoiser:
    """A UNet2DModel of diffusers with its scheduler: unet(x, step).sample is what the scheduler's config names.

    Schedulers with `alphas_cumprod` (DDPM, DDIM, ...) give the process; those without are taken for flow matching where
    their config has num_train_timesteps and shift.
    """
    config = _attribute("diffusers", scheduler, "config")
    table = getattr(scheduler, "alphas_cumprod", None)
    size, channels = (_config(getattr(unet, "config", {}), key) for key in ("sample_size", "in_channels"))
    if size is not None and channels is not None:
        sides = (size, size) if isinstance(size, int) else tuple(size)
        options = {"shape": (channels, *sides), **options}

    call = partial(_diffusers, unet)
    if table is not None:
        predicts = _named("diffusers", {"epsilon": "eps", "sample": "mean", "v_prediction": "v"}, config)
        return wrap(call, predicts, DDPM(_table(table)), name="diffusers", **options)
    steps = _config(config, "num_train_timesteps")
    if steps is None or _config(config, "shift") is None:
        raise ValueError(
            f"diffusers: {type(scheduler).__name__} has neither alphas_cumprod nor the config of a flow; take the "
            "scheduler the network was trained with (DDPMScheduler), or `wrap` with a process"
        )
    # the prediction z - y is dx/dt of the straight path
    return wrap(call, "velocity", FlowMatching(), partial(_in_steps, steps), name="diffusers", **options)


def denoising_diffusion_pytorch(diffusion: Any, **options: Any) -> LearnedDenoiser:
    """A GaussianDiffusion: diffusion.model(x, step) predicts what its `objective` names, for images in [-1, 1]."""
    name = "denoising_diffusion_pytorch"
    table, model = (_attribute(name, diffusion, key) for key in ("alphas_cumprod", "model"))
    kinds = {"pred_noise": "eps", "pred_x0": "mean", "pred_v": "v"}
    objective = getattr(diffusion, "objective", None)
    if objective not in kinds:
        raise ValueError(f"{name}: objective: wanted one of {', '.join(kinds)}, got {objective!r}")
    size, channels = getattr(diffusion, "image_size", None), getattr(diffusion, "channels", None)
    if size is not None and channels is not None:
        options = {"shape": (channels, *((size, size) if isinstance(size, int) else size)), **options}
    return wrap(model, kinds[objective], DDPM(_table(table)), name=name, **options)


def torchcfm(model: Any, **options: Any) -> LearnedDenoiser:
    """A velocity field of torchcfm: model(t, x) = E[y - z] on x = t y + (1 - t) z, with t = 0 at the noise.

    Our time grows towards noise: the model is asked at 1 - t and its answer changes sign.
    """
    return wrap(partial(_torchcfm, model), "velocity", FlowMatching(), "1-t", name="torchcfm", **options)


def to_edm(model: Model, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Any:
    """Any model as a network of EDM and k-diffusion: net(x, sigma) returns the mean, in the dtype of x.

    A torch module with sigma_min, sigma_max, round_sigma, img_channels and img_resolution, so that samplers take it.
    """
    from fastthermo.adapters.network import Network

    return Network(model, sigma_min, sigma_max)


@dataclass(frozen=True, eq=False)
class to_azula:
    """Any model under any process in azula's calling convention: d(x, t).mean and d.schedule(t)."""

    model: Model
    process: Process

    def __call__(self, x: Any, t: Any, **_: Any) -> Denoised:
        import torch

        times = self.process.check_time(t)
        alpha, sigma = (
            torch.as_tensor(v, dtype=torch.float64, device=x.device)
            for v in (self.process.alpha(times), self.process.sigma(times))
        )
        shaped = alpha.reshape(-1, *[1] * (x.ndim - 1))
        mean = self.model.mean(x.double() / shaped, (alpha / sigma).square())
        return Denoised(x, mean.to(x.dtype), alpha, sigma)

    def schedule(self, t: Any) -> tuple[Any, Any]:
        """alpha(t), sigma(t), of the kind of t."""
        return schedule(self.process, t)


# calls of others as functions of (x, time): partials of them are pickled, and tell the module


def _azula(denoiser: Any, x: Any, t: Any, **more: Any) -> Any:  # some of its denoisers take one time only
    return denoiser(x, t[0] if bool((t == t[0]).all()) else t, **more).mean


def _k_diffusion(model: Any, x: Any, sigma: Any, **more: Any) -> Any:
    return model(x, sigma.to(x.dtype), **more)


def _diffusers(unet: Any, x: Any, t: Any, **more: Any) -> Any:
    return unet(x, t, **more).sample


def _torchcfm(model: Any, x: Any, t: Any, **more: Any) -> Any:
    return -model(t, x, **more)


def _in_steps(steps: int, _: Process, t: Any) -> Any:
    return steps * t


def _sigmas(net: Any) -> EDM:
    low, high = (float(getattr(net, key, default)) for key, default in (("sigma_min", 0.002), ("sigma_max", 80.0)))
    return EDM(t_min=max(low, 0.002), t_max=min(high, 1e3))


def _attribute(adapter: str, owner: Any, name: str) -> Any:
    if not hasattr(owner, name):
        raise TypeError(f"{adapter}: wanted an object with .{name}, got {type(owner).__name__}, which has none")
    return getattr(owner, name)


def _config(config: Any, key: str) -> Any:
    return config.get(key) if hasattr(config, "get") else getattr(config, key, None)


def _named(adapter: str, kinds: dict[str, str], config: Any) -> str:
    found = _config(config, "prediction_type")
    if found not in kinds:
        raise ValueError(f"{adapter}: prediction_type: wanted one of {', '.join(kinds)}, got {found!r}")
    return kinds[found]


def _table(alphas_bar: Any) -> np.ndarray:
    return np.asarray(alphas_bar.detach().cpu() if is_torch(alphas_bar) else alphas_bar, dtype=np.float64)
