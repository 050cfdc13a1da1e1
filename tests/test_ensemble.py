"""A data set as a physical system: what it stores, draws, saves and says about its data."""

from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

import fastthermo as ft

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(30, 4))
LOG_WEIGHTS = np.log(RNG.dirichlet(np.ones(30)))
FIELD = RNG.normal(size=(5, 4))
BETA = np.geomspace(0.01, 100, 5)
NAMES = ["log_evidence", "mean", "force", "regularised_energy", "entropy", "energy_variance", "participation"]


def test_bytes_with_scale_and_shift_are_the_data_they_stand_for() -> None:
    pixels = RNG.integers(0, 256, (20, 9)).astype(np.uint8)
    field = RNG.normal(size=(4, 9)) / 2
    one = ft.Ensemble(pixels, scale=2 / 255, shift=-1.0)
    two = ft.Ensemble(pixels * (2 / 255) - 1)
    for beta in (0.01, 1.0, 30.0):
        a, b = ft.boltzmann(one, field, beta), ft.boltzmann(two, field, beta)
        for name in [*NAMES, "log_partition", "energy", "free_energy", "heat_capacity"]:
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(
            ft.covariance(one, field, beta), ft.covariance(two, field, beta), rtol=1e-12, atol=1e-13
        )
        v, u = RNG.normal(size=(2, 9))
        for probes in ((v,), (v, u)):
            found, want = (ens.cumulant(field, beta, *probes) for ens in (one, two))
            np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(one.data(), two.data(), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(one.data_mean, two.data_mean, rtol=1e-13, atol=1e-14)
    assert one.data_variance == pytest.approx(two.data_variance, rel=1e-13)
    np.testing.assert_allclose(one.principal(3)[0], two.principal(3)[0], rtol=1e-12)


def test_error_bound_covers_the_rounding_of_scale_and_shift(exact: Any) -> None:
    """Near a state of shifted data the field of the kernels is rounded by more than the distance to the state."""
    states, scale, shift = np.array([[0], [1], [3]], np.uint8), 0.3, 0.1
    ens = ft.Ensemble(states, scale=scale, shift=shift)
    for gap in (1e-3, 1e-6, 1e-9):
        field, beta = np.array([[scale * 1 + shift + gap]]), 1e4
        state = ft.boltzmann(ens, field, beta)
        with mp.workdps(50):
            data = [mpf(scale) * int(k[0]) + mpf(shift) for k in states]
            distances = [y - mpf(float(field[0, 0])) for y in data]
            w = [mp.exp(-beta * d**2 / 2) for d in distances]
            force = mp.fdot(w, distances) / mp.fsum(w)
            rms = mp.sqrt(mp.fdot(w, [d**2 for d in distances]) / mp.fsum(w))
            assert abs(mpf(float(state.force[0, 0])) - force) / rms <= float(state.error_bound[0])


def test_log_odds_are_accurate_for_weights_near_zero_and_one() -> None:
    ens = ft.Ensemble(np.array([[0.0], [1.0], [2.5]]), np.log([0.5, 0.3, 0.2]))
    for beta in (1e-3, 1.0, 40.0, 300.0):
        found = ens.log_odds(np.arange(3), np.full((3, 1), 0.3), beta)
        with mp.workdps(400):
            phi = [mp.exp(mpf(float(v))) for v in np.log([0.5, 0.3, 0.2])]
            w = [p * mp.exp(-mpf(beta) * (mpf(y) - mpf(0.3)) ** 2 / 2) for p, y in zip(phi, (0, 1, 2.5), strict=True)]
            want = [float(mp.log(x / (sum(w) - x))) for x in w]
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 7, 30])
def test_top_weights_are_the_largest_of_the_softmax(k: int) -> None:
    ens = ft.Ensemble(STATES, LOG_WEIGHTS)
    w, index = ens.top_weights(FIELD, BETA, k)
    logits = LOG_WEIGHTS - BETA[:, None] * ((STATES - FIELD[:, None]) ** 2).sum(-1) / 2
    want = np.exp(logits - np.logaddexp.reduce(logits, 1)[:, None])
    np.testing.assert_allclose(w, -np.sort(-want, 1)[:, :k], rtol=1e-11, atol=1e-290)
    np.testing.assert_allclose(w, np.take_along_axis(want, index, 1), rtol=1e-11, atol=1e-290)
    assert w.dtype == np.float64
    assert index.dtype == np.int64
    for a, b in zip(ft.top_weights(ens, FIELD, BETA, k), (w, index), strict=True):
        np.testing.assert_array_equal(a, b)


