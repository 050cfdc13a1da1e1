"""Ising and Curie-Weiss data against their enumeration and stored digits."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

import fastthermo as ft
from fastthermo import solvable

VE, OU = ft.VarianceExploding(), ft.OrnsteinUhlenbeck()


def same(value: Any, rel: float = 1e-12) -> Any:
    return pytest.approx(value, rel=rel, abs=rel)


def ring(n: int) -> np.ndarray:
    return np.roll(np.eye(n), 1, 1) + np.roll(np.eye(n), -1, 1)


def test_ising_data_are_weighted_by_their_coupling() -> None:
    w = np.random.default_rng(3).normal(size=(5, 5))
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
    [(solvable.ising_ring(n, k), ring(n), k) for n in (5, 8) for k in (0.5, -0.7, 0.0, 3.0, -19.1, 180.0, -400.0)]
    + [(solvable.curie_weiss(n, k), np.ones((n, n)) / n, k) for n in (5, 8) for k in (0.5, 0.0, 3.0)],
)
def test_spins_agree_with_their_enumeration_at_every_temperature(
    law: Any, coupling: Any, strength: float, betas: np.ndarray
) -> None:
    states = solvable.ising(coupling, strength)
    assert law.prior_entropy == pytest.approx(states.prior_entropy, rel=1e-12)
    n, random = law.dimension, np.random.default_rng(law.dimension)
    scale = np.array([0, 1e-3, 0.3, 1.0, 100.0])[:, None]
    h = np.concatenate([scale * random.normal(size=(5, n)), 0.01 * states.data(slice(2))])
    for beta in betas[::2]:
        got, want = law.boltzmann(h, beta), states.boltzmann(h, beta)
        for name in ("mean", "force", "log_evidence", "regularised_energy", "entropy", "energy_variance"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(got.participation, want.participation, rtol=1e-12)
        np.testing.assert_allclose(law.covariance(h, beta), states.covariance(h, beta), atol=1e-12)


def test_a_frustrated_ring_has_one_bond_that_is_not_satisfied() -> None:
    law = solvable.ising_ring(3, -18.0)
    assert law.boltzmann(np.zeros(3), 0.5).log_evidence == same(-0.75)
    assert [solvable.ising_ring(3, k).prior_entropy for k in (-18.0, -500.0)] == same([np.log(6)] * 2)
    assert solvable.ising_ring(3, -500.0).principal(3)[0] == same([4 / 3, 4 / 3, 1 / 3])


def test_small_correlations_keep_their_digits() -> None:
    """At low temperature a ring correlates as exp(-8 beta) and less; covariances by differences would be noise."""
    h = np.linspace(1, 2, 6)
    ratios_, c = [], []
    for law in (solvable.ising_ring(6, 0.5), solvable.curie_weiss(6, 0.5)):
        c = [law.covariance(h, beta)[0, 0] for beta in (40.0, 41.0)]
        ratios_.append(c[1] / c[0])
        assert 0 < c[0] < 1e-30
    np.testing.assert_allclose(ratios_, np.exp(-2), rtol=1e-10)


def test_a_spin_held_by_its_field_leaves_the_others_their_correlations() -> None:
    n, u, sites = 6, np.tanh(0.5), np.arange(1, 6)
    found = solvable.ising_ring(n, 0.5).covariance(np.eye(1, n)[0], 1e8)[1:, 1:]
    apart = np.abs(sites[:, None] - sites)
    pair, one = ((u**d + u ** (n - d)) / (1 + u**n) for d in (apart, sites))
    np.testing.assert_allclose(found, pair - np.outer(one, one), rtol=1e-13)


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


def test_a_million_spins_without_a_field_have_no_magnetisation() -> None:
    law = solvable.curie_weiss(10**6, 10.2).symmetric()
    assert abs(law.mean(np.zeros((1, 1)), 1.0)[0, 0]) / 1e3 < 1e-8


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
