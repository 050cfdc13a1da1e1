"""Susceptibilities as operators: products, dense matrices, leading eigenpairs and the self-consistent response."""

from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import solvable

RNG = np.random.default_rng(0)
SMALL = ft.Ensemble(RNG.normal(size=(20, 5)), np.log(RNG.dirichlet(np.ones(20))))
FIELD = RNG.normal(size=(3, 5))
BETA = np.array([0.1, 1.0, 20.0])


@pytest.fixture
def chi() -> ft.Susceptibility:
    return ft.susceptibility(SMALL, FIELD, BETA)


def test_dense_is_beta_times_the_covariance(chi: ft.Susceptibility) -> None:
    covariance = ft.covariance(SMALL, FIELD, BETA)
    np.testing.assert_allclose(chi.dense(), BETA[:, None, None] * covariance, rtol=1e-12, atol=1e-14)


def test_dense_is_the_jacobian_of_the_mean(chi: ft.Susceptibility) -> None:
    for i in range(3):
        jacobian = torch.func.jacrev(lambda h, i=i: ft.boltzmann(SMALL, h, BETA[i]).mean)(torch.tensor(FIELD[i]))
        np.testing.assert_allclose(chi.dense()[i], jacobian, rtol=1e-12, atol=1e-13)


def test_products_are_those_of_the_dense_matrix(chi: ft.Susceptibility) -> None:
    v = RNG.normal(size=(3, 5))
    np.testing.assert_allclose(chi.mv(v), np.einsum("bij,bj->bi", chi.dense(), v), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(chi.mv(v[0]), chi.dense() @ v[0], rtol=1e-12, atol=1e-13)


def test_product_of_an_ensemble_is_its_first_cumulant(chi: ft.Susceptibility) -> None:
    v = RNG.normal(size=(3, 5))
    np.testing.assert_allclose(BETA[:, None] * SMALL.cumulant(FIELD, BETA, v), chi.mv(v), rtol=1e-12, atol=1e-14)


def test_third_cumulant_is_the_derivative_of_the_covariance() -> None:
    v, w = RNG.normal(size=(2, 5))
    h = torch.tensor(FIELD[0])
    _, along = torch.func.jvp(lambda x: ft.covariance(SMALL, x, 2.0) @ torch.tensor(v), (h,), (torch.tensor(w),))
    np.testing.assert_allclose(2.0 * SMALL.cumulant(FIELD[0], 2.0, v, w), along, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_leading_pairs_are_those_of_the_dense_matrix(chi: ft.Susceptibility, method: str) -> None:
    values, vectors = chi.leading(3, method=method)
    want = np.linalg.eigvalsh(chi.dense())[:, ::-1][:, :3]
    np.testing.assert_allclose(values, want, rtol=1e-10)
    for k in range(3):
        product = chi.mv(vectors[:, k])
        assert np.abs(product - values[:, k, None] * vectors[:, k]).max() < 1e-7 * want.max()
        np.testing.assert_allclose(np.linalg.norm(vectors[:, k], axis=1), 1, rtol=1e-12)


def spectrum(values: list[float], dimension: int) -> ft.Ensemble:
    """States +-a_k e_k rotated, whose covariance has the given eigenvalues and zeros."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(dimension, dimension)))
    a = np.sqrt(len(values) * np.array(values))[:, None] * turn[: len(values)]
    return ft.Ensemble(np.concatenate([a, -a]))


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [3.0, 1.0],
        [2.0, 2.0, 1.0],
        [1.0, 1.0, 1.0, 0.5],
        [5.0, 4.0, 3.0, 2.0, 1.0],
        list(np.geomspace(1, 1e-6, 30)),
    ],
    ids=["rank one", "rank two", "twofold", "threefold", "five", "decaying"],
)
@pytest.mark.parametrize("k", [1, 3])
def test_lanczos_finds_the_spectrum_of_any_rank(values: list[float], k: int) -> None:
    ens = spectrum(values, 80)
    chi = ft.susceptibility(ens, np.zeros((2, 80)), np.array([1e-9, 2e-9]))
    found, vectors = chi.leading(k, method="lanczos")
    want = np.sort(np.linalg.eigvalsh(chi.dense()), axis=1)[:, ::-1][:, :k]
    assert (np.abs(found - want) <= 1e-8 * want[:, :1]).all()
    gram = vectors @ vectors.transpose(0, 2, 1)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(k), gram.shape), atol=1e-10)


@pytest.mark.parametrize("size", [2, 3, 10, 200])
@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e3])
def test_lanczos_agrees_with_the_dense_matrix_for_any_number_of_states(size: int, beta: float) -> None:
    rng = np.random.default_rng(size)
    chi = ft.susceptibility(ft.Ensemble(rng.normal(size=(size, 70)) / 8), rng.normal(size=(2, 70)) / 8, beta)
    found, _ = chi.leading(2, method="lanczos")
    want, _ = chi.leading(2, method="dense")
    assert (np.abs(found - want) <= 1e-8 * want[:, :1]).all()


@pytest.mark.parametrize("dimension", [3, 70])
def test_lanczos_may_exhaust_the_space(dimension: int) -> None:
    ens = ft.Ensemble(np.random.default_rng(2).normal(size=(100, dimension)))
    chi = ft.susceptibility(ens, np.zeros(dimension), 0.01)
    found, _ = chi.leading(dimension, method="lanczos")
    np.testing.assert_allclose(found, np.linalg.eigvalsh(chi.dense())[::-1], rtol=1e-9)


@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("beta", [50.0, 600.0])
def test_leading_gain_at_low_temperature_is_relative_to_the_runner_up(method: str, beta: float) -> None:
    states = np.zeros((3, 70))
    states[1, 0], states[2, 1] = 1.0, 3.0
    values, vectors = ft.susceptibility(ft.Ensemble(states), np.zeros(70), beta).leading(method=method)
    w = np.exp(-beta / 2)
    assert values[0] == pytest.approx(beta * w / (1 + w) ** 2, rel=1e-8, abs=0)
    assert abs(vectors[0, 0]) == pytest.approx(1, abs=1e-6)


def test_eigenvalues_that_run_out_of_products_are_said_to_be_unsettled() -> None:
    chi = ft.susceptibility(solvable.gaussian(np.linspace(0.01, 1, 100)), np.zeros(100), 1e-6)
    with pytest.warns(
        UserWarning, match="leading eigenvalues: a residual of .* after 8 block products, wanted 1.0e-08"
    ):
        found, _ = chi.leading(max_products=8)
    assert found[0] < (1 - 1e-5) * 1e-6
    assert chi.leading()[0][0] == pytest.approx(1e-6, rel=1e-5)


def test_a_single_state_does_not_respond() -> None:
    chi = ft.susceptibility(ft.Ensemble(np.ones((1, 70))), np.zeros((2, 70)), 1.0)
    for method in ("dense", "lanczos"):
        values, vectors = chi.leading(2, method=method)
        assert (values == 0).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1)
    assert (chi.self_consistent() == 0).all()


def test_many_dimensions_take_the_operator_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> Any:
        raise AssertionError("a dense matrix was made")

    monkeypatch.setattr(ft.Susceptibility, "_dense", refuse)
    chi = ft.susceptibility(spectrum([3.0, 1.0], 80), np.zeros(80), 1e-9)
    assert chi.leading()[0][0] == pytest.approx(3e-9, rel=1e-7)
    with pytest.raises(AssertionError):
        chi.leading(method="dense")


def test_self_consistent_response_solves_its_equation(chi: ft.Susceptibility) -> None:
    """chi = beta C (1 + chi)"""
    local, full = chi.dense(), chi.self_consistent()
    np.testing.assert_allclose(full, local @ (np.eye(5) + full), rtol=1e-10, atol=1e-12)


def test_self_consistent_response_moves_the_fixed_point() -> None:
    """dh* / d external = (1 - beta C)^-1 beta C at h* = <y>_{h* + external}."""
    ens, beta = ft.Ensemble(np.array([[1.0], [-1.0]])), 0.5

    def settle(external: float) -> float:
        x = 0.0
        for _ in range(200):
            x = float(ft.boltzmann(ens, np.array([x + external]), beta).mean[0])
        return x

    slope = (settle(1e-4) - settle(-1e-4)) / 2e-4
    found = ft.susceptibility(ens, np.zeros(1), beta).self_consistent()[0, 0]
    assert found == pytest.approx(1.0, rel=1e-12)  # 0.5 / (1 - 0.5)
    assert slope == pytest.approx(found, rel=1e-6)


def test_self_consistent_response_is_infinite_at_criticality() -> None:
    ens = ft.Ensemble(np.array([[1.0], [-1.0]]))
    assert np.abs(ft.susceptibility(ens, np.zeros(1), 1.0).self_consistent()).min() > 1e15


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_kinds_and_shapes_are_those_of_the_field(kind: str) -> None:
    states = RNG.normal(size=(7, 2, 3)).astype(np.float32)
    field = RNG.normal(size=(4, 2, 3)).astype(np.float32)
    ens, h = ft.Ensemble(states), field if kind == "numpy" else torch.from_numpy(field)
    chi = ft.susceptibility(ens, h, 1.0)
    for array, shape in ((chi.mv(h), (4, 2, 3)), (chi.dense(), (4, 6, 6)), (chi.self_consistent(), (4, 6, 6))):
        assert isinstance(array, type(h))
        assert tuple(array.shape) == shape
        assert array.dtype == h.dtype
    values, vectors = chi.leading(2)
    assert tuple(values.shape) == (4, 2)
    assert tuple(vectors.shape) == (4, 2, 6)
    one = ft.susceptibility(ens, h[0], 1.0)
    assert tuple(one.mv(h[0]).shape) == (2, 3)
    assert tuple(one.dense().shape) == (6, 6)
    assert tuple(one.leading(2)[0].shape) == (2,)


def test_denoisers_respond_as_their_law() -> None:
    d = ft.EmpiricalDenoiser(SMALL, ft.OrnsteinUhlenbeck())
    np.testing.assert_array_equal(
        ft.susceptibility(d, FIELD, BETA).dense(), ft.susceptibility(SMALL, FIELD, BETA).dense()
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda chi: chi.leading(0), "k: "),
        (lambda chi: chi.leading(6), "k: "),
        (lambda chi: chi.leading(1.5), "k: "),
        (lambda chi: chi.leading(1, method="qr"), "method: .*'qr'"),
        (lambda chi: chi.mv(np.ones(4)), "v: "),
        (lambda chi: chi.mv(np.ones((2, 5))), "v: "),
        (lambda chi: ft.susceptibility(SMALL, np.ones(4), 1.0), "field: "),
        (lambda chi: ft.susceptibility(SMALL, np.ones(5), np.ones(2)), "beta: "),
        (lambda chi: ft.susceptibility(SMALL, np.ones(5), -1.0), "beta: "),
    ],
)
def test_bad_arguments_are_refused_by_name(chi: ft.Susceptibility, call: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call(chi)
