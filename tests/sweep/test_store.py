"""Sweeps: grids as files, stores that survive crashes, the same numbers by every way."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastthermo import cli, sweep
from fastthermo.sweep.grid import Gaussian, Grid, TwoDeltas

ROOT = Path(__file__).parents[1]
SMALL = """
draws = [500, 2000]
seeds = 8
cells_per_task = 8
epsilon = [0.05, 0.5, 8]
[[models]]
model = "two_deltas"
[[models]]
model = "gaussian"
d = [2]
"""


@pytest.fixture
def small(tmp_path: Path) -> Grid:
    (tmp_path / "small.toml").write_text(SMALL)
    return sweep.load(tmp_path / "small.toml")


def values(path: Path) -> np.ndarray:
    store = sweep.Store(path)
    assert store.done.all()
    return np.asarray(store.group["values"][:])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sedes = 3\n[[models]]\nmodel = 'two_deltas'", "unknown field `sedes`"),
        ("[[models]]\nmodel = 'sphere'\nd = [2]\nradius = [1.0]", r"unknown field `radius`.*models\[0\]"),
        ("[[models]]\nmodel = 'sphere'", "missing required field `d`"),
        ("[[models]]\nmodel = 'spheer'\nd = [2]", "spheer"),
        ("models = []", "models: wanted at least one"),
        ("draws = [0, 5]\n[[models]]\nmodel = 'two_deltas'", "draws: wanted 0, exact averages, alone"),
        ("seeds = 3\n[[models]]\nmodel = 'two_deltas'", "seeds: wanted 1 with draws"),
        ("epsilon = [0.5, 0.1, 9]\n[[models]]\nmodel = 'two_deltas'", "epsilon: wanted 0 < low < high"),
        ("[[models]]\nmodel = 'two_deltas'\nmu = []", "wanted values for mu of two_deltas"),
        ("[[models]\n", "small.toml"),
    ],
)
def test_a_bad_grid_is_refused_naming_the_key(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(text)
    with pytest.raises(ValueError, match=match):
        sweep.load(tmp_path / "small.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_the_ready_grids_are_grids(path: Path) -> None:
    grid = sweep.load(path)
    assert len(grid.cases) == grid.shape[0]
    assert len({str(case) for case in grid.cases}) == grid.shape[0]


def test_tasks_cover_the_cells_once(small: Grid) -> None:
    cells = [cell for task in range(small.tasks) for *_, run in small.groups(task) for cell in run]
    assert cells == list(range(small.cells)) == list(range(32))
    for task in range(small.tasks):
        for case, draws, run in small.groups(task):
            for cell in run:
                index = np.unravel_index(cell, small.shape)
                assert (case, draws) == (index[0], small.draws[index[1]])


def test_a_million_cells_are_planned_in_little_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    grid = Grid((TwoDeltas(),), draws=(100,), seeds=10**6)
    assert grid.tasks <= 1000
    assert sum(len(cells) for task in range(grid.tasks) for *_, cells in grid.groups(task)) == 10**6
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_exponents_of_an_exact_sweep(tmp_path: Path) -> None:
    out = sweep.run(Grid((TwoDeltas(), Gaussian((2,)))), tmp_path / "x.zarr")
    found = sweep.fitted(out)
    assert list(found) == [("two_deltas(mu=1.0, p=0.5)", 0), ("gaussian(d=2, v=1.0)", 0)]
    pair, none = found.values()
    for exponent in pair.values():
        assert exponent.value == pytest.approx(exponent.mean_field, abs=1e-7)
    assert (none.kind, len(none)) == ("none", 0)
    assert "no gain passes 1" in none.reason
    assert "no continuous transition: no gain passes 1" in sweep.show(out)


def test_every_way_gives_the_same_numbers(small: Grid, tmp_path: Path) -> None:
    want = values(sweep.run(small, tmp_path / "here.zarr"))
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(values(sweep.run(small, tmp_path / "pool.zarr", pool)), want)
    for i in range(3):
        sweep.run(small, tmp_path / "shards.zarr", shard=(i, 3))
        sweep.run(small, tmp_path / f"part{i}.zarr", shard=(i, 3))
    np.testing.assert_array_equal(values(tmp_path / "shards.zarr"), want)
    merged = sweep.merge(tmp_path / "merged.zarr", [tmp_path / f"part{i}.zarr" for i in range(3)])
    np.testing.assert_array_equal(values(merged), want)
    assert np.isfinite(want[8:16]).all(2).any(1).all()
    assert np.isnan(want[16:]).all()


@pytest.mark.slow
def test_processes_give_the_same_numbers(small: Grid, tmp_path: Path) -> None:
    pytest.importorskip("loky")
    from fastthermo.sweep.executors import executor

    want = values(sweep.run(small, tmp_path / "here.zarr"))
    with executor("loky", 2) as pool:
        np.testing.assert_array_equal(values(sweep.run(small, tmp_path / "loky.zarr", pool)), want)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_numbers(small: Grid, tmp_path: Path) -> None:
    want = values(sweep.run(small, tmp_path / "whole.zarr"))
    out = tmp_path / "killed.zarr"
    code = f"from fastthermo import sweep; sweep.run(sweep.load({str(tmp_path / 'small.toml')!r}), {str(out)!r})"
    killed = 0
    for wait in (0.0, 0.05, 0.15, 0.3):
        child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not out.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    assert killed
    np.testing.assert_array_equal(values(sweep.run(small, out)), want)


def test_a_finished_task_is_not_measured_again(small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 2))
    measured = []
    original = sweep.run_task
    monkeypatch.setattr(sweep, "run_task", lambda grid, task: measured.append(task) or original(grid, task))
    sweep.run(small, out)
    assert measured == [1, 3]


def test_another_grid_version_or_driver_is_refused_by_name(
    small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fastthermo

    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 4))
    with pytest.raises(ValueError, match=r"seed: .* holds a sweep with seed = 0, not 1"):
        sweep.run(Grid(small.models, small.draws, small.seeds, small.epsilon, 1), out)
    store = sweep.Store(out)
    with store.claimed(None), pytest.raises(ValueError, match="another driver"):
        sweep.run(small, out)
    with store.claimed((1, 4)), pytest.raises(ValueError, match="another driver"):
        sweep.run(small, out, shard=(1, 4))
    with store.claimed((1, 4)):
        sweep.run(small, out, shard=(2, 4))
    with pytest.raises(ValueError, match="executor: a worker has fastthermo 9"):
        store.write(sweep.run_task(small, 1)._replace(version="9"))
    monkeypatch.setattr(fastthermo, "__version__", "9")
    with pytest.raises(ValueError, match=r"version: .*begun by fastthermo 0"):
        sweep.run(small, out)


def test_a_full_disk_loses_nothing_written_before(small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = values(sweep.run(small, tmp_path / "whole.zarr"))
    written = sweep.Store.write

    def full(self: sweep.Store, result: sweep.Result) -> None:
        if result.task == 2:
            self.group["values"][2 * self.grid.block] = 7.0
            raise OSError(28, "No space left on device")
        written(self, result)

    monkeypatch.setattr(sweep.Store, "write", full)
    with pytest.raises(OSError, match="No space"):
        sweep.run(small, tmp_path / "full.zarr")
    monkeypatch.undo()
    assert sweep.Store(tmp_path / "full.zarr").done.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(values(sweep.run(small, tmp_path / "full.zarr")), want)


def test_the_store_is_labelled_and_says_where_it_comes_from(small: Grid, tmp_path: Path) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 2))
    data = sweep.dataset(out)
    assert dict(data["order_parameter"].sizes) == {"case": 2, "draws": 2, "seed": 8, "point": 8}
    assert data["measured"].to_numpy().sum() == 16
    assert np.isnan(data["critical_temperature"].sel(case="gaussian(d=2, v=1.0)")).all()
    attributes = sweep.Store(out).group.attrs
    assert attributes["provenance"]["versions"].keys() >= {"fastthermo", "numpy", "torch", "python"}
    assert len(list(out.rglob("*"))) < 40


@pytest.mark.parametrize(("text", "match"), [("3/3", "0 <= i < n"), ("1", "i/n"), ("a/b", "i/n")])
def test_a_bad_shard_is_refused(text: str, match: str, small: Grid, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"shard: .*{match}"):
        sweep.run(small, tmp_path / "x.zarr", shard=sweep.read_shard(text))


def test_the_command_line_sweeps_shows_plots_exports_and_merges(
    small: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(tmp_path / "small.toml"), tmp_path / "small.zarr"
    assert cli.main(["sweep", file, "--shard", "0/2"]) == 0
    assert cli.main(["sweep", file]) == 0
    assert cli.main(["show", str(out)]) == 0
    text = capsys.readouterr().out
    assert "4 of 4 tasks, 32 cells" in text
    assert "two_deltas(mu=1.0, p=0.5)" in text
    assert "no continuous transition" in text
    assert cli.main(["plot", str(out), str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert cli.main(["export", str(out), str(tmp_path / "table.csv")]) == 0
    assert (tmp_path / "table.csv").read_text().startswith("case,draws,kind")
    assert cli.main(["merge", str(tmp_path / "merged.zarr"), str(out)]) == 0
    capsys.readouterr()
    assert cli.main(["export", str(out), str(tmp_path / "table.xlsx")]) == 2
    assert cli.main(["show", str(tmp_path)]) == 2
    assert cli.main(["sweep", file, "--executor", "dask"]) == 2
    assert "address: wanted" in capsys.readouterr().err
