"""Bounds hold where data are unlike any: outliers, offsets, tight clusters, copies, any scale; against 80-bit sums."""

from types import SimpleNamespace
from typing import Any

import extremes
import numpy as np
import pytest
from extended import LONG, posterior, truth
from extremes import error

import fastthermo as ft

pytestmark = pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="long double is float64 here")


def exact(y: Any, h: Any, beta: float) -> tuple[SimpleNamespace, Any]:
    """The truth of one query, and its weights."""
    given = extremes.Problem.of(y, h, beta)
    order = given.states, given.log_weights, given.field, given.beta
    return truth(*order), posterior(*order)[0][0]


def check(problem: extremes.Problem, wanted: float = 1e-6) -> None:
    """In both precisions."""
    ensemble = ft.Ensemble(problem.states, problem.log_weights)
    for single in (False, True):
        extremes.check(problem, ensemble.boltzmann(problem.field, problem.beta, single=single), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [8, 32])
def test_an_outlier_leaves_the_others_their_weights(dimension: int, dtype: Any) -> None:
    check(extremes.outlier(2000, dimension, dtype))


@pytest.mark.parametrize("beta", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("distance", [10.0, 1e3, 1e5])
def test_a_far_state_leaves_sums_over_the_others_right(distance: float, beta: float) -> None:
    check(extremes.far_state(3000, distance, beta))


@pytest.mark.parametrize("dimension", [8, 32])
def test_a_state_of_weight_zero_may_be_anywhere(dimension: int) -> None:
    check(extremes.weightless(2000, dimension))


@pytest.mark.parametrize("shape", [(300, 3), (300, 64), (5000, 64)])
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e9, 1e18])
def test_units_do_not_matter(scale: float, shape: tuple[int, int]) -> None:
    check(extremes.scaled(*shape, scale))


@pytest.mark.parametrize("beta", [1.0, 1e-22])
@pytest.mark.parametrize("shape", [(600, 3), (5000, 32)])
def test_a_field_may_be_far_away(shape: tuple[int, int], beta: float) -> None:
    check(extremes.far(*shape, 1e22, beta))


def test_a_field_of_any_size_gets_an_answer() -> None:
    y = np.random.default_rng(2).normal(size=(5000, 32)).astype(np.float32)
    state = ft.Ensemble(y).boltzmann(np.full((1, 32), 1e39), 1.0)
    assert np.isfinite(state.mean).all()
    assert state.dominant[0] == y.sum(1).argmax()


@pytest.mark.parametrize("size", [300, 6000])  # of more, segments are merged
def test_an_offset_of_all_data_costs_no_digits(size: int) -> None:
    check(extremes.offset(size), 1e-12)


def test_classes_far_from_the_origin_keep_their_odds() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(size=(40, 8)) + 1e6
    h, beta = (y[0] + y[1]) / 2, 1e3
    whole, share = ft.Ensemble(y).split(np.arange(40) % 2).resolve(h, beta)
    want, w = exact(y, h, beta)
    assert error(whole.force, want) <= whole.error_bound
    np.testing.assert_allclose(share, [float(w[k::2].sum()) for k in range(2)], rtol=1e-12)
    odds = ft.Ensemble(y).log_odds(np.array([0, 1]), np.stack([h, h]), beta)
    np.testing.assert_allclose(odds, np.log(w[:2] / (1 - w[:2])).astype(float), atol=1e-10)


@pytest.mark.parametrize("width", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("size", [1000, 9000])
def test_a_query_amid_a_tight_cluster_is_within_its_bound(size: int, width: float) -> None:
    check(extremes.cluster(size, width))


def test_near_copies_of_images_are_within_their_bound() -> None:
    check(extremes.images(9000))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [2, 32])
@pytest.mark.parametrize("beta", [1.0, 1e2, 1e4, 1e8])
def test_bounds_of_queries_at_copies_of_a_state_are_true(beta: float, dimension: int, dtype: Any) -> None:
    y = np.random.default_rng(7).normal(size=(60, dimension)).astype(dtype)
    y[:4] = y[0]
    want, _ = exact(y, y[0], beta)
    for single in (False, True):
        state = ft.Ensemble(y).boltzmann(y[0].astype(float), beta, single=single)
        assert state.regularised_energy >= 0
        gap = np.sqrt(((state.force - want.force) ** 2).sum())
        assert gap <= max(1e-6 * want.rms, 1e-13)  # of what is 0, the bound may say that no digit is known
        assert gap <= state.error_bound * want.rms or state.error_bound > 1e100


@pytest.mark.parametrize("bytes_", [False, True])
def test_a_copy_of_the_dominant_state_hides_no_others(bytes_: bool) -> None:
    problem = extremes.hidden(9002, bytes_)
    check(problem)
    y, h, beta, phi = problem
    w, t, *_ = (x[0] for x in posterior(y, phi, h, beta))
    centred = t - w @ t
    want = (centred * w[:, None]).T @ centred
    found = ft.Ensemble(y).covariance(h[0].astype(np.float32), beta[0])
    assert np.abs(found - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_a_posterior_counts_the_rounding_of_its_field(offset: float) -> None:
    y, process = np.random.default_rng(9).normal(size=(2, 8)) + offset, ft.VariancePreserving()
    alpha, sigma = process.alpha(1e-3), process.sigma(1e-3)
    x = alpha * (y[0] + y[1]) / 2
    state = ft.posterior(ft.Ensemble(y), process, x, 1e-3)
    want, _ = exact(y, x.astype(LONG) / LONG(alpha), float((alpha / sigma) ** 2))
    assert error(state.force, want) <= state.error_bound
