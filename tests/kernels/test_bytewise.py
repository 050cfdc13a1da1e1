"""Sums by integer products, where bytes stand for the states: exact integers, and forces to 1e-6 at any temperature."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numba as compiler
import numpy as np
import pytest
import torch

from fastthermo.kernels import Sums, numba, reference
from fastthermo.kernels.numba import bytewise, matrix, octet_sums, octets, screen
from fastthermo.kernels.numba.codes import LARGEST, SLACK
from fastthermo.kernels.numba.scratch import aligned

products: Any = import_module("fastthermo.kernels.numba.products")
cumulants: Any = import_module("fastthermo.kernels.numba.cumulant")
pytestmark = pytest.mark.skipif(not screen.available(), reason="the CPU has no AVX-512 VNNI")

SIZE = 9000  # three segments, the last of them short
BETAS = np.geomspace(1e-6, 1e6, 13)
UNITS = {"bytes": 1.0, "bytes / 256": 1 / 256, "bytes / 255": 1 / 255}
DIGITS = [2, 3]


@pytest.fixture(params=["vectors", "matrix"])
def unit(request: Any) -> np.ndarray | None:
    """What multiplies: vector units, or the matrix unit."""
    if request.param == "vectors":
        return None
    if matrix.tiles() is None:
        pytest.skip("no matrix unit here")
    return matrix.tiles()


@compiler.njit
def project(
    codes: Any, padded: Any, probes: Any, starts: Any, scale: Any, offset: Any, base: Any, out: Any, digits: Any,
    rows: Any, unit: Any,
):  # type: ignore[no-untyped-def] # fmt: skip
    left, sums = matrix.scratch(unit, len(scale), probes, starts)
    matrix.configure(unit)
    matrix.arrange(unit, probes, 0, len(scale), left)
    octets.project(
        codes, 0, padded, probes, starts, scale, offset, 0, len(scale), base, 32, out, 0, out.shape[1], digits, rows,
        unit, left, sums,
    )  # fmt: skip
    matrix.release(unit)


@compiler.njit
def sum_up(codes: Any, weights: Any, anchor: Any, mean: Any, digits: Any, rows: Any, unit: Any):  # type: ignore[no-untyped-def]
    count, tile = weights.shape
    steps, sums = np.empty(count, np.float32), np.empty(16, np.int32)
    written = np.zeros((matrix.whole_rows(count * len(digits)), tile), np.int8)
    totals = np.empty((count, len(digits)), np.int32)
    flipped = aligned(tile * octet_sums.BLOCK, codes[0, 0, 0])
    products = aligned(written.shape[0] * matrix.COLUMNS, totals[0])
    dither = np.empty(tile, np.float32)
    octet_sums.fill_dither(dither)
    for q in range(count):
        steps[q] = octet_sums.write(weights, q, tile, tile, dither, written, sums, totals, digits)[0]
    matrix.configure(unit)
    octet_sums.gather(
        codes, 0, tile, flipped, written, tile, totals, anchor, steps, count, mean, mean.shape[1], digits, rows, unit,
        products,
    )  # fmt: skip
    matrix.release(unit)
    return written[: count * len(digits)].reshape(count, len(digits), tile), steps


def tile(dimension: int, panels: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes (N, D), and the same as codes."""
    rng = np.random.default_rng(dimension)
    q, quads = rng.integers(0, 256, (32 * panels, dimension)), -(-dimension // 4)
    flat = np.zeros(32 * panels * 4 * quads + SLACK, np.uint8)
    codes = flat[:-SLACK].reshape(panels, quads, 32, 4)
    padded = np.pad(q, ((0, 0), (0, 4 * quads - dimension)))
    codes[...] = padded.reshape(panels, 32, quads, 4).transpose(0, 2, 1, 3)
    return q, codes


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize(("dimension", "queries"), [(33, 1), (40, 7), (64, 12), (784, 5)])
def test_products_with_queries_are_exact_but_for_their_last_rounding(
    dimension: int, queries: int, digits: int, unit: np.ndarray | None
) -> None:
    q, codes = tile(dimension, 3)
    rng = np.random.default_rng(queries)
    digit = rng.integers(-128, 128, (queries, digits, dimension))
    digit[0] = 127  # as large as they come
    origin = rng.integers(0, 256, dimension)
    probes = np.zeros((queries, digits, 4 * codes.shape[1]), np.int8)
    probes[..., :dimension] = digit
    starts = -(digit * origin).sum(2).astype(np.int32)
    scale, offset = rng.random((2, queries)).astype(np.float32)
    base = rng.random(32 + len(q)).astype(np.float32)
    out = np.full((queries, len(q)), np.nan, np.float32)
    project(codes, len(q), probes, starts, scale, offset, base, out, (0,) * digits, octets.ROWS[digits], unit)
    k = (digit * 256 ** np.arange(digits)[:, None]).sum(1)
    exact = k @ (q - origin).T
    want = base[32:] + offset[:, None].astype(float) - scale[:, None] * exact
    size = scale[:, None] * np.abs(digit[:, -1] @ (q - origin).T) * 256 ** (digits - 1) + np.abs(want) + 1
    assert (np.abs(out - want) <= 2.0**-22 * size).all()


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize(("dimension", "queries"), [(33, 1), (40, 7), (64, 12), (784, 5)])
def test_sums_of_states_are_exact_but_for_the_steps_of_weights(
    dimension: int, queries: int, digits: int, unit: np.ndarray | None
) -> None:
    q, codes = tile(dimension, 8)
    rng = np.random.default_rng(queries)
    weights = np.exp(-3 * rng.normal(size=(queries, len(q))) ** 2).astype(np.float32)
    weights[::2] *= rng.choice([-1, 1], len(q))
    weights[:, ::3], weights[-1] = 0.0, 0.0
    weights[0] = 1.0
    origin, depth = np.zeros(-(-dimension // 32) * 32, np.int32), -(-dimension // 32) * 32
    origin[:dimension] = rng.integers(0, 256, dimension)
    mean = np.zeros((queries, depth), np.float32)
    written, steps = sum_up(codes, weights, origin, mean, (0,) * digits, octets.ROWS[digits], unit)
    k = np.einsum("qdn,d->qn", written.astype(np.int64), 256 ** np.arange(digits))
    assert (np.abs(k) <= LARGEST[digits] + 1).all()
    step = np.abs(weights).max(1).astype(float) / LARGEST[digits]
    assert (np.abs(step[:, None] * k - weights) <= (1.6 if digits == 3 else 1.01) * step[:, None]).all()
    assert np.allclose(steps, step, rtol=1e-6)
    exact = steps[:, None] * (k @ (q - origin[:dimension])).astype(float)
    size = steps[:, None] * (np.abs(k) @ np.abs(q - origin[:dimension])).astype(float)
    assert (np.abs(mean[:, :dimension] - exact) <= 2.0**-21 * size + 1e-30).all()


def problem(unit: float, dimension: int = 50, weighted: bool = True) -> SimpleNamespace:
    """Images of three kinds; at every temperature queries on their paths, on ties, near ties and far from all."""
    rng = np.random.default_rng(dimension)
    centres = rng.integers(40, 210, (3, dimension))
    bytes_ = np.clip(centres[rng.integers(0, 3, SIZE)] + 25 * rng.normal(size=(SIZE, dimension)), 0, 255)
    bytes_[0], bytes_[1] = 0, 255  # the whole range
    y = bytes_.astype(np.uint8) if unit == 1 else (unit * np.floor(bytes_)).astype(np.float32)
    log_weights = np.log(rng.dirichlet(np.full(SIZE, 0.5)) + 1e-200) if weighted else np.full(SIZE, -np.log(SIZE))
    if weighted:
        log_weights[rng.permutation(SIZE)[: SIZE // 5]] = -np.inf
    spread, states = 60 * unit, y.astype(np.float64)
    own, other = states[rng.integers(0, SIZE, (2, len(BETAS)))]
    path = own + spread * rng.normal(size=own.shape) / np.sqrt(BETAS)[:, None]
    ties, far = (own + other) / 2, 30 * (own - states.mean(0)) / np.linalg.norm(own - states.mean(0), axis=1)[:, None]
    near = ties + 1e-7 * (own - other) * rng.normal(size=(len(BETAS), 1))
    field = np.concatenate([path, ties, near, own + far * 256 * unit])
    beta = np.tile(BETAS, 4) / spread**2
    given = [torch.from_numpy(x) for x in (y, log_weights, field, beta)]
    packed = numba.pack(*given[:2])
    want = reference.boltzmann(reference.pack(*given[:2]), *given[2:])
    return SimpleNamespace(packed=packed, y=given[0], field=given[2], beta=given[3], want=want)


@pytest.fixture(scope="module", params=[(unit, weighted) for unit in UNITS for weighted in (False, True)], ids=str)
def case(request: Any) -> SimpleNamespace:
    name, weighted = request.param
    return problem(UNITS[name], weighted=weighted)


def by_products(case: Any, rows: slice | np.ndarray = slice(None)) -> Sums:
    sums: Sums = products.by_products(case.packed, case.field.numpy()[rows], case.beta.numpy()[rows], "single")
    return sums


def force_error(case: Any, got: Sums) -> torch.Tensor:
    rms = (2 * (case.want.energy_min + case.want.excess)).sqrt()
    force = [(case.y[s.dominant].double() - case.field) + s.shift for s in (got, case.want)]
    return (force[0] - force[1]).norm(dim=1) / rms


def log_evidence(case: Any, sums: Sums) -> torch.Tensor:
    phi = torch.from_numpy(case.packed.log_weights)
    return phi[sums.dominant] + torch.log1p(sums.log_rest.exp()) - case.beta * sums.energy_min


def test_forces_evidence_and_energies_are_right_at_every_temperature(case: Any) -> None:
    got, want = by_products(case), case.want
    error = force_error(case, got)
    assert (error <= 1e-6).all()
    assert (error <= got.error_bound + want.error_bound + 4 * 2.0**-53).all()
    gap, size = (log_evidence(case, got) - log_evidence(case, want)).abs(), log_evidence(case, want).abs().clip(1)
    assert (gap <= 1e-6 * size).all()
    assert (gap <= got.log_error + want.log_error + 1e-14 * size).all()
    energy = want.energy_min + want.excess
    assert ((got.energy_min + got.excess - energy).abs() <= 3e-6 * energy).all()
    assert ((got.participation - want.participation).abs() <= 1e-5).all()


def test_temperatures_reach_from_one_state_to_all(case: Any) -> None:
    phi = torch.from_numpy(case.packed.log_weights).exp()
    n_eff = 1 / case.want.participation
    assert n_eff.min() < 1 + 1e-6
    assert n_eff.max() > 0.99 * phi.sum() ** 2 / phi.square().sum()


def test_answers_do_not_depend_on_the_batch_or_its_order(case: Any) -> None:
    whole, queries = by_products(case), len(case.beta)
    for step in (1, 5):
        parts = [by_products(case, slice(i, i + step)) for i in range(0, queries, step)]
        for column, *pieces in zip(whole, *parts, strict=True):
            assert torch.equal(column, torch.cat(pieces))
    order = np.random.default_rng(0).permutation(queries)
    for column, other in zip(whole, by_products(case, order), strict=True):
        assert torch.equal(column[torch.from_numpy(order)], other)


@pytest.mark.parametrize("orders", [1, 2])
def test_cumulants_are_right_relative_to_the_ensemble_at_every_temperature(case: Any, orders: int) -> None:
    rng = np.random.default_rng(orders)
    count, dimension = case.field.shape
    probes = torch.from_numpy(rng.normal(size=(count, orders, dimension)))
    slopes = case.beta[:, None] * torch.from_numpy(rng.normal(size=(count, orders))) / case.field.std()
    kept = ("dominant", "shift", "log_rest", "excess")  # what second passes are given
    known = Sums(*(x if name in kept else None for name, x in case.want._asdict().items()))
    given = (case.field, case.beta, known, probes, slopes)
    needed = cumulants._digits(case.packed, case.field.numpy(), case.beta.numpy(), "single")
    assert 3 in needed
    assert (2 in needed) == (not case.packed.weighted)
    got, got_energy = (torch.zeros(count, dimension).double(), torch.zeros(count).double())
    for digits in set(needed.tolist()):
        rows = torch.from_numpy(needed == digits)
        part = Sums(*(None if x is None else x[rows] for x in known))
        some = (x[rows] for x in (case.field, case.beta))
        got[rows], got_energy[rows] = cumulants._by_products(
            case.packed, *some, part, probes[rows], slopes[rows], "single", digits
        )
    phi = torch.from_numpy(case.packed.log_weights)
    want, want_energy = reference.cumulant(reference.pack(case.y, phi), *given)
    y = case.y.double()
    gap = (y - y[case.want.dominant][:, None]).square().sum(2) / 2
    gap += torch.einsum("bnd,bd->bn", y - y[case.want.dominant][:, None], y[case.want.dominant] - case.field)
    logits = phi - phi[case.want.dominant][:, None] - case.beta[:, None] * gap
    weights = logits.exp() / (1 + case.want.log_rest.exp())[:, None]
    away = y - (y[case.want.dominant] + case.want.shift)[:, None]
    a = torch.einsum("bnd,bkd->bkn", away, probes) + slopes[..., None] * (gap - case.want.excess[:, None])[:, None]
    mass = (weights + 1e-26) * a.abs().prod(1)  # less than 1e-26 of the dominant weight counts as none
    size, slope = (mass * away.norm(dim=2)).sum(1), (mass * (gap - case.want.excess[:, None]).abs()).sum(1)
    assert ((got - want).norm(dim=1) <= 1e-5 * size).all()
    assert ((got_energy - want_energy).abs() <= 1e-4 * slope).all()


class Calls:
    """Kernels that ran: the digits and the number of queries of those that are bytewise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.digits: list[tuple[int, int]] = []
        original = products._dense

        def dense(packed: Any, field: np.ndarray, *others: Any) -> Any:
            self.digits.append((others[-1] if len(others) == 6 else 0, len(field)))
            return original(packed, field, *others)

        monkeypatch.setattr(products, "_dense", dense)


def test_two_digits_serve_where_most_states_matter_and_three_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    case = problem(1 / 256, weighted=False)
    calls = Calls(monkeypatch)
    by_products(case)
    used = dict(calls.digits)
    assert set(used) == {2, 3, 0}  # at the lowest temperatures products decide nothing, and float64 takes over
    assert used[2] >= 4
    assert used[3] >= 4


def test_a_state_that_no_sample_shows_makes_the_digits_three(monkeypatch: pytest.MonkeyPatch) -> None:
    case = problem(1 / 256, weighted=False)
    log_weights = np.full(SIZE, -np.log(SIZE))
    heavy = 4  # in no sample of every eighth state
    log_weights[heavy : heavy + 3] += np.log(500.0)
    packed = numba.pack(case.y, torch.from_numpy(log_weights))
    assert 500 not in np.exp(packed.sample().log_weights)
    field, beta = case.field[:1], torch.full((1,), 1e-6).double()
    calls = Calls(monkeypatch)
    got = products.by_products(packed, field.numpy(), beta.numpy(), "single")
    assert calls.digits == [(2, 1), (3, 1)]
    want = reference.boltzmann(reference.pack(case.y, torch.from_numpy(log_weights)), field, beta)
    assert (got.shift - want.shift).norm() <= 1e-6 * want.energy_min.sqrt()


def test_floats_that_are_no_bytes_are_multiplied_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.from_numpy(np.random.default_rng(0).normal(size=(SIZE, 40)).astype(np.float32))
    packed = numba.pack(y, torch.full((SIZE,), -np.log(SIZE)).double())
    assert not packed.codes.get(packed).exact
    calls = Calls(monkeypatch)
    products.by_products(packed, y[:3].double().numpy(), np.full(3, 0.1), "single")
    assert calls.digits == [(0, 3)]


def test_weights_that_differ_by_less_than_a_step_are_told_apart_on_average(unit: np.ndarray | None) -> None:
    weights = np.linspace(1 - 1e-5, 1, 256, dtype=np.float32)[None]
    q, codes = tile(40, 8)
    q[:], codes[...] = 0, 0
    codes[4:, 0, :, 0] = 200  # the heavier half
    mean = np.zeros((1, 64), np.float32)
    sum_up(codes, weights, np.full(64, 100, np.int32), mean, (0, 0), octets.ROWS[2], unit)
    want = 100 * (weights[0, 128:].sum(dtype=float) - weights[0, :128].sum(dtype=float))
    assert want > 0.05
    assert abs(mean[0, 0] - want) < 0.2 * want


def test_weights_too_small_for_float32_digits_are_no_nan(unit: np.ndarray | None) -> None:
    q, codes = tile(40, 8)
    weights = np.array([0.0, 1e-36] * 128, np.float32)[None]
    mean = np.zeros((1, 64), np.float32)
    sum_up(codes, weights, np.zeros(64, np.int32), mean, (0, 0, 0), octets.ROWS[3], unit)
    assert np.allclose(mean[0, :40], 1e-36 * q[1::2].sum(0), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", ["no queries", "equal states", "one query"])
def test_nothing_to_sum_is_no_error(kind: str) -> None:
    y = torch.full((SIZE, 40), 7, dtype=torch.uint8)
    if kind != "equal states":
        y = torch.randint(0, 256, (SIZE, 40), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    packed = numba.pack(y, torch.full((SIZE,), -np.log(SIZE)).double())
    assert packed.codes.get(packed).exact
    count = {"no queries": 0, "equal states": 3, "one query": 1}[kind]
    field, beta = torch.full((count, 40), 9.0).double(), torch.full((count,), 1e-4).double()
    got = numba.boltzmann(packed, field, beta, "single")
    want = reference.boltzmann(reference.pack(y, torch.full((SIZE,), -np.log(SIZE)).double()), field, beta)
    assert got.shift.shape == (count, 40)
    assert torch.allclose(got.shift, want.shift, rtol=0, atol=1e-4)
    assert torch.allclose(got.log_rest, want.log_rest)


def test_a_tile_is_as_long_as_integers_hold() -> None:
    tile = bytewise.BYTE_TILE
    assert 255 * 128 * tile * 2 < 2**31
    assert tile % matrix.STEP == 0
