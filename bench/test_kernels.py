"""The four kernels against plain torch in the same run: `make bench` prints the ratios.

A ratio is worth more than a time: both sides of each group run interleaved on the same machine in the same minute.
"""

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import ops

CASES = {"phase": (2048, 1000, 2), "latent": (256, 4000, 64), "images": (64, 5000, 784)}


@pytest.fixture(params=CASES)
def case(request):
    queries, states, dimension = CASES[request.param]
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.normal(size=(states, dimension)).astype(np.float32))
    field = y[:queries] if queries <= states else y[torch.from_numpy(rng.integers(states, size=queries))]
    field = (field + torch.from_numpy(rng.normal(size=field.shape).astype(np.float32))).double()
    beta = torch.full((queries,), 4.0 / dimension, dtype=torch.float64)
    law = ops.States(y, torch.full((states,), -np.log(states), dtype=torch.float64))
    return request.param, law, field, beta


def chunked_torch(law, field, beta):
    """log Z~ and mean in float64 by chunks of states: two products, logsumexp and softmax as torch has them."""
    y = law.states.double()
    logits = torch.addmm(-(y**2).sum(1) / 2, field, y.T).mul_(beta[:, None]).add_(law.log_weights)
    return torch.logsumexp(logits, 1) - beta * (field**2).sum(1) / 2, torch.softmax(logits, 1) @ y


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_boltzmann(benchmark, case, backend):
    name, law, field, beta = case
    benchmark.group = f"boltzmann {name}"
    if backend == "torch":
        benchmark(chunked_torch, law, field, beta)
    else:
        moments = benchmark(ops.boltzmann, law, field, beta)
        evidence, mean = chunked_torch(law, field, beta)
        torch.testing.assert_close(moments.log_evidence, evidence, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moments.mean, mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_cumulant(benchmark, case, backend):
    name, law, field, beta = case
    benchmark.group = f"C v {name}"
    moments = ops.boltzmann(law, field, beta)
    benchmark.pedantic(
        ops.cumulant, (law, field, beta, moments, field[:, None], None, backend), rounds=3, warmup_rounds=1
    )


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_covariance(benchmark, case, backend):
    name, law, field, beta = case
    if name == "images":
        pytest.skip("B x D x D numbers are not what one asks of images")
    benchmark.group = f"covariance {name}"
    field, beta = field[:64], beta[:64]
    moments = ops.boltzmann(law, field, beta)
    benchmark.pedantic(ops.covariance, (law, field, beta, moments, backend), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("kind", ["numba", "torch"])
def test_step(benchmark, kind):
    benchmark.group = "step (65536, 64)"
    x = torch.zeros(65536, 64)
    if kind == "numba":
        benchmark(ops.step, x, x, 0.9, 0.1, 0.3, 0, 0)
    else:
        benchmark(lambda: 0.9 * x + 0.1 * x + 0.3 * torch.randn_like(x))


def test_sample(benchmark):
    benchmark.group = "100 steps of 1024 samples over 1000 states in 2 dimensions"
    law = ft.Ensemble(np.random.default_rng(0).normal(size=(1000, 2)))
    benchmark.pedantic(
        ft.sample, (law, ft.VariancePreserving(), 1024, 100), {"progress": False}, rounds=3, warmup_rounds=1
    )
