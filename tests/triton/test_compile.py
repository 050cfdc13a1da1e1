"""Every Triton kernel compiles ahead of time for every architecture: to code, within its limits, with what it promises.

A row of KERNELS is a kernel with the tiles of its table; each is compiled for every target.
"""

import sys
from collections.abc import Callable
from typing import Any

import pytest

tl = pytest.importorskip("triton.language")
from kernel_rows import (  # noqa: E402
    ARRAYS,
    CHUNK,
    DOUBLES,
    EVERY_TILE,
    LISTS,
    MMA,
    OF_DOUBLES,
    SECOND,
    TARGETS,
    Kernel,
    covariance,
    fused,
    near,
    step,
    sums,
    tiles_for,
    tiles_of,
)
from split_kernels import SPLIT  # noqa: E402

from fastthermo.kernels.triton import config, queries  # noqa: E402

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux"),
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first test waits for all compilations
]


SUMS = {
    "near, many queries": near("near many", 2, 8, 16),
    "near": near("near", 2, 4, 8, 16),
    "near, far queries": near("near", 2, 4, 8, 16, wide=True),
    "near, few queries": near("near few", 2, 8, 16, wide=True, stack=8),
    "screen": sums(
        "screen:_screen_kernel",
        "G: *fp16, T: *fp16, UNIT: *fp32, HALF: *fp64, PHI: *fp64, BETA: *fp64, BOUNDS: *fp32, B: i32, N: i32, D: i32, "
        "COUNT: i32",
        tiles_of("screen", 784, GROUP=config.GROUP),
        opcode=MMA,
    ),
    "sift": sums(
        "screen:_sift_kernel",
        "BOUNDS: *fp32, EPS: *fp64, BETA: *fp64, GROUPS: *i32, KEPT: *i32, NEAR: *i64, COUNT: i32, CAPACITY: i32",
        tiles_of("row", 0, CUTOFF=45.0, GROUP=config.GROUP),
        stack=8,
    ),
    "find": sums(
        "differences:_find_kernel",
        f"{LISTS}, REFERENCE: *i64, BEST: *fp64, WHERE: *i64",
        tiles_of("differences", 4, 16, 64, 784, RELATIVE=True),
    ),
    "sum": sums(
        "differences:_sum_kernel",
        f"{LISTS}, DOMINANT: *i64, SHIFT: *fp64, SCALARS: *fp64",
        tiles_of("differences", 784, 64, 16),
        stack=16,
    ),
    "sum of bytes": sums(
        "differences:_sum_kernel",
        f"{LISTS}, DOMINANT: *i64, SHIFT: *fp64, SCALARS: *fp64",
        tiles_of("differences", 784),
        "u8",
    ),
    "sum again": sums(
        "again:_again_kernel",
        "Y: *{y}, PHI: *fp64, ANCHOR: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, LISTS: *i32, "
        "NEAR: *i64, AGAIN: *u8, DOMINANT: *i64, SHIFT: *fp64, OUT: *fp64, B: i32, N: i32, D: i32",
        tiles_of("differences", 784, 64),
        stack=16,
    ),
    "weigh": sums(
        "products:_weigh_kernel",
        f"WORK: *fp64, PHI: *fp64, BETA: *fp64, {CHUNK}, DOMINANT: *i64, SCALARS: *fp64, N: i32",
        tiles_of("row", 0),
    ),
    "tilt": sums(
        "second:_tilt_kernel",
        f"WORK: *fp64, FIRST: *fp64, SECOND: *fp64, PHI: *fp64, BETA: *fp64, {CHUNK}, DOMINANT: *i64, NORM: *fp64, "
        "EXCESS: *fp64, OFFSETS: *fp64, U: *fp64, SCALARS: *fp64, N: i32, WIDTH: i32",
        tiles_of("row", 0, K=2),
    ),
    "weights": sums("second:_weights_kernel", f"{SECOND}, OUT: *fp64", tiles_of("differences", 784, 16)),
    "weights again": sums(
        "second:_weigh_again_kernel",
        f"{ARRAYS}, ORDER: *i64, COUNT: *i32, AGAIN: *u8, DOMINANT: *i64, NORM: *fp64, OUT: *fp64, N: i32, D: i32",
        tiles_of("differences", 784, 64),
    ),
    "cumulant again": sums(
        "cumulant:_again_kernel",
        f"{ARRAYS}, LISTS: *i32, AGAIN: *u8, DOMINANT: *i64, NORM: *fp64, SHIFT: *fp64, EXCESS: *fp64, V: *fp64, "
        "U: *fp64, OUT: *fp64, ENERGY: *fp64, N: i32, D: i32",
        tiles_of("differences", 784, 64, K=2),
    ),
    "cumulant": sums(
        "cumulant:_cumulant_kernel",
        f"{SECOND}, SHIFT: *fp64, EXCESS: *fp64, V: *fp64, U: *fp64, OUT: *fp64, ENERGY: *fp64",
        tiles_of("differences", 784, 64, 16, K=2),
    ),
    **{
        f"products {y}": sums(
            "products:_products_kernel",
            f"{DOUBLES}, {CHUNK}, length: i32, OUT: *fp64, N: i32, D: i32",
            tiles_of("products float64", 784, FIELDS=True, SQUARE=True),
            y,
            opcode=OF_DOUBLES,
        )
        for y in ("fp64", "u8")
    },
    **{
        f"average {y}": sums(
            "products:_average_kernel",
            f"WORK: *fp64, Y: *{{y}}, ANCHOR: *fp64, {CHUNK}, length: i32, DOMINANT: *i64, SCALARS: *fp64, "
            "SHIFT: *fp64, N: i32, D: i32, WIDTH: i32",
            tiles_of("average float64", 784),
            y,
            opcode=OF_DOUBLES,
            stack=16,
        )
        for y in ("fp64", "u8")
    },
    "covariance float64": covariance("float64", 64, opcode=OF_DOUBLES),
    "covariance of bytes": covariance("float64", 64, y="u8", opcode=OF_DOUBLES),
    "covariance of lists float64": covariance("float64", 64, 16, 2, listed=True, stack=8),
    "covariance of listed float32 states": covariance("float64", 2, listed=True, y="fp32", stack=16),
    "covariance of listed bytes": covariance("float64", 2, listed=True, y="u8", stack=8),
    "covariance of lists float32": covariance("float32", 64, 16, 2, listed=True, stack=48),
    "covariance of listed bytes float32": covariance("float32", 2, listed=True, y="u8"),
    "covariance float32": covariance("float32", 16, 32, 64, opcode=dict.fromkeys(("sm_80", "sm_89"), "HMMA")),
}
SETTLE = sums(
    "settle:_settle_kernel",
    "Y: *{y}, ANCHOR: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, FLAGS: *u8, R: *i64, SCALARS: *fp64, SUM: *fp64, "
    "DENSE_R: *i64, DENSE_SCALARS: *fp64, DENSE_SUM: *fp64, DOMINANT: *i64, SHIFT: *fp64, OUT: *fp64, B: i32, N: i32, "
    "D: i32",
    tiles_of("finish", 784, DENSE=True, SOME=False, PARTS=4),
)
WITHIN = Kernel(
    "temperatures:_within_kernel",
    "BETA: *fp64, OUT: *fp64, B: i32, low: fp64, high: fp64",
    [{"BLOCK": 1024}],
    ("BETA",),
)
DIVIDE = Kernel(
    "queries:_divide_kernel", "FLAGS: *u8, PLACES: *i64, NUMBERS: *i32, B: i32", [{"BLOCK": queries.BLOCK}], ("FLAGS",)
)
DERIVE = sums(
    "derive:_derive_kernel",
    "Y: *{y}, PHI: *fp64, H: *fp64, BETA: *fp64, DOMINANT: *i64, SHIFT: *fp64, LOG_REST: *fp64, LEAST: *fp64, "
    "EXCESS: *fp64, SQUARE: *fp64, SCALARS: *fp64, VECTORS: *fp64, B: i32, D: i32, row_stride: i64, stride: i32, "
    "prior_stride: i32",
    tiles_of("derive", 784, 8, 2),
)
KERNELS = (
    SUMS
    | SPLIT
    | {
        "derive": DERIVE,
        "settle": SETTLE,
        "divide": DIVIDE,
        "temperatures": WITHIN,
        "step": step("fp32", False),
        "step in a graph": step("fp32", True),
        "step in float64": step("fp64", False, stack=48),  # of the reduction of large angles, never reached
        "steps in one kernel": fused("steps in float32", 2, 4, 8),
        "steps of many in one kernel": fused("steps in float32 many", 2, 4, 8),
        "steps in one kernel, float64": fused("steps", 2, 4, stack=64),
    }
)
CASES = {
    (name, target, i): kernel
    for name, kernel in KERNELS.items()
    for target in TARGETS
    for i in range(len(tiles_for(kernel, target)) if target == EVERY_TILE else 1)
}


