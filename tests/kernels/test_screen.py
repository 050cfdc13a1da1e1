"""Screening by byte products: its bound, its candidates, and the sums over them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastthermo.kernels import Sums, numba, reference
from fastthermo.kernels.bounds import cutoffs
from fastthermo.kernels.numba import screen, sparse
from fastthermo.kernels.numba.codes import LARGEST, probe
from fastthermo.kernels.numba.config import PARTS, SCREEN_DIMENSION, SCREEN_SIZE, candidates, second_candidates

pytestmark = pytest.mark.skipif(not screen.available(), reason="the CPU has no AVX-512 VNNI")

SIZE, WIDE = SCREEN_SIZE + 45, 784  # the last panel of 32 states is not full
PADDED = -(-SIZE // 32) * 32


def states(dtype: Any, dimension: int = 40) -> np.ndarray:
    """Clusters near a plane of eight dimensions, or images of bytes like them."""
    rng = np.random.default_rng(dimension)
    plane = rng.normal(size=(8, dimension))
    latent = 2 * rng.normal(size=(10, 8))[rng.integers(0, 10, SIZE)] + rng.normal(size=(SIZE, 8))
    y = latent @ plane + 0.1 * rng.normal(size=(SIZE, dimension))
    return np.clip(np.rint(12 * y + 128), 0, 255).astype(dtype) if dtype == np.uint8 else y.astype(dtype)


def weights(weighted: bool) -> np.ndarray:
    if not weighted:
        return np.full(SIZE, -np.log(SIZE))
    rng = np.random.default_rng(1)
    w = np.log(rng.dirichlet(np.full(SIZE, 0.5)) + 1e-200)
    w[rng.permutation(SIZE)[:100]] = -np.inf
    return w


def cold(y: np.ndarray, log_weights: np.ndarray, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Queries on the path and on ties of states, at temperatures where few states matter."""
    rng = np.random.default_rng(2)
    unit = 12.0 if y.dtype == np.uint8 else 1.0
    alive = rng.permutation(np.flatnonzero(log_weights > -np.inf))
    beta = np.geomspace(10, 1e4, count) / unit**2
    z = y.astype(np.float64)
    path = z[alive[:count]] + rng.normal(size=(count, y.shape[1])) / np.sqrt(beta)[:, None]
    near = [int(n) for n in alive[count : 2 * count]]
    partner = [int(((z - z[n]) ** 2).sum(1).argsort()[1]) for n in near]
    return np.concatenate([path, (z[near] + z[partner]) / 2]), np.concatenate([beta, beta])


VARIANTS = {
    "float32": (np.float32, False, 40),
    "weighted float32": (np.float32, True, 40),
    "bytes": (np.uint8, False, 40),
    "weighted bytes": (np.uint8, True, 40),
    "float64": (np.float64, False, 40),
    "images": (np.uint8, False, WIDE),
}


def make(y: np.ndarray, log_weights: np.ndarray, field: Any = None, beta: Any = None) -> SimpleNamespace:
    if field is None:
        field, beta = cold(y, log_weights, 3 if y.shape[1] == WIDE else 12)
    packed = numba.pack(torch.from_numpy(y), torch.from_numpy(log_weights))
    assert packed.codes.worthwhile(packed)
    codes = packed.codes.get(packed)
    return SimpleNamespace(
        y=y, phi=log_weights, field=field, beta=beta, packed=packed, codes=codes, tensors=tensors(field, beta)
    )


def tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(x) for x in arrays)


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    dtype, weighted, dimension = VARIANTS[request.param]
    return make(states(dtype, dimension), weights(weighted))


def decoded(codes: Any, dimension: int) -> np.ndarray:
    """q, (N, D), from panels of 32 states and quadruples of dimensions."""
    panels, quads = codes.codes.shape[:2]
    flat = codes.codes.transpose(0, 2, 1, 3).reshape(panels * 32, quads * 4)
    assert (flat[:, dimension:] == 0).all()
    return flat[:, :dimension]


def integers(case: Any, probes: Any) -> np.ndarray:
    """k, (B, D), from its digits."""
    digits = probes.codes[:, :, : case.y.shape[1]].astype(np.float64)
    return sum(256.0**i * digits[:, i] for i in range(digits.shape[1]))


def screened(case: Any, probes: Any) -> np.ndarray:
    """e_n of the states of some weight as the kernel makes it: exact integers, then float32."""
    q = decoded(case.codes, case.y.shape[1])[: len(case.y)].astype(np.float64)
    product = (integers(case, probes) @ (q - case.codes.anchor).T).astype(np.float32)
    e = case.codes.half_squares[: len(case.y)] - probes.scale[:, None] * product
    prior = case.codes.priors[: len(case.y)] * np.log(2) / case.beta[:, None]
    return (e.astype(np.float64) - prior)[:, case.phi > -np.inf]


