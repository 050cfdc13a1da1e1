"""Curves of fixed points h(s) over the temperature s = 1/beta, followed through folds by pseudo-arclength.

With u = (h / L, log s), L the spread of the data, they solve G(u) = <y> - h = 0. From a point with unit tangent t the
next solves G(u) = 0 and t.(u - u_0) = step (Keller 1977), where s may turn back: a fold, or saddle-node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.critical.newton import attainable, force, krylov

if TYPE_CHECKING:
    import torch

LONGEST, SHORTEST, FIRST = 0.15, 1e-6, 0.01  # steps of arclength
CORRECTIONS = 8  # Newton steps a point
TURN = 0.9  # least cosine between successive tangents
BEND, STRAIGHT = 0.75, 0.02  # of a step, how far aside it may end for a turn: half the angle on an arc, more is a jump
FINE = 2e-3  # step at which others may cross
SINGULAR = 1e-6  # least singular value of a matrix whose determinant has a sign
DENSE = 128  # dimensions up to which matrices are made
WILD = 1e3  # times longer than its right-hand side, a solution is that of a singular matrix
SHIFT = 1e-5  # of log s at least, for the derivative of <y> by s: only Newton's matrix uses it
TOLERANCE = 1e-11
FOLD = 1e-13  # of arclength
EDGE = 1e-12  # of log s: nearer to the end of a range, a point is at it


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


@dataclass
class Line:
    """A curve in a range: points u, folds among them."""

    u: torch.Tensor  # (K, D + 1)
    fold: torch.Tensor  # (K,) bool
    complete: bool

    def at(self, log_s: float) -> torch.Tensor:
        """u near all points at log s, (M, D + 1)."""
        u, s, k = self.u, self.u[:, -1], crossings(self.u, log_s)
        share = ((log_s - s[k]) / (s[k + 1] - s[k])).nan_to_num(0).clamp(0, 1)
        # from a fold on, s changes as the square of the distance
        share = share.sqrt().where(self.fold[k], share)
        share = (1 - (1 - share).sqrt()).where(self.fold[k + 1], share)
        return u[k] + share[:, None] * (u[k + 1] - u[k])


def crossings(u: torch.Tensor, log_s: float) -> torch.Tensor:
    """Indices k such that log s lies between points k and k + 1 of u (K, D + 1)."""
    before, after = u[:-1, -1], u[1:, -1]
    return ((before.minimum(after) - EDGE <= log_s) & (log_s <= before.maximum(after) + EDGE)).nonzero()[:, 0]


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

    range_ : of log s; longest : step. Steps that leave their branch for another one are made shorter. Above DENSE
        dimensions, or where branches come within FINE, they may go unseen.
    """
    import torch

    u = torch.cat([h / scale, log_s[:, None]], 1)
    at_s = u.new_zeros(u.shape[1])
    at_s[-1] = 1
    along = u.new_tensor(direction)[:, None] * at_s
    u, _, _ = _correct(model, u, along, scale)
    tangent, matrix = _tangent(model, u, along, scale)
    side = _side(model, u, matrix)
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
        ahead = x[:, -1] + ds * t[:, -1]
        end = ahead.clamp(*range_)
        last = end != ahead  # the next point would be past the end, and is the one there
        there = last & ((end - x[:, -1]).abs() <= EDGE)
        ds = torch.where(last, (end - x[:, -1]) / t[:, -1], ds)
        new, size, count = _correct(model, x + ds[:, None] * t, torch.where(last[:, None], at_s, t), scale)
        new[last, -1] = end[last]
        turned, matrix = _tangent(model, new, t, scale)
        sign = _side(model, new, matrix)
        cosine = (turned * t).sum(1)
        aside = (new - x - ds[:, None] * t).norm(dim=1) / ds
        good = (size <= 10 * attainable(model, TOLERANCE)) & (cosine > TURN)
        good &= aside < BEND * (2 - 2 * cosine).clamp_min(0).sqrt() + STRAIGHT
        good &= (sign * side[active] >= 0) | (ds <= FINE)
        good &= ~last | (~there & (turned[:, -1] * t[:, -1] > 0))
        faster = torch.where(count <= 3, 1.6, torch.where(count >= 6, 0.7, 1.0)).to(ds)
        step[active] = torch.where(good, ds * faster, ds / 3).clamp_max(longest)
        moved = active[good]
        u[moved], tangent[moved] = new[good], turned[good]
        side[moved] = torch.where(sign[good] == 0, side[moved], sign[good])
        for i in moved.tolist():
            curves[i].append((u[i].clone(), tangent[i].clone()))
        complete[active] = there | (last & good)
        active = active[~complete[active] & (step[active] >= SHORTEST)]
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
        turn, _ = _tangent(model, u, t[base.new_tensor(which.ravel()).long()], scale)
        return turn[:, -1].cpu().numpy().reshape(distance.shape)

    which = np.arange(len(turns))
    length = ((after - base) * t).sum(1).cpu().numpy()
    found = find_root(
        along_s, (np.zeros(len(turns)), length), args=(which,), tolerances={"xatol": FOLD, "xrtol": 1e-12}
    )
    # without a change of sign s has turned within rounding of the first point
    return solve(np.where(found.success, found.x, 0.0), which)


