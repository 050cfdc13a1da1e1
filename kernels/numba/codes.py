"""States and queries as bytes, for exact products of integers, and how far energies from them may be off.

States become bytes, y = lo + step q + rho a dimension at a time (bytes, and floats that stand for them, exactly).
A query's z = (h - a) step becomes two or three signed bytes, its digits to the base 256: z = s (256 k_1 + k_0) + delta.
Up to a constant of the query

    |H~_n - (|y_n - a|^2/2 - s k.q_n)| <= |delta| max |q - q_a| + |h - a| max |rho| + rounding =: eps

by Cauchy-Schwarz.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.matrix import TILE
from fastthermo.kernels.numba.pack import Packed
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.scratch import LOG2E

PANEL = 32  # states side by side in codes: two vectors of 16, four dimensions each
SLACK = 2 * TILE  # bytes after them that may be read
LARGEST = (0, 0, 0x7F7F - 1, 0x7F7F7F - 8)  # of |k|, by its digits, less what rounding may add
LONGEST = 0.9 * 2**31  # |k| |q - q_a|, which leaves room for the rounding of k


class Codes(NamedTuple):
    """States as bytes."""

    codes: np.ndarray  # (panels, ceil(D/4), 32, 4) uint8
    lowest: np.ndarray  # (D,) lo
    step: np.ndarray  # (D,), 0 where all states agree
    half_squares: np.ndarray  # (padded N,) float32: |y - a|^2 / 2, inf beyond the last state
    priors: np.ndarray  # (padded N,) float32, log2 phi
    anchor: np.ndarray  # (D,) q_a
    residual: float  # max |rho|
    radius: float  # max |q - q_a|
    mean: np.ndarray  # (D,) of q - q_a, about
    deviation: float  # sqrt(tr C^2 / D) of the states, about: how much of a random vector their covariance C keeps

    @property
    def exact(self) -> bool:
        """Whether bytes stand for the states as well as float32 numbers do."""
        return self.residual <= 2.0**-23 * self.radius * float(self.step.max())


class Probes(NamedTuple):
    """Queries as signed bytes."""

    codes: np.ndarray  # (B, digits, ceil(D/4) 4) int8, k_0 first
    start: np.ndarray  # (B, digits) int32: -k_i.q_a; that of two digits, k.(q - q_a), is within int32
    scale: np.ndarray  # (B,) float32: s
    offset: np.ndarray  # (B,) float32: -delta.(q - q_a) of the mean state
    error: np.ndarray  # (B,) float64: eps, of energies with or without the offset

    def of(self, rows: slice | np.ndarray) -> "Probes":
        return Probes(*(x[rows] for x in self))


def encode(packed: Packed) -> Codes:
    states, (size, dimension) = packed.states, packed.states.shape
    panels, quads = -(-size // PANEL), -(-dimension // 4)
    codes = np.zeros(panels * quads * PANEL * 4 + 64 + SLACK, np.uint8)
    codes = codes[-codes.ctypes.data % 64 :][: len(codes) - 64 - SLACK].reshape(panels, quads, PANEL, 4)
    squares = np.zeros((panels, 2))
    for lowest, step in _grids(states):
        centre = np.rint((packed.anchor - lowest) / np.where(step > 0, step, 1.0))
        squares[:] = 0.0
        run(_encode_kernel, panels, 64, states, lowest, step, centre, codes, squares)
        residual, radius = squares.max(0)
        if residual <= (0.01 * step.max()) ** 2 * dimension:
            break  # all states are on a common grid
    padding = panels * PANEL - size
    half = np.concatenate([packed.half_squares, np.full(padding, np.inf)]).astype(np.float32)
    priors = np.concatenate([LOG2E * packed.log_weights, np.zeros(padding)]).astype(np.float32)
    grown = 1 + 1e-9
    lengths = math.sqrt(residual) * grown, math.sqrt(radius) * grown
    sample = packed.sample().states
    mean = sample.mean(0, dtype=np.float64)
    from_anchor = np.where(step > 0, mean - packed.anchor, 0.0) / np.where(step > 0, step, 1.0)
    return Codes(codes, lowest, step, half, priors, centre, *lengths, from_anchor, _deviation(sample, mean))


def _deviation(sample: np.ndarray, mean: np.ndarray) -> float:
    few = sample[:: max(1, len(sample) // 256)]
    centred = (few - mean).astype(np.float32)
    gram = centred @ centred.T / len(few)
    return float(np.sqrt((gram**2).sum(dtype=np.float64) / few.shape[1]))


def _grids(states: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """lo and step to try: of the bytes that float states may stand for, then the range of each dimension.

    Bytes may have been scaled alike, or a channel at a time: three blocks of dimensions, or every third one.
    """
    dimension = states.shape[1]
    if states.dtype == np.uint8:
        yield np.zeros(dimension), np.ones(dimension)
        return
    lowest, highest = states.min(0).astype(np.float64), states.max(0).astype(np.float64)
    sample = states[:: max(1, len(states) // 64)]
    channels = np.arange(dimension) % 3
    for own in (np.zeros(dimension, int), np.sort(channels), channels):
        grids = [_grid(sample[:, own == c], lowest[own == c], highest[own == c]) for c in range(own.max() + 1)]
        if all(step > 0 for _, step in grids):
            least, steps = np.array(grids).T
            yield least[own], steps[own]
    yield lowest, (highest - lowest) / 255


def _grid(values: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> tuple[float, float]:
    """lo and step of 256 levels or fewer that some values seem to be on; a step of 0 for none."""
    found, least = np.unique(values).astype(np.float64), float(lowest.min())
    if not 1 < len(found) <= 256:
        return least, 0.0
    width = highest.max() - least
    levels = np.rint(width / np.diff(found).min())
    on_it = levels <= 255 and abs((found - least) * (levels / width) % 1 - 0.5).min() > 0.49
    return least, float(width / levels) if on_it else 0.0


@jit
def _encode_kernel(low, high, states, lowest, step, centre, codes, squares):  # type: ignore[no-untyped-def]
    """Codes of panels [low, high), their largest |rho|^2 and |q - q_a|^2."""
    size, dimension = states.shape
    for panel in range(low, high):
        for i in range(min(PANEL, size - panel * PANEL)):
            n = panel * PANEL + i
            residual = radius = 0.0
            for d in range(dimension):
                y = np.float64(states[n, d]) - lowest[d]
                q = np.rint(y / step[d]) if step[d] > 0 else 0.0
                codes[panel, d // 4, i, d % 4] = np.uint8(q)
                residual += (y - step[d] * q) ** 2
                radius += (q - centre[d]) ** 2
            squares[panel, 0] = max(squares[panel, 0], residual)
            squares[panel, 1] = max(squares[panel, 1], radius)


def probe(packed: Packed, codes: Codes, field: np.ndarray, beta: np.ndarray, digits: int = 2) -> Probes:
    queries, stride = len(field), codes.codes.shape[1] * 4
    bytes_, start = np.zeros((queries, digits, stride), np.int8), np.empty((queries, digits), np.int32)
    scale, norms = np.empty(queries, np.float32), np.empty((4, queries))
    longest = LONGEST if digits == 2 else np.inf
    about = (field, packed.anchor, codes.step, codes.anchor, codes.mean)
    run(_probe_kernel, queries, 64, *about, bytes_, start, scale, LARGEST[digits], codes.radius / longest, norms)
    lost, distance, length, offset = norms
    rounding = 2.0**-21 * (length * codes.radius + packed.radius**2 / 2 + packed.spread / beta)
    error = lost * codes.radius + np.abs(offset) + distance * codes.residual + rounding
    return Probes(bytes_, start, scale, offset.astype(np.float32), error * (1 + 1e-9))


@jit
def _probe_kernel(low, high, field, anchor, step, centre, mean, codes, start, scale, most, per_length, norms):  # type: ignore[no-untyped-def]
    """Codes of queries [low, high), s, the norms of delta, h - a and s k, and -delta.(q - q_a) of the mean."""
    dimension = anchor.size
    for b in range(low, high):
        largest = square = 0.0
        for d in range(dimension):
            z = (field[b, d] - anchor[d]) * step[d]
            largest, square = max(largest, abs(z)), square + z * z
        s = np.float32((1 + 2.0**-22) * max(largest / most, np.sqrt(square) * per_length, 1e-30))  # not rounded down
        scale[b] = s
        per = 1 / np.float64(s)
        lost = distance = length = offset = 0.0
        start[b] = 0
        for d in range(dimension):
            v = field[b, d] - anchor[d]
            z = v * step[d]
            k = np.rint(z * per)
            delta = z - s * k
            lost += delta * delta
            offset -= delta * mean[d]
            distance += v * v
            length += (s * k) ** 2
            for i in range(codes.shape[1]):
                above = np.floor((k + 128) / 256)
                digit = k - 256 * above
                codes[b, i, d] = np.int8(digit)
                start[b, i] -= np.int32(digit * centre[d])
                k = above
        norms[0, b], norms[1, b], norms[2, b], norms[3, b] = np.sqrt(lost), np.sqrt(distance), np.sqrt(length), offset
