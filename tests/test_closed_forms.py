"""Problems whose thermodynamics is known in closed form or to many digits, at sigma = 1 and s = 1/beta."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

import fastthermo as ft

VE = ft.VarianceExploding()
PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))
POINTS = ft.Ensemble(np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -2.0]]))
EXACT = 1e-12


def same(value: float) -> Any:
    return pytest.approx(value, rel=EXACT, abs=EXACT)


def grid(half: float, spacing: float) -> np.ndarray:
    n = int(half / spacing)
    return spacing * np.arange(-n, n + 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_partition", -0.829864713221914),
        ("mean", 0.537049566998035),
        ("regularised_free_energy", 0.459932356610957),
        ("energy", 0.338885129900589),
        ("entropy", -0.152094453420735),
        ("heat_capacity", 0.2561679945314),
    ],
)
def test_two_deltas(name: str, value: float) -> None:
    assert float(np.squeeze(getattr(ft.boltzmann(PAIR, np.array([0.3]), 2.0), name))) == same(value)


@pytest.mark.parametrize(
    ("h", "beta", "log_partition", "mean", "covariance"),
    [
        (0.3, 2.0, -0.829864713221914, 0.537049566998035, 0.711577762587223),
        (0.3, 0.5, -0.238791936091418, 0.148885033623318, 0.977833246762983),
        (3.0, 400.0, 999.30685281944, 1.0, 0.0),
    ],
)
def test_two_deltas_in_a_field(h: float, beta: float, log_partition: float, mean: float, covariance: float) -> None:
    state = ft.boltzmann(PAIR, np.array([h]), beta)
    assert float(state.log_partition) == same(log_partition)
    assert float(state.mean[0]) == same(mean)
    assert float(ft.covariance(PAIR, np.array([h]), beta)[0, 0]) == same(covariance)


def test_score_and_density_of_two_deltas() -> None:
    p = ft.posterior(PAIR, VE, np.array([0.3]), 0.5)
    assert float(p.score[0]) == same(0.474099133996071)
    assert float(p.log_density) == same(-1.49222965614661)


def test_two_deltas_at_any_field_and_temperature() -> None:
    mu, h = np.array([1.0, -0.5, 2.0]), np.array([0.3, 0.2, -0.1])
    ens = ft.Ensemble(np.array([mu, -mu]))
    for beta in np.geomspace(1e-4, 1e2, 13):
        state = ft.boltzmann(ens, h, beta)
        assert float(state.log_partition) == same(-beta * mu @ mu / 2 + np.log(np.cosh(beta * h @ mu)))
        np.testing.assert_allclose(state.mean, mu * np.tanh(beta * h @ mu), rtol=EXACT, atol=EXACT)
        want = np.outer(mu, mu) / np.cosh(beta * h @ mu) ** 2
        np.testing.assert_allclose(ft.covariance(ens, h, beta), want, rtol=EXACT, atol=EXACT)


def test_committor_of_two_deltas() -> None:
    w, index = ft.top_weights(PAIR, np.array([0.3]), 1.0, 2)
    assert float(w[0]) == same(0.645656306225795)
    assert index[0] == 0


def test_three_points() -> None:
    h, beta = np.array([0.3, -0.2]), 0.5
    state = ft.boltzmann(POINTS, h, beta)
    assert float(state.log_partition) == same(-0.496192689880684)
    np.testing.assert_allclose(state.mean, [0.236771457570239, -0.233388277511745], rtol=EXACT)
    c = ft.covariance(POINTS, h, beta)
    np.testing.assert_allclose(
        c[[0, 0, 1], [0, 1, 1]], [0.697938257389414, -0.203354078823292, 1.18814775135226], rtol=EXACT
    )
    assert float(state.participation) == same(0.372804094454976)
    w, index = ft.top_weights(POINTS, h, beta, 3)
    np.testing.assert_allclose(w, [0.495385219039794, 0.258613761469555, 0.24600101949065], rtol=EXACT)
    assert index.tolist() == [0, 1, 2]


def weighted(nodes: np.ndarray, weights: np.ndarray) -> ft.Ensemble:
    """A continuous law by its quadrature."""
    with np.errstate(divide="ignore"):
        return ft.Ensemble(nodes, np.log(weights))


def sphere(d: int, r: float) -> ft.Ensemble:
    """The sphere S^{d-1}(r) seen along the first axis: Gauss-Gegenbauer in cos(angle), the second for all others."""
    from scipy.special import roots_gegenbauer

    if d == 2:
        angle = np.pi * (2 * np.arange(200) + 1) / 400
        c, w = np.cos(angle), np.ones(200)
    else:
        c, w = roots_gegenbauer(200, (d - 2) / 2)
    across = np.sqrt(1 - c**2)
    return weighted(r * np.stack([np.r_[c, c], np.r_[across, -across]], 1), np.r_[w, w])


@pytest.mark.parametrize(
    ("d", "log_partition", "mean", "radial", "transverse"),
    [
        (3, -1.14968146961081, 0.438124726315845, 0.223880422436205, 0.29208315087723),
        (2, -1.00121263228438, 0.596133238831291, 0.247203002339655, 0.39742215922086),
    ],
)
def test_sphere(d: int, log_partition: float, mean: float, radial: float, transverse: float) -> None:
    ens, h = sphere(d, 1.0), np.array([0.5, 0.0])
    state = ft.boltzmann(ens, h, 3.0)
    assert float(state.log_partition) == same(log_partition)
    assert float(state.mean[0]) == same(mean)
    covariance = ft.covariance(ens, h, 3.0)
    assert covariance[0, 0] == same(radial)
    assert covariance[1, 1] / (d - 1) == same(transverse)


@pytest.mark.parametrize(("d", "value"), [(2, 0.831462024754257), (3, 0.788886566629197), (10, 0.730981843703263)])
def test_order_parameter_of_a_sphere(d: int, value: float) -> None:
    ens, r = sphere(d, np.sqrt(d)), np.sqrt(d)
    root = brentq(lambda x: ft.boltzmann(ens, np.array([x, 0.0]), 2.0).force[0], 0.3 * r, r, xtol=1e-15, rtol=1e-15)
    assert root / r == same(value)


@pytest.mark.parametrize("d", [2, 3, 10])
def test_transverse_gain_is_one_at_an_ordered_fixed_point_of_a_sphere(d: int) -> None:
    ens, r = sphere(d, np.sqrt(d)), np.sqrt(d)
    root = brentq(lambda x: ft.boltzmann(ens, np.array([x, 0.0]), 2.0).force[0], 0.3 * r, r, xtol=1e-15, rtol=1e-15)
    gain = 2.0 * ft.covariance(ens, np.array([root, 0.0]), 2.0)[1, 1] / (d - 1)
    assert gain == pytest.approx(1, rel=1e-12)


def test_gaussian_in_three_dimensions() -> None:
    axes = [grid(9 * s, h) for s, h in ((2.0, 0.5), (1.0, 0.45), (0.5, 0.3))]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    ens = weighted(nodes, np.exp(-(nodes**2 / [4, 1, 0.25]).sum(1) / 2))
    h = np.array([1.0, -1.0, 2.0])
    state = ft.boltzmann(ens, h, 2.0)
    assert float(state.log_partition) == same(1.03823790183264)
    np.testing.assert_allclose(state.mean, [8 / 9, -2 / 3, 2 / 3], rtol=EXACT)
    np.testing.assert_allclose(ft.covariance(ens, h, 2.0), np.diag([4 / 9, 1 / 3, 1 / 6]), rtol=EXACT, atol=EXACT)
    assert float(ft.posterior(ens, VE, h, 0.5).log_density) == same(-6.67885692694146)


def test_two_gaussians() -> None:
    """<y> = (v h + s mu tanh(h mu / (v + s))) / (v + s)"""
    x = grid(11.0, 0.25)
    ens = weighted(x[:, None], np.exp(-((x - 2) ** 2) / 2) + np.exp(-((x + 2) ** 2) / 2))
    for h, s in ((0.3, 0.5), (-1.0, 2.0), (2.5, 3.0)):
        want = (h + 2 * s * np.tanh(2 * h / (1 + s))) / (1 + s)
        assert float(ft.boltzmann(ens, np.array([h]), 1 / s).mean[0]) == same(want)


def density(s: float) -> tuple[np.ndarray, float, Any]:
    """A grid of fields, its spacing and the posterior of the pair of deltas there: the trapezoid rule is exact."""
    x = grid(3 + 12 * np.sqrt(s), 0.05 * np.sqrt(s))
    return x, x[1] - x[0], ft.posterior(PAIR, VE, x[:, None], s)


@pytest.mark.parametrize(
    ("beta", "mmse", "information"),
    [(1.0, 0.449599509206673, 0.336830820346832), (2.0, 0.231018221929296, 0.500072136066845)],
)
def test_information_and_mmse_of_two_deltas(beta: float, mmse: float, information: float) -> None:
    x, spacing, p = density(1 / beta)
    weight = spacing * np.exp(p.log_density)
    assert weight @ ft.covariance(PAIR, x[:, None], beta)[:, 0, 0] == same(mmse)
    assert weight @ -p.log_evidence - 0.5 == same(information)


def test_information_rises_by_half_the_mmse() -> None:
    """dI/dbeta = mmse/2"""

    def information(beta: float) -> float:
        _, spacing, p = density(1 / beta)
        return spacing * np.exp(p.log_density) @ -p.log_evidence - 0.5

    step = 1e-3
    stencil = [information(1 + k * step) for k in (-2, -1, 1, 2)]
    assert np.dot(stencil, [1, -8, 8, -1]) / (12 * step) == pytest.approx(0.449599509206673 / 2, rel=1e-10)


@pytest.mark.parametrize(("s", "value"), [(4.0, 1.50293472369e-4), (1.0, 9.74276993314e-3), (0.25, 0.171998762480)])
def test_divergence_of_two_deltas_from_the_matched_gaussian(s: float, value: float) -> None:
    x, spacing, p = density(s)
    gaussian = -(x**2) / (2 * (1 + s)) - np.log(2 * np.pi * (1 + s)) / 2
    assert spacing * np.exp(p.log_density) @ (p.log_density - gaussian) == pytest.approx(value, rel=1e-11, abs=1e-15)


def test_clone_probability_of_two_far_modes_at_speciation() -> None:
    """As Lambda = m^2 grows, x at Lambda alpha^2 = 1 is that of two unit modes at s = 1."""
    x, spacing, p = density(1.0)
    posterior = PAIR.split([0, 1]).class_posterior(x[:, None], 1.0)
    assert spacing * np.exp(p.log_density) @ (posterior**2).sum(1) == same(0.775200245396664)


def test_condensation_of_random_data_follows_the_random_energy_model() -> None:
    """sum w^2 for pure-noise queries falls from order one to 1/N across s_cond = tr(Sigma) / (2 log N)."""
    rng = np.random.default_rng(0)
    size, dimension = 2000, 256
    ens = ft.Ensemble(rng.normal(size=(size, dimension)) / np.sqrt(dimension))
    s_cond = ens.data_variance / (2 * np.log(size))
    shares = []
    for s in s_cond * np.geomspace(1 / 16, 16, 9):
        x = np.sqrt(s) * rng.normal(size=(200, dimension))
        shares.append(ft.boltzmann(ens, x, 1 / s).participation.mean())
    assert (np.diff(shares) < 0).all()
    assert shares[0] > 0.5 > 1 / np.sqrt(size) > shares[-1]
