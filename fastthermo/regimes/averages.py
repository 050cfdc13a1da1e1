"""Averages along noised data x_t = alpha y + sigma z: Monte Carlo with standard errors, or exact in one dimension.

In field units h = x/alpha = y + z / sqrt(beta) has density (beta / 2 pi)^{D/2} Z~(h). In one dimension averages over
it are trapezoid sums, which converge faster than any power of the spacing because the density is smooth on the scale of
the noise; their error is reported as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastthermo._arrays import is_torch
from fastthermo.process import Process, check_process
from fastthermo.sampling import noised

NODES = 2**17  # of the trapezoid rule, above which one-dimensional laws are sampled too
SETTLED = 1e-13  # change on halving the spacing
BLOCKS = 32  # of a jackknife


class Estimate(NamedTuple):
    """A value with its standard error; numbers or arrays of one shape."""

    value: Any
    error: Any


def average(values: Any) -> Estimate:
    """Mean over the last axis with its standard error."""
    values = np.asarray(values)
    mean, error = values.mean(-1), values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
    return Estimate(mean, error) if values.ndim > 1 else Estimate(float(mean), float(error))


def host(x: Any) -> np.ndarray:
    """A NumPy array of an array of either kind."""
    return x.detach().cpu().numpy() if is_torch(x) else np.asarray(x)


def choose(ens: Any, n: int, seed: int) -> np.ndarray:
    """n states of the ensemble: without replacement where weights are equal and there are enough, else by weight."""
    rng = np.random.default_rng(seed)
    if ens.log_weights is None and n <= ens.size:
        return rng.permutation(ens.size)[:n]
    phi = np.exp(ens._core.log_weights.cpu().numpy())
    return rng.choice(ens.size, n, p=phi)


def choose_own(ens: Any, process: Process, n: int, seed: int) -> np.ndarray:
    """`choose` for averages over what is left of an ensemble without each of its states."""
    check_process(process)
    if not hasattr(ens, "log_weights"):
        raise TypeError(f"ens: wanted an Ensemble, got {type(ens).__name__}, which has no states to weigh")
    held = ens.size if ens.log_weights is None else int((ens._core.log_weights > -np.inf).sum())
    if held < 2:
        raise ValueError(f"ens: wanted at least 2 states of positive weight, got {held}")
    check_number(n)
    return choose(ens, n, seed)


def check_number(n: int) -> None:
    """Raise ValueError where noised data are too few for a standard error."""
    if n < 2:
        raise ValueError(f"n: wanted at least 2 noised data, got {n}")


def at_times(process: Process, t: Any, at: Callable[[float], Estimate]) -> Estimate:
    """`at(t)` at a time, or stacked (T, ...) over each of several, with a progress bar where that takes long."""
    check_process(process)
    if np.ndim(t) > 1 or np.size(t) == 0:
        raise ValueError(f"t: wanted a scalar or shape (T,) with at least one time, got shape {np.shape(t)}")
    times = process.check_time(t)
    if times.ndim == 0:
        return at(float(times))
    found = [at(float(s)) for s in bar(times)]
    return Estimate(np.stack([x.value for x in found]), np.stack([x.error for x in found]))


def read_times(process: Process, times: int | Any, least: int = 2) -> np.ndarray:
    """Decreasing times, at least so many: those given or, for their number, uniform in log beta."""
    check_process(process)
    if np.ndim(times) == 0:
        if not (isinstance(times, int | np.integer) and times >= least):
            raise ValueError(f"times: wanted an integer of at least {least} or decreasing times, got {times!r}")
        return process.times(int(times))
    t = process.decreasing("times", times)
    if len(t) < least:
        raise ValueError(f"times: wanted at least {least}, got {len(t)}")
    return t


def noised_field(law: Any, process: Process, t: float, y: Any, seed: int) -> Any:
    """x_t / alpha of data y, (n, ...) float64 of the kind of y; the same noise at every t for one seed."""
    wide = y.double() if is_torch(y) else np.asarray(y, dtype=np.float64)
    return noised(law, process, t, wide, seed) / float(process.alpha(t))


def expectation(
    law: Any, process: Process, t: Any, observe: Callable[[Any, float], tuple[Any, Any]], n: int, seed: int
) -> Estimate:
    """E f(h) over noised data at a time, or at each of several, with a progress bar where that takes long.

    Parameters
    ----------
    observe : (field (B, D), beta) -> log Z~ (B,) and values f (..., B) of size 1 in any units of the data.
    n : noised data averaged over where the law is not one-dimensional; the same data and noise at every t.

    Returns
    -------
    Estimate (...), or (T, ...) for t (T,): the error is 0 where the average is exact.
    """
    check_number(n)
    y = law.draw(n, seed)

    def at(t: float) -> Estimate:
        beta = float(process.beta(t))
        exact = _trapezoid(law, beta, y, observe) if law.dimension == 1 else None
        if exact is not None:
            return Estimate(exact, np.zeros_like(exact)[()])
        return average(host(observe(noised_field(law, process, t, y, seed), beta)[1]))

    return at_times(process, t, at)


def bar(items: Iterable[Any], what: str = "regimes", unit: str = "time") -> Iterator[Any]:
    """The items, with a progress bar on a terminal where they take more than a second."""
    from tqdm import tqdm

    return iter(tqdm(items, desc=what, unit=unit, disable=None, delay=1.0, leave=False))


def _trapezoid(law: Any, beta: float, y: Any, observe: Callable[[Any, float], tuple[Any, Any]]) -> Any:
    """The average of `observe` by quadrature over the field; None where that takes too many nodes."""
    points = host(y).reshape(-1)
    centre, noise = (points.min() + points.max()) / 2, beta**-0.5
    half, spacing = np.ptp(points) / 2 + 10 * noise, noise / 2
    before = None
    while 2 * half / spacing <= NODES:
        steps = np.arange(-int(half / spacing), int(half / spacing) + 1)
        field = (centre + spacing * steps)[:, None]
        log_evidence, values = observe(law_like(law, field), beta)
        density = spacing * (beta / (2 * np.pi)) ** 0.5 * np.exp(host(log_evidence))
        if abs(density.sum() - 1) > 1e-10 or max(density[0], density[-1]) > 1e-20 * density.max():
            half *= 2  # states rarer than those drawn, or wide tails
            before = None
            continue
        now = host(values) @ density
        if before is not None and np.all(np.abs(now - before) <= SETTLED * np.maximum(np.abs(now), 1e-2)):
            return now
        before, spacing = now, spacing / 2
    return None


def law_like(law: Any, field: np.ndarray) -> Any:
    """A NumPy field as the law takes it: a tensor where its states are torch."""
    if law.numpy:
        return field
    import torch

    return torch.as_tensor(field, device=law.device)


def jackknife(statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> Estimate:
    """A function of the means of values (..., n) over their last axis, with its delete-one-block standard error."""
    n = values.shape[-1]
    total, blocks = values.sum(-1), [values[..., i::BLOCKS] for i in range(min(BLOCKS, n))]
    whole = statistic(total / n)
    parts = np.stack([statistic((total - block.sum(-1)) / (n - block.shape[-1])) for block in blocks])
    m = len(blocks)
    return Estimate(whole, np.sqrt((m - 1) / m * ((parts - parts.mean(0)) ** 2).sum(0)))
