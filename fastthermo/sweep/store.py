"""The store of a sweep: one Zarr group made up front, a chunk a task, `done` written last.

values    (cell, observable, point)   NaN until measured
scalars   (cell, scalar)              critical_temperature, error_bound, seconds: see `Result`
done      (task,)                     its chunk is written when a task's others are

A file a chunk in one folder an array, each of which appears whole: a process may end at any moment. Where the attribute
`empty_chunks` says so, chunks that are all NaN are written too, and one that is missing was lost.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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
NUMBERS = {"values": ".0.0", "scalars": ".0"}  # arrays of a chunk a task, and how the names of their chunks end
TOGETHER = 2**22  # numbers that are read at once
NAMED = 8  # lost tasks that a message names


class Store:
    """A sweep's store, open for reading and writing."""

    def __init__(self, path: Path) -> None:
        import zarr

        file = path / "zarr.json"
        if not file.is_file():
            raise ValueError(f"store: {path} is not a sweep's store")
        self.path = path
        try:
            self.group: Any = zarr.open_group(path, mode="r+")
            if "grid" not in self.group.attrs:
                raise ValueError(f"store: {path} was not made by a sweep")
            self.grid: Grid = msgspec.json.decode(self.group.attrs["grid"], type=Grid)
            for name in (*NUMBERS, "done"):
                file = path / name / "zarr.json"
                _ = self.group[name]
        except msgspec.DecodeError as error:
            raise ValueError(f"store: {path} holds a sweep that this version cannot read: {error}") from error
        except (KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"store: {file} is missing or damaged: {error!r}") from error

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
        """Which tasks are, (tasks,); not those whose chunk of `done` is damaged."""
        return self._done()[0]

    def lost(self) -> dict[int, str]:
        """Tasks whose chunks are damaged, or missing though the task is done, each with the name of such a chunk.

        Reads the whole store: two milliseconds a task, where that took about a second to measure.
        """
        flags, damaged = self._done()
        lost, done = {task: f"done/c.{task}" for task in damaged}, np.flatnonzero(flags)
        for name, end in NUMBERS.items():
            there = set(os.listdir(self.path / name))
            written = name == "scalars" or self.group.attrs.get("empty_chunks", False)  # seconds are never NaN
            gone = [int(task) for task in done if written and f"c.{task}{end}" not in there]
            damaged = [int(some[0]) for some, found in self._read(name, done) if found is None]
            lost |= {task: f"{name}/c.{task}{end}" for task in (*gone, *damaged)}
        return dict(sorted(lost.items()))

    def check(self) -> None:
        """ValueError where numbers of a task that is done are lost."""
        lost = self.lost()
        if lost:
            raise ValueError(f"store: {self.path}: {named(lost)} cannot be read; run the sweep again to measure anew")

    def _done(self) -> tuple[np.ndarray, list[int]]:
        """Which tasks are, (tasks,), and those of which it cannot be read."""
        done, damaged = np.zeros(self.grid.tasks, bool), []
        for some, flags in self._read("done", np.arange(self.grid.tasks)):
            if flags is None:
                damaged.append(int(some[0]))
            else:
                done[some] = flags
        return done, damaged

    def _read(self, name: str, tasks: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Runs of some tasks, in order, and an array from first to last; None for a task whose chunk is damaged.

        Runs that fail are halved until the tasks that do are alone.
        """
        array = self.group[name]
        block, width = array.chunks[0], math.prod(array.shape[1:])
        runs = [tasks] if len(tasks) else []
        while runs:
            some = runs.pop()
            cells, found = slice(int(some[0]) * block, (int(some[-1]) + 1) * block), None
            if len(some) == 1 or (cells.stop - cells.start) * width <= TOGETHER:
                with suppress(Exception):  # whatever codecs raise
                    found = array[cells]
            if found is None and len(some) > 1:
                runs += reversed(np.array_split(some, 2))
            else:
                yield some, found

    def write(self, result: Result) -> None:
        """One task's numbers."""
        if result.version != fastthermo.__version__:
            raise ValueError(f"executor: a worker has fastthermo {result.version}, this is {fastthermo.__version__}")
        first = result.task * self.grid.block
        cells = slice(first, first + len(result.values))
        for name, numbers in zip(NUMBERS, (result.values, result.scalars), strict=True):
            self.group[name].with_config({"write_empty_chunks": True})[cells] = numbers
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


def named(lost: Mapping[int, str]) -> str:
    """Lost tasks and their chunks, for a message."""
    more = [f"and {len(lost) - NAMED} more"] if len(lost) > NAMED else []
    return ", ".join([*(f"task {task} ({chunk})" for task, chunk in list(lost.items())[:NAMED]), *more])


def _make(path: Path, grid: Grid) -> None:
    """An empty store, which appears whole or not at all."""
    import zarr
    from zarr.codecs import ZstdCodec

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    points, block, columns = grid.measure.points, grid.block, len(grid.columns)
    cells, tasks = grid.cells, grid.tasks
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=3)
        attributes = {"observables": list(grid.columns), "scalars": list(SCALARS), "provenance": provenance()}
        group.attrs.update({"grid": msgspec.json.encode(grid).decode(), "empty_chunks": True, **attributes})
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
                compressors=ZstdCodec(checksum=True),
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
