"""Covariances of every backend against exact ones, relative to their own size at any temperature."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft


def run(backend: Any, case: SimpleNamespace) -> torch.Tensor:
    log_weights, field, beta = case.rest
    packed = backend.pack(case.states, log_weights)
    found: torch.Tensor = backend.covariance(packed, field, beta, backend.boltzmann(packed, field, beta))
    return found


@pytest.fixture
def covariance(backend: Any, case: SimpleNamespace) -> torch.Tensor:
    return run(backend, case)


def test_covariance_is_that_of_exact_weights(covariance: torch.Tensor, case: Any, distance: Any) -> None:
    truth = case.truth.covariance
    trace = np.trace(truth, axis1=1, axis2=2)
    alive = trace > 1e-290
    assert (distance(covariance, truth)[alive] <= (4 * case.slack * trace)[alive]).all()
    assert (covariance.abs().amax((1, 2)).numpy()[~alive] < 1e-280).all()


def test_covariance_is_symmetric(covariance: torch.Tensor) -> None:
    difference = (covariance - covariance.mT).abs().amax((1, 2))
    assert (difference <= 1e-13 * covariance.abs().amax((1, 2))).all()


def test_covariance_has_no_negative_eigenvalue(covariance: torch.Tensor) -> None:
    if covariance.shape[1] > 100:
        covariance = covariance[:, :100, :100]
    values = torch.linalg.eigvalsh(covariance)
    assert (values >= -1e-13 * values.amax(1, keepdim=True)).all()


def test_covariance_at_low_temperature_is_that_of_the_runner_up(backend: Any) -> None:
    packed = backend.pack(torch.tensor([[0.0], [1.0], [9.0]]), torch.full((3,), 1 / 3).double().log())
    field, beta = torch.zeros(1, 1).double(), torch.full((1,), 400.0).double()
    found = backend.covariance(packed, field, beta, backend.boltzmann(packed, field, beta))
    assert float(found) == pytest.approx(np.exp(-200.0), rel=1e-12)


def test_covariance_of_duplicates_of_one_state_vanishes(backend: Any) -> None:
    packed = backend.pack(torch.full((70, 3), 7.0), torch.full((70,), 1 / 70).double().log())
    field, beta = torch.zeros(2, 3).double(), torch.ones(2).double()
    found = backend.covariance(packed, field, beta, backend.boltzmann(packed, field, beta))
    assert (found.abs() <= (4 * 2.0**-53 * 7.0 * 3**0.5) ** 2).all()  # the mean is that exact


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 127, 128, 129])
def test_every_number_of_states_is_summed(backend: Any, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    states = torch.randn(size, 5, generator=generator).double()
    packed = backend.pack(states, torch.full((size,), 1 / size).double().log())
    field, beta = torch.zeros(1, 5).double(), torch.full((1,), 1e-9).double()
    found = backend.covariance(packed, field, beta, backend.boltzmann(packed, field, beta))[0]
    assert torch.allclose(found, torch.cov(states.T, correction=0), rtol=0, atol=1e-7)


def test_no_queries_give_no_matrices(backend: Any) -> None:
    packed = backend.pack(torch.ones(5, 2), torch.full((5,), 0.2).double().log())
    field, beta = torch.zeros(0, 2).double(), torch.zeros(0).double()
    assert backend.covariance(packed, field, beta, backend.boltzmann(packed, field, beta)).shape == (0, 2, 2)


def test_every_output_is_written(backend: Any, case: SimpleNamespace, poisoned: Any) -> None:
    assert not poisoned(run, backend, case).isnan().any()


def test_answers_do_not_depend_on_the_batch(case: Any) -> None:
    from fastthermo.kernels import numba

    log_weights, field, beta = case.rest
    packed = numba.pack(case.states, log_weights)
    together = numba.covariance(packed, field, beta, numba.boltzmann(packed, field, beta))
    for i in range(len(field)):
        one = slice(i, i + 1)
        sums = numba.boltzmann(packed, field[one], beta[one])
        assert torch.equal(numba.covariance(packed, field[one], beta[one], sums)[0], together[i])


def test_a_last_block_of_one_state_overflows_nowhere() -> None:
    states = 1e6 * np.random.default_rng(0).normal(size=(5, 3))
    whole, parts = ft.Ensemble(states), ft.StreamedEnsemble(states, block=4)
    want, found = (ens.covariance(states[0], 1e-13) for ens in (whole, parts))
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12 * want.max())


def test_parts_of_the_states_give_the_sums_of_all_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastthermo.kernels import numba, reference

    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.normal(size=(9000, 17)))
    log_weights = torch.full((9000,), -np.log(9000)).double()
    field, beta = y[:150] + 0.5, torch.logspace(-3, 0, 150).double()
    packed, plain = numba.pack(y, log_weights), reference.pack(y, log_weights)
    sums = numba.boltzmann(packed, field, beta)
    want = reference.covariance(plain, field, beta, reference.boltzmann(plain, field, beta))
    module: Any = import_module("fastthermo.kernels.numba.covariance")
    one_block = 3 * module.FEATURE_ROWS * (9 * 32 + 32 + 8) * 8  # pairs of 17 dimensions, their sums, the mass
    found = []
    for size in (module.COVARIANCE_BYTES, one_block, 0):  # three parts, also a block at a time; one part
        monkeypatch.setattr(module, "COVARIANCE_BYTES", size)
        found.append(numba.covariance(packed, field, beta, sums))
        one = slice(70, 71)
        alone = numba.covariance(packed, field[one], beta[one], numba.boltzmann(packed, field[one], beta[one]))
        assert torch.equal(alone[0], found[-1][70])
        assert ((found[-1] - want).abs() <= 1e-12 * want.abs().amax((1, 2), keepdim=True)).all()
    assert torch.equal(found[0], found[1])
