"""Counter-based noise, one by one and in vectors."""

from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise import normal
from scipy.special import ndtr

from fastthermo.kernels.numba import philox as vectors
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.simd import load, store

WORD = 1 << 32
NOISE = 4e-7  # relative error allowed to a float32 normal number
KNOWN = [  # Random123, kat_vectors: counter, key, result
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@jit
def _start(counter, same, sample, groups, key0, key1, step, stream):  # type: ignore[no-untyped-def]
    vectors.start(counter, same, sample, groups, key0, key1, step, stream)


@jit
def _words(counter, same, out):  # type: ignore[no-untyped-def]
    (words,), flat = vectors.words((counter,), same), out.reshape(-1)
    for k in range(4):
        store(flat, 16 * k, words[k])


@jit
def _box_muller(words, out):  # type: ignore[no-untyped-def]
    """Rows of four numbers each from columns of four words."""
    count, w, flat = words.shape[1], words.reshape(-1), out.reshape(-1)
    for i in range(0, count, 16):
        z = vectors.normals(load(w, i), load(w, i + count), load(w, i + 2 * count), load(w, i + 3 * count))
        for k in range(4):
            store(flat, i + k * count, z[k])


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words_in_torch(counter: list[int], key: list[int], words: str) -> None:
    from fastthermo.kernels.reference.step import philox

    found = philox(*(torch.tensor(c) for c in counter), key[0] + (key[1] << 32))
    assert " ".join(f"{int(w):08x}" for w in found) == words


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words_in_numba(counter: list[int], key: list[int], words: str) -> None:
    @numba.njit
    def call(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
        return vectors.philox(c0, c1, c2, c3, k0, k1)

    found = call(*(np.uint64(c) for c in counter), *(np.uint64(k) for k in key))
    assert " ".join(f"{int(w):08x}" for w in found) == words


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words_in_every_lane(counter: list[int], key: list[int], words: str) -> None:
    lanes, same, out = (
        np.empty(vectors.COUNTER, np.uint64),
        np.empty(vectors.SAME, np.uint64),
        np.empty((4, 16), np.int32),
    )
    sample, step, draw, stream = (np.uint64(c) for c in counter)
    _start(lanes, same, sample, 1, np.uint64(key[0]), np.uint64(key[1]), step, stream)
    for lane in range(16):
        lanes[vectors.SAMPLE : vectors.SAMPLE + 16] = np.arange(16)  # other counters beside the one that is looked at
        lanes[vectors.SAMPLE + lane], lanes[vectors.DRAW : vectors.DRAW + 16] = sample, draw
        _words(lanes, same, out)
        found = [" ".join(f"{w:08x}" for w in column) for column in out.view(np.uint32).T]
        assert words in found


def words(interpreted: Any, sample: Any, draw: Any, seed: int, step: int, stream: int) -> torch.Tensor:
    counters = (torch.as_tensor(c, dtype=torch.int64) for c in (sample, draw))
    signed = (seed + (1 << 63)) % (1 << 64) - (1 << 63)
    return interpreted.call("probes:words", *counters, signed, step, stream)


@pytest.mark.parametrize(("counter", "key", "published"), KNOWN)
def test_philox_gives_the_published_words_in_triton(
    interpreted: Any, counter: list[int], key: list[int], published: str
) -> None:
    sample, step, draw, stream = counter
    found = words(interpreted, [sample], [draw], key[0] + (key[1] << 32), step, stream)
    assert " ".join(f"{int(w):08x}" for w in found) == published


@settings(max_examples=10)
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    step=st.integers(0, WORD - 1),
    first=st.integers(0, WORD + 5),
    stream=st.integers(0, 9),
)
def test_words_of_triton_are_those_of_the_reference(
    interpreted: Any, seed: int, step: int, first: int, stream: int
) -> None:
    sample, draw = first + torch.arange(3000) // 7, torch.arange(3000) % 7
    from fastthermo.kernels.reference.step import philox

    found = words(interpreted, sample, draw, seed, step, stream)
    want = philox(sample, torch.tensor(step), draw, torch.tensor(stream), seed)
    assert torch.equal(found, torch.stack(want))


def exact_box_muller(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """In extended precision, without cancellation where u is near 1."""
    first, second = first.astype(np.longdouble), second.astype(np.longdouble)
    u, complement = (first + 0.5) / WORD, (WORD - 1 - first + 0.5) / WORD
    radius = np.sqrt(-2 * np.where(u < 0.5, np.log(u), np.log1p(-complement)))
    turn, rest = np.divmod(second + WORD / 8, WORD / 4)
    angle = (rest - WORD / 8) / WORD * 2 * np.longdouble("3.14159265358979323846")
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = turn.astype(int) % 4
    return [
        radius * np.choose(turn, [cosine, -sine, -cosine, sine]),
        radius * np.choose(turn, [sine, cosine, -sine, -cosine]),
    ]


def worst(words: np.ndarray) -> float:
    """The largest relative error of the normal numbers of columns of four words."""
    out = np.empty(words.shape, np.float32)
    _box_muller(words.view(np.int32), out)
    want = np.array(exact_box_muller(*words[:2]) + exact_box_muller(*words[2:]))
    assert (out[want == 0] == 0).all()
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(out - want) / np.abs(want)))


