"""Time fastthermo and its peers side by side, with the error of each: `python bench/run.py --help`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
import ours
import peers
import torch
from against import Worker, worktree
from cases import ANY, CASES, TARGETS, Case, Problem, Task, TrajectoryProblem, load, problem
from contest import Entry, Run, UnableError
from timing import Rates, Times, measure_rates, race
from tqdm import tqdm
from truth import errors, noise_error, step_error, trajectory_error, truth

QUANTITY = {
    "mean": "mean",
    "covariance": "covariance",
    "response": "response",
    "step": "sample",
    "trajectory": "sample",
}
EXACT = 0.05  # a rival with a larger error has not done the case
OURS, THEIRS = 1e-5, 1e-2  # errors above which the quick form fails
NOISE = 6.0  # standard deviations
Row = dict[str, Any]


def run_problem(
    task: Task, entries: list[Entry], rates: Rates, rounds: int, seconds: float, progress: bool = True
) -> list[Row]:
    """A row for every entry: times, error, ratio to the fastest rival (above 1: faster than it), share of the floor."""
    rows, runs = [], {}
    exact = truth(task) if isinstance(task, Problem) else {}
    hidden = None if progress else True  # None: where nobody watches
    for entry in tqdm(entries, desc=f"{task.case.name}, {task.temperature}", leave=False, disable=hidden):
        row: Row = {"contestant": entry.name, "ours": entry.ours, "provides": entry.provides, "note": ""}
        try:
            run = entry.prepare(task)
            row |= accuracy(task, entry, run, exact) | {"note": run.note, "queries_timed": run.queries}
            runs[entry.name] = run
        except UnableError as reason:
            row["note"] = str(reason)
        except Exception as error:
            if entry.ours:
                raise
            row["note"] = _failure(error)
        rows.append(row)

    def lost(name: str, error: Exception) -> None:
        row = next(row for row in rows if row["contestant"] == name)
        if row["ours"]:
            raise error
        row["note"] = _failure(error)

    times = race(runs, rounds, seconds, progress, lost)
    return rated(rows, times, task, rates)


def _failure(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"failed: {type(error).__name__}: {lines[0][:80]}"


def accuracy(task: Task, entry: Entry, run: Run, exact: dict[str, torch.Tensor]) -> Row:
    """Errors of a run's results: of the case's quantity, and of log Z."""
    if isinstance(task, TrajectoryProblem):
        alone = [task.at(k) for k in (0, len(task.table) // 2, len(task.table) - 1)]
        found = (trajectory_error(part, entry.prepare(part).output()["sample"]) for part in alone)
        return {"error": max(found)}
    output = run.output()
    if isinstance(task, Problem):
        found = errors(task, exact, output)
        log_evidence = found.pop("log_evidence", None)
        return {"error": next(iter(found.values()), None), "error_log_evidence": log_evidence}
    if not output:
        return {}
    alone = entry.prepare(dataclasses.replace(task, coefficients=(0.0, 0.0, 1.0))).output()["sample"]
    return {"error": step_error(task, output["sample"], alone), "error_noise": noise_error(alone)}


def rated(rows: list[Row], times: dict[str, Times], task: Task, rates: Rates) -> list[Row]:
    """Rows with milliseconds, ratios of medians, and shares of the floor."""
    floor = rates.floor(task.case.work)
    for row in rows:
        if row["contestant"] not in times:
            continue
        scale = task.case.queries / row["queries_timed"]
        least, middle, rounds = times[row["contestant"]]
        row |= {"min_ms": scale * least, "median_ms": scale * middle, "rounds": rounds}
        row["floor_ms"] = floor if competes(row, task.case) else None
    racing = [row for row in rows if competes(row, task.case)]
    rivals = [row for row in racing if not row["ours"] and row["error"] < EXACT]
    for row in racing:
        row["fraction_of_floor"] = floor / row["median_ms"]
        own = [rival for rival in rivals if row["ours"] and _stem(rival) == _stem(row)]  # of another revision
        best = min(own or rivals, key=lambda rival: rival["median_ms"], default=None)
        if best is not None:
            row |= {"ratio": best["median_ms"] / row["median_ms"], "best_peer": best["contestant"]}
    return rows


def _stem(row: Row) -> str:
    return row["contestant"].split(" @ ")[0]


def competes(row: Row, case: Case) -> bool:
    """Whether a row is about the case's quantity and was timed."""
    return QUANTITY[case.op] in row["provides"] and "median_ms" in row


def table(rows: list[Row]) -> str:
    """The rows of one problem for a person to read."""
    head = f"  {'':28}{'min ms':>10}{'median ms':>11}{'error':>10}{'log Z':>10}{'ratio':>8}{'of floor':>10}"
    lines = [head]
    for row in rows:
        cells = (
            _cell(row.get("min_ms"), ".4g", 10)
            + _cell(row.get("median_ms"), ".4g", 11)
            + _cell(row.get("error"), ".1e", 10)
            + _cell(row.get("error_log_evidence"), ".1e", 10)
            + _cell(row.get("ratio"), ".2f", 8)
            + _cell(row.get("fraction_of_floor"), ".0%", 10)
        )
        lines.append(f"  {row['contestant']:28}{cells}  {row['note']}".rstrip())
    return "\n".join(lines)


