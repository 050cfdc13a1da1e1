"""CIFAR-10 and ImageNet-64 in their published formats, from small files of the same layout."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastthermo.datasets import batches, load

RNG = np.random.default_rng(0)


def images(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.integers(0, 256, (n, 3, size, size), dtype=np.uint8), RNG.integers(0, 10, n)


def write_bin(path: Path, x: np.ndarray, labels: np.ndarray) -> None:
    rows = np.concatenate([labels[:, None].astype(np.uint8), x.reshape(len(x), -1)], 1)
    rows.tofile(path.with_name(path.name + ".bin"))


def write_python2(path: Path, x: np.ndarray, labels: np.ndarray) -> None:
    """As cPickle of Python 2 wrote them: byte strings as keys, protocol 2."""
    content = {b"batch_label": b"batch", b"labels": labels.tolist(), b"data": x.reshape(len(x), -1)}
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_python3(path: Path, x: np.ndarray, labels: np.ndarray) -> None:
    content = {"data": x.reshape(len(x), -1), "labels": labels.tolist(), "mean": x.reshape(len(x), -1).mean(0)}
    path.write_bytes(pickle.dumps(content))


def write_npz(path: Path, x: np.ndarray, labels: np.ndarray) -> None:
    np.savez(path.with_name(path.name + ".npz"), data=x.reshape(len(x), -1), labels=labels)


@pytest.mark.parametrize(
    ("name", "variable", "size", "files", "write"),
    [
        ("cifar-10", "FASTTHERMO_CIFAR10", 32, batches.CIFAR10, write_bin),
        ("cifar-10", "FASTTHERMO_CIFAR10", 32, batches.CIFAR10, write_python2),
        ("imagenet-64", "FASTTHERMO_IMAGENET64", 64, batches.IMAGENET64, write_python3),
        ("imagenet-64", "FASTTHERMO_IMAGENET64", 64, batches.IMAGENET64, write_npz),
    ],
)
def test_published_batches_are_read_in_their_order(
    name: str, variable: str, size: int, files: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [images(3, size) for _ in files]
    for file, part in zip(files, parts, strict=True):
        write(tmp_path / file, *part)
    monkeypatch.setenv(variable, str(tmp_path))
    data = load(name)
    np.testing.assert_array_equal(data.states, np.concatenate([x for x, _ in parts]))
    np.testing.assert_array_equal(data.labels, np.concatenate([y for _, y in parts]))
    assert data.image_shape == (size, size, 3)
    assert (data.scale, data.shift) == (2 / 255, -1)


@pytest.mark.parametrize(("name", "variable"), [("cifar-10", "CIFAR10"), ("imagenet-64", "IMAGENET64")])
def test_missing_batches_say_how_to_bring_them(
    name: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"FASTTHERMO_{variable}", raising=False)
    with pytest.raises(
        FileNotFoundError, match=f"{name}: not on this machine; get .* export FASTTHERMO_{variable}=DIR"
    ):
        load(name)
    monkeypatch.setenv(f"FASTTHERMO_{variable}", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        load(name)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("suffix", "content", "says"),
    [
        (".bin", b"x" * 3000, r"wanted records of 3073 bytes, got 3000 bytes; the file is cut short"),
        (".bin", b"", "cut short"),
        ("", pickle.dumps({"data": Evil()}), r"only arrays, lists and dicts are read, not posix.system"),
        ("", pickle.dumps([1, 2]), "wanted a dict, got list"),
        ("", pickle.dumps({"data": np.zeros((2, 7), np.uint8), "labels": [0, 1]}), r"shape \(n, 3072\).*\(2, 7\)"),
        ("", pickle.dumps({"labels": [0, 1]}), "cannot be read as a batch of images: KeyError"),
        ("", b"\x80\x02}q", "cannot be read as a batch of images"),
    ],
)
def test_broken_batches_are_refused_by_name(
    suffix: str, content: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"data_batch_1{suffix}").write_bytes(content)
    monkeypatch.setenv("FASTTHERMO_CIFAR10", str(tmp_path))
    with pytest.raises(ValueError, match=says) as caught:
        load("cifar-10")
    assert "data_batch_1" in str(caught.value)
