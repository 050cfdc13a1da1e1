"""Every Triton kernel compiles ahead of time for every architecture: to code, within its limits, with what it promises.

A row of KERNELS is a kernel with the tiles of its table; each is compiled for every target.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

tl = pytest.importorskip("triton.language")
from fastthermo.kernels.triton import config, differences  # noqa: E402

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
    tiles: Any  # a list of dicts, or such a list by target
    aligned: tuple[str, ...] = ()
    opcode: dict[str, str] = {}  # noqa: RUF012
    stack: int = 0
    empty: tuple[str, ...] = ()  # targets that this version of Triton compiles it to nothing for


def tiles_for(kernel: Kernel, target: str) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = kernel.tiles[target] if isinstance(kernel.tiles, dict) else kernel.tiles
    return tiles


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


ARRAYS = "Y: *{y}, PHI: *fp64, H: *fp64, BETA: *fp64"
LISTS = f"{ARRAYS}, GROUPS: *i32, KEPT: *i32, ORDER: *i64, COUNT: *i32, N: i32, D: i32, CAPACITY: i32"
SECOND = f"{LISTS}, DOMINANT: *i64, NORM: *fp64"
CHUNK = "ORDER: *i64, COUNT: *i32, begin: i32"
NUMBERS = {"float64": ("fp64", tl.float64, "ieee"), "float32": ("fp32", tl.float32, "tf32x3")}
MMA = {  # of tiles that are large enough for the newest
    "sm_80": "HMMA",
    "sm_89": "HMMA",
    "sm_90": "HGMMA",
    "sm_100": "UTCHMMA",
}
OF_DOUBLES = {"sm_80": "DMMA", "sm_90": "DMMA", "gfx942": "v_mfma_f64_16x16x4_f64"}  # others multiply without


def _tiles(kernel: str, *dimensions: int, **constants: Any) -> dict[str, list[dict[str, Any]]]:
    """By target the tiles of a kernel's table for these dimensions, with other constexpr arguments."""

    def read(target: str, dimension: int) -> dict[str, Any]:
        t = config.tile(kernel, dimension, target)
        block = min(differences.SUMMED, 1 << (dimension - 1).bit_length())
        sizes = {"BLOCK_B": t.b, "BLOCK_N": t.n, "BLOCK_D": t.d, "BLOCK_S": block}
        sizes |= {"BLOCK_S": t.d} if kernel.startswith("covariance") else {}
        sizes |= {"D": dimension, "WIDE": 1 << (dimension - 1).bit_length()} if kernel == "near" else {}
        if target.startswith("gfx") and constants.get("PRECISION") == "tf32x3":
            sizes |= {"PRECISION": "ieee"}
        return constants | sizes | {"num_warps": t.warps, "num_stages": t.stages}

    return {target: [read(target, d) for d in dimensions] for target in TARGETS}


def _sums(name: str, signature: str, tiles: dict[str, list[dict[str, Any]]], y: str = "fp32", **options: Any) -> Kernel:
    given = signature.format(y=y)
    pointers = tuple(pair.split(": ")[0] for pair in given.split(", ") if ": *" in pair)
    return Kernel(name, given, tiles, pointers, **options)


def _by_number(number: str) -> dict[str, Kernel]:
    """Kernels with products, of float64 or float32 numbers."""
    y, dtype, precision = NUMBERS[number]
    how = {"NUMBER": dtype, "PRECISION": precision}
    slack = {"average float64": 8, "average float32": 24}  # bytes of stack, on sm_100
    opcode = OF_DOUBLES if number == "float64" else MMA
    return {
        f"products {number}": _sums(
            "products:_products_kernel",
            f"V: *fp64, Y: *{{y}}, ANCHOR: *fp64, HALF: *fp64, {CHUNK}, length: i32, OUT: *fp64, N: i32, D: i32",
            _tiles(f"products {number}", 784, FIELDS=True, SQUARE=True, **how),
            y,
            opcode=opcode,
        ),
        f"average {number}": _sums(
            "products:_average_kernel",
            f"WORK: *fp64, Y: *{{y}}, ANCHOR: *fp64, {CHUNK}, length: i32, DOMINANT: *i64, SCALARS: *fp64, "
            "SHIFT: *fp64, N: i32, D: i32, WIDTH: i32",
            _tiles(f"average {number}", 784, **how),
            y,
            opcode=opcode,
            stack=slack[f"average {number}"],
        ),
        f"covariance {number}": _sums(
            "covariance:_covariance_kernel",
            "Y: *{y}, WORK: *fp64, GROUPS: *i32, KEPT: *i32, ORDER: *i64, COUNT: *i32, DOMINANT: *i64, SHIFT: *fp64, "
            "OUT: *fp64, N: i32, D: i32, CAPACITY: i32",
            _tiles(f"covariance {number}", *((64,) if number == "float64" else (32, 64)), LISTED=False, **how),
            y,
            opcode=opcode if number == "float64" else dict.fromkeys(("sm_80", "sm_89"), "HMMA"),
        ),
    }


