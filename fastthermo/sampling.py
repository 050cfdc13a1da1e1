"""Generation is cooling: every first-order scheme is x' = a x + b <y> + c z, with scalars from (t, s), s < t.

In the variables of the VE theory, h = x/alpha and tau = sigma/alpha, with r = tau_s / tau_t:

    ddim         h' = r h + (1 - r) <y>                                   the probability flow, exact for constant <y>
    ancestral    h' = r^2 h + (1 - r^2) <y> + tau_s sqrt(1 - r^2) z       the reverse SDE, exact for constant <y>
    euler        x' = x - dt (f x - g^2 score) + g sqrt(dt) z             Euler-Maruyama in t
    heun         ddim again with a blend of the means at both ends        (Karras et al. 2022, algorithm 1)
    heun_sde     ancestral again with a blend and the same noise          trapezoid in beta

Noise is Philox keyed by (seed, step, sample, dimension): it does not depend on how samples are batched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo._arrays import cast_like, is_torch, read_rows
from fastthermo.denoiser import Model
from fastthermo.process import Process

if TYPE_CHECKING:
    import torch

STEP, START, GAUSSIAN = range(3)  # streams of noise
Coefficients = tuple[float, float, float]


class Scheme(NamedTuple):
    """(process, t, s) -> (a, b, c), and the weight of the mean at s in the blend (None: the mean at t alone)."""

    coefficients: Callable[[Process, float, float], Coefficients]
    blend: Callable[[Process, float, float], float] | None = None


class Trajectory(NamedTuple):
    """Times (T + 1,), decreasing, and the samples at each of them (T + 1, n, ...)."""

    times: np.ndarray
    x: Any


def _ddim(process: Process, t: float, s: float) -> Coefficients:
    r = _tau(process, s) / _tau(process, t)
    a = r * float(process.alpha(s) / process.alpha(t))
    return a, float(process.alpha(s)) * (1 - r), 0.0


def _ancestral(process: Process, t: float, s: float) -> Coefficients:
    r2 = (_tau(process, s) / _tau(process, t)) ** 2
    a = r2 * float(process.alpha(s) / process.alpha(t))
    return a, float(process.alpha(s)) * (1 - r2), float(process.sigma(s)) * math.sqrt(1 - r2)


def _euler(process: Process, t: float, s: float) -> Coefficients:
    dt, g2, variance = t - s, float(process.diffusion(t)), float(process.sigma(t)) ** 2
    a = 1 - dt * (float(process.drift(t)) + g2 / variance)
    return a, dt * g2 * float(process.alpha(t)) / variance, math.sqrt(g2 * dt)


def _tau(process: Process, t: float) -> float:
    return float(process.sigma(t) / process.alpha(t))


SCHEMES = {
    "euler": Scheme(_euler),
    "ancestral": Scheme(_ancestral),
    "ddim": Scheme(_ddim),
    "heun": Scheme(_ddim, lambda process, t, s: _tau(process, t) / (2 * _tau(process, s))),
    "heun_sde": Scheme(_ancestral, lambda process, t, s: 0.5),
}


def sample(
    denoiser: Model,
    process: Process,
    n: int | None = None,
    steps: int | Any = 256,
    scheme: str = "euler",
    t_start: float | None = None,
    x_start: Any = None,
    seed: int = 0,
    callback: Callable[[int, float, Any, Any], None] | None = None,
    trajectory: bool = False,
    device: Any = None,
    first_sample: int = 0,
    first_step: int = 0,
    progress: bool | None = None,
) -> Any:
    """Generate n samples, from t_start (t_max) down to t_min.

    Parameters
    ----------
    denoiser : a law, an exact or a learned denoiser.
    steps : their number, uniform in log beta, or the decreasing times themselves.
    scheme : "euler", "ancestral", "ddim", "heun" or "heun_sde".
    x_start : samples at t_start (n, ...); "noise" (default), Gaussian of variance alpha^2 + sigma^2; "gaussian", the
        late start of Raya & Ambrogioni 2023, with mean and covariance of the noised data; "data", noised data.
    callback : called as callback(i, t, x, mean) before step i, with tensors (n, D) not to be written to.
    trajectory : return `Trajectory(times, x)` with every step, instead of the samples at the last time.
    first_sample : number of the first sample; runs over disjoint ranges agree with one run over all of them.
    first_step : number of the first step in the noise; a run taken up again at its step k has first_step = k.
    progress : a bar over the steps; by default only for a terminal and long runs.

    Returns
    -------
    (n, ...) in data units at t_min: NumPy where x_start or, without one, the data are NumPy; else torch.
    """
    import torch

    from fastthermo import ops

    if scheme not in SCHEMES:
        raise ValueError(f"scheme: wanted one of {', '.join(SCHEMES)}, got {scheme!r}")
    if device is not None and torch.device(device) != torch.device(denoiser.device):
        raise ValueError(f"device: the states are on {denoiser.device}, got {device}; move them there first")
    times = _times(process, steps, t_start)
    x, numpy = _start(denoiser, process, n, float(times[0]), x_start, seed, first_sample)
    dtype = x.dtype
    x = x.float() if dtype.itemsize < 4 else x
    rule = SCHEMES[scheme]
    kept = [x]
    with torch.no_grad():
        for i, (t, s) in enumerate(_bar(list(pairwise(times)), progress)):
            mean = _mean(denoiser, process, x, t)
            if callback is not None:
                callback(i, t, x, mean)
            a, b, c = rule.coefficients(process, t, s)
            new = ops.step(x, mean, a, b, c, seed, first_step + i, first_sample, STEP)
            if rule.blend is not None:
                weight = rule.blend(process, t, s)
                blended = torch.lerp(mean, _mean(denoiser, process, new, s), weight)
                new = ops.step(x, blended, a, b, c, seed, first_step + i, first_sample, STEP)
            x = new
            if trajectory:
                kept.append(x)

    def out(rows: torch.Tensor) -> Any:
        shaped = rows.to(dtype).unflatten(-1, denoiser.shape)
        return shaped.numpy() if numpy else shaped

    return Trajectory(times, out(torch.stack(kept))) if trajectory else out(x)


def noised(law: Any, process: Process, t: float, y: Any, seed: int = 0, first_sample: int = 0) -> Any:
    """x_t = alpha y + sigma z for data y (n, ...), NumPy or torch; z is the same at every t for one seed."""
    from fastthermo import ops

    rows, shape, _ = read_rows("y", y, law.dimension, law.device)
    z = ops.normal(len(rows), law.dimension, seed, 0, START, first_sample, law.device)
    x = float(process.alpha(t)) * rows.double() + float(process.sigma(t)) * z
    x = x.reshape(shape)
    return cast_like(x, y) if is_torch(y) else cast_like(x.numpy(), np.asarray(y))


def _mean(model: Model, process: Process, x: torch.Tensor, t: float) -> torch.Tensor:
    mean: torch.Tensor = model.mean(x.double() / float(process.alpha(t)), float(process.beta(t)))
    return mean.to(x.dtype)


def _times(process: Process, steps: Any, t_start: float | None) -> np.ndarray:
    if isinstance(steps, int | np.integer):
        if steps < 1:
            raise ValueError(f"steps: wanted at least 1, got {steps}")
        return process.times(int(steps) + 1, t_start)
    times = process.check_time(steps)
    if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) < 0):
        raise ValueError("steps: wanted a number or at least two decreasing times")
    if t_start is not None and t_start != times[0]:
        raise ValueError(f"t_start: the times given as steps start at {times[0]}, got {t_start}")
    return times


def _start(
    model: Any, process: Process, n: int | None, t: float, x_start: Any, seed: int, first_sample: int
) -> tuple[torch.Tensor, bool]:
    """Samples (n, D) at the first time, and whether the caller works in NumPy."""
    from fastthermo import ops

    kind = "noise" if x_start is None else x_start
    if not isinstance(kind, str):
        rows, _, _ = read_rows("x_start", x_start, model.dimension, model.device)
        if n is not None and n != len(rows):
            raise ValueError(f"n: x_start holds {len(rows)} samples, got {n}")
        if not rows.isfinite().all():
            raise ValueError("x_start: wanted finite numbers")
        return rows, not is_torch(x_start)
    if kind not in ("noise", "gaussian", "data"):
        raise ValueError(f"x_start: wanted samples, 'noise', 'gaussian' or 'data', got {kind!r}")
    if not (isinstance(n, int | np.integer) and n >= 0):
        raise ValueError(f"n: wanted the number of samples, got {n!r}")
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    if kind == "data":
        y = model.draw(first_sample + n, seed)[first_sample:]
        return _rows(model, noised(model, process, t, y, seed, first_sample)), model.numpy
    z = ops.normal(n, model.dimension, seed, 0, START, first_sample, model.device)
    if kind == "noise":
        return _rows(model, math.hypot(alpha, sigma) * z), model.numpy
    values, vectors = model.principal(model.dimension)
    xi = ops.normal(n, len(values), seed, 0, GAUSSIAN, first_sample, "cpu").numpy()
    clean = model.data_mean + (xi * np.sqrt(np.maximum(values, 0))) @ vectors
    return _rows(model, alpha * z.new_tensor(clean) + sigma * z), model.numpy


def _rows(model: Any, x: Any) -> torch.Tensor:
    """(n, D) in the precision of the model's data."""
    rows, _, _ = read_rows("x", x, model.dimension, model.device)
    return rows.to(model.dtype)


def _bar(items: list[Any], progress: bool | None) -> Any:
    from tqdm import tqdm

    return tqdm(items, desc="sampling", unit="step", disable=None if progress is None else not progress, delay=1.0)
