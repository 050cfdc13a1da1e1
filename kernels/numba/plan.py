"""In which precision products serve a query: float32, float64, or how many digits of bytes."""

from typing import NamedTuple

import numpy as np

from fastthermo.kernels.bounds import SINGLE_RANGE, reach
from fastthermo.kernels.numba.codes import LARGEST, Codes
from fastthermo.kernels.numba.config import ALIKE, BLURRED, DROWNED, MARGIN, PRECISE, TOLERANCE, TYPICAL
from fastthermo.kernels.numba.pack import Packed, squares
from fastthermo.kernels.numba.scratch import LOG2E

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
FLAT = 0.7  # share of the states that N_eff is to be for two digits


class Plan(NamedTuple):
    """How products serve (B,) queries; float64 arrays."""

    level: np.ndarray  # log2 of (tolerance / error)^2 for the force; see `head`; 0 for none
    rest_level: np.ndarray  # and for the sum of all weights but the largest
    blur: np.ndarray  # where products decide nothing, their error in bits; else 0

    def of(self, rows: slice | np.ndarray) -> "Plan":
        return Plan(*(x[rows] for x in self))


def working_type(packed: Packed, precision: str) -> np.dtype:
    return DOUBLE if precision == "double" or packed.states.dtype == DOUBLE else SINGLE


def fits(packed: Packed, field: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Whether float32 holds the energies of a query, their squares, and beta times them."""
    low, high, cold = SINGLE_RANGE
    if packed.radius < low and packed.radius > 0:
        return np.zeros(len(beta), np.bool_)
    with np.errstate(over="ignore"):
        if len(beta):  # mostly, all do
            largest = max(field.max(), -field.min())
            away = np.sqrt(packed.anchor @ packed.anchor) + np.sqrt(field.shape[1]) * largest
            reach = packed.radius + away
            if reach < high and beta.max() * reach**2 < cold:
                return np.ones(len(beta), np.bool_)
        reach = packed.radius + np.sqrt(squares(field, packed.anchor))
        small: np.ndarray = (reach < high) & (beta * reach**2 < cold)
    return small


def alike(beta: np.ndarray, energy_min: np.ndarray, excess: np.ndarray, log_rest: np.ndarray) -> np.ndarray:
    """Whether all that weighs is alike and at the query: what screening leaves out may then be all that is not 0."""
    with np.errstate(over="ignore"):
        share = 1 / (1 + np.exp(-log_rest))
    found: np.ndarray = beta * (energy_min + excess) < ALIKE * share
    return found


def plan(
    packed: Packed, field: np.ndarray, beta: np.ndarray, dtype: np.dtype, precision: str = "double", rough: bool = False
) -> Plan:
    """rough : states below e^-T of the largest count as none."""
    distance = np.sqrt(squares(field, packed.anchor))
    unit = float(np.finfo(dtype).eps) / 2
    radius = MARGIN * reach(packed.radius / MARGIN, packed.spread, beta, distance) if rough else packed.radius
    error = TYPICAL * unit * beta * radius * (radius / 2 + distance) + 1e-300
    level = np.minimum(0, 2 * np.log2(TOLERANCE[dtype.itemsize] / error))
    blur = np.where(error > BLURRED, 4 * LOG2E * error / TYPICAL * np.sqrt(field.shape[1]), 0.0)
    if precision == "fast":
        return Plan(0 * blur, 0 * blur, blur * (error > DROWNED))
    rest_level = 2 * np.log2(max(PRECISE[dtype.itemsize], TOLERANCE[dtype.itemsize]) / error)
    return Plan(level, rest_level, blur)


def few_digits(packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Whether two digits may do: N_eff is a large share of the states, and rounding the query moves the mean by little.

    By beta C delta, of a query rounded by delta.
    """
    away = field - packed.anchor
    lost = np.abs(away).max(1, initial=0.0) * np.sqrt(field.shape[1] / 12) / LARGEST[2]
    few: np.ndarray = beta * codes.deviation * lost < TOLERANCE[4] / 2 * np.sqrt((away * away).sum(1))
    return few & (share > FLAT)
