"""Every Triton kernel compiles ahead of time for every architecture: to code, within its limits, with what it promises.

A row of KERNELS is a kernel with the tiles of its table; each is compiled for every target.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

tl = pytest.importorskip("triton.language")
from fastthermo.kernels.triton import config, differences, features, queries  # noqa: E402

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux"),
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first test waits for all compilations
]
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


def _fused(name: str, *dimensions: int, stack: int = 0) -> Kernel:
    single = name != "steps"
    number = "fp32" if single else "fp64"
    arrays = f"X: *{number}, Y: *{number}, PHI: *fp64, LOG_BITS: *fp32, OUT: *{number}, PATH: *{number}, TABLE: *fp64"
    sizes = "rows: i64, states: i32, steps: i32, seed: i64, first_step: i64, first_sample: i64, stream: i64"
    tiles = _tiles(name, *dimensions, WIDE=not single, SINGLE=single, UNIFORM=True, KEEP=True)
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
        sizes |= {"BLOCK_N": config.tile("differences", dimension, target).n} if constants.get("LISTED") else {}
        sizes |= {"D": dimension} if kernel.startswith(("near", "steps")) else {}
        if target.startswith("gfx") and constants.get("PRECISION") == "tf32x3":
            sizes |= {"PRECISION": "ieee"}
        return constants | sizes | {"num_warps": t.warps, "num_stages": t.stages}

    return {target: [read(target, d) for d in dimensions] for target in TARGETS}


def _sums(name: str, signature: str, tiles: dict[str, list[dict[str, Any]]], y: str = "fp32", **options: Any) -> Kernel:
    given = signature.format(y=y)
    pairs = [pair.split(": ") for pair in given.split(", ")]
    aligned = tuple(key for key, kind in pairs if kind.startswith("*") or key in ("D", "PITCH"))
    return Kernel(name, given, tiles, aligned, **options)


HALVES = "T: *fp16, T_LOW: *fp16"
ROWS = "WORK: *fp32, PHI: *fp32, BETA: *fp64"
SINGLES = "LISTS: *i32, KEPT: *i32"
SIZES = "N: i32, D: i32, CAPACITY: i32"
COUNTED = f"{ROWS}, STATS: *fp32, EPS: *fp64, TYPICAL: *fp64, COUNTS: *i32"
LIMITS = {"RUNNER_UP": 30.0, "LARGEST": 30.0, "TOLERANCE": 1e-7, "PARTS": 2, "CAPACITY": 10.0, "UNIFORM": False}
DOUBLES = "V: *fp64, Y: *{y}, ANCHOR: *fp64, HALF: *fp64"


def _covariance(number: str, *dimensions: int, listed: bool = False, **options: Any) -> Kernel:
    y, dtype, precision = NUMBERS[number]
    return _sums(
        "covariance:_covariance_kernel",
        "Y: *{y}, WORK: *fp64, GROUPS: *i32, KEPT: *i32, ORDER: *i64, COUNT: *i32, DOMINANT: *i64, SHIFT: *fp64, "
        f"OUT: *fp64, {SIZES}, programs: i32",
        _tiles(f"covariance {number}", *dimensions, LISTED=listed, NUMBER=dtype, PRECISION=precision),
        y,
        **options,
    )


def _near(tiles: str, *dimensions: int, wide: bool = False, **options: Any) -> Kernel:
    return _sums(
        "near:_near_kernel",
        "Y: *{y}, PHI: *fp64, LOG_BITS: *fp32, FACTS: *fp64, H: *fp64, BETA: *fp64, DOMINANT: *i64, SHIFT: *fp64, "
        "OUT: *fp64, FLAGS: *i64, B: i32, N: i32",
        _tiles(tiles, *dimensions, FAR=config.FAR, WIDE=wide, UNIFORM=False),
        **options,
    )


SPLIT = {
    "halves": _sums(
        "split:_halves_kernel",
        "V: *fp64, ANCHOR: *fp64, BETA: *fp64, FACTS: *fp64, HIGH: *fp16, LOW: *fp16, UNIT: *fp32, LENGTH: *fp64, "
        "EPS: *fp64, ERROR: *fp64, D: i32, gamma: fp32",
        _tiles("halves", 784, ANCHORED=True, PRODUCTS=3, TYPICAL=1e-8),
    ),
    **{
        f"energies, {name}": _sums(
            "split:_energies_kernel",
            f"G: *fp16, G_LOW: *fp16, {HALVES}, UNIT: *fp32, HALF: *fp64, OUT: *fp32, B: i32, N: i32, D: i32, "
            "PITCH: i32",
            _tiles(name, 784, PRODUCTS=3, SQUARE=True),
            opcode=MMA if name == "split" else {},
        )
        for name in ("split", "split few")
    },
    **{
        f"average, {name}": _sums(
            "split:_average_kernel",
            f"WORK: *i32, FLAGS: *i32, {HALVES}, OUT: *fp32, B: i32, N: i32, D: i32, PITCH: i32",
            _tiles(name, *((784, 64) if name == "split average" else (784,)), PRODUCTS=3),
            opcode=MMA if name == "split average" else {},
        )
        for name in ("split average", "split average few")
    },
    "features": _sums(
        "features:_features_kernel",
        f"WORK: *i32, FLAGS: *i32, {HALVES}, OUT: *fp32, B: i32, N: i32, D: i32, PITCH: i32, TILES: i32",
        _tiles("features", 64, HALVES=2),
        opcode=MMA,
    ),
    "prepare": _sums(
        "tilt:_prepare_kernel",
        "Y: *{y}, ANCHOR: *fp64, PHI: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, DOMINANT: *i64, NORM: *fp64, "
        "SHIFT: *fp64, EXCESS: *fp64, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, LENGTH: *fp64, "
        "TYPICAL: *fp64, FIRST: *fp64, SECOND: *fp64, V: *fp64, U: *fp64, CENTRE: *fp64, SCALARS: *fp64, B: i32, "
        "N: i32, D: i32, anchor: i32",
        _tiles("finish", 784, K=2),
        stack=8,
    ),
    "centre": _sums(
        "features:_centre_kernel",
        "S2: *fp32, S1: *fp64, CENTRE: *fp64, SCALE: *fp64, SUMS: *fp64, OUT: *fp64, B: i32, D: i32, TILES: i32, "
        "blocks: i32, unit: fp64",
        _tiles("finish", 64, PARTS=2, SIDE=features.SIDE),
    ),
    "stats": _sums("heads:_stats_kernel", f"{ROWS}, STATS: *fp32, N: i32, PITCH: i32", _tiles("row", 0, UNIFORM=False)),
    "count": _sums("heads:_count_kernel", f"{COUNTED}, N: i32, PITCH: i32", _tiles("row", 0, **LIMITS)),
    "list": _sums(
        "heads:_list_kernel",
        f"{COUNTED}, {SINGLES}, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, N: i32, PITCH: i32, capacity: i32",
        _tiles("row", 0, **LIMITS),
    ),
    "list of a row": _sums(
        "heads:_list_kernel",
        f"{COUNTED}, {SINGLES}, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, N: i32, PITCH: i32, capacity: i32",
        _tiles("row", 0, **LIMITS | {"PARTS": 1}),
    ),
    "weigh the tail": _sums(
        "tail:_weigh_kernel",
        f"{ROWS}, OUT: *i32, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, SUMS: *fp64, N: i32, PITCH: i32",
        _tiles("row", 0, UNIFORM=False),
    ),
    "tilt the tail": _sums(
        "tilt:_tilt_kernel",
        "WORK: *fp32, FIRST: *fp32, SECOND: *fp32, PHI: *fp32, BETA: *fp64, OUT: *i32, NEAR: *i64, ORIGIN: *fp64, "
        "FLAGS: *i32, LIFT: *fp32, SCALARS: *fp64, U: *fp64, SUMS: *fp64, B: i32, N: i32, PITCH: i32",
        _tiles("row", 0, K=2, UNIFORM=False),
    ),
    **{
        f"refine {y}": _sums(
            "refine:_refine_kernel",
            "H: *fp64, Y: *{y}, ANCHOR: *fp64, HALF: *fp64, ORIGIN: *fp64, FLAGS: *i32, WORK: *fp32, B: i32, N: i32, "
            "D: i32, PITCH: i32",
            _tiles("products float64", 784),
            y,
            opcode=OF_DOUBLES,
            stack=16,
        )
        for y in ("fp32", "u8")
    },
    "origin": _sums(
        "refine:_origin_kernel",
        "Y: *{y}, H: *fp64, NEAR: *i64, FLAGS: *i32, ORIGIN: *fp64, N: i32, D: i32, anchor: i32",
        _tiles("finish", 784),
    ),
    "relative": _sums(
        "listed:_relative_kernel",
        f"{ARRAYS}, {SINGLES}, NEAR: *i64, X: *fp64, BEST: *fp64, WHERE: *i64, B: i32, {SIZES}",
        _tiles("heads", 784, 64, AGAIN=True, PARTS=2),
    ),
    "weights of a list": _sums(
        "listed:_weights_kernel",
        f"PHI: *fp64, BETA: *fp64, {SINGLES}, X: *fp64, BEST: *fp64, WHERE: *i64, DOMINANT: *i64, SCALARS: *fp64, "
        "N: i32, CAPACITY: i32",
        _tiles("finish", 0, PARTS=2, BLOCK=config.MOST_HEADS),
    ),
    "moved": _sums(
        "listed:_moved_kernel",
        f"Y: *{{y}}, {SINGLES}, DOMINANT: *i64, P: *fp64, CENTRE: *fp64, OUT: *fp64, {SIZES}",
        _tiles("moved", 784, CENTRED=True),
    ),
    "tilted": _sums(
        "listed:_tilted_kernel",
        f"{ARRAYS}, {SINGLES}, DOMINANT: *i64, NORM: *fp64, SHIFT: *fp64, EXCESS: *fp64, V: *fp64, U: *fp64, P: *fp64, "
        f"ENERGY: *fp64, {SIZES}",
        _tiles("heads", 784, 64, K=2),
    ),
    "spread": _sums(
        "listed:_spread_kernel",
        f"Y: *{{y}}, {SINGLES}, DOMINANT: *i64, P: *fp64, CENTRE: *fp64, OUT: *fp64, B: i32, {SIZES}",
        _tiles("covariance float32", 64, 32, NUMBER=tl.float32, PRECISION="tf32x3"),
        stack=8,
    ),
    "finish": _sums(
        "finish:_finish_kernel",
        "Y: *{y}, PHI: *fp64, ANCHOR: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, DISTANCE: *fp64, EPS: *fp64, "
        "NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, DOMINANT: *i64, HEAD: *fp64, HEAD_SHIFT: *fp64, "
        "TAIL: *fp64, AVERAGE: *fp32, SHIFT: *fp64, OUT: *fp64, B: i32, N: i32, D: i32, anchor: i32, unit: fp32, "
        "added: fp32, dropped_runner_up: fp64, dropped_largest: fp64",
        _tiles("finish", 784, TAIL_PARTS=2, AVERAGE_PARTS=4),
    ),
}
SUMS = {
    "near, many queries": _near("near many", 2, 8, 16),
    "near": _near("near", 2, 4, 8, 16),
    "near, far queries": _near("near", 2, 4, 8, 16, wide=True),
    "near, few queries": _near("near few", 2, 8, 16, wide=True, stack=8),
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
        stack=8,
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
        stack=16,
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
    **{
        f"products {y}": _sums(
            "products:_products_kernel",
            f"{DOUBLES}, {CHUNK}, length: i32, OUT: *fp64, N: i32, D: i32",
            _tiles("products float64", 784, FIELDS=True, SQUARE=True),
            y,
            opcode=OF_DOUBLES,
        )
        for y in ("fp64", "u8")
    },
    **{
        f"average {y}": _sums(
            "products:_average_kernel",
            f"WORK: *fp64, Y: *{{y}}, ANCHOR: *fp64, {CHUNK}, length: i32, DOMINANT: *i64, SCALARS: *fp64, "
            "SHIFT: *fp64, N: i32, D: i32, WIDTH: i32",
            _tiles("average float64", 784),
            y,
            opcode=OF_DOUBLES,
            stack=16,
        )
        for y in ("fp64", "u8")
    },
    "covariance float64": _covariance("float64", 64, opcode=OF_DOUBLES),
    "covariance of lists float64": _covariance("float64", 64, 16, listed=True),
    "covariance of lists float32": _covariance("float32", 64, 16, listed=True, stack=48),
    "covariance float32": _covariance("float32", 16, 32, 64, opcode=dict.fromkeys(("sm_80", "sm_89"), "HMMA")),
}
SETTLE = _sums(
    "settle:_settle_kernel",
    "Y: *{y}, ANCHOR: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, IS_DENSE: *u8, R: *i64, SCALARS: *fp64, SUM: *fp64, "
    "DENSE_R: *i64, DENSE_SCALARS: *fp64, DENSE_SUM: *fp64, DOMINANT: *i64, SHIFT: *fp64, OUT: *fp64, B: i32, N: i32, "
    "D: i32",
    _tiles("finish", 784, DENSE=True, PARTS=4),
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
DERIVE = _sums(
    "derive:_derive_kernel",
    "Y: *{y}, PHI: *fp64, H: *fp64, BETA: *fp64, DOMINANT: *i64, SHIFT: *fp64, LOG_REST: *fp64, LEAST: *fp64, "
    "EXCESS: *fp64, SQUARE: *fp64, SCALARS: *fp64, VECTORS: *fp64, B: i32, D: i32, row_stride: i64, stride: i32, "
    "prior_stride: i32",
    _tiles("derive", 784, 8, 2),
)
KERNELS = (
    SUMS
    | SPLIT
    | {
        "derive": DERIVE,
        "settle": SETTLE,
        "divide": DIVIDE,
        "temperatures": WITHIN,
        "step": _step("fp32", False),
        "step in a graph": _step("fp32", True),
        "step in float64": _step("fp64", False, stack=48),  # of the reduction of large angles, never reached
        "steps in one kernel": _fused("steps in float32", 2, 4, 8),
        "steps of many in one kernel": _fused("steps in float32 many", 2, 4, 8),
        "steps in one kernel, float64": _fused("steps", 2, 4, stack=64),
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
    found = zip(KERNELS, compiled(cases, "with_ones"), strict=True)
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