def test_vector_box_muller_is_right_at_both_ends_and_at_every_eighth_of_a_turn() -> None:
    """u1 near 0 and near 1, where (word + 1/2) 2^-32 would be 1 in float32; between powers of 2; angles near axes."""
    near = np.arange(-8, 9)
    powers = np.concatenate([2**k + near for k in range(4, 33)])
    ends = np.concatenate([powers, WORD - 1 - powers, np.arange(16), WORD - 1 - np.arange(16), 3 * 2**30 + near]) % WORD
    eighths = np.concatenate([k * 2**29 + near for k in range(8)]) % WORD
    first, second = (x.ravel().astype(np.uint32) for x in np.meshgrid(ends, np.concatenate([ends, eighths])))
    count = first.size // 16 * 16
    assert worst(np.stack([first, second, first[::-1], second[::-1]])[:, :count].copy()) < NOISE


def test_vector_box_muller_is_right_for_a_million_random_words() -> None:
    assert worst(np.random.default_rng(0).integers(0, WORD, (4, 1 << 18), dtype=np.uint32)) < NOISE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_box_muller_of_triton_is_right_at_both_ends_at_every_eighth_of_a_turn_and_elsewhere(
    interpreted: Any, dtype: torch.dtype
) -> None:
    near = np.arange(-8, 9)
    powers = np.concatenate([2**k + near for k in range(4, 33)])
    ends = np.concatenate([powers, WORD - 1 - powers, np.arange(16), WORD - 1 - np.arange(16)]) % WORD
    eighths = np.concatenate([k * 2**29 + near for k in range(8)]) % WORD
    first, second = (x.ravel() for x in np.meshgrid(ends, eighths))
    random = np.random.default_rng(0).integers(0, WORD, (2, 1 << 18))
    first, second = np.concatenate([first, random[0]]), np.concatenate([second, random[1]])
    found = interpreted.call("probes:box_muller", torch.from_numpy(first), torch.from_numpy(second), dtype).numpy()
    want = np.array(exact_box_muller(first, second))
    if dtype == torch.float32:
        error = np.abs(found - want) / np.abs(want).clip(1e-30)
        assert error.max() < 5e-7  # the interpreter rounds products before it adds
    else:
        assert np.abs(found - want).max() < 4e-15


def test_vector_noise_is_the_float64_reference_for_a_million_numbers() -> None:
    from fastthermo.kernels import numba, reference

    one = normal(numba, 4096, 256, seed=-7, step=3, first=12345, stream=1, dtype=torch.float32)
    two = normal(reference, 4096, 256, seed=-7, step=3, first=12345, stream=1)
    assert one.dtype == torch.float32
    assert ((one - two).abs() <= NOISE * two.abs().clamp(min=1e-3)).all()  # float64 has an absolute error there


