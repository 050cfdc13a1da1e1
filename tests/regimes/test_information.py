"""Information, estimation error, their peaks and likelihoods against closed forms and independent sums."""

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import solvable
from fastthermo.regimes import averages

VE, OU = ft.VarianceExploding(t_max=1e4), ft.OrnsteinUhlenbeck()
PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))
PLANE = ft.Ensemble(np.array([[1.0, 0.0], [-1.0, 0.0]]))  # the same law in two dimensions: sampled
RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(200, 8))
CURVE = [(1.0, 0.449599509206673, 0.336830820346832), (2.0, 0.231018221929296, 0.500072136066845)]


def agrees(estimate: ft.Estimate, value: float, error: float = 0.0) -> bool:
    return bool(abs(estimate.value - value) <= 3 * np.hypot(estimate.error, error))


@pytest.mark.parametrize(("beta", "mmse", "information"), CURVE)
def test_information_and_mmse_of_two_deltas(beta: float, mmse: float, information: float) -> None:
    assert ft.mmse(PAIR, VE, 1 / beta) == (pytest.approx(mmse, rel=1e-13), 0)
    assert ft.mutual_information(PAIR, VE, 1 / beta) == (pytest.approx(information, rel=1e-13), 0)


@pytest.mark.parametrize(("beta", "mmse", "information"), CURVE)
def test_sampled_information_and_mmse_agree_with_the_exact_ones(beta: float, mmse: float, information: float) -> None:
    for seed in range(3):
        found = ft.mutual_information(PLANE, VE, 1 / beta, n=4000, seed=seed)
        assert agrees(found, information)
        assert 0 < found.error < 0.01
        assert agrees(ft.mmse(PLANE, VE, 1 / beta, n=4000, seed=seed), mmse)


@pytest.mark.parametrize(("s", "value"), [(4.0, 1.50293472369e-4), (1.0, 9.74276993314e-3), (0.25, 0.171998762480)])
def test_divergence_of_two_deltas_from_the_matched_gaussian(s: float, value: float) -> None:
    assert ft.gaussian_divergence(PAIR, VE, s).value == pytest.approx(value, rel=1e-11)
    assert agrees(ft.gaussian_divergence(PLANE, VE, s, n=4000), value)


def test_times_in_an_array_are_answered_one_by_one() -> None:
    t = np.array([4.0, 1.0, 0.25])
    for law in (PAIR, PLANE):
        for function in (ft.mutual_information, ft.mmse, ft.entropy_rate, ft.gaussian_divergence, ft.excess_entropy):
            found = function(law, VE, t, n=64)
            single = [function(law, VE, float(s), n=64) for s in t]
            np.testing.assert_allclose(found.value, [x.value for x in single], rtol=1e-12)
            np.testing.assert_allclose(found.error, [x.error for x in single], rtol=1e-12)


def test_torch_and_image_shaped_states_have_the_information_of_rows() -> None:
    want = ft.mutual_information(ft.Ensemble(CLOUD), OU, 0.5, n=100)
    assert ft.mutual_information(ft.Ensemble(CLOUD.reshape(200, 2, 4)), OU, 0.5, n=100) == want
    assert ft.mutual_information(ft.Ensemble(torch.from_numpy(CLOUD)), OU, 0.5, n=100) == want
    line = ft.mutual_information(ft.Ensemble(torch.tensor([[1.0], [-1.0]])), VE, 1.0)
    assert line.value == pytest.approx(CURVE[0][2], rel=1e-13)


def test_rare_and_distant_states_are_not_missed_by_the_quadrature() -> None:
    weights = np.array([0.5, 0.5 - 1e-6, 1e-6])
    ens = ft.Ensemble(np.array([[1.0], [-1.0], [300.0]]), np.log(weights))
    assert ft.mutual_information(ens, VE, 1e-2).value == pytest.approx(-(weights * np.log(weights)).sum(), rel=1e-12)


