"""Exponents of laws with known transitions, from exact averages and from samples."""

from typing import Any

import numpy as np
import pytest

import fastthermo as ft
from fastthermo.exponents import OBSERVABLES, critical_axis, fit, measure, observe, power_law, samples
from fastthermo.exponents.window import SPAN, resolved, root_noise

LAWS = {
    "two deltas": lambda: ft.solvable.two_deltas(1.0),
    "two deltas as data": lambda: ft.Ensemble(np.array([[1.0], [-1.0]])),
    "sphere, d=2": lambda: ft.solvable.sphere(2, 1.0),
    "sphere, d=3": lambda: ft.solvable.sphere(3, 2.0),
    "sphere, d=10": lambda: ft.solvable.sphere(10, 1.0),
    "Curie-Weiss, 100 spins": lambda: ft.solvable.curie_weiss(100, 0.5),
    "Ising ring": lambda: ft.solvable.ising_ring(16, 0.5),
    "free spins": lambda: ft.solvable.ising_ring(6, 0.0),
    "two Gaussians": lambda: ft.solvable.gaussian_mixture([[2.0, 0.0], [-2.0, 0.0]], 1.0),
}


@pytest.mark.parametrize("name", LAWS)
def test_exponents_are_those_of_mean_field_theory(name: str) -> None:
    found = measure(LAWS[name]())
    assert found.kind == "pitchfork"
    assert set(found) == set(OBSERVABLES)
    for exponent in found.values():
        assert exponent.value == pytest.approx(exponent.mean_field, abs=1e-7), exponent
        assert abs(exponent.value - exponent.mean_field) < 10 * exponent.error < 1e-6, exponent


def test_amplitudes_of_two_deltas() -> None:
    """sqrt(3 eps); 1/(2 eps) below and 1/eps above; (3 h)^(1/3); 3/2; s / (2 eps); (3/4) eps^2."""
    found = measure(ft.solvable.two_deltas(1.0))
    want = dict(zip(OBSERVABLES, [np.sqrt(3), 0.5, 1, 3 ** (1 / 3), 1.5, 0.5, 0.75], strict=True))
    for name, exponent in found.items():
        assert exponent.law.heaviest.amplitude == pytest.approx(want[name], rel=1e-6), name


@pytest.mark.parametrize("d", [2, 3, 10])
def test_amplitude_of_the_order_parameter_of_a_sphere(d: int) -> None:
    found = measure(ft.solvable.sphere(d, 2.0), field=np.geomspace(1e-6, 1e-2, 12))
    assert found["order_parameter"].law.heaviest.amplitude == pytest.approx(2 * np.sqrt((d + 2) / d), rel=1e-6)


@pytest.mark.parametrize(
    ("s", "order"),
    [
        (0.999, 0.0547503430915284),
        (0.99, 0.172511069975051),
        (0.9, 0.525429512658009),
        (0.5, 0.957504024077269),
        (0.25, 0.999325673015108),
    ],
)
def test_order_parameter_of_two_deltas(s: float, order: float) -> None:
    axis = critical_axis(ft.solvable.two_deltas(1.0))
    table = observe(axis, [axis.law], [1 - s], [1e-9])
    assert table["order_parameter"][0, 0] == pytest.approx(order, rel=1e-13)
    # a rounding of x - M(x) counts x^-2 times there
    assert table["isotherm"][0, 0] == pytest.approx(1.44224897030752e-3, rel=1e-7)


@pytest.mark.parametrize(("s", "ratio"), [(0.999, 0.999599931412574), (0.99, 0.995993126882862)])
def test_order_parameter_over_its_leading_law(s: float, ratio: float) -> None:
    axis = critical_axis(ft.solvable.two_deltas(1.0))
    order = observe(axis, [axis.law], [1 - s], [1.0])["order_parameter"][0, 0]
    assert order / np.sqrt(3 * (1 - s)) == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize(("d", "order"), [(2, 0.831462024754257), (3, 0.788886566629197), (10, 0.730981843703263)])
def test_order_parameter_of_spheres_at_half_the_critical_temperature(d: int, order: float) -> None:
    axis = critical_axis(ft.solvable.sphere(d, np.sqrt(d)))
    assert observe(axis, [axis.law], [0.5], [1.0])["order_parameter"][0, 0] / np.sqrt(d) == pytest.approx(
        order, rel=1e-12
    )


@pytest.mark.parametrize(
    ("law", "reason"),
    [
        (ft.solvable.gaussian(np.array([4.0, 1.0])), "no gain passes 1"),
        (ft.solvable.simplex(3), "not symmetric"),
        (ft.solvable.simplex(4), "not symmetric|drives away"),
        (ft.solvable.two_deltas(1.0, 0.6), "not a fixed point"),
        (ft.Ensemble(np.random.default_rng(0).normal(size=(500, 2))), "not a fixed point|not symmetric"),
        (ft.Ensemble(np.ones((3, 2))), "do not vary"),
    ],
    ids=["Gaussian", "simplex 3", "simplex 4", "unequal weights", "samples", "one point"],
)
def test_laws_without_a_pitchfork_say_why(law: object, reason: str) -> None:
    import re

    found = measure(law)
    assert (found.kind, len(found)) == ("none", 0)
    assert re.search(reason, found.reason), found.reason
    assert found.reason in str(found)


