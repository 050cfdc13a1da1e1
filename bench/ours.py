"""fastthermo's own contestants. A revision without an option goes without it, or is unable to do what needs it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from cases import Problem, StepProblem, Task, TrajectoryProblem
from contest import Entry, Output, Run, captured
from data import BYTE

from fastthermo import ops

Tensor = torch.Tensor
ONLY, ALL, BYTES = "fastthermo", "fastthermo (all)", "fastthermo (all, bytes)"
FAST, TF32, GRAPH = (f"fastthermo (all, {way})" for way in ("fast", "tf32", "graph"))
SINGLE = {"single": True}  # results are wanted to float32 accuracy


def entries(problem: Task) -> list[Entry]:
    """Contestants of a case. The conversion of queries to float64 is in the timed call."""

    def entry(name: str, provides: tuple[str, ...], prepare: Callable[..., Run], **options: Any) -> Entry:
        return Entry(name, provides, partial(prepare, **options), ours=True)

    op = problem.case.op
    own = {
        "step": ("sample", _step),
        "trajectory": ("sample", _trajectory),
        "covariance": ("covariance", _covariance),
        "response": ("response", _response),
    }
    found = [entry(ONLY, own[op][:1], own[op][1])] if op in own else []
    if op in ("mean", "response"):
        both = ("mean", "log_evidence")
        found.append(entry(ALL, both, _mean))
        if op == "mean" and isinstance(problem, Problem) and problem.as_bytes is not None:
            found.append(entry(BYTES, both, _mean, as_bytes=True))
        if op == "mean" and isinstance(problem, Problem) and problem.field.is_cuda:
            found.append(entry(FAST, both, _mean, precision="fast"))
            found.append(entry(TF32, both, _mean, precision="tf32"))
            found.append(entry(GRAPH, both, _mean, graph=True))
    return found


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    known = inspect.signature(function).parameters
    return function(*arguments, **{name: value for name, value in options.items() if name in known})


def _double(x: Tensor) -> Tensor:
    """In one thread on a CPU: threads of torch, which kernels end, would have to be started again."""
    return x.double() if x.is_cuda else torch.from_numpy(x.numpy().astype(np.float64))


@lru_cache(maxsize=2)  # floats and bytes: packed once for all contestants and temperatures
def _law(states: Tensor) -> ops.States:
    size = len(states)
    return ops.States(states, torch.full((size,), -math.log(size), dtype=torch.float64, device=states.device))


def _mean(problem: Problem, as_bytes: bool = False, precision: str = "exact", graph: bool = False) -> Run:
    unit = BYTE if as_bytes else 1.0
    law = _law(problem.as_bytes if as_bytes and problem.as_bytes is not None else problem.states)
    beta = problem.field.new_full((len(problem.field),), problem.beta / unit**2, dtype=torch.float64)

    def call() -> Output:
        field = _double(problem.field)
        result = _call(ops.boltzmann, law, field * unit if as_bytes else field, beta, precision=precision, **SINGLE)
        return {"mean": result.mean / unit if as_bytes else result.mean, "log_evidence": result.log_evidence}

    return Run(captured(call) if graph else call, len(beta))


def _covariance(problem: Problem) -> Run:
    law = _law(problem.states)
    beta = problem.field.new_full((len(problem.field),), problem.beta, dtype=torch.float64)

    def call() -> Output:
        field = _double(problem.field)
        moments = _call(ops.boltzmann, law, field, beta, **SINGLE)
        return {"covariance": _call(ops.covariance, law, field, beta, moments, **SINGLE)}

    return Run(call, len(beta))


def _response(problem: Problem) -> Run:
    law = _law(problem.states)
    beta = problem.field.new_full((len(problem.field),), problem.beta, dtype=torch.float64)
    moments = _call(ops.boltzmann, law, _double(problem.field), beta, **SINGLE)

    def call() -> Output:
        field, probes = _double(problem.field), _double(problem.probes)[:, None]
        return {"response": _call(ops.cumulant, law, field, beta, moments, probes, None, **SINGLE)[0]}

    return Run(call, len(beta), "given the mean")


def _step(problem: StepProblem) -> Run:
    return Run(
        lambda: {"sample": ops.step(problem.x, problem.mean, *problem.coefficients, 0, 0)},
        len(problem.x),
    )


def _trajectory(problem: TrajectoryProblem) -> Run:
    law, schedule = _law(problem.states), ops.Schedule(problem.table.to(problem.x.device))
    return Run(lambda: {"sample": ops.evolve(law, problem.x, schedule, ops.Noise(0))}, len(problem.x))