def test_exact_averages_are_so_in_any_units_of_the_data() -> None:
    # beta mu^2 = 20, by quadrature with mpmath
    for unit in (1.0, 1e-3, 1e-6, 1e6):
        found = ft.mmse(solvable.two_deltas(unit), ft.VarianceExploding(unit), 1 / 20)
        assert found == (pytest.approx(1.2036620875489887e-05 * unit**2, rel=1e-12, abs=0), 0)


def test_standard_errors_are_those_of_repeated_estimates() -> None:
    runs = [ft.mutual_information(PLANE, VE, 1.0, n=500, seed=seed) for seed in range(30)]
    deviations = np.array([(run.value - CURVE[0][2]) / run.error for run in runs])
    assert abs((deviations**2).sum() - 30) <= 3 * np.sqrt(60)


def test_information_goes_from_nothing_to_the_entropy_of_the_data() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    ens = ft.Ensemble(np.array([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]]), np.log(weights))
    found = ft.mutual_information(ens, VE, np.array([1e3, 10.0, 1.0, 0.1, 1e-3]), n=2000)
    assert (np.diff(found.value) > 0).all()
    assert abs(found.value[0]) < 0.01
    assert agrees(ft.Estimate(found.value[-1], found.error[-1]), -(weights * np.log(weights)).sum())


def test_information_rises_by_half_the_mean_squared_error() -> None:
    """dI/dbeta = mmse/2: to the stencil's accuracy where exact, within the error of sampling in eight dimensions."""
    step = 1e-3
    stencil = [ft.mutual_information(PAIR, VE, 1 / (1 + k * step)).value for k in (-2, -1, 1, 2)]
    slope = np.dot(stencil, [1, -8, 8, -1]) / (12 * step)
    assert slope == pytest.approx(ft.mmse(PAIR, VE, 1.0).value / 2, rel=1e-10)
    ens, beta, n, step = ft.Ensemble(CLOUD[:20]), 0.7, 4000, 0.02
    up, down = (ft.mutual_information(ens, VE, 1 / (beta + sign * step), n=n).value for sign in (1, -1))
    error = ft.mmse(ens, VE, 1 / beta, n=n)
    assert (up - down) / (2 * step) == pytest.approx(error.value / 2, abs=3 * error.error)


def test_mean_squared_error_is_the_trace_of_the_covariance() -> None:
    ens, t = ft.Ensemble(CLOUD), 0.7
    x = ft.noised(ens, OU, t, ens.draw(50, 0), 0)
    traces = np.trace(ft.covariance(ens, x / OU.alpha(t), OU.beta(t)), axis1=1, axis2=2)
    found = ft.mmse(ens, OU, t, n=50)
    assert found.value == pytest.approx(traces.mean(), rel=1e-9)
    assert found.error == pytest.approx(traces.std(ddof=1) / np.sqrt(50), rel=1e-9)
    assert ft.entropy_rate(ens, OU, t, n=50).value == pytest.approx(OU.beta(t) * traces.mean() / 2, rel=1e-9)


def test_excess_entropy_is_what_information_lacks_to_log_n_a_dimension() -> None:
    ens = ft.Ensemble(CLOUD)
    information = ft.mutual_information(ens, OU, 0.5, n=100, seed=3)
    found = ft.excess_entropy(ens, OU, 0.5, n=100, seed=3)
    assert found.value == pytest.approx((np.log(200) - information.value) / 8, rel=1e-12)
    assert found.error == pytest.approx(information.error / 8, rel=1e-12)
    assert ft.excess_entropy(ens, OU, 1e-4, n=100).value == pytest.approx(0, abs=1e-10)


