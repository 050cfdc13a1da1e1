"""Closed-form laws have the transitions of their finite ensembles."""

import numpy as np
import pytest

import fastthermo as ft


@pytest.mark.slow
def test_a_sphere_has_a_pitchfork() -> None:
    """r = sqrt d: s_c = 1"""
    found = ft.transition(ft.solvable.sphere(3, np.sqrt(3)), n=32)
    assert (found.kind, found.beta) == ("pitchfork", pytest.approx(1, rel=1e-10))


@pytest.mark.parametrize(("d", "ratio"), [(2, 0.831462024754257), (3, 0.788886566629197), (10, 0.730981843703263)])
def test_order_parameter_of_spheres(d: int, ratio: float) -> None:
    """r = sqrt d, s = .5: x*/r"""
    found = ft.fixed_points(ft.solvable.sphere(d, np.sqrt(d)), 2.0, n=32)
    radius = np.linalg.norm(found.points, axis=1) / np.sqrt(d)
    assert radius[radius > 0.1] == pytest.approx(ratio, rel=1e-10)
    assert (radius > 0.1).any()
    assert (radius < 1e-9).any()


def test_gaussian_data_have_no_transition() -> None:
    assert ft.transition(ft.solvable.gaussian(np.diag([4.0, 1.0, 0.25])), n=64).kind == "none"


def test_closed_form_of_unequal_deltas_has_a_saddle_node() -> None:
    found = ft.transition(ft.solvable.two_deltas(np.ones(1), 0.6), n=64)
    assert found.kind == "saddle-node"
    assert 1 / found.beta == pytest.approx(0.670403655972315, rel=1e-12)


def test_critical_time_of_two_gaussians_in_closed_form() -> None:
    law = ft.solvable.gaussian_mixture(np.array([[2.0], [-2.0]]), 1.0, np.array([0.5, 0.5]))
    assert ft.critical_time(law, ft.OrnsteinUhlenbeck()) == pytest.approx(0.693147180559945, rel=1e-12)
