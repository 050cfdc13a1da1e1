"""Critical times by convention."""

from typing import Any

import numpy as np
import pytest

import fastthermo as ft

OU, VP, VE = ft.OrnsteinUhlenbeck(), ft.VariancePreserving(0.1, 20.0), ft.VarianceExploding()
PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))


def pair(m: float, dimension: int = 1) -> ft.Ensemble:
    mu = np.full((1, dimension), m / np.sqrt(dimension))
    return ft.Ensemble(np.concatenate([mu, -mu]))


@pytest.mark.parametrize(
    ("m2", "process", "convention", "time"),
    [
        (1.0, OU, "fixed_point", 0.346573590279973),
        (1.0, OU, "sde_drift", 0.440686793509772),
        (1.0, VP, "fixed_point", 0.258960262432797),
        (1.0, VP, "sde_drift", 0.292641654328143),
        (16.0, OU, "fixed_point", 1.41660667202811),
        (16.0, OU, "sde_drift", 1.73335551894236),
        (16.0, OU, "speciation", 1.38629436111989),
    ],
)
def test_critical_times_of_two_deltas(m2: float, process: ft.Process, convention: str, time: float) -> None:
    assert ft.critical_time(pair(np.sqrt(m2)), process, convention) == pytest.approx(time, rel=1e-12)


@pytest.mark.parametrize("m2", [0.04, 0.5, 0.9, 1.0, 4.0])
def test_conventions_of_two_deltas_in_a_unit_ornstein_uhlenbeck_process(m2: float) -> None:
    want = {
        "fixed_point": 1 / (1 + m2),
        "sde_drift": np.sqrt(m2**2 + 1) - m2,
        "ode_drift": 1 - m2 if m2 < 1 else np.nan,
        "speciation": 1 / m2 if m2 > 1 else np.nan,
    }
    for convention, u in want.items():
        found = np.exp(-2 * ft.critical_time(pair(np.sqrt(m2), 3), OU, convention))
        assert found == pytest.approx(u, rel=1e-11, nan_ok=True), convention


def test_log_alpha_at_the_drift_transition_of_the_variance_preserving_process() -> None:
    t = ft.critical_time(PAIR, VP, "sde_drift")
    assert float(VP.alpha(t)) == pytest.approx(0.643594252905583, rel=1e-12)


def test_fixed_point_does_not_depend_on_the_process() -> None:
    for process in (OU, VP, VE, ft.EDM(), ft.FlowMatching(), ft.DDPM.linear()):
        t = ft.critical_time(pair(1.7), process)
        assert process.beta(t) == pytest.approx(1 / 1.7**2, rel=1e-10)


def test_drift_and_fixed_point_agree_without_a_drift() -> None:
    want = ft.critical_time(PAIR, VE)
    assert want == pytest.approx(1, rel=1e-12)
    assert ft.critical_time(PAIR, VE, "sde_drift") == pytest.approx(want, rel=1e-12)
    assert ft.critical_time(PAIR, VE, "ode_drift") == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(("q", "s"), [(2, 1.0), (3, 0.5), (5, 0.25)])
def test_centre_of_a_simplex(q: int, s: float) -> None:
    corners = np.eye(q) - 1 / q
    ens = ft.Ensemble(corners / np.linalg.norm(corners[0]))
    assert ft.critical_time(ens, VE) == pytest.approx(s, rel=1e-12)


def test_two_gaussians() -> None:
    """s_c = m^2 - v"""
    x = 0.25 * np.arange(-44, 45)
    ens = ft.Ensemble(x[:, None], np.logaddexp(-((x - 2) ** 2) / 2, -((x + 2) ** 2) / 2))
    assert ft.critical_time(ens, VE) == pytest.approx(3, rel=1e-12)
    assert ft.critical_time(ens, OU) == pytest.approx(0.693147180559945, rel=1e-12)


@pytest.mark.parametrize(("variance", "step"), [(7.66, 446), (16.72, 526), (3.05, 329), (17.16, 528), (60.52, 635)])
def test_speciation_steps_of_the_linear_ddpm_schedule(variance: float, step: int) -> None:
    process = ft.DDPM.linear(1e-4, 0.02, 1000)
    assert np.ceil(ft.critical_time(pair(np.sqrt(variance)), process, "speciation")) == step


@pytest.mark.parametrize("t_max", [1.0000001, 1.05, 1.2])
def test_a_transition_within_the_first_step_of_the_grid_is_found(t_max: float) -> None:
    assert ft.critical_time(PAIR, ft.VarianceExploding(t_min=0.01, t_max=t_max)) == pytest.approx(1, rel=1e-10)


def test_no_transition_is_nan() -> None:
    single = ft.Ensemble(np.ones((1, 3)))
    for convention in ("fixed_point", "ode_drift"):
        assert np.isnan(ft.critical_time(single, OU, convention))
    assert np.isnan(ft.critical_time(pair(0.5), OU, "speciation"))
    assert np.isnan(ft.critical_time(PAIR, ft.VarianceExploding(t_min=2.0)))


