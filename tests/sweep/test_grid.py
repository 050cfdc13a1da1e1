"""Grids as files: what is refused and why, and how cells become tasks."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastthermo import sweep
from fastthermo.sweep import Grid
from fastthermo.sweep.models import Gaussian, TwoDeltas

ROOT = Path(__file__).parents[2]
PAIR = "[[models]]\nmodel = 'two_deltas'\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sedes = 3\n" + PAIR, "unknown field `sedes`"),
        ("[[models]]\nmodel = 'sphere'\nd = [2]\nradius = [1.0]", r"unknown field `radius`.*models\[0\]"),
        ("[measure]\nkind = 'bath'\nepsilon = [0.1, 0.2, 5]\n" + PAIR, "unknown field `epsilon`.*measure"),
        ("[measure]\nkind = 'magic'\n" + PAIR, "magic"),
        ("[[models]]\nmodel = 'sphere'", "missing required field `d`"),
        ("[[models]]\nmodel = 'spheer'\nd = [2]", "spheer"),
        ("models = []", "models: wanted at least one"),
        ("sizes = [0, 5]\n" + PAIR, "sizes: wanted 0, exact averages, alone"),
        ("sizes = [5, 5]\n" + PAIR, "sizes: wanted each size once"),
        ("seeds = 3\n" + PAIR, "seeds: wanted 1 with sizes"),
        ("seeds = 0\n" + PAIR, "seeds: wanted at least 1"),
        ("precision = 'loose'\n" + PAIR, "loose.*precision"),
        ("backend = 'abacus'\n" + PAIR, "abacus.*backend"),
        ("observables = ['colour']\n" + PAIR, "observables: wanted some of order_parameter.*got colour"),
        ("[measure]\nkind = 'transition'\nepsilon = [0.5, 0.1, 9]\n" + PAIR, "epsilon: wanted 0 < low < high"),
        ("sizes = [9, 16]\n[measure]\nkind = 'bath'\n" + PAIR, "sizes: wanted at least 3 numbers of sites"),
        ("sizes = [4, 16, 64]\n[measure]\nkind = 'bath'\n" + PAIR, "scaled: wanted temperatures above 0"),
        ("[measure]\nkind = 'times'\n" + PAIR, "sizes: wanted samples of at least 2"),
        (
            "sizes = [16, 32, 64]\n[measure]\nkind = 'bath'\nscaled = [-inf, 2.0, 9]\n" + PAIR,
            "scaled: wanted finite low",
        ),
        (
            "sizes = [9]\nseeds = 1000000000000\n" + PAIR,
            "cells: wanted at most .* numbers a task",
        ),
        ("sizes = [9]\nseeds = 9000000\ncells_per_task = 1\n" + PAIR, "cells_per_task: wanted at most 1000000 tasks"),
        ("[measure]\nkind = 'transition'\nepsilon = [0.1, 0.2, 100000000000]\n" + PAIR, "epsilon: wanted .* points"),
        ("sizes = [9]\n[measure]\nkind = 'times'\nprocess = 'slow'\n" + PAIR, "process: wanted one of vp"),
        ("[measure]\nkind = 'averages'\ntimes = []\n" + PAIR, "times: wanted at least one"),
        ("[measure]\nkind = 'averages'\ntimes = [7.0]\n" + PAIR, r"t: wanted times in"),
        ("[[models]\n", "small.toml"),
    ],
)
def test_a_bad_grid_is_refused_naming_the_key(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(text)
    with pytest.raises(ValueError, match=match):
        sweep.load(tmp_path / "small.toml")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[[models]]\nmodel = 'two_deltas'\nmu = []", "wanted values for mu of two_deltas"),
        ("[[models]]\nmodel = 'two_deltas'\np = [0.5, 1.5]", r"models: two_deltas\(mu=1.0, p=1.5\): p: wanted"),
        ("[[models]]\nmodel = 'sphere'\nd = [2, 0]", r"models: sphere\(d=0, r=1.0\): d: wanted .* at least 1"),
        ("[[models]]\nmodel = 'hypercube'\nd = [1]", r"models: hypercube\(d=1\): d: wanted an integer of at least 2"),
        ("[[models]]\nmodel = 'data'\nname = ['nothing']", "got 'nothing', which is neither"),
        ("[[models]]\nmodel = 'data'\nname = ['digits']\nclasses = [[0, 10]]", "wanted classes of digits, got 10"),
        ("[[models]]\nmodel = 'data'\nname = ['digits']\npool = [3]", "pool: wanted a divisor"),
        (
            "sizes = [16, 32, 64]\nobservables = ['second_moment']\n[measure]\nkind = 'bath'\n" + PAIR,
            "observables: wanted order_parameter among them, got second_moment",
        ),
        (
            "observables = ['mmse_error']\n[measure]\nkind = 'averages'\ntimes = [0.5]\n" + PAIR,
            "observables: wanted one that is no error among them, got mmse_error",
        ),
        ("sizes = [9000]\n[[models]]\nmodel = 'data'\nname = ['digits']", "sizes: wanted at most 1797"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_store_is_made(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(text)
    grid = sweep.load(tmp_path / "small.toml")
    with pytest.raises(ValueError, match=match):
        sweep.run(grid, tmp_path / "x.zarr")
    assert not list(tmp_path.glob("*x.zarr*"))


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_the_ready_grids_are_grids(path: Path) -> None:
    grid = sweep.load(path)
    names = [str(case) for case in grid.cases]
    assert len(names) == len(set(names)) == grid.shape[0]


def test_the_universality_grid_has_two_thousand_cells() -> None:
    assert sweep.load(ROOT / "sweeps" / "universality.toml").cells >= 2000


@given(
    mu=st.lists(st.floats(0.5, 2), min_size=1, max_size=4, unique=True),
    d=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    sizes=st.lists(st.integers(2, 50), min_size=1, max_size=4, unique=True),
    seeds=st.integers(1, 12),
    block=st.integers(0, 40),
)
def test_tasks_cover_the_cells_once(mu: list[float], d: list[int], sizes: list[int], seeds: int, block: int) -> None:
    models = (TwoDeltas(tuple(mu)), Gaussian(tuple(d), (1.0, 2.0)))
    grid = Grid(models, sizes=tuple(sizes), seeds=seeds, cells_per_task=block)
    groups = [group for task in range(grid.tasks) for group in grid.groups(task)]
    assert [cell for *_, run in groups for cell in run] == list(range(grid.cells))
    for case, size, run in groups:
        for cell in run:
            index = np.unravel_index(cell, grid.shape)
            assert (case, size) == (index[0], sizes[index[1]])
    assert [dict(case.parameters).get("mu") for case in grid.cases] == [*mu, *[None] * 2 * len(d)]


def test_numbers_depend_on_the_place_in_the_grid_alone(small: Grid) -> None:
    whole = np.concatenate([sweep.run_task(small, task).values for task in range(2)])
    other = Grid(small.models, small.measure, small.sizes, small.seeds, cells_per_task=5)
    np.testing.assert_array_equal(np.concatenate([sweep.run_task(other, task).values for task in range(4)])[:16], whole)
    few = Grid(small.models, small.measure, small.sizes, small.seeds, observables=("isotherm",))
    np.testing.assert_array_equal(sweep.run_task(few, 0).values[:8, 0], whole[:8, small.columns.index("isotherm")])


@pytest.mark.parametrize(
    "grid",
    [
        Grid((TwoDeltas(),), sizes=(100,), seeds=10**6),
        Grid((TwoDeltas(tuple(np.linspace(1, 2, 1000).tolist()), tuple(np.linspace(0.4, 0.6, 1000).tolist())),)),
    ],
    ids=["seeds", "laws"],
)
def test_a_million_cells_are_planned_in_little_memory(grid: Grid) -> None:
    tracemalloc.start()
    assert grid.cells == 10**6
    assert grid.tasks == 1000
    for task in (0, 499, 999):
        assert [cell for *_, run in grid.groups(task) for cell in run] == list(range(1000 * task, 1000 * task + 1000))
    assert re.fullmatch(r"two_deltas\(.*\)", str(grid.case(grid.shape[0] - 1)))
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_task_has_no_more_cells_than_there_are(tmp_path: Path) -> None:
    grid = Grid((TwoDeltas((1.0, 2.0)),), cells_per_task=10**11)
    assert (grid.block, grid.tasks) == (2, 1)
    assert sweep.Store(sweep.run(grid, tmp_path / "x.zarr")).done.all()


def test_classes_are_chosen_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", states=np.eye(5), labels=["cat", "dog", "cat", "dog", "owl"])
    text = f"[[models]]\nmodel = 'data'\nname = ['{tmp_path}/a.npz']\nclasses = "
    (tmp_path / "g.toml").write_text(f"{text}[['cat'], ['cat', 'owl'], []]")
    assert [case.law().size for case in sweep.load(tmp_path / "g.toml").cases] == [2, 3, 5]
    (tmp_path / "g.toml").write_text(f"{text}[['cow']]")
    with pytest.raises(ValueError, match=r"wanted classes of .*a\.npz, got cow"):
        sweep.load(tmp_path / "g.toml").check()
