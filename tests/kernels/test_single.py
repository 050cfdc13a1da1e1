"""precision="single": forces to 1e-6 of their rms, under the error bound, at every temperature.

The oracle is the same sum in extended precision by differences, so that it is exact at any offset and temperature.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo.kernels import Sums, numba, reference

UNIT = 2.0**-53
WANTED = 1e-6  # what "single" promises of the force
LONG = np.longdouble
BETAS = np.geomspace(1e-6, 1e6, 13)
SIZES = {1: 60, 2: 300, 8: 300, 16: 200, 17: 9000, 64: 300, 784: 40}  # by dimension; 9000 is three segments
CHUNK = 1 << 20  # numbers at once in the oracle


def truth(states: Any, log_weights: Any, field: Any, beta: Any) -> SimpleNamespace:
    """force, rms, log_evidence, energy and participation, (B,) or (B, D), in extended precision."""
    y, b, phi = states.astype(LONG), beta.astype(LONG), log_weights.astype(LONG)
    size = max(1, CHUNK // y.size)
    parts = [_truth(y, phi, field[i : i + size], b[i : i + size]) for i in range(0, len(field), size)]
    return SimpleNamespace(**{k: np.concatenate([part[k] for part in parts]) for k in parts[0]})


def _truth(y: Any, phi: Any, field: Any, beta: Any) -> dict[str, Any]:
    t = y - field[:, None]
    r = (phi - beta[:, None] * (t * t).sum(-1) / 2).argmax(1)
    for _ in range(2):  # the second time relative to the state that matters most, so that near-ties are told apart
        pull, s = y[r] - field, y - y[r][:, None]
        energy = (s * (s / 2 + pull[:, None])).sum(-1)
        logits = phi - phi[r][:, None] - beta[:, None] * energy
        used, r = r, logits.argmax(1)
    ratio = np.exp(logits)
    total = ratio.sum(1)
    w = ratio / total[:, None]
    energy_min = (pull * pull).sum(1) / 2
    mean_energy = energy_min + (w * energy).sum(1)
    return {
        "force": pull + (w[..., None] * s).sum(1),
        "rms": np.sqrt(2 * mean_energy),
        "log_evidence": phi[used] + np.log(total) - beta * energy_min,
        "energy": mean_energy,
        "participation": (w * w).sum(1),
    }


def data(seed: int, size: int, dimension: int, dtype: Any, offset: float = 0.0) -> np.ndarray:
    """Points about a few centres, some of them rare, or images of bytes."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(4, dimension))[rng.integers(0, 4, size)] + 0.5 * rng.normal(size=(size, dimension))
    return np.clip(np.rint(40 * y + 128), 0, 255).astype(dtype) if dtype == np.uint8 else (y + offset).astype(dtype)


