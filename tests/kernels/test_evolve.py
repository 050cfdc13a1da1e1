"""Trajectories in the kernels: in one go, they are what the reference gives step by step."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastthermo.kernels import Noise, Schedule, reference

KEY = Noise(-3, 7, (1 << 32) - 2, 1)
TABLE = [[0.9, 0.1, 0.3, 1.2, 0.7], [0.3, 0.8, 0.1, 1.0, 50.0], [0.01, 1.1, 0.0, 0.9, 1e5]]
AFTER = [[1.1, 2.0, 0.4], [1.0, 60.0, 0.5], [0.9, 1e5, 0.6]]


def problem(dimension: int, dtype: torch.dtype, size: int = 37, rows: int = 6) -> SimpleNamespace:
    """States with weights, one without, and a pair at 1e-4 that samples near it must tell apart; three steps."""
    generator = torch.Generator().manual_seed(dimension)
    states, x = (torch.randn(n, dimension, generator=generator) for n in (size, rows))
    states[1] = states[0] + 1e-4
    log_weights = torch.randn(size, generator=generator).double().log_softmax(0)
    log_weights[2] = -torch.inf
    x[:2] = states[0]
    schedule = Schedule(torch.tensor(TABLE, dtype=torch.float64))
    return SimpleNamespace(states=states.to(dtype), log_weights=log_weights, x=x.to(dtype), schedule=schedule)


def apart(path: torch.Tensor, p: SimpleNamespace, schedule: Schedule) -> torch.Tensor:
    """The largest error of any step, relative to 1 + |x|: one at a time, so that none is the next one's error."""
    packed, x, errors = reference.pack(p.states, p.log_weights), p.x, []
    for i in range(len(path)):
        after = None if schedule.after is None else schedule.after[i : i + 1]
        single = schedule._replace(table=schedule.table[i : i + 1], after=after)
        want = reference.evolve(packed, x.double(), single, KEY._replace(first_step=KEY.first_step + i))
        errors.append(((path[i] - want).abs() / (1 + x.abs())).max())
        x = path[i]
    return torch.stack(errors).max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 2, 4, 5, 8, 20])
def test_steps_in_one_go_are_those_of_the_reference(backend: Any, dimension: int, dtype: torch.dtype) -> None:
    p = problem(dimension, dtype)
    packed = backend.pack(p.states, p.log_weights)
    path = backend.evolve(packed, p.x, p.schedule, KEY, True)
    assert path.dtype == dtype
    assert path.shape == (3, *p.x.shape)
    assert apart(path, p, p.schedule) < (2e-6 if dtype == torch.float32 else 1e-12)
    assert torch.equal(backend.evolve(packed, p.x, p.schedule, KEY), path[-1])


@pytest.mark.parametrize("size", [64, 65])
def test_steps_among_equal_weights_are_those_of_the_reference(backend: Any, size: int) -> None:
    p = problem(2, torch.float32, size)
    p.log_weights = torch.zeros(size).double()
    path = backend.evolve(backend.pack(p.states, p.log_weights), p.x, p.schedule, KEY, True)
    assert apart(path, p, p.schedule) < 2e-6


@pytest.mark.parametrize("two", [False, True])
def test_steps_take_a_second_mean_and_the_units_of_the_data(backend: Any, two: bool) -> None:
    p = problem(3, torch.float64, rows=2)
    after = torch.tensor(AFTER, dtype=torch.float64) if two else None
    schedule = p.schedule._replace(after=after, scale=0.5, shift=0.25)
    path = backend.evolve(backend.pack(p.states, p.log_weights), p.x, schedule, KEY, True)
    assert apart(path, p, schedule) < 1e-12


def test_steps_in_one_go_do_not_depend_on_how_samples_are_split(backend: Any) -> None:
    p = problem(2, torch.float32, rows=9)
    packed = backend.pack(p.states, p.log_weights)
    whole = backend.evolve(packed, p.x, p.schedule, KEY)
    parts = [
        backend.evolve(packed, p.x[i:j], p.schedule, KEY._replace(first_sample=KEY.first_sample + i))
        for i, j in ((0, 1), (1, 6), (6, 9))
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("two", [False, True])
def test_steps_that_read_their_tables_from_the_device_are_the_same(interpreted: Any, two: bool) -> None:
    """What a CUDA graph replays, run one after another."""
    p = problem(3, torch.float32, rows=2)
    schedule = p.schedule._replace(after=torch.tensor(AFTER, dtype=torch.float64) if two else None, scale=0.5)
    packed = interpreted.pack(p.states, p.log_weights)
    found = interpreted.call("probes:replayed", packed, p.x, schedule, KEY)
    assert torch.equal(found, interpreted.evolve(packed, p.x, schedule, KEY, True))


@pytest.mark.gpu
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [2, 20])
def test_steps_on_a_gpu_are_those_of_the_reference(dimension: int, dtype: torch.dtype, two: bool) -> None:
    """Many samples and a hundred steps: fused in few dimensions with one mean, else a graph replayed."""
    from fastthermo.kernels import triton

    p = problem(dimension, dtype, size=1000, rows=5000)
    after = torch.tensor(AFTER, dtype=torch.float64).repeat(33, 1).cuda() if two else None
    schedule = Schedule(p.schedule.table.repeat(33, 1).cuda(), after)
    p = SimpleNamespace(states=p.states.cuda(), log_weights=p.log_weights.cuda(), x=p.x.cuda())
    packed = triton.pack(p.states, p.log_weights)
    path = triton.evolve(packed, p.x, schedule, KEY, True)
    assert apart(path, p, schedule) < (2e-6 if dtype == torch.float32 else 1e-12)
    assert torch.equal(triton.evolve(packed, p.x, schedule, KEY), path[-1])
    with torch.cuda.stream(torch.cuda.Stream()):
        again = triton.evolve(packed, p.x, schedule, KEY)
    torch.cuda.synchronize()
    assert torch.equal(again, path[-1])
