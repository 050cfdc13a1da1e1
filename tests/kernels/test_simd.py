"""Explicit vectors, lane by lane against NumPy; the register-blocked product and the transposition made of them."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.errors import TypingError

from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.exponential import exp2, exp2_product, exp2_shifted
from fastthermo.kernels.numba.multiply import multiply, transpose, width
from fastthermo.kernels.numba.simd import (
    equal,
    fma,
    lanes,
    largest,
    less,
    load,
    load_as,
    maximum,
    minimum,
    smallest,
    splat,
    sqrt,
    store,
    total,
    where_less,
)

LANES = {np.float32: 16, np.float64: 8, np.int32: 16}
MAGIC = {np.float32: 1.5 * 2.0**23, np.float64: 1.5 * 2.0**52}  # a number so large that its last bit is 1
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1.5, 3.0, np.inf, -np.inf]
ROWS = ["+", "-", "*", "/", "+=", "maximum", "minimum", "where_less", "fma", "sqrt", "splat"]  # of what _lanewise gives

floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@jit
def _lanewise(a, b, c, out):  # type: ignore[no-untyped-def]
    for i in range(0, a.size, lanes(a)):
        v, w, z = load(a, i), load(b, i), load(c, i)
        store(out, i, v + w)
        store(out, i + a.size, v - w)
        store(out, i + 2 * a.size, v * w)
        store(out, i + 3 * a.size, v / w)
        store(out, i + 5 * a.size, maximum(v, w))
        store(out, i + 6 * a.size, minimum(v, w))
        store(out, i + 7 * a.size, where_less(v, w, z, v))
        store(out, i + 8 * a.size, fma(v, w, z))
        store(out, i + 9 * a.size, sqrt(v))
        store(out, i + 10 * a.size, splat(b[i]))
        v += w
        store(out, i + 4 * a.size, v)


@jit
def _powers(x, scale, shift, out):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, lanes(x)):
        v, shifted = load(x, i), splat(shift)
        store(out, i, exp2(v))
        store(out, i + x.size, exp2_product(splat(scale), v, shifted))
        store(out, i + 2 * x.size, exp2_shifted(v, shifted))


@jit
def _reduced(a, b):  # type: ignore[no-untyped-def]
    v, w = load(a, 0), load(b, 0)
    return total(v), largest(v), smallest(v), less(v, w), equal(v, w)


@jit
def _copied(source, begin, target, to, x):  # type: ignore[no-untyped-def]
    """One vector; x everywhere before it, from place 0 on."""
    store(target, 0, splat(x))
    store(target, to, load(source, begin))
    return lanes(source)


@jit
def _converted(source, begin, out):  # type: ignore[no-untyped-def]
    store(out, 0, load_as(source, begin, out))


@jit
def _transposed(source, at, stride, target, to, jump):  # type: ignore[no-untyped-def]
    transpose(source, at, stride, target, to, jump)


@jit
def _multiplied(left, at, stride, rows, panel, start, steps, out, to, jump):  # type: ignore[no-untyped-def]
    multiply(left, at, stride, rows, panel, start, steps, out, to, jump)
    return width(panel)


def lanewise(v: Any, w: Any, z: Any) -> dict[str, np.ndarray]:
    out = np.full((len(ROWS), v.size), np.nan, v.dtype)
    _lanewise(v, w, z, out)
    return dict(zip(ROWS, out, strict=True))


def powers(x: np.ndarray, scale: float = 1.0, offset: int = 0) -> np.ndarray:
    """2^x, 2^(scale x - offset) and 2^(x - offset)."""
    kind, out = x.dtype.type, np.empty((3, x.size), x.dtype)
    _powers(x, kind(scale), kind(MAGIC[kind] - offset), out)
    return out


def random(dtype: Any, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def bits(mask: np.ndarray) -> int:
    return sum(1 << i for i, x in enumerate(mask) if x)


@floats
def test_lanes_are_combined_as_by_numpy(dtype: Any) -> None:
    v, w, z = random(dtype, 3, 64)
    v[:8], w[:8] = SPECIAL, SPECIAL[::-1]
    v[8:16], w[8:16] = SPECIAL, SPECIAL
    found = lanewise(v, w, z)
    with np.errstate(all="ignore"):
        wanted = {"+": v + w, "+=": v + w, "-": v - w, "*": v * w, "sqrt": np.sqrt(v), "maximum": np.maximum(v, w)}
        quotient = v / w
    wanted |= {"minimum": np.minimum(v, w), "where_less": np.where(v < w, z, v)}
    wanted["splat"] = np.repeat(w[:: LANES[dtype]], LANES[dtype])
    for name, want in wanted.items():
        np.testing.assert_array_equal(found[name], want, err_msg=name)
    # fast-math lets a product with the reciprocal stand in for the quotient
    np.testing.assert_array_max_ulp(found["/"][16:], quotient[16:], 4)


@floats
def test_fma_rounds_once(dtype: Any) -> None:
    u = np.finfo(dtype).eps
    v = np.full(16, 1 + u, dtype)
    w, z = np.full(16, 1 - u, dtype), np.full(16, -1, dtype)
    assert (lanewise(v, w, z)["fma"] == -(u**2)).all()
    assert (v * w + z == 0).all()


@floats
def test_fma_is_the_rounded_exact_sum(dtype: Any) -> None:
    v, w, z = random(dtype, 3, 64, seed=1)
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(t)) for x, y, t in zip(v, w, z, strict=True)]
    spacing = np.spacing(np.abs(lanewise(v, w, z)["fma"])).tolist()
    for got, want, gap in zip(lanewise(v, w, z)["fma"].tolist(), exact, spacing, strict=True):
        assert abs(Fraction(got) - want) <= Fraction(gap) / 2


@pytest.mark.parametrize("dtype", LANES)
def test_a_vector_is_moved_from_and_to_any_place(dtype: Any) -> None:
    count = LANES[dtype]
    source = np.arange(4 * count).astype(dtype).reshape(4, count)
    for begin in range(count + 1):
        target = np.full(4 * count, -1, dtype)
        assert _copied(source, begin, target, 2 * count - begin, dtype(-7)) == count
        np.testing.assert_array_equal(target[2 * count - begin :][:count], source.flat[begin : begin + count])
        target[2 * count - begin : 3 * count - begin] = -1
        np.testing.assert_array_equal(np.delete(target, range(count)), -1)


@pytest.mark.parametrize("dtype", LANES)
def test_a_scalar_is_in_every_lane(dtype: Any) -> None:
    target = np.zeros(4 * LANES[dtype], dtype)
    _copied(target.copy(), 0, target, 2 * LANES[dtype], dtype(-3))
    np.testing.assert_array_equal(target, np.repeat([-3, 0, 0, 0], LANES[dtype]))


def test_what_is_no_vector_is_refused() -> None:
    x = np.zeros(64, np.float32)
    for source, target in ((x[::2], x), (x, x.astype(np.float64)), (x.astype(np.int16), x)):
        with pytest.raises(TypingError):
            _copied(source, 0, target, 0, target.dtype.type(0))
    with pytest.raises(TypingError):
        lanewise(x, x.astype(np.float64), x)


@floats
@pytest.mark.parametrize("source", [np.uint8, np.int8, np.float32, np.float64])
def test_numbers_of_any_type_become_lanes(dtype: Any, source: Any) -> None:
    low, high = (np.iinfo(source).min, np.iinfo(source).max) if np.dtype(source).kind in "iu" else (-1e30, 1e30)
    numbers = np.random.default_rng(0).uniform(low, high, 64)
    numbers[:3] = low, 1 / 3, high
    numbers = numbers.astype(source)
    for begin in (0, 1, 48):
        out = np.empty(LANES[dtype], dtype)
        _converted(numbers, begin, out)
        np.testing.assert_array_equal(out, numbers[begin : begin + out.size].astype(dtype))


@floats
def test_reductions_take_every_lane_once(dtype: Any) -> None:
    count = LANES[dtype]
    for lane in range(count):
        x = np.zeros(count, dtype)
        x[lane] = 5
        assert _reduced(x, x)[:3] == (5, 5, 0)
        assert _reduced(-x, x)[:3] == (-5, 0, -5)
        assert _reduced(-x, x)[3:] == (1 << lane, (1 << count) - 1 - (1 << lane))
    assert _reduced(np.arange(count).astype(dtype), x)[0] == count * (count - 1) / 2


@floats
@given(data=st.data())
def test_reductions_and_comparisons_are_those_of_numpy(dtype: Any, data: st.DataObject) -> None:
    count, size = LANES[dtype], 8 * np.dtype(dtype).itemsize
    lane = st.floats(width=size, allow_nan=False, min_value=-(2.0**100), max_value=2.0**100)
    few = st.sampled_from([-1.0, 0.0, -0.0, 1.0, float("inf"), float("-inf")])
    a = np.array(data.draw(st.lists(lane, min_size=count, max_size=count)), dtype)
    b = np.array(
        data.draw(st.lists(st.one_of(few, lane, st.sampled_from(a.tolist())), min_size=count, max_size=count)), dtype
    )
    sum_, top, bottom, below, same = _reduced(a, b)
    assert (top, bottom) == (a.max(), a.min())
    assert (below, same) == (bits(a < b), bits(a == b))
    assert (
        abs(sum_ - a.astype(np.longdouble).sum()) <= count * np.finfo(dtype).eps * np.abs(a.astype(np.longdouble)).sum()
    )


@floats
def test_reductions_of_infinities_are_infinite(dtype: Any) -> None:
    x = random(dtype, LANES[dtype])
    x[3] = np.inf
    assert _reduced(x, x)[:2] == (np.inf, np.inf)
    assert _reduced(-x, x)[2] == -np.inf


@floats
def test_exp2_is_as_accurate_as_it_says(dtype: Any) -> None:
    lowest, highest, bound = (-126, 127, 2e-7) if dtype == np.float32 else (-1022, 1023, 3e-16)
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.uniform(lowest, highest, 1 << 16), rng.uniform(-1, 1, 1 << 16), np.arange(lowest, highest, 0.5)]
    )
    x = np.concatenate([x, np.nextafter(np.arange(lowest, highest) + 0.5, -np.inf)])
    x = x[: len(x) // 16 * 16].astype(dtype)
    want = np.exp2(x.astype(np.longdouble))
    assert np.abs(powers(x)[0] / want - 1).max() < bound


@floats
def test_exp2_of_integers_is_exact(dtype: Any) -> None:
    lowest, highest = (-126, 128) if dtype == np.float32 else (-1022, 1024)
    x = np.resize(np.arange(lowest, highest), 2048).astype(dtype)
    np.testing.assert_array_equal(powers(x)[0], np.ldexp(dtype(1), x.astype(int)))


@floats
def test_exp2_ends_at_the_least_normal_number(dtype: Any) -> None:
    lowest = -126 if dtype == np.float32 else -1022
    x = np.resize(np.array([lowest, lowest - 0.1, lowest - 1, 2 * lowest, -1e30, -np.inf], dtype), 16)
    np.testing.assert_array_equal(powers(x)[0], np.finfo(dtype).tiny)


@floats
@given(scale=st.floats(-1024, -(2.0**-10), width=32), offset=st.integers(-(10**6), 10**6), seed=st.integers(0, 99))
def test_powers_of_a_product_round_it_once(dtype: Any, scale: float, offset: int, seed: int) -> None:
    """Of scale x - m what cancels leaves no rounding of scale x behind."""
    x = ((offset + np.random.default_rng(seed).uniform(-20, 20, 16)) / scale).astype(dtype)
    exact = [Fraction(scale) * Fraction(number) - offset for number in x.tolist()]
    heads = [float(number) for number in exact]
    tails = [float(number - Fraction(head)) for number, head in zip(exact, heads, strict=True)]
    want = np.exp2(np.array(heads, np.longdouble) + np.array(tails, np.longdouble))
    relative = powers(x, scale, offset)[1] / want - 1
    assert np.abs(relative).max() < (2e-7 if dtype == np.float32 else 3e-16)


@floats
def test_powers_of_a_shifted_number_are_exact_to_rounding(dtype: Any) -> None:
    x = np.random.default_rng(0).uniform(-60, 60, 1 << 12).astype(dtype)
    for offset in (-40, 0, 3, 60):
        relative = powers(x, offset=offset)[2] / np.exp2(x.astype(np.longdouble) - offset) - 1
        assert np.abs(relative).max() < (2e-7 if dtype == np.float32 else 3e-16)


@floats
def test_transposition_is_that_of_numpy(dtype: Any) -> None:
    count = LANES[dtype]
    source = random(dtype, 2 * count, 3 * count)
    for row, column in ((0, 0), (1, 3), (count, 2 * count)):
        target = np.zeros((count + 2, 2 * count), dtype)
        _transposed(source, row * 3 * count + column, 3 * count, target, 2 * count + 5, 2 * count)
        want = np.zeros_like(target)
        want[1 : 1 + count, 5 : 5 + count] = source[row : row + count, column : column + count].T
        np.testing.assert_array_equal(target, want)


@floats
def test_a_product_is_added_to_what_is_there(dtype: Any) -> None:
    wide, steps = 2 * LANES[dtype], 37
    left, panel, before = random(dtype, 33, 50), random(dtype, 45, wide), random(dtype, 35, wide + 3)
    for rows in (1, 3, 4, 11, 12, 13, 24, 31):
        out = before.copy()
        assert _multiplied(left, 50 + 7, 50, rows, panel, 5 * wide, steps, out, wide + 5, wide + 3) == wide
        want = before.astype(np.float64)
        a, b = left[1 : 1 + rows, 7 : 7 + steps].astype(np.float64), panel[5 : 5 + steps].astype(np.float64)
        want[1 : 1 + rows, 2 : 2 + wide] += a @ b
        size = np.zeros_like(want)
        size[1 : 1 + rows, 2 : 2 + wide] = np.abs(a) @ np.abs(b) + np.abs(before[1 : 1 + rows, 2 : 2 + wide])
        assert (np.abs(out - want) <= (steps + 1) * np.finfo(dtype).eps / 2 * size).all()


@floats
def test_a_row_of_a_product_does_not_depend_on_how_many_there_are(dtype: Any) -> None:
    wide, steps, most = 2 * LANES[dtype], 100, 41
    left, panel = random(dtype, most, steps), random(dtype, steps, wide)

    def product(first: int, rows: int) -> np.ndarray:
        out = np.zeros((rows, wide), dtype)
        _multiplied(left, first * steps, steps, rows, panel, 0, steps, out, 0, wide)
        return out

    whole = product(0, most)
    for rows in range(1, most):
        np.testing.assert_array_equal(product(0, rows), whole[:rows])
        np.testing.assert_array_equal(product(most - rows, rows), whole[most - rows :])
