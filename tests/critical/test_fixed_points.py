"""Stationary points from many starts: all of them, of the right kind, to rounding; what is missing is said."""

from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import adapters, solvable

PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))
RECTANGLE = ft.Ensemble(np.array([[2.0, 0.5], [2.0, -0.5], [-2.0, 0.5], [-2.0, -0.5]]))


def simplex(q: int) -> ft.Ensemble:
    corners = np.eye(q) - 1 / q
    return ft.Ensemble(corners @ np.linalg.svd(corners)[2][: q - 1].T / np.sqrt(1 - 1 / q))


class Learned:
    """A model that knows no more of itself than a network does: mean, its derivative, a process."""

    dimension, shape, device, numpy, dtype = 1, (1,), torch.device("cpu"), True, torch.float32
    single_precision, process = True, ft.VarianceExploding(t_min=0.05, t_max=20.0)

    def mean(self, field: Any, beta: Any) -> Any:
        return torch.tanh(beta.reshape(-1, 1) * field if torch.is_tensor(beta) else beta * field).float()

    def response(self, field: Any, beta: Any) -> Any:
        slope = 1 / torch.cosh(beta[:, None] * field) ** 2
        return lambda v: v * slope[:, None], lambda: slope[..., None]


@pytest.mark.parametrize(
    ("s", "value"),
    [
        (0.999, 0.0547503430915284),
        (0.99, 0.172511069975051),
        (0.9, 0.525429512658009),
        (0.5, 0.957504024077269),
        (0.25, 0.999325673015108),
    ],
)
def test_order_parameter_of_two_deltas(s: float, value: float) -> None:
    found = ft.fixed_points(PAIR, 1 / s)
    slope = 1 - (1 - value**2) / s
    assert found.complete
    assert found.index.tolist() == [0, 0, 1]
    assert np.sort(found.points[:2, 0]) == pytest.approx([-value, value], abs=2.0**-51 / slope)
    assert found.points[2, 0] == pytest.approx(0, abs=1e-12)
    assert found.gain[2] == pytest.approx(1 / s, rel=1e-12)


def test_fixed_points_of_a_rectangle_are_one_then_three_then_nine() -> None:
    found = ft.fixed_points(RECTANGLE, 1 / np.array([4.2, 1.0, 0.2]))
    assert [len(f) for f in found] == [1, 3, 9]
    assert [int(f.stable.sum()) for f in found] == [1, 2, 4]
    assert all(f.complete for f in found)


def test_fixed_points_of_a_triangle_are_one_then_seven() -> None:
    found = ft.fixed_points(simplex(3), 1 / np.array([0.56, 0.544]))
    assert [(len(f), int(f.stable.sum())) for f in found] == [(1, 1), (7, 4)]
    assert all(f.complete for f in found)


def test_a_cold_simplex_has_a_fixed_point_for_every_set_of_corners() -> None:
    """2^q - 1 of them, each of index one less than the corners it lies between."""
    found = ft.fixed_points(simplex(5), 20.0)
    assert np.bincount(found.index).tolist() == [5, 10, 10, 5, 1]
    assert found.complete


def test_indices_of_an_incomplete_set_do_not_add_up_and_it_says_so() -> None:
    found = ft.fixed_points(PAIR, 2.0, starts=np.array([[0.9], [-0.9]]), newton_starts=0)
    assert found.index.tolist() == [0, 0]
    assert found.index_sum == 2
    assert not found.complete
    assert "indices sum to 2, not 1" in repr(found)
    found = ft.fixed_points(PAIR, 2.0, starts=np.array([[0.9]]), newton_starts=0)
    assert repr(found) == "FixedPoints(beta=2: 1 of index 0; indices sum to 1)"  # and a pair is missing


def test_a_critical_point_is_one_degenerate_point() -> None:
    found = ft.fixed_points(PAIR, 1.0)
    assert len(found) == 1
    assert found.degenerate.all()
    assert not found.complete


