"""Atoms and Gaussians: stored digits, hyperbolic formulas, and the same laws as ensembles of states."""

from typing import Any

import numpy as np
import pytest

import fastthermo as ft
from fastthermo import solvable

VE, OU = ft.VarianceExploding(), ft.OrnsteinUhlenbeck()


def same(value: Any, rel: float = 1e-12) -> Any:
    return pytest.approx(value, rel=rel, abs=rel)


@pytest.mark.parametrize("name", ["two deltas", "simplex"])
def test_atoms_agree_with_exact_sums_at_every_temperature(laws: Any, betas: np.ndarray, name: str, exact: Any) -> None:
    """Near ties too, and where the states below the runner-up decide the covariance."""
    law = laws[name]
    y, log_phi = law.means.numpy(), law.weights.log().numpy()
    near = np.array([0.0, 1e-9, 1e-4, 1.0, 1e3])[:, None] * np.random.default_rng(3).normal(size=(5, 3))
    h = np.concatenate([near, y[:1] + 1e-3])
    reach = np.linalg.norm(y, axis=1).max() + np.linalg.norm(h, axis=1)
    for beta in betas:
        truth, got = exact(y, log_phi, h, np.full(6, beta)), law.boltzmann(h, beta)
        logits = 4e-15 * np.maximum(1, beta * reach)  # their rounding, and so that of the weights
        scale = {"log_evidence": 1 + np.abs(truth.log_evidence), "entropy": 2 + np.abs(truth.entropy)}
        scale |= {"mean": reach, "force": truth.rms, "regularised_energy": truth.energy}
        scale |= {
            "participation": 1.0,
            "energy_variance": reach**2 * (np.sqrt(truth.energy_variance) + 1e-15 * reach**2),
        }
        for field, size in scale.items():
            want = truth.energy if field == "regularised_energy" else getattr(truth, field)
            error = np.abs(getattr(got, field) - want).reshape(6, -1).max(1)
            assert (error <= 10 * logits * size).all(), (field, beta)
        trace = np.trace(truth.covariance, axis1=1, axis2=2)
        error = np.abs(law.covariance(h, beta) - truth.covariance).max((1, 2))
        assert (error <= 10 * logits * trace).all(), beta
        np.testing.assert_array_equal(got.dominant[1:], truth.dominant[1:])


def test_two_deltas_by_their_hyperbolic_formula() -> None:
    mu, h = np.array([1.0, -0.5, 2.0]), np.array([0.3, 0.2, -0.1])
    for p in (0.5, 0.6, 0.01):
        law = solvable.two_deltas(mu, p)
        for beta in np.geomspace(1e-4, 1e2, 7):
            a = beta * h @ mu + np.log(p / (1 - p)) / 2
            state = law.boltzmann(h, beta)
            log_z = -beta * mu @ mu / 2 + np.log(np.cosh(a) * 2 * np.sqrt(p * (1 - p)))
            assert float(state.log_partition) == same(log_z)
            np.testing.assert_allclose(state.mean, mu * np.tanh(a), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(law.covariance(h, beta), np.outer(mu, mu) / np.cosh(a) ** 2, rtol=1e-11)


def test_simplex_is_equidistant() -> None:
    for q in (2, 3, 7):
        y = solvable.simplex(q, 2.0).means.numpy()
        np.testing.assert_allclose(y @ y.T, 4 * (np.eye(q) - (1 - np.eye(q)) / (q - 1)), atol=1e-14)


def test_mixture_agrees_with_its_quadrature(laws: Any) -> None:
    """Components of one variance are the law of their means at beta/(1 + beta v), smoothed."""
    law = laws["mixture"]
    x, w = np.polynomial.hermite_e.hermegauss(24)
    nodes = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    weight = (w[:, None, None] * w[:, None] * w).ravel() / w.sum() ** 3
    mu, v, pi = law.means.numpy(), law.variances.numpy(), law.weights.numpy()
    states = (mu[:, None] + np.sqrt(v)[:, None, None] * nodes).reshape(-1, 3)
    ens = ft.Ensemble(states, np.log(pi[:, None] * weight).ravel())
    h = np.random.default_rng(3).normal(size=(4, 3))
    got, want = law.boltzmann(h, 0.6), ens.boltzmann(h, 0.6)
    for field in ("mean", "log_evidence", "regularised_energy", "entropy", "energy_variance"):
        np.testing.assert_allclose(getattr(got, field), getattr(want, field), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(law.covariance(h, 0.6), ens.covariance(h, 0.6), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("h", "s"), [(0.3, 0.5), (-1.0, 2.0), (2.5, 3.0)])
def test_two_gaussians_by_their_hyperbolic_formula(h: float, s: float) -> None:
    """<y> = (v h + s mu tanh(h mu / (v + s))) / (v + s)"""
    law = solvable.gaussian_mixture([[2.0], [-2.0]], 1.0)
    want = (h + 2 * s * np.tanh(2 * h / (1 + s))) / (1 + s)
    assert float(law.mean(np.array([h]), 1 / s)[0]) == same(want)


def test_mixtures_far_from_the_origin_keep_their_digits() -> None:
    offset, h = 1e8, np.array([[0.0123]]) + 1e8
    means = np.array([[1.1], [-0.9], [0.3]]) + offset
    far, near = (solvable.gaussian_mixture(mu, [0.0, 0.1, 0.2]) for mu in (means, means - offset))
    found, want = far.boltzmann(h, 30.0), near.boltzmann(h - offset, 30.0)
    for name in ("log_evidence", "force", "entropy", "energy_variance"):
        np.testing.assert_allclose(getattr(found, name), getattr(want, name), rtol=1e-14, err_msg=name)


def test_critical_point_of_two_gaussians() -> None:
    """s_c = m^2 - v"""
    law = solvable.gaussian_mixture([[2.0], [-2.0]], 1.0)
    assert ft.critical_time(law, VE) == same(3.0)
    assert ft.critical_time(law, OU) == same(0.693147180559945)


def test_gaussian_in_three_dimensions() -> None:
    law, h = solvable.gaussian([4.0, 1.0, 0.25]), np.array([1.0, -1.0, 2.0])
    state = law.boltzmann(h, 2.0)
    assert float(state.log_partition) == same(1.03823790183264)
    np.testing.assert_allclose(state.mean, [8 / 9, -2 / 3, 2 / 3], rtol=1e-12)
    np.testing.assert_allclose(law.covariance(h, 2.0), np.diag([4 / 9, 1 / 3, 1 / 6]), rtol=1e-12, atol=1e-15)
    assert float(ft.posterior(law, VE, h, 0.5).log_density) == same(-6.67885692694146)


def test_gaussian_data_have_no_transition(laws: Any) -> None:
    assert np.isnan(ft.critical_time(laws["gaussian"], VE))


def test_information_of_gaussian_data(laws: Any) -> None:
    """I = sum log(1 + beta lambda)/2; unit variance with log(N)/D = 1/2 collapses at s = 1/(e - 1)."""
    unit = solvable.gaussian(np.ones(256))
    assert unit.mutual_information(1 / 0.581976706869326) / 256 == same(0.5)
    found = ft.mutual_information(laws["gaussian"], VE, 0.5, n=4000)
    assert abs(found.value - laws["gaussian"].mutual_information(2.0)) <= 3 * found.error + 1e-14
