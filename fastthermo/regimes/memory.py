"""Which class x_t remembers, and when two of them part.

    M[c, c'] = E[p(c' | x_t) | y in c]                 class posteriors along time = the outcome of a U-turn at t
    U-turn   = E sum_c p(c | x_t)^2                    noise to t, denoise: back in the same class (arXiv:2402.16991)
    clones   = the same number                         denoise x_t twice: both in one class (arXiv:2402.18491)
    TV(c, c') = E |tanh((log p(x_t|c) - log p(x_t|c')) / 2)|       x_t of either class with probability 1/2

A critical window of two classes is the range of t in which their total variation distance goes from eps to 1 - eps
(Li & Chen, arXiv:2403.01633). For a learned denoiser the experiments are run: `u_turn_samples`, `clone_samples`,
`same_class`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastthermo.ensemble.mixture import check_split
from fastthermo.process import Process
from fastthermo.regimes.averages import (
    Estimate,
    at_times,
    average,
    bar,
    expectation,
    host,
    law_like,
    noised_field,
    read_times,
)
from fastthermo.sampling import noised, sample
from fastthermo.sampling.schemes import DETERMINISTIC


def u_turn(classes: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """The probability that data noised to t and denoised again end in the class they came from: E sum_c p(c | x_t)^2.

    Also the probability that two clones of x_t end in one class. Exact in one dimension, where the error is 0.

    classes : an ensemble split by labels. The U-turn experiment of Sclocchi, Favero & Wyart, arXiv:2402.16991.
    """
    check_split(classes)

    def observe(field: Any, beta: float) -> tuple[Any, Any]:
        state, p = classes.resolve(field, beta)
        return state.log_evidence, (p**2).sum(-1)

    return expectation(classes.whole, process, t, observe, n, seed)


def class_posteriors(classes: Any, process: Process, t: Any, n: int = 128, seed: int = 0) -> Estimate:
    """E[p(c' | x_t) | y in c], shape (C, C), or (T, C, C) for t (T,): rows sum to 1, in the order of the mapping.

    n : noised data a class.
    """
    y = stratified(classes, n, seed)

    def at(s: float) -> Estimate:
        p = host(classes.class_posterior(noised_field(classes.whole, process, s, y, seed), float(process.beta(s))))
        return average(p.reshape(len(classes), n, -1).swapaxes(1, 2))

    return at_times(process, t, at)


def stratified(classes: Any, n: int, seed: int) -> Any:
    """n data of each class, (C n, D), class by class, of the kind of the ensemble."""
    check_split(classes)
    if n < 2:
        raise ValueError(f"n: wanted at least 2 data a class, got {n}")
    parts = [host(part.draw(n, seed)).reshape(n, -1).astype(np.float64) for part in classes.values()]
    return law_like(classes.whole, np.concatenate(parts))


def total_variation(classes: Any, process: Process, t: float, n: int = 128, seed: int = 0) -> Estimate:
    """The distance TV(p_t(.|c), p_t(.|c')) of every two noised classes, shape (C, C), n noised data a class."""
    y = stratified(classes, n, seed)
    field = noised_field(classes.whole, process, t, y, seed)
    return distances(host(classes.class_evidence(field, float(process.beta(t)))))


def distances(evidence: np.ndarray) -> Estimate:
    """TV of every two classes (C, C) from the class evidences (C n, C) of n noised data of each."""
    count = evidence.shape[1]
    log_p = evidence.reshape(count, -1, count)
    own = np.einsum("cnc->cn", log_p)
    value, error = average(np.abs(np.tanh((own[:, :, None] - log_p) / 2)).swapaxes(1, 2))
    return Estimate((value + value.T) / 2, np.hypot(error, error.T) / 2)


class Windows(NamedTuple):
    """Critical windows of every two classes: estimates of t, (C, C), NaN where a level is not passed."""

    names: list[Any]
    upper: Estimate  # TV = eps: above, x_t does not tell the two apart
    middle: Estimate  # TV = 1/2
    lower: Estimate  # TV = 1 - eps: below, the choice is made
    times: np.ndarray  # (T,)
    distance: Estimate  # (T, C, C)

    def __repr__(self) -> str:
        pairs = len(self.names) * (len(self.names) - 1) // 2
        chosen = int(np.isfinite(self.lower.value[np.triu_indices(len(self.names), 1)]).sum())
        return f"Windows({len(self.names)} classes, {chosen} of {pairs} pairs part, {len(self.times)} times)"


def critical_windows(
    classes: Any, process: Process, eps: float = 0.1, times: int | Any = 48, n: int = 128, seed: int = 0
) -> Windows:
    """When each two classes part: the times at which the distance of their noised laws is eps, 1/2 and 1 - eps.

    Parameters
    ----------
    times : their number, uniform in log beta, or decreasing times between which distances are interpolated.
    n : noised data a class.
    """
    if not 0 < eps < 0.5:
        raise ValueError(f"eps: wanted a number between 0 and 1/2, got {eps}")
    t = read_times(process, times)
    found = [total_variation(classes, process, float(s), n, seed) for s in bar(t, "critical windows")]
    distance = Estimate(np.stack([x.value for x in found]), np.stack([x.error for x in found]))
    return windows_of(list(classes), process, t, distance, eps)


def windows_of(names: list[Any], process: Process, t: np.ndarray, distance: Estimate, eps: float) -> Windows:
    """Crossings of the distances (T, C, C) at decreasing times t, interpolated in log beta."""
    x = np.log(process.beta(t))
    upper, middle, lower = (_crossing(process, x, distance, level) for level in (eps, 0.5, 1 - eps))
    return Windows(names, upper, middle, lower, t, distance)


def _crossing(process: Process, x: np.ndarray, distance: Estimate, level: float) -> Estimate:
    """Times at which the distances pass the level for the last time on cooling, (C, C)."""
    value, error = distance
    below = value < level
    last = len(x) - 1 - below[::-1].argmax(0)  # the coldest time at which it is still below
    passed = below.any(0) & (last < len(x) - 1)
    i = np.where(passed, last, 0)[None]
    y0, y1 = (np.take_along_axis(value, i + k, 0)[0] for k in (0, 1))
    slope = np.where(passed, (y1 - y0) / (x[i + 1] - x[i])[0], 1)
    log_beta = np.where(passed, x[i[0]] + (level - y0) / slope, x[0])
    t = process.time(np.clip(np.exp(log_beta), *process.beta_range))
    rate = process.diffusion(t) / process.sigma(t) ** 2  # -d log beta / dt
    deviation = np.take_along_axis(error, i, 0)[0] / slope / rate
    return Estimate(np.where(passed, t, np.nan), np.where(passed, deviation, np.nan))


def u_turn_samples(
    denoiser: Any, process: Process, t: float, y: Any, steps: int = 64, scheme: str = "ancestral", seed: int = 0
) -> Any:
    """Data y (n, ...) noised to t and denoised again with a law or any denoiser: samples at t_min, like y.

    steps : of the scheme, whose error stays however many data there are: 64 ancestral steps may move the share of a
        class by 0.01, 1000 by 0.001.
    """
    x = noised(denoiser, process, t, y, seed)
    return sample(denoiser, process, steps=steps, scheme=scheme, t_start=t, x_start=x, seed=seed)


def clone_samples(
    denoiser: Any, process: Process, t: float, n: int, steps: int = 64, scheme: str = "ancestral", seed: int = 0
) -> tuple[Any, Any]:
    """Two clones of n trajectories that part at t, at t_min: a pair of (n, ...).

    steps : of each of the two legs, down to t and from there; their error stays, as in `u_turn_samples`.
    scheme : one with noise, which alone tells the clones apart; a ValueError for others.
    """
    import torch

    if scheme in DETERMINISTIC:
        raise ValueError(f"scheme: wanted one with noise, by which clones part, got {scheme!r}")

    x = sample(denoiser, process, n, process.times(steps + 1, t_end=t), scheme, seed=seed)
    both = torch.cat([x, x]) if not denoiser.numpy else np.concatenate([x, x])
    ends = sample(denoiser, process, steps=steps, scheme=scheme, t_start=t, x_start=both, seed=seed, first_step=steps)
    return ends[:n], ends[n:]


def same_class(classes: Any, process: Process, a: Any, b: Any) -> Estimate:
    """The probability that samples a and b (n, ...) at t_min are of one class: E sum_c p(c|a) p(c|b).

    Of data (at t = 0) and samples alike: at t_min the noise is too small to matter. A ValueError where they do not come
    in pairs.
    """
    check_split(classes)
    if np.shape(a) != np.shape(b):
        raise ValueError(f"b: wanted a sample for each of a, shape {np.shape(a)}, got {np.shape(b)}")
    alpha, beta = float(process.alpha(process.t_min)), float(process.beta(process.t_min))
    p, q = (host(classes.class_posterior(x / alpha, beta)) for x in (a, b))
    return average((p * q).sum(-1))
