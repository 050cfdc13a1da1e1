"""Class memory, U-turns, clones and critical windows against closed forms and against the experiments themselves."""

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

import fastthermo as ft
from fastthermo.regimes import total_variation

VE, OU = ft.VarianceExploding(t_min=1e-3, t_max=1e5), ft.OrnsteinUhlenbeck(t_min=1e-3)
PAIR = ft.Ensemble(np.array([[1.0], [-1.0]])).split(["up", "down"])
PLANE = ft.Ensemble(np.array([[1.0, 0.0], [-1.0, 0.0]])).split([0, 1])
RNG = np.random.default_rng(0)


def agrees(estimate: ft.Estimate, value: float, error: float = 0.0) -> bool:
    return bool(abs(estimate.value - value) <= 3 * np.hypot(estimate.error, error))


def test_clone_probability_of_two_far_modes_at_speciation() -> None:
    """As Lambda = m^2 grows, x at Lambda alpha^2 = 1 is that of two unit modes at s = 1."""
    assert ft.u_turn(PAIR, VE, 1.0).value == pytest.approx(0.775200245396664, rel=1e-13)
    far = ft.Ensemble(np.array([[1e4], [-1e4]])).split([0, 1])
    process = ft.OrnsteinUhlenbeck(t_max=12)
    at_speciation = ft.u_turn(far, process, ft.speciation_time(far.whole, process))
    assert at_speciation.value == pytest.approx(0.775200245396664, rel=1e-7)


def test_committor_of_two_deltas() -> None:
    assert PAIR.class_posterior([0.3], 1.0)[0] == pytest.approx(0.354343693774205, rel=1e-13)  # "down" comes first
    assert PAIR.class_posterior([0.3], 1.0)[1] == pytest.approx(0.645656306225795, rel=1e-13)


def test_u_turn_of_two_deltas_by_quadrature() -> None:
    z, w = np.polynomial.hermite_e.hermegauss(80)
    for beta in (0.3, 1.0, 3.0):
        tanh = np.tanh(beta * (1 + z / np.sqrt(beta)))
        want = float(w @ (1 + tanh**2) / 2 / w.sum())
        assert ft.u_turn(PAIR, VE, 1 / beta).value == pytest.approx(want, rel=1e-6)
        assert agrees(ft.u_turn(PLANE, VE, 1 / beta, n=4000), want)


def test_u_turn_goes_from_chance_to_certainty() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    classes = ft.Ensemble(np.array([[0.0], [2.0], [-1.0]]), np.log(weights)).split(["a", "b", "a"])
    found = ft.u_turn(classes, VE, np.array([1e3, 10.0, 1.0, 0.1, 1e-3]))
    assert found.value[0] == pytest.approx(0.7**2 + 0.3**2, abs=0.01)
    assert (np.diff(found.value) > 0).all()
    assert found.value[-1] == pytest.approx(1, abs=1e-12)


def test_the_u_turn_is_the_diagonal_of_the_class_posteriors() -> None:
    y, labels = RNG.normal(size=(90, 3)), np.repeat([0, 1, 2], [20, 30, 40])
    y[:, 0] += 2 * labels
    classes = ft.Ensemble(y).split(labels)
    for t in (0.3, 1.0):
        posteriors = ft.class_posteriors(classes, OU, t, n=2000)
        np.testing.assert_allclose(posteriors.value.sum(1), 1, rtol=1e-12)
        phi = np.exp(classes.log_priors)
        diagonal = ft.Estimate(phi @ np.diag(posteriors.value), np.sqrt(phi**2 @ np.diag(posteriors.error) ** 2))
        whole = ft.u_turn(classes, OU, t, n=4000)
        assert agrees(diagonal, whole.value, whole.error)
        joint = phi[:, None] * posteriors.value  # p(c, c') is symmetric: detailed balance of U-turns
        error = phi[:, None] * posteriors.error
        assert (abs(joint - joint.T) <= 4 * np.hypot(error, error.T) + 1e-12).all()
    together = ft.class_posteriors(classes, OU, np.array([1.0, 0.3]), n=50)
    assert together.value.shape == together.error.shape == (2, 3, 3)