def test_data_of_half_precision_are_float32_as_their_samples() -> None:
    half = STATES.astype(np.float16)
    ens, same = ft.Ensemble(half), ft.Ensemble(torch.from_numpy(half))
    assert ens.data().dtype == ens.draw(3).dtype == np.float32
    assert same.data().dtype == ens.dtype == torch.float32
    far = [ft.noised(one, ft.EDM(t_max=1e6), 1e6, one.data(), 0) for one in (ens, same)]
    np.testing.assert_allclose(far[0], far[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("states", "got"),
    [
        (torch.zeros(3, 2, device="meta"), "on the meta device"),
        (torch.eye(3).to_sparse(), "of layout torch.sparse_coo"),
    ],
)
def test_tensors_without_their_numbers_are_refused(states: torch.Tensor, got: str) -> None:
    with pytest.raises(TypeError, match=f"states: wanted a dense tensor that holds its numbers, got one {got}"):
        ft.Ensemble(states)


def test_draws_follow_the_prior() -> None:
    ens, n = ft.Ensemble(STATES[:4], np.log([0.1, 0.2, 0.3, 0.4])), 10000
    y = ens.draw(n, seed=1)
    counts = (y[:, None] == STATES[:4]).all(-1).sum(0)
    want = n * np.array([0.1, 0.2, 0.3, 0.4])
    assert ((counts - want) ** 2 / want).sum() <= 3 + 3 * np.sqrt(6)  # chi squared of three degrees of freedom
    np.testing.assert_array_equal(ens.draw(10, seed=1), ens.draw(10, seed=1))
    assert (ens.draw(10, seed=1) != ens.draw(10, seed=2)).any()


def test_states_of_no_weight_are_never_drawn() -> None:
    ens = ft.Ensemble(STATES[:3], np.array([0.0, -np.inf, 0.0]))
    assert not (ens.draw(200, 0) == STATES[1]).all(1).any()


@pytest.mark.parametrize("dimension", [3, 40])
def test_moments_of_the_data_are_those_of_numpy(dimension: int) -> None:
    states, phi = RNG.normal(size=(50, dimension)) + 3, RNG.dirichlet(np.ones(50))
    ens = ft.Ensemble(states.astype(np.float32), np.log(phi))
    y = states.astype(np.float32).astype(np.float64)
    mean = phi @ y
    covariance = ((y - mean).T * phi) @ (y - mean)
    np.testing.assert_allclose(ens.data_mean, mean, rtol=1e-12)
    assert ens.data_variance == pytest.approx(np.trace(covariance), rel=1e-12)
    values, vectors = ens.principal(3)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(covariance)[::-1][:3], rtol=1e-12)
    np.testing.assert_allclose(vectors @ covariance, values[:, None] * vectors, atol=1e-12)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)


def test_moments_of_more_data_than_a_block() -> None:
    states = RNG.normal(size=(5000, 2))
    ens = ft.Ensemble(states)
    np.testing.assert_allclose(ens.data_mean, states.mean(0), rtol=1e-12)
    assert ens.data_variance == pytest.approx(states.var(0).sum(), rel=1e-12)
    np.testing.assert_allclose(ens.principal(2)[0], np.linalg.eigvalsh(np.cov(states.T, ddof=0))[::-1], rtol=1e-12)


def wide(size: int) -> tuple[ft.Ensemble, np.ndarray]:
    """Data of 1100 dimensions and the nonzero eigenvalues of their covariance, decreasing."""
    states = np.random.default_rng(2).normal(size=(size, 1100)) * np.geomspace(1, 0.01, 1100)
    delta = states - states.mean(0)
    return ft.Ensemble(states), np.linalg.svd(delta, compute_uv=False) ** 2 / size


def test_principal_directions_of_many_dimensions() -> None:
    ens, want = wide(20)
    values, vectors = ens.principal(4)
    np.testing.assert_allclose(values, want[:4], rtol=1e-10)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-10)
    ens, want = wide(300)
    np.testing.assert_allclose(ft.Ensemble(1e-20 * ens.data()).principal(4)[0], 1e-40 * want[:4], rtol=1e-10)


def test_all_principal_directions_of_many_dimensions() -> None:
    ens, want = wide(20)
    values, vectors = ens.principal(1100)
    np.testing.assert_allclose(values[:19], want[:19], rtol=1e-10)
    assert np.abs(values[19:]).max() < 1e-12 * want[0]
    assert vectors.shape == (1100, 1100)


def test_principal_directions_of_data_that_sum_to_one() -> None:
    """The vector of ones lies in the null space of their covariance, of two of them without any rounding."""
    values, _ = ft.Ensemble(np.eye(1100)).principal(2)
    np.testing.assert_allclose(values, 1 / 1100, rtol=1e-10)
    np.testing.assert_allclose(ft.Ensemble(np.eye(1100)[:2]).principal(2)[0], [0.5, 0], atol=1e-12)


