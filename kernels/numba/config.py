"""Tile sizes and thresholds as a table."""

TILE_BYTES = 1 << 18  # of states in float64, kept in the second-level cache while a block of queries passes over them
QUERY_BYTES = 1 << 19  # of float64 vectors of a block of queries
SMALL_DIMENSION = 16  # up to which energies are sums of differences, without products
TRUSTED = 1e-10  # proved error of a logit above which the products that matter are replaced by differences
NEGLIGIBLE = -690.0  # e^-690 = 2e-300: weights below are dropped before they become denormal


def query_block(dimension: int) -> int:
    """Queries a task, at most; each has four vectors."""
    return max(8, min(128, QUERY_BYTES // (32 * dimension) // 4 * 4))


def tile_length(dimension: int) -> int:
    """States a tile; depends on the states alone, so that a query's answer does not depend on its batch."""
    return max(16, min(256, TILE_BYTES // (8 * dimension) // 4 * 4))
