"""Rows of the kernels of float32 products in halves; see `kernel_rows`."""

import triton.language as tl
from kernel_rows import ARRAYS, COUNTED, HALVES, LIMITS, MMA, OF_DOUBLES, ROWS, SINGLES, SIZES, sums, tiles_of

from fastthermo.kernels.triton import config, features

SPLIT = {
    "halves": sums(
        "split:_halves_kernel",
        "V: *fp64, ANCHOR: *fp64, BETA: *fp64, FACTS: *fp64, HIGH: *fp16, LOW: *fp16, UNIT: *fp32, LENGTH: *fp64, "
        "EPS: *fp64, ERROR: *fp64, D: i32, WIDTH: i32, gamma: fp32, cutoff: fp32",
        tiles_of("halves", 784, ANCHORED=True, PRODUCTS=3, TYPICAL=1e-8),
    ),
    **{
        f"energies, {name}": sums(
            "split:_energies_kernel",
            f"G: *fp16, G_LOW: *fp16, {HALVES}, UNIT: *fp32, HALF: *fp64, OUT: *fp32, B: i32, N: i32, D: i32, "
            "PITCH: i32",
            tiles_of(name, 784, PRODUCTS=3, SQUARE=True),
            opcode=MMA if name == "split" else {},
        )
        for name in ("split", "split few")
    },
    **{
        f"average, {name}": sums(
            "split:_average_kernel",
            f"WORK: *i32, FLAGS: *i32, {HALVES}, OUT: *fp32, B: i32, N: i32, D: i32, PITCH: i32",
            tiles_of(name, *((784, 64) if name == "split average" else (784,)), PRODUCTS=3),
            opcode=MMA if name == "split average" else {},
        )
        for name in ("split average", "split average few")
    },
    "features": sums(
        "features:_features_kernel",
        f"WORK: *i32, FLAGS: *i32, {HALVES}, OUT: *fp32, B: i32, N: i32, D: i32, PITCH: i32, TILES: i32",
        tiles_of("features", 64, HALVES=2),
        opcode=MMA,
    ),
    "prepare": sums(
        "tilt:_prepare_kernel",
        "Y: *{y}, ANCHOR: *fp64, PHI: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, DOMINANT: *i64, NORM: *fp64, "
        "SHIFT: *fp64, EXCESS: *fp64, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, LENGTH: *fp64, "
        "EPS: *fp64, TYPICAL: *fp64, FIRST: *fp64, SECOND: *fp64, V: *fp64, U: *fp64, CENTRE: *fp64, SCALARS: *fp64, "
        "AGAIN: *u8, B: i32, N: i32, D: i32, anchor: i32",
        tiles_of("finish", 784, K=2),
        stack=8,
    ),
    "centre": sums(
        "features:_centre_kernel",
        "S2: *fp32, S1: *fp64, CENTRE: *fp64, SCALE: *fp64, SUMS: *fp64, OUT: *fp64, B: i32, D: i32, TILES: i32, "
        "blocks: i32, unit: fp64",
        tiles_of("finish", 64, PARTS=2, SIDE=features.SIDE),
    ),
    "stats": sums(
        "heads:_stats_kernel", f"{ROWS}, STATS: *fp32, N: i32, PITCH: i32", tiles_of("row", 0, UNIFORM=False)
    ),
    "count": sums("heads:_count_kernel", f"{COUNTED}, N: i32, PITCH: i32, capacity: i32", tiles_of("row", 0, **LIMITS)),
    "list": sums(
        "heads:_list_kernel",
        f"{COUNTED}, {SINGLES}, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, N: i32, PITCH: i32, capacity: i32",
        tiles_of("row", 0, **LIMITS),
    ),
    "list of a row": sums(
        "heads:_list_kernel",
        f"{COUNTED}, {SINGLES}, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, N: i32, PITCH: i32, capacity: i32",
        tiles_of("row", 0, **LIMITS | {"PARTS": 1}),
    ),
    "weigh the tail": sums(
        "tail:_weigh_kernel",
        f"{ROWS}, OUT: *i32, NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, SUMS: *fp64, N: i32, PITCH: i32",
        tiles_of("row", 0, UNIFORM=False),
    ),
    "tilt the tail": sums(
        "tilt:_tilt_kernel",
        "WORK: *fp32, FIRST: *fp32, SECOND: *fp32, PHI: *fp32, BETA: *fp64, OUT: *i32, NEAR: *i64, ORIGIN: *fp64, "
        "FLAGS: *i32, LIFT: *fp32, SCALARS: *fp64, U: *fp64, SUMS: *fp64, B: i32, N: i32, PITCH: i32",
        tiles_of("row", 0, K=2, UNIFORM=False),
    ),
    **{
        f"refine {y}": sums(
            "refine:_refine_kernel",
            "H: *fp64, Y: *{y}, ANCHOR: *fp64, HALF: *fp64, ORIGIN: *fp64, FLAGS: *i32, WORK: *fp32, B: i32, N: i32, "
            "D: i32, PITCH: i32",
            tiles_of("products float64", 784),
            y,
            opcode=OF_DOUBLES,
            stack=16,
        )
        for y in ("fp32", "u8")
    },
    "origin": sums(
        "refine:_origin_kernel",
        "Y: *{y}, H: *fp64, NEAR: *i64, FLAGS: *i32, ORIGIN: *fp64, N: i32, D: i32, anchor: i32",
        tiles_of("finish", 784),
    ),
    "relative": sums(
        "listed:_relative_kernel",
        f"{ARRAYS}, {SINGLES}, NEAR: *i64, X: *fp64, BEST: *fp64, WHERE: *i64, B: i32, {SIZES}",
        tiles_of("heads", 784, 64, AGAIN=True, PARTS=2),
    ),
    "weights of a list": sums(
        "listed:_weights_kernel",
        f"PHI: *fp64, BETA: *fp64, {SINGLES}, X: *fp64, BEST: *fp64, WHERE: *i64, DOMINANT: *i64, SCALARS: *fp64, "
        "N: i32, CAPACITY: i32",
        tiles_of("finish", 0, PARTS=2, BLOCK=config.MOST_HEADS),
    ),
    **{
        name: sums(
            "listed:_moved_kernel",
            f"Y: *{{y}}, {SINGLES}, DOMINANT: *i64, P: *fp64, CENTRE: *fp64, OUT: *fp64, {SIZES}",
            tiles_of(name, 784, CENTRED=True),
        )
        for name in ("moved", "moved many")
    },
    "tilted": sums(
        "listed:_tilted_kernel",
        f"{ARRAYS}, {SINGLES}, DOMINANT: *i64, NORM: *fp64, SHIFT: *fp64, EXCESS: *fp64, V: *fp64, U: *fp64, P: *fp64, "
        f"ENERGY: *fp64, {SIZES}",
        tiles_of("heads", 784, 64, K=2),
    ),
    "spread": sums(
        "listed:_spread_kernel",
        f"Y: *{{y}}, {SINGLES}, DOMINANT: *i64, P: *fp64, CENTRE: *fp64, OUT: *fp64, B: i32, {SIZES}",
        tiles_of("covariance float32", 64, 32, NUMBER=tl.float32, PRECISION="tf32x3"),
        stack=8,
    ),
    "finish": sums(
        "finish:_finish_kernel",
        "Y: *{y}, PHI: *fp64, ANCHOR: *fp64, FACTS: *fp64, H: *fp64, BETA: *fp64, DISTANCE: *fp64, EPS: *fp64, "
        "NEAR: *i64, ORIGIN: *fp64, FLAGS: *i32, LIFT: *fp32, DOMINANT: *i64, HEAD: *fp64, HEAD_SHIFT: *fp64, "
        "TAIL: *fp64, AVERAGE: *fp32, SHIFT: *fp64, OUT: *fp64, AGAIN: *u8, B: i32, N: i32, D: i32, WIDTH: i32, "
        "anchor: i32, unit: fp32, added: fp32, dropped_runner_up: fp64, dropped_largest: fp64",
        tiles_of("finish", 784, TAIL_PARTS=2, AVERAGE_PARTS=4),
    ),
}
