"""The sums of every backend against exact ones."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from fastthermo.kernels import Sums

UNIT = 2.0**-53
LONG = np.longdouble
FLOOR = 1e-300  # below which nothing is asked


def run(backend: Any, case: Any, rows: slice = slice(None)) -> Sums:
    log_weights, field, beta = case.rest
    return backend.boltzmann(backend.pack(case.states, log_weights), field[rows], beta[rows])


def force(case: Any, sums: Sums) -> np.ndarray:
    return ((case.states[sums.dominant].double() - case.rest[1]) + sums.shift).numpy()


def test_dominant_is_a_state_of_largest_weight(backend: Any, case: Any) -> None:
    index = run(backend, case).dominant.numpy()
    for row, i, slack in zip(case.truth.rows, index, case.slack, strict=True):
        assert row.ratios[i] >= 1 - slack


def test_dominant_is_the_lowest_index_of_a_tie(backend: Any) -> None:
    states = torch.tensor([[3.0], [1.0], [-1.0], [1.0]])
    packed = backend.pack(states, torch.full((4,), 0.25, dtype=torch.float64).log())
    sums = backend.boltzmann(packed, torch.zeros(1, 1).double(), torch.ones(1).double())
    assert sums.dominant.tolist() == [1]


def moved(case: Any, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """y_r - y_r' and H~_r - H~_r' where a backend took another member r of a tie than the exact sums' r'."""
    states, h = case.states.double().numpy(), case.rest[1].numpy()
    reference = states[[row.dominant for row in case.truth.rows]]
    t = states[sums.dominant.numpy()] - reference
    return t, (t * (t / 2 + reference - h)).sum(1)


def test_shift_is_that_of_exact_weights(backend: Any, case: Any, distance: Any) -> None:
    sums = run(backend, case)
    t, _ = moved(case, sums)
    assert (distance(sums.shift.numpy() + t, case.truth.shift) <= case.slack * case.truth.rms).all()


def test_energies_are_those_of_exact_weights(backend: Any, case: Any) -> None:
    sums, truth = run(backend, case), case.truth
    _, move = moved(case, sums)
    assert (np.abs(sums.energy_min.numpy() - truth.energy_min - move) <= case.slack * truth.energy_min).all()
    for i, row in enumerate(truth.rows):
        allowed = row.weights @ (1e-12 * row.work + case.slack[i] * np.abs(row.relative_energy)) + FLOOR
        assert abs(float(sums.excess[i]) + move[i] - row.excess) <= allowed
        e = row.relative_energy - LONG(move[i])
        allowed = row.weights @ (2e-12 * row.work * np.abs(e) + case.slack[i] * e**2) + FLOOR
        assert abs(float(sums.excess_square[i]) - row.weights @ e**2) <= allowed


def test_weights_are_exact_ones(backend: Any, case: Any) -> None:
    sums, truth = run(backend, case), case.truth
    assert (np.abs(sums.participation.numpy() - truth.participation) <= case.slack).all()
    log_rest, alive = sums.log_rest.numpy(), truth.log_rest > -690
    assert (log_rest[~alive] < -680).all()
    log_rest, want = log_rest[alive], truth.log_rest[alive]
    assert (np.abs(log_rest - want) <= case.slack[alive] * np.maximum(1, np.abs(want))).all()


def test_force_is_within_the_budget_and_below_the_error_bound(backend: Any, case: Any, distance: Any) -> None:
    sums, truth = run(backend, case), case.truth
    true_error = distance(force(case, sums), truth.force) / np.maximum(truth.rms, 1e-300)
    assert (true_error <= case.slack).all()
    assert (np.maximum(true_error, UNIT) <= sums.error_bound.numpy() + 4 * UNIT).all()


def test_no_queries_give_empty_sums(backend: Any) -> None:
    packed = backend.pack(torch.ones(5, 2), torch.full((5,), 0.2).double().log())
    sums = backend.boltzmann(packed, torch.zeros(0, 2).double(), torch.zeros(0).double())
    assert sums.shift.shape == (0, 2)
    assert all(len(x) == 0 for x in sums)


def test_error_bound_is_tight_enough_to_certify_ordinary_queries(backend: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(50, 10, generator=generator)
    packed = backend.pack(states, torch.full((50,), 0.02, dtype=torch.float64).log())
    field = torch.randn(20, 10, generator=generator, dtype=torch.float64)
    bound = backend.boltzmann(packed, field, torch.logspace(-3, 3, 20, dtype=torch.float64)).error_bound
    assert (bound < 1e-9).all()


def assert_bound_holds(backend: Any, exact: Any, distance: Any, *arrays: np.ndarray) -> None:
    truth = exact(*arrays)
    states, log_weights, field, beta = (torch.from_numpy(x) for x in arrays)
    sums = backend.boltzmann(backend.pack(states, log_weights), field, beta)
    true_error = distance((states[sums.dominant].double() - field) + sums.shift, truth.force) / truth.rms
    assert (np.maximum(true_error, UNIT) <= sums.error_bound.numpy() + 4 * UNIT).all()


@pytest.mark.parametrize("dimension", [1, 5, 20])
def test_error_bound_holds_for_random_problems(backend: Any, exact: Any, distance: Any, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    for _ in range(15):
        size = rng.integers(2, 12)
        states = 10 ** rng.uniform(-2, 3) * rng.normal(size=(size, dimension)) + 10 ** rng.uniform(-2, 4)
        field = states[rng.integers(0, size, (2, 2))].mean(1) + 10 ** rng.uniform(-9, 1) * rng.normal(
            size=(2, dimension)
        )
        log_weights = np.log(rng.dirichlet(np.full(size, 0.3)) + 1e-300)
        assert_bound_holds(backend, exact, distance, states, log_weights, field, 10 ** rng.uniform(-6, 6, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [3, 20])
def test_error_bound_holds_between_two_close_states_among_far_ones(
    backend: Any, exact: Any, distance: Any, dimension: int, dtype: Any
) -> None:
    rng = np.random.default_rng(dimension)
    for _ in range(15):
        states = 10 ** rng.uniform(0, 3) * rng.normal(size=(8, dimension))
        states[1] = states[0] + 10 ** rng.uniform(-3, 0) * rng.normal(size=dimension)
        states = states.astype(dtype)
        gap = np.linalg.norm(states[0].astype(float) - states[1])
        if gap == 0:
            continue
        field = states[:2].astype(float).mean(0) + 0.1 * gap * rng.normal(size=(3, dimension))
        assert_bound_holds(
            backend, exact, distance, states, np.full(8, -np.log(8)), field, np.array([1.0, 10.0, 100.0]) / gap**2
        )


def test_backends_agree_to_rounding(case: Any) -> None:
    from fastthermo.kernels import numba, reference

    one, two = run(numba, case), run(reference, case)
    rms = torch.as_tensor(case.truth.rms)
    gap = torch.as_tensor(force(case, one) - force(case, two)).norm(dim=1)
    assert (gap <= (one.error_bound + two.error_bound + 8 * UNIT) * rms).all()


def test_answers_do_not_depend_on_the_batch(case: Any) -> None:
    from fastthermo.kernels import numba

    together = run(numba, case)
    for i in range(len(case.slack)):
        alone = run(numba, case, slice(i, i + 1))
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[i], b[0])


def test_answers_do_not_depend_on_the_number_of_queries_a_task() -> None:
    from fastthermo.kernels import numba

    generator = torch.Generator().manual_seed(1)
    packed = numba.pack(torch.randn(300, 5, generator=generator), torch.full((300,), 1 / 300).double().log())
    field, beta = torch.randn(150, 5, generator=generator).double(), torch.logspace(-3, 3, 150).double()
    together = numba.boltzmann(packed, field, beta)
    parts = [numba.boltzmann(packed, field[i : i + 7], beta[i : i + 7]) for i in range(0, 150, 7)]
    for whole, *columns in zip(together, *parts, strict=True):
        assert torch.equal(whole, torch.cat(columns))


@pytest.mark.parametrize("backend", ["reference", "numba"], indirect=True)
def test_two_threads_may_call_at_once(backend: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    packed = backend.pack(torch.randn(500, 6, generator=generator), torch.full((500,), 0.002).double().log())
    fields = [torch.randn(64, 6, generator=generator).double() for _ in range(8)]
    beta = torch.full((64,), 3.0).double()
    expected = [backend.boltzmann(packed, h, beta) for h in fields]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda h: backend.boltzmann(packed, h, beta), fields))
    for one, two in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_every_output_is_written(backend: Any, case: Any, poisoned: Any) -> None:
    sums = poisoned(run, backend, case)
    assert not any(x.isnan().any() for x in sums)
    assert ((sums.dominant >= 0) & (sums.dominant < len(case.states))).all()


def test_an_error_in_a_block_reaches_the_caller() -> None:
    from fastthermo.kernels.numba.pool import run as run_blocks

    def kernel(low: int, high: int) -> None:
        raise ArithmeticError(f"{low}")

    with pytest.raises(ArithmeticError):
        run_blocks(kernel, 1000, 32)
