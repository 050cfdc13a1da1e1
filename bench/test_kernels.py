"""fastthermo's kernels alone, on small forms of the cases: `pytest bench --benchmark-only`, results checked.

For figures against peers, at full size: `python bench/run.py`.
"""

import numpy as np
import ours
import pytest
from cases import CASES, Problem, load, problem
from contest import UnableError
from truth import errors, truth

import fastthermo as ft

SHORT = {"max_time": 0.2, "min_rounds": 3, "warmup": True, "warmup_iterations": 1}


@pytest.fixture(scope="module", params=CASES)
def task(request):
    case = CASES[request.param].small()
    return problem(case, load(case), case.temperatures[len(case.temperatures) // 3])


@pytest.mark.parametrize("number", range(3))
@pytest.mark.benchmark(**SHORT)
def test_case(benchmark, task, number):
    entries = ours.entries(task)
    if number >= len(entries):
        pytest.skip("no further contestant")
    entry = entries[number]
    benchmark.group, benchmark.name = task.case.name, entry.name
    try:
        run = entry.prepare(task)
    except UnableError as reason:
        pytest.skip(str(reason))
    output = benchmark(run.call)
    if isinstance(task, Problem):
        assert max(errors(task, truth(task), output).values()) < 1e-5


@pytest.mark.benchmark(**SHORT)
def test_sample(benchmark):
    benchmark.group = "100 steps of 1024 samples over 1000 states in 2 dimensions"
    law = ft.Ensemble(np.random.default_rng(0).normal(size=(1000, 2)))
    benchmark.pedantic(
        ft.sample, (law, ft.VariancePreserving(), 1024, 100), {"progress": False}, rounds=3, warmup_rounds=1
    )
