"""One protocol for exact and learned models: the posterior mean as a function of (x, t) or of (field, beta).

The calling convention is azula's: d(x, t).mean and d.schedule(t) -> (alpha, sigma), with t growing towards noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fastthermo._arrays import is_torch
from fastthermo.process import Process
from fastthermo.state import Law, Posterior, posterior
from fastthermo.state import Model as Model


class Denoiser(Model, Protocol):
    """A model with a process: d(x, t) returns an object with `mean`, the estimate of clean data, shaped like x."""

    @property
    def process(self) -> Process: ...

    def __call__(self, x: Any, t: Any) -> Any: ...

    def schedule(self, t: Any) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class EmpiricalDenoiser:
    """The optimal denoiser of a law: E[y | x_t] exactly, for an Ensemble the softmax over the data."""

    law: Law
    process: Process

    def __call__(self, x: Any, t: Any, **options: Any) -> Posterior:
        """The posterior of clean data given x at time t (a scalar or (B,)); `.mean` is the denoised x."""
        return posterior(self.law, self.process, x, t, **options)

    def schedule(self, t: Any) -> tuple[Any, Any]:
        """alpha(t), sigma(t), of the kind of t."""
        return schedule(self.process, t)

    def mean(self, field: Any, beta: Any, **options: Any) -> Any:
        """E[y | field, beta], shaped like `field`."""
        return self.law.boltzmann(field, beta, **options).mean

    def __getattr__(self, name: str) -> Any:
        """What else a model is asked (response, dimension, shape, device, draw, ...) is the law's."""
        if name.startswith("__") or name in ("law", "process"):
            raise AttributeError(name)
        return getattr(self.law, name)


def schedule(process: Process, t: Any) -> tuple[Any, Any]:
    """alpha(t), sigma(t), of the kind of t."""
    if is_torch(t):
        import torch

        pair = (process.alpha(t), process.sigma(t))
        alpha, sigma = (torch.as_tensor(v, dtype=t.dtype, device=t.device) for v in pair)
        return alpha, sigma
    return process.alpha(t), process.sigma(t)
