"""Speciation, collapse, information and U-turns against quadratures and independent sums."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

import fastthermo as ft

OU, VE = ft.OrnsteinUhlenbeck(), ft.VarianceExploding()
PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))
RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(200, 8))


def agrees(estimate: ft.Estimate, value: float, error: float = 0.0) -> bool:
    return abs(estimate.value - value) <= 3 * np.hypot(estimate.error, error)


def own_log_odds(states: np.ndarray, t: float, z: np.ndarray) -> np.ndarray:
    """log w_own / (1 - w_own) of every state, given exp(-t) y + sqrt(1 - exp(-2t)) z."""
    beta = 1 / np.expm1(2 * t)
    h = states + z / np.sqrt(beta)
    logits = -beta * ((states[:, None] - h) ** 2).sum(-1).T / 2
    own = np.diag(logits)
    others = logits + np.where(np.eye(len(states), dtype=bool), -np.inf, 0)
    return own - np.logaddexp.reduce(others, axis=1)


def test_collapse_is_where_the_mean_log_odds_of_the_own_state_vanish() -> None:
    found = ft.collapse_time(ft.Ensemble(CLOUD), OU, n=200)
    z = np.random.default_rng(1).normal(size=CLOUD.shape)
    want = brentq(lambda t: own_log_odds(CLOUD, t, z).mean(), 1e-2, 5.0)
    slope = (own_log_odds(CLOUD, want + 1e-3, z).mean() - own_log_odds(CLOUD, want - 1e-3, z).mean()) / 2e-3
    error = own_log_odds(CLOUD, want, z).std(ddof=1) / np.sqrt(len(CLOUD)) / abs(slope)
    assert agrees(found, want, error)
    assert found.error == pytest.approx(error, rel=0.3)


def test_collapse_does_not_depend_on_the_process_but_through_the_temperature() -> None:
    ens = ft.Ensemble(CLOUD)
    betas = [process.beta(ft.collapse_time(ens, process, n=100).value) for process in (OU, VE, ft.FlowMatching())]
    np.testing.assert_allclose(betas, betas[0], rtol=1e-3)


def test_more_data_collapse_later() -> None:
    times = [ft.collapse_time(ft.Ensemble(CLOUD[:n]), OU, n=n).value for n in (10, 50, 200)]
    assert times[0] > times[1] > times[2]


def test_two_states_never_collapse() -> None:
    """The own one of two is the likelier at every temperature, on average."""
    found = ft.collapse_time(PAIR, ft.OrnsteinUhlenbeck(t_max=1.0), n=50)
    assert np.isnan(found.value)
    assert np.isnan(found.error)


def test_collapse_takes_ensembles_of_every_kind() -> None:
    want = ft.collapse_time(ft.Ensemble(CLOUD), OU, n=200)
    assert ft.collapse_time(ft.Ensemble(torch.from_numpy(CLOUD)), OU, n=200) == want
    assert ft.collapse_time(ft.Ensemble(CLOUD.reshape(200, 2, 4)), OU, n=200) == want
    pixels = (40 * CLOUD + 128).clip(0, 255).astype(np.uint8)
    one, two = ft.Ensemble(pixels, scale=1 / 40, shift=-3.2), ft.Ensemble(pixels / 40 - 3.2)
    a, b = (ft.collapse_time(ens, OU, n=200) for ens in (one, two))
    assert a == pytest.approx(b, rel=1e-6)
    weighted = ft.collapse_time(ft.Ensemble(CLOUD, np.log(RNG.dirichlet(np.ones(200)))), OU, n=200)
    assert weighted.value > want.value  # fewer states compete
    assert isinstance(weighted.value, float)


@pytest.mark.parametrize(("beta", "value"), [(1.0, 0.336830820346832), (2.0, 0.500072136066845)])
def test_mutual_information_of_two_deltas(beta: float, value: float) -> None:
    for seed in range(4):
        found = ft.mutual_information(PAIR, VE, 1 / beta, n=4000, seed=seed)
        assert agrees(found, value)
        assert found.error < 0.01


def test_standard_errors_are_those_of_repeated_estimates() -> None:
    runs = [ft.mutual_information(PAIR, VE, 1.0, n=500, seed=seed) for seed in range(30)]
    deviations = np.array([(run.value - 0.336830820346832) / run.error for run in runs])
    assert abs((deviations**2).sum() - 30) <= 3 * np.sqrt(60)


def test_mutual_information_goes_from_nothing_to_the_entropy_of_the_data() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    ens = ft.Ensemble(np.array([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]]), np.log(weights))
    values = [ft.mutual_information(ens, VE, s, n=2000).value for s in (1e3, 10.0, 1.0, 0.1, 1e-3)]
    assert (np.diff(values) > 0).all()
    assert abs(values[0]) < 0.01
    assert agrees(ft.mutual_information(ens, VE, 1e-3, n=2000), -(weights * np.log(weights)).sum())


def test_information_rises_by_half_the_mean_squared_error() -> None:
    """dI/dbeta = mmse/2"""
    ens, beta, n = ft.Ensemble(CLOUD[:20]), 0.7, 4000
    step = 0.02
    up, down = (ft.mutual_information(ens, VE, 1 / (beta + sign * step), n=n) for sign in (1, -1))
    x = ft.noised(ens, VE, 1 / beta, ens.draw(n, 0), 0)
    mmse = np.trace(ft.covariance(ens, x, beta), axis1=1, axis2=2)
    # the same data and noise on both sides: the difference fluctuates far less than either
    assert (up.value - down.value) / (2 * step) == pytest.approx(mmse.mean() / 2, abs=3 * mmse.std() / np.sqrt(n))


def test_excess_entropy_is_what_information_lacks_to_log_n_a_dimension() -> None:
    ens = ft.Ensemble(CLOUD)
    information = ft.mutual_information(ens, OU, 0.5, n=100, seed=3)
    found = ft.excess_entropy(ens, OU, 0.5, n=100, seed=3)
    assert found.value == pytest.approx((np.log(200) - information.value) / 8, rel=1e-12)
    assert found.error == pytest.approx(information.error / 8, rel=1e-12)
    assert ft.excess_entropy(ens, OU, 1e-4, n=100).value == pytest.approx(0, abs=1e-10)


def test_u_turn_of_two_deltas_by_quadrature() -> None:
    z, w = np.polynomial.hermite_e.hermegauss(80)
    classes = PAIR.split([0, 1])
    for beta in (0.3, 1.0, 3.0):
        tanh = np.tanh(beta * (1 + z / np.sqrt(beta)))
        assert agrees(ft.u_turn(classes, VE, 1 / beta, n=4000), float(w @ (1 + tanh**2) / 2 / w.sum()))


def test_u_turn_goes_from_chance_to_certainty() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    classes = ft.Ensemble(np.array([[0.0], [2.0], [-1.0]]), np.log(weights)).split(["a", "b", "a"])
    assert ft.u_turn(classes, VE, 1e3).value == pytest.approx(0.7**2 + 0.3**2, abs=0.01)
    values = [ft.u_turn(classes, VE, s).value for s in (1e3, 10.0, 1.0, 0.1, 1e-3)]
    assert (np.diff(values) > 0).all()
    assert values[-1] == pytest.approx(1, abs=1e-12)


def test_speciation_is_half_the_log_of_the_largest_data_variance() -> None:
    ens = ft.Ensemble(np.concatenate([CLOUD + 3, CLOUD - 3]))
    assert ft.speciation_time(ens, OU) == pytest.approx(np.log(ens.principal(1)[0][0]) / 2, rel=1e-12)
    assert ft.speciation_time(ens, OU) == ft.critical_time(ens, OU, "speciation")
    assert np.isnan(ft.speciation_time(ft.Ensemble(0.1 * CLOUD), OU))


def test_speciation_needs_a_signal_that_falls() -> None:
    with pytest.raises(ValueError, match="alpha"):
        ft.speciation_time(PAIR, VE)


@pytest.mark.parametrize(
    "estimate",
    [
        lambda seed: ft.collapse_time(ft.Ensemble(CLOUD), OU, n=50, seed=seed),
        lambda seed: ft.mutual_information(PAIR, VE, 1.0, n=50, seed=seed),
        lambda seed: ft.u_turn(PAIR.split([0, 1]), VE, 1.0, n=50, seed=seed),
    ],
    ids=["collapse", "information", "u_turn"],
)
def test_estimates_depend_on_their_seed_alone(estimate: Any) -> None:
    assert estimate(0) == estimate(0)
    assert estimate(0) != estimate(1)