def blume_capel(excess: float) -> tuple[np.ndarray, np.ndarray]:
    """-1, 0, 1 with priors w, 1 - 2w, w: at 0 the gain is beta 2w / ((1 - 2w) e^(beta/2) + 2w), at most 1 at beta = 3
    where `excess` is 0."""
    w = 0.5 / (1 + 2 * np.exp(-1.5)) + excess
    return np.array([-1.0, 0.0, 1.0]), np.log([w, 1 - 2 * w, w])


@pytest.mark.parametrize("process", [OU, VP, VE, ft.EDM(), ft.FlowMatching(), ft.DDPM.linear()])
def test_a_gain_that_passes_1_for_a_moment_does_so_at_its_own_time(process: ft.Process) -> None:
    """Narrower in beta than the grid is fine, whether or not another direction passes 1 for good later."""
    from scipy.optimize import brentq

    for excess in (3e-4, 1e-6):
        y, log_weights = blume_capel(excess)
        w = np.exp(log_weights[0])
        want = brentq(lambda b, w=w: b * 2 * w - (1 - 2 * w) * np.exp(b / 2) - 2 * w, 2, 3, xtol=1e-14)
        plane = np.array([[a, b] for a in y for b in (-0.3, 0.3)])
        for ens in (ft.Ensemble(y[:, None], log_weights), ft.Ensemble(plane, np.repeat(log_weights, 2))):
            assert process.beta(ft.critical_time(ens, process)) == pytest.approx(want, rel=1e-8)
    y, log_weights = blume_capel(-1e-6)
    assert np.isnan(ft.critical_time(ft.Ensemble(y[:, None], log_weights), process))


def test_a_gain_far_from_1_is_asked_on_the_grid_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastthermo.critical import times

    asked = []
    gain = times.leading_gain

    def counted(model: Any, field: np.ndarray, beta: Any, tolerance: float = 1e-10) -> np.ndarray:
        asked.append(np.size(beta))
        return gain(model, field, beta, tolerance)

    monkeypatch.setattr(times, "leading_gain", counted)
    y, log_weights = blume_capel(-0.03)
    assert np.isnan(ft.critical_time(ft.Ensemble(y[:, None], log_weights), OU))
    assert sum(asked) == times.GRID


def test_without_a_signal_that_falls_nothing_speciates() -> None:
    for process in (VE, ft.EDM()):
        assert np.isnan(ft.critical_time(PAIR, process, "speciation"))


def test_gaussian_data_have_no_transition() -> None:
    x = 0.25 * np.arange(-40, 41)
    ens = ft.Ensemble(x[:, None], -(x**2) / 2)
    assert np.isnan(ft.critical_time(ens, ft.VarianceExploding(t_min=0.1)))


def test_the_field_may_be_chosen() -> None:
    """At h the gain of two deltas is beta sech^2(beta h)."""
    ens, h = PAIR, np.array([0.1])
    s = ft.critical_time(ens, VE, field=h)
    assert 1 / np.cosh(h[0] / s) ** 2 / s == pytest.approx(1, rel=1e-12)
    assert s < 1


def test_images_and_denoisers_have_the_critical_time_of_their_flat_law() -> None:
    states = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    images, flat = ft.Ensemble(states), ft.Ensemble(states.reshape(6, 6))
    want = ft.critical_time(flat, OU)
    assert ft.critical_time(images, OU) == want
    assert ft.critical_time(ft.EmpiricalDenoiser(images, OU), OU) == want
    assert ft.critical_time(images, OU, field=np.zeros((2, 3))) == ft.critical_time(flat, OU, field=np.zeros(6))


def test_many_dimensions_use_products_instead_of_matrices() -> None:
    few, many = pair(2.0), pair(2.0, 70)
    assert ft.critical_time(many, OU) == pytest.approx(ft.critical_time(few, OU), rel=1e-7)


def test_classes_part_before_what_is_within_them() -> None:
    """+-3 along one axis, +-1 along another: s = 9 between the classes of the first, s = 1 within each."""
    corners = np.array([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]])
    classes = ft.Ensemble(corners).split(["right", "right", "left", "left"])
    for convention in ("fixed_point", "sde_drift", "speciation"):
        assert ft.critical_time(classes, OU, convention) == ft.critical_time(classes.whole, OU, convention)
    assert 1 / OU.beta(ft.critical_time(classes, OU)) == pytest.approx(9, rel=1e-11)
    for part in classes.values():
        assert 1 / OU.beta(ft.critical_time(part, OU)) == pytest.approx(1, rel=1e-11)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"convention": "mean_field"}, "convention: .*'mean_field'"),
        ({"field": np.zeros(2)}, "field: wanted 1 numbers, got 2"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ft.critical_time(PAIR, **{"process": OU, **arguments})


def test_the_name_of_a_process_is_none() -> None:
    with pytest.raises(TypeError, match=r"process: wanted one such as .*, got 'vp'"):
        ft.critical_time(PAIR, "vp")  # type: ignore[arg-type]
