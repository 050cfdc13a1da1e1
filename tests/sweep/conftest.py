"""A small sweep, and what stores hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastthermo as ft

SMALL = """
sizes = [500, 2000]
seeds = 8
cells_per_task = 8
[measure]
kind = "transition"
epsilon = [0.05, 0.5, 8]
[[models]]
model = "two_deltas"
[[models]]
model = "gaussian"
d = [2]
"""


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path / "small.toml"


@pytest.fixture
def small(small_file: Path) -> Any:
    return ft.sweep.load(small_file)


def _values(path: Path) -> np.ndarray:
    """Every number of a finished store, but for the seconds."""
    store = ft.sweep.Store(path)
    assert store.done.all()
    values = np.asarray(store.group["values"][:]).reshape(store.grid.cells, -1)
    return np.concatenate([values, store.group["scalars"][:, :2]], 1)


@pytest.fixture
def values() -> Callable[[Path], np.ndarray]:
    return _values
