"""A small ensemble away from symmetry, and its quantities as functions of (field, beta)."""

from collections.abc import Callable

import pytest
import torch

from fastthermo import ops

Tensor = torch.Tensor


@pytest.fixture(scope="session")
def states() -> ops.States:
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
    return ops.States(torch.randn(5, 3, generator=generator, dtype=torch.float64), weights.log())


@pytest.fixture
def point() -> tuple[Tensor, Tensor]:
    """field (2, 3) and beta (2,) that require grad."""
    generator = torch.Generator().manual_seed(1)
    field = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    return field, torch.tensor([0.7, 1.9], dtype=torch.float64, requires_grad=True)


@pytest.fixture(scope="session")
def quantity(states: ops.States) -> Callable[[str], Callable[[Tensor, Tensor], Tensor]]:
    """quantity(name)(field, beta)"""
    return lambda name: lambda field, beta: getattr(ops.boltzmann(states, field, beta), name)


@pytest.fixture(scope="session")
def dense(states: ops.States) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """The same quantities in plain torch, for derivatives by autograd."""

    def quantities(field: Tensor, beta: Tensor) -> dict[str, Tensor]:
        energy = ((states.states - field[..., None, :]) ** 2).sum(-1) / 2
        logits = states.log_weights - beta[..., None] * energy
        w, log_evidence = logits.softmax(-1), logits.logsumexp(-1)
        mean, mean_energy = w @ states.states, (w * energy).sum(-1)
        delta = states.states - mean[..., None, :]
        return {
            "log_evidence": log_evidence,
            "mean": mean,
            "force": mean - field,
            "energy": mean_energy,
            "entropy": log_evidence + beta * mean_energy,
            "covariance": delta.mT @ (w[..., None] * delta),
        }

    return quantities
