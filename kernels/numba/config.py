"""Sizes of tiles and blocks, and thresholds, as a table."""

SMALL_DIMENSION = 16  # up to which energies are sums of differences, without products
NEAR_TILE = 1024  # states a tile there
TASK_WORK = 1 << 32  # multiplications a task, about, so that an interrupt waits a tenth of a second
NEAR_WORK = TASK_WORK >> 4  # states x dimensions x queries a task in few dimensions
BYTE_TILE = 256  # states a tile of integer products
TILE = 256  # states a tile, at most, and
LONG_TILE = 512  # where sums of weights are all that is made of it
TILE_BYTES = 3 << 17  # of a tile of states, held twice, and
QUERY_BYTES = 3 << 19  # of the vectors of a block of queries, together not far beyond the second-level cache
ROWS = 12  # queries multiplied at a time
SEGMENT = 4096  # states whose sums are kept in the precision of the products before they are merged in float64
SEGMENT_BYTES = 5 << 23  # of sums of segments that wait to be merged
FEATURE_BYTES = 1 << 22  # of the second moments of a block of queries
FEATURE_ROWS = 72  # such queries, at most
REPEATED_BYTES = 1 << 16  # of a tile of states written repeatedly
COVARIANCE_PARTS = 4  # of the states, at most, summed by tasks of their own, and
COVARIANCE_BYTES = 1 << 25  # of what they sum
DEPTH = 256  # dimensions summed in one chain
SCREEN_BLOCK = 66  # queries a block, eleven times the six that are multiplied at a time
PARTS = 8  # of the states, screened by tasks of their own
SCREEN_BYTES = 5 << 23  # of candidates
DERIVED_WORK = 1 << 16  # numbers a task of what follows from sums
FIELD_BYTES = 1 << 23  # of the queries that are worked on at a time
SCREEN_DIMENSION = 33  # from which screening pays
SCREEN_LARGEST = 1 << 16  # up to which 32 bits hold a product of bytes
SCREEN_SIZE = 8192  # and number of states
JUDGED = 1024  # states, or a little more, that tell whether it is worth a query's while
SAMPLE = 512  # states from which the sum of weights is guessed
LISTED_MOST = 1 << 15  # candidates of a part, at most
CACHED_BYTES = 1 << 24  # of states, up to which rows of listed states are read in any order, else tiles of
LISTED_BYTES = 1 << 21  # one after the other
LISTED_WORK = TASK_WORK // 6  # multiplications a task there, where rows come from memory
BLURRED = 0.05  # expected error of a logit from which products decide nothing
DROWNED = 8.0  # and from which "fast" does not take them either: float32 may not hold a weight's exponent
# An error of e in independent logits changes the force by about e sqrt(sum w^2). The error of a product is about
# a third of u beta R (R/2 + |g|), measured on images, latents and Gaussian data.
TYPICAL = 1 / 3
TOLERANCE = {4: 5e-7, 8: 3e-13}  # of the force, relative to its rms, by the bytes of a number
MARGIN = 1.4  # of the reach of states that matter, in the place of R
# rms force over that reach times the share of float32 products, below which their own rounding is more than 1e-6
NARROW = 0.07
PRECISE = {4: 2e-5, 8: 2e-15}  # of second passes, relative
ALIKE = 1e-2  # beta <H~> over the weight of all but the dominant state, below which they are copies of it
FAR = {4: 16.0, 8: 500.0}  # beta H~_r from which differences of |y - h|^2 are not precise enough
ADRIFT = 1e6  # and from which not for "fast" either: float32 does not hold log2 of a weight as an integer and a rest


def even_block(queries: int, limit: int, rows: int = 1) -> int:
    """The size of the fewest blocks of at most `limit` queries, made equal; several are multiples of `rows`, if any."""
    blocks = max(1, -(-queries // max(1, limit)))
    even = max(1, -(-queries // blocks))
    whole = -(-even // rows) * rows
    return whole if blocks > 1 and whole <= limit else even


def query_block(dimension: int, itemsize: int) -> int:
    """Queries a block, at most; each has two vectors."""
    return max(ROWS, min(192, QUERY_BYTES // (2 * itemsize * dimension) // ROWS * ROWS))


def merged_block(queries: int, shape: tuple[int, int], itemsize: int) -> int:
    """Queries whose sums of segments are held at once, made equal: whole blocks, where one fits."""
    size, dimension = shape
    most, whole = max(1, SEGMENT_BYTES // (-(-size // SEGMENT) * dimension * 8)), query_block(dimension, itemsize)
    return even_block(queries, most // whole * whole or most, 4)


def tile_length(dimension: int, itemsize: int, most: int = TILE) -> int:
    """States a tile: a divisor of SEGMENT that depends on the states alone, as every sum's order does."""
    wanted = TILE_BYTES // (itemsize * dimension)
    return max(32, min(most, 1 << (wanted.bit_length() - 1)))


def listed_tile(dimension: int) -> int:
    """States whose rows serve a block of queries before the next ones do."""
    return int(1 << max(5, (LISTED_BYTES // (4 * dimension)).bit_length() - 1))


def candidates(shape: tuple[int, int]) -> int:
    """States that screening keeps of a part, at most."""
    return min(max(128, shape[0] // (PARTS + PARTS // 2)), LISTED_MOST)


def kept(shape: tuple[int, int], exact: bool) -> int:
    """States that may be left after the least are dropped: about as many as cost what products do.

    exact : whether those are products of bytes.
    """
    size, dimension = shape
    share = 0.3 * dimension / (dimension + 250) * (0.75 if exact else 1.0)
    return max(256, int(size * share))


def second_candidates(shape: tuple[int, int]) -> int:
    """The same for second passes, which take each in float64."""
    return max(128, shape[0] // PARTS // 8)
