"""Products of bytes on the CPU's matrix unit (Intel AMX), in tiles of 16 rows of 64 bytes; `octets` elsewhere.

The integers are the same, so that nothing else depends on which of the two made them. A thread that multiplies says so
(`configure`) and, so that switching between threads stays cheap, when it is done (`release`). Kernels get `matrix`:
what `tiles` returns, of None nothing here does anything.
"""

import ctypes
import platform
import sys
from functools import lru_cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastthermo.kernels.numba.compile import has, inner
from fastthermo.kernels.numba.scratch import aligned
from fastthermo.kernels.numba.simd import I64, address, llvm, loop

ROWS, STEP, COLUMNS = 16, 64, 32  # rows of a tile, bytes of a row, columns of the product
TILE = ROWS * STEP
ONE, TWO = (0,), (0, 0)
BYTE, NOTHING = ir.IntType(8), ir.VoidType()
_PERMIT = (158, 0x1023, 18)  # arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA): who has not asked is killed by Linux


@lru_cache
def tiles() -> np.ndarray | None:
    """What `configure` takes, eight tiles of full size; None where there is no such unit, or no leave to use it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    if not has("amx-int8"):
        return None
    if ctypes.CDLL(None).syscall(*map(ctypes.c_long, _PERMIT)) != 0:
        return None
    config = np.zeros(64, np.uint8)
    config[0] = 1  # the palette
    config[16:32:2], config[48:56] = STEP, ROWS
    return config


def _tile(number: int) -> Any:
    return ir.Constant(BYTE, number)


@intrinsic
def configure(typing: Any, matrix: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if matrix is not types.none:
            where = address(context, builder, matrix, values[0], ir.Constant(I64, 0), BYTE)
            llvm(builder, "llvm.x86.ldtilecfg", NOTHING, (where,))
        return context.get_dummy_value()

    return types.void(matrix), generate


@intrinsic
def release(typing: Any, matrix: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if matrix is not types.none:
            llvm(builder, "llvm.x86.tilerelease", NOTHING, ())
        return context.get_dummy_value()

    return types.void(matrix), generate


@intrinsic
def _multiply(
    typing: Any, left: Any, at: Any, stride: Any, jump: Any, group: Any, panel: Any, start: Any, steps: Any, out: Any,
    to: Any, groups: Any,
) -> Any:  # fmt: skip
    """out[m, :] = left[m].panel, 32 int32 from out.flat[to] on, for len(groups) times 16 rows m of signed bytes.

    Byte k of row m of a step stands at left.flat[at + m stride + step jump + k], the next 16 rows `group` further on;
    panel : four unsigned bytes for each of 32 columns, from `start` on, 16 times a step.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        left_, at_, stride_, jump_, group_, panel_, start_, steps_, out_, to_ = values[:10]
        pairs = [(i, j) for i in range(groups.count) for j in range(2)]

        def number(value: int) -> Any:
            return ir.Constant(I64, value)

        def memory(operation: str, tile: int, kind: Any, array: Any, place: Any, row: Any) -> None:
            pointer = address(context, builder, kind, array, place, BYTE)
            llvm(builder, f"llvm.x86.tile{operation}64", NOTHING, (_tile(tile), pointer, row))

        def body(k: Any, _: list[Any]) -> list[Any]:
            rows, quads = builder.add(at_, builder.mul(k, jump_)), builder.add(start_, builder.mul(k, number(2 * TILE)))
            for i in range(2):
                memory("loadd", 6 + i, panel, panel_, builder.add(quads, number(STEP * i)), number(2 * STEP))
            for i in range(groups.count):
                memory("loadd", 4 + i, left, left_, builder.add(rows, builder.mul(group_, number(i))), stride_)
            for i, j in pairs:
                llvm(builder, "llvm.x86.tdpbsud", NOTHING, [_tile(n) for n in (2 * i + j, 4 + i, 6 + j)])
            return []

        for i, j in pairs:
            llvm(builder, "llvm.x86.tilezero", NOTHING, (_tile(2 * i + j),))
        loop(builder, steps_, 1, [], body)
        for i, j in pairs:
            place = builder.add(to_, number(ROWS * COLUMNS * i + COLUMNS // 2 * j))
            memory("stored", 2 * i + j, out, out_, place, number(4 * COLUMNS))
        return context.get_dummy_value()

    i = types.int64
    return types.void(left, i, i, i, i, panel, i, i, out, i, groups), generate


@inner
def whole_rows(rows):  # type: ignore[no-untyped-def]
    """Rows that are there to be read, or written, for so many that are wanted."""
    return (rows + ROWS - 1) // ROWS * ROWS


@inner
def steps_of(count):  # type: ignore[no-untyped-def]
    return (count + STEP - 1) // STEP


@partial(inner, counting=True)
def scratch(matrix, queries, probes, starts):  # type: ignore[no-untyped-def]
    """Room for so many queries as `arrange` puts them, and for products of their digits; nothing without the unit.

    probes : (B, digits, bytes); starts : (B, digits) int32.
    """
    rows = 0 if matrix is None else whole_rows(queries * probes.shape[1])
    return aligned(rows * steps_of(probes.shape[2]) * STEP, probes[0, 0]), aligned(rows * COLUMNS, starts[0])


@inner
def arrange(matrix, probes, begin, count, left):  # type: ignore[no-untyped-def]
    """Digits of `count` queries from `begin` on as tiles: those of 16 rows side by side, zeros beyond the last byte."""
    if matrix is None:
        return
    digits, width = probes.shape[1], probes.shape[2]
    steps = steps_of(width)
    for m in range(count * digits):
        b, i, at = begin + m // digits, m % digits, m // ROWS * steps * TILE + m % ROWS * STEP
        for step in range(steps):
            known = min(width - step * STEP, STEP)
            for k in range(known):
                left[np.uint64(at + step * TILE + k)] = probes[b, i, np.uint64(step * STEP + k)]
            for k in range(known, STEP):
                left[np.uint64(at + step * TILE + k)] = 0


@inner
def multiply(matrix, left, stride, jump, group, rows, panel, start, steps, out):  # type: ignore[no-untyped-def]
    """`_multiply` for any number of rows, if there is a matrix unit; whole groups of 16 are read and written."""
    if matrix is None:
        return
    m, at = 0, 0
    while m + ROWS < rows:
        _multiply(left, at, stride, jump, group, panel, start, steps, out, m * COLUMNS, TWO)
        m, at = m + 2 * ROWS, at + 2 * group
    if m < rows:
        _multiply(left, at, stride, jump, group, panel, start, steps, out, m * COLUMNS, ONE)
