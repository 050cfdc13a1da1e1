"""The store of a sweep: one Zarr group made up front, a chunk a task, `done` written last.

values    (cell, observable, point)   NaN until measured
scalars   (cell, scalar)              critical_temperature, error_bound, seconds: see `Result`
failed    (cell,)                     why a cell could not be measured, "" for the others
done      (task,)                     its chunk is written when a task's others are; false where a cell failed

A file a chunk in one folder an array, each of which appears whole: a process may end at any moment. Chunks of numbers
are written even where they are all NaN, so that one that is missing was lost.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import fastthermo
from fastthermo._files import locked
from fastthermo.sweep.grid import Grid
from fastthermo.sweep.measure import SCALARS, Result
from fastthermo.sweep.models import fingerprints
from fastthermo.sweep.provenance import provenance

NUMBERS = {"values": ".0.0", "scalars": ".0"}  # arrays of a chunk a task, and how the names of their chunks end
TOGETHER = 2**22  # numbers that are read at once
LOST = 8  # lost tasks that a message names


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
            for name in (*NUMBERS, "failed", "done"):
                file = path / name / "zarr.json"
                _ = self.group[name]
        except msgspec.DecodeError as error:
            raise ValueError(f"store: {path} holds a sweep that this version cannot read: {error}") from error
        except (KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"store: {file} is missing or damaged: {error!r}") from error

    @classmethod
    def open(cls, path: Path, grid: Grid, data: Mapping[str, str] | None = None) -> Store:
        """The store at `path`, made where there is none; refused where it holds another sweep.

        data : fingerprints of the files that the grid names, by default of what they hold now.
        """
        new = not path.exists()
        if data is None:
            if new:
                grid.check()
            data = fingerprints(grid.models)
        if new:
            _make(path, grid, data)
        store = cls(path)
        store.agree(grid, data)
        return store

    @property
    def data(self) -> dict[str, str]:
        """Fingerprints of the files that the grid names."""
        return dict(self.group.attrs["data"])

    def agree(self, grid: Grid, data: Mapping[str, str]) -> None:
        """ValueError where this is the store of another grid, of other data, or of another version."""
        ours, theirs = msgspec.to_builtins(grid), msgspec.to_builtins(self.grid)
        version = self.group.attrs["provenance"]["versions"]["fastthermo"]
        for key in ours:
            mine, held = ours[key], theirs[key]
            if key == "models":  # of the families, the first that differs
                pairs = zip_longest(mine, held, fillvalue="none")
                mine, held = next(((one, other) for one, other in pairs if one != other), ("", ""))
            if mine != held:
                raise ValueError(
                    f"{key}: {self.path} holds a sweep with {key} = {held}, not {mine}; choose another store"
                )
        for name, fingerprint in self.data.items():
            if data.get(name, fingerprint) != fingerprint:
                raise ValueError(
                    f"name: {self.path} holds a sweep of other data than {name} holds now; bring those back, or choose "
                    "another store"
                )
        if version != fastthermo.__version__:
            raise ValueError(
                f"version: {self.path} was begun by fastthermo {version}, this is {fastthermo.__version__}"
            )

    @property
    def done(self) -> np.ndarray:
        """Which tasks are, (tasks,) bool; not those whose chunk of `done` is damaged."""
        return self._each("done")[0]

    @property
    def failed(self) -> np.ndarray:
        """Why cells could not be measured, (cells,) of str, "" for the others."""
        return self._each("failed")[0]

    @property
    def measured(self) -> np.ndarray:
        """Which cells are, (cells,) bool: those of tasks that are done, and the rest of those in which some failed."""
        failed = self.failed != ""
        return np.repeat(self._tried(failed), self.grid.block)[: self.grid.cells] & ~failed

    @property
    def tried(self) -> np.ndarray:
        """Tasks that have numbers, increasing: those that are done, and those in which cells failed."""
        return np.flatnonzero(self._tried(self.failed != ""))

    def _tried(self, failed: np.ndarray) -> np.ndarray:
        """Which tasks have numbers, (tasks,) bool, where these cells, (cells,) bool, have failed."""
        return self.done | np.logical_or.reduceat(failed, np.arange(0, self.grid.cells, self.grid.block))

    def lost(self) -> dict[int, str]:
        """Tasks whose chunks are damaged, or missing though they were measured, each with the name of such a chunk.

        Reads the whole store: two milliseconds a task, where that took about a second to measure.
        """
        failed, damaged = self._each("failed")
        lost = {task: f"failed/c.{task}" for task in damaged}
        lost |= {task: f"done/c.{task}" for task in self._each("done")[1]}
        tried = np.flatnonzero(self._tried(failed != ""))
        for name, end in NUMBERS.items():
            gone = np.setdiff1d(tried, self._chunks(name))
            damaged = [some[0] for some, found in self._read(name, tried) if found is None]
            lost |= {int(task): f"{name}/c.{task}{end}" for task in (*gone, *damaged)}
        return dict(sorted(lost.items()))

    def check(self) -> None:
        """ValueError where chunks are `lost`."""
        lost = self.lost()
        if lost:
            raise ValueError(f"store: {self.path}: {named(lost)} cannot be read; run the sweep again to measure anew")

    def _each(self, name: str) -> tuple[np.ndarray, list[int]]:
        """`failed` or `done`, its fill value where a chunk is damaged, and the tasks whose chunk is."""
        text = name == "failed"
        every = np.full(self.grid.cells, "", object) if text else np.zeros(self.grid.tasks, bool)
        damaged, block = [], self.grid.block if text else 1
        for some, found in self._read(name, self._chunks(name)):
            if found is None:
                damaged.append(int(some[0]))
            else:
                every[some[0] * block :][: len(found)] = found
        return every, damaged

    def _chunks(self, name: str) -> np.ndarray:
        """Tasks that have a chunk of an array, increasing."""
        found = (re.fullmatch(r"c\.(\d+)(\.0)*", file) for file in os.listdir(self.path / name))
        return np.array(sorted(int(match[1]) for match in found if match), int)

    def _read(self, name: str, tasks: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Runs of some tasks, in order, and an array from first to last; None for a task whose chunk is damaged.

        Runs that fail are halved until the tasks that do are alone.
        """
        if not len(tasks):
            return
        array, runs = self.group[name], [tasks]
        block, width = array.chunks[0], math.prod(array.shape[1:])
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
        cells, failed = slice(first, first + len(result.values)), any(result.failed)
        if failed:  # it may have been done, and its numbers or this very chunk lost
            self.group["done"][result.task] = False
        for name, numbers in zip(NUMBERS, (result.values, result.scalars), strict=True):
            self.group[name].with_config({"write_empty_chunks": True})[cells] = numbers
        self.group["failed"][cells] = list(result.failed) or ""
        if not failed:
            self.group["done"][result.task] = True

    def read(self, task: int) -> Result:
        """The numbers of a task that was measured."""
        cells = slice(task * self.grid.block, (task + 1) * self.grid.block)
        values, scalars = self.group["values"][cells], self.group["scalars"][cells]
        failed = () if self.group["done"][task] else tuple(self.group["failed"][cells])
        return Result(task, values, scalars, self.group.attrs["provenance"]["versions"]["fastthermo"], failed)

    @contextmanager
    def claimed(self, shard: tuple[int, int] | None) -> Iterator[None]:
        """Held by one driver, or by one for each shard."""
        busy = f"store: another driver is at work on {self.path}; wait, or use --shard"
        with locked(self.path / "zarr.json", busy, shared=shard is not None, keep=True):
            if shard is None:
                yield
                return
            name = f".{self.path.name}.shard-{shard[0]}-{shard[1]}.lock"  # beside the group, whose members zarr knows
            with locked(self.path.with_name(name), busy):
                yield


