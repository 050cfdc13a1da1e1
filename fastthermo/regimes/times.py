"""Speciation, collapse and condensation.

    speciation      Lambda alpha^2 = 1: the leading mode of the data emerges from the noise
    collapse        a state gains half the weight given its own noised data, E log[w_own/(1 - w_own)] = 0;
                    for N data of a known law, I(y; x_t) = log N
    condensation    T = sqrt(V / (2 log N)), V the variance over the N states of H at given x: below it the sum over
                    states is carried by a few (the random energy model of Derrida 1981, for Gaussian energies)

Biroli, Bonnaire, de Bortoli & Mezard, arXiv:2402.18491; Achilli et al., arXiv:2410.08727.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastthermo.critical import critical_time
from fastthermo.process import Process, check_process
from fastthermo.regimes.averages import Estimate, average, choose_own, host, noised_field
from fastthermo.regimes.information import mmse, mutual_information, own_odds, time_of

NOWHERE = Estimate(math.nan, math.nan)
SURE = 4  # standard errors by which a mean has a sign
SAME = 1e-12  # relative difference of numbers that are equal but for rounding


def speciation_time(law: Any, process: Process) -> float:
    """The t at which Lambda alpha^2 = 1, Lambda the largest eigenvalue of the data covariance; NaN if there is none.

    There is none in particular where alpha is the same at all t, as in variance-exploding processes.
    """
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
    Estimate of t with its standard error; NaN where the mean keeps its sign on [t_min, t_max]: where it is not below 0
    at t_max and above 0 at t_min by four of its standard errors, as that of two states, which is above 0 throughout.
    """
    from scipy.optimize import brentq

    index = choose_own(ens, process, n, seed)
    y = ens.data(index)

    def log_odds(log_beta: float, few: slice = slice(None)) -> np.ndarray:
        t = float(process.time(np.exp(log_beta)))
        return own_odds(ens, index[few], noised_field(ens, process, t, y[few], seed), process.beta(t))

    low, high = np.log(process.beta_range)
    hot, cold = log_odds(low), log_odds(high)
    if not (_above(average(-hot), 0) and _above(average(cold), 0)):
        return NOWHERE
    few = slice(0, 64)
    if not hot[few].mean() < 0 < cold[few].mean():
        few = slice(None)
    root = brentq(lambda b: log_odds(b, few).mean(), low, high, xtol=0.02)
    for width in (0.1, 0.01):  # two secants over all n; the curve is smooth, the same data and noise at every t
        ends = np.clip([root - width, root + width], low, high)
        values = [log_odds(b) for b in ends]
        below, above = (v.mean() for v in values)
        slope = (above - below) / (ends[1] - ends[0])
        root = float(np.clip(ends[0] - below / slope, low, high))
    return time_of(process, root, average(np.mean(values, axis=0)).error / slope)


def _above(estimate: Estimate, level: float) -> bool:
    """Whether what is estimated is surely above a level."""
    return bool(estimate.value - SURE * estimate.error > level + SAME * abs(level))


def population_collapse(law: Any, process: Process, size: float, n: int = 1024, seed: int = 0) -> Estimate:
    """The t at which x_t carries log N nats about its data point, N = `size` data drawn from `law`: their collapse.

    Exact (error 0) for laws in one dimension or with mutual_information(beta) in closed form: for unit Gaussian data
    and the Ornstein-Uhlenbeck process t = log(1 + 1/(N^{2/D} - 1)) / 2. Else the root over one set of noised data, with
    the standard error of I over its slope beta mmse / 2.

    Returns
    -------
    Estimate of t; NaN where I(y; x_t) does not pass log N on [t_min, t_max] by four of its standard errors, as for laws
    of few points.
    """
    from scipy.optimize import brentq

    if not size > 1:
        raise ValueError(f"size: wanted more than one datum, got {size}")

    def information(log_beta: float) -> Estimate:
        return mutual_information(law, process, float(process.time(np.exp(log_beta))), n, seed)

    low, high = np.log(process.beta_range)
    hot, cold = information(low), information(high)
    if not (_above(Estimate(-hot.value, hot.error), -math.log(size)) and _above(cold, math.log(size))):
        return NOWHERE
    root = brentq(lambda b: information(b).value - math.log(size), low, high, xtol=1e-14, rtol=1e-14)
    t = float(process.time(np.exp(root)))
    error = information(root).error
    slope = math.exp(root) / 2 * float(mmse(law, process, t, n, seed).value) if error else 1.0
    return time_of(process, root, error / slope)


def energy_variance(law: Any, field: Any) -> np.ndarray:
    """V, the variance of H over the law itself at each field (B, ...): that of the Boltzmann state as beta -> 0."""
    rows = host(field).reshape(-1, law.dimension)
    reach = np.linalg.norm(rows - law.data_mean, axis=1)
    width = law.data_variance
    beta = 1e-30 / (width + reach * math.sqrt(width) + 1e-300)  # |beta H| << 1, of rare far states too
    return host(law.boltzmann(field, beta).energy_variance)


def condensation_temperature(law: Any, field: Any, size: float | None = None) -> np.ndarray:
    """T_cond = sqrt(V / (2 log N)) at each field (B, ...): condensed where 1/beta < T_cond, (B,).

    size : N; that of the ensemble by default.
    """
    return np.sqrt(energy_variance(law, field) / (2 * _log_size(law, size)))


def condensation_time(law: Any, process: Process, size: float | None = None) -> float:
    """The t at which pure noise about the data mean condenses: 2 T^2 log N = V; NaN outside [t_min, t_max].

    At h = mean + sqrt(T) z the mean of V over the noise is V(mean) + T tr(Sigma); for states of one length about their
    mean, T = tr(Sigma) / (2 log N).
    """
    check_process(process)
    log_size = _log_size(law, size)
    centre = energy_variance(law, np.asarray(law.data_mean)[None])[0]
    total = law.data_variance
    temperature = (total + math.sqrt(total**2 + 8 * centre * log_size)) / (4 * log_size)
    low, high = process.beta_range
    inside = temperature > 0 and low <= 1 / temperature <= high
    return float(process.time(1 / temperature)) if inside else math.nan


def condensation_spectrum(law: Any, k: int, size: float | None = None) -> np.ndarray:
    """lambda_j / (2 log N) of the k largest eigenvalues of the data covariance, decreasing: (k,) temperatures.

    Directions are lost one after the other as T falls (geometric memorisation, Achilli et al., arXiv:2410.08727).
    """
    return law.principal(k)[0] / (2 * _log_size(law, size))


def _log_size(law: Any, size: float | None) -> float:
    """log N, of the ensemble where no size is given."""
    count = getattr(law, "size", None) if size is None else size
    if count is None:
        raise TypeError(f"law: wanted an Ensemble, or the number of states as size=, got {type(law).__name__}")
    if not 1 < count < math.inf:
        raise ValueError(f"size: wanted more than one state, finitely many, got {count}")
    return math.log(count)


def rem_participation(temperature: Any) -> np.ndarray:
    """sum w^2 of the Gaussian random energy model for N -> infinity at T/T_cond >= 0: max(0, 1 - T/T_cond)."""
    ratio = np.asarray(temperature, dtype=np.float64)
    if not (ratio >= 0).all():
        raise ValueError(f"temperature: wanted numbers of at least 0, got {ratio[~(ratio >= 0)].flat[0]}")
    return np.maximum(0, 1 - ratio)
