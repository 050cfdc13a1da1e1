"""What x_t tells about its data point, along noised data.

    I(y; x_t) = E KL(w || phi) = -E S                  mutual information; S the entropy of the Boltzmann state
    mmse      = E tr C = E [2 <H~> - |force|^2]        error of the optimal denoiser
    dI/dbeta  = mmse / 2                               (Guo, Shamai & Verdu 2005)
    rate      = dI/dlog beta = beta mmse / 2 = E tr(beta C) / 2       half the mmse dimension
    f(t)      = (H(phi) - I) / D                       excess entropy density (Biroli et al., arXiv:2402.18491)

H(phi) is the entropy of the prior weights, log N where all of them are equal.

All are averages of functions of x_t, with the variance that y given x_t would add taken out. Peaks of the rate are the
times at which generation decides (Stancevic, Handke & Ambrogioni, arXiv:2504.13612).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastthermo._arrays import read_rows
from fastthermo.process import Process, check_process
from fastthermo.regimes.averages import (
    Estimate,
    at_times,
    average,
    bar,
    choose_own,
    expectation,
    host,
    jackknife,
    noised_field,
    read_times,
)

PROMINENCE = 5  # standard errors by which a peak stands out


def mutual_information(law: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """I(y; x_t) in nats at t, a scalar or (T,); exact in one dimension, where its error is 0.

    A law that knows its `mutual_information(beta)` in closed form is asked for it.
    """
    check_process(process)
    if hasattr(law, "mutual_information"):
        value = np.asarray(law.mutual_information(process.beta(t)))[()]
        return Estimate(value, 0 * value)

    def observe(field: Any, beta: float) -> tuple[Any, Any]:
        state = law.boltzmann(field, beta)
        return state.log_evidence, -state.entropy

    return expectation(law, process, t, observe, n, seed)


def mmse(law: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """E |y - <y>|^2, the least mean squared error of any denoiser, at t, a scalar or (T,)."""
    rate = entropy_rate(law, process, t, n, seed)
    twice = 2 / process.beta(t)
    return Estimate(twice * rate.value, twice * rate.error)


def spread_of(state: Any) -> np.ndarray:
    """tr C of a batch of states, without the covariance: <|y - h|^2> - |<y> - h|^2."""
    force = host(state.force).astype(np.float64)
    squared: np.ndarray = (force.reshape(len(force), -1) ** 2).sum(1)
    return np.maximum(2 * host(state.regularised_energy) - squared, 0)


def entropy_rate(law: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """-dH(y | x_t)/dlog beta = beta mmse / 2, in nats an e-fold of beta, at t, a scalar or (T,)."""

    def observe(field: Any, beta: float) -> tuple[Any, Any]:
        state = law.boltzmann(field, beta)
        return state.log_evidence, beta / 2 * spread_of(state)

    return expectation(law, process, t, observe, n, seed)


def excess_entropy(law: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """f(t) = (H(phi) - I(y; x_t)) / D, the excess entropy density in nats; 0 where x_t singles out its data point.

    H(phi) is the law's `prior_entropy`, log N for equal weights. t is a scalar or (T,).
    """
    information = mutual_information(law, process, t, n, seed)
    return Estimate((law.prior_entropy - information.value) / law.dimension, information.error / law.dimension)


def gaussian_divergence(law: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """KL(p_t || the Gaussian of its mean and covariance) in nats: what a Gaussian late start at t loses.

    The information of Gaussian data of that covariance less the law's own, sum_k log(1 + beta lambda_k) / 2 - I, as the
    mean over x_t of a difference in which most of the noise cancels. See Raya & Ambrogioni 2023. Takes all D
    eigenvectors of the data covariance.
    """
    gaussian = matched_gaussian(law)

    def observe(field: Any, beta: float) -> tuple[Any, Any]:
        state = law.boltzmann(field, beta)
        return state.log_evidence, gaussian(host(field), beta) + host(state.entropy)

    return expectation(law, process, t, observe, n, seed)


def matched_gaussian(law: Any) -> Callable[[np.ndarray, float], np.ndarray]:
    """(field (B, ...), beta) -> KL(posterior || prior) (B,) for Gaussian data with the law's mean and covariance.

    sum_k [log(1 + g_k) - g_k / (1 + g_k) + beta g_k (h - mean)_k^2 / (1 + g_k)^2] / 2 with g = beta lambda. It is
    quadratic in the field, so that its mean over the law's own noised data is the Gaussian's information.
    """
    values, vectors = law.principal(law.dimension)
    centre = np.asarray(law.data_mean)

    def information(field: np.ndarray, beta: float) -> np.ndarray:
        squared = ((field.reshape(len(field), -1) - centre) @ vectors.T) ** 2
        gain = beta * np.maximum(values, 0)
        along: np.ndarray = squared @ (beta * gain / (1 + gain) ** 2)
        return (np.log1p(gain) - gain / (1 + gain)).sum() / 2 + along / 2

    return information


class Peak(NamedTuple):
    """A local maximum of the entropy rate: its time and height."""

    time: Estimate
    rate: Estimate


def entropy_rate_peaks(law: Any, process: Process, times: int | Any = 96, n: int = 1024, seed: int = 0) -> list[Peak]:
    """Local maxima of dI/dlog beta from noise to data: when generation decides; empty where the rate is monotone.

    Parameters
    ----------
    times : their number, uniform in log beta, or decreasing times.

    Returns
    -------
    Peaks that stand out by five standard errors, each the maximum of the polynomial in log beta through the five times
    about it. Errors are those of a jackknife over the noised data and, together with them, what four of the five tell.
    """
    t = read_times(process, times, 5)
    beta = process.beta(t)
    exact = entropy_rate(law, process, t, n, seed) if law.dimension == 1 else None
    if exact is not None and not exact.error.any():
        rate = exact.value[:, None].repeat(2, 1)
    else:
        y = law.draw(n, seed)
        fields = ((noised_field(law, process, s, y, seed), b) for s, b in bar(list(zip(t, beta, strict=True))))
        rate = np.stack([b / 2 * spread_of(law.boltzmann(field, b)) for field, b in fields])
    return peaks_of(process, beta, rate)


def peaks_of(process: Process, beta: np.ndarray, rate: np.ndarray) -> list[Peak]:
    """Peaks of the mean of rates (T, n) over increasing beta (T,)."""
    from scipy.signal import find_peaks

    x, (mean, error) = np.log(beta), average(rate)
    found, shape = find_peaks(mean, prominence=1e-9 * mean.max())
    clear = shape["prominences"] > PROMINENCE * error[found]
    peaks = []
    for i in found[clear & (found >= 2) & (found < len(x) - 2)]:
        near = slice(i - 2, i + 3)

        def vertex(curve: np.ndarray, near: slice = near) -> np.ndarray:
            return top(x[near], curve[near])

        (place, height), deviation = jackknife(vertex, rate)
        fewer = [top(x[part], mean[part]) for part in (slice(i - 2, i + 2), slice(i - 1, i + 3))]
        deviation = np.hypot(deviation, np.abs(np.array(fewer) - [place, height]).max(0))
        peaks.append(Peak(time_of(process, place, deviation[0]), Estimate(float(height), float(deviation[1]))))
    return peaks


def top(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Place and height of the maximum of the polynomial through all points, about the largest of them."""
    at = x[min(max(int(y.argmax()), 1), len(x) - 2)]
    p = np.polynomial.Polynomial.fit(x - at, y, len(x) - 1)
    roots = p.deriv().roots()
    near = np.append(roots[np.isreal(roots)].real, 0.0)
    near = near[np.abs(near) <= np.diff(x).max()]
    best = near[p(near).argmax()]
    return np.array([at + best, p(best)])