def weights(seed: int, size: int, removed: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = np.log(rng.dirichlet(np.full(size, 0.5)) + 1e-200)
    if removed:
        w[rng.permutation(size)[: size // 5]] = -np.inf
    return w


def equal(size: int) -> np.ndarray:
    return np.full(size, -np.log(size))


def queries(seed: int, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along the path, on ties, next to ties and far away, each at all temperatures."""
    rng = np.random.default_rng(seed)
    y, (size, dimension), count = states.astype(np.float64), states.shape, len(BETAS)
    unit = 60.0 if states.dtype == np.uint8 else 1.0
    centre = y[0] if abs(y.mean()) > 1e3 else 0.0  # of far queries

    def noise() -> np.ndarray:
        return rng.normal(size=(count, dimension))

    def some() -> np.ndarray:
        return y[rng.integers(0, size, count)]

    path = some() + noise() / np.sqrt(BETAS)[:, None]
    ties = (some() + some()) / 2
    away = noise()
    away *= 1e4 / np.linalg.norm(away, axis=1, keepdims=True)
    field = np.concatenate([path, ties, ties + 1e-6 * unit * noise(), centre + away])
    return field, np.tile(BETAS, 4)


def tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(x) for x in arrays)


def run(states: Any, log_weights: Any, field: Any, beta: Any, precision: str = "single", backend: Any = numba) -> Sums:
    y, phi, h, b = tensors(states, log_weights, field, beta)
    return backend.boltzmann(backend.pack(y, phi), h, b, precision)


def force(states: np.ndarray, field: np.ndarray, sums: Sums) -> np.ndarray:
    return (states[sums.dominant.numpy()].astype(np.float64) - field) + sums.shift.numpy()


def relative_error(states: np.ndarray, field: np.ndarray, sums: Sums, exact: SimpleNamespace) -> np.ndarray:
    gap = force(states, field, sums) - exact.force
    return (np.sqrt((gap * gap).sum(1)) / np.maximum(exact.rms, 1e-300)).astype(np.float64)


def same(one: Sums, two: Sums) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def stack(parts: list[Sums]) -> Sums:
    return Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def problem(dimension: int, dtype: Any = np.float32, offset: float = 0.0) -> tuple[np.ndarray, ...]:
    states = data(dimension, SIZES[dimension], dimension, dtype, offset)
    plain = dtype == np.uint8 and dimension == 8
    log_weights = equal(len(states)) if plain else weights(dimension, len(states))
    return states, log_weights, *queries(dimension, states)


PROBLEMS = {
    **{f"float32 in {d}": (d,) for d in SIZES},
    **{f"bytes in {d}": (d, np.uint8) for d in (8, 64, 784)},
    **{f"offset in {d}": (d, np.float32, 1e4) for d in (8, 64, 784)},
}


@pytest.fixture(scope="module", params=PROBLEMS)
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    arrays = problem(*PROBLEMS[request.param])
    return SimpleNamespace(arrays=arrays, truth=truth(*arrays), sums=run(*arrays))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_force_is_within_1e_6_of_its_rms(case: Any) -> None:
    states, _, field, _ = case.arrays
    assert relative_error(states, field, case.sums, case.truth).max() <= WANTED


def test_true_error_is_below_the_error_bound(case: Any) -> None:
    states, _, field, _ = case.arrays
    assert (relative_error(states, field, case.sums, case.truth) <= case.sums.error_bound.numpy() + 4 * UNIT).all()


def test_log_evidence_is_within_1e_6(case: Any) -> None:
    _, log_weights, _, beta = case.arrays
    sums, r = case.sums, case.sums.dominant.numpy()
    got = log_weights[r] + np.log1p(np.exp(sums.log_rest.numpy())) - beta * sums.energy_min.numpy()
    want = case.truth.log_evidence.astype(np.float64)
    assert (np.abs(got - want) <= 1e-6 * np.maximum(1, np.abs(want))).all()


def test_energy_and_participation_are_those_of_float32(case: Any) -> None:
    sums, exact = case.sums, case.truth
    assert (np.abs((sums.energy_min + sums.excess).numpy() - exact.energy) <= 3e-6 * exact.energy).all()
    assert (np.abs(sums.participation.numpy() - exact.participation) <= 1e-5).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("removed", [False, True])
def test_energies_keep_their_digits_at_any_high_temperature(dtype: Any, removed: bool) -> None:
    states = data(8, 300, 8, dtype)
    beta = np.array([1e-8, 1e-20, 1e-30, 1e-80, 1e-200])
    log_weights, field = weights(8, 300, removed), states[: len(beta)].astype(np.float64) + 1
    sums = run(states, log_weights, field, beta)
    w = np.exp(log_weights - log_weights.max())
    e = ((states - field[:, None]) ** 2).sum(2) / 2
    gap = e - sums.energy_min.numpy()[:, None]
    for got, want in ((sums.excess, gap @ w), (sums.excess_square, gap**2 @ w)):
        assert np.abs(got.numpy() / (want / w.sum()) - 1).max() <= 1e-5


def test_cases_reach_from_one_state_to_all() -> None:
    for d in SIZES:
        states, log_weights, field, beta = problem(d)
        n_eff = 1 / run(states, log_weights, field, beta).participation.numpy()
        prior = np.exp(log_weights - log_weights.max())
        assert n_eff.min() <= 1 + 1e-9
        assert n_eff.max() >= 0.99 * prior.sum() ** 2 / (prior**2).sum()


def test_a_removed_state_never_dominates(case: Any) -> None:
    assert np.isfinite(case.arrays[1][case.sums.dominant.numpy()]).all()


def test_copies_share_the_error_of_a_product_which_their_number_does_not_average() -> None:
    """The one exception to 1e-6: 4e-6 here, 1e-5 in other pairs."""
    rng = np.random.default_rng(24)
    pair, crowd = rng.normal(size=(2, 24)), rng.normal(size=(20, 24))
    states = np.concatenate([np.repeat(pair, 1000, 0), crowd]).astype(np.float32)
    gap = states[0].astype(np.float64) - states[1000]
    beta = np.repeat([1.0, 10.0, 100.0, 1000.0], 8) / (gap @ gap)
    field = states[[0, 1000]].astype(np.float64).mean(0) + rng.normal(size=(32, 24)) / np.sqrt(2400 * beta)[:, None]
    log_weights = equal(len(states))
    sums = run(states, log_weights, field, beta)
    error = relative_error(states, field, sums, truth(states, log_weights, field, beta))
    assert error.max() <= 20 * WANTED
    assert (error <= sums.error_bound.numpy()).all()


@pytest.mark.parametrize(("dimension", "scale"), [(8, 1.0), (24, 1e6)])
def test_bounds_that_overflow_are_silent(dimension: int, scale: float) -> None:
    states = (scale * np.random.default_rng(0).normal(size=(20, dimension))).astype(np.float32)
    field = states[:2].astype(np.float64).mean(0, keepdims=True) + 1e4
    with np.errstate(over="raise"):
        run(states, weights(0, 20, False), field, np.full(1, 1e6))


def random_problem(rng: Any, dimension: int, count: int) -> tuple[np.ndarray, ...]:
    size, scale = int(rng.integers(2, 14)), 10 ** rng.uniform(-2, 3)
    if rng.random() < 0.2:
        scale, states = 60.0, rng.integers(0, 256, (size, dimension)).astype(np.uint8)
    else:
        states = (scale * rng.normal(size=(size, dimension)) + 10 ** rng.uniform(-2, 4)).astype(np.float32)
    y = states.astype(np.float64)
    noise = scale * 10 ** rng.uniform(-9, 1, (count, 1)) * rng.normal(size=(count, dimension))
    field = y[rng.integers(0, size, (count, 2))].mean(1) + noise
    log_weights = np.log(rng.dirichlet(np.full(size, 0.3)) + 1e-300)
    return states, log_weights, field, 10 ** rng.uniform(-4, 6, count) / scale**2


@pytest.mark.parametrize("dimension", [8, 24])
def test_error_bound_holds_for_fifty_thousand_random_queries(dimension: int) -> None:
    rng = np.random.default_rng(100 + dimension)
    certified = []
    for _ in range(100):
        states, log_weights, field, beta = random_problem(rng, dimension, 500)
        sums = run(states, log_weights, field, beta)
        bound = sums.error_bound.numpy()
        true_error = relative_error(states, field, sums, truth(states, log_weights, field, beta))
        assert (true_error <= bound + 4 * UNIT).all()
        certified.append((bound <= 1e-4).mean())
    assert np.mean(certified) > 0.5  # a bound that holds because it says nothing is none


def simplex(dimension: int, crowd: bool) -> tuple[np.ndarray, ...]:
    """A state and its neighbours one away, without or with a crowd far from them: 1 - w_max from 1/2 to 1e-20."""
    rng = np.random.default_rng(dimension)
    states = np.concatenate([np.zeros((1, dimension)), np.eye(dimension)]) + 0.01 * rng.normal(
        size=(dimension + 1, dimension)
    )
    if crowd:
        states = np.concatenate([states, 20 + rng.normal(size=(40, dimension))])
    states = states.astype(np.float32)
    log_rest = np.array([0.0, -3.0, -10.0, -20.0, -30.0, -46.0])
    beta = 2 * (np.log(dimension) - log_rest)
    return states, weights(dimension, len(states), False) * 0.1, np.repeat(states[:1].astype(np.float64), 6, 0), beta


SECOND = [(8, False), (24, False), (8, True), (24, True)]


def second_pass(name: str, arrays: Any, *extra: torch.Tensor) -> tuple[Any, Any]:
    """From the single sums of numba, and from the reference."""
    out = []
    for backend, precision in ((numba, "single"), (reference, "double")):
        y, phi, h, b = tensors(*arrays)
        packed = backend.pack(y, phi)
        sums = backend.boltzmann(packed, h, b, precision)
        out.append(getattr(backend, name)(packed, h, b, sums, *extra, precision))
    return out[0], out[1]


def warm(dimension: int) -> tuple[np.ndarray, ...]:
    states = data(dimension, 300, dimension, np.float32)
    rng = np.random.default_rng(dimension)
    sigma = np.geomspace(0.1, 10, 8)[:, None]
    field = states[:8].astype(np.float64) + sigma * rng.normal(size=(8, dimension))
    return states, weights(dimension, 300), field, 1 / sigma[:, 0] ** 2


@pytest.mark.parametrize(("dimension", "crowd"), SECOND)
def test_covariance_is_relative_to_itself_down_to_1e_20(dimension: int, crowd: bool) -> None:
    for arrays in (simplex(dimension, crowd), warm(dimension)):
        got, want = second_pass("covariance", arrays)
        gap, size = torch.linalg.matrix_norm(got - want), torch.linalg.matrix_norm(want)
        assert (gap <= 1e-4 * size + 1e-26 * 400 * dimension).all()
    assert run(*simplex(dimension, crowd)).log_rest.min() < -43


@pytest.mark.parametrize(("dimension", "crowd"), SECOND)
def test_first_cumulant_is_relative_to_itself_down_to_1e_20(dimension: int, crowd: bool) -> None:
    for arrays in (simplex(dimension, crowd), warm(dimension)):
        count = len(arrays[2])
        probes = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 1, dimension)))
        (got, got_energy), (want, want_energy) = second_pass(
            "cumulant", arrays, probes, torch.zeros(count, 1, dtype=torch.float64)
        )
        covariance = second_pass("covariance", arrays)[1]
        scale = torch.linalg.matrix_norm(covariance) * probes[:, 0].norm(dim=1)
        assert ((got - want).norm(dim=1) <= 1e-4 * scale).all()
        sums = run(*arrays, "double", reference)
        spread = (sums.excess_square - sums.excess**2).clip(0)
        along = torch.einsum("bi,bij,bj->b", probes[:, 0], covariance, probes[:, 0])
        assert ((got_energy - want_energy).abs() <= 1e-4 * (spread * along).sqrt()).all()


BATCHES = [(8, np.float32), (17, np.float32), (64, np.uint8)]


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


@pytest.mark.parametrize("dimension", [4, 17])
def test_float64_states_are_summed_in_float64_all_the_same(dimension: int) -> None:
    states, log_weights = data(dimension, 300, dimension, np.float64), weights(dimension, 300)
    field, beta = queries(dimension, states)
    single, double = (run(states, log_weights, field, beta, precision) for precision in ("single", "double"))
    assert same(single, double)


# The public API. A field of float32 asks for single precision; results are rounded to float32, 6e-8 of themselves.
ROUNDING = 2.0**-24


def public(dimension: int, dtype: Any) -> tuple[np.ndarray, ...]:
    """Weights are equal in 8 dimensions."""
    states = data(dimension, 300, dimension, dtype)
    rng = np.random.default_rng(dimension)
    unit = 40.0 if dtype == np.uint8 else 1.0
    sigma = unit * np.geomspace(0.03, 30, 24)[:, None]
    field = states[:24] + sigma * rng.normal(size=(24, dimension))
    log_weights = equal(300) if dimension == 8 else weights(dimension, 300, False)
    return states, log_weights, field.astype(np.float32), (1 / sigma[:, 0] ** 2).astype(np.float32)


def normalised(log_weights: np.ndarray) -> np.ndarray:
    return log_weights - np.log(np.exp(log_weights).sum())


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.float32), (64, np.uint8)])
def test_the_bound_of_an_ensemble_holds_for_float32_fields(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    state = ft.Ensemble(states, log_weights).boltzmann(field, beta)
    exact = truth(states, normalised(log_weights), field.astype(np.float64), beta.astype(np.float64))
    assert state.force.dtype == np.float32
    true_error = np.linalg.norm((state.force - exact.force).astype(np.float64), axis=1) / exact.rms
    assert (true_error <= state.error_bound).all()
    assert (true_error <= WANTED + ROUNDING).all()


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.float32), (64, np.uint8)])
def test_rtol_takes_float64_where_the_single_bound_is_too_large(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    ens = ft.Ensemble(states, log_weights)
    loose = ens.boltzmann(field, beta).error_bound.max()
    rtol = 1e-6
    assert loose > rtol  # else nothing is tested
    state = ens.boltzmann(field, beta, rtol=rtol)
    exact = truth(states, normalised(log_weights), field.astype(np.float64), beta.astype(np.float64))
    true_error = np.linalg.norm((state.force - exact.force).astype(np.float64), axis=1) / exact.rms
    assert (state.error_bound <= rtol).all()
    assert (true_error <= state.error_bound).all()


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.uint8)])
def test_single_sums_of_a_float64_field_meet_rtol_by_float64(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    ens, wide = ft.Ensemble(states, log_weights), (field.astype(np.float64), beta.astype(np.float64))
    assert ens.boltzmann(*wide, single=True).error_bound.max() > 1e-8
    state = ens.boltzmann(*wide, rtol=1e-8, single=True)
    assert (state.error_bound <= 1e-8).all()


@pytest.mark.parametrize(("dimension", "dtype"), [(8, np.float32), (64, np.uint8)])
def test_an_rtol_below_the_rounding_of_float32_is_refused(dimension: int, dtype: Any) -> None:
    states, log_weights, field, beta = public(dimension, dtype)
    with pytest.raises(ValueError, match=r"rtol: 1e-08 cannot be met"):
        ft.Ensemble(states, log_weights).boltzmann(field, beta, rtol=1e-8)
    with pytest.raises(ValueError, match=r"rtol: 1e-17 cannot be met"):
        ft.Ensemble(states, log_weights).boltzmann(
            field.astype(np.float64), beta.astype(np.float64), rtol=1e-17, single=True
        )
