"""The observables of a transition over reduced temperatures and fields: a table to be fitted, a row a replica."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastthermo._arrays import whole
from fastthermo.ensemble import Ensemble
from fastthermo.exponents.axis import ROUNDING, Axis

EXACT = np.geomspace(1e-3, 0.4, 20)  # reduced temperatures at which an exact law is measured
MARGIN = 1.3  # the roots of a sample are looked for from so far above the law's
FIELDS = 2.0  # the isotherm's fields, epsilon^FIELDS sqrt(s_c): magnetisations of a size with the order parameter's


class Observable(NamedTuple):
    """How an observable tells its exponent: y ~ x^p, exponent = offset + factor p, or 1/p where factor is 0."""

    axis: str  # "epsilon" or "field"
    symbol: str
    factor: float
    offset: float
    mean_field: float
    correction: float = 1.0  # power of the leading correction to scaling, for an analytic landscape


OBSERVABLES = {
    "order_parameter": Observable("epsilon", "beta", 1, 0, 0.5),
    "susceptibility": Observable("epsilon", "gamma", -1, 0, 1),
    "susceptibility_above": Observable("epsilon", "gamma'", -1, 0, 1),
    "isotherm": Observable("field", "delta", 0, 0, 3, 2 / 3),
    "heat_capacity": Observable("epsilon", "alpha", -1, 0, 0),
    "relaxation_time": Observable("epsilon", "z nu", -1, 0, 1),
    "barrier": Observable("epsilon", "alpha (barrier)", -1, 2, 0),
}


def observe(axis: Axis, laws: list[Any], epsilon: Any, field: Any) -> dict[str, np.ndarray]:
    """Every observable of `OBSERVABLES` at epsilon (T,) and field (F,), positive: name -> (R, T) or (R, F), R laws.

    The laws are measured on one axis and at its temperature, those of the law that they sample. NaN where a law has no
    stable fixed point. `name_error`: what rounding leaves uncertain.
    """
    epsilon, field = (_positive(name, x) for name, x in (("epsilon", epsilon), ("field", field)))
    if not epsilon.max() < 1:
        raise ValueError(f"epsilon: wanted reduced temperatures 1 - s/s_c below 1, got {epsilon.max()}")
    t, n, scale = len(epsilon), len(field), axis.beta**-0.5
    beta = axis.beta / np.concatenate([1 - epsilon, 1 + epsilon, np.ones(n)])
    external = np.concatenate([np.zeros(2 * t), field])
    far = np.concatenate([np.full(t, 10 * scale), np.zeros(t), np.full(n, 10 * scale)])
    start, _ = axis.of(axis.law).solve(far, beta, external)
    start = np.where(np.isfinite(start) & (far > 0), MARGIN * start, far)  # above s_c the root may have either sign
    rows = [_observe_one(axis.of(law), start, beta, external, t) for law in laws]
    table = {"epsilon": epsilon, "field": field} | {name: np.stack([row[name] for row in rows]) for name in OBSERVABLES}
    return table | rounding_errors(table, scale)


def rounding_errors(table: dict[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    """What rounding leaves uncertain of each observable in a table, (T,), at s_c = scale^2: `name_error`.

    A rounding of f = M(x) - x shifts x by f / (1 - g), and the gain by x times that; F~ counts in units of itself.
    """
    errors = {}
    for name, observable in OBSERVABLES.items():
        x = table[observable.axis]
        loss = x**-2.0 if name == "barrier" else x**-1.5 if observable.axis == "epsilon" else scale / x
        errors[f"{name}_error"] = ROUNDING * loss * np.abs(table[name]).mean(0)
    return errors


def _observe_one(
    axis: Axis, start: np.ndarray, beta: np.ndarray, external: np.ndarray, t: int
) -> dict[str, np.ndarray]:
    """One row of the table: t points below the transition, t above, the rest in a field."""
    below, field = beta[:t], external[2 * t :]
    x, gain = axis.solve(start, beta, external)
    chi = gain / (1 - gain)
    ordered, found = x[:t], np.isfinite(x[:t])
    here, zero = np.where(found, ordered, 0.0), np.zeros(t)
    states = axis.law.boltzmann(axis.points(np.concatenate([zero, here])), np.tile(below, 2))
    free = np.asarray(states.regularised_free_energy)
    heat = axis.heat_capacity(here, below, np.where(found, gain[:t], 0.0)) - axis.heat_capacity(zero, below)
    return {
        "order_parameter": ordered,
        "susceptibility": chi[:t],
        "susceptibility_above": chi[t : 2 * t],
        "isotherm": x[2 * t :] - field,
        "heat_capacity": np.where(found, heat, np.nan),
        "relaxation_time": 1 / (below * (1 - gain[:t])),
        "barrier": np.where(found, free[:t] - free[t:], np.nan),
    }


def samples(law: Any, draws: int, replicas: int, seed: int) -> list[Ensemble]:
    """`replicas` ensembles of `draws` data each, drawn from the law with independent seeds."""
    draws, replicas = whole("draws", draws, 1), whole("replicas", replicas, 2)
    seeds = np.random.SeedSequence(seed).generate_state(replicas, np.uint64)
    return [Ensemble(law.draw(draws, int(s))) for s in seeds]


def _positive(name: str, x: Any) -> np.ndarray:
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"{name}: wanted a list of positive numbers, got {x}")
    return array
