"""Along the landscape and down the flow: slices and differences of F~, committors, tangents, Lyapunov exponents.

The probability flow in field units, with tau = sigma/alpha = sqrt s, is dh/dlog tau = h - <y>, and its tangents obey

    dv/dlog tau = (1 - beta C) v

so that on cooling directions of gain above 1 grow and the others shrink (Raya & Ambrogioni 2023). The posterior weights
of clean data are martingales of the reverse process: the chance to end in a class is its class posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo._arrays import Queries, check_leading, is_torch, read_rows, whole
from fastthermo.critical.newton import force
from fastthermo.ensemble.mixture import check_split
from fastthermo.process import Process, check_process
from fastthermo.sampling import sample

if TYPE_CHECKING:
    import torch

NODES, PANELS = 16, 8  # of Gauss-Legendre quadrature along a segment
REACH, WEIGHT = (0.0, 0.5, 0.5, 1.0, 0.0), (1, 2, 2, 1)  # of the stages of Runge-Kutta, in steps and in sixths
SPARE, ROUNDS, SETTLED = 4, 6, 1e-3  # tangents more than asked for, times up and down, change of log growth
TURNS = 8  # up and down among the tangents themselves


class Slice(NamedTuple):
    """F~ minus its value at the origin on a line (n,) or plane (n, n) of fields, and the coordinates of each axis."""

    coordinates: tuple[np.ndarray, ...]
    free_energy: np.ndarray


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


def climb(model: Any, a: torch.Tensor, b: torch.Tensor, beta: float) -> float:
    """F~(b) - F~(a) of two fields (D,): of a law exactly, else the integral of h - <y> along the segment.

    On fixed nodes, fast and smooth in beta, as roots are looked for; `paths.free_energy_difference` tells its errors.
    """
    import torch

    if hasattr(model, "boltzmann"):
        values = model.boltzmann(torch.stack([a, b]), beta).regularised_free_energy
        return float(values[1] - values[0])
    return float(_work(model, a[None], (b - a)[None], beta, PANELS)[0])


def potential_slice(model: Any, origin: Any, directions: Any, beta: float, extent: float, n: int = 101) -> Slice:
    """F~ - F~(origin) at origin + c v for c in [-extent, extent], along one direction v or on a grid of two.

    directions : (D,), (1, D) or (2, D), or shaped like states; of any length but 0: coordinates are in units of theirs.
    n : coordinates along each, ends included.

    Raises
    ------
    ValueError for other numbers of directions, a direction of length 0, an extent that is not positive and fewer than
    two coordinates.
    """
    import torch

    start, _, _ = read_rows("origin", origin, model.dimension, model.device)
    axes, _, _ = read_rows("directions", directions, model.dimension, model.device)
    if len(start) != 1 or len(axes) not in (1, 2):
        raise ValueError(f"directions: wanted one or two of them and one origin, got {len(axes)} and {len(start)}")
    start, axes = start.double(), axes.double()
    if not bool((axes != 0).any(1).all()):
        raise ValueError("directions: wanted vectors of some length, got 0 throughout")
    if not 0 < extent < np.inf:
        raise ValueError(f"extent: wanted a finite positive number, got {extent}")
    whole("n", n, 2)
    grid = np.linspace(-extent, extent, n)
    c = start.new_tensor(grid)
    line = start + c[:, None] * axes[:1]
    fields = line if len(axes) == 1 else (line[:, None] + c[None, :, None] * axes[1]).flatten(0, 1)
    if hasattr(model, "boltzmann"):
        values = model.boltzmann(torch.cat([start, fields]), beta).regularised_free_energy
        values = values[1:] - values[0]
    else:
        along = _cumulative(model, start, axes[:1], c, beta)
        values = along[0]
        if len(axes) == 2:
            values = (along[0][:, None] + _cumulative(model, line, axes[1:].expand(n, -1), c, beta)).flatten()
    shape = (n,) * len(axes)
    return Slice((grid,) * len(axes), values.detach().cpu().numpy().reshape(shape))


def committor(classes: Any, field: Any, beta: Any) -> Any:
    """The probability (B, C) that generation from field h at beta ends in each class: its posterior, a martingale.

    classes : an ensemble split by labels; a TypeError for others.
    """
    check_split(classes)
    return classes.class_posterior(field, beta)


def sampled_committor(
    model: Any,
    process: Process,
    x: Any,
    t: float,
    classify: Callable[[Any], Any],
    n: int = 256,
    steps: int = 128,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The same for any denoiser, from n runs of the reverse process from x (D,) at t: (C,) and standard errors (C,).

    Parameters
    ----------
    classify : samples (n, ...) to their class probabilities (n, C), or to true and false (n,).
    n, steps, seed : runs, at least 2 for a standard error, the steps of each and the seed of their noise.

    Raises
    ------
    ValueError for several points, fewer than two runs and a time outside of the process.
    """
    whole("n", n, 2)
    rows, _, _ = read_rows("x", x, model.dimension, model.device)
    if len(rows) != 1:
        raise ValueError(f"x: wanted one point, got {len(rows)}")
    repeated = rows.expand(n, -1).clone()
    start: Any = repeated if is_torch(x) else repeated.cpu().numpy()
    ends = sample(model, process, steps=steps, scheme="heun_sde", t_start=t, x_start=start, seed=seed, progress=False)
    p = np.asarray(classify(ends), dtype=np.float64).reshape(n, -1)
    return p.mean(0), p.std(0, ddof=1) / np.sqrt(n)


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

    def stages(h: torch.Tensor, now: float, d: float) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Fields and inverse temperatures of the stages of a step, and the field at its end."""
        points, slope, end = [], torch.zeros_like(h), h
        for reach, weight in zip(REACH, WEIGHT, strict=False):
            point, b = h + reach * d * slope, h.new_full((batch,), float(np.exp(-2 * (now + reach * d))))
            slope = -force(model, point, b)
            end = end + weight * d / 6 * slope
            points.append((point, b))
        return points, end

    def sweep(v: torch.Tensor, down: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Tangents (B, K, D) taken through the flow, or up through its transpose; their factor R of every step."""
        factors = []
        for h, now, d in path if down else path[::-1]:
            points, _ = stages(h, now, d)
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

    generator = torch.Generator().manual_seed(0)
    v = torch.randn(batch, size, min(size, k + SPARE), dtype=torch.float64, generator=generator).to(h.device)
    path = []
    with torch.no_grad():
        for now, after in pairwise(log_tau.tolist()):
            path.append((h, now, after - now))
            h = stages(h, now, after - now)[1]
        factors, v = sweep(torch.linalg.qr(v)[0].mT, True)
        growth, turn = _fastest(factors)
        for _ in range(ROUNDS if size > 1 else 0):
            before = growth[-1]
            factors, v = sweep(sweep(turn.mT @ v, False)[1], True)
            growth, turn = _fastest(factors)
            if bool(((growth[-1] - before)[:, :k].abs() < SETTLED).all()):
                break
        v = turn.mT @ v
    total = torch.stack(growth)[..., :k].cpu().numpy()
    exponents = total[-1] / (log_tau[0] - log_tau[-1])
    return Lyapunov(times, q.vector(h), total, exponents, v[:, :k].cpu().numpy())


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


