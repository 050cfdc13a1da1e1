"""The ways that only many states or float32 arithmetic take, in the interpreter, against the float64 reference.

Twelve temperatures from where all states matter to where one does, so that queries of one call go by differences and by
products; among them ties, and a far query.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastthermo.kernels import Sums, reference
from fastthermo.kernels.bounds import (
    ROUNDING,
    dense_error,
    dense_log_error,
    near_error,
    product_error,
    reach,
    screened_error,
    screened_log_error,
)

config = pytest.importorskip("fastthermo.kernels.triton.config")
BETAS = torch.logspace(-3, 5, 12).double()
HEADED = "fastthermo.kernels.triton.boltzmann:headed"
PROBLEMS = {  # N, D, dtype
    "few dimensions": (700, 3, torch.float32),
    "bytes in few dimensions": (300, 5, torch.uint8),
    "float32": (700, 24, torch.float32),
    "float64": (300, 40, torch.float64),
    "bytes": (300, 50, torch.uint8),
    "long rows": (270, 130, torch.float32),
    "states alike": (600, 24, torch.float32),
}


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request: pytest.FixtureRequest) -> SimpleNamespace:
    size, dimension, dtype = PROBLEMS[request.param]
    generator = torch.Generator().manual_seed(size + dimension)
    y = torch.randn(size, dimension, generator=generator)
    unit = 40.0 if dtype == torch.uint8 else 1.0
    states = ((40 * y + 128).clamp(0, 255) if dtype == torch.uint8 else y).to(dtype)
    log_weights = torch.randn(size, generator=generator).double().log_softmax(0)
    log_weights[[2, size - 1]] = -torch.inf
    if request.param == "states alike":
        log_weights = torch.full_like(log_weights, -3.0)
    beta = BETAS / unit**2
    noise = torch.randn(len(beta), dimension, generator=generator).double()
    field = states[:12].double() + noise / beta[:, None].sqrt()
    field[6:9] = (states[6:9].double() + states[60:63].double()) / 2  # ties
    field[9] += 1e3 * unit
    packed = reference.pack(states, log_weights)
    truth = reference.boltzmann(packed, field, beta)
    return SimpleNamespace(
        states=states,
        log_weights=log_weights,
        field=field,
        beta=beta,
        packed=packed,
        truth=truth,
        rms=(2 * (truth.energy_min + truth.excess)).sqrt(),
        single=dtype != torch.float64,
    )


def force(p: SimpleNamespace, sums: Sums) -> torch.Tensor:
    return (p.states[sums.dominant].double() - p.field) + sums.shift


def sums_of(interpreted: Any, p: SimpleNamespace, precision: str) -> tuple[Any, Sums]:
    packed = interpreted.pack(p.states, p.log_weights)
    return packed, interpreted.boltzmann(packed, p.field, p.beta, precision)


@pytest.mark.parametrize(("precision", "wanted"), [("double", 1e-11), ("single", 1e-6)])
def test_forces_are_exact_under_their_bound(interpreted: Any, problem: Any, precision: str, wanted: float) -> None:
    _, sums = sums_of(interpreted, problem, precision)
    gap = (force(problem, sums) - force(problem, problem.truth)).norm(dim=1) / problem.rms
    assert (gap <= wanted).all()
    assert (gap <= sums.error_bound + problem.truth.error_bound).all()
    got, want = (s.energy_min + s.excess for s in (sums, problem.truth))
    assert ((got - want).abs() <= 3e-6 * want).all()
    assert ((sums.participation - problem.truth.participation).abs() <= 1e-5).all()


@pytest.mark.parametrize("away", [0.1, 20.0])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize(("dimension", "size"), [(3, 300), (24, 300), (24, 1200)])
def test_temperatures_beyond_the_range_of_float32(
    interpreted: Any, dimension: int, size: int, precision: str, away: float
) -> None:
    states = torch.randn(size, dimension, generator=torch.Generator().manual_seed(3))
    weights = torch.zeros(size).double()
    beta = torch.tensor([1e-300, 1e-42, 1e-36, 1e36, 1e42, 1e300], dtype=torch.float64)
    field = states[:6].double() + away
    found = interpreted.boltzmann(interpreted.pack(states, weights), field, beta, precision)
    want = reference.boltzmann(reference.pack(states, weights), field, beta)
    gap = (states[found.dominant].double() + found.shift) - (states[want.dominant].double() + want.shift)
    assert (gap.norm(dim=1) <= 1e-6 * (2 * (want.energy_min + want.excess)).sqrt()).all()
    assert not torch.stack([*found[2:5], *found[6:]]).isnan().any()


def test_a_far_query_leaves_the_answers_beside_it_alone(interpreted: Any) -> None:
    states, beta = torch.randn(300, 3, generator=torch.Generator().manual_seed(3)), torch.ones(6).double()
    field = states[:6].double() + 0.1
    packed = interpreted.pack(states, torch.zeros(300).double())
    alone = interpreted.boltzmann(packed, field, beta, "single")
    field[2] += 1e3
    for x, y in zip(alone, interpreted.boltzmann(packed, field, beta, "single"), strict=True):
        assert torch.equal(x[[0, 1, 3, 4, 5]], y[[0, 1, 3, 4, 5]])
        assert not torch.equal(x[2], y[2])


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("dimension", [3, 24])
def test_bad_queries_are_nan_and_leave_the_others_alone(
    interpreted: Any, dimension: int, precision: str, equal: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    states, beta = torch.randn(300, dimension, generator=generator), torch.logspace(-2, 1, 8).double()
    weights = torch.zeros(300).double() if equal else torch.randn(300, generator=generator).double()
    field, packed = states[:8].double() + 0.1, interpreted.pack(states, weights)

    def everything() -> list[torch.Tensor]:
        sums = interpreted.boltzmann(packed, field, beta, precision)
        probes, none = torch.ones(8, 1, dimension).double(), torch.zeros(8, 1).double()
        second = interpreted.covariance(packed, field, beta, sums, precision)
        return [*sums[1:], second, *interpreted.cumulant(packed, field, beta, sums, probes, none, precision)]

    want = everything()
    beta[1], beta[2], beta[3], field[4, 0], field[5, -1] = -1.0, 0.0, torch.nan, torch.nan, torch.inf
    for x, y in zip(everything(), want, strict=True):
        assert torch.equal(x[[0, 6, 7]], y[[0, 6, 7]])
        assert x[1:6].isnan().all()


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("dimension", [3, 24])
def test_no_queries_have_no_answers(interpreted: Any, dimension: int, precision: str) -> None:
    packed = interpreted.pack(torch.randn(300, dimension), torch.zeros(300).double())
    field, beta = torch.zeros(0, dimension).double(), torch.zeros(0).double()
    sums = interpreted.boltzmann(packed, field, beta, precision)
    assert all(len(x) == 0 for x in sums)
    assert interpreted.covariance(packed, field, beta, sums, precision).shape == (0, dimension, dimension)
    probes, none = torch.ones(0, 1, dimension).double(), torch.zeros(0, 1).double()
    assert all(len(x) == 0 for x in interpreted.cumulant(packed, field, beta, sums, probes, none, precision))


def test_bounds_in_the_kernels_are_those_of_the_proof(interpreted: Any, problem: Any) -> None:
    """Kernels hold the formulas of `bounds` again; where the sums are of one kind they give the same numbers."""
    if not problem.single:
        pytest.skip("float64 states take their bounds from `bounds`")
    few = problem.states.shape[1] <= config.SMALL_DIMENSION  # where a far query makes float64 of its block
    near = (problem.beta * problem.truth.energy_min <= config.FAR) | (not few)
    field, beta = problem.field[near], problem.beta[near]
    packed = interpreted.pack(problem.states, problem.log_weights)
    sums = interpreted.boltzmann(packed, field, beta, "single")
    given = (tuple(problem.states.shape), packed.radius, packed.spread)
    least, excess, rest = sums.energy_min, sums.excess, sums.log_rest.exp()
    if few:
        want = near_error(*given, ROUNDING[4], beta, least, excess, sums.excess_square)
        slack, these = 5 * 2.0**-24 * packed.spread, torch.ones_like(near[near])
    else:
        none = torch.zeros_like(rest)
        want = screened_error(*given, "single", beta, least, excess, rest, none, none)
        slack, these = 3e-14, interpreted.call(HEADED, packed, field, beta, "single")[2].flags == 0
    assert these.sum() >= 3
    assert (sums.error_bound >= (1 - 1e-6) * want)[these].all()
    assert (sums.error_bound <= (1 + 1e-6) * want + slack)[these].all()


def test_bounds_of_float64_sums_are_those_of_the_proof(interpreted: Any, problem: Any) -> None:
    packed, sums = sums_of(interpreted, problem, "double")
    dense = interpreted.call("fastthermo.kernels.triton.screen:survey", packed, problem.field, problem.beta, "double")
    dense = torch.zeros(12, dtype=torch.bool) if dense.is_dense is None else dense.is_dense
    about, least, excess, rest = (tuple(problem.states.shape), packed.radius, packed.spread), *sums[3:5], sums[2].exp()
    none = torch.zeros_like(rest)
    want = screened_error(*about, "double", problem.beta, least, excess, rest, none, none)
    want_log = screened_log_error(*about, "double", problem.beta, least, rest, none, none)
    distance, twice, tail = (problem.field - packed.anchor).norm(dim=1), 2 * problem.beta, rest / (1 + rest)
    radius = reach(packed.radius, packed.spread, problem.beta, distance)
    product = product_error(problem.states.shape[1], radius, 8, twice, distance)
    products = dense_error(*about, 8, twice, product, least, excess, tail, 0)
    products_log = dense_log_error(*about, 8, twice, product, least, tail, 0)
    want, want_log = torch.where(dense, products, want), torch.where(dense, products_log, want_log)
    assert ((sums.error_bound - want).abs() <= 1e-6 * want).all()
    assert ((sums.log_error - want_log).abs() <= 1e-6 * want_log).all()
    assert not packed.codes or 0 < int(dense.sum()) < 12


@pytest.mark.parametrize(("precision", "wanted"), [("fast", 1e-5), ("tf32", 1e-3)])
def test_fast_sums_have_the_precision_of_their_numbers(
    interpreted: Any, problem: Any, precision: str, wanted: float
) -> None:
    _, sums = sums_of(interpreted, problem, precision)
    gap = (force(problem, sums) - force(problem, problem.truth)).norm(dim=1) / problem.rms
    assert (gap[:5] <= wanted).all()
    assert (gap <= sums.error_bound + problem.truth.error_bound).all()


@pytest.mark.parametrize(("precision", "wanted"), [("double", 1e-8), ("single", 1e-4)])
def test_second_passes_are_exact(interpreted: Any, problem: Any, precision: str, wanted: float) -> None:
    packed, sums = sums_of(interpreted, problem, precision)
    given = (problem.packed, problem.field, problem.beta, problem.truth)
    covariance = reference.covariance(*given)
    size = torch.linalg.matrix_norm(covariance)
    wide = size > 1e-18 * problem.rms**2  # of single precision, less is rounding or left out
    gap = interpreted.covariance(packed, problem.field, problem.beta, sums, precision) - covariance
    assert (torch.linalg.matrix_norm(gap)[wide] <= (wanted * size)[wide]).all()
    generator = torch.Generator().manual_seed(1)
    for count in (1, 2):
        probes = torch.randn(len(size), count, problem.field.shape[1], generator=generator).double()
        none = torch.zeros(len(size), count).double()
        vectors, energies = interpreted.cumulant(packed, problem.field, problem.beta, sums, probes, none, precision)
        want, want_energies = reference.cumulant(*given, probes, none)
        scale = size * probes.norm(dim=2).prod(1) * (1 if count == 1 else problem.rms)
        assert ((vectors - want).norm(dim=1)[wide] <= (wanted * scale)[wide]).all()
        assert ((energies - want_energies).abs()[wide] <= (wanted * scale * problem.rms)[wide]).all()


def test_rows_that_programs_share_give_the_same_sums(interpreted: Any) -> None:
    states = torch.randn(8300, 24, generator=torch.Generator().manual_seed(1))
    weights, beta = torch.zeros(8300).double(), torch.tensor([0.01, 0.3, 1.0, 3.0, 30.0]).double()
    field = states[8000:8005].double() + 0.2
    assert interpreted.call("fastthermo.kernels.triton.heads:row_parts", 5, 8300) > 1
    sums = interpreted.boltzmann(interpreted.pack(states, weights), field, beta, "single")
    want = reference.boltzmann(reference.pack(states, weights), field, beta)
    assert torch.equal(sums.dominant, want.dominant)
    rms = (2 * (want.energy_min + want.excess)).sqrt()
    assert ((sums.shift - want.shift).norm(dim=1) <= 1e-6 * rms).all()
    assert ((sums.shift - want.shift).norm(dim=1) <= sums.error_bound * rms).all()


@pytest.fixture(scope="module")
def headed(interpreted: Any) -> SimpleNamespace:
    """Which states of twelve queries are heads, and the exact logits of all; half of the queries are far from all."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(700, 24, generator=generator)
    states[:, -1] = 0
    packed = interpreted.pack(states, torch.full((700,), -6.5).double())
    field, beta = states[:12].double() + 0.1, torch.logspace(-2, 3, 6).double().repeat(2)
    field[6:, -1] = 1e3
    g, _, found = interpreted.call(HEADED, packed, field, beta, "single")
    logits = -beta[:, None] * torch.cdist(field, states.double()) ** 2 / 2
    lists = [set(found.lists[b, : found.kept[b]].tolist()) for b in range(12)]
    return SimpleNamespace(lists=lists, flags=found.flags.tolist(), logits=logits, typical=g.typical)


