"""Dynamical regimes of generation (Biroli, Bonnaire, de Bortoli & Mezard, arXiv:2402.18491).

Cooling from noise, samples first choose a class (speciation), later a single training point (collapse).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastthermo.critical import critical_time
from fastthermo.process import Process
from fastthermo.sampling import noised


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    error: float


def speciation_time(law: Any, process: Process) -> float:
    """The t at which Lambda alpha^2 = 1, Lambda the largest eigenvalue of the data covariance; NaN if there is none."""
    return critical_time(law, process, "speciation")


def collapse_time(ens: Any, process: Process, n: int = 1024, seed: int = 0) -> Estimate:
    """The t at which noised data stop remembering which point they came from: E log[w_own / (1 - w_own)] = 0.

    w_own is the Boltzmann weight, given x_t = alpha y_i + sigma z, of the very y_i it was made from. For a finite
    ensemble this is the leave-one-out form of the population criterion I(y; x_t) = log N, reached only at t = 0.

    Parameters
    ----------
    n : noised data averaged over; the same data and noise at every t.

    Returns
    -------
    Estimate of t with its standard error; NaN where the mean keeps its sign on [t_min, t_max].
    """
    from scipy.optimize import brentq

    index = choose(ens, n, seed)
    y = ens.data(index)

    def log_odds(log_beta: float, few: slice = slice(None)) -> np.ndarray:
        t = float(process.time(np.exp(log_beta)))
        field = noised(ens, process, t, y[few], seed) / float(process.alpha(t))
        odds = np.asarray(ens.log_odds(index[few], field, float(process.beta(t))))
        # weights below 2e-300 count as 0 and their log odds as infinite; the bound keeps the mean finite and its sign
        return np.clip(odds, -700, 700)

    low, high = np.log(process.beta_range)
    few = slice(0, min(n, 64))
    if not log_odds(low, few).mean() < 0 < log_odds(high, few).mean():
        return Estimate(float("nan"), float("nan"))
    root = brentq(lambda b: log_odds(b, few).mean(), low, high, xtol=0.02)
    for width in (0.1, 0.01):  # two secants over all n; the curve is smooth, the same data and noise at every t
        ends = np.clip([root - width, root + width], low, high)
        values = [log_odds(b) for b in ends]
        below, above = (v.mean() for v in values)
        slope = (above - below) / (ends[1] - ends[0])
        root = float(np.clip(ends[0] - below / slope, low, high))
    deviation = average(np.mean(values, axis=0)).error / slope  # of log beta
    t = float(process.time(np.exp(root)))
    rate = float(process.diffusion(t) / process.sigma(t) ** 2)  # -d log beta / dt
    return Estimate(t, float(deviation) / rate)


def mutual_information(law: Any, process: Process, t: float, n: int = 1024, seed: int = 0) -> Estimate:
    """I(y; x_t) = E log p(x_t | y) / p(x_t) in nats, along noised data."""
    y = law.draw(n, seed)
    x = noised(law, process, t, y, seed)
    alpha, beta = float(process.alpha(t)), float(process.beta(t))
    return average(pointwise_information(x / alpha, y, beta, law.boltzmann(x / alpha, beta).log_evidence))


def pointwise_information(field: Any, y: Any, beta: float, log_evidence: Any) -> np.ndarray:
    """log p(x | y) / p(x) = -beta |y - h|^2 / 2 - log Z~ of data y and their noised fields, (B,).

    Its mean is -E log Z~ - D/2, without the fluctuation of the noise's length.
    """
    delta = np.asarray(y - field, dtype=np.float64).reshape(len(field), -1)
    return -beta * (delta**2).sum(1) / 2 - np.asarray(log_evidence)


def average(values: Any) -> Estimate:
    """Mean over the last axis with its standard error."""
    values = np.asarray(values)
    mean, error = values.mean(-1), values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
    return Estimate(mean, error) if values.ndim > 1 else Estimate(float(mean), float(error))


def excess_entropy(law: Any, process: Process, t: float, n: int = 1024, seed: int = 0) -> Estimate:
    """f(t) = (log N - I(y; x_t)) / D, the excess entropy density; 0 where x_t singles out its data point."""
    information = mutual_information(law, process, t, n, seed)
    return Estimate((np.log(law.size) - information.value) / law.dimension, information.error / law.dimension)


def u_turn(classes: Any, process: Process, t: float, n: int = 1024, seed: int = 0) -> Estimate:
    """The probability that data noised to t and denoised again end in the class they came from: E sum_c p(c | x_t)^2.

    classes : an ensemble split by labels. The U-turn experiment of Sclocchi, Favero & Wyart, arXiv:2402.16991.
    """
    law = classes.whole
    x = noised(law, process, t, law.draw(n, seed), seed)
    p = np.asarray(classes.class_posterior(x / float(process.alpha(t)), float(process.beta(t))))
    return average((p**2).sum(-1))


def choose(ens: Any, n: int, seed: int) -> np.ndarray:
    """n states of the ensemble: without replacement where weights are equal and there are enough, else by weight."""
    rng = np.random.default_rng(seed)
    if ens.log_weights is None and n <= ens.size:
        return rng.permutation(ens.size)[:n]
    phi = np.exp(ens._core.log_weights.cpu().numpy())
    return rng.choice(ens.size, n, p=phi)
