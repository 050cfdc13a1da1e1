"""Stationary points of the landscape F~(h), found from the public mean and covariance: h = <y> at s = 1/beta."""

import numpy as np
import pytest
from scipy.optimize import brentq, root

import fastthermo as ft

PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))
RECTANGLE = ft.Ensemble(np.array([[2.0, 0.5], [2.0, -0.5], [-2.0, 0.5], [-2.0, -0.5]]))


def simplex(q: int) -> np.ndarray:
    """The q corners of a simplex of radius 1, (q, q - 1)."""
    corners = np.eye(q) - 1 / q
    plane = np.linalg.svd(corners)[2][: q - 1]
    return corners @ plane.T / np.sqrt(1 - 1 / q)


def stationary(ens: ft.Ensemble, s: float, starts: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Distinct solutions of h = <y> by Newton's method, and whether each is a minimum of F~."""
    found: list[tuple[np.ndarray, bool]] = []
    for start in starts:
        result = root(
            lambda h: ft.boltzmann(ens, h, 1 / s).force,
            start,
            jac=lambda h: ft.covariance(ens, h, 1 / s) / s - np.eye(len(h)),
            tol=1e-13,
        )
        if np.abs(result.fun).max() < 1e-12 and not any(np.abs(result.x - h).max() < 1e-5 for h, _ in found):
            gain = ft.susceptibility(ens, result.x, 1 / s).leading()[0][0]
            found.append((result.x, bool(gain < 1)))
    return found


def order_parameter(s: float, h: float = 0.0) -> float:
    """The positive solution of x = <y>_{x + h}."""

    def excess(x: float) -> float:
        state = ft.boltzmann(PAIR, np.array([x + h]), 1 / s)
        return float(state.force[0]) + h

    return float(brentq(excess, 1e-4, 2.0, xtol=1e-16, rtol=1e-15))


@pytest.mark.parametrize(
    ("s", "value"),
    [
        (0.999, 0.0547503430915284),
        (0.99, 0.172511069975051),
        (0.9, 0.525429512658009),
        (0.5, 0.957504024077269),
        (0.25, 0.999325673015108),
    ],
)
def test_order_parameter_of_two_deltas(s: float, value: float) -> None:
    slope = abs((1 - value**2) / s - 1)  # of the force at the root: what its rounding is divided by
    assert order_parameter(s) == pytest.approx(value, rel=1e-12, abs=2.0**-52 / slope)


@pytest.mark.parametrize(("s", "ratio"), [(0.999, 0.999599931412574), (0.99, 0.995993126882862)])
def test_order_parameter_rises_as_the_square_root(s: float, ratio: float) -> None:
    assert order_parameter(s) / np.sqrt(3 * (1 - s)) == pytest.approx(ratio, rel=1e-12)


def test_critical_isotherm_is_a_cube_root() -> None:
    h = 1e-9
    assert order_parameter(1.0, h) == pytest.approx(1.44224897030752e-3, rel=2.0**-52 / h)


@pytest.mark.parametrize("s", [1.001, 1.1, 0.999, 0.9])
def test_self_consistent_susceptibility_diverges_with_amplitude_ratio_two(s: float) -> None:
    h = order_parameter(s) if s < 1 else 0.0
    chi = ft.susceptibility(PAIR, np.array([h]), 1 / s).self_consistent()[0, 0]
    gain = (1 - h**2) / s
    assert chi == pytest.approx(gain / (1 - gain), rel=1e-14 / abs(1 - gain))
    limit = 1 / (s - 1) if s > 1 else 1 / (2 * (1 - s))
    assert chi == pytest.approx(limit, rel=3 * abs(1 - s))


def test_barrier_of_two_deltas_is_quadratic_in_the_distance_from_criticality() -> None:
    """(3/4) eps^2"""
    errors = []
    for s in (0.98, 0.99):
        free = ft.boltzmann(PAIR, np.array([[0.0], [order_parameter(s)]]), 1 / s).regularised_free_energy
        errors.append(abs((free[0] - free[1]) / (0.75 * (1 - s) ** 2) - 1))
    assert errors[1] < 0.6 * errors[0] < 0.03


def test_saddle_node_of_unequal_weights() -> None:
    ens = ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([0.6, 0.4]))

    def conditions(v: np.ndarray) -> list[float]:
        h, s = np.array([v[0]]), v[1]
        return [float(ft.boltzmann(ens, h, 1 / s).force[0]), float(ft.covariance(ens, h, 1 / s)[0, 0] / s - 1)]

    found = root(conditions, [-0.5, 0.7], tol=1e-14).x
    assert found == pytest.approx([-0.574104819721699, 0.670403655972315], rel=1e-12)


@pytest.mark.parametrize(("s", "count"), [(4.2, 1), (1.0, 3), (0.2, 9)])
def test_number_of_fixed_points_of_a_rectangle(s: float, count: int) -> None:
    starts = np.stack(np.meshgrid(np.linspace(-2, 2, 5), np.linspace(-0.5, 0.5, 5)), -1).reshape(-1, 2)
    found = stationary(RECTANGLE, s, starts)
    assert len(found) == count
    assert sum(stable for _, stable in found) == (1 if count == 1 else 2 if count == 3 else 4)


@pytest.mark.parametrize(("s", "count", "stable"), [(0.56, 1, 1), (0.544, 7, 4)])
def test_number_of_fixed_points_of_a_triangle(s: float, count: int, stable: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    radius = np.linspace(0, 1, 5)
    starts = np.stack([np.outer(radius, np.cos(angle)), np.outer(radius, np.sin(angle))], -1).reshape(-1, 2)
    found = stationary(ft.Ensemble(simplex(3)), s, starts)
    assert len(found) == count
    assert sum(minimum for _, minimum in found) == stable


@pytest.mark.parametrize("q", [2, 3, 4, 6])
def test_origin_of_a_simplex_is_unstable_below_one_over_q_minus_one(q: int) -> None:
    gain = ft.susceptibility(ft.Ensemble(simplex(q)), np.zeros(q - 1), q - 1.0).leading()[0][0]
    assert gain == pytest.approx(1, rel=1e-12)


def test_upper_spinodal_of_a_triangle() -> None:
    ens = ft.Ensemble(simplex(3))
    corner = ens.data(0)

    def conditions(v: np.ndarray) -> list[float]:
        h, beta = v[0] * corner, v[1]
        gain = beta * corner @ ft.covariance(ens, h, beta) @ corner
        return [ft.boltzmann(ens, h, beta).force @ corner, gain - 1]

    assert root(conditions, [0.4, 1.83], tol=1e-14).x[1] == pytest.approx(1.83042905115515, rel=1e-12)


@pytest.mark.parametrize("q", [3, 4, 5, 10])
def test_maxwell_point_of_a_simplex(q: int) -> None:
    """beta = 2 (q-1)^2 log(q-1) / (q (q-2)), where F~ at (q-2)/(q-1) of a corner equals F~ at the centre."""
    ens = ft.Ensemble(simplex(q))
    beta = 2 * (q - 1) ** 2 * np.log(q - 1) / (q * (q - 2))
    if q == 3:
        assert beta == pytest.approx(1.84839248149319, rel=1e-13)
    fields = np.stack([np.zeros(q - 1), ens.data(0) * (q - 2) / (q - 1)])
    state = ft.boltzmann(ens, fields, beta)
    assert np.abs(state.force).max() < 1e-13
    assert state.regularised_free_energy[0] == pytest.approx(state.regularised_free_energy[1], rel=1e-13)
