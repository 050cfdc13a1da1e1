"""The folder of a result: one process works in it, and an end at any moment loses nothing."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fastthermo._results import Settings, claimed, finish, open_arrays

SETTINGS = Settings("three", "of three", 3, 2, False, "vp()", 1, 2, 0, "0")


def make(out: Path, seed: int, work: Callable[[], object] = int, save: Callable[..., None] = Path.touch) -> None:
    """A result whose number is its seed; `save` is given the name of each figure."""
    settings = replace(SETTINGS, seed=seed)
    with claimed(out, settings, True, "kind") as folder:
        arrays = open_arrays(folder, "kind", settings, lambda: (xr.Dataset({"x": ("time", [np.nan])}), {}))
        if np.isnan(arrays["x"][0]):
            work()
            arrays["x"][0] = seed
        figure = SimpleNamespace(set_layout_engine=lambda name: None)
        finish(folder, out, "kind", {"seed": seed}, lambda arrays: figure, lambda figure, path: save(path))


def number(folder: Path) -> float:
    """Of a whole result, or NaN."""
    if not (folder / "summary.json").is_file():
        return np.nan
    with xr.open_zarr(folder / "kind.zarr", consolidated=False, chunks=None) as arrays:
        return float(arrays["x"][0])


@pytest.mark.parametrize("moment", range(5))
def test_an_end_while_a_result_replaces_another_loses_neither(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls, work = tmp_path / "out", [], []
    make(out, 1)

    def ended(call: Any) -> Any:
        def instead(*arguments: Any, **options: Any) -> Any:
            calls.append(call)
            if len(calls) == moment + 1:
                raise KeyboardInterrupt
            return call(*arguments, **options)

        return instead

    def last_figure(path: Path) -> None:
        if path.suffix == ".pdf":  # from here on files are moved
            for where, name in ((Path, "rename"), (Path, "unlink"), (shutil, "rmtree")):
                patch.setattr(where, name, ended(getattr(where, name)))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        make(out, 2, lambda: work.append(2), last_figure)
    folders = [tmp_path / name for name in ("out", ".out.old", ".out.partial")]
    new = number(out) == 2
    assert new or {1, 2} <= {number(folder) for folder in folders}
    make(out, 2, lambda: work.append(2))
    assert work == [2] * (2 if new else 1)
    assert number(out) == 2
    assert list(tmp_path.iterdir()) == [out]
    assert not (out / "settings.json").exists()


def test_a_second_process_is_refused_where_one_is_at_work(tmp_path: Path) -> None:
    with claimed(tmp_path / "out", SETTINGS, False, "kind") as folder:
        with pytest.raises(ValueError, match=r"out: another process is at work on .*out; wait for it"):
            make(tmp_path / "out", 1)
        assert (folder / "settings.json").is_file()
    make(tmp_path / "out", 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_arrays_that_were_half_made_are_made_again(tmp_path: Path) -> None:
    with claimed(tmp_path / "out", SETTINGS, False, "kind") as folder:
        (folder / "kind.partial.zarr" / "x").mkdir(parents=True)
    make(tmp_path / "out", 0)
    assert number(tmp_path / "out") == 0


def test_a_link_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "out", 1)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(ValueError, match="link is not a kind result, it will not be overwritten"):
        make(tmp_path / "link", 2)
    assert number(tmp_path / "out") == 1


def test_results_are_made_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    make(tmp_path / "out", 1)
    assert number(tmp_path / "out") == 1
