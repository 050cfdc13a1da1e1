"""Peers for the covariance matrices C = sum w (y - m)(y - m)^T, weights included."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import Problem
from contest import Output, Run, UnableError

from peers.tiles import MEMORY, Inputs, Tile, choose, inputs, weights

Tensor = torch.Tensor
SECOND: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loop": lambda w, y: torch.stack([(row[:, None] * y).T @ y for row in w]),
    "einsum": lambda w, y: torch.einsum("bn,ni,nj->bij", w, y, y),
    "batched": lambda w, y: ((w[:, None] * y.T).reshape(-1, len(y)) @ y).view(len(w), y.shape[1], -1),
}


def loop(problem: Problem) -> Run:
    """A weighted product a query."""
    return _tiled(problem, "loop")


def einsum(problem: Problem) -> Run:
    """torch.einsum of weights and states."""
    return _tiled(problem, "einsum")


def batched(problem: Problem) -> Run:
    """The weighted states of several queries, stacked, in one product."""
    return _tiled(problem, "batched")


def khatri_rao(problem: Problem) -> Run:
    """Weights times the table of all y_i y_j, i <= j, which is made beforehand."""
    x = inputs(problem)
    upper = torch.triu_indices(*2 * (x.y.shape[1],), device=x.y.device)
    size = 4 * len(x.y) * upper.shape[1]
    if size > MEMORY:
        raise UnableError(f"its table takes {size / 1e9:.0f} GB")
    table = torch.cat([(block[:, :, None] * block[:, None])[:, upper[0], upper[1]] for block in x.y.split(1024)])

    def call() -> Output:
        w = weights(x)
        second = x.q.new_empty(len(x.q), *2 * (x.y.shape[1],))
        second[:, upper[0], upper[1]] = w @ table
        second[:, upper[1], upper[0]] = second[:, upper[0], upper[1]]
        return _centred(second, w @ x.y)

    return Run(call, len(x.q), f"y_i y_j made beforehand, {size / 1e6:.0f} MB")


def _tiled(problem: Problem, form: str) -> Run:
    x = inputs(problem)
    tile = _fastest(x, form)

    def call() -> Output:
        w = weights(x)
        second = torch.cat([_second(rows, x.y, tile) for rows in w.split(tile.rows)])
        return _centred(second, w @ x.y)

    return Run(call, len(x.q), f"tiles of {tile.rows} x {tile.columns}")


def _fastest(x: Inputs, form: str) -> Tile:
    queries, (states, dimension) = len(x.q), x.y.shape
    rows = [min(16, queries)] if form == "loop" else [r for r in (1, 4, 16, 64) if r <= queries]
    columns = {states, *(n for n in (1024, 4096, 16384) if n < states)}
    tiles = [Tile(form, r, c) for r in rows for c in sorted(columns)]
    fitting = [tile for tile in tiles if form == "loop" or tile.rows * tile.columns * dimension <= 2**26]
    w = x.q.new_full((queries, states), 1 / states)

    def part(tile: Tile, rows: int, columns: int) -> None:
        _second(w[:rows, :columns], x.y[:columns], tile)

    return choose(fitting or tiles[:1], x, part, "covariance")


def _second(w: Tensor, y: Tensor, tile: Tile) -> Tensor:
    total = w.new_zeros(len(w), *2 * (y.shape[1],))
    for block, part in zip(y.split(tile.columns), w.split(tile.columns, 1), strict=True):
        total += SECOND[tile.form](part, block)
    return total


def _centred(second: Tensor, mean: Tensor) -> Output:
    return {"covariance": second.sub_(mean[:, :, None] * mean[:, None])}
