"""Peers for C v = sum w (v.(y - m)) (y - m), given the mean and log Z, as ours is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import Problem
from contest import Output, Run

from peers.mean import FORMS, answer, fastest
from peers.tiles import FLOOR, Tile, candidates, choose, compile_form, inputs

Tensor = torch.Tensor
Block = Callable[..., tuple[Tensor, Tensor]]


def block_form(q: Tensor, y: Tensor, bias: Tensor, log_sum: Tensor, v: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """sum w a y and sum w a over a block of states, a = v.y - shift."""
    weights = torch.addmm(bias, q, y.T).sub_(log_sum).clamp_(min=FLOOR).exp_()
    weights.mul_(torch.addmm(-shift, v, y.T))
    return weights @ y, weights.sum(1, keepdim=True)


def chunked(problem: Problem) -> Run:
    """Three products, in the tile that a trial finds fastest."""
    return _run(problem, block_form)


def compiled(problem: Problem) -> Run:
    """torch.compile of the same."""
    return _run(problem, compile_form(block_form))


def _run(problem: Problem, block: Block) -> Run:
    x, v = inputs(problem), problem.probes
    best = fastest(x, problem.temperature)
    first = answer(x, best, FORMS[best.form])
    mean, log_sum = first["mean"] - x.centre, (first["log_evidence"] - x.offset)[:, None]
    rows = (x.q, log_sum, v, (v * mean).sum(1, keepdim=True), mean)

    def part(tile: Tile, count: int, columns: int, block: Block = block_form) -> Tensor:
        return _rows(tuple(r[:count] for r in rows), x.y[:columns], x.bias[:columns], tile, block)

    tile = choose(candidates(x, ("C v",), ("C v",)), x, part, f"response, {problem.temperature}")

    def call() -> Output:
        blocks = zip(*(r.split(tile.rows) for r in rows), strict=True)
        return {"response": torch.cat([_rows(b, x.y, x.bias, tile, block) for b in blocks])}

    return Run(call, len(x.q), str(tile))


def _rows(rows: tuple[Tensor, ...], y: Tensor, bias: Tensor, tile: Tile, block: Block) -> Tensor:
    q, log_sum, v, shift, mean = rows
    total, weight = torch.zeros_like(q), torch.zeros_like(shift)
    for states, part in zip(y.split(tile.columns), bias.split(tile.columns), strict=True):
        moment, sum_ = block(q, states, part, log_sum, v, shift)
        total += moment
        weight += sum_
    return total.addcmul_(weight, mean, value=-1)
