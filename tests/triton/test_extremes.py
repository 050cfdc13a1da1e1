"""Triton kernels where data are unlike any, in the interpreter: as tests/test_extremes.py of the CPU's."""

from types import SimpleNamespace
from typing import Any

import extremes
import numpy as np
import pytest
import torch
from extended import LONG, posterior

import fastthermo as ft
from fastthermo.kernels import Noise, Schedule

pytestmark = pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="long double is float64 here")
PRECISIONS = ("single", "double")


def sums_of(interpreted: Any, problem: extremes.Problem, precision: str) -> tuple[Any, Any]:
    states, field, beta, log_weights = map(torch.as_tensor, problem)
    packed = interpreted.pack(states, log_weights)
    return (packed, field, beta), interpreted.boltzmann(packed, field, beta, precision)


def check(interpreted: Any, problem: extremes.Problem, wanted: float = 1e-6) -> None:
    """In both precisions."""
    for precision in PRECISIONS:
        _, sums = sums_of(interpreted, problem, precision)
        pull = problem.states[sums.dominant].astype(LONG) - problem.field
        found = SimpleNamespace(
            force=pull + sums.shift.numpy(),
            error_bound=sums.error_bound.numpy(),
            participation=sums.participation.numpy(),
            regularised_energy=(sums.energy_min + sums.excess).numpy(),
            energy_variance=(sums.excess_square - sums.excess**2).numpy(),
        )
        extremes.check(problem, found, wanted)


def check_second(interpreted: Any, problem: extremes.Problem, wanted: float = 1e-5) -> None:
    """C, and sum w a_1 a_2 (y - m) with its share of the energy, in both precisions."""
    states, field, beta, log_weights = problem
    w, s, x, *_ = (part[0] for part in posterior(states, log_weights, field, beta))
    c, gap = s - w @ s, x - w @ x
    covariance = (c * w[:, None]).T @ c
    v = np.random.default_rng(0).normal(size=(1, 2, states.shape[1]))
    u = np.array([[0.3, 0.1]]) * float(np.sqrt(np.trace(covariance) / (w @ gap**2)))
    a = (c @ v[0, 0] + u[0, 0] * gap) * (c @ v[0, 1] + u[0, 1] * gap)
    for precision in PRECISIONS:
        given, sums = sums_of(interpreted, problem, precision)
        found = interpreted.covariance(*given, sums, precision)[0].numpy()
        assert np.abs(found - covariance).max() < wanted * np.abs(covariance).max()
        vector, energy = interpreted.cumulant(*given, sums, torch.tensor(v), torch.tensor(u), precision)
        want = (w * a) @ c
        assert np.sqrt(((vector[0].numpy() - want) ** 2).sum()) < wanted * np.sqrt((want**2).sum())
        assert abs(energy[0].item() - (w * a) @ gap) < wanted * (w * abs(a)) @ abs(gap)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [8, 32])
def test_an_outlier_leaves_the_others_their_weights(interpreted: Any, dimension: int, dtype: Any) -> None:
    check(interpreted, extremes.outlier(300, dimension, dtype))


@pytest.mark.parametrize("dimension", [8, 32])
def test_a_state_of_weight_zero_may_be_anywhere(interpreted: Any, dimension: int) -> None:
    check(interpreted, extremes.weightless(300, dimension))


@pytest.mark.parametrize("dimension", [3, 32])
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e9, 1e18])
def test_units_do_not_matter(interpreted: Any, scale: float, dimension: int) -> None:
    check(interpreted, extremes.scaled(300, dimension, scale))
    check_second(interpreted, extremes.scaled(300, dimension, scale))


@pytest.mark.parametrize("beta", [1.0, 1e-22])
@pytest.mark.parametrize("dimension", [3, 32])
def test_a_field_may_be_far_away(interpreted: Any, dimension: int, beta: float) -> None:
    check(interpreted, extremes.far(300, dimension, 1e22, beta))


@pytest.mark.parametrize("dimension", [3, 32])
@pytest.mark.parametrize("precision", ["fast", *PRECISIONS])
def test_a_field_of_any_size_gets_an_answer(interpreted: Any, precision: str, dimension: int) -> None:
    problem = extremes.far(300, dimension, 1e39, 1.0)
    _, sums = sums_of(interpreted, problem, precision)
    assert torch.stack(sums[2:]).isnan().sum() == 0
    assert sums.dominant == problem.states.sum(1).argmax()


@pytest.mark.parametrize("scale", [2.0**-70, 2.0**70])
def test_trajectories_scale_with_their_data(interpreted: Any, scale: float) -> None:
    y = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))

    def end(unit: float) -> torch.Tensor:
        packed = interpreted.pack(unit * y, torch.zeros(40).double())
        table = torch.tensor([[0.5, 0.5, 0.1 * unit, 1.0, 4 / unit**2]] * 3, dtype=torch.float64)
        return interpreted.evolve(packed, unit * (y[:8] + 0.3), Schedule(table), Noise(7)) / unit

    assert (end(scale) - end(1.0)).abs().max() < 1e-5