def test_no_excess_entropy_is_left_at_the_data_whatever_their_weights() -> None:
    log_weights = np.log([0.2, 0.8])
    exact = ft.excess_entropy(ft.Ensemble([[1.0], [-1.0]], log_weights), OU, OU.t_min)
    assert exact == (pytest.approx(0, abs=1e-12), 0)
    left = ft.excess_entropy(ft.Ensemble([[1.0, 0.0], [-1.0, 0.0]], log_weights), OU, OU.t_min)
    assert agrees(left, 0)
    law = solvable.gaussian_mixture([[1.0], [-1.0]], 0.0, np.exp(log_weights))
    assert ft.excess_entropy(law, OU, OU.t_min).value == pytest.approx(0, abs=1e-12)


def test_pairs_of_pairs_have_a_peak_of_the_entropy_rate_for_each_choice() -> None:
    """Far apart, each choice is that of two deltas: scales of 1 and 30 peak at times in the ratio 900."""
    from scipy.optimize import minimize_scalar

    one = minimize_scalar(
        lambda x: -ft.entropy_rate(PAIR, VE, np.exp(x)).value, bounds=(-3, 3), options={"xatol": 1e-8}
    )
    y = (30 * np.array([1, -1])[:, None] + np.array([1, -1])).reshape(-1, 1)
    for law in (ft.Ensemble(y.astype(float)), ft.Ensemble(np.c_[y, 0 * y].astype(float))):
        peaks = ft.entropy_rate_peaks(law, VE, np.geomspace(9e3, 1e-2, 120), n=2000)
        assert len(peaks) == 2
        for peak, scale in zip(peaks, (900, 1), strict=True):
            assert agrees(peak.time, scale * np.exp(one.x), 2e-3 * scale)
            assert agrees(peak.rate, -one.fun, 3e-4)
    assert peaks[0].time.error > 0


def test_peaks_of_one_dimensional_laws_too_wide_for_quadrature_have_the_errors_of_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = np.geomspace(10, 0.1, 40)
    (exact,) = ft.entropy_rate_peaks(PAIR, VE, times)
    monkeypatch.setattr(averages, "NODES", 64)
    (sampled,) = ft.entropy_rate_peaks(PAIR, VE, times)
    assert exact.rate.error < 1e-6 < exact.time.error < 1e-3
    assert 0 < sampled.rate.error < 0.02
    assert agrees(sampled.time, exact.time.value)
    assert agrees(sampled.rate, exact.rate.value)


@pytest.mark.parametrize("times", [24, 32, 48, 96])
def test_errors_of_peaks_are_also_those_of_the_times_they_are_read_from(times: int) -> None:
    process = ft.VarianceExploding(t_min=1e-4, t_max=1e6)
    (peak,), (fine,) = (ft.entropy_rate_peaks(solvable.two_deltas(1.0), process, n) for n in (times, 800))
    for found, want in zip(peak, fine, strict=True):
        assert abs(found.value - want.value) < 2 * found.error < 0.3 * want.value
        assert want.error < 1e-5 * want.value


def test_gaussian_data_have_no_peak_of_the_entropy_rate() -> None:
    """beta mmse / 2 = lambda / (lambda + s) / 2 only grows on cooling."""
    x = 0.1 * np.arange(-60, 61)
    ens = ft.Ensemble(x[:, None], -(x**2) / 2)
    assert ft.entropy_rate_peaks(ens, VE, np.geomspace(100, 0.1, 40)) == []


def test_likelihood_of_new_data_is_that_of_the_kernel_density() -> None:
    ens, new = ft.Ensemble(CLOUD), RNG.normal(size=(30, 8))
    t = 0.3
    alpha, variance = OU.alpha(t), OU.sigma(t) ** 2
    squared = ((alpha * (new[:, None] - CLOUD)) ** 2).sum(-1)
    log_p = np.logaddexp.reduce(-squared / (2 * variance), axis=1) - np.log(200) - 4 * np.log(2 * np.pi * variance)
    found = ft.log_likelihood(ens, OU, t, new, noise=False)
    assert found.value == pytest.approx(log_p.mean(), rel=1e-12)
    assert found.error == pytest.approx(log_p.std(ddof=1) / np.sqrt(30), rel=1e-12)


