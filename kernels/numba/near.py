"""Boltzmann sums in few dimensions: squared distances by differences, states in lanes, queries in pairs.

With e_n = |y_n - h|^2 and c = -beta log2(e) / 2 the logits are z_n = c e_n + log2(phi_n), in bits. A tile of states is
passed over twice: energies, kept, with the largest z; then weights 2^(z - m) with an integer m near it, so that without
phi z - m is rounded once. The dominant state is left out of the sums. Differences are those of the raw numbers,
s = y - h or, where h has more digits than the states, (y - high) - low, so that the relative error of e is at most
(D + 4) u, whatever the offset of the data.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.config import NEAR_TILE
from fastthermo.kernels.numba.scratch import LOG2E, aligned, floor, least_sum
from fastthermo.kernels.numba.simd import (
    F32,
    FORMAT,
    VECTORS,
    address,
    constant,
    equal,
    fence,
    fma,
    fused,
    lanes,
    llvm,
    load,
    loop,
    power,
    scaled,
    splat,
    spread,
)

STRIDE = NEAR_TILE + 64  # rows of scratch 256 bytes off a multiple of 4096: loads do not wait for stores of other rows
PAIR = 2
REST, EXCESS, SQUARE, PARTICIPATION, ENERGY_MIN = range(5)  # rows of `scalars`


class _Emitter:
    """Addresses and repeated values inside the two loops below."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, values
        self.vector = VECTORS[signature.args[0].dtype]
        self.points: dict[int, Any] = {}

    def keep_points(self, count: int) -> None:
        """Hold the points' components in registers, if they are few: loads are not moved out of a loop that stores."""
        if count * PAIR <= 16:
            self.points = {k: self.everywhere(self.scalar(1, k)) for k in range(count * PAIR)}

    def at(self, argument: int, offset: Any, target: Any = None) -> Any:
        where = ir.Constant(ir.IntType(64), offset) if isinstance(offset, int) else offset
        kind = self.vector.ir.element if target is None else target
        return address(self.context, self.builder, self.types[argument], self.values[argument], where, kind)

    def scalar(self, argument: int, offset: int) -> Any:
        return self.builder.load(self.at(argument, offset))

    def everywhere(self, scalar: Any) -> Any:
        return spread(self.builder, scalar, self.vector.count)

    def row(self, argument: int, row: int, index: Any) -> Any:
        offset = self.builder.add(index, ir.Constant(ir.IntType(64), row * STRIDE))
        return self.at(argument, offset, self.vector.ir)

    def read(self, argument: int, row: int, index: Any) -> Any:
        return self.builder.load(self.row(argument, row, index), align=4)

    def smaller(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", x, y), x, y)

    def differences(self, index: Any, axis: int, axes: int, parts: int) -> list[Any]:
        """y - h of the pair in one axis, or (y - high) - low."""
        state = self.read(0, axis, index)
        results = []
        for q in range(PAIR):
            result = state
            for part in range(parts):
                place = (part * PAIR + q) * axes + axis
                point = self.points[place] if self.points else self.everywhere(self.scalar(1, place))
                result = self.builder.fsub(result, point)
                if part + 1 < parts:
                    result = fence(self.builder, result)
            results.append(result)
        return results


@intrinsic
def _energies(
    typing: Any,
    panel: Any,
    point: Any,
    scale: Any,
    energy: Any,
    best: Any,
    count: Any,
    axes: Any,
    parts: Any,
    tilts: Any,
) -> Any:
    """e of a pair of queries into `energy`, its least or, if `tilts`, the largest z into `best`.

    panel : axes rows of coordinates, then log2 phi; point : parts x PAIR x axes; scale : c.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emitter(context, builder, signature, values)
        vector = emit.vector.ir
        emit.keep_points(axes.count * parts.count)

        def body(index: Any, best: list[Any]) -> list[Any]:
            found, totals = [], [None] * PAIR
            for axis in range(axes.count):
                for q, s in enumerate(emit.differences(index, axis, axes.count, parts.count)):
                    last = totals[q]
                    totals[q] = builder.fmul(s, s) if last is None else fused(builder, s, s, last)
            for q, total in enumerate(totals):
                builder.store(total, emit.row(3, q, index), align=4)
                if tilts.count:
                    z = fused(builder, emit.everywhere(emit.scalar(2, q)), total, emit.read(0, axes.count, index))
                    found.append(builder.select(builder.fcmp_ordered(">", z, best[q]), z, best[q]))
                else:
                    found.append(emit.smaller(total, best[q]))
            return found

        start = constant(vector, float("-inf" if tilts.count else "inf"))
        best = loop(builder, values[5], emit.vector.count, [start] * PAIR, body)
        for q in range(PAIR):
            name = f"llvm.vector.reduce.{'fmax' if tilts.count else 'fmin'}.{emit.vector.suffix}"
            builder.store(llvm(builder, name, vector.element, (best[q],), fastmath=("nnan",)), emit.at(4, q))
        return context.get_dummy_value()

    return types.void(panel, point, scale, energy, best, count, axes, parts, tilts), generate


@intrinsic
def _weigh(
    typing: Any,
    panel: Any,
    point: Any,
    energy: Any,
    how: Any,
    count: Any,
    sums: Any,
    axes: Any,
    parts: Any,
    tilts: Any,
    moments: Any,
) -> Any:
    """Sums of w = 2^(z - m): w, w s by axis and, if `moments`, w x, w x^2 and w^2 with x = e - e_r.

    how : rows c, largest e, m, e_r, least z - m of the pair; sums : a row of each query.
    """
    width = 1 + axes.count + 3 * min(1, moments.count)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emitter(context, builder, signature, values)
        vector = emit.vector
        magic = ir.Constant(vector.ir.element, 1.5 * 2.0 ** FORMAT[vector][1])
        scale, top, _, origin = ([emit.everywhere(emit.scalar(3, k * PAIR + q)) for q in range(PAIR)] for k in range(4))
        shift = [emit.everywhere(builder.fsub(magic, emit.scalar(3, 2 * PAIR + q))) for q in range(PAIR)]
        least = [emit.everywhere(emit.scalar(3, 4 * PAIR + q)) for q in range(PAIR)]
        tiny = constant(vector.ir, 2.0**-45 if vector is F32 else 2.0**-459)  # whose square is a normal number

        def body(index: Any, old: list[Any]) -> list[Any]:
            new = [old[q * width : (q + 1) * width] for q in range(PAIR)]
            weights = []
            for q in range(PAIR):
                e = emit.smaller(emit.read(2, q, index), top[q])
                if tilts.count:
                    z = fused(builder, scale[q], e, emit.read(0, axes.count, index))
                    z = builder.select(builder.fcmp_ordered(">", z, least[q]), z, least[q])
                    rounded = fence(builder, builder.fadd(z, shift[q]))
                    fraction = builder.fsub(z, fence(builder, builder.fsub(rounded, shift[q])))
                    bounds = (least[q], z)
                else:
                    rounded = fence(builder, fused(builder, scale[q], e, shift[q]))
                    fraction = fused(builder, scale[q], e, builder.fneg(builder.fsub(rounded, shift[q])))
                    bounds = (e, top[q])
                w = scaled(builder, vector, power(builder, vector, fraction), rounded)
                # products of smaller weights are subnormal, and slow
                w = builder.select(builder.fcmp_ordered("<", *bounds), w, constant(vector.ir, 0.0))
                weights.append(w)
                new[q][0] = builder.fadd(new[q][0], w)
                if moments.count:
                    x = builder.fsub(e, origin[q])
                    first, second, square = new[q][-3:]
                    weighted, large = builder.fmul(w, x), builder.select(builder.fcmp_ordered(">", w, tiny), w, tiny)
                    new[q][-3:] = [
                        builder.fadd(first, weighted),
                        fused(builder, weighted, x, second),
                        fused(builder, large, large, square),
                    ]
            for axis in range(axes.count):
                for q, s in enumerate(emit.differences(index, axis, axes.count, parts.count)):
                    new[q][1 + axis] = fused(builder, weights[q], s, new[q][1 + axis])
            return [x for row in new for x in row]

        results = loop(builder, values[4], vector.count, [constant(vector.ir, 0.0)] * (PAIR * width), body)
        start = ir.Constant(vector.ir.element, -0.0)
        for i, result in enumerate(results):
            name = f"llvm.vector.reduce.fadd.{vector.suffix}"
            reduced = llvm(builder, name, vector.ir.element, (start, result), fastmath=("reassoc",))
            builder.store(reduced, emit.at(5, i))
        return context.get_dummy_value()

    return types.void(panel, point, energy, how, count, sums, axes, parts, tilts, moments), generate


@jit
def near_kernel(  # type: ignore[no-untyped-def]
    low, high, states, log_weights, field, beta, zero, axes, parts, tilts, moments, dominant, shift, scalars
):
    """Sums over all states for queries [low, high); `zero`, of the dtype to compute in, tells it."""
    size, dimension = states.shape
    queries, width = high - low, 1 + dimension + 3 * len(moments)
    panel = aligned((dimension + 1 + PAIR) * STRIDE, zero)
    energy = panel[(dimension + 1) * STRIDE :]
    point, best = np.empty(len(parts) * PAIR * dimension, zero.dtype), np.empty(PAIR, zero.dtype)
    how, sums = np.empty(5 * PAIR, zero.dtype), np.empty(PAIR * width, zero.dtype)
    force, away = np.zeros((queries, dimension)), np.zeros((queries, dimension))
    bits = np.empty(queries)  # z of the reference
    for q in range(queries):
        bits[q] = -np.inf
        dominant[low + q] = 0
        for k in range(5):
            scalars[k, low + q] = 0.0
    for start in range(0, size, NEAR_TILE):
        count = min(NEAR_TILE, size - start)
        padded = _load_panel(states, log_weights, start, count, panel)
        for first in range(0, queries, PAIR):
            for q in range(PAIR):
                b = low + min(first + q, queries - 1)
                _set_point(field, b, q, len(parts), point)
                how[q] = -0.5 * LOG2E * beta[b]
            _energies(panel, point, how, energy, best, padded, axes, parts, tilts)
            for q in range(PAIR):
                k = min(first + q, queries - 1)
                found = np.float64(best[q]) if len(tilts) > 0 else np.float64(how[q]) * np.float64(best[q])
                if found > bits[k]:
                    place = _find(energy, q * STRIDE, best[q], panel, dimension * STRIDE, how[q], tilts)
                    r = start + place
                    _move(found, bits[k], states, r, field, low + k, force, away, k, scalars)
                    energy[q * STRIDE + place] = np.inf
                    bits[k], dominant[low + k] = found, r
                for i in range(q * STRIDE + count, q * STRIDE + padded):
                    energy[np.uint64(i)] = np.inf
                whole = np.rint(bits[k]) if bits[k] > -np.inf else 0.0
                how[PAIR + q] = (whole - floor(zero)) / how[q]
                how[2 * PAIR + q] = whole
                how[3 * PAIR + q] = 2 * scalars[ENERGY_MIN, low + k]
                how[4 * PAIR + q] = whole - floor(zero)
            _weigh(panel, point, energy, how, padded, sums, axes, parts, tilts, moments)
            for q in range(min(PAIR, queries - first)):
                if bits[first + q] > -np.inf:
                    scale = np.exp2(how[2 * PAIR + q] - bits[first + q])
                    _add(sums, q * width, width, scale, force, first + q, low + first + q, scalars)
    for q in range(queries):
        _finish(force, away, q, low + q, shift, scalars, least_sum(zero))


@inner
def _load_panel(states, log_weights, start, count, panel):  # type: ignore[no-untyped-def]
    """Coordinates and log2 phi of a tile, a row each; the last state repeated to full vectors. Returns their number."""
    step = lanes(panel)
    padded = (count + step - 1) // step * step
    for i in range(padded):
        n = start + min(i, count - 1)
        for d in range(states.shape[1]):
            panel[d * STRIDE + i] = states[n, d]
        panel[states.shape[1] * STRIDE + i] = LOG2E * log_weights[n]
    return padded


@inner
def _set_point(field, b, q, parts, point):  # type: ignore[no-untyped-def]
    """The field in the working precision and, in two parts, what is left of it."""
    dimension = field.shape[1]
    for d in range(dimension):
        point[q * dimension + d] = field[b, d]
        if parts == 2:
            point[(PAIR + q) * dimension + d] = field[b, d] - np.float64(point[q * dimension + d])


@inner
def _find(values, begin, wanted, priors, prior, scale, tilts):  # type: ignore[no-untyped-def]
    """The first place after `begin` of the energy or, if `tilts`, of the z that is wanted; it is there."""
    place, step, target = begin, lanes(values), splat(wanted)
    while equal(_z(load(values, place), scale, priors, prior + place - begin, tilts), target) == 0:
        place += step
    mask = equal(_z(load(values, place), scale, priors, prior + place - begin, tilts), target)
    while mask & 1 == 0:
        mask >>= 1
        place += 1
    return place - begin


@inner
def _z(energy, scale, priors, prior, tilts):  # type: ignore[no-untyped-def]
    return fma(splat(scale), energy, load(priors, prior)) if len(tilts) > 0 else energy


@inner
def _move(found, before, states, r, field, b, force, away, k, scalars):  # type: ignore[no-untyped-def]
    """Make state r the reference of query b: sums, and the old reference among them, become relative to it."""
    factor = np.exp2(before - found)  # 0 where there was none
    energy = 0.0
    for d in range(field.shape[1]):
        force[k, d] = factor * (force[k, d] + away[k, d])
        away[k, d] = np.float64(states[r, d]) - field[b, d]
        energy += 0.5 * away[k, d] ** 2
    total, change = 1 + scalars[REST, b], scalars[ENERGY_MIN, b] - energy
    if factor > 0:
        scalars[SQUARE, b] = factor * (scalars[SQUARE, b] + 2 * change * scalars[EXCESS, b] + total * change**2)
        scalars[EXCESS, b] = factor * (scalars[EXCESS, b] + total * change)
        scalars[PARTICIPATION, b] = factor**2 * (1 + scalars[PARTICIPATION, b])
        scalars[REST, b] = factor * total
    else:
        for i in range(PARTICIPATION + 1):
            scalars[i, b] = 0.0
    scalars[ENERGY_MIN, b] = energy


@inner
def _add(sums, begin, width, scale, force, k, b, scalars):  # type: ignore[no-untyped-def]
    dimension = force.shape[1]
    scalars[REST, b] += scale * sums[begin]
    for d in range(dimension):
        force[k, d] += scale * sums[begin + 1 + d]
    if width > 1 + dimension:
        begin += 1 + dimension
        scalars[EXCESS, b] += 0.5 * scale * sums[begin]
        scalars[SQUARE, b] += 0.25 * scale * sums[begin + 1]
        scalars[PARTICIPATION, b] += scale * scale * sums[begin + 2]


@inner
def _finish(force, away, k, b, shift, scalars, least):  # type: ignore[no-untyped-def]
    if scalars[REST, b] < least:
        for i in range(PARTICIPATION + 1):
            scalars[i, b] = 0.0
    rest = scalars[REST, b]
    scale = 1 / (1 + rest)
    for d in range(force.shape[1]):
        shift[b, d] = (force[k, d] - rest * away[k, d]) * scale if rest > 0 else 0.0
    scalars[EXCESS, b] *= scale
    scalars[SQUARE, b] *= scale
    scalars[PARTICIPATION, b] = (1 + scalars[PARTICIPATION, b]) * scale**2
