"""Numbers that a disk has lost are missed: measured again by the next run, and told by name by whatever reads them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastthermo import cli, sweep
from fastthermo.sweep import Grid, store
from fastthermo.sweep.models import Gaussian

Values = Callable[[Path], np.ndarray]


@pytest.fixture
def uneven(small: Grid) -> Grid:
    """With a last task of fewer cells than the others."""
    return Grid(small.models, small.measure, small.sizes, small.seeds, cells_per_task=5)


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(b"" if how == "empty" else content)


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "changed"])
@pytest.mark.parametrize("chunk", ["values/c.1.0.0", "values/c.6.0.0", "scalars/c.0.0"])
def test_a_chunk_that_is_lost_is_told_by_name_and_measured_again_to_the_same_bits(
    chunk: str, how: str, uneven: Grid, tmp_path: Path, values: Values, capsys: pytest.CaptureFixture[str]
) -> None:
    out = sweep.run(uneven, tmp_path / "x.zarr")
    want = values(out)
    damage(out / chunk, how)
    task = chunk.split(".")[1]
    lost = f"task {task} ({chunk}) cannot be read"
    for command in (["show"], ["export", "x.csv"], ["plot", "x.png"], ["report", "x.html"]):
        assert cli.main([command[0], str(out), *(str(tmp_path / name) for name in command[1:])]) == 2
        error = capsys.readouterr().err
        assert f"{lost}; run the sweep again to measure anew" in error
        assert error.count("\n") == 1
    with pytest.raises(ValueError, match=f"task {task} .*cannot be read"):
        sweep.dataset(out)
    sweep.run(uneven, out)
    assert f"{lost}; measured again" in capsys.readouterr().err
    np.testing.assert_array_equal(values(out), want)
    sweep.run(uneven, out)
    assert "cannot be read" not in capsys.readouterr().err


def test_a_task_of_which_it_is_not_known_whether_it_is_done_is_measured_again(
    small: Grid, tmp_path: Path, values: Values, capsys: pytest.CaptureFixture[str]
) -> None:
    out = sweep.run(small, tmp_path / "x.zarr")
    want = values(out)
    damage(out / "done" / "c.3", "empty")
    assert cli.main(["show", str(out)]) == 2
    assert "task 3 (done/c.3) cannot be read" in capsys.readouterr().err
    assert sweep.Store(out).done.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(values(sweep.run(small, out)), want)


def test_damage_is_found_among_runs_that_are_read_together(
    small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(small.models, small.measure, small.sizes, small.seeds, cells_per_task=1)
    out = sweep.run(grid, tmp_path / "x.zarr")
    for task in (0, 7, 8, 31):
        damage(out / "values" / f"c.{task}.0.0", "empty")
    (out / "scalars" / "c.20.0").unlink()
    for limit in (store.TOGETHER, 100):
        monkeypatch.setattr(store, "TOGETHER", limit)
        assert list(sweep.Store(out).lost()) == [0, 7, 8, 20, 31]
    assert "31 (values/c.31.0.0)" in store.named(sweep.Store(out).lost())
    assert store.named(dict.fromkeys(range(11), "c")).endswith("task 7 (c), and 3 more")


def test_chunks_without_a_number_are_missed_too(tmp_path: Path) -> None:
    grid = Grid((Gaussian((1, 2)),), cells_per_task=1)
    out = sweep.run(grid, tmp_path / "x.zarr")
    assert "no gain passes 1" in sweep.show(out)
    for task in range(2):
        (out / "values" / f"c.{task}.0.0").unlink()
    assert list(sweep.Store(out).lost()) == [0, 1]


@pytest.mark.parametrize("file", [f"{name}zarr.json" for name in ("", "values/", "scalars/", "failed/", "done/")])
def test_a_store_without_its_description_is_refused_naming_the_file(file: str, small: Grid, tmp_path: Path) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 4))
    damage(out / file, "truncated")
    for command in ("show", "sweep"):
        with pytest.raises(ValueError, match=rf"store: .*x\.zarr/{file} is missing or damaged"):
            sweep.show(out) if command == "show" else sweep.run(small, out)
    if "/" in file:
        shutil.rmtree((out / file).parent)
        with pytest.raises(ValueError, match=rf"store: .*x\.zarr/{file} is missing or damaged"):
            sweep.show(out)


def test_a_merge_takes_what_one_part_has_lost_from_another(
    small: Grid, tmp_path: Path, values: Values, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sweep.run(small, tmp_path / "whole.zarr")
    parts = [shutil.copytree(whole, tmp_path / f"part{i}.zarr") for i in range(2)]
    damage(parts[0] / "values" / "c.0.0.0", "missing")
    damage(parts[0] / "values" / "c.1.0.0", "truncated")
    damage(parts[1] / "scalars" / "c.3.0", "empty")
    merged = sweep.merge(tmp_path / "merged.zarr", parts)
    np.testing.assert_array_equal(values(merged), values(whole))
    error = capsys.readouterr().err
    assert "part0.zarr: task 0 (values/c.0.0.0), task 1 (values/c.1.0.0) cannot be read; left out" in error
    damage(merged / "values" / "c.2.0.0", "changed")
    np.testing.assert_array_equal(values(sweep.merge(merged, parts)), values(whole))