def test_queries_go_by_lists_by_products_and_by_refined_products(headed: Any) -> None:
    """Else the tests above look at some of the ways only."""
    assert set(headed.flags) == {0, 1, 2}


def test_lists_hold_every_state_that_matters(headed: Any) -> None:
    top = headed.logits.topk(2).values
    log_size = torch.tensor(700.0).log()
    least = torch.minimum(top[:, 1] - log_size - 9.2, top[:, 0] - log_size - 16)
    for b in range(12):
        if headed.flags[b] == 0:
            assert set((headed.logits[b] >= least[b]).nonzero()[:, 0].tolist()) <= headed.lists[b]


def test_what_products_leave_to_differences_is_what_their_errors_would_move(headed: Any) -> None:
    weights = headed.logits.softmax(1)
    for b in range(12):
        if headed.flags[b] == 1:
            tail = torch.tensor([n for n in range(700) if n not in headed.lists[b]])
            assert headed.typical[b] * weights[b, tail].max().sqrt() <= 1.01 * config.SPLIT_TOLERANCE


def test_screening_keeps_every_state_that_matters(interpreted: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(700, 24, generator=generator).double()
    log_weights = torch.full((700,), -6.5).double()
    field, beta = states[:12] + 0.3, torch.logspace(0, 4, 12).double()
    packed = interpreted.pack(states, log_weights)
    seen = interpreted.call("fastthermo.kernels.triton.screen:survey", packed, field, beta, "double")
    logits = -beta[:, None] * torch.cdist(field, states) ** 2 / 2
    runner_up = logits.topk(2).values[:, 1:]
    for b in seen.sparse.places[: int(seen.sparse.number)].tolist():
        if seen.kept[b] <= seen.groups.shape[1]:
            matter = set((logits[b] >= runner_up[b] - 700).nonzero()[:, 0].floor_divide(16).tolist())
            assert matter <= set(seen.groups[b, : seen.kept[b]].tolist())


def test_few_queries_over_many_states_of_few_dimensions_are_right_to_float64(interpreted: Any) -> None:
    """They leave a device idle but where several programs share their states, as those of float64 do."""
    size = config.MANY_STATES + 5
    states = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    given = states, torch.full((size,), -1.0).double()
    field, beta = states[:2].double() + 0.1, torch.tensor([0.1, 1e3]).double()
    found = interpreted.boltzmann(interpreted.pack(*given), field, beta, "single")
    want = reference.boltzmann(reference.pack(*given), field, beta)
    assert torch.allclose(found.shift, want.shift, rtol=0, atol=1e-13)
    assert torch.allclose(found.log_rest, want.log_rest, rtol=1e-13)
    assert (found.error_bound < 1e-9).all()
