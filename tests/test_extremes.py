"""Bounds hold where data are unlike any: outliers, offsets, tight clusters, copies, any scale; against 80-bit sums."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from extended import LONG, posterior, truth

import fastthermo as ft

pytestmark = pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="long double is float64 here")


def exact(y: Any, h: Any, beta: float, log_weights: Any = None) -> tuple[SimpleNamespace, Any]:
    """The truth of one query, and its weights."""
    given = y, np.zeros(len(y)) if log_weights is None else log_weights, np.asarray(h)[None], np.array([beta])
    return SimpleNamespace(**{name: value[0] for name, value in vars(truth(*given)).items()}), posterior(*given)[0][0]


def error(force: Any, want: SimpleNamespace) -> float:
    return float(np.sqrt(((np.asarray(force) - want.force) ** 2).sum()) / want.rms)


def check(y: Any, h: Any, beta: float, log_weights: Any = None, wanted: float = 1e-6) -> None:
    """In both precisions: the force within its bound and `wanted`, N_eff and C v right."""
    want, h = exact(y, h, beta, log_weights)[0], np.asarray(h, float)
    for single in (False, True):
        state = ft.Ensemble(y, log_weights).boltzmann(h, beta, single=single)
        assert error(state.force, want) <= min(state.error_bound, wanted)
        assert abs(state.participation / float(want.participation) - 1) < 1e-5
        assert state.regularised_energy == pytest.approx(float(want.energy), rel=1e-5)
        assert beta**2 * abs(state.energy_variance - float(want.variance)) < 1e-5 * (1 + state.heat_capacity)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [8, 32])
def test_an_outlier_leaves_the_others_their_weights(dimension: int, dtype: Any) -> None:
    y = np.random.default_rng(dimension).normal(size=(2000, dimension))
    y[7] = 1e16
    check(y.astype(dtype), (y[0] + y[1]) / 2, 1.0)


@pytest.mark.parametrize("dimension", [8, 32])
def test_a_state_of_weight_zero_may_be_anywhere(dimension: int) -> None:
    y, phi = np.random.default_rng(dimension).normal(size=(2000, dimension)), np.zeros(2000)
    y[7], phi[7] = 1e30, -np.inf
    check(y.astype(np.float32), (y[0] + y[1]) / 2, 1.0, phi)


@pytest.mark.parametrize("shape", [(300, 3), (300, 64), (5000, 64)])
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e9, 1e18])
def test_units_do_not_matter(scale: float, shape: tuple[int, int]) -> None:
    y = np.random.default_rng(1).normal(size=shape)
    h = (y[0] + 0.3 * y[1]) * scale
    check((scale * y).astype(np.float32), h, 0.5 / scale**2)


def test_a_field_of_any_size_gets_an_answer() -> None:
    y = np.random.default_rng(2).normal(size=(5000, 32)).astype(np.float32)
    state = ft.Ensemble(y).boltzmann(np.full((1, 32), 1e39), 1.0)
    assert np.isfinite(state.mean).all()
    assert state.dominant[0] == y.sum(1).argmax()


@pytest.mark.parametrize("size", [300, 6000])  # of more, segments are merged
def test_an_offset_of_all_data_costs_no_digits(size: int) -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=(size, 33)) + 1e10
    check(y, (y[3] + y[4]) / 2 + 0.3 * rng.normal(size=33), 1.0, wanted=1e-12)


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
    rng = np.random.default_rng(5)
    centres = 10 * rng.normal(size=(5, 64))
    y = (centres[rng.integers(0, 5, size)] + width * rng.normal(size=(size, 64))).astype(np.float32)
    check(y, y[1], 0.01)


def test_near_copies_of_images_are_within_their_bound() -> None:
    rng = np.random.default_rng(6)
    centres = rng.integers(2, 254, (8, 256))
    y = (centres[rng.integers(0, 8, 9000)] + rng.integers(-2, 3, (9000, 256))).astype(np.uint8)
    check(y, y[1], 1e-6)


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
    y = np.random.default_rng(8).normal(size=(9002, 64))
    y, beta = (np.clip(40 * y + 128, 0, 255).astype(np.uint8), 0.5 / 1600) if bytes_ else (y.astype(np.float32), 0.5)
    y[1] = y[0]
    check(y, y[0], beta)
    w, t, *_ = (x[0] for x in posterior(y, np.zeros(len(y)), y[:1], np.array([beta])))
    centred = t - w @ t
    want = (centred * w[:, None]).T @ centred
    found = ft.Ensemble(y).covariance(y[0].astype(np.float32), beta)
    assert np.abs(found - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_a_posterior_counts_the_rounding_of_its_field(offset: float) -> None:
    y, process = np.random.default_rng(9).normal(size=(2, 8)) + offset, ft.VariancePreserving()
    alpha, sigma = process.alpha(1e-3), process.sigma(1e-3)
    x = alpha * (y[0] + y[1]) / 2
    state = ft.posterior(ft.Ensemble(y), process, x, 1e-3)
    want, _ = exact(y, x.astype(LONG) / LONG(alpha), float((alpha / sigma) ** 2))
    assert error(state.force, want) <= state.error_bound
