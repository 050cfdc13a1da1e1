"""Ensembles in single precision: a field of float32 asks for it; results are rounded to float32, 6e-8 of themselves."""

from typing import Any

import numpy as np
import pytest
from extended import truth
from single_problems import WANTED, data, equal, weights

import fastthermo as ft

ROUNDING = 2.0**-24


def public(dimension: int, dtype: Any) -> tuple[np.ndarray, ...]:
    """Weights are equal in 8 dimensions."""
    states = data(dimension, 300, dimension, dtype)
    rng = np.random.default_rng(dimension)
    unit = 40.0 if dtype == np.uint8 else 1.0
    sigma = unit * np.geomspace(0.03, 30, 24)[:, None]
    field = states[:24] + sigma * rng.normal(size=(24, dimension))
    log_weights = equal(300) if dimension == 8 else weights(dimension, 300, False)
    return states, log_weights, field.astype(np.float32), (1 / sigma[:, 0] ** 2).astype(np.float32)


def normalised(log_weights: np.ndarray) -> np.ndarray:
    return log_weights - np.log(np.exp(log_weights).sum())


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.float32), (64, np.uint8)])
def test_the_bound_of_an_ensemble_holds_for_float32_fields(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    state = ft.Ensemble(states, log_weights).boltzmann(field, beta)
    exact = truth(states, normalised(log_weights), field.astype(np.float64), beta.astype(np.float64))
    assert state.force.dtype == np.float32
    true_error = np.linalg.norm((state.force - exact.force).astype(np.float64), axis=1) / exact.rms
    assert (true_error <= state.error_bound).all()
    assert (true_error <= WANTED + ROUNDING).all()


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.float32), (64, np.uint8)])
def test_rtol_takes_float64_where_the_single_bound_is_too_large(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    ens = ft.Ensemble(states, log_weights)
    loose = ens.boltzmann(field, beta).error_bound.max()
    rtol = 1e-6
    assert loose > rtol  # else nothing is tested
    state = ens.boltzmann(field, beta, rtol=rtol)
    exact = truth(states, normalised(log_weights), field.astype(np.float64), beta.astype(np.float64))
    true_error = np.linalg.norm((state.force - exact.force).astype(np.float64), axis=1) / exact.rms
    assert (state.error_bound <= rtol).all()
    assert (true_error <= state.error_bound).all()


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.uint8)])
def test_single_sums_of_a_float64_field_meet_rtol_by_float64(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    ens, wide = ft.Ensemble(states, log_weights), (field.astype(np.float64), beta.astype(np.float64))
    assert ens.boltzmann(*wide, single=True).error_bound.max() > 1e-8
    state = ens.boltzmann(*wide, rtol=1e-8, single=True)
    assert (state.error_bound <= 1e-8).all()


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.uint8)])
def test_an_rtol_below_the_rounding_of_float32_is_refused(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    with pytest.raises(ValueError, match=r"rtol: 1e-08 cannot be met"):
        ft.Ensemble(states, log_weights).boltzmann(field, beta, rtol=1e-8)
    with pytest.raises(ValueError, match=r"rtol: 1e-17 cannot be met"):
        ft.Ensemble(states, log_weights).boltzmann(
            field.astype(np.float64), beta.astype(np.float64), rtol=1e-17, single=True
        )