def test_kernels_take_integers_that_are_one(compiled: Callable[..., Any]) -> None:
    """Triton makes a constant of such an argument, which no interpreter shows: one query, an anchor of index 1."""
    cases = [
        {
            "kernel": f"fastthermo.kernels.triton.{kernel.name}",
            "signature": dict(pair.split(": ") for pair in kernel.signature.split(", ")),
            "tile": tiles_for(kernel, EVERY_TILE)[0],
        }
        for kernel in KERNELS.values()
    ]
    found = zip(KERNELS, compiled(cases, "aot:with_ones"), strict=True)
    assert {name: wrong for name, wrong in found if wrong} == {}


@pytest.fixture(scope="module")
def facts(compiled: Callable[..., Any]) -> dict[tuple[str, str, int], Any]:
    cases = [
        {
            "kernel": f"fastthermo.kernels.triton.{kernel.name}",
            "signature": dict(pair.split(": ") for pair in kernel.signature.split(", ")),
            "tile": tiles_for(kernel, target)[i],
            "target": target,
            "aligned": kernel.aligned,
        }
        for (_, target, i), kernel in CASES.items()
    ]
    return dict(zip(CASES, compiled(cases), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]} {case[2]}")
def test_a_kernel_compiles_within_the_limits_of_the_architecture(case: Any, facts: dict[Any, Any]) -> None:
    kernel, found, target = CASES[case], facts[case], case[1]
    if isinstance(found, Exception):
        raise found
    if target in kernel.empty and sum(found.instructions.values()) < 100:
        pytest.xfail(f"Triton compiles it to nothing for {target}")
    assert sum(found.instructions.values()) > 100
    assert found.spilled <= kernel.stack
    assert found.shared <= found.limit
    if target in kernel.opcode:
        assert kernel.opcode[target] in found.instructions
