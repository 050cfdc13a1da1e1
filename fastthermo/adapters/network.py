"""Any model as a torch module, apart from modules that do not import torch."""

from __future__ import annotations

from typing import Any

import torch

from fastthermo.denoiser import Model


class Network(torch.nn.Module):
    """See `fastthermo.adapters.to_edm`."""

    def __init__(self, model: Model, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.model, self.sigma_min, self.sigma_max = model, sigma_min, sigma_max
        shape = model.shape if len(model.shape) == 3 else (1, *model.shape)
        self.img_channels, self.img_resolution = shape[0], shape[-1]
        self.label_dim = 0

    def forward(self, x: torch.Tensor, sigma: Any, class_labels: Any = None, **_: Any) -> torch.Tensor:
        level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1)
        beta = 1 / level.expand(len(x)).square()
        mean: torch.Tensor = self.model.mean(x.double(), beta)
        return mean.to(x.dtype)

    def round_sigma(self, sigma: Any) -> torch.Tensor:
        return torch.as_tensor(sigma)