SUMS = {
    "near": _sums(
        "near:_near_kernel",
        "Y: *{y}, PHI: *fp64, H: *fp64, HIGH: *fp32, LOW: *fp32, BETA: *fp64, DOMINANT: *i64, SHIFT: *fp64, "
        "SCALARS: *fp64, B: i32, N: i32",
        _tiles("near", 2, 16),
        stack=8,
    ),
    "screen": _sums(
        "screen:_screen_kernel",
        "G: *fp16, T: *fp16, UNIT: *fp32, HALF: *fp64, PHI: *fp64, BETA: *fp64, BOUNDS: *fp32, B: i32, N: i32, D: i32, "
        "COUNT: i32",
        _tiles("screen", 784, GROUP=config.GROUP),
        opcode=MMA,
    ),
    "sift": _sums(
        "screen:_sift_kernel",
        "BOUNDS: *fp32, EPS: *fp64, BETA: *fp64, GROUPS: *i32, KEPT: *i32, NEAR: *i64, COUNT: i32, CAPACITY: i32",
        _tiles("row", 0, CUTOFF=45.0, GROUP=config.GROUP),
    ),
    "find": _sums(
        "differences:_find_kernel",
        f"{LISTS}, REFERENCE: *i64, BEST: *fp64, WHERE: *i64",
        _tiles("differences", 16, 64, 784, RELATIVE=True),
    ),
    "sum": _sums(
        "differences:_sum_kernel",
        f"{LISTS}, DOMINANT: *i64, SHIFT: *fp64, SCALARS: *fp64",
        _tiles("differences", 784, 64, 16),
    ),
    "sum of bytes": _sums(
        "differences:_sum_kernel",
        f"{LISTS}, DOMINANT: *i64, SHIFT: *fp64, SCALARS: *fp64",
        _tiles("differences", 784),
        "u8",
    ),
    "weigh": _sums(
        "products:_weigh_kernel",
        f"WORK: *fp64, PHI: *fp64, BETA: *fp64, {CHUNK}, DOMINANT: *i64, SCALARS: *fp64, N: i32",
        _tiles("row", 0),
    ),
    "tilt": _sums(
        "second:_tilt_kernel",
        f"WORK: *fp64, FIRST: *fp64, SECOND: *fp64, PHI: *fp64, BETA: *fp64, {CHUNK}, DOMINANT: *i64, NORM: *fp64, "
        "EXCESS: *fp64, OFFSETS: *fp64, U: *fp64, SCALARS: *fp64, N: i32, WIDTH: i32",
        _tiles("row", 0, K=2),
    ),
    "weights": _sums("second:_weights_kernel", f"{SECOND}, OUT: *fp64", _tiles("differences", 784, 16)),
    "cumulant": _sums(
        "cumulant:_cumulant_kernel",
        f"{SECOND}, SHIFT: *fp64, EXCESS: *fp64, V: *fp64, U: *fp64, OUT: *fp64, ENERGY: *fp64",
        _tiles("differences", 784, 64, 16, K=2),
    ),
    **_by_number("float64"),
    **_by_number("float32"),
}
KERNELS = SUMS | {
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
    for i in range(len(tiles_for(kernel, target)) if target == EVERY_TILE else 1)
}


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
