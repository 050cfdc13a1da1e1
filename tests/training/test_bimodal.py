"""A network trained on a bimodal law breaks its symmetry where the law does."""

from pathlib import Path

import numpy as np
import pytest

import fastthermo as ft
from fastthermo.datasets import Dataset

PAIR = Dataset("pair", np.array([[1.0, 0.0], [-1.0, 0.0]]))


@pytest.mark.slow
def test_critical_time_and_order_parameter_of_a_bimodal_law_are_learned(tmp_path: Path) -> None:
    model = ft.train(PAIR, tmp_path, 3000, 512, 64, 5e-3, progress=False)
    exact = ft.solvable.two_deltas(np.array([1.0, 0.0]))
    process = ft.OrnsteinUhlenbeck()
    assert ft.critical_time(model, process) == pytest.approx(ft.critical_time(exact, process), rel=0.05)
    for s, order in ((0.5, 0.957504024077269), (0.25, 0.999325673015108)):
        found = ft.fixed_points(model, 1 / s, n=32)
        stable = np.asarray(found.points)[found.stable]
        assert found.index.tolist() == [0, 0, 1]
        np.testing.assert_allclose(np.sort(stable[:, 0]), [-order, order], atol=0.05)
        np.testing.assert_allclose(stable[:, 1], 0, atol=0.05)
