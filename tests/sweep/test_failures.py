"""A measurement that raises an error costs its own cells and no others, on every engine, and is tried again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastthermo import cli, sweep
from fastthermo.sweep import Grid, transition
from fastthermo.sweep.models import TwoDeltas

Values = Callable[[Path], np.ndarray]
POISON = '[[models]]\nmodel = "two_deltas"\nmu = [1.0, 1e160, 2.0, 3.0]\n'


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Gaussians of 2000 data cannot be measured, until this is undone."""
    measured = transition.Transition.measure

    def measure(self: Any, case: Any, size: int, *rest: Any) -> Any:
        if case.model == "gaussian" and size == 2000:
            raise FloatingPointError("no number")
        return measured(self, case, size, *rest)

    monkeypatch.setattr(transition.Transition, "measure", measure)
    return monkeypatch


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("block", [8, 13])
def test_what_fails_is_told_and_tried_again_to_the_numbers_of_a_whole_run(
    block: int, threads: int, small: Grid, tmp_path: Path, values: Values, faulty: pytest.MonkeyPatch
) -> None:
    grid = Grid(small.models, small.measure, small.sizes, small.seeds, cells_per_task=block)
    out = tmp_path / "x.zarr"
    with ThreadPoolExecutor(threads or 1) as pool:
        for _ in range(2):
            with pytest.raises(sweep.FailedError, match=r"\n  gaussian\(d=2, v=1.0\), 2000: FloatingPointError"):
                sweep.run(grid, out, pool if threads else None)
    data = sweep.dataset(out)
    assert data["measured"].to_numpy().sum() == 24
    assert set(data["failed"].to_numpy()[1, 1]) == {"FloatingPointError: no number"}
    kinds = {(case.model, one.size): one.kind for case, one in sweep.found(out)}
    assert kinds["two_deltas", 2000] == "pitchfork"
    assert (kinds["gaussian", 500], kinds["gaussian", 2000]) == ("none", "failed")
    assert "2000 failed: FloatingPointError: no number" in sweep.show(out)
    assert not sweep.Store(out).lost()
    faulty.undo()
    np.testing.assert_array_equal(values(sweep.run(grid, out)), values(sweep.run(grid, tmp_path / "whole.zarr")))
    assert not sweep.dataset(out)["failed"].to_numpy().any()


def test_a_law_that_cannot_be_measured_leaves_the_others_and_the_command_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "poison.toml").write_text(POISON)
    with np.errstate(all="ignore"):
        assert cli.main(["sweep", str(tmp_path / "poison.toml")]) == 1
    error = capsys.readouterr().err
    assert "two_deltas(mu=1e+160, p=0.5), exact: ValueError: t_min, t_max" in error
    assert "Traceback" not in error
    assert cli.main(["show", str(tmp_path / "poison.zarr")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "0 of 1 tasks" in shown[0]
    assert ["failed: ValueError" in line for line in shown[2:]] == [False, True, False, False]
    assert ["0.5000 ±" in line for line in shown[2:]] == [True, False, True, True]


def test_failed_cells_are_merged_unless_another_part_has_their_numbers(
    small: Grid, tmp_path: Path, values: Values, faulty: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "bad.zarr", tmp_path / "good.zarr"
    with pytest.raises(sweep.FailedError):
        sweep.run(small, bad)
    faulty.undo()
    want = values(sweep.run(small, good))
    merged = sweep.merge(tmp_path / "m.zarr", [bad])
    assert "failed: FloatingPointError" in sweep.show(merged)
    np.testing.assert_array_equal(values(sweep.merge(merged, [good, bad])), want)


def test_a_task_that_was_lost_and_fails_is_not_done(
    small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sweep.run(small, tmp_path / "x.zarr")
    (out / "values" / "c.0.0.0").unlink()

    def fail(*_: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(transition.Transition, "measure", fail)
    with pytest.raises(sweep.FailedError, match=r"two_deltas.*, 500: ArithmeticError"):
        sweep.run(small, out)
    assert sweep.Store(out).done.tolist() == [False, True, True, True]
    assert sweep.Store(out).failed[:9].tolist() == ["ArithmeticError: "] * 8 + [""]


def test_of_many_failures_some_are_named_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(transition.Transition, "measure", fail)
    with pytest.raises(sweep.FailedError) as caught:
        sweep.run(Grid((TwoDeltas(tuple(range(1, 31))),)), tmp_path / "x.zarr")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + sweep.FAILURES + 1
    assert "and 10 more: fastthermo show" in lines[-1]


def test_a_task_fails_alone_whose_mark_was_lost(small: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = sweep.run(small, tmp_path / "x.zarr")
    (out / "done" / "c.0").write_bytes(b"")

    def fail(*_: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(transition.Transition, "measure", fail)
    with pytest.raises(sweep.FailedError, match=r"two_deltas.*, 500: ArithmeticError"):
        sweep.run(small, out)
    assert not sweep.Store(out).lost()
    assert sweep.Store(out).done.tolist() == [False, True, True, True]
