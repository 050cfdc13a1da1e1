"""CIFAR-10 and down-sampled ImageNet in the files they are published in: batches of rows of bytes, channels first.

CIFAR-10 (Krizhevsky 2009)       NAME.bin: a label and 3 x 32 x 32 bytes a record; or NAME, a pickle of data, labels
ImageNet-64 (Chrabaszcz et al.,  NAME, a pickle of data (n, 3 * 64 * 64) and labels from 1 to 1000, or NAME.npz with
arXiv:1707.08819)                the same
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

CIFAR10 = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
IMAGENET64 = (*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data")
ALLOWED = {  # what arrays of any version of NumPy are pickled with
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "_codecs")
    for name in ("ndarray", "dtype", "_reconstruct", "_frombuffer", "encode")
}


class _Arrays(pickle.Unpickler):
    """Reads pickles of arrays, lists and dicts, and refuses all others: a pickle can run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"only arrays, lists and dicts are read, not {module}.{name}")
        return super().find_class(module, name)


def read_batches(folder: Path, names: tuple[str, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, size, size) uint8 and labels (N,) of the batches in `folder` that are there, in their order."""
    parts = [_read(path, size) for name in names if (path := _find(folder, name)) is not None]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return images, labels


def present(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether any of the batches is there."""
    return any(_find(folder, name) is not None for name in names)


def _find(folder: Path, name: str) -> Path | None:
    files = (folder / f"{name}{suffix}" for suffix in (".bin", ".npz", ""))
    return next((file for file in files if file.is_file()), None)


def _read(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    row = 3 * size * size
    if path.suffix == ".bin":
        raw = np.fromfile(path, np.uint8)
        if raw.size == 0 or raw.size % (row + 1):
            raise ValueError(f"{path}: wanted records of {row + 1} bytes, got {raw.size} bytes; the file is cut short")
        data, labels = raw.reshape(-1, row + 1)[:, 1:], raw.reshape(-1, row + 1)[:, 0]
    else:
        try:
            found = _npz(path) if path.suffix == ".npz" else _pickle(path)
            data, labels = np.asarray(found["data"]), np.asarray(found["labels"])
        except (KeyError, ValueError, EOFError, OSError, pickle.UnpicklingError, AttributeError, IndexError) as error:
            raise ValueError(f"{path}: cannot be read as a batch of images: {error!r}") from error
        if data.ndim != 2 or data.shape[1] != row or data.dtype != np.uint8 or labels.shape != data.shape[:1]:
            raise ValueError(
                f"{path}: wanted bytes of shape (n, {row}) and n labels, got {data.dtype} {data.shape}, {labels.shape}"
            )
    return data.reshape(-1, 3, size, size), labels.astype(np.int64)


def _npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _pickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        found = _Arrays(stream, encoding="bytes").load()
    if not isinstance(found, dict):
        raise ValueError(f"wanted a dict, got {type(found).__name__}")
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
