"""Closed forms against stored digits, identities of thermodynamics, and the same laws as ensembles of states."""

from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scipy.optimize import brentq

import fastthermo as ft
from fastthermo import solvable
from fastthermo.solvable.bessel import ratios

VE, OU = ft.VarianceExploding(), ft.OrnsteinUhlenbeck()
RNG = np.random.default_rng(0)
LAWS = {
    "two deltas": solvable.two_deltas([1.0, -0.5, 2.0], 0.6),
    "simplex": solvable.simplex(4, 1.3),
    "circle": solvable.sphere(2, 1.5),
    "sphere": solvable.sphere(5, 1.5),
    "ring": solvable.ising_ring(7, 0.4),
    "curie-weiss": solvable.curie_weiss(6, 0.8),
    "symmetric curie-weiss": solvable.curie_weiss(50, 1.2).symmetric(),
    "gaussian": solvable.gaussian(np.cov(RNG.normal(size=(3, 9))), [0.3, -1.0, 0.5]),
    "mixture": solvable.gaussian_mixture(RNG.normal(size=(4, 3)), [0.0, 0.1, 0.7, 2.0], [0.1, 0.4, 0.3, 0.2]),
}
law_of = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
BETAS = np.geomspace(1e-8, 1e8, 17)


def same(value: Any, rel: float = 1e-12) -> Any:
    return pytest.approx(value, rel=rel, abs=rel)


