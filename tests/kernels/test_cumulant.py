"""Joint cumulants of every backend against exact ones, with one and two probes of states and energies."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

LONG = np.longdouble


def probes(case: SimpleNamespace, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(count)
    queries, dimension = case.rest[1].shape
    return torch.from_numpy(rng.normal(size=(queries, count, dimension))), torch.from_numpy(
        rng.normal(size=(queries, count))
    )


def call(backend: Any, case: SimpleNamespace, v: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    log_weights, field, beta = case.rest
    packed = backend.pack(case.states, log_weights)
    return backend.cumulant(packed, field, beta, backend.boltzmann(packed, field, beta), v, u)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("energies", [False, True])
def test_cumulant_is_that_of_exact_weights(backend: Any, case: Any, count: int, energies: bool) -> None:
    v, u = probes(case, count)
    u = u * energies
    vectors, scalars = call(backend, case, v, u)
    for i, row in enumerate(case.truth.rows):
        a = v[i].numpy().astype(LONG) @ row.delta.T + u[i].numpy()[:, None] * row.deviation  # (K, N)
        length, probe_length = np.sqrt((row.delta**2).sum(1)), np.linalg.norm(v[i].numpy(), axis=1)
        # sizes that rounding of weights, of projections and of relative energies is relative to
        energy_size = np.abs(row.deviation) + row.work + row.weights @ row.work
        size = probe_length[:, None] * (length + row.weights @ length) + np.abs(u[i].numpy())[:, None] * energy_size
        weight = row.weights * (case.slack[i] * np.abs(a).prod(0) + 1e-12 * size.prod(0))
        want = (row.weights * a.prod(0)) @ row.delta
        error = np.sqrt(((vectors[i].numpy() - want) ** 2).sum())
        assert error <= 4 * weight @ (length + row.weights @ length) + 1e-280
        want = (row.weights * a.prod(0)) @ row.deviation
        assert abs(float(scalars[i]) - want) <= 4 * weight @ energy_size + 1e-280


def test_one_probe_is_the_product_with_the_covariance(backend: Any, case: Any) -> None:
    v, _ = probes(case, 1)
    vectors, _ = call(backend, case, v, torch.zeros(len(v), 1).double())
    truth = torch.from_numpy(case.truth.covariance)
    want = (truth @ v[:, 0, :, None])[..., 0]
    size = truth.diagonal(dim1=1, dim2=2).sum(1) * v[:, 0].norm(dim=1)
    assert ((vectors - want).norm(dim=1) <= 4 * torch.from_numpy(case.slack) * size + 1e-280).all()


def test_a_product_at_low_temperature_is_that_of_the_runner_up(backend: Any) -> None:
    packed = backend.pack(torch.tensor([[0.0], [1.0], [9.0]]), torch.full((3,), 1 / 3).double().log())
    field, beta, one = torch.zeros(1, 1).double(), torch.full((1,), 400.0).double(), torch.ones(1, 1, 1).double()
    sums = backend.boltzmann(packed, field, beta)
    vector, energy = backend.cumulant(packed, field, beta, sums, one, torch.zeros(1, 1).double())
    assert float(vector) == pytest.approx(np.exp(-200.0), rel=1e-12)
    assert float(energy) == pytest.approx(np.exp(-200.0) / 2, rel=1e-12)


def test_no_queries_give_no_products(backend: Any) -> None:
    packed = backend.pack(torch.ones(5, 2), torch.full((5,), 0.2).double().log())
    field, beta = torch.zeros(0, 2).double(), torch.zeros(0).double()
    sums = backend.boltzmann(packed, field, beta)
    vector, energy = backend.cumulant(packed, field, beta, sums, torch.zeros(0, 1, 2).double(), field[:, :1])
    assert vector.shape == (0, 2)
    assert energy.shape == (0,)


@pytest.mark.parametrize("count", [1, 2])
def test_every_output_is_written(backend: Any, case: Any, count: int, poisoned: Any) -> None:
    assert not any(x.isnan().any() for x in poisoned(call, backend, case, *probes(case, count)))


def test_answers_do_not_depend_on_the_batch(case: Any) -> None:
    from fastthermo.kernels import numba

    v, u = probes(case, 2)
    together = call(numba, case, v, u)
    log_weights, field, beta = case.rest
    packed = numba.pack(case.states, log_weights)
    for i in range(len(field)):
        one = slice(i, i + 1)
        sums = numba.boltzmann(packed, field[one], beta[one])
        alone = numba.cumulant(packed, field[one], beta[one], sums, v[one], u[one])
        assert all(torch.equal(a[i], b[0]) for a, b in zip(together, alone, strict=True))
