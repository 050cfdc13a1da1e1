"""Branches of fixed points h(s) over the temperature s = 1/beta, followed through folds by pseudo-arclength.

With u = (h / L, log s), L the spread of the data, a branch is a curve of G(u) = <y> - h = 0. From a point with unit
tangent t the next solves G(u) = 0 and t.(u - u_0) = step (Keller 1977), where s may turn back: a fold, or saddle-node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import is_torch, read_rows
from fastthermo.critical.newton import attainable, force, krylov
from fastthermo.critical.starts import data, spread
from fastthermo.critical.stationary import spectrum

if TYPE_CHECKING:
    import torch

LONGEST, SHORTEST, FIRST = 0.15, 1e-6, 0.01  # steps of arclength
CORRECTIONS = 8  # Newton steps a point
TURN = 0.9  # least cosine between successive tangents
DENSE = 128  # dimensions up to which matrices are made
WILD = 1e3  # times longer than its right-hand side, a solution is that of a singular matrix
SHIFT = 1e-5  # of log s at least, for the derivative of <y> by s: only Newton's matrix uses it
TOLERANCE = 1e-11
LOST = 1e-5  # |<y> - h| / L of what is no solution, even in single precision
FOLD = 1e-13  # of arclength


@dataclass(frozen=True, eq=False)
class Branch:
    """A curve of fixed points through K points, in the order in which it was followed; s may turn on the way."""

    beta: np.ndarray  # (K,)
    points: Any  # (K, ...)
    gain: np.ndarray  # (K,) largest eigenvalue of beta C
    index: np.ndarray  # (K,) Morse index
    fold_beta: np.ndarray  # (F,) where s turns
    fold_points: Any  # (F, ...)
    complete: bool  # both ends are at the ends of the range; else a step failed or their number was exhausted

    @property
    def stable(self) -> np.ndarray:
        """Whether no gain is above 1, (K,) bool.

        Also where one is 1 to rounding, which is not `FixedPoints.stable`: at a fold, along a continuous symmetry.
        """
        return self.index == 0


@dataclass
class Curve:
    """One side of a branch as it is followed: points u = (h / L, log s) and unit tangents."""

    u: torch.Tensor  # (K, D + 1)
    tangent: torch.Tensor  # (K, D + 1)
    complete: bool

    def folds(self) -> np.ndarray:
        """Indices i such that s turns between points i and i + 1."""
        sign = self.tangent[:, -1].sign().cpu().numpy()
        return np.flatnonzero(sign[:-1] * sign[1:] < 0)


def follow(model: Any, point: Any, beta: float, betas: tuple[float, float], max_points: int = 400) -> Branch:
    """The branch through the fixed point `point` at `beta`, followed both ways as far as beta stays in `betas`.

    point : (D,) or shaped like a state; moved to the solution nearest to it.
    max_points : of each of the two sides.

    Raises
    ------
    ValueError where Newton's method finds no solution near `point`, for several points, and for a beta or a range that
    cannot be.
    """
    rows, _, _ = read_rows("point", point, model.dimension, model.device)
    if len(rows) != 1:
        raise ValueError(f"point: wanted one point, got {len(rows)}")
    check_betas(betas, beta)
    scale = spread(model, beta, data(model, 256)) if hasattr(model, "draw") or hasattr(model, "process") else 1.0
    start, range_ = rows.double().repeat(2, 1), (-np.log(betas[1]), -np.log(betas[0]))
    log_s = start.new_full((2,), -np.log(beta))
    sides = trace(model, start, log_s, np.array([1.0, -1.0]), range_, scale, max_points)
    reached = sides[0].u[:1, :-1] * scale
    left = float(force(model, reached, reached.new_tensor([beta])).norm())
    if not left <= LOST * scale:
        raise ValueError(
            f"point: wanted one near a fixed point at beta = {beta:.6g}, got one from which |<y> - h| = {left:.3g}"
        )
    return assemble(model, [sides], scale, shaped(model, not is_torch(point)))[0]


def check_betas(betas: tuple[float, float], beta: float | None = None) -> None:
    if np.shape(betas) != (2,) or not 0 < betas[0] < betas[1] < np.inf:
        raise ValueError(f"betas: wanted 0 < low < high, got {betas}")
    if beta is not None and not betas[0] <= beta <= betas[1]:
        raise ValueError(f"beta: wanted a number in {betas}, got {beta}")


def assemble(model: Any, pairs: list[list[Curve]], scale: float, shaped: Callable[[torch.Tensor], Any]) -> list[Branch]:
    """Branches of the two sides of each point, each from the far end of the second through the point."""
    import torch

    u = [torch.cat([down.u.flip(0)[:-1], up.u]) for up, down in pairs]
    if not u:
        return []
    together = torch.cat(u)
    gain, index, _ = spectrum(model, together[:, :-1] * scale, (-together[:, -1]).exp())
    ends = np.cumsum([len(rows) for rows in u])[:-1].tolist()
    turns = [[(curve, int(i)) for curve in sides for i in curve.folds()] for sides in pairs]
    turned = folds(model, [turn for several in turns for turn in several], scale)
    return [
        Branch(
            beta=(-rows[:, -1]).exp().cpu().numpy(),
            points=shaped(rows[:, :-1] * scale),
            gain=gains.cpu().numpy(),
            index=indices.cpu().numpy(),
            fold_beta=(-at[:, -1]).exp().cpu().numpy(),
            fold_points=shaped(at[:, :-1] * scale),
            complete=up.complete and down.complete,
        )
        for rows, gains, indices, at, (up, down) in zip(
            u,
            gain.tensor_split(ends),
            index.tensor_split(ends),
            turned.split([len(several) for several in turns]),
            pairs,
            strict=True,
        )
    ]


def shaped(model: Any, numpy: bool | None = None) -> Callable[[torch.Tensor], Any]:
    """Rows (K, D) as K states of the model, NumPy or torch."""
    as_numpy = model.numpy if numpy is None else numpy

    def out(x: torch.Tensor) -> Any:
        x = x.reshape(-1, *model.shape)
        return x.cpu().numpy() if as_numpy else x

    return out


def trace(
    model: Any,
    h: torch.Tensor,
    log_s: torch.Tensor,
    direction: np.ndarray,
    range_: tuple[float, float],
    scale: float,
    max_points: int = 400,
    longest: float = LONGEST,
) -> list[Curve]:
    """Branches from points h (B, D) at log s (B,), all at once, first in the direction (B,) of log s that is wanted.

    range_ : of log s; longest : step. Where branches almost meet, long steps may go from one to the other.
    """
    import torch

    u = torch.cat([h / scale, log_s[:, None]], 1)
    along = torch.zeros_like(u)
    along[:, -1] = u.new_tensor(direction)
    u, _, _ = _correct(model, u, along, scale)
    tangent = _tangent(model, u, along, scale)
    step = u.new_full((len(u),), min(FIRST, longest))
    curves: list[list[tuple[torch.Tensor, torch.Tensor]]] = [
        [(u[i].clone(), tangent[i].clone())] for i in range(len(u))
    ]
    complete = torch.zeros(len(u), dtype=torch.bool, device=u.device)
    active = torch.arange(len(u), device=u.device)
    for _ in range(max_points):
        if not len(active):
            break
        x, t, ds = u[active], tangent[active], step[active]
        new, size, count = _correct(model, x + ds[:, None] * t, t, scale)
        turned = _tangent(model, new, t, scale)
        good = (size <= 10 * attainable(model, TOLERANCE)) & ((turned * t).sum(1) > TURN)
        good &= (new - x).norm(dim=1) < 2 * ds
        faster = torch.where(count <= 3, 1.6, torch.where(count >= 6, 0.7, 1.0)).to(ds)
        step[active] = torch.where(good, ds * faster, ds / 3).clamp_max(longest)
        moved = active[good]
        u[moved], tangent[moved] = new[good], turned[good]
        for i in moved.tolist():
            curves[i].append((u[i].clone(), tangent[i].clone()))
        outside = (u[active, -1] < range_[0]) | (u[active, -1] > range_[1])
        complete[active] |= outside
        active = active[~outside & (step[active] >= SHORTEST)]
    return [
        Curve(torch.stack([a for a, _ in curve]), torch.stack([b for _, b in curve]), bool(done))
        for curve, done in zip(curves, complete, strict=True)
    ]


def folds(model: Any, turns: list[tuple[Curve, int]], scale: float) -> torch.Tensor:
    """u (F, D + 1) where s turns between points i and i + 1 of curves: where the tangent has no part along s."""
    import torch
    from scipy.optimize.elementwise import find_root

    if not turns:
        return torch.zeros(0, model.dimension + 1, dtype=torch.float64, device=model.device)
    base, after = (torch.stack([curve.u[i + k] for curve, i in turns]) for k in (0, 1))
    t = torch.stack([curve.tangent[i] for curve, i in turns])

    def solve(distance: Any, which: Any) -> torch.Tensor:
        rows = base.new_tensor(which).long()
        return _correct(model, base[rows] + base.new_tensor(distance)[:, None] * t[rows], t[rows], scale)[0]

    def along_s(distance: np.ndarray, which: np.ndarray) -> np.ndarray:
        u = solve(distance.ravel(), which.ravel())
        turn = _tangent(model, u, t[base.new_tensor(which.ravel()).long()], scale)[:, -1]
        return turn.cpu().numpy().reshape(distance.shape)

    which = np.arange(len(turns))
    length = ((after - base) * t).sum(1).cpu().numpy()
    found = find_root(
        along_s, (np.zeros(len(turns)), length), args=(which,), tolerances={"xatol": FOLD, "xrtol": 1e-12}
    )
    # without a change of sign s has turned within rounding of the first point
    return solve(np.where(found.success, found.x, 0.0), which)


def _correct(
    model: Any, u: torch.Tensor, t: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solutions of G = 0 in the planes through u (B, D + 1) across t, |G| / L (B,), and the Newton steps taken (B,)."""
    import torch

    u = u.clone()
    count = torch.zeros(len(u), dtype=torch.long, device=u.device)
    size = u.new_full((len(u),), float("inf"))
    tolerance = attainable(model, TOLERANCE)
    active = torch.arange(len(u), device=u.device)
    for k in range(CORRECTIONS):
        g = force(model, u[active, :-1] * scale, (-u[active, -1]).exp()) / scale
        size[active] = g.norm(dim=1)
        # one step past the tolerance, to rounding
        again = (size[active] > tolerance) | (count[active] == 0) | ((size[active] > 1e-15) & (k < CORRECTIONS - 1))
        active, g = active[again], g[again]
        if not len(active) or k == CORRECTIONS - 1:
            break
        count[active] += size[active] > tolerance
        right = torch.cat([-g, g.new_zeros(len(g), 1)], 1)
        u[active] += _bordered(model, u[active], t[active], right, scale).clamp(-1, 1)
    return u, size, count