def tensors(law: Any, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    h = torch.from_numpy(np.random.default_rng(1).normal(size=(n, law.dimension)))
    return h, torch.logspace(-1, 0.5, n, dtype=torch.float64)


@law_of
def test_mean_is_the_gradient_of_the_free_energy(law: Any) -> None:
    h, beta = tensors(law)
    h.requires_grad_()
    state = law.boltzmann(h, beta)
    (gradient,) = torch.autograd.grad(state.log_evidence.sum(), h)
    torch.testing.assert_close(gradient, beta[:, None] * state.force, rtol=1e-11, atol=1e-12)


@law_of
def test_energies_are_derivatives_in_beta(law: Any) -> None:
    h, beta = tensors(law)
    beta.requires_grad_()
    state = law.boltzmann(h, beta)
    (first,) = torch.autograd.grad(state.log_evidence.sum(), beta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), beta)
    torch.testing.assert_close(state.regularised_energy, -first, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(state.energy_variance, second, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(state.entropy, state.log_evidence + beta * state.regularised_energy)


@law_of
def test_cumulants_are_derivatives_in_the_field(law: Any) -> None:
    h, beta = tensors(law)
    jacobian = torch.stack([torch.func.jacrev(lambda x, b=b: law.mean(x, b))(x) for x, b in zip(h, beta, strict=True)])
    c = law.covariance(h, beta)
    torch.testing.assert_close(beta[:, None, None] * c, jacobian, rtol=1e-10, atol=1e-12)
    v, u = h.flip(0), h.roll(1, 0)
    torch.testing.assert_close(law.cumulant(h, beta, v), (c @ v[..., None])[..., 0])
    apply, dense = law.response(h, beta)
    torch.testing.assert_close(dense(), c)
    torch.testing.assert_close(apply(torch.stack([v, u], 1)), torch.stack([v, u], 1) @ c)
    _, slope = torch.func.jvp(lambda x: law.cumulant(x, beta, v), (h,), (u,))
    torch.testing.assert_close(beta[:, None] * law.cumulant(h, beta, v, u), slope, rtol=1e-9, atol=1e-11)


@law_of
def test_every_quantity_is_finite_at_every_temperature(law: Any) -> None:
    scale = np.array([0, 1e-6, 1.0, 1e4])[:, None, None]
    h = (scale * RNG.normal(size=(3, law.dimension))).reshape(-1, law.dimension)
    for beta in BETAS:
        state = law.boltzmann(h, beta)
        for name in ("mean", "force", "log_evidence", "energy", "entropy", "heat_capacity", "participation"):
            assert np.isfinite(getattr(state, name)).all(), name
        assert (state.entropy <= 1e-12).all()
        assert (state.energy_variance >= 0).all()
        assert np.linalg.eigvalsh(law.covariance(h, beta)).min() > -1e-14


@law_of
def test_hot_laws_are_the_data(law: Any) -> None:
    state = law.boltzmann(np.zeros(law.dimension), 1e-10)
    np.testing.assert_allclose(state.mean, law.data_mean, atol=1e-8)
    values, vectors = law.principal(law.dimension)
    assert (np.diff(values) <= 0).all()
    c = law.covariance(np.zeros(law.dimension), 1e-10)
    np.testing.assert_allclose(vectors.T * values @ vectors, c, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(law.dimension), atol=1e-12)
    assert law.data_variance == pytest.approx(values.sum(), rel=1e-12)
    np.testing.assert_allclose(law.principal(1)[0], values[:1])


@law_of
def test_draws_have_the_mean_and_covariance_of_the_law(law: Any) -> None:
    y = law.draw(20000, seed=3)
    assert y.shape == (20000, law.dimension)
    delta = y - law.data_mean
    values, vectors = law.principal(law.dimension)
    products = (delta[:, :, None] * delta[:, None]).reshape(len(y), -1)
    for sample, want in ((y, law.data_mean), (products, (vectors.T * values @ vectors).ravel())):
        error = sample.std(0, ddof=1) / np.sqrt(len(y)) + 1e-15
        assert (np.abs(sample.mean(0) - want) < 4 * error).all()
    assert (law.draw(5, seed=3) != law.draw(5, seed=4)).any()


@law_of
def test_laws_answer_in_the_kind_and_shape_they_are_asked(law: Any) -> None:
    h, beta = tensors(law)
    want = law.boltzmann(h, beta)
    array = law.boltzmann(h.numpy(), beta.numpy())
    assert isinstance(array.mean, np.ndarray)
    np.testing.assert_array_equal(array.mean, want.mean)
    single = law.boltzmann(h[0].float(), 2.0)
    assert single.mean.shape == (law.dimension,)
    assert single.mean.dtype == torch.float32
    assert single.log_evidence.dtype == torch.float64
    assert law.covariance(h[0].numpy(), 2.0).shape == (law.dimension,) * 2
    assert law.boltzmann(h[:0], 1.0).mean.shape == (0, law.dimension)
    assert ft.posterior(law, OU, h.numpy(), 0.3).score.shape == h.shape
    gain = ft.susceptibility(law, h.numpy(), 0.5).leading()[0]
    assert gain[:, 0] == pytest.approx(0.5 * np.linalg.eigvalsh(law.covariance(h.numpy(), 0.5))[:, -1])


@pytest.mark.parametrize("name", ["mixture", "sphere"])
def test_samplers_take_a_law(name: str) -> None:
    law = LAWS[name]
    x = ft.sample(law, OU, 2000, steps=40, scheme="ancestral", seed=1)
    assert np.abs(x.mean(0) - law.data_mean).max() < 5 * np.sqrt(law.data_variance / 2000)


@law_of
@pytest.mark.parametrize(
    ("field", "beta", "match"),
    [
        (np.nan, 1.0, "field: .*nan"),
        (0.0, 0.0, "beta: "),
        (0.0, [1.0, np.inf], "beta: .*inf"),
        (0.0, np.ones(3), "beta: "),
    ],
)
def test_bad_queries_are_refused_by_name(law: Any, field: float, beta: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        law.boltzmann(np.full((2, law.dimension), field), beta)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: solvable.two_deltas(1.0, 0.0), "p: "),
        (lambda: solvable.two_deltas(np.nan), "mu: .*nan"),
        (lambda: solvable.two_deltas(np.ones((2, 2))), "mu: .*axes"),
        (lambda: solvable.simplex(1), "q: .*from 2"),
        (lambda: solvable.simplex(3, -1.0), "r: .*-1"),
        (lambda: solvable.sphere(0), "d: .*from 1"),
        (lambda: solvable.sphere(2.0), "d: "),
        (lambda: solvable.sphere(2, np.inf), "r: .*inf"),
        (lambda: solvable.ising_ring(1, 0.5), "n: .*from 2"),
        (lambda: solvable.ising_ring(4, np.nan), "K: .*nan"),
        (lambda: solvable.curie_weiss(10, -0.5), "K: .*ising"),
        (lambda: solvable.curie_weiss(1.5, 0.5), "n: "),
        (lambda: solvable.gaussian(np.ones((2, 3))), "cov: .*symmetric"),
        (lambda: solvable.gaussian([1.0, -1.0]), "cov: .*negative"),
        (lambda: solvable.gaussian(1.0, [0.0, 1.0]), "mean: wanted 1"),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), [1.0]), "var: wanted 2"),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), 1.0, np.ones(3)), "weights: wanted 2"),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), -1.0), "var: "),
        (lambda: solvable.gaussian_mixture(np.ones((2, 3)), 1.0, np.zeros(2)), "weights: .*positive"),
        (lambda: solvable.ising(np.triu(np.ones((3, 3)))), "W: .*symmetric"),
        (lambda: solvable.ising(np.ones((21, 21))), "W: .*20"),
        (lambda: LAWS["simplex"].boltzmann(np.zeros(3), 1.0, rtol=1e-3), "rtol: "),
        (lambda: LAWS["simplex"].mean(np.zeros(7), 1.0), "field: "),
        (lambda: LAWS["simplex"].cumulant(np.zeros(3), 1.0), "probes: "),
        (lambda: LAWS["simplex"].cumulant(np.zeros(3), 1.0, np.ones((2, 3))), "probe: "),
    ],
)
def test_bad_parameters_are_refused_by_name(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("name", ["two deltas", "simplex"])
def test_atoms_agree_with_exact_sums_at_every_temperature(name: str, exact: Any) -> None:
    """Near ties too, and where the states below the runner-up decide the covariance."""
    law = LAWS[name]
    y, log_phi = law.means.numpy(), law.weights.log().numpy()
    near = np.array([0.0, 1e-9, 1e-4, 1.0, 1e3])[:, None] * RNG.normal(size=(5, 3))
    h = np.concatenate([near, y[:1] + 1e-3])
    reach = np.linalg.norm(y, axis=1).max() + np.linalg.norm(h, axis=1)
    for beta in BETAS:
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


def test_mixture_agrees_with_its_quadrature() -> None:
    """Components of one variance are the law of their means at beta/(1 + beta v), smoothed."""
    law = LAWS["mixture"]
    x, w = np.polynomial.hermite_e.hermegauss(24)
    nodes = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    weight = (w[:, None, None] * w[:, None] * w).ravel() / w.sum() ** 3
    mu, v, pi = law.means.numpy(), law.variances.numpy(), law.weights.numpy()
    states = (mu[:, None] + np.sqrt(v)[:, None, None] * nodes).reshape(-1, 3)
    ens = ft.Ensemble(states, np.log(pi[:, None] * weight).ravel())
    h = RNG.normal(size=(4, 3))
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


def test_gaussian_data_have_no_transition() -> None:
    assert np.isnan(ft.critical_time(LAWS["gaussian"], VE))


def test_information_of_gaussian_data() -> None:
    """I = sum log(1 + beta lambda)/2; unit variance with log(N)/D = 1/2 collapses at s = 1/(e - 1)."""
    unit = solvable.gaussian(np.ones(256))
    assert unit.mutual_information(1 / 0.581976706869326) / 256 == same(0.5)
    found = ft.mutual_information(LAWS["gaussian"], VE, 0.5, n=4000)
    assert abs(found.value - LAWS["gaussian"].mutual_information(2.0)) <= 3 * found.error + 1e-14


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0, 4.0, 31.5, 32.0, 499.0])
def test_bessel_ratios_agree_with_long_arithmetic(nu: float) -> None:
    k = np.r_[0.0, 1e-8, 0.3, 0.999, 1.0, 1.5, np.geomspace(2, 2e4, 6), 1e6, 1e9, 1e16]
    got = ratios(nu, torch.from_numpy(k))
    assert [float(x[0]) for x in got] == same([0, 1, 1, 1 / (2 * nu + 2)])
    for i, x in enumerate(k[1:], 1):
        with mp.workdps(80):
            i0, i1 = mp.besseli(nu, mpf(x)), mp.besseli(nu + 1, mpf(x))
            a = i1 / i0
            log_integral = mp.log(mp.gamma(nu + 1) * (2 / mpf(x)) ** nu * i0) - x
            want = (log_integral, 2 * (nu + 1) * a / x, 1 - a, 1 - a * a - (2 * nu + 1) * a / x)
            for name, value, truth in zip(got._fields, got, want, strict=True):
                size = max(1, abs(truth)) if name == "log_integral" else abs(truth)
                assert abs(mpf(float(value[i])) - truth) < 2e-13 * size, (name, x)


