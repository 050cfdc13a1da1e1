"""Fixed points h = <y>: the stationary points of F~(h), and of the density p_t at temperature s = 1/beta.

    grad F~ = h - <y>        Hess F~ = 1 - beta C        Morse index = number of gains, eigenvalues of beta C, above 1

F~ grows as |h|^2/2, so over all of its stationary points sum (-1)^index = 1 (Morse): where the points found do not add
up to that, some are missing. Where they do, some may be still: pairs of neighbouring indices add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import is_torch, read_rows, to_float, whole
from fastthermo.critical.newton import CHUNK, attainable, coarse, downhill, force, newton
from fastthermo.critical.starts import averages, bins, clusters, data, firsts, spread
from fastthermo.response import DENSE, susceptibility

if TYPE_CHECKING:
    import torch

DESCENTS = 48  # steps downhill before Newton's method takes over
SETTLED, FAST = 1e-4, 0.3  # |<y> - h| in units of the scale at which it does; and its ratio a step where it need not
STILL = 1e-6  # and what is left where it need not
# distances that make two points one, in units of the spread: in the end, where descents end, on the way
SAME, MERGED, COARSE = 1e-6, 1e-3, 1e-2
DEGENERATE = 1e-6  # |1 - gain| below which an index means nothing
ROUNDS = 3  # of looking for what the indices say is missing


@dataclass(frozen=True, eq=False)
class FixedPoints:
    """Distinct solutions of h = <y> at one temperature, by increasing index, each index by increasing leading gain.

    P is their number; `points` are shaped like P states.
    """

    beta: float
    points: Any  # (P, ...)
    residual: np.ndarray  # (P,) |<y> - h|
    gain: np.ndarray  # (P,) the largest eigenvalue of beta C
    index: np.ndarray  # (P,) gains above 1: 0 for a minimum of F~, k for a saddle of index k
    degenerate: np.ndarray  # (P,) a gain is 1 to rounding: at a critical point, or along a continuous symmetry
    starts: np.ndarray  # (P,) how many of the starts descended to it
    unconverged: int  # searches given up
    worst_residual: float  # the smallest |<y> - h| that the worst of them reached; 0 without any

    def __len__(self) -> int:
        return len(self.index)

    @property
    def stable(self) -> np.ndarray:
        """Whether each is a minimum of F~, (P,) bool."""
        return (self.index == 0) & ~self.degenerate

    @property
    def index_sum(self) -> int:
        """sum (-1)^index, 1 for a complete set, and for one that pairs of neighbouring indices are missing from."""
        return int((1 - 2 * (self.index % 2)).sum())

    @property
    def complete(self) -> bool:
        """Whether no point is degenerate and the indices add up to 1, as those of all stationary points do.

        Necessary for a complete set, not sufficient: a minimum and a saddle that are both missing do not show.
        """
        return self.index_sum == 1 and not self.degenerate.any()

    def __repr__(self) -> str:
        found = ", ".join(f"{np.sum(self.index == k)} of index {k}" for k in np.unique(self.index)) or "none"
        note = f"indices sum to {self.index_sum}" + (", not 1" if self.index_sum != 1 else "")
        note = "some are degenerate" if self.degenerate.any() else note
        return f"FixedPoints(beta={self.beta:.6g}: {found}; {note})"


def fixed_points(
    model: Any,
    beta: Any,
    starts: Any = None,
    n: int = 512,
    newton_starts: int = 256,
    tolerance: float = 1e-12,
    max_steps: int = 16,
    seed: int = 0,
) -> Any:
    """Solutions of h = <y> from many starts: `FixedPoints`, or a list of them for several beta.

    Minima are found by h <- <y> from every start, saddles by Newton's method from some of them, from the points of
    neighbouring temperatures and from averages of points already found, until the indices add up to 1.

    Parameters
    ----------
    beta : inverse temperature, a scalar or (T,).
    starts : (S, D) or shaped like states; by default n averages of one to four data, or samples of a denoiser.
    newton_starts : starts, at each temperature and each round, that Newton's method is tried from.
    tolerance : of |<y> - h|, in units of the spread of the starts; 3e-6 at least for a model of `single_precision`.
    max_steps : of Newton's method; what has not converged then is counted in `unconverged`, with its residual.

    Raises
    ------
    ValueError that names the argument: a beta, a number of starts or a tolerance that cannot be.
    """
    betas, single = _read_beta(beta)
    whole("n", n, 1)
    whole("newton_starts", newton_starts, 0)
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance: wanted a finite number of at least 0, got {tolerance}")
    rows, numpy, shape = _read_starts(model, starts, n, seed)
    search = _Search(model, rows.new_tensor(betas), spread(model, betas[0], rows), tolerance, max_steps, seed)
    search.descend(rows)
    rng = np.random.default_rng(seed)
    some = rows[rows.new_tensor(rng.permutation(len(rows))[:newton_starts]).long()]
    every = range(len(betas))
    search.newton(some.repeat(len(betas), 1), rows.new_tensor(list(every)).long().repeat_interleave(len(some)))
    lost = np.full(len(betas), newton_starts // 4 + 1)  # few of the starts find something new
    for k in range(ROUNDS):
        now = [search.at(i) for i in every]
        before, lost = lost, np.array([0 if found.complete else abs(found.index_sum - 1) for found in now])
        missing = np.flatnonzero((lost > 0) & (lost < before))
        if not len(missing):
            break
        search.look_again(missing, newton_starts, seed + k)
    search.merge_degenerate()

    def shaped(found: FixedPoints) -> FixedPoints:
        points = found.points.reshape(-1, *shape)
        return FixedPoints(**{**vars(found), "points": points.cpu().numpy() if numpy else points})

    results = [shaped(search.at(i)) for i in every]
    return results[0] if single else results


class _Search:
    """What has been found at each of several temperatures, and the ways to find more."""

    def __init__(
        self, model: Any, beta: torch.Tensor, scale: float, tolerance: float, max_steps: int, seed: int
    ) -> None:
        self.model, self.beta, self.scale, self.max_steps = model, beta, scale, max_steps
        self.tolerance = attainable(model, tolerance)
        empty = beta.new_zeros(0)
        self.h, self.which = beta.new_zeros(0, model.dimension), empty.long()
        self.residual, self.starts, self.gain = empty, empty, empty
        self.index, self.degenerate = empty.long(), empty.bool()
        self.unconverged, self.worst = np.zeros(len(beta), int), np.zeros(len(beta))

    def descend(self, rows: torch.Tensor) -> None:
        """Down to minima of F~ from every start at every temperature; points that come together go on as one."""
        import torch

        which = torch.arange(len(self.beta), device=rows.device).repeat_interleave(len(rows))
        h = rows.repeat(len(self.beta), 1)
        count = torch.ones(len(h), dtype=rows.dtype, device=rows.device)
        step = before = torch.zeros_like(h)
        kept = []
        for _ in range(DESCENTS):
            queries = zip(h.split(CHUNK), self.beta[which].split(CHUNK), strict=True)
            f = torch.cat([force(self.model, x, beta, **coarse(self.model)) for x, beta in queries])
            step = downhill(f, step, before, self.scale)
            h = h + step
            first, cell = bins(h, which, COARSE * self.scale)
            count = count.new_zeros(len(first)).index_add_(0, cell, count)
            size, last = f[first].norm(dim=1), before[first].norm(dim=1)
            h, which, step, before = (x[first] for x in (h, which, step, f))
            # Newton's method takes over near a minimum, or at it where a step of <y> - h leads close enough
            there = size < self.scale * torch.where(size < FAST * last, STILL, SETTLED)
            kept.append((h[there], which[there], count[there]))
            h, which, count, step, before = (x[~there] for x in (h, which, count, step, before))
            if not len(h):
                break
        kept.append((h, which, count))
        h, which, count = (torch.cat(parts) for parts in zip(*kept, strict=True))
        label = clusters(h, which, MERGED * self.scale)
        first = firsts(label)
        self.newton(h[first], which[first], count.new_zeros(len(first)).index_add_(0, label, count))

    def newton(self, h: torch.Tensor, which: torch.Tensor, count: torch.Tensor | None = None) -> None:
        """Add what Newton's method finds from h (B, D) at temperatures `which` (B,)."""
        import torch

        h, residual = newton(self.model, h, self.beta[which], self.scale, self.tolerance, self.max_steps)
        good = residual <= self.tolerance * self.scale
        bad = which[~good].cpu().numpy()
        np.add.at(self.unconverged, bad, 1)
        np.maximum.at(self.worst, bad, residual[~good].cpu().numpy())
        count = h.new_zeros(len(h)) if count is None else count
        known = len(self.h)
        points = torch.cat([self.h, h[good]])
        group = torch.cat([self.which, which[good]])
        size = torch.cat([self.residual, residual[good]])
        label = clusters(points, group, SAME * self.scale)
        first = firsts(label)
        self.starts = h.new_zeros(len(first)).index_add_(0, label, torch.cat([self.starts, count[good]]))
        old = first < known
        gain, index, degenerate = spectrum(self.model, points[first[~old]], self.beta[group[first[~old]]])
        merged = []
        for before, new in ((self.gain, gain), (self.index, index), (self.degenerate, degenerate)):
            out = new.new_zeros(len(first))
            out[old], out[~old] = before[first[old]], new
            merged.append(out)
        self.gain, self.index, self.degenerate = merged
        self.h, self.which, self.residual = points[first], group[first], size[first]

    def merge_degenerate(self) -> None:
        """One point for those that converged slowly to the same degenerate one, from different sides."""
        apart = self.h.new_tensor(np.arange(len(self.h))).long() + len(self.beta)
        label = clusters(self.h, self.which.where(self.degenerate, apart), COARSE * self.scale)
        best = np.lexsort((self.residual.cpu().numpy(), label.cpu().numpy()))
        _, first = np.unique(label.cpu().numpy()[best], return_index=True)
        kept = label.new_tensor(best[first])
        self.starts = self.starts.new_zeros(len(kept)).index_add_(0, label, self.starts)
        for name in ("h", "which", "residual", "gain", "index", "degenerate"):
            setattr(self, name, getattr(self, name)[kept])

    def look_again(self, missing: np.ndarray, n: int, seed: int) -> None:
        """Newton's method from the points of neighbouring temperatures and from averages of those found here."""
        import torch

        rows, which = [], []
        for i in missing:
            near = self.h[((self.which - int(i)).abs() == 1)][:n]
            here = self.h[self.which == int(i)]
            new = torch.cat([near, averages(here, n, seed)]) if len(here) else near
            rows.append(new)
            which.append(torch.full((len(new),), int(i), device=new.device))
        self.newton(torch.cat(rows), torch.cat(which))

    def at(self, i: int) -> FixedPoints:
        """What is known at one temperature."""
        mine = (self.which == i).nonzero()[:, 0]
        mine = mine[np.lexsort((self.gain[mine].cpu().numpy(), self.index[mine].cpu().numpy()))]

        def out(x: torch.Tensor) -> np.ndarray:
            return x[mine].cpu().numpy()

        return FixedPoints(
            beta=float(self.beta[i]),
            points=self.h[mine],
            residual=out(self.residual),
            gain=out(self.gain),
            index=out(self.index).astype(int),
            degenerate=out(self.degenerate),
            starts=out(self.starts).astype(int),
            unconverged=int(self.unconverged[i]),
            worst_residual=float(self.worst[i]),
        )


