"""Every Triton kernel compiles ahead of time for every architecture: to code, within its limits, with what it promises.

A row of KERNELS is a kernel with the tiles of its table; each is compiled for every target.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux"), pytest.mark.slow]
TARGETS = ("sm_80", "sm_89", "sm_90", "sm_100", "gfx942")
EVERY_TILE = "sm_90"  # elsewhere the first of a kernel
STEP = "rows: i64, dimension: i32, a: fp64, b: fp64, c: fp64, step: i64, seed: i64, first_sample: i64, stream: i64"


class Kernel(NamedTuple):
    """signature : "argument: type, ..."; tiles : dicts of constexpr arguments and options, each a case of its own.

    opcode : what the instructions must contain, by target, e.g. {"sm_90": "HGMMA"}; stack : bytes a thread allowed.
    """

    name: str
    signature: str
    tiles: list[dict[str, Any]]
    aligned: tuple[str, ...] = ()
    opcode: dict[str, str] = {}  # noqa: RUF012
    stack: int = 0
    empty: tuple[str, ...] = ()  # targets that this version of Triton compiles it to nothing for


def _step(number: str, graph: bool, stack: int = 0) -> Kernel:
    ends = "FACTORS: *fp64, PLACE: *i64, " if graph else ""
    tiles = {"BLOCK_B": 4, "BLOCK_G": 64, "WIDE": number == "fp64", "ON_DEVICE": graph}
    tiles |= {} if graph else {"FACTORS": None, "PLACE": None}
    few = tiles | {"BLOCK_B": 256, "BLOCK_G": 1}
    arrays = ", ".join(f"{name}: *{number}" for name in ("X", "MEAN", "OUT"))
    return Kernel("step:_step_kernel", f"{arrays}, {ends}{STEP}", [tiles, few], ("X", "MEAN", "OUT"), stack=stack)


def _fused(number: str, *dimensions: int, stack: int = 0) -> Kernel:
    arrays = f"X: *{number}, Y: *fp64, PHI: *fp64, OUT: *{number}, PATH: *{number}, TABLE: *fp64"
    sizes = "rows: i64, states: i32, steps: i32, seed: i64, first_step: i64, first_sample: i64, stream: i64"
    tile = {"WIDE": number == "fp64", "KEEP": True, "BLOCK_B": 4, "BLOCK_N": 32, "num_stages": 1}
    tiles = [tile | {"D": dimension} for dimension in dimensions]
    return Kernel("evolve:_evolve_kernel", f"{arrays}, {sizes}", tiles, ("X", "Y", "OUT", "PATH"), stack=stack)


KERNELS = {
    "step": _step("fp32", False),
    "step in a graph": _step("fp32", True),
    "step in float64": _step("fp64", False, stack=48),  # of the reduction of large angles, never reached
    "steps in one kernel": _fused("fp32", 2, 8),
    "steps in one kernel, float64": _fused("fp64", 2, 4, stack=48),
}
CASES = {
    (name, target, i): kernel
    for name, kernel in KERNELS.items()
    for target in TARGETS
    for i in range(len(kernel.tiles) if target == EVERY_TILE else 1)
}


@pytest.fixture(scope="module")
def facts(compiled: Callable[..., Any]) -> dict[tuple[str, str, int], Any]:
    cases = [
        {
            "kernel": f"fastthermo.kernels.triton.{kernel.name}",
            "signature": dict(pair.split(": ") for pair in kernel.signature.split(", ")),
            "tile": kernel.tiles[i],
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
