"""Transitions by kind; none of the kinds is taken for another."""

import numpy as np
import pytest

import fastthermo as ft

PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))


def unequal(p: float) -> ft.Ensemble:
    return ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([p, 1 - p]))


def simplex(q: int) -> ft.Ensemble:
    corners = np.eye(q) - 1 / q
    return ft.Ensemble(corners @ np.linalg.svd(corners)[2][: q - 1].T / np.sqrt(1 - 1 / q))


def test_an_equal_pair_has_a_pitchfork() -> None:
    found = ft.transition(PAIR)
    assert found.kind == "pitchfork"
    assert found.beta == pytest.approx(1, rel=1e-12)
    assert found.barrier == 0


def test_a_rectangle_has_a_pitchfork_along_its_long_side() -> None:
    found = ft.transition(ft.Ensemble(np.array([[2.0, 0.5], [2.0, -0.5], [-2.0, 0.5], [-2.0, -0.5]])))
    assert (found.kind, found.beta) == ("pitchfork", pytest.approx(0.25, rel=1e-12))


def test_a_circle_breaks_a_continuous_symmetry_continuously() -> None:
    angle = 2 * np.pi * np.arange(256) / 256
    found = ft.transition(ft.Ensemble(np.stack([np.cos(angle), np.sin(angle)], 1)))
    assert (found.kind, found.beta) == ("pitchfork", pytest.approx(2, rel=1e-12))


def test_unequal_weights_have_a_saddle_node() -> None:
    """p = .6: s 0.670403655972315 at h -0.574104819721699"""
    found = ft.transition(unequal(0.6))
    assert found.kind == "saddle-node"
    assert 1 / found.beta == pytest.approx(0.670403655972315, rel=1e-13)
    assert found.location[0] == pytest.approx(-0.574104819721699, rel=1e-9)
    assert np.isnan(found.maxwell_beta)


@pytest.mark.parametrize("p", [0.5001, 0.8])
def test_saddle_nodes_are_where_their_closed_form_is(p: float) -> None:
    """h0 = b sqrt(1 - 1/b) - atanh sqrt(1 - 1/b), h0 = log(p / (1 - p)) / 2"""
    found = ft.transition(unequal(p))
    m = np.sqrt(1 - 1 / found.beta)
    assert found.kind == "saddle-node"
    assert found.beta * m - np.arctanh(m) == pytest.approx(np.log(p / (1 - p)) / 2, rel=1e-8)


@pytest.mark.parametrize("seed", [0, 2])
def test_data_without_a_symmetry_have_no_pitchfork(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(int(rng.integers(2, 5)), 2))
    assert ft.transition(ft.Ensemble(points), n=32, temperatures=16).kind in ("saddle-node", "first-order")


def test_a_triangle_is_first_order() -> None:
    found = ft.transition(simplex(3))
    assert found.kind == "first-order"
    assert found.spinodal_beta[0] == pytest.approx(1.83042905115515, rel=1e-12)
    assert found.spinodal_beta[1] == pytest.approx(2, rel=1e-12)
    assert found.maxwell_beta == pytest.approx(1.84839248149319, rel=1e-12)
    assert found.beta == found.maxwell_beta
    assert found.jump == pytest.approx(0.5, rel=1e-10)
    assert found.barrier > 0


@pytest.mark.parametrize("q", [4, 5])
def test_a_simplex_is_first_order_at_its_maxwell_point(q: int) -> None:
    """beta = 2 (q-1)^2 log(q-1) / (q (q-2)), jump (q-2)/(q-1), origin unstable at q - 1"""
    found = ft.transition(simplex(q))
    assert found.kind == "first-order"
    assert found.maxwell_beta == pytest.approx(2 * (q - 1) ** 2 * np.log(q - 1) / (q * (q - 2)), rel=1e-11)
    assert found.jump == pytest.approx((q - 2) / (q - 1), rel=1e-9)
    assert found.spinodal_beta[1] == pytest.approx(q - 1, rel=1e-11)


def test_two_gaussians_have_a_pitchfork() -> None:
    """s_c = m^2 - v"""
    x = 0.25 * np.arange(-44, 45)
    law = ft.Ensemble(x[:, None], np.logaddexp(-((x - 2) ** 2) / 2, -((x + 2) ** 2) / 2))
    found = ft.transition(law, betas=(0.1, 2.0))
    assert (found.kind, 1 / found.beta) == ("pitchfork", pytest.approx(3, rel=1e-10))


def test_gaussian_data_and_a_single_state_have_no_transition() -> None:
    x = 0.25 * np.arange(-40, 41)
    assert ft.transition(ft.Ensemble(x[:, None], -(x**2) / 2), betas=(0.01, 9.0)).kind == "none"
    found = ft.transition(ft.Ensemble(np.ones((1, 3))))
    assert found.kind == "none"
    assert found.location is None
    assert np.isnan(found.beta)


def test_betas_must_be_a_range() -> None:
    with pytest.raises(ValueError, match="betas: wanted 0 < low < high"):
        ft.transition(PAIR, betas=(2.0, 1.0))


def test_the_old_phase_is_followed_to_its_end_however_cold() -> None:
    """-1, 0, 1 along one axis, +-0.2 along another: the centre lasts until the second parts, at beta = 1/0.2^2."""
    states = np.array([[a, b] for a in (-1.0, 0.0, 1.0) for b in (-0.2, 0.2)])
    ens = ft.Ensemble(states, np.repeat(np.log([0.33, 0.34, 0.33]), 2))
    found = ft.transition(ens)
    assert found.kind in ("saddle-node", "first-order")
    assert found.spinodal_beta[1] == pytest.approx(25, rel=1e-9)
    assert np.isnan(ft.transition(ens, (0.8, 20.0)).spinodal_beta[1])