def exact_energies(case: Any) -> np.ndarray:
    """H~_n - log(phi_n) / beta relative to the dominant state, float64 by differences, (B, N)."""
    y, out = case.y.astype(np.float64), []
    for h, b in zip(case.field, case.beta, strict=True):
        with np.errstate(invalid="ignore"):
            r = int((((y - h) ** 2).sum(1) / 2 - case.phi / b).argmin())
        s = y - y[r]
        out.append(s @ (y[r] - h) + (s * s).sum(1) / 2 - (case.phi - case.phi[r]) / b)
    return np.array(out)


def test_bytes_are_their_own_codes_and_others_are_near_theirs(case: Any) -> None:
    codes, y = case.codes, case.packed.states
    dimension = y.shape[1]
    q = decoded(codes, dimension)
    assert (q[len(y) :] == 0).all()
    assert np.isinf(codes.half_squares[len(y) :]).all()
    assert len(codes.half_squares) == PADDED
    rho = y - (codes.lowest + codes.step * q[: len(y)])
    if y.dtype == np.uint8:
        assert np.array_equal(q[: len(y)], y)
        assert codes.residual == 0
    else:
        assert (np.abs(rho) <= 0.5 * codes.step * (1 + 1e-9)).all()
    assert np.linalg.norm(rho, axis=1).max() <= codes.residual + 1e-300
    assert np.linalg.norm(q[: len(y)] - codes.anchor, axis=1).max() <= codes.radius


@pytest.mark.parametrize("digits", [2, 3])
def test_margin_holds_the_errors_by_cauchy_schwarz(case: Any, digits: int) -> None:
    probes = probe(case.packed, case.codes, case.field, case.beta, digits)
    k, y = integers(case, probes), case.packed.states
    largest = np.abs(k).max(1)
    assert (largest <= LARGEST[digits]).all()
    assert (largest >= (1 - 2.0**-20) * LARGEST[digits] - 1).all()
    q = decoded(case.codes, y.shape[1])[: len(y)].astype(np.float64)
    v = case.field - case.packed.anchor
    start = probes.start.astype(np.int64) @ 256 ** np.arange(digits)
    assert np.array_equal(start, -(k @ case.codes.anchor).astype(np.int64))
    if digits == 2:
        assert (np.abs(k @ (q - case.codes.anchor).T) < 2**31).all()
    rounded = v * case.codes.step - probes.scale[:, None].astype(np.float64) * k
    assert np.allclose(probes.offset, -rounded @ case.codes.mean, rtol=1e-5, atol=1e-9 * np.abs(rounded).max())
    delta = np.linalg.norm(rounded, axis=1)
    rho = np.linalg.norm(y - (case.codes.lowest + case.codes.step * q), axis=1).max()
    eps = delta * np.linalg.norm(q - case.codes.anchor, axis=1).max() + np.linalg.norm(v, axis=1) * rho
    assert (probes.error >= eps).all()


def test_screened_energies_are_within_twice_the_bound(case: Any) -> None:
    probes = probe(case.packed, case.codes, case.field, case.beta)
    alive = case.phi > -np.inf
    error = screened(case, probes) - exact_energies(case)[:, alive]
    # of all pairs: the widest is the difference of the extremes
    assert (np.ptp(error, axis=1) <= 2 * probes.error).all()


def chosen(case: Any, precision: str = "double") -> list[set[int]]:
    """Candidates of every query, as `_sparse_kernel` takes them."""
    probes = probe(case.packed, case.codes, case.field, case.beta)
    count = len(case.beta)
    lists = index, energy, found, best = screen.make_lists(count, candidates(case.y.shape))
    limits = screen._limits(case.packed, probes, case.beta, precision)
    none = np.full(count, np.inf, np.float32)
    for part, parts in ((0, 1), (1, PARTS - 1)):
        rows = np.arange(count)
        screen.find_candidates(case.packed, case.codes, probes, limits, none, case.beta, rows, part, parts, lists)
    lowest = np.sort(best.transpose(1, 0, 2).reshape(count, -1), 1)
    bound = np.maximum(lowest[:, 1] + limits[:, 0], lowest[:, 0] + limits[:, 1])
    out = []
    for b in range(count):
        assert (found[:, b] >= 0).all()
        parts = [index[p, b, : found[p, b]][energy[p, b, : found[p, b]] < bound[b]] for p in range(PARTS)]
        out.append(set(np.concatenate(parts).tolist()))
        assert len(out[-1]) == sum(len(part) for part in parts)
    return out


