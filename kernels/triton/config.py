"""Tiles and thresholds, as frozen tables: nothing is tuned at run time."""

from functools import cache
from types import MappingProxyType
from typing import NamedTuple

SMALL_DIMENSION = 16  # up to which energies are differences of all states, without products
SCREEN_SIZE = 256  # number of states from which products pay
GROUP = 16  # states that screening keeps or drops together
KEPT = 16  # groups kept a query, at least, that are summed by differences: more are summed by products
KEPT_SHARE = 1 / 16  # or this share of all groups
FAR = 16.0  # beta H~_r from which float32 differences of |y - h|^2 are not precise enough
# As in the other backends: an error e of independent logits changes the force by about e sqrt(sum w^2), and the error
# of a product is about a third of u beta R (R/2 + |g|).
TYPICAL = 1 / 3
TOLERANCE = {4: 1e-7, 8: 3e-13}  # of a logit by float64 products, by the bytes of the precision wanted
NARROW = 1e-2  # sqrt(<|y - m|^2>) / R below which second passes are not done by products
HEADS = MappingProxyType({"cpu": 64})  # states a query, at most, summed by differences beside float32 products
MOST_HEADS = 1024  # of other architectures
# Float32 products do not do where the rms force, or the root of <|y - m|^2>, is less of the reach of states that matter
# times the weight of those summed by products, nor where the bound of the error of a logit is more, nor where beta <H~>
# is less of the weight of all but the dominant state: then these are copies of it.
NARROW_MEAN, UNSURE, ALIKE = 7e-2, 0.5, 1e-2
SPLIT_TOLERANCE = 2.5e-7  # of the force, relative to its rms, from independent errors of float32 products
NARROW_SPLIT = 4e-2  # the same of second moments by float32 products, of a tail that holds all of the weights
NARROW_DIGITS = 1e-6  # error of such moments, relative to their size, that digits of stored weights may make
NARROW_ROUGH = 4e-5  # and that errors of weights may make, were they not independent
WORKSPACE = 1 << 30  # bytes of energies, weights or bounds of a chunk of queries
PROGRAMS = 8192  # of kernels that take one query after another, at most
FEW_QUERIES = 4096  # in few dimensions, below which a program takes one
MANY_STATES = 1 << 15  # from which so few queries that a device is not busy are summed as in float64
FEW_PROGRAMS = 512  # below which the states are split between programs
BUSY = 256  # programs that keep a device busy
LONG = 1 << 26  # numbers of states that take one program more than a tenth of a second to sum in float64


class Tile(NamedTuple):
    """Of a program; K dimensions of a product at a time."""

    b: int  # queries
    n: int  # states
    d: int  # dimensions
    warps: int
    stages: int = 2