def named(lost: Mapping[int, str]) -> str:
    """Lost tasks and their chunks, for a message."""
    more = [f"and {len(lost) - LOST} more"] if len(lost) > LOST else []
    return ", ".join([*(f"task {task} ({chunk})" for task, chunk in list(lost.items())[:LOST]), *more])


def _make(path: Path, grid: Grid, data: Mapping[str, str]) -> None:
    """An empty store, which appears whole or not at all."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=3)
        attributes: dict[str, Any] = {
            "observables": list(grid.columns),
            "scalars": list(SCALARS),
            "provenance": provenance(),
            "data": dict(data),
        }
        group.attrs.update({"grid": msgspec.json.encode(grid).decode(), **attributes})
        for name in (*NUMBERS, "failed", "done"):
            _add(group, grid, name)
        group.create_array(grid.measure.coordinate, data=grid.measure.points, dimension_names=("point",))
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():  # else another driver made it first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _add(group: Any, grid: Grid, name: str) -> None:
    """An empty array of a store."""
    from zarr.codecs import ZstdCodec

    shape, chunk, dims, dtype, fill = {
        "values": (
            (len(grid.columns), len(grid.measure.points)),
            grid.block,
            ("observable", "point"),
            "float64",
            np.nan,
        ),
        "scalars": ((len(SCALARS),), grid.block, ("scalar",), "float64", np.nan),
        "failed": ((), grid.block, (), "str", ""),
        "done": ((), 1, (), "bool", False),
    }[name]
    group.create_array(
        name,
        shape=(grid.tasks if name == "done" else grid.cells, *shape),
        chunks=(chunk, *shape),
        dtype=dtype,
        fill_value=fill,
        dimension_names=("task" if name == "done" else "cell", *dims),
        chunk_key_encoding={"name": "default", "separator": "."},
        compressors=ZstdCodec(checksum=True),
    )