def within(model: Any, curves: list[Curve], range_: tuple[float, float], scale: float) -> list[Line]:
    """Curves with their folds, as far as they are in the range of log s that they were followed in."""
    import torch

    turns = [curve.folds() for curve in curves]
    at = folds(model, [(curve, int(i)) for curve, where in zip(curves, turns, strict=True) for i in where], scale)
    low, high = range_[0] - EDGE, range_[1] + EDGE
    lines = []
    for curve, where, turned in zip(curves, turns, at.split([len(x) for x in turns]), strict=True):
        order = torch.cat([torch.arange(len(curve.u)), torch.from_numpy(where) + 0.5]).argsort().to(at.device)
        together, fold = torch.cat([curve.u, turned])[order], order >= len(curve.u)
        inside = (low <= together[:, -1]) & (together[:, -1] <= high)
        lines.append(Line(together[inside], fold[inside], curve.complete))
    return lines


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
        g = force(model, u[active, :-1] * scale, _known(model, (-u[active, -1]).exp())) / scale
        size[active] = g.norm(dim=1)
        # one step past the tolerance, to rounding
        again = (size[active] > tolerance) | (count[active] == 0) | ((size[active] > 1e-15) & (k < CORRECTIONS - 1))
        active, g = active[again], g[again]
        if not len(active) or k == CORRECTIONS - 1:
            break
        count[active] += size[active] > tolerance
        right = torch.cat([-g, g.new_zeros(len(g), 1)], 1)
        u[active] += _bordered(model, u[active], t[active], right, scale)[0].clamp(-1, 1)
    return u, size, count


def _tangent(model: Any, u: torch.Tensor, t: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Unit tangents of the branches through u, turned like t, and [dG/du; t] where it is made."""
    import torch

    right = torch.zeros_like(u)
    right[:, -1] = 1
    new, matrix = _bordered(model, u, t, right, scale)
    return new / new.norm(dim=1, keepdim=True).clamp_min(1e-300), matrix


def _side(model: Any, u: torch.Tensor, matrix: torch.Tensor | None) -> torch.Tensor:
    """The signs of det [dG/du; t] at u, 0 where not known.

    A branch keeps its sign but where another crosses it; one that almost meets it has the other (Keller 1977).
    """
    import torch

    if matrix is None:
        return u.new_zeros(len(u))
    sign: torch.Tensor = torch.linalg.slogdet(matrix)[0]
    return sign * (torch.linalg.svdvals(matrix)[:, -1] > attainable(model, SINGULAR))


def _bordered(
    model: Any, u: torch.Tensor, t: torch.Tensor, right: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The least solution of [dG/du; t] x = right, right (B, D + 1), and the matrix where it is made."""
    import torch

    h, beta = u[:, :-1] * scale, _known(model, (-u[:, -1]).exp())
    apply, dense = model.response(h, beta)
    shift = max(SHIFT, attainable(model, 0.0) ** 0.5)
    beside = torch.stack([_known(model, beta * np.exp(sign * shift)) for sign in (-1, 1)])
    hot, cold = force(model, h.repeat(2, 1), beside.flatten()).unflatten(0, beside.shape)
    by_s = (hot - cold) / (scale * beside.log().diff(dim=0)[0].clamp_min(1e-300))[:, None]
    if h.shape[1] <= DENSE:
        unit = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        top = torch.cat([beta[:, None, None] * dense() - unit, by_s[..., None]], 2)
        matrix = torch.cat([top, t[:, None]], 1)
        x: torch.Tensor = torch.linalg.solve_ex(matrix, right)[0]
        # along a continuous symmetry the matrix is singular: the least solution does not move along it
        odd = ~(x.norm(dim=1) < WILD * right.norm(dim=1))
        x[odd] = (torch.linalg.pinv(matrix[odd], rtol=1e-9) @ right[odd, :, None])[..., 0]
        return x, matrix

    def bordered(v: torch.Tensor) -> torch.Tensor:
        top = beta[:, None] * apply(v[:, None, :-1].contiguous())[:, 0] - v[:, :-1] + by_s * v[:, -1:]
        return torch.cat([top, (t * v).sum(1, keepdim=True)], 1)

    return krylov(bordered, right, beta.new_zeros(len(beta))), None


def _known(model: Any, beta: torch.Tensor) -> torch.Tensor:
    """beta, or the nearest that a network knows: differences and Newton's steps may pass the ends of its process."""
    return beta.clamp(*model.process.beta_range) if hasattr(model, "process") else beta