def _tangent(model: Any, u: torch.Tensor, t: torch.Tensor, scale: float) -> torch.Tensor:
    """Unit tangents of the branches through u, turned like t."""
    import torch

    right = torch.zeros_like(u)
    right[:, -1] = 1
    new = _bordered(model, u, t, right, scale)
    return new / new.norm(dim=1, keepdim=True).clamp_min(1e-300)


def _bordered(model: Any, u: torch.Tensor, t: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """The least solution of [dG/du; t] x = right, right (B, D + 1)."""
    import torch

    h, beta = u[:, :-1] * scale, (-u[:, -1]).exp()
    apply, dense = model.response(h, beta)
    shift = max(SHIFT, attainable(model, 0.0) ** 0.5)
    ends = force(model, h.repeat(2, 1), torch.cat([beta * np.exp(-shift), beta * np.exp(shift)]))
    by_s = (ends[: len(h)] - ends[len(h) :]) / (2 * shift * scale)
    if h.shape[1] <= DENSE:
        unit = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        top = torch.cat([beta[:, None, None] * dense() - unit, by_s[..., None]], 2)
        matrix = torch.cat([top, t[:, None]], 1)
        x: torch.Tensor = torch.linalg.solve_ex(matrix, right)[0]
        # along a continuous symmetry the matrix is singular: the least solution does not move along it
        odd = ~(x.norm(dim=1) < WILD * right.norm(dim=1))
        x[odd] = (torch.linalg.pinv(matrix[odd], rtol=1e-9) @ right[odd, :, None])[..., 0]
        return x

    def bordered(v: torch.Tensor) -> torch.Tensor:
        top = beta[:, None] * apply(v[:, None, :-1].contiguous())[:, 0] - v[:, :-1] + by_s * v[:, -1:]
        return torch.cat([top, (t * v).sum(1, keepdim=True)], 1)

    return krylov(bordered, right, beta.new_zeros(len(beta)))