@pytest.mark.parametrize("p", [0.500001, 0.5001, 0.51, 0.7, 0.99])
def test_a_saddle_node_is_no_pitchfork_however_small_the_imbalance(p: float) -> None:
    assert isinstance(critical_axis(ft.solvable.two_deltas(1.0, p)), str)


@pytest.mark.parametrize("q", [3, 4, 5, 6, 8])
def test_a_first_order_transition_is_no_pitchfork(q: int) -> None:
    assert isinstance(critical_axis(ft.solvable.simplex(q)), str)


@pytest.mark.parametrize("seed", range(20))
def test_data_without_a_symmetry_have_no_pitchfork(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 5))
    assert isinstance(critical_axis(ft.Ensemble(rng.normal(size=(n, d)), 0.3 * rng.normal(size=n))), str)


def test_an_ensemble_on_an_axis_is_one_of_two_dimensions() -> None:
    rng = np.random.default_rng(0)
    law = ft.Ensemble(rng.normal(size=(300, 20)), rng.normal(size=300))
    u = rng.normal(size=20)
    axis = ft.exponents.Axis(law, rng.normal(size=20), u / np.linalg.norm(u), 1.0)
    plane = axis.of(law)
    assert plane.law.dimension == 2
    x, beta = np.linspace(-3, 3, 9), np.geomspace(0.1, 10, 9)
    for name in ("force", "gain", "heat_capacity"):
        np.testing.assert_allclose(getattr(plane, name)(x, beta), getattr(axis, name)(x, beta), rtol=1e-9, atol=1e-12)


def test_data_that_agree_on_an_axis_are_joined() -> None:
    law = ft.solvable.curie_weiss(50, 0.5)
    axis = critical_axis(law)
    sample = ft.Ensemble(law.draw(4000, 0))
    joined = axis.of(sample)
    assert joined.law.size <= 51
    assert np.exp(joined.law._core.log_weights.numpy()).sum() == pytest.approx(1, rel=1e-12)


def test_a_sample_without_an_ordered_fixed_point_is_not_a_number() -> None:
    law = ft.solvable.two_deltas(1.0)
    sample = ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([0.4, 0.6]))
    table = observe(critical_axis(law), [sample], [0.01, 0.9], [0.1])
    assert np.isnan(table["order_parameter"][0, 0])
    assert table["order_parameter"][0, 1] > 0


SAMPLED = {
    "two deltas": (lambda: ft.solvable.two_deltas(1.0), 40_000),
    "sphere, d=2": (lambda: ft.solvable.sphere(2, 1.0), 24_000),
    "Curie-Weiss, 6 spins": (lambda: ft.solvable.curie_weiss(6, 0.2), 40_000),
}


@pytest.mark.slow
@pytest.mark.timeout(900)  # 1600 samples are measured
@pytest.mark.parametrize("name", SAMPLED)
def test_error_bars_from_samples_cover_the_truth(name: str) -> None:
    """95 % intervals over 200 experiments of 8 samples each; three binomial errors below 0.95 is 0.904."""
    make, draws = SAMPLED[name]
    law = make()
    axis = critical_axis(law)
    covered: dict[str, list[bool]] = {}
    for seed in range(200):
        for observable, exponent in measure(law, draws=draws, seed=seed, axis=axis).items():
            low, high = exponent.interval(0.95)
            covered.setdefault(observable, []).append(low <= exponent.mean_field <= high)
    shares = {observable: (len(hits), float(np.mean(hits))) for observable, hits in covered.items()}
    assert set(shares) == set(OBSERVABLES)
    assert all(count == 200 and share >= 0.904 for count, share in shares.values()), shares


@pytest.mark.parametrize("name", ["two deltas", "Curie-Weiss, 6 spins"])
def test_the_law_at_twice_beta_tells_how_its_samples_scatter(name: str) -> None:
    make, draws = SAMPLED[name]
    law = make()
    axis = critical_axis(law)
    epsilon, field = np.array([0.15, 0.25, 0.45]), np.array([0.1, 0.2])
    laws = [axis.law, *samples(law, draws, 200, 0)]
    table = observe(axis, laws, epsilon, field)
    roots = np.concatenate([table["order_parameter"], table["isotherm"] + field], 1)
    scatter = (roots[1:] / roots[0]).std(0, ddof=1)
    beta, external = axis.beta / np.append(1 - epsilon, [1, 1]), np.append(np.zeros(3), field)
    # a standard deviation of 200 scatters by a twentieth
    np.testing.assert_allclose(scatter, np.sqrt(root_noise(axis, beta, external) / draws), rtol=0.15)