def _cell(value: float | None, form: str, width: int) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"


def failures(rows: list[Row]) -> list[str]:
    """What the quick form finds wrong."""
    found = []
    for row in rows:
        limit = OURS if row["ours"] else THEIRS
        limits = {"error": limit, "error_log_evidence": limit, "error_noise": NOISE}
        for name, limit in limits.items():
            value = row.get(name)
            if value is not None and not value <= limit:
                found.append(f"{row['contestant']}: {name} is {value:.1e}, above {limit:g}")
    return found


def run_cases(options: argparse.Namespace, entries: Callable[[Any], list[Entry]], write: Callable[[Row], None]) -> bool:
    """All cases and temperatures asked for; whether all was right, which only the quick form can deny."""
    good = True
    for name in tqdm(options.case, desc="cases", disable=None):
        case = CASES[name].small() if options.quick else CASES[name]
        data, rates = (
            load(case, options.device),
            measure_rates(*((768, 2**22) if options.quick else ()), device=options.device),
        )
        tqdm.write(f"\n{name}: {rates}")
        for temperature in case.temperatures:
            if temperature not in (*options.temperature, ANY):
                continue
            task = problem(case, data, temperature, options.device)
            others = None if options.quick else machine.elsewhere()
            rows = run_problem(task, entries(task), rates, options.rounds, options.seconds)
            tqdm.write(f"{task.title}\n{table(rows)}")
            if others is not None and others > machine.QUIET:
                tqdm.write(f"  NOT QUIET: others use {others:.0%} of the processors; reports leave this out")
            for row in rows:
                write(_facts(task, rates) | {"elsewhere": others} | row)
            wrong = failures(rows) if options.quick else []
            for text in wrong:
                tqdm.write(f"  WRONG {text}")
            good &= not wrong
    return good


def _facts(task: Task, rates: Rates) -> Row:
    case = task.case
    sizes = {"queries": case.queries, "states": case.states, "dimension": case.dimension}
    physics = {"temperature": task.temperature, "n_eff": task.n_eff, "sigma": task.sigma, "data": task.source}
    return {"case": case.name, "op": case.op, **sizes, **physics, "rates": rates._asdict()}


@contextlib.contextmanager
def results(path: Path | None, device: str = "cpu") -> Iterator[Callable[[Row], None]]:
    """A function that appends a row, with machine, versions, commit and date, to a file of JSON lines."""
    if path is None:
        yield lambda row: None
        return
    head, dirty = machine.commit()
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": head,
        "dirty": dirty,
        "machine": machine.describe(device),
        "versions": machine.versions(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(facts | row) + "\n")
            file.flush()

        yield write


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options; unknown names are refused with the known ones."""
    parser = argparse.ArgumentParser(description="Time fastthermo and its peers side by side, with the error of each.")
    cases = f"{', '.join(CASES)} (default: all; on a CPU without those for GPUs)"
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where (default: %(default)s)")
    parser.add_argument("--case", nargs="+", default=[], choices=CASES, metavar="NAME", help=cases)
    parser.add_argument(
        "--temperature", nargs="+", default=list(TARGETS), choices=TARGETS, metavar="T", help=", ".join(TARGETS)
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: are the results right? writes nothing")
    parser.add_argument("--against", metavar="REV", help="time a revision against this one; ratio above 1: faster now")
    parser.add_argument("--rounds", type=int, default=3, help="at least so many rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="time for the rounds of a temperature (default: 10; quick: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results (default: bench/results/MACHINE.jsonl)")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: torch finds no GPU here")
    if not options.case:
        options.case = [name for name, case in CASES.items() if options.device == "cuda" or not case.gpu]
    if options.seconds is None:
        options.seconds = 0.0 if options.quick else 10.0
    if options.out is None and not options.quick and options.against is None:
        options.out = Path(__file__).parent / "results" / f"{machine.slug(machine.describe(options.device))}.jsonl"
    return options


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 where a result of the quick form is wrong, 2 where the wish cannot be met."""
    options = parse(arguments)
    try:
        return execute(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


def execute(options: argparse.Namespace) -> int:
    """The run that options ask for."""
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(results(options.out, options.device))
        entries = _revisions(options.against, stack) if options.against else _everybody(options.quick, options.device)
        good = run_cases(options, entries, write)
    if options.out is not None:
        print(f"\nresults: {options.out}")
    return 0 if good else 1


def _everybody(quick: bool, device: str) -> Callable[[Any], list[Entry]]:
    def entries(task: Task) -> list[Entry]:
        everybody = (*ours.entries(task), *peers.PEERS[task.case.op])
        return [e for e in everybody if device in e.devices and not (quick and e.compiles)]

    return entries


def _revisions(revision: str, stack: contextlib.ExitStack) -> Callable[[Any], list[Entry]]:
    other = stack.enter_context(worktree(revision))
    now = stack.enter_context(Worker(machine.ROOT, "now"))
    then = stack.enter_context(Worker(other, revision))

    def entries(task: Task) -> list[Entry]:
        # the other revision is the rival, so that ratios are taken to it
        return now.entries(task) + [dataclasses.replace(e, ours=False) for e in then.entries(task)]

    return entries


if __name__ == "__main__":
    sys.exit(main())
