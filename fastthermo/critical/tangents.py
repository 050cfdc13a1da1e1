"""Finite-time Lyapunov exponents of the probability flow.

In field units, with tau = sigma/alpha = sqrt s, it is dh/dlog tau = h - <y>, and its tangents obey

    dv/dlog tau = (1 - beta C) v

so that on cooling directions of gain above 1 grow and the others shrink (Raya & Ambrogioni 2023).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo._arrays import Queries, check_leading, whole
from fastthermo.critical.newton import force
from fastthermo.process import Process, check_process

if TYPE_CHECKING:
    import torch

REACH, WEIGHT = (0.0, 0.5, 0.5, 1.0, 0.0), (1, 2, 2, 1)  # of the stages of Runge-Kutta, in steps and in sixths
SPARE, ROUNDS, SETTLED = 4, 6, 1e-3  # tangents more than asked for, times up and down, change of log growth
TURNS = 8  # up and down among the tangents themselves


class Step(NamedTuple):
    """Of the flow: the field where it begins, log tau there, and its length."""

    field: torch.Tensor  # (B, D)
    log_tau: float
    length: float


class Lyapunov(NamedTuple):
    """Growth of the k tangents of the probability flow that grow most, from first to last time, in field units."""

    times: np.ndarray  # (T + 1,), decreasing
    field: Any  # (B, ...) at the last time
    log_growth: np.ndarray  # (T + 1, B, k) since the first time
    exponents: np.ndarray  # (B, k) log growth over log(tau_first / tau_last), decreasing
    tangents: np.ndarray  # (B, k, D) orthonormal, at the last time

    def __repr__(self) -> str:
        ends = f"t = {self.times[0]:.6g} to {self.times[-1]:.6g}"
        batch, k = self.exponents.shape
        return f"Lyapunov({batch} x {k} exponents up to {self.exponents.max():.6g}, {ends})"


def lyapunov(
    model: Any, process: Process, x: Any, t_start: float, t_end: float, k: int = 1, steps: int = 128
) -> Lyapunov:
    """The k fastest-growing tangents of the probability flow from x (D,) or (B, D) at t_start down to t_end.

    Runge-Kutta of order four, uniform in log tau; tangents are orthonormalised after every step (Benettin et al. 1980).
    C is symmetric, so that the transpose of the flow is its steps in reverse order: k tangents and SPARE more, random
    at first, go down, and up and down again ROUNDS times at most, until no growth changes by SETTLED. (Down once,
    random ones are log sqrt(D) short of the growth of the fastest.) The response is asked 4 times a step on each of
    these 3 to 13 ways. Where a model's is not symmetric, tangents other than those found may grow more.

    In one dimension the growth is p_start(h) / p_end(h'), since the flow conserves probability.

    Raises
    ------
    ValueError for a k that is not from 1 to D, fewer than one step and times that do not decrease in the process;
    TypeError for what is no process.
    """
    import torch

    check_process(process)
    check_leading(k, model.dimension)
    whole("steps", steps, 1)
    times = process.times(steps + 1, t_start, t_end)
    alpha, beta = process.alpha(times), process.beta(times)
    q = Queries.read(x, float(beta[0]), model.dimension, model.device, "x")
    h = q.field / float(alpha[0])
    batch, size = h.shape
    log_tau = -np.log(beta) / 2
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(batch, size, min(size, k + SPARE), dtype=torch.float64, generator=generator).to(h.device)
    path = []
    with torch.no_grad():
        for now, after in pairwise(log_tau.tolist()):
            path.append(Step(h, now, after - now))
            h = _stages(model, path[-1])[1]
        factors, v = _sweep(model, path, torch.linalg.qr(v)[0].mT, True)
        growth, turn = _fastest(factors)
        for _ in range(ROUNDS if size > 1 else 0):
            before = growth[-1]
            factors, v = _sweep(model, path, _sweep(model, path, turn.mT @ v, False)[1], True)
            growth, turn = _fastest(factors)
            if bool(((growth[-1] - before)[:, :k].abs() < SETTLED).all()):
                break
        v = turn.mT @ v
    total = torch.stack(growth)[..., :k].cpu().numpy()
    exponents = total[-1] / (log_tau[0] - log_tau[-1])
    return Lyapunov(times, q.vector(h), total, exponents, v[:, :k].cpu().numpy())


def _stages(model: Any, step: Step) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Fields and inverse temperatures of the stages of a step, and the field at its end."""
    import torch

    h, now, d = step
    points, slope, end = [], torch.zeros_like(h), h
    for reach, weight in zip(REACH, WEIGHT, strict=False):
        point, b = h + reach * d * slope, h.new_full((len(h),), float(np.exp(-2 * (now + reach * d))))
        slope = -force(model, point, b)
        end = end + weight * d / 6 * slope
        points.append((point, b))
    return points, end


def _sweep(model: Any, path: list[Step], v: torch.Tensor, down: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Tangents (B, K, D) taken through the flow, or up through its transpose; their factor R of every step."""
    import torch

    factors = []
    for step in path if down else path[::-1]:
        points, d = _stages(model, step)[0], step.length
        total, slope = v, torch.zeros_like(v)
        for i in range(4) if down else range(3, -1, -1):
            point, b = points[i]
            apply, _ = model.response(point, b)
            at = v + REACH[i] * d * slope if down else WEIGHT[i] * v + REACH[i + 1] * d * slope
            slope = at - b[:, None, None] * apply(at.contiguous())
            total = total + (WEIGHT[i] if down else 1) * d / 6 * slope
        columns, r = torch.linalg.qr(total.mT)
        factors.append(r)
        v = columns.mT
    return factors, v


def _fastest(factors: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Log growth (B, K) after every step of a sweep, fastest first, and what turns its tangents to these (B, K, K).

    The singular values of the product of the factors (B, K, K), by sweeps over these: the product itself may overflow.
    """
    import torch

    turn = torch.eye(factors[0].shape[1], dtype=torch.float64, device=factors[0].device).expand_as(factors[0])
    for _ in range(TURNS if len(turn[0]) > 1 else 0):
        for r in [*factors, *(r.mT for r in factors[::-1])]:
            turn = torch.linalg.qr(r @ turn)[0]
    growth = [turn.new_zeros(turn.shape[:2])]
    for r in factors:
        turn, left = torch.linalg.qr(r @ turn)
        growth.append(growth[-1] + left.diagonal(dim1=1, dim2=2).abs().log())
    return growth, turn
