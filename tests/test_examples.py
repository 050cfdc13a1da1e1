"""The examples run, draw their figure and find what they say."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """run(name): the findings of an example at small sizes, its figure checked."""

    def quick(name: str) -> dict[str, Any]:
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.delitem(sys.modules, "common", raising=False)
        spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found: dict[str, Any] = module.main(tmp_path, True)
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        return found

    return quick


def test_every_example_is_tested() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for path in FOLDER.glob("*.py"):
        assert path.stem == "common" or f'run("{path.stem}")' in source


def test_landscapes_of_a_bimodal_law(run: Any) -> None:
    found = run("landscapes")
    assert found["critical time"] == pytest.approx(0.346573590279973, rel=1e-10)
    s = np.expm1(2 * found["times"])
    np.testing.assert_allclose(found["valleys"], np.tanh(found["valleys"] / s), rtol=1e-9)
    warm, cold = found["landscapes"][0], found["landscapes"][-1]
    middle = len(cold) // 2
    assert warm.argmin() == middle
    assert cold[middle] > cold.min() + 0.1


def test_self_consistency_solver_and_its_critical_point(run: Any) -> None:
    found = run("self_consistency")
    s, order = found["s"], found["order parameter"]
    assert found["s_c"] == pytest.approx(1, rel=1e-10)
    np.testing.assert_allclose(order, np.tanh(order / s), atol=1e-11)
    assert (order[s > 1] < 1e-9).all()
    assert (order[s < 0.99] > 0.1).all()
    assert np.abs(found["fold s"] - 0.670403655972315).min() < 1e-8


def test_late_start_keeps_the_classes_and_a_later_one_loses_them(run: Any) -> None:
    found = run("late_start")
    assert 0.2 < found["critical time"] < 0.5
    assert found["distance"]["noise"][0] > found["distance"]["noise"][-1]
    assert (found["distinct"]["gaussian"] > 50).all()


def test_critical_points_of_mixtures_rings_and_trees(run: Any) -> None:
    found = run("critical_points")
    np.testing.assert_allclose(found["mixture"], 4 - found["v"], rtol=1e-10)
    np.testing.assert_allclose(found["ring"], found["ring theory"], rtol=1e-10)
    want = 2 ** (found["splits"][:, None] > found["s"]).sum(0)
    np.testing.assert_array_equal(found["valleys"], want)


def test_exponents_against_dimension_and_size(run: Any) -> None:
    found = run("scaling")
    for name, values in found["exponents"].items():
        np.testing.assert_allclose(values, found["theory"][name], rtol=0.01)
    assert found["T_c"].value == pytest.approx(1, rel=0.01)
    assert found["1/nu"].value == pytest.approx(0.5, rel=0.1)
    assert found["beta/nu"].value == pytest.approx(0.25, rel=0.05)


def test_condensation_of_digits_comes_later_with_more_of_them(run: Any) -> None:
    found = run("condensation")
    assert (np.diff(found["collapse s"]) < 0).all()
    assert (np.diff(found["condensation s"]) < 0).all()
    assert (np.diff(found["participation"], axis=1) < 0.02).all()


def test_digits_break_their_symmetry_at_folds_and_branches_lead_to_every_valley(run: Any) -> None:
    found = run("symmetry_breaking")
    assert (found["stable branches"] >= found["valleys"]).all()
    assert found["valleys"][0] > 1
    assert np.abs(np.log(found["folds s"] / found["splits s"][0])).min() < 1e-3
