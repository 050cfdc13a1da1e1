"""The largest weights of every backend against exact ones."""

from typing import Any

import numpy as np
import pytest
import torch


def call(backend: Any, case: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    log_weights, field, beta = case.rest
    packed = backend.pack(case.states, log_weights)
    w, index = backend.top_weights(packed, field, beta, backend.boltzmann(packed, field, beta), k)
    return w.numpy(), index.numpy()


@pytest.mark.parametrize("k", [1, 3, None])
def test_weights_are_the_largest_exact_ones(backend: Any, case: Any, k: int | None) -> None:
    size = len(case.states)
    k = size if k is None else min(k, size)
    w, index = call(backend, case, k)
    exact = case.truth.weights
    slack = case.state_slack + case.slack[:, None]
    named, allowed = (np.take_along_axis(x, index, 1) for x in (exact, slack))
    assert (np.abs(w - named) <= allowed * named + 1e-290).all()
    want = -np.sort(-exact, axis=1)[:, :k]
    assert (np.abs(named - want) <= 2 * allowed * want + 1e-290).all()


def test_weights_decrease_and_no_state_comes_twice(backend: Any, case: Any) -> None:
    w, index = call(backend, case, len(case.states))
    assert (np.diff(w, axis=1) <= 0).all()
    assert (np.sort(index, 1) == np.arange(len(case.states))).all()


def test_all_weights_sum_to_one(backend: Any, case: Any) -> None:
    w, _ = call(backend, case, len(case.states))
    assert np.abs(w.sum(1) - 1).max() < 1e-12


def test_ties_come_in_the_order_of_the_states(backend: Any) -> None:
    states = torch.tensor([[1.0], [-1.0], [3.0], [1.0], [-1.0]])
    packed = backend.pack(states, torch.full((5,), 0.2).double().log())
    field, beta = torch.zeros(1, 1).double(), torch.ones(1).double()
    _, index = backend.top_weights(packed, field, beta, backend.boltzmann(packed, field, beta), 5)
    assert index.tolist() == [[0, 1, 3, 4, 2]]
