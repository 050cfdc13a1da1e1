"""Peers for trajectories: at every step a softmax over the states, by two products, and a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import Problem, TrajectoryProblem
from contest import Output, Run

from peers import mean
from peers.tiles import Tile, compile_form, inputs

Tensor = torch.Tensor
Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def eager(problem: TrajectoryProblem) -> Run:
    """Blocks of samples go through each step, in the form and the tile that a trial finds fastest for the mean."""
    tile = _tile(problem)
    return _run(problem, tile, _step(tile))


def compiled(problem: TrajectoryProblem) -> Run:
    """torch.compile of a step of a block, its coefficients a tensor."""
    tile = _tile(problem)
    return _run(problem, tile, compile_form(_step(tile)))


def _tile(problem: TrajectoryProblem) -> Tile:
    middle: Problem = problem.mean_problem(len(problem.table) // 2)
    return mean.fastest(inputs(middle), "trajectory")


def _step(tile: Tile) -> Step:
    def step(x: Tensor, y: Tensor, squares: Tensor, centre: Tensor, row: Tensor) -> Tensor:
        a, b, c, inverse, beta = row
        q, bias = beta * (inverse * x - centre), -beta / 2 * squares
        average = mean.sums(q, y, bias, tile, mean.FORMS[tile.form])[0] + centre
        return a * x + b * average + c * torch.randn_like(x)

    return step


def _run(problem: TrajectoryProblem, tile: Tile, step: Step) -> Run:
    centre = problem.states.mean(0, dtype=torch.float64).float()
    y = problem.states - centre
    squares = (y.double() ** 2).sum(1).float()
    table = problem.table.float().to(y.device)

    def call() -> Output:
        x = problem.x
        for row in table:
            x = torch.cat([step(block, y, squares, centre, row) for block in x.split(tile.rows)])
        return {"sample": x}

    return Run(call, len(problem.x), str(tile))
