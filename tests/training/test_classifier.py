"""Classifiers learn their classes, by data they have not seen."""

import numpy as np
import pytest

from fastthermo.datasets import Dataset, load
from fastthermo.training.classifier import train_classifier


def test_digits_are_told_apart() -> None:
    data = load("digits")
    judge = train_classifier(data, steps=250)
    assert judge.accuracy > 0.9
    features, p = judge(data.scale * data.states[:50].astype(np.float32) + data.shift)
    assert features.shape == (50, 64)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (judge.names[p.argmax(1)] == data.labels[:50]).mean() > 0.9


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3), (12, 20), (5,), (2, 3)])
def test_classes_of_states_of_every_shape(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["one", "other"], 40)
    states = rng.normal(size=(80, *shape)) + 4 * (labels == "one").reshape(-1, *[1] * len(shape))
    data = Dataset("two", states, labels)
    a, b = (train_classifier(data, steps=20) for _ in range(2))
    assert a.accuracy == 1
    assert np.array_equal(a(states.astype(np.float32))[0], b(states.astype(np.float32))[0])
    assert a.names.tolist() == ["one", "other"]


def test_a_device_that_is_not_here_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="device: wanted cpu or a GPU that is here, got 'gpu'"):
        train_classifier(load("digits"), device="gpu")


def test_data_without_labels_have_no_classes() -> None:
    with pytest.raises(ValueError, match="labels: wanted a class for each of bare"):
        train_classifier(Dataset("bare", np.eye(4)))
