"""Tile sizes as a table."""

TILE_BYTES = 1 << 18  # of states, kept in the second-level cache while a block of queries passes over them
QUERY_BLOCK = 32  # queries a task, at most
COVARIANCE_TILE = 64  # states gathered before a symmetric update


def tile_length(dimension: int, itemsize: int) -> int:
    """States a tile; depends on the states alone, so that a query's answer does not depend on its batch."""
    return max(16, min(1024, TILE_BYTES // (dimension * itemsize)))