@pytest.mark.parametrize("precision", ["double", "single"])
def test_every_state_that_matters_beside_the_best_two_is_a_candidate(case: Any, precision: str) -> None:
    logits = -case.beta[:, None] * exact_energies(case)
    below_second, below_best = cutoffs(case.y.shape, precision)
    for row, kept in zip(logits, chosen(case, precision), strict=True):
        second, best = np.sort(row)[-2:]
        wanted = np.flatnonzero(row > max(second - below_second, best - below_best) + 1e-6)
        assert set(wanted.tolist()) <= kept
        assert len(kept) < len(row) / 2  # else nothing is screened


def reference_sums(case: Any) -> Sums:
    return reference.boltzmann(reference.pack(*tensors(case.y, case.phi)), *case.tensors)


def assert_sums_agree(case: Any, got: Sums, want: Sums, allowed: float = 1e-12) -> None:
    rms = (2 * (want.energy_min + want.excess)).sqrt()
    y = torch.from_numpy(case.y)
    force = [(y[s.dominant].double() - case.tensors[0]) + s.shift for s in (got, want)]
    error = (force[0] - force[1]).norm(dim=1) / rms.clip(1e-300)
    assert (error <= allowed).all()
    assert (error <= got.error_bound + want.error_bound + 4 * 2.0**-53).all()
    rest = [s.log_rest.clip(-600) for s in (got, want)]  # below, weights are none
    assert ((rest[0] - rest[1]).abs() <= 10 * allowed * rest[1].abs().clip(1)).all()
    assert ((got.energy_min + got.excess - want.energy_min - want.excess).abs() <= allowed * rms**2).all()
    assert ((got.participation - want.participation).abs() <= 10 * allowed).all()


def test_sums_of_cold_queries_are_those_of_the_reference(case: Any) -> None:
    few, *_ = screen.screen(case.packed, case.codes, case.field, case.beta, "double")
    assert few.all()
    assert_sums_agree(case, numba.boltzmann(case.packed, *case.tensors), reference_sums(case))


