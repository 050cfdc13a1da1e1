"""The store of a sweep: one Zarr group made up front, a chunk a task, `done` written last.

values    (cell, observable, point)   NaN until measured
scalars   (cell, scalar)              critical_temperature, error_bound, seconds: see `Result`
done      (task,)                     its chunk is written when a task's others are

A file a chunk in one folder an array, each of which appears whole: a process may end at any moment.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import fastthermo
from fastthermo.sweep.grid import Grid
from fastthermo.sweep.measure import SCALARS, Result

PACKAGES = ("numpy", "scipy", "numba", "torch", "zarr", "xarray")


class Store:
    """A sweep's store, open for reading and writing."""

    def __init__(self, path: Path) -> None:
        import zarr

        if not (path / "zarr.json").is_file():
            raise ValueError(f"store: {path} is not a sweep's store")
        self.path = path
        self.group: Any = zarr.open_group(path, mode="r+")
        if "grid" not in self.group.attrs:
            raise ValueError(f"store: {path} was not made by a sweep")
        try:
            self.grid: Grid = msgspec.json.decode(self.group.attrs["grid"], type=Grid)
        except msgspec.DecodeError as error:
            raise ValueError(f"store: {path} holds a sweep that this version cannot read: {error}") from error

    @classmethod
    def open(cls, path: Path, grid: Grid) -> Store:
        """The store at `path`, made where there is none; refused where it holds another sweep."""
        if not path.exists():
            grid.check()
            _make(path, grid)
        store = cls(path)
        ours, theirs = msgspec.to_builtins(grid), msgspec.to_builtins(store.grid)
        version = store.group.attrs["provenance"]["versions"]["fastthermo"]
        for key in ours:
            if ours[key] != theirs[key]:
                raise ValueError(
                    f"{key}: {path} holds a sweep with {key} = {theirs[key]}, not {ours[key]}; choose another store"
                )
        if version != fastthermo.__version__:
            raise ValueError(f"version: {path} was begun by fastthermo {version}, this is {fastthermo.__version__}")
        return store

    @property
    def done(self) -> np.ndarray:
        """Which tasks are, (tasks,)."""
        return np.asarray(self.group["done"][:], dtype=bool)

    def write(self, result: Result) -> None:
        """One task's numbers."""
        if result.version != fastthermo.__version__:
            raise ValueError(f"executor: a worker has fastthermo {result.version}, this is {fastthermo.__version__}")
        first = result.task * self.grid.block
        cells = slice(first, first + len(result.values))
        self.group["values"][cells] = result.values
        self.group["scalars"][cells] = result.scalars
        self.group["done"][result.task] = True

    def read(self, task: int) -> Result:
        """A finished task's numbers."""
        cells = slice(task * self.grid.block, (task + 1) * self.grid.block)
        values, scalars = self.group["values"][cells], self.group["scalars"][cells]
        return Result(task, values, scalars, self.group.attrs["provenance"]["versions"]["fastthermo"])

    @contextmanager
    def claimed(self, shard: tuple[int, int] | None) -> Iterator[None]:
        """Held by one driver, or by one for each shard; locks that its process's end releases."""
        import fcntl

        whole, part = self.path / "zarr.json", None  # locks lie beside the group, whose members zarr knows
        locks = [(whole, fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH)]
        if shard is not None:
            part = self.path.with_name(f".{self.path.name}.shard-{shard[0]}-{shard[1]}.lock")
            locks.append((part, fcntl.LOCK_EX))
        with ExitStack() as stack:
            for path, kind in locks:
                file = stack.enter_context(path.open("a"))
                try:
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ValueError(f"store: another driver is at work on {self.path}; wait, or use --shard") from None
                if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    raise ValueError(f"store: another driver has just left {self.path}; try again")
            yield
            if part is not None:
                part.unlink()


def _make(path: Path, grid: Grid) -> None:
    """An empty store, which appears whole or not at all."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    points, block, columns = grid.measure.points, grid.block, len(grid.columns)
    cells, tasks = grid.cells, grid.tasks
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=3)
        attributes = {"observables": list(grid.columns), "scalars": list(SCALARS), "provenance": provenance()}
        group.attrs.update({"grid": msgspec.json.encode(grid).decode(), **attributes})
        for name, shape, chunks, dims, dtype, fill in (
            ("values", (cells, columns, len(points)), block, ("cell", "observable", "point"), "float64", np.nan),
            ("scalars", (cells, len(SCALARS)), block, ("cell", "scalar"), "float64", np.nan),
            ("done", (tasks,), 1, ("task",), "bool", False),
        ):
            group.create_array(
                name,
                shape=shape,
                chunks=(chunks, *shape[1:]),
                dtype=dtype,
                fill_value=fill,
                dimension_names=dims,
                chunk_key_encoding={"name": "default", "separator": "."},
            )
        group.create_array(grid.measure.coordinate, data=points, dimension_names=("point",))
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():  # else another driver made it first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _commit() -> str | None:
    """Of the checkout that holds this file; None for an installed package."""

    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_name())


def provenance() -> dict[str, Any]:
    """Versions, commit and machine."""
    versions = {"fastthermo": fastthermo.__version__, "python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in PACKAGES}
    machine = {"cpu": _cpu(), "architecture": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    return {
        "versions": versions,
        "commit": _commit(),
        "machine": machine,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }
