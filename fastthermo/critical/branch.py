"""Branches of fixed points: curves to both sides of one, cut to a range of temperatures, with gains and folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import is_torch, read_rows
from fastthermo.critical.curve import Line, trace, within
from fastthermo.critical.newton import force
from fastthermo.critical.starts import data, spread
from fastthermo.critical.stationary import spectrum

if TYPE_CHECKING:
    import torch

LOST = 1e-5  # |<y> - h| / L of what is no solution, even in single precision


@dataclass(frozen=True, eq=False)
class Branch:
    """A curve of fixed points through K points, in the order in which it was followed; s may turn on the way.

    All are in the range asked for; folds are among them.
    """

    beta: np.ndarray  # (K,)
    points: Any  # (K, ...)
    gain: np.ndarray  # (K,) largest eigenvalue of beta C
    index: np.ndarray  # (K,) Morse index
    fold: np.ndarray  # (K,) bool: s turns there
    complete: bool  # both ends are at the ends of the range; else a step failed or their number was exhausted

    @property
    def stable(self) -> np.ndarray:
        """Whether no gain is above 1, (K,) bool.

        Also where one is 1 to rounding, which is not `FixedPoints.stable`: at a fold, along a continuous symmetry.
        """
        return self.index == 0

    @property
    def fold_beta(self) -> np.ndarray:
        """(F,) where s turns."""
        return self.beta[self.fold]

    @property
    def fold_points(self) -> Any:
        """(F, ...) the points there."""
        return self.points[np.flatnonzero(self.fold).tolist()]


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
    return assemble(model, [within(model, sides, range_, scale)], scale, shaped(model, not is_torch(point)))[0]


def check_betas(betas: tuple[float, float], beta: float | None = None) -> None:
    if np.shape(betas) != (2,) or not 0 < betas[0] < betas[1] < np.inf:
        raise ValueError(f"betas: wanted 0 < low < high, got {betas}")
    if beta is not None and not betas[0] <= beta <= betas[1]:
        raise ValueError(f"beta: wanted a number in {betas}, got {beta}")


def assemble(model: Any, pairs: list[list[Line]], scale: float, shaped: Callable[[torch.Tensor], Any]) -> list[Branch]:
    """Branches of the two sides of each point, each from the far end of the second through the point."""
    import torch

    if not pairs:
        return []
    joined = [torch.cat([down.u.flip(0)[:-1], up.u]) for up, down in pairs]
    folds = [torch.cat([down.fold.flip(0)[:-1], up.fold]).cpu().numpy() for up, down in pairs]
    together = torch.cat(joined)
    spectra = spectrum(model, together[:, :-1] * scale, (-together[:, -1]).exp())[:2]
    gain, index = (x.split([len(u) for u in joined]) for x in spectra)
    return [
        Branch(
            beta=(-u[:, -1]).exp().cpu().numpy(),
            points=shaped(u[:, :-1] * scale),
            gain=gain[k].cpu().numpy(),
            index=_across(index[k].cpu().numpy(), folds[k]),
            fold=folds[k],
            complete=all(line.complete for line in pairs[k]),
        )
        for k, u in enumerate(joined)
    ]


def _across(index: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Indices (K,) where a fold, whose gain is 1 to rounding, has that of its more stable side."""
    beside = np.minimum(np.append(index[1:], index[-1]), np.append(index[0], index[:-1]))
    return np.where(fold, beside, index)


def shaped(model: Any, numpy: bool | None = None) -> Callable[[torch.Tensor], Any]:
    """Rows (K, D) as K states of the model, NumPy or torch."""
    as_numpy = model.numpy if numpy is None else numpy

    def out(x: torch.Tensor) -> Any:
        x = x.reshape(-1, *model.shape)
        return x.cpu().numpy() if as_numpy else x

    return out
