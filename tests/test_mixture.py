"""An ensemble split into classes: their posteriors, and the whole put together again."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

import fastthermo as ft

NAMES = [
    "mean",
    "force",
    "log_evidence",
    "regularised_energy",
    "entropy",
    "energy_variance",
    "participation",
    "log_partition",
]


@st.composite
def mixtures(draw: Any) -> tuple[ft.Ensemble, np.ndarray, np.ndarray, float, float]:
    """An ensemble, labels, field, beta, and 1e-12 of the largest logit: what rounding of energies does to weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, dimension = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    weights = None if draw(st.booleans()) else np.log(rng.dirichlet(np.ones(size)))
    states, field = rng.integers(-64, 65, (size, dimension)) / 16, 4 * rng.normal(size=(3, dimension))
    labels, beta = rng.integers(0, draw(st.integers(1, 4)), size), 10 ** draw(st.floats(-4, 3))
    slack = 1e-12 * max(1.0, beta * ((states[:, None] - field) ** 2).sum(-1).max())
    return ft.Ensemble(states, weights), labels, field, beta, slack


@given(mixtures())
def test_classes_together_are_the_whole(problem: Any) -> None:
    ens, labels, field, beta, slack = problem
    state, posterior = ens.split(labels).resolve(field, beta)
    want = ft.boltzmann(ens, field, beta)
    for name in NAMES:
        np.testing.assert_allclose(getattr(state, name), getattr(want, name), rtol=slack, atol=slack, err_msg=name)
    np.testing.assert_allclose(posterior, ens.split(labels).class_posterior(field, beta), rtol=slack, atol=1e-290)


@given(mixtures())
def test_class_posteriors_are_sums_of_weights(problem: Any) -> None:
    ens, labels, field, beta, slack = problem
    classes = ens.split(labels)
    posterior = classes.class_posterior(field, beta)
    np.testing.assert_allclose(posterior.sum(1), 1, rtol=1e-12)
    w, index = ens.top_weights(field, beta, ens.size)
    for c, name in enumerate(classes):
        want = (w * (labels[index] == name)).sum(1)
        np.testing.assert_allclose(posterior[:, c], want, rtol=slack, atol=1e-12)


@given(mixtures())
def test_dominant_state_of_the_whole_is_named_by_its_own_index(problem: Any) -> None:
    ens, labels, field, beta, slack = problem
    state, _ = ens.split(labels).resolve(field, beta)
    w, index = ens.top_weights(field, beta, ens.size)
    dominant = np.take_along_axis(w, np.argmax(index == state.dominant[:, None], 1)[:, None], 1)[:, 0]
    np.testing.assert_allclose(dominant, w[:, 0], rtol=slack)


@pytest.mark.parametrize("distance", [0.0, 1e2, 1e4])
def test_class_posteriors_are_accurate_far_from_the_data(distance: float) -> None:
    """Evidences of order distance^2 differ by numbers of order one."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(6, 2)) * [1.0, 1e-4]
    field, beta = np.array([[0.1, distance]]), 1.0
    classes = ft.Ensemble(states).split([0, 0, 0, 1, 1, 1])
    with mp.workdps(60):
        energies = [
            sum((mpf(float(a)) - mpf(float(b))) ** 2 for a, b in zip(y, field[0], strict=True)) / 2 for y in states
        ]
        w = [mp.exp(energies[0] - e) for e in energies]
        want = [float(sum(w[:3]) / sum(w)), float(sum(w[3:]) / sum(w))]
    for found in (classes.class_posterior(field, beta), classes.resolve(field, beta)[1]):
        np.testing.assert_allclose(found[0], want, rtol=1e-12)


def test_class_posteriors_are_differentiable() -> None:
    rng = np.random.default_rng(1)
    classes = ft.Ensemble(rng.normal(size=(9, 3))).split(np.arange(9) % 3)
    h = torch.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    b = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(classes.class_posterior, (h, b))


def test_classes_are_ensembles_under_their_labels() -> None:
    states = np.arange(12.0).reshape(6, 2)
    classes = ft.Ensemble(states, np.log([1, 2, 3, 4, 5, 6])).split(["b", "a", "b", "a", "c", "c"])
    assert list(classes) == ["a", "b", "c"]
    assert len(classes) == 3
    np.testing.assert_array_equal(classes["b"].data(), states[[0, 2]])
    np.testing.assert_allclose(np.exp(classes.log_priors), np.array([6, 4, 11]) / 21, rtol=1e-14)
    assert "d" not in classes


def test_classes_keep_scale_shift_and_shape() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    classes = ft.Ensemble(pixels, scale=0.5, shift=1.0).split(torch.tensor([1, 0, 1, 0]))
    np.testing.assert_array_equal(classes[1].data(), 0.5 * pixels[[0, 2]] + 1)
    assert classes[0].shape == (2, 3)


def test_classes_without_weight_are_left_out() -> None:
    classes = ft.Ensemble(np.eye(3), np.array([0.0, -np.inf, 0.0])).split([0, 1, 2])
    assert list(classes) == [0, 2]
    np.testing.assert_allclose(classes.class_posterior(np.zeros(3), 1.0), [0.5, 0.5])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_kinds_and_shapes_of_the_posterior(kind: Any) -> None:
    classes = ft.Ensemble(np.random.default_rng(0).normal(size=(6, 2, 2))).split([0, 0, 1, 1, 2, 2])
    field = kind(np.zeros((5, 2, 2), np.float32))
    p = classes.class_posterior(field, 1.0)
    assert isinstance(p, type(field))
    assert tuple(p.shape) == (5, 3)
    assert str(p.dtype).endswith("float64")
    assert tuple(classes.class_posterior(field[0], 1.0).shape) == (3,)
    state, p = classes.resolve(field, 1.0)
    assert tuple(state.mean.shape) == (5, 2, 2)
    assert state.mean.dtype == field.dtype
    assert tuple(p.shape) == (5, 3)


@pytest.mark.parametrize("labels", [[0, 1], [[0, 1, 2]], 0, [0.0, np.nan, 1.0]])
def test_labels_of_another_shape_or_not_finite_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels: "):
        ft.Ensemble(np.eye(3)).split(labels)
