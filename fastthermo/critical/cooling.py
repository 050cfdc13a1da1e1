"""The phases of a model around the first temperature at which there are several, and the transition they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.critical.curve import Curve, crossings, folds, trace
from fastthermo.critical.flow import climb
from fastthermo.critical.newton import attainable, force, newton
from fastthermo.critical.stationary import fixed_points, spectrum

if TYPE_CHECKING:
    import torch

MEET = 1e-6  # relative distance in s of a fold to the instability that makes them one
NEAR = 1e-3  # of what is one point, in units of the spread
DEEPER = 4.0  # how much colder than a fold its Maxwell point is looked for, as a factor of s
MOST = 24  # phases followed up to where they come from: by a symmetry there may be very many
BESIDE = 1e-4  # of log s
FINER = (0.03, 0.006, 0.0012)  # steps of arclength
TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Transition:
    """The first transition on cooling; numbers that do not apply are NaN, `location` is then None."""

    kind: str  # "pitchfork", "saddle-node", "first-order" or "none"
    beta: float  # of the instability, of the fold, or the Maxwell point of a first-order transition
    location: Any  # field of the new phase there, shaped like a state
    spinodal_beta: tuple[float, float]  # where the new phase appears; where the old one ends, NaN if not in the range
    maxwell_beta: float
    barrier: float  # F~ of the saddle above the two phases at the Maxwell point
    jump: float  # distance between the phases at beta
    betas: tuple[float, float]  # the range looked at
    unconverged: int  # searches for fixed points given up

    def __repr__(self) -> str:
        if self.kind == "none":
            return f"Transition(none for beta in ({self.betas[0]:.6g}, {self.betas[1]:.6g}))"
        return f"Transition({self.kind} at beta={self.beta:.12g}, spinodals {self.spinodal_beta}, jump {self.jump:.6g})"


class Cooling:
    """The phases of a model around the first temperature at which there are several."""

    def __init__(
        self, model: Any, hot: Any, cold: Any, betas: tuple[float, float], scale: float, unconverged: int, seed: int
    ) -> None:
        import torch

        self.model, self.betas, self.scale, self.unconverged, self.seed = model, betas, scale, unconverged, seed

        def rows(found: Any) -> torch.Tensor:
            return torch.as_tensor(found.points, device=model.device).reshape(len(found), -1).double()

        self.cold_beta, self.points = cold.beta, rows(cold)
        self.coldest = float(np.log(max(1 / betas[1], 1 / cold.beta / DEEPER)))
        top = -np.log(hot.beta) + 0.05
        self.warmest = max(top, float(-np.log(betas[0])))
        start = rows(hot)[:1]
        log_s = start.new_tensor([-np.log(hot.beta)])
        self.start = start, log_s, np.array([-1.0]), (self.coldest, top), scale
        self.old = trace(model, *self.start)[0]

    def classify(self) -> Transition:
        import torch

        critical = self._instability(self.old)
        for finer in FINER:
            if critical is None or not self._jumps(critical):
                break
            # the curve has gone from the old phase to a branch that almost meets it and has its fold here
            points = int(8 / finer)
            self.old = trace(self.model, *self.start, max_points=points, longest=finer)[0]
            critical = self._instability(self.old)
        if critical is not None and self._jumps(critical):
            critical = None
        others, at = self.points, self.points.new_full((len(self.points),), -np.log(self.cold_beta))
        here = self.old_at(float(at[0]))
        if here is not None:
            far = (others - here).norm(dim=1) > NEAR * self.scale
            others, at = others[far][:MOST], at[far][:MOST]  # minima first
        if critical is not None:
            more, more_at = self._above(critical)
            others, at = torch.cat([others, more[:MOST]]), torch.cat([at, more_at[:MOST]])
        curves = [self.old]
        if len(others):
            up = np.ones(len(others))
            curves += trace(self.model, others, at, up, (self.coldest, self.warmest), self.scale)
        u, curve = self._first_fold(curves)
        if u is not None and (critical is None or float(u[-1]) > float(critical[-1]) + MEET):
            return self._discontinuous(u, curve, critical)
        if critical is None:  # several phases, and where they come from is outside of the range
            return self._result("none")
        return self._result("pitchfork", critical, spinodal=(_beta(critical), _beta(critical)))

    def _jumps(self, u: torch.Tensor) -> bool:
        """Whether the old curve has no fixed point a little above a temperature, or has it far from the one there."""
        log_s = float(u[-1]) + BESIDE
        above = self.old_at(log_s)
        if above is None:
            return False
        lost = (
            force(self.model, above, above.new_tensor([np.exp(-log_s)])).norm()
            > attainable(self.model, 1e-9) * self.scale
        )
        return bool(lost) or float((above[0] - u[:-1] * self.scale).norm()) > NEAR * self.scale

    def _instability(self, old: Curve) -> torch.Tensor | None:
        """u where the old phase gets a gain of 1 without a fold."""
        from scipy.optimize import brentq

        u = old.u
        _, index, _ = spectrum(self.model, u[:, :-1] * self.scale, (-u[:, -1]).exp())
        unstable = (index > 0).nonzero()[:, 0]
        if not len(unstable) or int(unstable[0]) == 0:
            return None
        i = int(unstable[0])
        if np.any(old.folds() < i):
            return None

        def excess(log_s: float) -> float:
            h = self._between(u[i - 1], u[i], log_s)
            return float(spectrum(self.model, h, h.new_tensor([np.exp(-log_s)]))[0][0]) - 1

        cold, hot = float(u[i, -1]), float(u[i - 1, -1])
        if excess(cold) * excess(hot) > 0:
            return None
        root = brentq(excess, cold, hot, xtol=1e-15, rtol=1e-14)
        return _join(self._between(u[i - 1], u[i], root)[0] / self.scale, root)

    def _above(self, critical: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fixed points just above the critical temperature, off the old phase; without any it is continuous."""
        import torch

        from fastthermo.response import susceptibility

        centre, log_s = critical[:-1] * self.scale, float(critical[-1])
        beta = np.exp(-log_s) * np.array([1 - 1e-3, 1 - 1e-2, 1 - 5e-2])
        chi = susceptibility(self.model, centre[None], centre.new_tensor([np.exp(-log_s)]))
        values, vectors = chi.leading(min(len(centre), 8))
        soft = vectors[0][values[0] > 1 - 1e-6] if bool((values[0] > 1 - 1e-6).any()) else vectors[0][:1]
        rng = np.random.default_rng(self.seed)
        weights = rng.normal(size=(64, len(soft)))
        weights *= rng.uniform(0, 1, size=(64, 1)) / np.linalg.norm(weights, axis=1, keepdims=True)
        starts = centre + self.scale * centre.new_tensor(weights) @ soft
        rows, which = [], []
        for found in fixed_points(self.model, beta, torch.cat([starts, self.points]), newton_starts=128):
            far = found.points[(found.points - centre).norm(dim=1) > 0.02 * self.scale]
            rows.append(far)
            which.append(far.new_full((len(far),), -np.log(found.beta)))
        return torch.cat(rows), torch.cat(which)

    def _first_fold(self, curves: list[Curve]) -> tuple[Any, Any]:
        """The warmest fold at which a pair of fixed points appears on cooling, and its curve; None without one."""
        best: tuple[float, Any, int] = (-np.inf, None, 0)
        for curve in curves:
            for i in curve.folds():
                if curve.tangent[i, -1] > 0:  # on its way up
                    top = float(curve.u[i : i + 2, -1].max())
                    if top > best[0] + 1e-9:
                        best = (top, curve, int(i))
        if best[1] is None:
            return None, None
        return folds(self.model, [best[1:]], self.scale)[0], best[1:]

    def _discontinuous(self, u: torch.Tensor, where: tuple[Curve, int], critical: torch.Tensor | None) -> Transition:
        """Saddle-node or first-order, by whether the new phase becomes the lower one before the old one ends."""
        import torch
        from scipy.optimize import brentq

        curve, i = where
        sides = trace(
            self.model,
            torch.stack([curve.u[i, :-1], curve.u[i + 1, :-1]]) * self.scale,
            torch.stack([curve.u[i, -1], curve.u[i + 1, -1]]),
            np.array([-1.0, -1.0]),
            (self.coldest, self.warmest),
            self.scale,
        )
        indices = [spectrum(self.model, side.u[:1, :-1] * self.scale, (-side.u[:1, -1]).exp())[1][0] for side in sides]
        new, saddle = (sides[k] for k in np.argsort([int(k) for k in indices], kind="stable"))
        lower = _beta(critical) if critical is not None else self._end_of_old()

        def excess(log_s: float) -> float | None:
            here, there = self.old_at(log_s), self._on(new, log_s)
            if here is None or there is None:
                return None
            return climb(self.model, here[0], there[0], float(np.exp(-log_s)))

        depth = float(u[-1]) - self.coldest
        grid = [float(u[-1]) - float(x) for x in depth * np.geomspace(1e-6, 0.99, 96)]
        values = [(s, v) for s in grid if (v := excess(s)) is not None]
        maxwell = np.nan
        if values and values[0][1] > 0:
            change = next((k for k, (_, v) in enumerate(values) if v <= 0), None)
            if change:
                ends = values[change][0], values[change - 1][0]
                maxwell = float(brentq(lambda s: excess(s) or 0.0, *ends, xtol=1e-15, rtol=1e-14))
        spinodal = (_beta(u), lower)
        if np.isnan(maxwell):
            old = self.old_at(float(u[-1]))
            jump = float((u[:-1] * self.scale - old[0]).norm()) if old is not None else np.nan
            return self._result("saddle-node", u, spinodal, jump=jump)
        here, there, top = self.old_at(maxwell), self._on(new, maxwell), self._on(saddle, maxwell)
        assert here is not None
        assert there is not None
        high = np.nan
        if top is not None:
            high = climb(self.model, here[0], top[0], float(np.exp(-maxwell)))
        at = _join(there[0] / self.scale, maxwell)
        jump = float((there - here).norm())
        return self._result("first-order", at, spinodal, float(np.exp(-maxwell)), high, jump)

    def _end_of_old(self) -> float:
        """beta at which the old phase turns back or becomes unstable on cooling; NaN if it does not in the range."""
        old, end = self.old, float(-np.log(self.betas[1]))
        if not len(old.folds()) and old.complete and float(old.u[-1, -1]) > end:
            last = old.u[-1:]  # the curves end where new phases do no more, the old one may go on
            down = np.array([-1.0])
            old = trace(self.model, last[:, :-1] * self.scale, last[:, -1], down, (end, self.warmest), self.scale)[0]
            critical = self._instability(old)
            if critical is not None:
                return _beta(critical)
        turns = old.folds()
        return _beta(folds(self.model, [(old, int(turns[0]))], self.scale)[0]) if len(turns) else np.nan

    def old_at(self, log_s: float) -> torch.Tensor | None:
        """The old phase at log s, (1, D), on the part before its first fold."""
        return self._on(self.old, log_s)

    def _on(self, curve: Curve, log_s: float) -> torch.Tensor | None:
        """The fixed point at log s on the part of a curve on which s has not turned yet, (1, D)."""
        turns = curve.folds()
        u = curve.u[: turns[0] + 1] if len(turns) else curve.u
        k = crossings(u, log_s).tolist()
        return self._between(u[k[0]], u[k[0] + 1], log_s) if k else None

    def _between(self, a: torch.Tensor, b: torch.Tensor, log_s: float) -> torch.Tensor:
        weight = (log_s - float(a[-1])) / (float(b[-1]) - float(a[-1]))
        h = (a[:-1] + weight * (b[:-1] - a[:-1]))[None] * self.scale
        return newton(self.model, h, h.new_tensor([np.exp(-log_s)]), self.scale, TOLERANCE, 30)[0]

    def _result(
        self,
        kind: str,
        u: Any = None,
        spinodal: tuple[float, float] = (np.nan, np.nan),
        maxwell: float = np.nan,
        barrier: float = np.nan,
        jump: float = np.nan,
    ) -> Transition:
        location = None
        if u is not None:
            location = (u[:-1] * self.scale).reshape(self.model.shape)
            location = location.cpu().numpy() if self.model.numpy else location
        if kind == "pitchfork":
            barrier = jump = 0.0
        beta = np.nan if u is None else _beta(u)
        return Transition(kind, beta, location, spinodal, maxwell, barrier, jump, self.betas, self.unconverged)


def _beta(u: Any) -> float:
    return float((-u[-1]).exp())


def _join(h: torch.Tensor, log_s: float) -> torch.Tensor:
    import torch

    return torch.cat([h, h.new_tensor([log_s])])
