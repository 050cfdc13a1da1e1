"""Generation is cooling: samples follow x' = a x + b <y> + c z down a schedule, one loop for every scheme.

Noise is Philox keyed by (seed, step, sample, dimension): it does not depend on how samples are batched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo._arrays import (
    cast_like,
    check_constant,
    check_numbers,
    check_seed,
    check_unmapped,
    device_of,
    is_integer,
    is_torch,
    read_rows,
)
from fastthermo.denoiser import Model
from fastthermo.process import Process, check_process
from fastthermo.sampling.schemes import SCHEMES, tables

if TYPE_CHECKING:
    import torch

STEP, START, GAUSSIAN = range(3)  # streams of noise
Tables = list["torch.Tensor | None"]
Key = tuple[int, int, int, int]  # seed, first step, first sample, stream
BLOCK = 64  # steps between two looks at the bar where the device runs behind


class Trajectory(NamedTuple):
    """Times (T + 1,), decreasing, and the samples at each of them (T + 1, n, ...)."""

    times: np.ndarray
    x: Any


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
    """Generate n samples, from t_start (t_max) down to t_min, or along the times given as `steps`.

    Parameters
    ----------
    denoiser : a law, an exact or a learned denoiser.
    n : number of samples; not needed where x_start holds them.
    steps : their number, uniform in log beta, or the decreasing times themselves.
    t_start : time of the first step, t_max by default.
    scheme : "euler", "ancestral", "ddim", "heun" or "heun_sde".
    x_start : samples at t_start (n, ...); "noise" (default), Gaussian of variance alpha^2 + sigma^2; "gaussian", the
        late start of Raya & Ambrogioni 2023, with mean and covariance of the noised data; "data", noised data.
    seed : of the noise, from 0 to 2^64 - 1.
    callback : called as callback(i, t, x, mean) before step i, with tensors (n, D) not to be written to.
    trajectory : return `Trajectory(times, x)` with every step, instead of the samples at the last time.
    device : only checked to be that of the denoiser, where its states lie and samples are made.
    first_sample : number of the first sample; runs over disjoint ranges agree with one run over all of them.
    first_step : number of the first step in the noise; a run taken up again at its step k has first_step = k.
    progress : a bar over the steps; by default only for a terminal and long runs.

    Returns
    -------
    (n, ...) in data units at the last time: NumPy where x_start or, without one, the data are NumPy; else torch.

    Raises
    ------
    ValueError for an unknown scheme or start, impossible numbers, times outside [t_min, t_max] or not decreasing,
    samples of another shape or not finite, and another device than the denoiser's.
    """
    import torch

    _check_model("denoiser", denoiser)
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: wanted one of {', '.join(SCHEMES)}, got {scheme!r}")
    if device is not None and device_of(device) != torch.device(denoiser.device):
        raise ValueError(f"device: the states are on {denoiser.device}, got {device}; move them there first")
    check_process(process)
    check_seed(seed)
    times = _times(process, steps, t_start)
    check_numbers("first_step", first_step, len(times) - 1)
    x, numpy = _start(denoiser, process, n, float(times[0]), x_start, seed, first_sample)
    dtype = x.dtype
    x = x.float() if dtype.itemsize < 4 else x
    schedule = [None if table is None else torch.from_numpy(table) for table in tables(scheme, process, times)]
    noise = seed, first_step, first_sample, STEP
    evolve = _evolve if callback is None and hasattr(denoiser, "evolve") else partial(_walk, times, callback)
    with torch.no_grad():
        kept = evolve(denoiser, x, schedule, noise, trajectory, progress)

    def out(rows: torch.Tensor) -> Any:
        shaped = rows.to(dtype).unflatten(-1, denoiser.shape)
        return shaped.cpu().numpy() if numpy else shaped

    return Trajectory(times, out(torch.cat([x[None], kept]))) if trajectory else out(kept)


def _check_model(name: str, model: Any) -> None:
    if not hasattr(model, "dimension"):
        raise TypeError(f"{name}: wanted an Ensemble, another law or a denoiser, got {type(model).__name__}")


def _evolve(
    law: Any, x: torch.Tensor, schedule: Tables, noise: Key, whole: bool, progress: bool | None
) -> torch.Tensor:
    """By the law's own steps, several in one go where the device runs behind the host."""
    import torch

    table, after = (None if part is None else part.to(x.device) for part in schedule)
    assert table is not None
    seed, first_step, first_sample, stream = noise
    several = 1 if x.device.type == "cpu" else BLOCK
    path = []
    for i in _bar(range(0, len(table), several), progress):
        some = slice(i, i + several)
        following = None if after is None else after[some]
        found = law.evolve(x, table[some], following, (seed, first_step + i, first_sample, stream), whole)
        x = found[-1] if whole else found
        if whole:
            path.append(found)
    return torch.cat(path) if whole else x


