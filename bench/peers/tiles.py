"""Queries by states in tiles: what every torch peer shares, and the choice of the tile by trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from cases import Problem
from contest import best_of

Tensor = torch.Tensor
LEAST, MOST = 2**19, {"cpu": 2**26, "cuda": 2**30}  # multiply-adds of a tile's product, numbers in a tile
STREAM = 2**24  # numbers of states that no cache keeps from one trial to the next
MEMORY = 4e9  # bytes that a peer may hold
FLOOR = -50.0  # logits below the top are raised to this: 2e-22 is nothing in float32, and no weight is a slow denormal


class Inputs(NamedTuple):
    """Logits are q y^T + bias; log Z~ is their logsumexp plus offset. States y are centred."""

    q: Tensor  # (B, D): beta (h - centre)
    y: Tensor  # (N, D)
    bias: Tensor  # (N,)
    offset: Tensor  # (B,)
    centre: Tensor  # (D,)


@lru_cache(maxsize=1)
def inputs(problem: Problem) -> Inputs:
    """The layout that suits torch best; sums in float64 before they are rounded."""
    centre = sum(block.sum(0, dtype=torch.float64) for block in problem.states.split(4096)) / len(problem.states)
    centre = centre.float()
    y = problem.states - centre
    h = problem.field.double() - centre.double()
    squares = torch.cat([(block.double() ** 2).sum(1) for block in y.split(4096)])
    offset = -problem.beta * (h**2).sum(1) / 2 - math.log(len(y))
    return Inputs((problem.beta * h).float(), y, (-problem.beta * squares / 2).float(), offset.float(), centre)


def weights(x: Inputs) -> Tensor:
    """Boltzmann weights of all queries, (B, N)."""
    logits = torch.addmm(x.bias, x.q, x.y.T)
    out = logits.sub_(logits.amax(1, keepdim=True)).clamp_(min=FLOOR).exp_()
    return out.div_(out.sum(1, keepdim=True))


class Tile(NamedTuple):
    """A form of the computation, and the queries and states that it takes at a time."""

    form: str
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.form}, tiles of {self.rows} x {self.columns}"


def candidates(x: Inputs, whole: Iterable[str], split: Iterable[str]) -> list[Tile]:
    """Tiles of all states for the forms `whole`, of some states for the forms `split`."""
    queries, (states, dimension) = len(x.q), x.y.shape
    rows = sorted({queries, *(4**k for k in range(2, 8) if 4**k < queries)})
    columns = [n for n in (1024, 4096, 16384) if n < states]
    tiles = [Tile(form, r, states) for form in whole for r in rows]
    tiles += [Tile(form, r, c) for form in split for r in rows for c in columns]
    fitting = [t for t in tiles if LEAST / dimension <= t.rows * t.columns <= MOST[x.y.device.type]]
    return fitting or tiles[:1]


_CHOSEN: dict[tuple[Any, ...], Tile] = {}


def choose(tiles: list[Tile], x: Inputs, part: Callable[[Tile, int, int], Any], key: str) -> Tile:
    """The fastest tile; part(tile, rows, columns) computes that much of the problem. One trial a `key` and shape."""
    queries, (states, dimension) = len(x.q), x.y.shape
    known = (key, queries, states, dimension, *tiles)

    def cost(tile: Tile) -> float:
        streamed = STREAM // dimension if tile.rows <= 64 else 0
        columns = min(states, max(2 * tile.columns, streamed))
        seconds = best_of(lambda: part(tile, tile.rows, columns))
        return seconds * math.ceil(queries / tile.rows) * states / columns

    if known not in _CHOSEN:
        _CHOSEN[known] = tiles[0] if len(tiles) == 1 else min(tiles, key=cost)
    return _CHOSEN[known]


def compile_form(form: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile for fixed shapes, as many of them as there are, with the fast random numbers of eager torch."""
    torch._dynamo.config.recompile_limit = 256
    return torch.compile(form, dynamic=False, options={"fallback_random": True})