def spectrum(model: Any, h: torch.Tensor, beta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The leading gain (B,), the number of gains above 1 (B,) and whether one is 1 to rounding (B,) at h (B, D)."""
    import torch

    gain, index = beta.new_zeros(len(h)), torch.zeros(len(h), dtype=torch.long, device=h.device)
    degenerate = index.bool()
    left, k = torch.arange(len(h), device=h.device), h.shape[1] if h.shape[1] <= DENSE else 8
    while len(left):
        again = []
        for rows in left.split(CHUNK):
            chi = susceptibility(model, h[rows], beta[rows])
            values = chi.gains() if k == h.shape[1] else chi.leading(k)[0]
            gain[rows] = values[:, 0]
            index[rows] = (values > 1).sum(1)
            degenerate[rows] = ((values - 1).abs() < DEGENERATE).any(1)
            again.append(rows[values[:, -1] > 1 - DEGENERATE])
        left = torch.cat(again) if k < h.shape[1] else left[:0]
        k = min(2 * k, h.shape[1])
    return gain, index, degenerate


def _read_starts(model: Any, starts: Any, n: int, seed: int) -> tuple[torch.Tensor, bool, tuple[int, ...]]:
    """Starts (S, D) float64, whether points go out as NumPy, and the shape of one."""
    if starts is None:
        return averages(data(model, n, seed), n, seed), model.numpy, tuple(model.shape)
    given, came, one = read_rows("starts", starts, model.dimension, model.device)
    if not given.isfinite().all():
        raise ValueError("starts: wanted finite numbers")
    return given.double(), not is_torch(starts), came if one else came[1:]


def _read_beta(beta: Any) -> tuple[np.ndarray, bool]:
    betas = to_float("beta", beta).detach().cpu().double().numpy()
    if betas.ndim > 1 or not len(betas.reshape(-1)):
        raise ValueError(f"beta: wanted a number or shape (T,), got shape {betas.shape}")
    flat = np.atleast_1d(betas)
    bad = ~(np.isfinite(flat) & (flat > 0))
    if bad.any():
        raise ValueError(f"beta: wanted finite positive numbers, got {flat[bad][0]}")
    return flat, betas.ndim == 0