@pytest.mark.parametrize(
    ("d", "log_partition", "mean", "radial", "transverse"),
    [
        (3, -1.14968146961081, 0.438124726315845, 0.223880422436205, 0.29208315087723),
        (2, -1.00121263228438, 0.596133238831291, 0.247203002339655, 0.39742215922086),
    ],
)
def test_sphere_in_a_field(d: int, log_partition: float, mean: float, radial: float, transverse: float) -> None:
    law, h = solvable.sphere(d), np.array([0.3, 0.4, 0.0])[:d]
    state = law.boltzmann(h, 3.0)
    assert float(state.log_partition) == same(log_partition)
    np.testing.assert_allclose(state.mean, mean * h / 0.5, rtol=1e-12)
    n = np.outer(h, h) / 0.25
    want = radial * n + transverse * (np.eye(d) - n)
    np.testing.assert_allclose(law.covariance(h, 3.0), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("d", "value"), [(2, 0.831462024754257), (3, 0.788886566629197), (10, 0.730981843703263)])
def test_order_parameter_of_a_sphere_and_its_goldstone_modes(d: int, value: float) -> None:
    law, r = solvable.sphere(d, np.sqrt(d)), np.sqrt(d)
    unit = np.eye(d)[0]
    root = brentq(lambda x: law.boltzmann(x * unit, 2.0).force[0], 0.3 * r, r, xtol=1e-15, rtol=1e-15)
    assert root / r == same(value)
    gains = 2 * np.linalg.eigvalsh(law.covariance(root * unit, 2.0))
    np.testing.assert_allclose(gains[1:], 1, rtol=1e-12)
    assert gains[0] < 1