def test_an_offset_of_all_data_costs_no_digits(interpreted: Any) -> None:
    check(interpreted, extremes.offset(300), 1e-12)


@pytest.mark.parametrize("width", [1e-5, 1e-3, 1e-1])
def test_a_query_amid_a_tight_cluster_is_within_its_bound(interpreted: Any, width: float) -> None:
    check(interpreted, extremes.cluster(400, width))
    check(interpreted, extremes.cluster(400, width, beta=width**-2, noise=1.0))
    check(interpreted, extremes.cluster(400, width, beta=width**-2, amid=True))


@pytest.mark.parametrize("beta", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("distance", [10.0, 1e3, 1e5])
def test_a_far_state_leaves_sums_over_the_others_right(interpreted: Any, distance: float, beta: float) -> None:
    check(interpreted, extremes.far_state(300, distance, beta))


@pytest.mark.parametrize("width", [1e-5, 1e-3, 1e-1])
def test_second_moments_amid_a_tight_cluster(interpreted: Any, width: float) -> None:
    check_second(interpreted, extremes.cluster(400, width, noise=1.0))
    check_second(interpreted, extremes.cluster(400, width, beta=width**-2, noise=1.0))


def test_near_copies_of_images_are_within_their_bound(interpreted: Any) -> None:
    check(interpreted, extremes.images(600))


@pytest.mark.parametrize("bytes_", [False, True])
def test_a_copy_of_the_dominant_state_hides_no_others(interpreted: Any, bytes_: bool) -> None:
    check(interpreted, extremes.hidden(600, bytes_))
    check_second(interpreted, extremes.hidden(600, bytes_))


def test_few_queries_that_are_summed_again_may_be_shared_by_programs(interpreted: Any) -> None:
    states, field, beta, log_weights = map(torch.as_tensor, extremes.cluster(2100, 1e-3, beta=1e6, noise=1.0))
    given = interpreted.pack(states, log_weights), field, beta
    assert interpreted.call("probes:summed_again", *given).all()
    alone = interpreted.boltzmann(*given, "single")
    together = interpreted.call("probes:by_many_programs", "boltzmann", *given, "single")
    assert torch.equal(together.dominant, alone.dominant)
    for x, y in zip(together[1:], alone[1:], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-300)
    v, u = torch.ones(len(field), 1, field.shape[1]).double(), torch.ones(len(field), 1).double()
    second = (*given, alone, v, u, "single")
    want = interpreted.cumulant(*second)
    for x, y in zip(interpreted.call("probes:by_many_programs", "cumulant", *second), want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=0)


@pytest.mark.parametrize("dimension", [24, 200])
@pytest.mark.parametrize("beta", [1e-300, 1e-12, 1e-6, 1e-4])
def test_hot_queries_are_not_summed_again(interpreted: Any, beta: float, dimension: int) -> None:
    problem = extremes.hot(500, dimension, beta)
    states, field, beta_, log_weights = map(torch.as_tensor, problem)
    assert not interpreted.call("probes:summed_again", interpreted.pack(states, log_weights), field, beta_).any()
    if beta > 1e-300:  # of which the truth has no digits
        check(interpreted, problem)


def test_covariances_of_one_query_in_many_dimensions(interpreted: Any) -> None:
    check_second(interpreted, extremes.hot(300, 260, 0.01))


SIZE = 9000  # of which clusters hold more than a list
ON_GPUS = [
    *((extremes.outlier, d) for d in (8, 32)),
    *((extremes.scaled, d, scale) for d in (3, 64) for scale in (1e-18, 1e18)),
    *((extremes.hot, d) for d in (3, 24, 300)),
    *((extremes.far, d, 1e22, beta) for d in (3, 32) for beta in (1.0, 1e-22)),
    *((extremes.cluster, width) for width in (1e-5, 1e-3, 1e-1)),
    *((extremes.cluster, width, width**-2, 1.0) for width in (1e-5, 1e-3, 1e-1)),
    *((extremes.cluster, width, width**-2, 0.0, True) for width in (1e-5, 1e-3, 1e-1)),
    *((extremes.far_state, distance, 0.1) for distance in (10.0, 1e3, 1e5)),
    (extremes.images,),
    *((extremes.hidden, bytes_) for bytes_ in (False, True)),
]


@pytest.mark.gpu
@pytest.mark.parametrize("case", ON_GPUS, ids=lambda case: f"{case[0].__name__} {case[1:]}")
def test_bounds_hold_on_a_gpu(case: Any) -> None:
    problem = case[0](SIZE, *case[1:])
    states, field, beta, log_weights = (torch.as_tensor(x, device="cuda") for x in problem)
    ensemble = ft.Ensemble(states, log_weights)
    for single in (False, True):
        state = ensemble.boltzmann(field, beta, single=single)
        names = "force", "error_bound", "participation", "regularised_energy", "energy_variance"
        extremes.check(problem, SimpleNamespace(**{name: getattr(state, name).cpu().numpy() for name in names}))
