"""Stores survive what befalls them: other grids and drivers, full disks, and the death of a driver at any moment."""

import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastthermo
from fastthermo import cli, sweep
from fastthermo.sweep import SCALARS, Grid, Result
from fastthermo.sweep.models import Data, Gaussian, TwoDeltas
from fastthermo.sweep.times import Times
from fastthermo.sweep.transition import Transition

Values = Callable[[Path], np.ndarray]
KILLS = 10


def python(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


DRIVER = """
import sys
from fastthermo import sweep
print("ready", flush=True)
sweep.run(sweep.load(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
def test_a_driver_killed_at_ten_random_moments_ends_with_the_same_numbers(
    small_file: Path, tmp_path: Path, values: Values
) -> None:
    text = small_file.read_text().replace("cells_per_task = 8", "cells_per_task = 1").replace("seeds = 8", "seeds = 32")
    small_file.write_text(text)
    grid, out, moments, counts = sweep.load(small_file), tmp_path / "killed.zarr", random.Random(0), [0]
    want = values(sweep.run(grid, tmp_path / "whole.zarr"))

    def done() -> int:  # zarr's own *.partial apart
        return sum(chunk.suffix[1:].isdigit() for chunk in out.glob("done/c.*"))

    for _ in range(KILLS):
        child, more = python(DRIVER, small_file, out), counts[-1] + moments.randint(0, 5)
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        while child.poll() is None and done() < more:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.communicate()
        counts.append(done())
    assert counts == sorted(counts)
    assert 5 < counts[-1] < grid.tasks
    assert not out.exists() or sweep.Store(out).done.sum() == counts[-1]
    np.testing.assert_array_equal(values(sweep.run(grid, out)), want)


def test_a_finished_task_is_not_measured_again(small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 2))
    measured = []
    original = sweep.run_task
    monkeypatch.setattr(sweep, "run_task", lambda grid, task, data: measured.append(task) or original(grid, task, data))
    sweep.run(small, out)
    assert measured == [1, 3]


def test_another_grid_or_version_is_refused_by_the_key(
    small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 4))
    before = sweep.Store(out).done.tolist()
    with pytest.raises(ValueError, match=r"seed: .* holds a sweep with seed = 0, not 1"):
        sweep.run(Grid(small.models, small.measure, small.sizes, small.seeds, seed=1), out)
    with pytest.raises(ValueError, match=r"measure: .* holds a sweep with measure = .*'epsilon': \(0.05, 0.5, 8\)"):
        sweep.run(Grid(small.models, Transition(), small.sizes, small.seeds), out)
    with pytest.raises(ValueError, match=r"models: \S* holds a sweep with models = \{[^}]*'gaussian'[^}]*\}, not \{"):
        sweep.run(Grid((small.models[0], Gaussian((3,))), small.measure, small.sizes, small.seeds), out)
    monkeypatch.setattr(fastthermo, "__version__", "9")
    with pytest.raises(ValueError, match=r"version: .*begun by fastthermo 0"):
        sweep.run(small, out)
    assert sweep.Store(out).done.tolist() == before


def test_what_is_no_sweep_is_refused(small: Grid, tmp_path: Path) -> None:
    import zarr

    with pytest.raises(ValueError, match=r"store: .*is not a sweep.s store"):
        sweep.show(tmp_path)
    group = zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=3)
    with pytest.raises(ValueError, match="was not made by a sweep"):
        sweep.run(small, tmp_path / "other.zarr")
    group.attrs["grid"] = '{"models": [], "sedes": 3}'
    with pytest.raises(ValueError, match=r"this version cannot read: .*sedes"):
        sweep.run(small, tmp_path / "other.zarr")


def test_a_second_driver_is_refused_unless_it_has_another_shard(small: Grid, tmp_path: Path) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 4))
    store = sweep.Store(out)
    with store.claimed(None), pytest.raises(ValueError, match="another driver"):
        sweep.run(small, out)
    with store.claimed(None), pytest.raises(ValueError, match="another driver"):
        sweep.run(small, out, shard=(1, 4))
    with store.claimed((1, 4)), pytest.raises(ValueError, match="another driver"):
        sweep.run(small, out)
    with store.claimed((1, 4)), pytest.raises(ValueError, match="another driver"):
        sweep.run(small, out, shard=(1, 4))
    with store.claimed((1, 4)):
        sweep.run(small, out, shard=(2, 4))
    assert store.done.tolist() == [True, False, True, False]


def test_two_drivers_of_one_store_at_once_leave_it_whole(
    small: Grid, small_file: Path, tmp_path: Path, values: Values
) -> None:
    out = tmp_path / "both.zarr"
    drivers = [python(DRIVER, small_file, out) for _ in range(2)]
    errors = [driver.communicate(timeout=250)[1] for driver in drivers]
    codes = sorted(driver.returncode for driver in drivers)
    assert codes in ([0, 0], [0, 1])  # one after the other, or the second refused
    assert codes == [0, 0] or any("another driver is at work" in error for error in errors)
    np.testing.assert_array_equal(values(out), values(sweep.run(small, tmp_path / "whole.zarr")))


def test_merged_shards_are_the_whole(small: Grid, tmp_path: Path, values: Values) -> None:
    want = values(sweep.run(small, tmp_path / "whole.zarr"))
    parts = [sweep.run(small, tmp_path / f"part{i}.zarr", shard=(i, 3)) for i in range(3)]
    np.testing.assert_array_equal(values(sweep.merge(tmp_path / "merged.zarr", parts)), want)
    other = sweep.run(Grid(small.models, small.measure, (500,), 2), tmp_path / "other.zarr")
    with pytest.raises(ValueError, match=r"sizes: .*other\.zarr holds a sweep"):
        sweep.merge(tmp_path / "none.zarr", [*parts, other])
    assert not (tmp_path / "none.zarr").exists()


FULL = """
import pathlib, subprocess, sys
from fastthermo import cli, sweep
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", sys.argv[2]], check=True)
out = sys.argv[2] + "/x.zarr"
codes = [cli.main(["sweep", sys.argv[1], "--out", out])]
full = sweep.Store(pathlib.Path(out)).done.tolist()
subprocess.run(["mount", "-o", "remount,size=64m", sys.argv[2]], check=True)
codes.append(cli.main(["sweep", sys.argv[1], "--out", out]))
subprocess.run(["cp", "-r", out, sys.argv[3]], check=True)
print(codes, sum(full), len(full))
"""


def namespaces() -> bool:
    """Whether a file system of a given size can be mounted here."""
    if not shutil.which("unshare"):
        return False
    mount = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


@pytest.mark.skipif(not namespaces(), reason="no mount namespaces: a full disk cannot be made")
def test_a_full_disk_loses_nothing_written_before(small_file: Path, tmp_path: Path, values: Values) -> None:
    small_file.write_text(small_file.read_text().replace("cells_per_task = 8", "cells_per_task = 1"))
    want = values(sweep.run(sweep.load(small_file), tmp_path / "whole.zarr"))
    (tmp_path / "disk").mkdir()
    command = ["unshare", "--mount", "--map-root-user", sys.executable, "-c", FULL, small_file, tmp_path / "disk"]
    ended = subprocess.run([*map(str, command), str(tmp_path / "x.zarr")], capture_output=True, text=True, timeout=250)
    found = re.search(r"\[2, 0\] (\d+) (\d+)", ended.stdout)
    assert found, ended.stdout + ended.stderr
    assert 0 < int(found[1]) < int(found[2])
    assert "no space left; what was finished is kept" in ended.stderr
    np.testing.assert_array_equal(values(tmp_path / "x.zarr"), want)


def test_a_store_of_a_million_cells_has_a_few_thousand_files_and_is_written_in_little_memory(tmp_path: Path) -> None:
    measure = Transition((1e-2, 0.4, 4))
    grid = Grid((TwoDeltas(),), measure, (100,), 10**6, observables=("order_parameter",))
    store = sweep.Store.open(tmp_path / "x.zarr", grid)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = np.random.default_rng(0)
    for task in range(grid.tasks):
        values, scalars = rng.random((grid.block, 1, 4)), rng.random((grid.block, len(SCALARS)))
        store.write(Result(task, values, scalars, fastthermo.__version__))
    files = [path for path in (tmp_path / "x.zarr").rglob("*") if path.is_file()]
    assert grid.cells == 10**6
    assert store.done.all()
    assert len(files) < 3100
    assert sum(1 for path in (tmp_path / "x.zarr").rglob("*") if path.is_dir()) < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_the_store_is_labelled_and_says_where_it_comes_from(small: Grid, tmp_path: Path) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", shard=(0, 2))
    data = sweep.dataset(out)
    assert dict(data["order_parameter"].sizes) == {"case": 2, "size": 2, "seed": 8, "point": 8}
    assert data["measured"].to_numpy().sum() == 16
    assert np.isnan(data["critical_temperature"].sel(case="gaussian(d=2, v=1.0)")).all()
    assert (data["seconds"].to_numpy()[data["measured"].to_numpy()] > 0).all()
    provenance = sweep.Store(out).group.attrs["provenance"]
    assert provenance["versions"].keys() >= {"fastthermo", "numpy", "torch", "python"}
    assert provenance["machine"].keys() >= {"cpu", "cores", "architecture"}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if head.returncode == 0:
        assert provenance["commit"] == head.stdout.strip()


def test_xarray_reads_a_store_without_this_package(small: Grid, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    out = sweep.run(small, tmp_path / "x.zarr")
    data = xarray.open_zarr(out, consolidated=False, chunks=None)
    assert data["values"].dims == ("cell", "observable", "point")
    assert data["scalars"].dims == ("cell", "scalar")
    np.testing.assert_array_equal(data["epsilon"], small.measure.points)
    assert data.attrs["observables"] == list(small.columns)
    assert bool(data["done"].all())


def test_the_bar_tells_the_worst_error_bound(small: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sweep.run(small, tmp_path / "x.zarr", progress=True)
    line = capsys.readouterr().err
    shown = re.findall(r"worst error bound (\S+?)[\],]", line)
    bounds = sweep.dataset(out)["error_bound"].to_numpy()
    assert shown[-1] == f"{np.nanmax(bounds):.1e}"
    assert "4/4" in line
    sweep.run(Grid((TwoDeltas(),)), tmp_path / "y.zarr", progress=True)
    assert "closed forms" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "match"), [("3/3", "0 <= i < n"), ("1", "i/n"), ("a/b", "i/n")])
def test_a_bad_shard_is_refused(text: str, match: str, small: Grid, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"shard: .*{match}"):
        sweep.run(small, tmp_path / "x.zarr", shard=sweep.read_shard(text))


def test_the_command_line_sweeps_shows_plots_exports_reports_and_merges(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    file, out = str(small_file), tmp_path / "small.zarr"
    assert cli.main(["sweep", file, "--shard", "0/2"]) == 0
    assert cli.main(["sweep", file, "--threads", "1"]) == 0
    assert cli.main(["show", str(out)]) == 0
    text = capsys.readouterr().out
    assert "4 of 4 tasks, 32 cells" in text
    assert "two_deltas(mu=1.0, p=0.5)" in text
    assert "no continuous transition" in text
    assert cli.main(["plot", str(out), str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").stat().st_size > 5000
    for name, read in (("table.csv", pd.read_csv), ("table.parquet", pd.read_parquet)):
        assert cli.main(["export", str(out), str(tmp_path / name)]) == 0
        table = read(tmp_path / name)
        assert table["size"].tolist() == [500, 2000] * 2
        pd.testing.assert_frame_equal(table[["order_parameter"]], pd.DataFrame(sweep.table(out))[["order_parameter"]])
    assert cli.main(["report", str(out), str(tmp_path / "report.html")]) == 0
    assert cli.main(["merge", str(tmp_path / "merged.zarr"), str(out)]) == 0
    capsys.readouterr()
    assert cli.main(["export", str(out), str(tmp_path / "table.xlsx")]) == 2
    assert cli.main(["show", str(tmp_path)]) == 2
    assert cli.main(["sweep", file, "--executor", "dask"]) == 2
    assert "address: wanted" in capsys.readouterr().err


def test_other_data_under_the_same_name_are_refused(tmp_path: Path, values: Values) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "mine.npy"
    first, second = rng.normal(size=(2, 40, 3))
    grid = Grid((Data((str(file),)),), Times(queries=8), (20,), 4, cells_per_task=1)
    np.save(file, first)
    out = sweep.run(grid, tmp_path / "x.zarr", shard=(0, 2))
    np.save(file, second)
    with pytest.raises(ValueError, match=r"name: .*x\.zarr holds a sweep of other data than .*mine\.npy holds now"):
        sweep.run(grid, out)
    other = sweep.run(grid, tmp_path / "other.zarr", shard=(1, 2))
    with pytest.raises(ValueError, match=r"name: .*other\.zarr holds a sweep of other data than"):
        sweep.merge(tmp_path / "merged.zarr", [out, other])
    assert not (tmp_path / "merged.zarr").exists()
    worker = sweep.run_task(grid, 1, {str(file): "of others"})
    assert "mine.npy holds other data than" in worker.failed[0]
    np.save(file, first)
    whole = values(sweep.run(grid, tmp_path / "whole.zarr"))
    np.testing.assert_array_equal(values(sweep.run(grid, out)), whole)
