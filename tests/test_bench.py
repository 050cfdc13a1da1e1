"""The benchmark suite measures what it says: temperatures, errors, turns, floors, ratios and their report."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"
README = "before\n<!-- bench -->\nreplaced\n<!-- /bench -->\nafter\n"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The modules of bench/, which import each other by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        import cases
        import contest
        import ours
        import peers
        import report
        import run
        import timing
        import truth

        yield SimpleNamespace(
            cases=cases, contest=contest, ours=ours, peers=peers, report=report, run=run, timing=timing, truth=truth
        )


@pytest.fixture(scope="module")
def rates(bench: SimpleNamespace) -> tuple[float, ...]:
    return bench.timing.Rates(1e11, 1e9, 1e10)


def tiny(bench: SimpleNamespace, name: str, temperature: str, states: int = 60) -> SimpleNamespace:
    case = dataclasses.replace(bench.cases.CASES[name], queries=5, states=states)
    return bench.cases.problem(case, bench.cases.load(case), temperature)


@pytest.mark.parametrize("temperature", ["high", "critical", "low", "cold"])
def test_temperatures_are_effective_numbers_of_states(bench: SimpleNamespace, temperature: str) -> None:
    task = tiny(bench, "toy", temperature, 200)
    square = torch.cdist(task.field.double(), task.states.double()) ** 2
    weights = torch.softmax(-task.beta / 2 * square, 1)
    target = bench.cases.TARGETS[temperature](200)
    assert float((1 / (weights**2).sum(1)).median()) == pytest.approx(target, rel=0.02)
    assert task.n_eff == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize(("name", "dimension"), [("phase", 2), ("mnist", 784), ("cifar", 3072)])
def test_data_are_the_same_each_time_and_as_bytes(bench: SimpleNamespace, name: str, dimension: int) -> None:
    case = dataclasses.replace(bench.cases.CASES[name], states=20)
    first, second = bench.cases.load(case), bench.cases.load(case)
    assert first.states.shape == (20, dimension)
    assert first.states.dtype == torch.float32
    assert torch.equal(first.states, second.states)
    if first.as_bytes is not None:
        assert torch.equal(first.as_bytes.double() / 256, first.states.double())


def test_truth_of_two_states_is_a_hyperbolic_tangent(bench: SimpleNamespace) -> None:
    case = dataclasses.replace(bench.cases.CASES["covariance"], queries=2, states=2, dimension=1)
    states, field = torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.3], [-2.0]])
    task = bench.cases.Problem(case, "any", 2.0, 2.0, "a spin", states, None, field, field)
    exact = bench.truth.truth(task)
    mean = torch.tanh(task.beta * field.double())
    torch.testing.assert_close(exact["mean"], mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(exact["covariance"][:, 0], 1 - mean**2, rtol=1e-14, atol=0)
    found = bench.truth.errors(task, exact, {"mean": mean + exact["rms"][:, None] / 8})
    assert found == {"mean": pytest.approx(1 / 8)}


@pytest.mark.parametrize("name", ["toy", "covariance", "step"])
def test_every_contestant_is_right_and_rivals_have_a_ratio(
    bench: SimpleNamespace, rates: SimpleNamespace, name: str
) -> None:
    task = tiny(bench, name, "critical")
    entries = [e for e in (*bench.ours.entries(task), *bench.peers.PEERS[task.case.op]) if not e.compiles]
    rows = bench.run.run_problem(task, entries, rates, rounds=2, seconds=0, progress=False)
    assert bench.run.failures(rows) == []
    assert [row["contestant"] for row in rows] == [entry.name for entry in entries]
    quantity = bench.run.QUANTITY[task.case.op]
    timed = [row for row in rows if "median_ms" in row]
    assert {row["contestant"] for row in rows if row["ours"]} & {row["contestant"] for row in timed}
    for row in timed:
        assert ("ratio" in row) == (quantity in row["provides"])
        assert 0 < row["min_ms"] <= row["median_ms"]
    assert max(row["ratio"] for row in timed if not row["ours"] and "ratio" in row) == 1


def test_a_wrong_result_is_found(bench: SimpleNamespace) -> None:
    row = {"contestant": "liar", "ours": True, "error": 1e-3, "error_log_evidence": math.nan}
    assert len(bench.run.failures([row])) == 2


def test_contestants_take_turns(bench: SimpleNamespace) -> None:
    order = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def seconds(self) -> float:
            order.append(self.name)
            return len(order) / 1000

    times = bench.timing.race({"a": Fake("a"), "b": Fake("b")}, rounds=3, seconds=0, progress=False)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert times["a"] == (pytest.approx(3), pytest.approx(6), 3)


def test_times_of_few_queries_are_scaled_to_all(bench: SimpleNamespace, rates: SimpleNamespace) -> None:
    task = tiny(bench, "toy", "critical")
    rows = [{"contestant": "x", "ours": True, "provides": ("mean",), "queries_timed": 1, "note": ""}]
    (row,) = bench.run.rated(rows, {"x": bench.timing.Times(2.0, 3.0, 3)}, task, rates)
    assert (row["min_ms"], row["median_ms"]) == (10, 15)


def test_the_floor_is_work_over_rates_or_memory(bench: SimpleNamespace) -> None:
    case = bench.cases.CASES["mnist"]
    rates = bench.timing.Rates(1e12, 1e10, 1e11)
    assert rates.floor(case.work) == pytest.approx(1e3 * (4 * 1024 * 60000 * 784 / 1e12 + 1024 * 60000 / 1e10))
    one = bench.cases.CASES["one"]
    assert rates.floor(one.work) == pytest.approx(1e3 * (4 * 60000 * 784 + 8 * 784) / 1e11)


def test_a_run_is_stored_and_reported(bench: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    readme = tmp_path / "README.md"
    readme.write_text(README)
    options = ["--quick", "--case", "toy", "--temperature", "cold", "--rounds", "1"]
    assert bench.run.main([*options, "--out", str(tmp_path / "here.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "here.jsonl").read_text().splitlines()]
    assert {"date", "commit", "dirty", "machine", "versions", "n_eff", "floor_ms"} <= rows[0].keys()
    assert bench.report.main(["--results", str(tmp_path), "--readme", str(readme), "--write"]) == 0
    assert (tmp_path / "ratios.png").stat().st_size > 10_000
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench -->\n")
    assert text.endswith("<!-- /bench -->\nafter\n")
    assert "| toy | 200, 1500, 8 |" in text
    assert "replaced" not in text


def test_the_last_quiet_run_counts(bench: SimpleNamespace, tmp_path: Path) -> None:
    machine = {"cpu": "some cpu", "core": "some-core", "cores": 2, "threads": 2, "flags": ["avx2"]}
    row = {"case": "toy", "temperature": "cold", "contestant": bench.ours.ALL, "machine": machine, "elsewhere": 0}
    later, earlier = row | {"date": "2030-01-02", "ratio": 3.0}, row | {"date": "2030-01-01", "ratio": 2.0}
    disturbed = row | {"date": "2030-01-03", "ratio": 1.0, "elsewhere": 0.5}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, (later, earlier, disturbed))))
    (found,) = bench.report.read(tmp_path).values()
    assert bench.report.headline(found, "toy", "cold")["ratio"] == 3.0


def test_a_readme_without_markers_is_left_alone(bench: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="markers"):
        bench.report.insert("no markers", "table")


def test_an_unknown_case_is_answered_with_the_known_ones(
    bench: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.run.main(["--case", "nope"])
    message = capsys.readouterr().err
    assert all(name in message for name in bench.cases.CASES)


def test_an_unknown_revision_is_an_error(bench: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run.main(["--against", "no-such-revision", "--case", "toy"]) == 2
    assert "no-such-revision" in capsys.readouterr().err