def _work(model: Any, a: torch.Tensor, along: torch.Tensor, beta: float, panels: int = 1) -> torch.Tensor:
    """The integral of (h - <y>).dh from a to a + along, (B, D) each: (B,)."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    x = a.new_tensor(((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel())
    w = a.new_tensor(np.tile(weights / (2 * panels), panels))
    h = a[:, None] + x[:, None] * along[:, None]
    flat = h.flatten(0, 1)
    pull = -force(model, flat, flat.new_full((len(flat),), beta)).reshape(h.shape)
    return (pull * along[:, None]).sum(2) @ w


def _cumulative(model: Any, start: torch.Tensor, axis: torch.Tensor, c: torch.Tensor, beta: float) -> torch.Tensor:
    """F~ relative to each start (B, D) at start + c axis, (B, n)."""
    import torch

    n = len(c)
    first = start + c[0] * axis
    edges = first[:, None] + (c[:-1] - c[0])[None, :, None] * axis[:, None]
    length = (c[1:] - c[:-1])[None, :, None] * axis[:, None]
    pieces = _work(model, edges.flatten(0, 1), length.flatten(0, 1), beta).reshape(len(start), n - 1)
    total = torch.cat([pieces.new_zeros(len(start), 1), pieces.cumsum(1)], 1)
    k = int(c.abs().argmin())  # from there to the start is at most half a piece
    return total - total[:, k : k + 1] - _work(model, start + c[k] * axis, -c[k] * axis, beta)[:, None]