@pytest.mark.parametrize("d", [2, 3, 10])
def test_critical_point_of_a_sphere(d: int) -> None:
    """s_c = r^2/d, and (h*/r)^2 = (d + 2)/d (1 - s/s_c)"""
    r = 1.7
    law = solvable.sphere(d, r)
    assert ft.critical_time(law, VE) == same(r**2 / d)
    for eps in (1e-3, 1e-4):
        beta, unit = d / r**2 / (1 - eps), np.eye(d)[0]
        want = np.sqrt((d + 2) / d * eps)
        root = brentq(lambda x: law.boltzmann(x * r * unit, beta).force[0], want / 2, 2 * want, xtol=1e-15)  # noqa: B023
        assert root == pytest.approx(want, rel=eps)


def test_sphere_of_one_dimension_is_two_deltas() -> None:
    assert solvable.sphere(1, 2.0).boltzmann(np.array([0.1]), 1.0).mean == same(2 * np.tanh(0.2))


def ring(n: int) -> np.ndarray:
    return np.roll(np.eye(n), 1, 1) + np.roll(np.eye(n), -1, 1)


def test_ising_data_are_weighted_by_their_coupling() -> None:
    w = RNG.normal(size=(5, 5))
    w = w + w.T
    ens = solvable.ising(w, 0.3)
    y = ens.data()
    assert set(np.unique(y)) == {-1, 1}
    assert len(np.unique(y, axis=0)) == 32
    phi = np.exp(0.15 * np.einsum("ni,ij,nj->n", y, w, y))
    np.testing.assert_allclose(ens.data_mean, 0, atol=1e-14)
    np.testing.assert_allclose(ens.covariance(np.zeros(5), 1e-12), (y.T * phi) @ y / phi.sum(), atol=1e-10)