def test_likelihood_of_noised_data_is_minus_their_entropy() -> None:
    """E log p_t(x_t) = -I - (D/2) log(2 pi e sigma^2) along the law's own data; less along others (Gibbs)."""
    ens, t = ft.Ensemble(CLOUD), np.array([2.0, 0.8, 0.3])
    own = ft.log_likelihood(ens, OU, t, ens.draw(4000, 1))
    information = ft.mutual_information(ens, OU, t, n=4000)
    want = -information.value - 4 * np.log(2 * np.pi * np.e * OU.sigma(t) ** 2)
    assert (abs(own.value - want) <= 3 * np.hypot(own.error, information.error)).all()
    other = ft.log_likelihood(ens, OU, t, np.random.default_rng(9).normal(size=(4000, 8)))
    assert (other.value < own.value).all()


def test_the_memorisation_gap_is_what_leaving_the_own_state_out_costs() -> None:
    ens, t, n = ft.Ensemble(CLOUD[:40]), 0.4, 40
    found = ft.memorisation_gap(ens, OU, t, n=n, seed=2)
    index = np.random.default_rng(2).permutation(40)
    field = ft.noised(ens, OU, t, CLOUD[index], 2) / OU.alpha(t)
    gaps = [
        float(ens.boltzmann(h, OU.beta(t)).log_evidence)
        - float(ft.Ensemble(np.delete(CLOUD[:40], i, 0)).boltzmann(h, OU.beta(t)).log_evidence)
        for i, h in zip(index, field, strict=True)
    ]
    assert found.value == pytest.approx(np.mean(gaps), rel=1e-10)
    assert found.error == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(n), rel=1e-10)


def test_the_memorisation_gap_of_a_state_that_holds_all_the_weight_is_a_divergence() -> None:
    """KL(N(0, sigma^2) || N(alpha, sigma^2)) = beta / 2: the other state is all that is left without it."""
    ens = ft.Ensemble([[0.0], [1.0]], log_weights=[0, -40.0])
    found = ft.memorisation_gap(ens, OU, 0.5, n=4000)
    h = ft.noised(ens, OU, 0.5, np.zeros((4000, 1)), 0) / OU.alpha(0.5)
    assert found.value == pytest.approx(OU.beta(0.5) * np.mean((h - 1) ** 2 - h**2) / 2, rel=1e-12)
    assert agrees(found, OU.beta(0.5) / 2)


def test_the_memorisation_gap_is_the_gap_to_held_out_data_of_the_same_law() -> None:
    rng, t = np.random.default_rng(5), np.array([1.5, 0.7])
    ens = ft.Ensemble(rng.normal(size=(4000, 4)))
    held_out = ft.log_likelihood(ens, OU, t, rng.normal(size=(4000, 4)))
    own = ft.log_likelihood(ens, OU, t, ens.states)
    gap = ft.memorisation_gap(ens, OU, t, n=4000)
    error = np.sqrt(held_out.error**2 + own.error**2 + gap.error**2)
    assert (abs(own.value - held_out.value - gap.value) <= 3 * error).all()
    assert (np.diff(gap.value) > 0).all()


def test_estimates_depend_on_their_seed_alone() -> None:
    estimates = [ft.mutual_information(PLANE, VE, 1.0, n=50, seed=seed) for seed in (0, 0, 1)]
    assert estimates[0] == estimates[1] != estimates[2]


def test_impossible_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="n: wanted at least 2"):
        ft.mmse(PLANE, VE, 1.0, n=1)
    with pytest.raises(ValueError, match="times: wanted at least 5"):
        ft.entropy_rate_peaks(PLANE, VE, [3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="t: wanted times in"):
        ft.mmse(PLANE, VE, -1.0)
