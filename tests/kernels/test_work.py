"""How much work the kernels do, counted: a regression guard that no clock can blur.

The stored counts are those of the code when it was last tuned; less is welcome, more is a decision to be taken.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastthermo.kernels import numba
from fastthermo.kernels.numba import dense, head, merge, screen
from fastthermo.kernels.numba.config import SEGMENT, query_block, tile_length

driver: Any = import_module("fastthermo.kernels.numba.products")

SLACK = 1.03  # other widths of vectors round otherwise
SIZE, DIMENSION, QUERIES = 8192, 64, 64

# (beta, precision) -> heads, moves of all queries. A head is a state summed alone, in float64: about as much as 30 in a
# tile. More heads: thresholds became stricter, or the guess of the sum of weights worse. A move is a new reference: if
# there are more, the first reference of a segment is chosen worse.
DENSE = {
    (0.05, "single"): (283, 347),  # N_eff about 800
    (0.05, "double"): (283, 347),
    (0.5, "single"): (795, 259),  # N_eff about 2
    (0.5, "double"): (195, 259),
    (30.0, "single"): (558, 214),  # one state
    (30.0, "double"): (494, 214),
}

# beta -> queries with few candidates, and their candidates in all. More candidates: the margin grew; fewer queries: so
# many candidates that the list overflowed, and the query is summed by products at ten times the cost.
SCREENED = {4.0: (64, 1240), 8.0: (64, 554), 300.0: (64, 220)}
TOO_HOT = 0.05  # whose queries are given up in the first of the parts

# (dimension, bytes of a number) -> tasks, tiles loaded and converted, multiplications and additions (in thousands of
# millions) for 1000 queries and 60000 states. More tasks or tiles: blocks or tiles became smaller.
LAYOUT = {
    (64, 4): (90, 1410, 15.36),
    (64, 8): (90, 1410, 15.36),
    (784, 4): (90, 5628, 192.0),
    (784, 8): (135, 16875, 188.16),
    (3072, 4): (255, 31875, 737.28),
}


@pytest.fixture(scope="module")
def latents() -> SimpleNamespace:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(SIZE, 16)) @ rng.normal(size=(16, DIMENSION)) / 4
    states = (signal + 0.3 * rng.normal(size=(SIZE, DIMENSION))).astype(np.float32)
    noise = rng.normal(size=(QUERIES, DIMENSION))
    packed = numba.pack(torch.from_numpy(states), torch.full((SIZE,), -np.log(SIZE)).double())
    return SimpleNamespace(packed=packed, states=states, noise=noise)


def query(latents: Any, beta: float) -> tuple[np.ndarray, np.ndarray]:
    return latents.states[:QUERIES] + latents.noise / np.sqrt(beta), np.full(QUERIES, beta)


def scalars_of(packed: Any, field: np.ndarray, beta: np.ndarray, precision: str) -> np.ndarray:
    dtype = driver.working_type(packed, precision)
    made = driver.plan(packed, field, beta, dtype, precision)
    guess = driver.guess_of(packed, field, beta, dtype)[0] if (made.level < 0).any() else np.full(len(beta), -np.inf)
    out: np.ndarray = driver._floats(
        packed, field, beta, made, guess, driver._scratch(packed, len(field)), dtype
    ).scalars
    return out


@pytest.mark.parametrize(("beta", "precision"), DENSE)
def test_products_leave_no_more_heads_and_moves_than_stored(latents: Any, beta: float, precision: str) -> None:
    scalars = scalars_of(latents.packed, *query(latents, beta), precision)
    heads, moves = scalars[:, head.HEAD].sum(), scalars[:, head.MOVES].sum()
    most_heads, most_moves = DENSE[beta, precision]
    assert heads + moves >= QUERIES  # the counts are counts
    assert heads <= SLACK * most_heads
    assert moves <= SLACK * most_moves


@pytest.mark.skipif(not screen.available(), reason="the CPU has no AVX-512 VNNI")
@pytest.mark.parametrize("beta", SCREENED)
def test_screening_leaves_no_more_candidates_than_stored(latents: Any, beta: float) -> None:
    field, betas = query(latents, beta)
    few, (_, _, scalars, *_) = screen.screen(
        latents.packed, latents.packed.codes.get(latents.packed), field, betas, "single"
    )
    queries, candidates = SCREENED[beta]
    assert few.sum() >= queries
    assert QUERIES <= scalars[:, head.HEAD].sum() <= SLACK * candidates


@pytest.mark.skipif(not screen.available(), reason="the CPU has no AVX-512 VNNI")
def test_hot_queries_are_given_up_in_the_first_part_of_the_states(
    latents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, screened = latents.packed, []
    original = screen.find_candidates

    def find(*arguments: Any) -> None:
        *_, rows, _, parts, _ = arguments
        screened.append((len(rows), parts))
        original(*arguments)

    monkeypatch.setattr(screen, "find_candidates", find)
    few, *_ = screen.screen(packed, packed.codes.get(packed), *query(latents, TOO_HOT), "double")
    assert not few.any()
    assert sum(count * parts for count, parts in screened) <= QUERIES


@pytest.mark.parametrize(("dimension", "itemsize"), LAYOUT)
def test_blocks_and_tiles_are_no_smaller_than_stored(dimension: int, itemsize: int) -> None:
    size, queries = 60000, 1000
    tile, limit = tile_length(dimension, itemsize), query_block(dimension, itemsize)
    assert SEGMENT % tile == 0
    segments, blocks = -(-size // SEGMENT), -(-queries // limit)
    loads = blocks * -(-size // tile)
    wide = 2 * 64 // itemsize
    products = 2 * 2 * size * queries * (-(-dimension // wide) * wide) / 1e9
    tasks, most_loads, most_products = LAYOUT[dimension, itemsize]
    assert segments * blocks <= tasks
    assert loads <= SLACK * most_loads
    assert products <= SLACK * most_products


def test_tasks_are_blocks_of_queries_by_segments_of_states(latents: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, original = {}, driver.run

    def run(kernel: Any, items: int, *arguments: Any) -> None:
        tasks[kernel] = items
        original(kernel, items, *arguments)

    monkeypatch.setattr(driver, "run", run)
    field, beta = query(latents, 0.5)
    made = driver.plan(latents.packed, field, beta, driver.SINGLE, "single")
    scratch = driver._scratch(latents.packed, QUERIES)
    driver._floats(latents.packed, field, beta, made, np.full(QUERIES, -np.inf), scratch, driver.SINGLE)
    assert tasks == {dense.dense_kernel: SIZE // SEGMENT, merge.merge_kernel: QUERIES}
