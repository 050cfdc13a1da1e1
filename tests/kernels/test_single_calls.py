"""precision="single" and "fast": answers depend on the query alone; the precision is that of the states."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from extended import truth
from extremes import Problem, cluster, far
from single_problems import data, equal, problem, queries, relative_error, run, same, stack, tensors, weights

from fastthermo.kernels import Sums, numba
from fastthermo.kernels.bounds import dense_error

BATCHES = [(8, np.float32), (17, np.float32), (64, np.uint8)]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("dimension", "dtype"), BATCHES)
def test_answers_do_not_depend_on_the_batch(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = problem(dimension, dtype)
    field[::3] = field[::3].astype(np.float32)  # fields with few digits among others
    y, phi, h, b = tensors(states, log_weights, field, beta)
    packed = numba.pack(y, phi)
    whole = numba.boltzmann(packed, h, b, "single")
    for step in (1, 7, 30):
        parts = [numba.boltzmann(packed, h[i : i + step], b[i : i + step], "single") for i in range(0, len(h), step)]
        assert same(whole, stack(parts))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(h)))
    assert same(Sums(*(x[order] for x in whole)), numba.boltzmann(packed, h[order], b[order], "single"))


@pytest.mark.parametrize("dimension", [8, 24])
def test_second_passes_do_not_depend_on_a_query_beside_them_that_float32_cannot_hold(dimension: int) -> None:
    states, log_weights = data(dimension, 300, dimension, np.float32), weights(dimension, 300)
    field = np.concatenate([states[:3], states[:1] + 1e9]).astype(np.float64)
    y, phi, h, b = tensors(states, log_weights, field, np.array([0.1, 1.0, 10.0, 1.0]))
    packed = numba.pack(y, phi)

    def passes(rows: slice) -> list[torch.Tensor]:
        given = packed, h[rows], b[rows], numba.boltzmann(packed, h[rows], b[rows], "single")
        v, u = h[rows, None] + 1, b[rows, None]
        top = numba.top_weights(*given, 5, "single")
        return [numba.covariance(*given, "single"), *numba.cumulant(*given, v, u, "single"), *top]

    for whole, part in zip(passes(slice(4)), passes(slice(3)), strict=True):
        assert torch.equal(whole[:3], part)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("dimension", "dtype"), BATCHES)
def test_answers_do_not_depend_on_the_number_of_threads(dimension: int, dtype: Any) -> None:
    arrays = problem(dimension, dtype)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(run(*arrays))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (17, np.float32), (64, np.float32), (64, np.uint8)])
def test_fast_has_the_precision_of_float32_at_high_temperature(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = problem(dimension, dtype)
    unit = 60.0 if dtype == np.uint8 else 1.0
    hot = (beta <= 1e-2) & (np.linalg.norm(field - states.mean(0), axis=1) < 1e3 * unit)
    field, beta = field[hot], beta[hot] / unit**2
    sums = run(states, log_weights, field, beta, "fast")
    assert relative_error(states, field, sums, truth(states, log_weights, field, beta)).max() <= 1e-5


@pytest.mark.parametrize("beta", [1e5, 1e7, 1e9])
def test_bounds_of_fast_sums_hold_where_rounding_leaves_a_state_no_weight(beta: float) -> None:
    """Midway between two near states, of which one alone seems to weigh."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(30, 24)).astype(np.float32)
    states[1] = states[0] + 2e-4 * rng.normal(size=24).astype(np.float32)
    arrays = states, equal(30), states[:2].astype(np.float64).mean(0, keepdims=True), np.array([beta])
    sums, exact = run(*arrays, "fast"), truth(*arrays)
    assert relative_error(states, arrays[2], sums, exact) <= sums.error_bound.numpy()
    log_sum = exact.log_evidence + beta * sums.energy_min.numpy() - arrays[1][sums.dominant]
    assert abs(sums.log_rest.exp().log1p().numpy() - log_sum) <= sums.log_error.numpy()


@pytest.mark.parametrize("problem", [cluster(700, 1e-5, 1e8, 0.3), far(300, 3, 1e4, 1e20)])
def test_fast_sums_are_numbers_where_float32_could_not_hold_a_weight(problem: Problem) -> None:
    states, field, beta, log_weights = problem
    sums = run(states, log_weights, field, beta, "fast")
    assert relative_error(states, field, sums, truth(states, log_weights, field, beta)) <= 1e-6  # NaN is not


def test_a_bound_knows_what_products_may_have_left_out_by_their_error() -> None:
    product, none = np.array([1.0, 10.0, 80.0]), np.zeros(3)
    bound = dense_error((30, 24), 1.0, 0.0, 4, np.ones(3), product, none + 1, none, none, none)
    assert bound[0] < 1e-10
    assert 1e-9 < bound[1] < 1e-5
    assert bound[2] > 1


@pytest.mark.parametrize("dimension", [4, 17])
def test_float64_states_are_summed_in_float64_all_the_same(dimension: int) -> None:
    states, log_weights = data(dimension, 300, dimension, np.float64), weights(dimension, 300)
    field, beta = queries(dimension, states)
    single, double = (run(states, log_weights, field, beta, precision) for precision in ("single", "double"))
    assert same(single, double)