def test_points_of_a_continuous_symmetry_are_degenerate() -> None:
    angle = 2 * np.pi * np.arange(64) / 64
    found = ft.fixed_points(ft.Ensemble(np.stack([np.cos(angle), np.sin(angle)], 1)), 2.5, n=32)
    ring = np.linalg.norm(found.points, axis=1) > 0.1
    assert ring.sum() > 3
    assert found.degenerate[ring].all()
    assert np.ptp(np.linalg.norm(found.points[ring], axis=1)) < 1e-9
    assert not found.complete


def test_what_does_not_converge_is_counted_with_its_residual() -> None:
    found = ft.fixed_points(RECTANGLE, 5.0, max_steps=1, newton_starts=64)
    assert found.unconverged > 0
    assert found.worst_residual > 1e-12
    assert (found.residual <= 1e-11).all()


def test_starts_are_counted_by_where_they_lead() -> None:
    starts = np.array([[0.3], [0.9], [1.4], [-0.2]])
    found = ft.fixed_points(PAIR, 3.0, starts)
    assert found.starts[found.points[:, 0] > 0.5].tolist() == [3]
    assert found.starts.sum() == 4


def test_many_dimensions_use_products_instead_of_matrices() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    flat = np.zeros((4, 40))
    flat[:, :2] = np.asarray(RECTANGLE.states)
    found = ft.fixed_points(ft.Ensemble(flat @ turn), 5.0)
    few = ft.fixed_points(RECTANGLE, 5.0)
    assert found.index.tolist() == few.index.tolist()
    assert found.gain == pytest.approx(few.gain, rel=1e-9)


def test_learned_models_answer_as_laws_do() -> None:
    found = ft.fixed_points(Learned(), 2.0)
    assert found.index.tolist() == [0, 0, 1]
    assert np.sort(found.points[:, 0]) == pytest.approx([-0.957504024077269, 0, 0.957504024077269], abs=1e-6)
    passage = ft.transition(Learned(), betas=(0.2, 5.0))
    assert passage.kind == "pitchfork"
    assert passage.beta == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    "law", [PAIR, solvable.two_deltas(1.0), ft.Ensemble(np.array([[0], [1]], np.uint8), scale=2, shift=-1)]
)
def test_exact_laws_are_exact_in_whatever_order_temperatures_come(law: Any) -> None:
    """Cold, their means are float32 numbers like those of a network."""
    assert [len(found) for found in ft.fixed_points(law, [1e3, 1.0005])] == [3, 3]


def test_starts_may_be_a_list() -> None:
    found = ft.fixed_points(PAIR, 2.0, [[0.5], [-0.5]])
    assert found.index.tolist() == [0, 0, 1]
    assert found.points.shape == (3, 1)


def test_what_is_known_to_single_precision_is_said_by_networks_and_what_is_made_of_them() -> None:
    single, double = (
        adapters.wrap(lambda x, t: x, "mean", ft.EDM(), shape=(1,), device="cpu", dtype=dtype, check=False)
        for dtype in (torch.float32, torch.float64)
    )
    assert [m.single_precision for m in (single, adapters.regularised(single), double)] == [True, True, False]
    assert not hasattr(adapters.regularised(PAIR), "single_precision")


def test_images_come_back_as_images_and_tensors_as_tensors() -> None:
    images = ft.Ensemble(torch.as_tensor(RECTANGLE.states).reshape(4, 1, 2))
    found = ft.fixed_points(images, 5.0)
    assert torch.is_tensor(found.points)
    assert tuple(found.points.shape) == (9, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"beta": -1.0}, "beta: wanted finite positive"),
        ({"beta": np.ones((2, 2))}, "beta: wanted a number or shape"),
        ({"beta": 1.0, "starts": np.full((1, 2), np.nan)}, "starts: wanted finite"),
        ({"beta": 1.0, "starts": np.ones((3, 5))}, "starts: wanted shape"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ft.fixed_points(RECTANGLE, **arguments)