@pytest.mark.parametrize(
    ("law", "coupling", "strength"),
    [(solvable.ising_ring(n, k), ring(n), k) for n in (5, 8) for k in (0.5, -0.7, 0.0, 3.0)]
    + [(solvable.curie_weiss(n, k), np.ones((n, n)) / n, k) for n in (5, 8) for k in (0.5, 0.0, 3.0)],
)
def test_spins_agree_with_their_enumeration_at_every_temperature(law: Any, coupling: Any, strength: float) -> None:
    states = solvable.ising(coupling, strength)
    n, random = law.dimension, np.random.default_rng(law.dimension)
    scale = np.array([0, 1e-3, 0.3, 1.0, 100.0])[:, None]
    h = np.concatenate([scale * random.normal(size=(5, n)), 0.01 * states.data(slice(2))])
    for beta in BETAS[::2]:
        got, want = law.boltzmann(h, beta), states.boltzmann(h, beta)
        for name in ("mean", "force", "log_evidence", "regularised_energy", "entropy", "energy_variance"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(got.participation, want.participation, rtol=1e-12)
        np.testing.assert_allclose(law.covariance(h, beta), states.covariance(h, beta), atol=1e-12)


def test_small_correlations_keep_their_digits() -> None:
    """At low temperature a ring correlates as exp(-8 beta) and less; covariances by differences would be noise."""
    h = np.linspace(1, 2, 6)
    ratios_, c = [], []
    for law in (solvable.ising_ring(6, 0.5), solvable.curie_weiss(6, 0.5)):
        c = [law.covariance(h, beta)[0, 0] for beta in (40.0, 41.0)]
        ratios_.append(c[1] / c[0])
        assert 0 < c[0] < 1e-30
    np.testing.assert_allclose(ratios_, np.exp(-2), rtol=1e-10)


def test_a_uniform_field_sees_the_symmetric_law() -> None:
    n = 30
    law = solvable.curie_weiss(n, 0.9)
    u = np.array([0.0, 0.1, -2.0, 30.0])
    h = np.repeat(u[:, None] / np.sqrt(n), n, 1)
    one, all_ = law.symmetric().boltzmann(u[:, None], 0.7), law.boltzmann(h, 0.7)
    np.testing.assert_allclose(one.mean[:, 0], all_.mean.sum(1) / np.sqrt(n), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(one.log_evidence, all_.log_evidence, rtol=1e-12)
    np.testing.assert_allclose(one.heat_capacity, all_.heat_capacity, rtol=1e-11, atol=1e-13)
    c = law.covariance(h, 0.7).sum((1, 2)) / n
    np.testing.assert_allclose(law.symmetric().covariance(u[:, None], 0.7)[:, 0, 0], c, rtol=1e-11)


@pytest.mark.parametrize(("n", "s"), [(8, 2.70699845598966), (16, 2.71825831285773)])
def test_critical_point_of_the_ising_ring(n: int, s: float) -> None:
    law = solvable.ising_ring(n, 0.5)
    u = np.tanh(0.5)
    assert law.principal()[0][0] == same(s)
    assert (1 + u) / (1 - u) * (1 - u**n) / (1 + u**n) == same(s)
    assert ft.critical_time(law, VE) == same(s)


def test_a_long_ring_needs_no_more_than_its_length() -> None:
    law = solvable.ising_ring(1000, 0.5)
    u = np.tanh(0.5)
    assert law.principal()[0][0] == same((1 + u) / (1 - u))
    state = law.boltzmann(np.full(1000, 0.2), 1.5)
    largest = np.exp(0.5) * np.cosh(0.3) + np.sqrt(np.exp(1) * np.sinh(0.3) ** 2 + np.exp(-1))  # transfer eigenvalue
    assert float(state.log_partition) == same(1000 * (np.log(largest / (2 * np.cosh(0.5))) - 0.75))


@pytest.mark.parametrize(("n", "s"), [(10, 1.71464374282055), (100, 1.96174471650402), (1000, 1.99601853458921)])
def test_critical_point_of_curie_weiss_data(n: int, s: float) -> None:
    law = solvable.curie_weiss(n, 0.5)
    assert law.principal()[0][0] == same(s)
    assert ft.critical_time(law.symmetric(), VE) == same(s)
    if n < 1000:
        assert ft.critical_time(law, VE) == pytest.approx(s, rel=1e-9)


def test_temperatures_of_curie_weiss_data_add() -> None:
    """m = tanh((K + beta) m) at a fixed point of a million spins, K = 0.5, s = 1.5"""
    n, beta = 10**6, 1 / 1.5
    law = solvable.curie_weiss(n, 0.5).symmetric()
    want = brentq(lambda m: np.tanh((0.5 + beta) * m) - m, 0.1, 1.0, xtol=1e-15)
    found = brentq(lambda m: law.boltzmann(np.array([m * 1e3]), beta).force[0], 0.1, 1.0, xtol=1e-15)
    assert found == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("n", "value"), [(10, 0.900457584404883), (100, 0.906929878680136), (1000, 0.908846336711716)])
def test_critical_magnetization_of_curie_weiss_data_scales_as_the_fourth_root(n: int, value: float) -> None:
    m, p = solvable.curie_weiss(n, 1.0).magnetization()
    assert p @ np.abs(m) * n**0.25 == same(value)


def test_critical_curie_weiss_data_of_a_million_spins() -> None:
    """<|m|> N^1/4 -> 0.909890588309781, <m^2> N^1/2 -> 1.17082865660753, U4 -> 0.270520128257841, as N^-1/2"""
    limits = np.array([0.909890588309781, 1.17082865660753, 0.270520128257841])
    found = []
    for n in (250000, 10**6):
        m, p = solvable.curie_weiss(n, 1.0).magnetization()
        second, fourth = p @ m**2, p @ m**4
        found.append([p @ np.abs(m) * n**0.25, second * n**0.5, 1 - fourth / (3 * second**2)])
    np.testing.assert_allclose(2 * np.array(found[1]) - found[0], limits, rtol=1e-6)


def test_binder_cumulant_of_a_thousand_critical_spins() -> None:
    m, p = solvable.curie_weiss(1000, 1.0).magnetization()
    assert 1 - p @ m**4 / (3 * (p @ m**2) ** 2) == same(0.281417112185241)


def test_critical_point_of_the_ising_ring_by_enumeration() -> None:
    assert ft.critical_time(solvable.ising(ring(8), 0.5), VE) == same(2.70699845598966)
    assert solvable.ising(ring(16), 0.5).principal()[0][0] == same(2.71825831285773)


def test_critical_point_of_curie_weiss_data_by_enumeration() -> None:
    assert ft.critical_time(solvable.ising(np.ones((10, 10)) / 10, 0.5), VE) == same(1.71464374282055)