def test_data_of_many_dimensions_may_be_all_the_same() -> None:
    np.testing.assert_array_equal(ft.Ensemble(np.ones((4, 1100))).principal(3)[0], 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_saved_ensemble_is_loaded_again(tmp_path: Path, dtype: Any, weighted: bool) -> None:
    states = RNG.integers(0, 255, (6, 2, 3)).astype(dtype)
    ens = ft.Ensemble(states, LOG_WEIGHTS[:6] if weighted else None, scale=0.5, shift=-2.0)
    ens.save(tmp_path / "data.npz")
    again = ft.Ensemble.load(tmp_path / "data.npz")
    assert again.shape == ens.shape == (2, 3)
    assert again.dtype == ens.dtype
    np.testing.assert_array_equal(again.data(), ens.data())
    for name in NAMES:
        found, want = (getattr(ft.boltzmann(e, np.full((1, 2, 3), 20.0), 0.01), name) for e in (again, ens))
        np.testing.assert_allclose(found, want, rtol=1e-14)
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64])
def test_torch_states_are_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    ens = ft.Ensemble(torch.arange(6).reshape(3, 2).to(dtype))
    ens.save(str(tmp_path / "data.npz"))
    np.testing.assert_array_equal(
        ft.Ensemble.load(str(tmp_path / "data.npz")).data().astype(float), ens.data().double()
    )


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ens = ft.Ensemble(STATES)
    ens.save(tmp_path / "data.npz")
    before = (tmp_path / "data.npz").read_bytes()

    def fail(stream: Any, **_: Any) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        ft.Ensemble(STATES + 1).save(tmp_path / "data.npz")
    assert (tmp_path / "data.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", states=STATES)
    np.save(tmp_path / "other.npy", np.eye(2))
    with pytest.raises(ValueError, match=r"path: wanted an ensemble .*, an .npz file, got .*other.npy"):
        ft.Ensemble.load(tmp_path / "other.npy")
    with pytest.raises(ValueError, match="lacks scale, shift"):
        ft.Ensemble.load(tmp_path / "other.npz")


def test_representation_names_size_shape_and_kind() -> None:
    assert repr(ft.Ensemble(np.zeros((3, 2, 4), np.uint8))) == "Ensemble(3 states of shape (2, 4), torch.uint8, NumPy)"
    assert "torch)" in repr(ft.Ensemble(torch.zeros(3, 2)))


def test_states_are_neither_copied_nor_changed() -> None:
    states = RNG.normal(size=(10, 3))
    before = states.copy()
    ens = ft.Ensemble(states)
    assert np.shares_memory(states, ens._core.states.numpy())
    ft.boltzmann(ens, FIELD[:, :3], BETA)
    ft.covariance(ens, FIELD[:, :3], BETA)
    ens.principal(2)
    np.testing.assert_array_equal(states, before)


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "i8"])
def test_answers_are_the_same_after_the_states_went_to_another_process(dtype: str, backend: str) -> None:
    """Pickling for it moves them to shared memory, and what was at their old place is given to others."""
    states = RNG.integers(0, 9, (2000, 24)).astype(dtype)
    ens, field = ft.Ensemble(states), RNG.normal(size=(5, 24))
    want = ft.boltzmann(ens, field, 0.1, backend=backend).mean
    ForkingPickler.dumps(ens)
    junk = [torch.full((2000, 24), 200).to(ens._core.dtype) for _ in range(4)]
    np.testing.assert_array_equal(ft.boltzmann(ens, field, 0.1, backend=backend).mean, want)
    del junk


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_answers_do_not_depend_on_the_default_device_of_torch(kind: str, backend: str, tmp_path: Path) -> None:
    np.save(tmp_path / "states.npy", STATES)
    given = (lambda x: x) if kind == "numpy" else torch.from_numpy

    def answers() -> list[Any]:
        x, process, found = given(FIELD), ft.VariancePreserving(), []
        for ens in (ft.Ensemble(given(STATES), scale=2.0), ft.StreamedEnsemble(tmp_path / "states.npy", block=7)):
            found += [ft.boltzmann(ens, x, 0.7, backend=backend).mean, ens.covariance(x, 0.7, backend)]
            found += [ens.cumulant(x, 0.7, given(FIELD), backend=backend), *ens.top_weights(x, 0.7, 2, backend)]
            found += [ens.log_odds(3, x, 0.7, backend), ens.principal(2)[0], ens.data_variance, ens.draw(3)]
            found += [ft.posterior(ens, process, x, 0.3, backend=backend).score, ft.sample(ens, process, 2, steps=2)]
            found += [ft.noised(ens, process, 0.3, x), ens.split(np.arange(30) % 2).class_posterior(x, 0.7)]
        return found

    with torch.device("meta"):
        found = answers()
    for a, b in zip(found, answers(), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_what_is_handed_out_is_the_callers_to_change(kind: str) -> None:
    states = RNG.normal(size=(10, 3))
    ens = ft.Ensemble(states if kind == "numpy" else torch.from_numpy(states))
    want = ft.boltzmann(ens, FIELD[:, :3], BETA).mean
    variance, (gains, axes) = ens.data_variance, ens.principal(2)
    for index in (slice(3), 0, [1, 2]):
        ens.data(index)[...] += 100
    axes[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        ens.data_mean[:] = 5
    np.testing.assert_array_equal(ft.boltzmann(ens, FIELD[:, :3], BETA).mean, want)
    np.testing.assert_array_equal(ens.principal(2)[0], gains)
    assert np.linalg.norm(ens.principal(2)[1]) == pytest.approx(2**0.5)
    assert ens.data_variance == variance


def test_data_of_integers_are_float64_in_numpy_and_torch() -> None:
    whole = np.arange(12).reshape(4, 3)
    assert ft.Ensemble(whole).data().dtype == np.float64
    assert ft.Ensemble(torch.from_numpy(whole)).data().dtype == torch.float64