# (kernel, largest D) -> tile; the first row that holds D counts. None: any.
TILES = MappingProxyType(
    {
        ("near many", 8): Tile(64, 8, 1, 4, 1),
        ("near many", 16): Tile(32, 4, 1, 4, 1),
        ("near", 4): Tile(16, 32, 1, 4, 1),
        ("near", 8): Tile(8, 32, 1, 4, 1),
        ("near", 16): Tile(4, 32, 1, 4, 1),
        ("near few", 4): Tile(1, 512, 1, 4, 1),
        ("near few", 8): Tile(1, 512, 1, 4, 1),
        ("near few", 16): Tile(1, 256, 1, 4, 1),
        ("steps in float32 many", 2): Tile(128, 8, 1, 4, 1),
        ("steps in float32 many", 8): Tile(128, 4, 1, 4, 1),
        ("steps in float32", 2): Tile(32, 32, 1, 4, 1),
        ("steps in float32", 4): Tile(16, 32, 1, 4, 1),
        ("steps in float32", 8): Tile(4, 32, 1, 4, 1),
        ("steps", None): Tile(4, 32, 1, 4, 1),
        ("screen", None): Tile(128, 64, 64, 8, 3),
        ("halves", None): Tile(1, 1, 1024, 4, 1),
        ("split", None): Tile(128, 128, 64, 8, 3),
        ("split few", None): Tile(16, 64, 128, 4, 3),
        ("split average", 64): Tile(64, 64, 64, 4, 3),
        ("split average", None): Tile(128, 64, 128, 8, 3),
        ("split average few", None): Tile(16, 64, 128, 4, 3),
        ("features", None): Tile(128, 64, 128, 8, 2),
        ("finish", None): Tile(1, 1, 256, 2, 1),
        ("derive", 4): Tile(256, 1, 4, 4, 1),
        ("derive", 16): Tile(64, 1, 16, 4, 1),
        ("derive", None): Tile(8, 1, 128, 4, 1),
        ("differences", 4): Tile(1, 512, 4, 4, 1),
        ("differences", 16): Tile(1, 128, 16, 4, 1),
        ("differences", 64): Tile(1, GROUP, 64, 4, 1),
        ("differences", None): Tile(1, GROUP, 128, 8, 1),
        ("heads", 64): Tile(1, 16, 64, 4, 1),
        ("heads", None): Tile(1, 16, 128, 8, 1),
        ("moved many", None): Tile(1, 16, 128, 4, 2),
        ("moved", None): Tile(1, 64, 32, 4, 2),
        ("products float64", None): Tile(64, 64, 16, 8, 2),
        ("average float64", None): Tile(64, 16, 64, 8, 2),
        ("covariance float64", None): Tile(1, 32, 32, 4, 2),
        ("covariance float32", 16): Tile(1, 32, 16, 4, 2),
        ("covariance float32", 32): Tile(1, 32, 32, 4, 2),
        ("covariance float32", None): Tile(1, 32, 64, 8, 2),
        ("row", None): Tile(1, 2048, 1, 8, 1),
    }
)
# What an architecture with less shared memory or slower float64 takes instead; "cpu" is the interpreter, which pays a
# program, not a number.
INSTEAD = MappingProxyType(
    {
        ("gfx942", "screen", None): Tile(64, 128, 64, 4, 2),
        ("gfx942", "split", None): Tile(64, 64, 32, 4, 2),
        ("gfx942", "split average", None): Tile(64, 32, 64, 4, 2),
        ("gfx942", "split average few", None): Tile(16, 32, 128, 4, 3),
        ("gfx942", "features", None): Tile(64, 32, 128, 4, 2),
        ("sm_100", "split", None): Tile(128, 128, 32, 8, 3),
        **{(arch, "split", None): Tile(64, 128, 32, 8, 3) for arch in ("sm_80", "sm_89")},
        **{(arch, "split average", None): Tile(64, 32, 128, 8, 3) for arch in ("sm_80", "sm_89")},
        **{(arch, "features", None): Tile(64, 32, 128, 8, 2) for arch in ("sm_80", "sm_89")},
        **{(arch, "covariance float32", None): Tile(1, 32, 32, 4, 2) for arch in ("sm_80", "sm_89")},
        **{("cpu", name, d): Tile(64, 512, 1, 4) for name in ("near many", "near", "near few") for d in (4, 8, 16)},
        ("cpu", "heads", 64): Tile(1, 64, 64, 4),
        ("cpu", "heads", None): Tile(1, 64, 1024, 4),
        ("cpu", "differences", None): Tile(1, GROUP, 1024, 4),
        ("cpu", "products float64", None): Tile(32, 128, 64, 4),
        ("cpu", "covariance float64", None): Tile(1, 64, 512, 4),
        ("cpu", "covariance float32", None): Tile(1, 64, 512, 4),
    }
)
# architectures that have the shared memory of another
LIKE = MappingProxyType(
    {"sm_87": "sm_80", "sm_103": "sm_100", "sm_110": "sm_100"} | dict.fromkeys(("sm_86", "sm_120", "sm_121"), "sm_89")
)


def most_heads(architecture: str) -> int:
    return HEADS.get(architecture, MOST_HEADS)


@cache
def tile(kernel: str, dimension: int, architecture: str) -> Tile:
    like = LIKE.get(architecture, architecture)
    for (name, largest), row in TILES.items():
        if name == kernel and (largest is None or dimension <= largest):
            return INSTEAD.get((like, name, largest), row)
    raise KeyError(kernel)


def tile_for(queries: int, kernel: str, dimension: int, architecture: str) -> Tile:
    """The tile of a kernel for many queries, which adds up less often between threads, where they fill the device."""
    many = tile(f"{kernel} many", dimension, architecture)
    return many if queries >= BUSY * many.b else tile(kernel, dimension, architecture)
