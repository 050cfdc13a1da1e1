"""What generation must conserve: the probability flow its CDF, the reverse diffusion its posterior weights."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import ndtr

import fastthermo as ft

VE, OU = ft.VarianceExploding(t_min=1e-3), ft.OrnsteinUhlenbeck(t_min=1e-3)
POINTS = np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -2.0], [0.5, 1.5]])
PHI = np.array([0.4, 0.3, 0.2, 0.1])
ENS = ft.Ensemble(POINTS, np.log(PHI))
LINE = ft.Ensemble(np.array([[1.0], [-1.2], [0.3]]), np.log([0.5, 0.3, 0.2]))
N = 1000


def nearest(x: np.ndarray) -> np.ndarray:
    return ((x[:, None] - POINTS) ** 2).sum(-1).argmin(1)


def within_three_errors(values: np.ndarray, want: np.ndarray) -> bool:
    """Whether the mean over the first axis is `want`: chi squared of all columns within three of its deviations."""
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    chi = (((values.mean(0) - want) / error) ** 2).sum()
    return bool(chi <= want.size + 3 * np.sqrt(2 * want.size))


@pytest.mark.parametrize(("scheme", "order"), [("ddim", 1), ("heun", 2)])
def test_order_of_the_probability_flow(scheme: str, order: int) -> None:
    process = ft.EDM(t_min=0.4, t_max=4.0)
    x = 4 * np.random.default_rng(0).normal(size=(20, 2))

    def slope(t: float, flat: np.ndarray) -> np.ndarray:
        h = flat.reshape(-1, 2)
        return ((h - ft.boltzmann(ENS, h, 1 / t**2).mean) / t).ravel()

    want = solve_ivp(slope, (4.0, 0.4), x.ravel(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1].reshape(-1, 2)
    errors = [np.abs(ft.sample(ENS, process, x_start=x, steps=n, scheme=scheme) - want).mean() for n in (32, 64, 128)]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.abs(np.log2(ratios) - order).max() < 0.15
    assert errors[-1] < 0.1**order


@pytest.mark.parametrize("process", [VE, OU, ft.FlowMatching()], ids=["VE", "OU", "flow"])
def test_probability_flow_conserves_the_cdf_in_one_dimension(process: ft.Process) -> None:
    y, phi = LINE.data()[:, 0], np.array([0.5, 0.3, 0.2])

    def cdf(x: np.ndarray, t: float) -> np.ndarray:
        return ndtr((x - process.alpha(t) * y) / process.sigma(t)) @ phi

    x = np.linspace(-2, 2, 9)[:, None]
    start, end = float(process.time(0.3)), float(process.time(8.0))
    errors = []
    for n in (100, 200):
        path = ft.sample(LINE, process, x_start=x, steps=process.times(n, start, end), scheme="heun")
        errors.append(np.abs(cdf(path, end) - cdf(x, start)).max())
    assert errors[1] < errors[0] / 3.5 < 1e-3


@pytest.mark.parametrize(("s0", "s1", "contracts"), [(4.0, 1.5, True), (0.6, 0.3, False)])
def test_tangent_of_the_flow_at_the_symmetric_point_is_the_ratio_of_densities(
    s0: float, s1: float, contracts: bool
) -> None:
    """dx_s1/dx_s0 = p_s0(0)/p_s1(0): below one above the critical temperature, above one below it."""
    ens, step = ft.Ensemble(np.array([[1.0], [-1.0]])), 1e-4
    density = [np.exp(ft.posterior(ens, VE, np.zeros(1), s).log_density) for s in (s0, s1)]
    tangents = []
    for n in (101, 201):
        x = ft.sample(ens, VE, x_start=np.array([[step], [-step]]), steps=VE.times(n, s0, s1), scheme="heun")
        tangents.append((x[0, 0] - x[1, 0]) / (2 * step))
    tangent = (4 * tangents[1] - tangents[0]) / 3  # Richardson
    assert tangent == pytest.approx(density[0] / density[1], rel=1e-6)
    assert (tangent < 1) == contracts


@pytest.mark.parametrize("process", [VE, OU], ids=["VE", "OU"])
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_committor_is_the_posterior_weight(process: ft.Process, beta: float) -> None:
    """P(end in y_j | x, t) = w_j(x, t)"""
    t = float(process.time(beta))
    h = np.array([0.2, 0.3])
    x = np.tile(process.alpha(t) * h, (N, 1))
    end = nearest(ft.sample(ENS, process, x_start=x, steps=150, t_start=t, scheme="ancestral", seed=1))
    w, index = ft.top_weights(ENS, h, beta, 4)
    want = np.zeros(4)
    want[index] = w
    assert within_three_errors(end[:, None] == np.arange(4), want)


def test_posterior_weights_are_martingales() -> None:
    t = float(OU.time(0.5))
    h = np.array([0.2, 0.3])
    x = np.tile(OU.alpha(t) * h, (N, 1))
    path = ft.sample(ENS, OU, x_start=x, steps=150, t_start=t, scheme="ancestral", seed=2, trajectory=True)

    def weights(x: np.ndarray, t: float) -> np.ndarray:
        w, index = ft.top_weights(ENS, x / float(OU.alpha(t)), float(OU.beta(t)), 4)
        out = np.empty_like(w)
        np.put_along_axis(out, index, w, 1)
        return out

    want = weights(x[:1], t)[0]
    for i in (15, 50, 100, 150):
        assert within_three_errors(weights(path.x[i], path.times[i]), want)


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_a_u_turn_keeps_the_class_as_often_as_posteriors_say(beta: float) -> None:
    """P(same class) = E sum_c p(c | x_t)^2"""
    labels = np.array([0, 1, 0, 1])
    t = float(OU.time(beta))
    index = np.random.default_rng(3).choice(4, N, p=PHI)
    x = ft.noised(ENS, OU, t, POINTS[index], seed=3)
    back = nearest(ft.sample(ENS, OU, x_start=x, steps=150, t_start=t, scheme="ancestral", seed=4))
    same = (labels[back] == labels[index]).astype(float)
    want = ft.u_turn(ENS.split(labels), OU, t, n=20000, seed=5)
    error = np.hypot(same.std(ddof=1) / np.sqrt(N), want.error)
    assert abs(same.mean() - want.value) <= 3 * error


@pytest.mark.parametrize("scheme", ["euler", "ancestral", "heun_sde", "ddim", "heun"])
def test_every_scheme_samples_the_data_with_their_weights(scheme: str) -> None:
    x = ft.sample(ENS, OU, N, steps=150, scheme=scheme, seed=6)
    assert within_three_errors(nearest(x)[:, None] == np.arange(4), PHI)


@pytest.mark.parametrize("scheme", ["ancestral", "heun_sde"])
@pytest.mark.parametrize("steps", [1, 7])
def test_steps_of_any_length_are_exact_for_a_single_state(scheme: str, steps: int) -> None:
    single = ft.Ensemble(np.array([[2.0, -1.0]]))
    x = ft.sample(single, OU, N, steps=OU.times(steps + 1, 2.0, 0.3), x_start="data", scheme=scheme, seed=10)
    z = (x - float(OU.alpha(0.3)) * np.array([2.0, -1.0])) / float(OU.sigma(0.3))
    assert within_three_errors(z, np.zeros(2))
    assert within_three_errors(z**2, np.ones(2))
    assert within_three_errors(z[:, :1] * z[:, 1:], np.zeros(1))


def test_gaussian_start_has_the_moments_of_the_noised_data() -> None:
    t = 0.3
    x = ft.sample(ENS, OU, N, steps=[t, 0.2], x_start="gaussian", trajectory=True, seed=8).x[0]
    alpha, variance = float(OU.alpha(t)), float(OU.sigma(t)) ** 2
    mean = alpha * PHI @ POINTS
    delta = POINTS - PHI @ POINTS
    covariance = alpha**2 * (delta.T * PHI) @ delta + variance * np.eye(2)
    assert within_three_errors(x, mean)
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    assert within_three_errors(products.reshape(-1, 4), covariance.ravel())


def test_data_start_is_the_noised_law() -> None:
    t = 0.3
    x = ft.sample(LINE, OU, N, steps=[t, 0.2], x_start="data", trajectory=True, seed=9).x[0][:, 0]
    u = ndtr((x[:, None] - float(OU.alpha(t)) * LINE.data()[:, 0]) / float(OU.sigma(t))) @ [0.5, 0.3, 0.2]
    moments = np.stack([u, u**2, u**3], 1)  # u is uniform
    assert within_three_errors(moments, np.array([1 / 2, 1 / 3, 1 / 4]))
