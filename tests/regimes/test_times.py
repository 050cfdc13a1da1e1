"""Speciation, collapse and condensation against closed forms and independent sums."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

import fastthermo as ft
from fastthermo import solvable
from fastthermo.regimes import condensation_spectrum, condensation_temperature, rem_participation

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
    for found in (ft.collapse_time(PAIR, OU, n, seed) for n in (50, 1024) for seed in range(6)):
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


def test_speciation_is_half_the_log_of_the_largest_data_variance() -> None:
    ens = ft.Ensemble(np.concatenate([CLOUD + 3, CLOUD - 3]))
    assert ft.speciation_time(ens, OU) == pytest.approx(np.log(ens.principal(1)[0][0]) / 2, rel=1e-12)
    assert ft.speciation_time(ens, OU) == ft.critical_time(ens, OU, "speciation")
    assert np.isnan(ft.speciation_time(ft.Ensemble(0.1 * CLOUD), OU))


def test_without_a_signal_that_falls_there_is_no_speciation() -> None:
    assert np.isnan(ft.speciation_time(PAIR, VE))
    assert np.isnan(ft.speciation_time(ft.Ensemble(CLOUD), ft.EDM()))


def sampled(dimension: int) -> Any:
    """Unit Gaussian data by a law that does not know its information in closed form."""
    return solvable.gaussian_mixture(np.zeros((1, dimension)), 1.0)


@pytest.mark.parametrize(("dimension", "time"), [(256, 1.29878968675587), (1024, 1.97754671863216)])
def test_collapse_of_gaussian_data(dimension: int, time: float) -> None:
    found = ft.population_collapse(solvable.gaussian(np.eye(dimension)), OU, 20_000)
    assert found.value == pytest.approx(time, rel=1e-12)
    assert found.error == 0


def test_collapse_of_gaussian_data_at_half_a_nat_a_dimension() -> None:
    found = ft.population_collapse(solvable.gaussian(np.eye(8)), VE, np.exp(0.5 * 8))
    assert found.value == pytest.approx(0.581976706869326, rel=1e-12)


def test_collapse_of_gaussian_data_in_one_dimension_is_found_by_quadrature() -> None:
    found = ft.population_collapse(sampled(1), OU, 20)
    assert found.value == pytest.approx(np.log1p(1 / (20**2 - 1)) / 2, rel=1e-11)
    assert found.error == 0


def test_collapse_of_gaussian_data_by_monte_carlo_has_an_honest_error() -> None:
    want = np.log1p(1 / (20_000 ** (2 / 16) - 1)) / 2
    runs = [ft.population_collapse(sampled(16), OU, 20_000, n=300, seed=seed) for seed in range(20)]
    deviations = np.array([(run.value - want) / run.error for run in runs])
    assert abs((deviations**2).sum() - 20) <= 3 * np.sqrt(40)
    assert all(run.error < 0.03 * want for run in runs)


def test_a_law_of_few_points_never_holds_more_than_its_entropy() -> None:
    """Nor as much, however sampling and rounding fall."""
    unequal = ft.Ensemble([[1.0, 0.0], [-1.0, 0.0]], np.log([0.2, 0.8]))
    as_many = np.exp(-0.2 * np.log(0.2) - 0.8 * np.log(0.8))
    assert np.isnan(ft.population_collapse(PAIR, VE, 3).value)
    assert np.isnan(ft.population_collapse(PAIR, VE, 2).value)
    assert all(np.isnan(ft.population_collapse(unequal, VE, as_many, n=200, seed=seed).value) for seed in range(6))
    assert 0 < ft.population_collapse(PAIR, VE, 1.5).value < 3


def test_pure_noise_condenses_where_its_temperature_is_that_of_the_random_energy_model() -> None:
    """For states of one length T = tr(Sigma) / (2 log N), and there V of a noise of variance T is 2 T^2 log N."""
    y = RNG.normal(size=(500, 40))
    y = np.concatenate([y, -y]) / np.linalg.norm(np.concatenate([y, y]), axis=1, keepdims=True)
    ens = ft.Ensemble(y)
    t = ft.condensation_time(ens, VE)
    assert t == pytest.approx(ens.data_variance / (2 * np.log(1000)), rel=1e-6)
    temperatures = condensation_temperature(ens, np.sqrt(t) * RNG.normal(size=(2000, 40)))
    error = (temperatures**2).std() / np.sqrt(2000)
    assert abs((temperatures**2).mean() - t**2) < 3 * error
    assert condensation_spectrum(ens, 40).sum() == pytest.approx(t, rel=1e-9)


def test_the_variance_of_energies_is_that_over_the_states_with_their_weights() -> None:
    weights = RNG.dirichlet(np.ones(200))
    ens, h = ft.Ensemble(CLOUD, np.log(weights)), 5 * RNG.normal(size=(7, 8))
    energies = (CLOUD**2).sum(1) / 2 - h @ CLOUD.T
    variance = energies**2 @ weights - (energies @ weights) ** 2
    np.testing.assert_allclose(condensation_temperature(ens, h), np.sqrt(variance / (2 * np.log(200))), rtol=1e-6)


@pytest.mark.parametrize(("rare", "far"), [(-20.0, 1e3), (-30.0, 1e6), (-60.0, 1e9)])
def test_rare_far_states_count_in_the_variance_of_energies(rare: float, far: float) -> None:
    y, h, w = np.array([1.0, -1.0, far]), 0.3, np.exp([0, 0, rare]) / (2 + np.exp(rare))
    energy = (y - h) ** 2 / 2 - (1 - h) ** 2 / 2
    want = w @ (energy - w @ energy) ** 2
    law = ft.Ensemble(y[:, None], np.array([0, 0, rare]))
    found = condensation_temperature(law, np.array([[h]]))
    assert found[0] == pytest.approx(np.sqrt(want / (2 * np.log(3))), rel=1e-12)


def test_condensation_of_states_of_any_length_solves_its_equation() -> None:
    ens = ft.Ensemble(CLOUD + 2)
    t = ft.condensation_time(ens, OU)
    temperature = 1 / OU.beta(t)
    delta = CLOUD - CLOUD.mean(0)
    variance = ((delta**2).sum(1) / 2).var() + temperature * ens.data_variance
    assert 2 * temperature**2 * np.log(200) == pytest.approx(variance, rel=1e-6)
    assert np.isnan(ft.condensation_time(ens, ft.VarianceExploding(t_max=0.1)))


@pytest.mark.parametrize(
    ("law", "error", "says"),
    [
        (ft.wrap(lambda x, t: 0 * x, "mean", OU, shape=(2,), check=False), TypeError, "law: wanted an Ensemble, or"),
        (ft.solvable.sphere(3, 1.0), ValueError, "size: wanted more than one state, finitely many, got inf"),
        (ft.Ensemble(np.ones((1, 2))), ValueError, "size: wanted more than one state, finitely many, got 1"),
    ],
)
def test_condensation_is_of_a_number_of_states(law: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ft.condensation_time(law, OU)


def test_participation_falls_towards_that_of_the_random_energy_model() -> None:
    """At T = T_cond / 2 and N = 20000 sum w^2 is 0.553 +- 0.002, from above towards 1/2."""
    shares, errors = [], []
    for size in (50, 1000, 20_000):
        rng = np.random.default_rng(size)
        y = rng.normal(size=(size, 128)).astype(np.float32)
        y *= np.sqrt(128) / np.linalg.norm(y, axis=1, keepdims=True)
        h = rng.normal(size=(1000, 128)).astype(np.float32)
        beta = 2 / condensation_temperature(ens := ft.Ensemble(y), h)
        w = ens.boltzmann(h, beta).participation
        shares.append(w.mean())
        errors.append(w.std() / np.sqrt(len(w)))
    assert shares[0] > shares[1] > shares[2] > rem_participation(0.5) == 0.5
    assert abs(shares[2] - 0.553) < 3 * np.hypot(errors[2], 0.002)


def test_temperatures_below_zero_have_no_participation() -> None:
    assert rem_participation([0.0, 0.25, 2.0]) == pytest.approx([1, 0.75, 0])
    with pytest.raises(ValueError, match=r"temperature: wanted .*got -1\.0"):
        rem_participation(-1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ft.population_collapse(PAIR, VE, 1.0),
        lambda: ft.condensation_temperature(PAIR, np.zeros((1, 1)), 1),
        lambda: ft.condensation_time(PAIR, VE, 0.5),
    ],
)
def test_a_single_state_neither_collapses_nor_condenses(call: Any) -> None:
    with pytest.raises(ValueError, match="size: wanted more than one"):
        call()


@pytest.mark.parametrize("ask", [ft.collapse_time, lambda ens, process, n=8: ft.memorisation_gap(ens, process, 1.0, n)])
@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((ft.Ensemble(CLOUD), OU, 1), ValueError, "n: wanted at least 2"),
        ((ft.Ensemble(CLOUD), OU, -1), ValueError, "n: wanted at least 2"),
        ((ft.Ensemble(np.ones((1, 3))), OU), ValueError, "ens: wanted at least 2 states of positive weight, got 1"),
        ((ft.Ensemble(CLOUD[:2], [0, -np.inf]), OU), ValueError, "ens: wanted .* of positive weight, got 1"),
        ((np.ones((4, 3)), OU), TypeError, "ens: wanted an Ensemble, got ndarray"),
        ((ft.Ensemble(CLOUD), "ou"), TypeError, "process: wanted .*'ou'"),
    ],
)
def test_what_cannot_collapse_is_named(ask: Any, arguments: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ask(*arguments)


def test_estimates_depend_on_their_seed_alone() -> None:
    estimates = [ft.collapse_time(ft.Ensemble(CLOUD), OU, n=50, seed=seed) for seed in (0, 0, 1)]
    assert estimates[0] == estimates[1] != estimates[2]