@pytest.fixture(params=["cached", "later"])
def order(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forces of listed states at once, or a tile of states after the other."""
    monkeypatch.setattr(sparse, "CACHED_BYTES", 0 if request.param == "later" else np.inf)
    monkeypatch.setattr(sparse, "listed_tile", lambda dimension: 300)


@pytest.mark.usefixtures("order")
def test_sums_of_cold_queries_in_single_precision_are_right_to_its_promise(case: Any) -> None:
    few, *_ = screen.screen(case.packed, case.codes, case.field, case.beta, "single")
    assert few.all()
    want, got = reference_sums(case), numba.boltzmann(case.packed, *case.tensors, "single")
    assert_sums_agree(case, got, want, 1e-7)
    assert (got.error_bound < 1e-4).all()


def mixed(name: str) -> SimpleNamespace:
    """Hot queries among cold ones."""
    dtype, weighted, dimension = VARIANTS[name]
    y, phi = states(dtype, dimension), weights(weighted)
    field, beta = cold(y, phi, 9)
    beta[::3] *= 1e-5
    return make(y, phi, field, beta)


@pytest.mark.parametrize("name", ["weighted float32", "bytes"])
def test_hot_queries_of_a_batch_go_to_products_and_agree_too(name: str) -> None:
    case = mixed(name)
    few, *_ = screen.screen(case.packed, case.codes, case.field, case.beta, "double")
    assert few.any()
    assert not few.all()
    assert_sums_agree(case, numba.boltzmann(case.packed, *case.tensors), reference_sums(case))


@pytest.mark.parametrize("name", ["weighted float32", "bytes"])
def test_second_moments_over_candidates_are_those_of_the_reference(name: str) -> None:
    case = mixed(name)
    width = second_candidates(case.y.shape)
    probes = probe(case.packed, case.codes, case.field, case.beta)
    for block in screen.blocks(case.packed, case.codes, probes, case.field, case.beta, "double", width):
        assert 0 < block.few.sum() < len(block.few)
    want_sums, packed = reference_sums(case), reference.pack(*tensors(case.y, case.phi))
    sums = numba.boltzmann(case.packed, *case.tensors)
    want = reference.covariance(packed, *case.tensors, want_sums)
    got = numba.covariance(case.packed, *case.tensors, sums)
    size = want.diagonal(dim1=1, dim2=2).sum(1)
    assert ((got - want).abs().amax((1, 2)) <= 1e-10 * size).all()
    rng = np.random.default_rng(4)
    v = torch.from_numpy(rng.normal(size=(len(case.beta), 1, case.y.shape[1])))
    none = torch.zeros(len(case.beta), 1).double()
    product, slope = numba.cumulant(case.packed, *case.tensors, sums, v, none)
    true_product, true_slope = reference.cumulant(packed, *case.tensors, want_sums, v, none)
    assert ((product - true_product).norm(dim=1) <= 1e-9 * size * v[:, 0].norm(dim=1)).all()
    deviation = (want_sums.excess_square - want_sums.excess**2).clip(0).sqrt()
    assert ((slope - true_slope).abs() <= 1e-8 * deviation * size.sqrt() * v[:, 0].norm(dim=1) + 1e-280).all()
    one = numba.covariance(case.packed, *(x[3:4] for x in case.tensors), Sums(*(x[3:4] for x in sums)))
    assert torch.equal(one, got[3:4])


@pytest.mark.parametrize("unit", [1 / 255, 1 / 256, 2 / 255])
def test_floats_that_stand_for_bytes_have_their_codes(unit: float) -> None:
    images = states(np.uint8)
    y = (unit * images - 1 * (unit > 1 / 200)).astype(np.float32)
    codes = numba.pack(torch.from_numpy(y), torch.from_numpy(weights(False))).codes
    q = decoded(codes.get(numba.pack(torch.from_numpy(y), torch.from_numpy(weights(False)))), 40)[: len(y)]
    assert np.array_equal(q, images - images.min())
    assert codes.made.residual <= 1e-6


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_images_normalised_a_channel_at_a_time_have_their_codes(layout: str) -> None:
    images = states(np.uint8, 48)
    channel = np.arange(48) // 16 if layout == "channels first" else np.arange(48) % 3
    mean, deviation = (np.array(x)[channel] for x in ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]))
    y = ((images / 255 - mean) / deviation).astype(np.float32)
    packed = numba.pack(torch.from_numpy(y), torch.from_numpy(weights(False)))
    codes = packed.codes.get(packed)
    assert codes.exact
    lowest = np.array([images[:, channel == c].min() for c in range(3)])[channel]
    assert np.array_equal(decoded(codes, 48)[: len(y)], images - lowest)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("name", ["weighted float32", "bytes"])
def test_answers_do_not_depend_on_the_batch_or_its_order(name: str, precision: str) -> None:
    case = mixed(name)
    field, beta = case.tensors
    whole = numba.boltzmann(case.packed, field, beta, precision)
    for step in (1, 5):
        parts = [
            numba.boltzmann(case.packed, field[i : i + step], beta[i : i + step], precision)
            for i in range(0, len(beta), step)
        ]
        for column, *pieces in zip(whole, *parts, strict=True):
            assert torch.equal(column, torch.cat(pieces))
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(beta)))
    for column, other in zip(
        whole, numba.boltzmann(case.packed, field[shuffled], beta[shuffled], precision), strict=True
    ):
        assert torch.equal(column[shuffled], other)


def test_constant_dimensions_have_codes_and_sums() -> None:
    y = states(np.float32)
    y[:, 3], y[:, 30:] = 7.5, 0.0
    case = make(y, weights(True))
    assert (decoded(case.codes, 40)[:, [3, 39]] == 0).all()
    case.field[::2, 3] += 100.0  # far away along one of them
    case = make(y, case.phi, case.field, case.beta)
    few, *_ = screen.screen(case.packed, case.codes, case.field, case.beta, "double")
    assert few.any()
    assert_sums_agree(case, numba.boltzmann(case.packed, *case.tensors), reference_sums(case))


def test_a_query_on_the_anchor_has_sums() -> None:
    y = states(np.float32)
    case = make(y, weights(False), np.zeros((2, 40)), np.array([100.0, 1e4]))
    case = make(y, case.phi, np.stack([case.packed.anchor, case.packed.anchor]), case.beta)
    assert_sums_agree(case, numba.boltzmann(case.packed, *case.tensors), reference_sums(case))


def test_removed_states_carry_no_weight_where_they_are_nearest() -> None:
    y, phi = states(np.float32), weights(True)
    removed = np.flatnonzero(phi == -np.inf)[:20]
    case = make(y, phi, y[removed].astype(np.float64), np.geomspace(30, 1e4, 20))
    assert not set(removed.tolist()) & set().union(*chosen(case))
    few, (dominant, *_) = screen.screen(case.packed, case.codes, case.field, case.beta, "double")
    assert few.any()
    assert np.isfinite(phi[dominant]).all()
    assert_sums_agree(case, numba.boltzmann(case.packed, *case.tensors), reference_sums(case))


def test_few_states_or_dimensions_are_not_screened() -> None:
    for size, dimension in ((SCREEN_SIZE - 1, SCREEN_DIMENSION), (SCREEN_SIZE, SCREEN_DIMENSION - 1)):
        packed = numba.pack(torch.ones(size, dimension), torch.zeros(size).double())
        assert not packed.codes.worthwhile(packed)