def _walk(
    times: np.ndarray,
    callback: Callable[[int, float, Any, Any], None] | None,
    model: Model,
    x: torch.Tensor,
    schedule: Tables,
    noise: Key,
    whole: bool,
    progress: bool | None,
) -> torch.Tensor:
    """By any model's means, one after another."""
    import torch

    from fastthermo import ops

    table, after = (None if part is None else part.tolist() for part in schedule)
    assert table is not None
    seed, first_step, first_sample, stream = noise
    path = []
    for i in _bar(range(len(table)), progress):
        a, b, c, inverse, beta = table[i]
        mean = _mean(model, x, inverse, beta)
        if callback is not None:
            callback(i, times[i], x, mean)
        new = ops.step(x, mean, a, b, c, seed, first_step + i, first_sample, stream)
        if after is not None:
            inverse, beta, weight = after[i]
            blend = mean + weight * (_mean(model, new, inverse, beta) - mean)
            new = ops.step(x, blend, a, b, c, seed, first_step + i, first_sample, stream)
        x = new
        if whole:
            path.append(x)
    return torch.stack(path) if whole else x


def noised(law: Any, process: Process, t: float, y: Any, seed: int = 0, first_sample: int = 0) -> Any:
    """x_t = alpha y + sigma z for data y (n, ...), NumPy or torch; z is the same at every t for one seed."""
    from fastthermo import ops

    _check_model("law", law)
    check_process(process)
    check_unmapped("y", y, "noise is numbered by the rows of y; ask all at once")
    check_seed(seed)
    if np.ndim(t) != 0:
        raise ValueError(f"t: wanted one time for all data, got shape {np.shape(t)}")
    rows, shape, _ = read_rows("y", y, law.dimension, law.device)
    z = ops.normal(len(rows), law.dimension, seed, 0, START, first_sample, law.device)
    x = float(process.alpha(t)) * rows.double() + float(process.sigma(t)) * z
    x = x.reshape(shape)
    return cast_like(x, y) if is_torch(y) else cast_like(x.cpu().numpy(), np.asarray(y))


def _mean(model: Model, x: torch.Tensor, inverse: float, beta: float) -> torch.Tensor:
    options = {"single": x.dtype.itemsize <= 4} if hasattr(model, "evolve") else {}
    mean: torch.Tensor = model.mean(x.double() * inverse, beta, **options)
    return mean.to(x.dtype)


def _times(process: Process, steps: Any, t_start: float | None) -> np.ndarray:
    if is_integer(steps):
        if steps < 1:
            raise ValueError(f"steps: wanted at least 1, got {steps}")
        return process.times(int(steps) + 1, t_start)
    if np.ndim(steps) == 0:
        raise ValueError(f"steps: wanted an integer above 0 or decreasing times, got {steps!r}")
    times = process.decreasing("steps", steps)
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
        check_constant("x_start", x_start, "samples carry none; differentiate `mean` step by step")
        rows, _, _ = read_rows("x_start", x_start, model.dimension, model.device)
        if n is not None and n != len(rows):
            raise ValueError(f"n: x_start holds {len(rows)} samples, got {n}")
        if not rows.isfinite().all():
            raise ValueError("x_start: wanted finite numbers")
        check_numbers("first_sample", first_sample, len(rows))
        return rows, not is_torch(x_start)
    if kind not in ("noise", "gaussian", "data"):
        raise ValueError(f"x_start: wanted samples, 'noise', 'gaussian' or 'data', got {kind!r}")
    if n is None or not (is_integer(n) and n >= 0):
        raise ValueError(f"n: wanted the number of samples, got {n!r}")
    check_numbers("first_sample", first_sample, n)
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


def _bar(items: range, progress: bool | None) -> Any:
    from tqdm import tqdm

    return tqdm(items, desc="sampling", unit="step", disable=None if progress is None else not progress, delay=1.0)
