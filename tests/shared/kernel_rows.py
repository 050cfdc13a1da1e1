"""What a Triton kernel is compiled with ahead of time: its signature, its tiles and what its code must hold."""

from typing import Any, NamedTuple

import triton.language as tl

from fastthermo.kernels.triton import config, differences

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


def step(number: str, graph: bool, stack: int = 0) -> Kernel:
    ends = "FACTORS: *fp64, PLACE: *i64, " if graph else ""
    tiles = {"BLOCK_B": 4, "BLOCK_G": 64, "WIDE": number == "fp64", "ON_DEVICE": graph}
    tiles |= {} if graph else {"FACTORS": None, "PLACE": None}
    few = tiles | {"BLOCK_B": 256, "BLOCK_G": 1}
    arrays = ", ".join(f"{name}: *{number}" for name in ("X", "MEAN", "OUT"))
    return Kernel("step:_step_kernel", f"{arrays}, {ends}{STEP}", [tiles, few], ("X", "MEAN", "OUT"), stack=stack)


def fused(name: str, *dimensions: int, stack: int = 0) -> Kernel:
    single = name != "steps"
    number = "fp32" if single else "fp64"
    arrays = f"X: *{number}, Y: *{number}, PHI: *fp64, LOG_BITS: *fp32, OUT: *{number}, PATH: *{number}, TABLE: *fp64"
    sizes = "rows: i64, states: i32, steps: i32, seed: i64, first_step: i64, first_sample: i64, stream: i64"
    tiles = tiles_of(name, *dimensions, WIDE=not single, SINGLE=single, UNIFORM=True, KEEP=True)
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


def tiles_of(kernel: str, *dimensions: int, **constants: Any) -> dict[str, list[dict[str, Any]]]:
    """By target the tiles of a kernel's table for these dimensions, with other constexpr arguments."""

    def read(target: str, dimension: int) -> dict[str, Any]:
        t = config.tile(kernel, dimension, target)
        block = min(differences.SUMMED, 1 << (dimension - 1).bit_length())
        sizes = {"BLOCK_B": t.b, "BLOCK_N": t.n, "BLOCK_D": t.d, "BLOCK_S": block}
        sizes |= {"BLOCK_S": t.d} if kernel.startswith("covariance") else {}
        if "LISTED" in constants:
            group = config.tile("differences", dimension, target).n
            sizes |= {"GROUP": group, "BLOCK_N": min(t.n, group) if constants["LISTED"] else t.n}
        sizes |= {"D": dimension} if kernel.startswith(("near", "steps")) else {}
        if target.startswith("gfx") and constants.get("PRECISION") == "tf32x3":
            sizes |= {"PRECISION": "ieee"}
        return constants | sizes | {"num_warps": t.warps, "num_stages": t.stages}

    return {target: [read(target, d) for d in dimensions] for target in TARGETS}


def sums(name: str, signature: str, tiles: dict[str, list[dict[str, Any]]], y: str = "fp32", **options: Any) -> Kernel:
    given = signature.format(y=y)
    pairs = [pair.split(": ") for pair in given.split(", ")]
    aligned = tuple(key for key, kind in pairs if kind.startswith("*") or key in ("D", "PITCH"))
    return Kernel(name, given, tiles, aligned, **options)


HALVES = "T: *fp16, T_LOW: *fp16"
ROWS = "WORK: *fp32, PHI: *fp32, BETA: *fp64"
SINGLES = "LISTS: *i32, KEPT: *i32"
SIZES = "N: i32, D: i32, CAPACITY: i32"
COUNTED = f"{ROWS}, STATS: *fp32, EPS: *fp64, TYPICAL: *fp64, COUNTS: *i32"
LIMITS = {"RUNNER_UP": 30.0, "LARGEST": 30.0, "TOLERANCE": 1e-7, "PARTS": 2, "UNIFORM": False}
DOUBLES = "V: *fp64, Y: *{y}, ANCHOR: *fp64, HALF: *fp64"


def covariance(number: str, *dimensions: int, listed: bool = False, y: str = "", **options: Any) -> Kernel:
    same, dtype, precision = NUMBERS[number]
    return sums(
        "covariance:_covariance_kernel",
        "Y: *{y}, WORK: *fp64, GROUPS: *i32, KEPT: *i32, ORDER: *i64, COUNT: *i32, DOMINANT: *i64, SHIFT: *fp64, "
        f"OUT: *fp64, {SIZES}, programs: i32",
        tiles_of(f"covariance {number}", *dimensions, LISTED=listed, NUMBER=dtype, PRECISION=precision),
        y or same,
        **options,
    )


def near(tiles: str, *dimensions: int, wide: bool = False, **options: Any) -> Kernel:
    return sums(
        "near:_near_kernel",
        "Y: *{y}, PHI: *fp64, LOG_BITS: *fp32, FACTS: *fp64, H: *fp64, BETA: *fp64, DOMINANT: *i64, SHIFT: *fp64, "
        "OUT: *fp64, FLAGS: *i64, B: i32, N: i32",
        tiles_of(tiles, *dimensions, FAR=config.FAR, WIDE=wide, UNIFORM=False),
        **options,
    )
