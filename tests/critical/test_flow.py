"""Committors, slices of the landscape, tangents of the probability flow."""

import numpy as np
import pytest
import torch

import fastthermo as ft

PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))
VE = ft.VarianceExploding()


def test_committor_of_two_deltas() -> None:
    """h = .3, s = 1: 0.645656306225795"""
    p = ft.committor(PAIR.split(["up", "down"]), np.array([0.3]), 1.0)
    assert p[1] == pytest.approx(0.645656306225795, rel=1e-13)


def test_trajectories_end_as_the_committor_says() -> None:
    p, error = ft.sampled_committor(PAIR, VE, np.array([0.3]), 1.0, lambda y: y[:, 0] > 0, n=4096)
    assert abs(p[0] - 0.645656306225795) < 3 * error[0]


@pytest.mark.parametrize(("start", "end"), [(4.0, 2.0), (0.9, 0.3), (4.0, 0.25)])
def test_tangent_at_the_centre_is_the_ratio_of_densities(start: float, end: float) -> None:
    """p_start(0) / p_end(0), since the flow conserves the distribution function."""
    found = ft.lyapunov(PAIR, VE, np.zeros((1, 1)), start, end, steps=48)
    density = np.exp(-1 / (2 * np.array([start, end]))) / np.sqrt([start, end])
    assert np.exp(found.log_growth[-1, 0, 0]) == pytest.approx(density[0] / density[1], rel=2e-7)


def test_the_fastest_tangents_are_found_among_many() -> None:
    """Of an independent pair +-m in each of two directions, each grows by its own ratio of densities."""
    m, s = np.array([1.0, 0.7]), np.array([[10.0], [0.3]])
    corners = np.zeros((4, 200))
    corners[:, :2] = m * [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    found = ft.lyapunov(ft.Ensemble(corners), VE, np.zeros(200), *s[:, 0], k=2, steps=24)
    density = np.exp(-(m**2) / (2 * s)) / np.sqrt(s)
    assert found.log_growth[-1, 0] == pytest.approx(np.log(density[0] / density[1]), abs=1e-3)
    assert np.abs(found.tangents[0, :, :2]) == pytest.approx(np.eye(2), abs=1e-2)


def test_tangents_contract_above_the_critical_temperature_and_expand_below() -> None:
    found = ft.lyapunov(PAIR, VE, np.zeros((1, 1)), 2.0, 0.5, steps=64)
    rate = np.diff(found.log_growth[:, 0, 0])
    middle = np.sqrt(found.times[1:] * found.times[:-1])
    assert ((rate > 0) == (middle < 1)).all()


def test_the_flow_conserves_the_distribution_function() -> None:
    from scipy.stats import norm

    def cdf(h: float, s: float) -> float:
        return float(norm.cdf([(h - 1) / s**0.5, (h + 1) / s**0.5]).mean())

    found = ft.lyapunov(PAIR, VE, np.array([[0.7]]), 3.0, 0.4, steps=48)
    assert cdf(float(found.field[0, 0]), 0.4) == pytest.approx(cdf(0.7, 3.0), rel=1e-7)


def test_exponents_of_gaussian_like_directions_are_those_of_the_leading_variance() -> None:
    corners = np.array([[3.0, 0.2], [3.0, -0.2], [-3.0, 0.2], [-3.0, -0.2]])
    found = ft.lyapunov(ft.Ensemble(corners), VE, np.zeros((2, 2)), 4.0, 1.0, k=2, steps=48)
    assert (found.exponents[:, 0] > 0).all()
    assert (found.exponents[:, 1] < 0).all()
    assert np.abs(found.tangents[:, 0, 0]) == pytest.approx(1, abs=1e-2)


class Silent:
    """Two deltas without a free energy of their own."""

    dimension, shape, device, numpy = 1, (1,), torch.device("cpu"), True

    def mean(self, field: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(PAIR.mean(field, beta))


def test_slices_agree_with_and_without_a_free_energy() -> None:
    want = ft.potential_slice(PAIR, np.zeros(1), np.ones(1), 3.0, 1.5, 31)
    found = ft.potential_slice(Silent(), np.zeros(1), np.ones(1), 3.0, 1.5, 31)
    h = want.coordinates[0]
    assert want.free_energy == pytest.approx(h**2 / 2 - np.log(np.cosh(3 * h)) / 3, abs=1e-13)
    assert found.free_energy == pytest.approx(want.free_energy, abs=1e-12)


def test_slices_of_a_sharp_landscape_are_anchored_near_their_origin() -> None:
    want, found = (ft.potential_slice(one, np.array([0.2]), np.ones(1), 1e4, 1.5, 31) for one in (PAIR, Silent()))
    assert found.free_energy == pytest.approx(want.free_energy, abs=2e-4)


def test_planes_have_the_landscape_of_a_rectangle() -> None:
    law = ft.Ensemble(np.array([[2.0, 0.5], [2.0, -0.5], [-2.0, 0.5], [-2.0, -0.5]]))
    plane = ft.potential_slice(law, np.zeros(2), np.eye(2), 2.0, 2.5, 11)
    x = plane.coordinates[0]
    want = (x[:, None] ** 2 + x**2) / 2 - np.log(np.cosh(4 * x))[:, None] / 2 - np.log(np.cosh(1 * x)) / 2
    assert plane.free_energy == pytest.approx(want, abs=1e-12)


def test_lyapunov_exponents_are_printed_in_a_line() -> None:
    found = ft.lyapunov(PAIR, VE, np.array([[0.7]]), 3.0, 0.4, steps=4)
    assert repr(found).startswith("Lyapunov(1 x 1 exponents up to -")
    assert "array" not in repr(found)
