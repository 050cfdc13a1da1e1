"""Peers for a step x' = a x + b mean + c z."""

from __future__ import annotations

from typing import Any

import torch
from cases import StepProblem
from contest import Output, Run, UnableError, best_of

from peers.tiles import compile_form

Tensor = torch.Tensor


def eager(problem: StepProblem) -> Run:
    """Three fused multiply-adds in place, in blocks of rows that fit the cache where that is faster."""
    x, mean, (a, b, c) = problem.x, problem.mean, problem.coefficients
    size, dimension = x.shape

    def step(count: int) -> Tensor:
        out, noise = torch.empty_like(x), x.new_empty(count, dimension)
        for rows, m, block in zip(x.split(count), mean.split(count), out.split(count), strict=True):
            torch.mul(rows, a, out=block).add_(m, alpha=b).add_(noise[: len(rows)].normal_(), alpha=c)
        return out

    sizes = [size, *(n // dimension for n in (2**14, 2**17) if dimension <= n < x.numel())]
    best = min(sizes, key=lambda count: best_of(lambda: step(count)))
    return Run(lambda: {"sample": step(best)}, size, f"{best} rows at a time")


def compiled(problem: StepProblem) -> Run:
    """torch.compile of the formula."""
    a, b, c = problem.coefficients
    form = compile_form(lambda x, mean: a * x + b * mean + c * torch.randn_like(x))
    return Run(lambda: {"sample": form(problem.x, problem.mean)}, len(problem.x))


def torchsde(problem: StepProblem) -> Run:
    """sdeint of dx = ((a - 1) x + b mean) dt + c dW over one Euler step of length 1."""
    try:
        import torchsde as package
    except ImportError as error:
        raise UnableError("torchsde is not installed") from error
    x, mean, (a, b, c) = problem.x, problem.mean, problem.coefficients

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, x: Tensor) -> Tensor:
            return (a - 1) * x + b * mean

        def g(self, t: Any, x: Tensor) -> Tensor:
            return torch.full_like(x, c)

    equation, times = Equation(), torch.tensor([0.0, 1.0], device=x.device)

    def call() -> Output:
        noise = package.BrownianInterval(0.0, 1.0, size=x.shape, dtype=x.dtype, device=x.device, entropy=0)
        return {"sample": package.sdeint(equation, x, times, bm=noise, dt=1.0, method="euler")[-1]}

    return Run(call, len(x))


def noise_alone(problem: StepProblem) -> Run:
    """What the noise of a torch peer costs."""
    out = torch.empty_like(problem.x)

    def call() -> Output:
        out.normal_()
        return {}

    return Run(call, len(out), "no step")
