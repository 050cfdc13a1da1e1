"""Spectra of the score Jacobian and the dimensions they imply, on data of known dimension."""

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo.regimes import gap_dimension, score_singular_values, singular_dimension

VE, OU = ft.VarianceExploding(t_min=1e-13), ft.OrnsteinUhlenbeck()
RNG = np.random.default_rng(0)


def sheet(dimension: int, size: int = 4000, ambient: int = 10) -> ft.Ensemble:
    """Uniform data on a flat cube of some dimension, in a random frame."""
    frame = np.linalg.qr(RNG.normal(size=(ambient, ambient)))[0]
    return ft.Ensemble(RNG.uniform(-1, 1, size=(size, dimension)) @ frame[:dimension])


def test_eigenvalues_of_the_score_jacobian_are_those_of_its_derivative() -> None:
    ens, t = ft.Ensemble(torch.from_numpy(RNG.normal(size=(50, 4)))), 0.5
    found = ft.jacobian_spectrum(ens, OU, t, n=3)
    x = ft.noised(ens, OU, t, ens.draw(3, 0), 0)
    for row, point in zip(found.score, x, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: ft.posterior(ens, OU, v, t).score, point)
        np.testing.assert_allclose(row, np.linalg.eigvalsh(jacobian.numpy())[::-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.score, (found.gains - 1) / OU.sigma(t) ** 2, rtol=1e-12)


def test_leading_gains_are_the_first_of_the_whole_spectrum() -> None:
    ens = ft.Ensemble(RNG.normal(size=(200, 70)))
    whole = ft.jacobian_spectrum(ens, OU, 0.5, n=2)
    leading = ft.jacobian_spectrum(ens, OU, 0.5, n=2, k=4)
    np.testing.assert_allclose(leading.gains, whole.gains[:, :4], rtol=1e-6)


def test_gaps_are_counted_from_no_direction_to_all() -> None:
    cases = {(0.9, 0.8, 0.1): 2, (0.1, 0.05, 0.0): 0, (0.99, 0.98, 0.97): 3, (3.0, 0.2, 0.1): 1}
    assert gap_dimension(np.array(list(cases))).tolist() == list(cases.values())
    assert gap_dimension([0.9, 0.8, 0.7], complete=False) < 3


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_dimension_of_a_flat_sheet_shows_between_its_extent_and_its_neighbours(dimension: int) -> None:
    """Gains are 1 along it and 0 across it; hotter and colder there are none."""
    ens = sheet(dimension)
    found = ft.manifold_dimension(ens, VE, np.array([30.0, 0.01, 1e-12]))
    for estimate in found:  # near its edges the sheet looks thinner
        assert estimate.value == pytest.approx([0, dimension, 0], abs=0.2 * dimension)


def test_the_dimension_of_a_sphere_is_less_than_that_of_its_space() -> None:
    y = RNG.normal(size=(6000, 3))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    found = ft.manifold_dimension(ft.Ensemble(y @ np.linalg.qr(RNG.normal(size=(8, 8)))[0][:3]), VE, 0.01, n=32)
    assert found.gap.value == pytest.approx(2, abs=0.2)
    assert found.singular.value == pytest.approx(2, abs=0.4)


def test_data_that_fill_their_space_have_all_its_dimensions() -> None:
    x = RNG.uniform(-1, 1, size=(5000, 2))
    assert ft.manifold_dimension(ft.Ensemble(x), VE, 0.01).gap.value == pytest.approx(2, abs=0.3)


def test_the_trace_dimension_is_beta_times_the_mean_squared_error() -> None:
    ens, t = sheet(2, 500), 0.05
    found = ft.manifold_dimension(ens, VE, t, n=16)
    error = ft.mmse(ens, VE, t, n=16)
    assert found.trace.value == pytest.approx(error.value / t, rel=1e-9)
    assert found.trace.error == pytest.approx(error.error / t, rel=1e-9)


def test_score_vectors_of_a_single_point_have_unit_singular_values() -> None:
    """The score of one Gaussian is -z / sigma, and the noise is orthogonal."""
    values = score_singular_values(ft.Ensemble(np.ones((1, 5))), VE, 0.1, n=2, copies=10)
    np.testing.assert_allclose(values, np.ones((2, 5)), rtol=1e-12)
    assert singular_dimension(values).tolist() == [0, 0]


def test_singular_values_are_those_of_the_scores() -> None:
    """Along a Gaussian direction of variance lambda they are sqrt(s (y^2 + s)) / (lambda + s) for one dimension."""
    x = np.linspace(-8, 8, 2001)
    ens = ft.Ensemble(x[:, None], -(x**2) / 2)
    s = 0.3
    y = ens.draw(4, 0)[:, 0]
    values = score_singular_values(ens, VE, s, n=4, copies=1000)
    signs = np.sqrt(s) * (y[:, None] + np.sqrt(s) * np.array([1, -1])) / (1 + s)  # z = +-1 in one dimension
    assert (values[:, 0] <= abs(signs).max(1) + 1e-6).all()
    assert (values[:, 0] >= abs(signs).min(1) - 1e-6).all()


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_a_dimension_is_asked_of_at_least_two_data(n: int) -> None:
    with pytest.raises(ValueError, match="n: wanted at least 2"):
        ft.manifold_dimension(sheet(2, 100), VE, 0.1, n)


def test_copies_come_in_whole_frames() -> None:
    with pytest.raises(ValueError, match="copies: wanted a multiple of the dimension 10"):
        score_singular_values(sheet(2, 100), VE, 0.1, copies=25)
