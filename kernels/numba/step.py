"""x' = a x + b mean + c z with counter-based normal noise: float32 in vectors, other numbers one by one in float64."""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.compile import inner, jit
from fastthermo.kernels.numba.pack import as_array
from fastthermo.kernels.numba.philox import (
    COUNTER,
    COUNTERS,
    PART,
    SAME,
    WHOLE,
    advance,
    box_muller,
    in_order,
    normals,
    philox,
    start,
    words,
)
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.simd import VECTORS, address, constant, fma, llvm, load, splat, store

VECTOR_TASK, SCALAR_TASK = 1 << 16, 1 << 12  # groups of four a task; fewer are done before a second thread is awake


def step(
    x: torch.Tensor,
    mean: torch.Tensor,
    a: float,
    b: float,
    c: float,
    seed: int,
    step: int,
    first_sample: int = 0,
    stream: int = 0,
) -> torch.Tensor:
    position, target = as_array(x), as_array(mean)
    out = np.empty_like(position)
    rows, dimension = position.shape
    keys = np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)
    noise = *keys, np.uint64(first_sample), np.uint64(step), np.uint64(stream)
    flat = [array.reshape(-1) for array in (position, target, out)]
    vectors = position.dtype == target.dtype == np.float32
    kernel, task = (_vector_kernel, VECTOR_TASK) if vectors else (_scalar_kernel, SCALAR_TASK)
    arguments = dimension, *flat, float(a), float(b), float(c), *noise
    groups = -(-dimension // 4)
    if rows * groups <= task:
        kernel(0, rows, *arguments)
    else:
        run(kernel, rows, max(1, task // groups), *arguments)
    return torch.from_numpy(out)


@jit
def _scalar_kernel(low, high, dimension, x, mean, out, a, b, c, key0, key1, first_sample, step, stream):  # type: ignore[no-untyped-def]
    normal = np.zeros(4)
    for row in range(low, high):
        for d0 in range(0, dimension, 4):
            if c != 0:
                w0, w1, w2, w3 = philox(first_sample + np.uint64(row), step, np.uint64(d0 // 4), stream, key0, key1)
                normal[0], normal[1] = box_muller(w0, w1)
                normal[2], normal[3] = box_muller(w2, w3)
            for d in range(d0, min(d0 + 4, dimension)):
                i = row * dimension + d
                out[i] = a * x[i] + b * mean[i] + c * normal[d - d0]


@jit
def _vector_kernel(low, high, dimension, x, mean, out, a, b, c, key0, key1, first_sample, step, stream):  # type: ignore[no-untyped-def]
    """Twice sixteen groups of four numbers at once; the last group of a row may be of fewer."""
    factors = _split(a), _split(b), np.float32(c)
    i, stop, column = low * dimension, high * dimension, 0
    if c == 0:
        while i + 16 <= stop:
            _move(x, mean, out, i, factors, splat(np.float32(0)))
            i += 16
        _move_some(x, mean, out, i, stop, 0, stop - i, factors, splat(np.float32(0)))
        return
    width = dimension if dimension % 4 else stop - i  # rows of whole groups are as good as one
    first, same = np.empty(COUNTER, np.uint64), np.empty(SAME, np.uint64)
    groups = (dimension + 3) // 4
    start(first, same, first_sample + np.uint64(low), groups, key0, key1, step, stream)
    second = first.copy()
    advance(second, same)
    same[WHOLE], same[PART] = 2 * COUNTERS // groups, 2 * COUNTERS % groups
    while i < stop:
        drawn = words((first, second), same)
        advance(first, same)
        advance(second, same)
        z = in_order(*normals(*drawn[0])), in_order(*normals(*drawn[1]))
        if column + 128 <= width:
            for k in range(4):
                _move(x, mean, out, i + 16 * k, factors, z[0][k])
                _move(x, mean, out, i + 64 + 16 * k, factors, z[1][k])
            i, column = i + 128, column + 128 if column + 128 < width else 0
        else:
            for half in range(2):
                for k in range(4):
                    i, column = _move_some(x, mean, out, i, stop, column, width, factors, z[half][k])


@inner
def _split(factor):  # type: ignore[no-untyped-def]
    """As a sum of two float32: what rounding does to a factor would add up over the steps of a trajectory."""
    high = np.float32(factor)
    return high, np.float32(factor - high)


@inner
def _sum(x, mean, z, factors):  # type: ignore[no-untyped-def]
    (a, a_rest), (b, b_rest), c = factors
    small = fma(splat(b_rest), mean, fma(splat(a_rest), x, splat(c) * z))
    return fma(splat(a), x, fma(splat(b), mean, small))


@inner
def _move(x, mean, out, i, factors, z):  # type: ignore[no-untyped-def]
    store(out, i, _sum(load(x, i), load(mean, i), z, factors))


@inner
def _move_some(x, mean, out, i, stop, column, width, factors, z):  # type: ignore[no-untyped-def]
    """For four groups, from place i on, which is in that column; where the next begin."""
    lanes, end = 0, i
    for group in range(4):
        if end < stop:
            count = min(4, width - column)
            lanes |= ((1 << count) - 1) << 4 * group
            end += count
            column = column + count if column + count < width else 0
    compress(out, i, _sum(expand(x, i, lanes), expand(mean, i, lanes), z, factors), lanes)
    return end, column


def _mask(builder: Any, bits: Any, count: int) -> Any:
    return builder.bitcast(builder.trunc(bits, ir.IntType(count)), ir.VectorType(ir.IntType(1), count))


@intrinsic
def expand(typing: Any, array: Any, offset: Any, chosen: Any) -> Any:
    """array.flat[offset], array.flat[offset + 1], ... in the lanes that are set in the bits `chosen`, 0 in others."""
    vector = VECTORS[array.dtype]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = address(context, builder, array, values[0], values[1], vector.ir.element)
        zero, mask = constant(vector.ir, 0.0), _mask(builder, values[2], vector.count)
        return llvm(builder, f"llvm.masked.expandload.{vector.suffix}", vector.ir, (pointer, mask, zero))

    return vector(array, types.int64, types.int64), generate


@intrinsic
def compress(typing: Any, array: Any, offset: Any, value: Any, chosen: Any) -> Any:
    """The lanes that are set in the bits `chosen` to array.flat[offset], array.flat[offset + 1], ..."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = address(context, builder, array, values[0], values[1], value.ir.element)
        arguments = values[2], pointer, _mask(builder, values[3], value.count)
        llvm(builder, f"llvm.masked.compressstore.{value.suffix}", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(array, types.int64, value, types.int64), generate