def time_of(process: Process, log_beta: float, error: float) -> Estimate:
    """The time of an uncertain log beta."""
    t = float(process.time(np.exp(log_beta)))
    rate = float(process.diffusion(t) / process.sigma(t) ** 2)  # -d log beta / dt
    return Estimate(t, float(error) / rate)


def log_likelihood(law: Any, process: Process, t: Any, data: Any, noise: bool = True, seed: int = 0) -> Estimate:
    """The mean of log p_t over new data (n, ...), in nats, at t, a scalar or (T,).

    noise : whether the data are noised to t first (a cross entropy of noised laws) or taken as alpha y (a kernel
        density estimate of bandwidth sigma/alpha, in the units of x_t).

    Raises
    ------
    ValueError for fewer than two data, which have no standard error, and for times that cannot be.
    """
    rows, _, _ = read_rows("data", data, law.dimension, law.device)
    if len(rows) < 2:
        raise ValueError(f"data: wanted at least 2, for a standard error, got {len(rows)}")

    def at(s: float) -> Estimate:
        beta, variance = float(process.beta(s)), float(process.sigma(s)) ** 2
        field = noised_field(law, process, s, data, seed) if noise else data
        log_evidence = host(law.boltzmann(field, beta).log_evidence).reshape(-1)
        return average(log_evidence - law.dimension / 2 * np.log(2 * np.pi * variance))

    return at_times(process, t, at)


def memorisation_gap(ens: Any, process: Process, t: Any, n: int = 1024, seed: int = 0) -> Estimate:
    """E log p_t(x_t) / p_t^(-own)(x_t): what the ensemble's own data gain in likelihood over unseen ones, in nats.

    p^(-own) leaves out the state that x_t was made from: log(1 - w_own) - log(1 - phi_own) without a second pass. It
    saturates at 700 nats, where 1 - w_own underflows. t is a scalar or (T,).
    """
    index = choose_own(ens, process, n, seed)
    y = ens.data(index)
    others = log_others(ens, index)

    def at(s: float) -> Estimate:
        return average(own_gap(own_odds(ens, index, noised_field(ens, process, s, y, seed), process.beta(s)), others))

    return at_times(process, t, at)


def own_odds(ens: Any, index: np.ndarray, field: Any, beta: Any) -> np.ndarray:
    """log w_own / (1 - w_own); weights below 2e-300 count as 0, so that it is kept between -700 and 700."""
    return np.clip(host(ens.log_odds(index, field, float(beta))), -700, 700)


def log_others(ens: Any, index: np.ndarray) -> np.ndarray:
    """log(1 - phi) of the states `index`, also where phi rounds to 1: there it is the log of the sum of all others."""
    log_phi = host(ens._core.log_weights)
    most = int(log_phi.argmax())
    others: np.ndarray = np.log1p(-np.exp(np.minimum(log_phi[index], math.log(0.5))))
    heavy = (index == most) & (log_phi[index] > math.log(0.5))
    others[heavy] = np.logaddexp.reduce(np.delete(log_phi, most))
    return others


def own_gap(odds: np.ndarray, others: np.ndarray) -> np.ndarray:
    """-log(1 - w_own) + log(1 - phi_own) from the log odds of the own state and `log_others`."""
    return np.logaddexp(0, odds) + others