@given(
    rows=st.integers(1, 40),
    dimension=st.integers(1, 90),
    seed=st.integers(-(2**63), 2**64 - 1),
    step=st.integers(0, WORD - 1),
    first=st.integers(0, WORD + 5),
    stream=st.integers(0, 9),
)
def test_vector_noise_of_any_shape_and_key_is_that_of_the_reference(
    rows: int, dimension: int, seed: int, step: int, first: int, stream: int
) -> None:
    from fastthermo.kernels import numba, reference

    one = normal(numba, rows, dimension, seed, step, first, stream, torch.float32)
    two = normal(reference, rows, dimension, seed, step, first, stream)
    assert ((one - two).abs() <= NOISE * two.abs().clamp(min=1e-3)).all()


def test_noise_is_box_muller_of_the_counter(backend: Any) -> None:
    """The first four numbers of sample 0 at seed 0 are those of the published words."""
    word = [int(w, 16) for w in KNOWN[0][2].split()]
    radius = [np.sqrt(-2 * np.log((word[i] + 0.5) / 2**32)) for i in (0, 2)]
    angle = [2 * np.pi * word[i] / 2**32 for i in (1, 3)]
    want = [f(angle[i]) * radius[i] for i in (0, 1) for f in (np.cos, np.sin)]
    assert normal(backend, 1, 4)[0].tolist() == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_standard_normal(backend: Any, dtype: torch.dtype) -> None:
    n, dimension = 20000, 10
    z = normal(backend, n, dimension, seed=5, dtype=dtype).double().numpy().ravel()
    size = len(z)
    assert abs(z.mean()) < 3 / np.sqrt(size)
    assert abs(z.var() - 1) < 3 * np.sqrt(2 / size)
    assert abs((z**3).mean()) < 3 * np.sqrt(15 / size)
    assert abs((z**4).mean() - 3) < 3 * np.sqrt(96 / size)
    assert np.abs(z).max() < np.sqrt(-2 * np.log(2.0**-33)) + 1e-12
    distance = np.abs(np.sort(ndtr(z)) - (np.arange(size) + 0.5) / size).max()
    assert distance * np.sqrt(size) < 1.63  # Kolmogorov and Smirnov, 1 in 100


def test_noise_of_different_dimensions_samples_and_steps_is_uncorrelated(backend: Any) -> None:
    n = 20000
    one, two = normal(backend, n, 6, seed=1).numpy(), normal(backend, n, 6, seed=1, step=1).numpy()
    pairs = [one[:, i] * one[:, j] for i in range(6) for j in range(i)]
    pairs += [one[1:, 0] * one[:-1, 0], *(one[:, i] * two[:, i] for i in range(6))]
    deviations = np.array([np.sqrt(len(p)) * p.mean() for p in pairs])
    assert abs((deviations**2).sum() - len(pairs)) < 3 * np.sqrt(2 * len(pairs))


@pytest.mark.parametrize("change", [{"seed": 1}, {"seed": 1 << 40}, {"step": 1}, {"first": 9}, {"stream": 1}])
def test_noise_depends_on_every_part_of_its_key(backend: Any, change: dict[str, int]) -> None:
    assert not torch.isclose(normal(backend, 4, 5), normal(backend, 4, 5, **change)).any()


def test_noise_of_a_coordinate_does_not_depend_on_the_dimension(backend: Any) -> None:
    assert torch.equal(normal(backend, 5, 9)[:, :6], normal(backend, 5, 6))


def test_a_negative_seed_is_the_64_bit_word(backend: Any) -> None:
    assert torch.equal(normal(backend, 2, 3, seed=-1), normal(backend, 2, 3, seed=2**64 - 1))


@pytest.mark.parametrize(("rows", "dimension"), [(0, 3), (1, 1), (3, 4), (70, 5), (2, 1023)])
def test_backends_agree_to_rounding(backend: Any, rows: int, dimension: int) -> None:
    from fastthermo.kernels import reference

    one = normal(backend, rows, dimension, seed=12345678901234, step=77, first=1 << 31, stream=2)
    two = normal(reference, rows, dimension, seed=12345678901234, step=77, first=1 << 31, stream=2)
    assert one.shape == two.shape == (rows, dimension)
    assert torch.allclose(one, two, rtol=0, atol=1e-14)
