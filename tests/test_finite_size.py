"""Finite-size scaling: the Curie-Weiss magnet by exact sums, and curves made with known exponents."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import gamma, gammaln, logsumexp

from fastthermo.exponents import binder_crossings, binder_ratio, collapse, houdayer_hartmann, measure
from fastthermo.plot import save
from fastthermo.plot.exponents import collapse_figure, draw_collapse, exponents_figure
from fastthermo.solvable import two_deltas

SIZES = (512, 1024, 2048, 4096)


def curie_weiss(n: int, coupling: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """<|m|>, <m^2>, <m^4> of n spins with energy -n K m^2 / 2, for each K."""
    k = np.arange(n + 1)
    m = 1 - 2 * k / n
    log_w = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + np.asarray(coupling)[:, None] * n * m**2 / 2
    w = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
    return w @ np.abs(m), w @ m**2, w @ m**4


@pytest.mark.parametrize(("n", "order"), [(10, 0.900457584404883), (100, 0.906929878680136), (1000, 0.908846336711716)])
def test_magnetisation_of_a_critical_curie_weiss_magnet(n: int, order: float) -> None:
    assert curie_weiss(n, [1.0])[0][0] * n**0.25 == pytest.approx(order, rel=1e-11)


def test_binder_ratio_of_a_critical_curie_weiss_magnet() -> None:
    _, m2, m4 = curie_weiss(1000, [1.0])
    assert binder_ratio(m2, m4)[0] == pytest.approx(0.281417112185241, rel=1e-11)
    sizes = np.array([4000, 16000])
    ratios = np.array([binder_ratio(*curie_weiss(n, [1.0])[1:])[0] for n in sizes])
    # corrections fall as n^-1/2: two sizes give the limit
    limit = (2 * ratios[1] - ratios[0]) / 1
    assert limit == pytest.approx(1 - gamma(0.25) ** 4 / (24 * np.pi**2), abs=2e-5)
    moments = np.array([curie_weiss(n, [1.0])[1][0] * n**0.5 for n in sizes])
    assert 2 * moments[1] - moments[0] == pytest.approx(1.17082865660753, abs=1e-4)


def test_binder_curves_of_the_curie_weiss_magnet_cross_at_its_critical_point() -> None:
    coupling = np.linspace(0.9, 1.1, 21)
    ratios = {float(n): binder_ratio(*curie_weiss(n, coupling)[1:]) for n in (500, 1000, 2000, 4000)}
    crossings = binder_crossings(coupling, ratios)
    assert list(crossings) == [(500.0, 1000.0), (1000.0, 2000.0), (2000.0, 4000.0)]
    distance = [abs(at.value - 1) for at in crossings.values()]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 2e-3
    assert all(np.isnan(at.error) for at in crossings.values())


def test_crossings_from_replicas_have_error_bars() -> None:
    rng = np.random.default_rng(0)
    t = np.linspace(-1, 1, 11)
    hits = []
    for _ in range(100):
        ratios = {n: 0.4 + 0.1 * n * (t - 0.13) + 0.02 * rng.standard_normal((20, len(t))) for n in (1.0, 2.0)}
        (at,) = binder_crossings(t, ratios, seed=1).values()
        hits.append(abs(at.value - 0.13) < 2 * at.error)
    assert 0.85 < np.mean(hits) <= 1


def test_curves_that_do_not_cross_say_so() -> None:
    (at,) = binder_crossings(np.arange(5.0), {1: np.arange(5.0), 2: np.arange(5.0) + 1}).values()
    assert np.isnan(at.value)


def test_curves_that_are_equal_far_from_the_transition_cross_only_at_it() -> None:
    t = np.linspace(0.5, 1.5, 41)
    for rounding in (0, 2.0**-52):
        far = {s: 2 / 3 / (1 + np.exp((t - 1.03) * s)) + rounding * (-1) ** np.arange(41) for s in (100, 200, 400)}
        far[200] = far[200] - 2 * rounding * (-1) ** np.arange(41)
        assert all(abs(at.value - 1.03) < 0.025 for at in binder_crossings(t, far).values())


def test_errors_from_three_replicas_are_those_of_their_mean() -> None:
    t, shift = np.linspace(-1, 1, 5), np.array([[0.1], [0.25], [0.31]])
    (at,) = binder_crossings(t, {1: np.zeros((3, 5)), 2: t - shift}, bootstrap=4000).values()
    assert at.value == pytest.approx(shift.mean())
    assert at.error == pytest.approx(shift.std(ddof=1) / np.sqrt(3), rel=0.04)


def test_a_ratio_without_moments_is_not_a_number() -> None:
    np.testing.assert_allclose(binder_ratio([0, 1], [0, 1]), [np.nan, 2 / 3])


def synthetic(seed: int, relative: float = 0.01) -> tuple[np.ndarray, ...]:
    """T_c = 1, nu = 1.3, kappa = -0.4/1.3."""
    rng = np.random.default_rng(seed)
    size = np.repeat([16.0, 32, 64, 128], 15)
    control = 1.003 + np.tile(np.linspace(-2, 2, 15), 4) * size ** (-1 / 1.3)
    truth = size ** (0.4 / 1.3) / (1 + np.exp(-(size ** (1 / 1.3)) * (control - 1)))
    return control, size, truth * (1 + relative * rng.standard_normal(60)), relative * truth


def test_a_collapse_finds_the_exponents_it_was_made_with() -> None:
    pulls = []
    for seed in range(12):
        found = collapse(*synthetic(seed))
        pulls += [
            (found.critical.value - 1) / found.critical.error,
            (found.inverse_nu.value - 1 / 1.3) / found.inverse_nu.error,
            (found.kappa.value + 0.4 / 1.3) / found.kappa.error,
        ]
        assert 0.5 < found.quality < 1.6
        assert found.inverse_nu.error < 0.01
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.4
    x = np.linspace(-1.5, 1.5, 7)
    mean, deviation = found.curve(x)
    np.testing.assert_allclose(mean, 1 / (1 + np.exp(-x)), rtol=0.05)
    assert (deviation < 0.02).all()


def test_a_collapse_of_the_curie_weiss_magnet_has_mean_field_exponents() -> None:
    """<|m|> = n^(-1/4) f(n^(1/2) (K - 1)); corrections fall as n^(-1/2), which the halves of the sizes tell."""
    control = np.concatenate([1 + np.linspace(-1.5, 1.5, 15) / np.sqrt(n) for n in SIZES])
    size = np.repeat(np.array(SIZES, dtype=float), 15)
    value = np.concatenate([curie_weiss(n, control[size == n])[0] for n in SIZES])
    found = collapse(control, size, value, 0.01 * value)
    for estimate, name, want in (
        (found.critical, "critical", 1),
        (found.inverse_nu, "inverse_nu", 0.5),
        (found.kappa, "kappa", 0.25),
    ):
        whole = found.estimate(name)
        assert whole.value == estimate.value
        assert whole.error == pytest.approx(np.hypot(estimate.error, found.systematic[name]))
        assert abs(whole.value - want) < 2 * whole.error, name
    assert found.inverse_nu.value == pytest.approx(0.5, abs=0.03)
    assert found.kappa.value == pytest.approx(0.25, abs=0.012)
    assert found.critical.value == pytest.approx(1, abs=0.005)
    axis = Figure().subplots()
    draw_collapse(axis, found)
    assert f"\\pm {found.estimate('inverse_nu').error:.1g}" in axis.get_title()


def test_a_collapse_from_replicas_by_bootstrap_agrees_with_the_likelihood() -> None:
    control, size, truth, error = synthetic(0, 1e-9)
    rows = truth * (1 + 0.03 * np.random.default_rng(1).standard_normal((10, 60)))
    curved = collapse(control, size, rows)
    drawn = collapse(control, size, rows, bootstrap=12)
    assert drawn.critical.value == curved.critical.value
    assert drawn.inverse_nu.value == pytest.approx(1 / 1.3, abs=0.05)
    assert 0.4 < drawn.kappa.error / curved.kappa.error < 2.5
    del error


def test_errors_of_a_collapse_of_two_replicas_are_those_of_their_mean() -> None:
    control, size, first, error = synthetic(0)
    rows = np.stack([first, synthetic(1)[2]])
    one, two = (collapse(control, size, row, np.hypot(rows.std(0), 0.1 * error)).critical.value for row in rows)
    found = collapse(control, size, rows, 0.1 * error, start=(1, 0.8, -0.3), bootstrap=60).critical.error
    assert found == pytest.approx(abs(one - two) / 2, rel=0.15)


def test_a_known_kappa_is_kept() -> None:
    control, size, value, error = synthetic(2)
    found = collapse(control, size, value * size ** (-0.4 / 1.3), error * size ** (-0.4 / 1.3), kappa=0.0)
    assert found.kappa == (0.0, 0.0)
    assert found.inverse_nu.value == pytest.approx(1 / 1.3, abs=0.02)


def test_the_quality_tells_a_collapse_from_its_failure() -> None:
    control, size, value, error = synthetic(3)
    good, bad = (
        houdayer_hartmann((control - 1) * size**inverse, value * size**-0.3077, error * size**-0.3077, size)
        for inverse in (1 / 1.3, 0.4)
    )
    assert good < 1.6
    assert bad > 20


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"size": np.ones(60)}, "size: .*at least 3 sizes .*got 60 at 1"),
        ({"value": np.ones(59)}, "value: wanted shape"),
        ({"error": None}, "error: .*at least 2 replicas"),
        ({"error": 0.0}, "error: wanted positive"),
        ({"value": np.full(60, np.nan)}, "finite"),
        ({"bootstrap": 12}, "bootstrap: wanted .* at least 2 replicas, got 12 of 1"),
        ({"value": np.ones((2, 60)), "bootstrap": 1}, "bootstrap: wanted at least 2 resamplings .* got 1 of 2"),
    ],
)
def test_bad_measurements_are_refused_by_name(change: dict[str, object], match: str) -> None:
    arguments = dict(zip(("control", "size", "value", "error"), synthetic(0), strict=True)) | change
    with pytest.raises(ValueError, match=match):
        collapse(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("control", "ratios", "match"),
    [
        (np.arange(5.0), {1: np.ones(5)}, "at least 2 sizes"),
        (np.arange(3.0), {1: np.ones(3), 2: np.ones(3)}, "at least 4"),
        (-np.arange(5.0), {1: np.ones(5), 2: np.ones(5)}, "increasing"),
        (np.arange(5.0), {1: np.ones(5), 2: np.ones(4)}, "wanted 5 values a row"),
    ],
)
def test_bad_curves_are_refused_by_name(control: np.ndarray, ratios: dict[float, np.ndarray], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        binder_crossings(control, ratios)


def test_figures_of_fits_and_collapses_are_drawn(tmp_path: Path) -> None:
    found = measure(two_deltas(1.0))
    save(exponents_figure(found, "two deltas"), tmp_path / "exponents.png")
    control, size, value, error = synthetic(0)
    save(collapse_figure(collapse(control, size, value, error), control, value), tmp_path / "collapse.png")
    for name in ("exponents", "collapse"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="at least one"):
        exponents_figure({})