@pytest.mark.parametrize(
    ("law", "draws"),
    [
        (ft.solvable.two_deltas(1.0), 100),
        (ft.solvable.sphere(10, 1.0), 20_000),
        (ft.solvable.curie_weiss(30, 0.2), 8000),
    ],
    ids=["two deltas", "sphere, d=10", "Curie-Weiss, 30 spins"],
)
def test_too_few_draws_are_refused_with_the_number_that_would_do(law: Any, draws: int) -> None:
    with pytest.raises(ValueError, match=r"draws: wanted at least .* a sample, .*got") as refusal:
        measure(law, draws=draws)
    needed = float(str(refusal.value).split("at least ")[1].split()[0])
    epsilon, field = resolved(critical_axis(law), int(needed))
    assert epsilon[-1] >= SPAN * epsilon[0]
    assert field[-1] >= SPAN**2 * field[0]


def test_a_power_law_is_found_through_corrections_of_three_orders() -> None:
    x = np.geomspace(1e-3, 0.5, 24)
    y = 2 * x**-0.7 * (1 + 0.5 * x - x**2 + x**3)
    found = power_law(x, y, 1e-9 * y)
    assert found.exponent == pytest.approx(-0.7, abs=5 * found.error)
    assert found.error < 1e-5
    np.testing.assert_allclose(found.heaviest(x[:10]), y[:10], rtol=1e-6)


def test_exact_values_that_no_window_fits_to_rounding_still_have_an_exponent() -> None:
    x = np.geomspace(0.01, 0.4, 20)
    found = power_law(x, np.sqrt(np.tanh(x)) * (1 + np.sin(7 * x)), 1e-15)
    assert abs(found.exponent - 0.5) <= 4 * found.error < 0.5


def test_statistical_errors_cover_a_power_law_with_noise() -> None:
    rng = np.random.default_rng(0)
    x = np.geomspace(0.01, 0.3, 12)
    truth = 2 * x**0.5 * (1 - 0.4 * x)
    hits = []
    for _ in range(200):
        low, high = power_law(x, truth * (1 + 0.01 * rng.standard_normal((12, 12)))).interval()
        hits.append(low <= 0.5 <= high)
    assert np.mean(hits) >= 0.904, np.mean(hits)


def test_a_bootstrap_over_replicas_scatters_between_the_statistical_and_the_total_error() -> None:
    """It moves the fits, which the statistical error counts, and the weights of their windows: the systematic one."""
    rng = np.random.default_rng(0)
    x, replicas = np.geomspace(0.01, 0.3, 10), 60
    y = 2 * x**0.5 * (1 + 0.05 * rng.standard_normal((replicas, 10)))
    found = power_law(x, y)
    drawn = [power_law(x, y[rng.integers(replicas, size=replicas)]).exponent for _ in range(150)]
    assert found.statistical < np.std(drawn, ddof=1) < found.error


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        (np.geomspace(0.1, 1, 3), np.ones(3), 0.01, "at least 4 values of x > 0 .* got 3 of 3 .*add values of x"),
        (np.linspace(-1, 0, 9), np.ones(9), 0.01, "add values of x > 0"),
        (np.geomspace(0.1, 1, 9), np.ones(9), 0.5, "y clear of 0, got 0 of 9 .*add replicas"),
        (np.geomspace(0.1, 1, 9), np.full(9, np.nan), 0.1, "y clear of 0"),
        (np.geomspace(0.1, 1, 9), np.ones(9), None, "2 replicas or y_error"),
        (np.geomspace(0.1, 1, 9), np.ones(8), 0.1, "wanted shape"),
    ],
)
def test_a_window_too_small_names_what_is_missing(
    x: np.ndarray, y: np.ndarray, error: float | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        power_law(x, y, error)


def test_a_table_is_fitted_by_the_names_it_has() -> None:
    epsilon = np.geomspace(1e-3, 0.1, 12)
    found = fit({"epsilon": epsilon, "barrier": epsilon**2, "barrier_error": 1e-6 * epsilon**2})
    assert list(found) == ["barrier"]
    assert found["barrier"].value == pytest.approx(0, abs=1e-4)
    assert "alpha (barrier)" in str(found)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"epsilon": [0.1], "energy": [1.0]}, "at least one of order_parameter, .* got epsilon, energy"),
        ({"field": [0.1], "barrier": [1.0]}, "wanted 'epsilon', which barrier is measured over"),
        (
            {"epsilon": [0.1, 0.2], "barrier": [1.0, 2.0], "barrier_error": 0.1},
            "barrier: .*at least 4 values of epsilon",
        ),
    ],
)
def test_a_table_that_lacks_something_is_refused_by_name(table: dict[str, list[float]], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fit(table)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"epsilon": [0.1, 1.0]}, "epsilon: .*below 1"),
        ({"epsilon": [0.1, -1.0]}, "epsilon: .*positive"),
        ({"field": []}, "field: .*positive"),
        ({"draws": 0}, "draws: .*at least 1"),
        ({"draws": 10, "replicas": 1}, "replicas: .*at least 2"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        measure(ft.solvable.two_deltas(1.0), **arguments)  # type: ignore[arg-type]