def test_u_turns_and_clones_that_are_run_return_as_the_posterior_says() -> None:
    y, labels = RNG.normal(size=(60, 2)), np.repeat([0, 1], 30)
    y[:, 0] += 4 * labels
    classes, t, n = ft.Ensemble(y).split(labels), 0.7, 1500
    want = ft.u_turn(classes, OU, t, n=4000)
    start = classes.whole.draw(n, 7)
    back = ft.u_turn_samples(classes.whole, OU, t, start, steps=100)
    assert agrees(ft.same_class(classes, OU, OU.alpha(OU.t_min) * start, back), want.value, want.error)
    a, b = ft.clone_samples(classes.whole, OU, t, n, steps=100)
    assert a.shape == b.shape == (n, 2)
    assert abs(a - b).max() > 1
    assert agrees(ft.same_class(classes, OU, a, b), want.value, want.error)


def test_clones_share_no_noise_with_those_of_other_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastthermo.regimes import memory

    keys: list[tuple[int, int]] = []

    def recorded(*arguments: Any, seed: int, steps: Any = None, first_step: int = 0, **options: Any) -> Any:
        count = 8 if steps is None else steps
        keys.extend((seed, first_step + k) for k in range(count))
        return ft.sample(*arguments, seed=seed, first_step=first_step, **options, **({"steps": steps} if steps else {}))

    monkeypatch.setattr(memory, "sample", recorded)
    for seed in (0, 1):
        ft.clone_samples(PAIR.whole, OU, 0.5, 4, steps=8, seed=seed)
    assert len(set(keys)) == len(keys) == 32


def test_windows_are_printed_in_a_line() -> None:
    assert repr(ft.critical_windows(PLANE, VE, times=200)) == "Windows(2 classes, 1 of 1 pairs part, 200 times)"


def test_total_variation_of_two_deltas_is_that_of_two_gaussians() -> None:
    """TV(N(m, s), N(-m, s)) = 2 Phi(m / sqrt s) - 1"""
    for s in (0.2, 1.0, 5.0):
        found = total_variation(PLANE, VE, s, n=4000)
        assert np.diag(found.value) == pytest.approx(0, abs=1e-15)
        assert agrees(ft.Estimate(found.value[0, 1], found.error[0, 1]), 2 * ndtr(s**-0.5) - 1)


def test_critical_windows_of_three_points_are_those_of_their_distances() -> None:
    """Points at distance 2 m part at s = (m / Phi^-1((1 + TV) / 2))^2."""
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 20.0]])
    found = ft.critical_windows(ft.Ensemble(points).split(["a", "b", "c"]), VE, 0.1, times=48, n=2000)
    half = np.linalg.norm(points[:, None] - points, axis=-1) / 2
    assert found.names == ["a", "b", "c"]
    pairs = np.triu_indices(3, 1)
    for level, t in ((0.1, found.upper), (0.5, found.middle), (0.9, found.lower)):
        want = (half / ndtri((1 + level) / 2)) ** 2
        assert (abs(t.value - want)[pairs] <= 3 * t.error[pairs] + 3e-3 * want[pairs]).all()
    assert np.isnan(np.diag(found.middle.value)).all()
    np.testing.assert_array_equal(found.middle.value, found.middle.value.T)


def test_classes_that_never_part_have_no_window() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = ft.critical_windows(ft.Ensemble(points).split([0, 0, 1, 1]), VE, times=12, n=16)
    assert np.isnan(found.upper.value).all()
    assert np.isnan(found.upper.error).all()


@pytest.mark.parametrize("rare", [-1.0, -700.0, -800.0])
def test_rare_classes_part_as_common_ones_do(rare: float) -> None:
    points, labels = np.array([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1.0]]), [0, 1, 1]
    want = ft.critical_windows(ft.Ensemble(points).split(labels), VE, times=6, n=16)
    found = ft.critical_windows(ft.Ensemble(points, np.array([0, rare, rare])).split(labels), VE, times=6, n=16)
    np.testing.assert_allclose(found.distance.value, want.distance.value, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "ask",
    [
        lambda ens: ft.u_turn(ens, VE, 1.0),
        lambda ens: ft.class_posteriors(ens, VE, 1.0),
        lambda ens: ft.critical_windows(ens, VE),
        ft.symmetry_breaking,
    ],
)
def test_an_ensemble_that_is_not_split_is_refused_with_what_splits_it(ask: Any) -> None:
    with pytest.raises(TypeError, match=r"classes: wanted .*ens\.split\(labels\), got Ensemble"):
        ask(PLANE.whole)


def test_impossible_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="eps: wanted a number between 0 and 1/2"):
        ft.critical_windows(PLANE, VE, eps=0.6)
    with pytest.raises(ValueError, match="n: wanted at least 2 data a class"):
        ft.class_posteriors(PLANE, VE, 1.0, n=1)
