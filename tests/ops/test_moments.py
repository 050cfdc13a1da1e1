"""The door to the kernels: merging, log-odds, weights and what is refused."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from fastthermo import ops

Tensor = torch.Tensor
SCALARS = ["log_evidence", "energy", "entropy", "energy_variance", "participation", "log_rest"]


def pack(states: Any, weights: Any = None) -> ops.States:
    states = torch.as_tensor(states)
    phi = torch.full((len(states),), 1 / len(states)).double() if weights is None else torch.as_tensor(weights).double()
    return ops.States(states, phi.log())


@pytest.mark.parametrize("beta", [1e-6, 1e-2, 1.0, 1e2, 1e6])
@pytest.mark.parametrize("place", ["near", "far", "tie"])
def test_merge_of_the_parts_is_the_whole(
    beta: float, place: str, exact: Any, plain: Any, budget: Any, distance: Any
) -> None:
    rng = np.random.default_rng(0)
    states, weights = rng.integers(-9, 9, (12, 4)).astype(float), rng.dirichlet(np.ones(12))
    weights[[0, 11]] = weights[0] + weights[11], weights[0] + weights[11]
    weights /= weights.sum()
    field = {"near": rng.normal(size=4), "far": 1e4 * np.ones(4), "tie": (states[0] + states[11]) / 2}[place][None]
    arrays = (torch.from_numpy(field), torch.tensor([beta], dtype=torch.float64))
    parts = [ops.boltzmann(pack(states[i : i + 4], weights[i : i + 4]), *arrays) for i in (0, 4, 8)]
    merged, whole = ops.merge(parts, *arrays), ops.boltzmann(pack(states, weights), *arrays)
    given = (states, np.log(weights), field, np.array([beta]))
    truth, crude = exact(*given), plain(*given, torch.float64)
    for name in ("mean", "force"):
        assert distance(getattr(merged, name), getattr(truth, name)) <= whole.error_bound.numpy() * truth.rms + 1e-12
    for name in SCALARS[:5]:
        value = getattr(truth, name)
        allowed = budget(name, truth, crude, torch.float64) + 2 * np.abs(getattr(crude, name) - value)
        assert abs(float(getattr(merged, name)) - value) <= allowed


def test_merge_of_one_part_is_that_part(states: ops.States) -> None:
    field, beta = torch.zeros(3, 3).double(), torch.tensor([0.1, 1.0, 9.0]).double()
    part = ops.boltzmann(states, field, beta)
    for name, a, b in zip(part._fields, part, ops.merge([part], field, beta), strict=True):
        assert torch.allclose(a, b, rtol=1e-14, atol=1e-14) or name in ("error_bound", "log_error")


def test_merged_evidence_of_far_apart_parts_keeps_the_small_one() -> None:
    """The weight of the second part, e^-200, is not lost in log_rest."""
    field, beta = torch.zeros(1, 1).double(), torch.full((1,), 400.0).double()
    parts = [ops.boltzmann(pack([[x]], [0.5]), field, beta) for x in (0.0, 1.0)]
    assert float(ops.merge(parts, field, beta).log_rest) == pytest.approx(-200, rel=1e-14)


def test_a_part_that_joins_a_union_leaves_its_runner_up() -> None:
    """log_rest of the first two parts, -200, is not lost when a third comes with e^-800."""
    field, beta = torch.zeros(1, 1).double(), torch.full((1,), 400.0).double()
    near, middle, far = (ops.boltzmann(pack([[x]], [1 / 3]), field, beta) for x in (0.0, 1.0, 2.0))
    merged = ops.merge([ops.merge([near, middle], field, beta), far], field, beta)
    assert float(merged.log_rest) == pytest.approx(-200, rel=1e-14)


@pytest.mark.parametrize("beta", [1e-6, 0.1, 1.0, 30.0, 300.0])
def test_log_odds_are_accurate_for_weights_near_zero_and_one(beta: float) -> None:
    y, h = [0.0, 1.0, 2.5, -1.5], 0.3
    states = pack(np.array(y)[:, None])
    field = torch.full((4, 1), h, dtype=torch.float64)
    b = torch.full((4,), beta, dtype=torch.float64)
    found = ops.log_odds(states, torch.arange(4), field, b, ops.boltzmann(states, field, b))
    with mp.workdps(400):
        w = [mp.exp(-mpf(beta) * (mpf(v) - mpf(h)) ** 2 / 2) for v in y]
        want = [float(mp.log(x / (sum(w) - x))) for x in w]
    assert found.tolist() == pytest.approx(want, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_beta_that_is_not_finite_and_positive_is_refused(states: ops.States, beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta: .* query 1"):
        ops.boltzmann(states, torch.zeros(2, 3).double(), torch.tensor([1.0, beta]).double())


def test_a_field_that_is_not_finite_is_refused_by_place(states: ops.States) -> None:
    field = torch.zeros(3, 3).double()
    field[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"field: .* query 2, dimension 1"):
        ops.boltzmann(states, field, torch.ones(3).double())


def test_unknown_backends_and_precisions_are_refused(states: ops.States) -> None:
    field, beta = torch.zeros(1, 3).double(), torch.ones(1).double()
    with pytest.raises(ValueError, match=r"backend: .*'cuda'"):
        ops.boltzmann(states, field, beta, backend="cuda")
    with pytest.raises(ValueError, match=r"precision: .*'double'"):
        ops.boltzmann(states, field, beta, precision="double")


@pytest.mark.parametrize("count", [0, 3])
def test_only_one_or_two_probes_are_taken(states: ops.States, count: int) -> None:
    field, beta = torch.zeros(1, 3).double(), torch.ones(1).double()
    with pytest.raises(ValueError, match="probes"):
        ops.cumulant(states, field, beta, ops.boltzmann(states, field, beta), torch.zeros(1, count, 3).double())


def test_a_backend_asked_for_by_name_is_the_one_used(states: ops.States, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastthermo import _dispatch

    asked = []
    load = _dispatch.load
    monkeypatch.setattr(_dispatch, "load", lambda name: asked.append(name) or load(name))
    ops.boltzmann(states, torch.zeros(1, 3).double(), torch.ones(1).double(), backend="reference")
    assert set(asked) == {"reference"}


def test_the_numba_backend_is_refused_away_from_the_cpu() -> None:
    from fastthermo import _dispatch

    with pytest.raises(ValueError, match="'numba' runs on the CPU"):
        _dispatch.backend_name("cuda", "numba")


def test_normal_numbers_are_those_of_a_step(states: ops.States) -> None:
    zero = torch.zeros(4, 3).double()
    assert torch.equal(ops.normal(4, 3, 7, 2, 1, 9), ops.step(zero, zero, 0.0, 0.0, 1.0, 7, 2, 9, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [3, 24])
def test_every_temperature_that_float64_holds_has_its_limit(dtype: torch.dtype, dimension: int) -> None:
    y = torch.randn(300, dimension, generator=torch.Generator().manual_seed(0)).to(dtype)
    states, field = pack(y), y[:3].double() + 0.1
    how = {"single": dtype == torch.float32}
    hot, cold = (torch.tensor(x, dtype=torch.float64) for x in ([1e-300, 1e-60, 1e-36], [1e36, 1e60, 1e300]))
    found = ops.boltzmann(states, field, hot, **how)
    slack = 3e-6 if how["single"] else 1e-14
    assert (found.mean - y.double().mean(0)).abs().max() <= slack
    spread = ops.covariance(states, field, hot, found, **how) - y.double().T.cov(correction=0)
    assert spread.abs().max() <= 30 * slack
    found = ops.boltzmann(states, field, cold, **how)
    assert torch.equal(found.mean, y[torch.cdist(field, y.double()).argmin(1)].double())
    assert found.entropy.tolist() == pytest.approx([-math.log(300)] * 3)
    assert (found.log_evidence / cold).tolist() == pytest.approx((-found.energy_min).tolist())


def test_many_queries_of_large_fields_are_answered_one_by_one() -> None:
    """The sum of all squares overflows; that of no field does."""
    states, field = pack(np.array([0.0, 1.0])[:, None]), torch.full((1000, 1), 1e153, dtype=torch.float64)
    assert (ops.boltzmann(states, field, torch.ones(1000).double()).mean == 1).all()


def test_pickles_hold_the_states_and_not_what_kernels_made_of_them(states: ops.States) -> None:
    before = pickle.dumps(states)
    ops.boltzmann(states, states.states[:2].double(), torch.ones(2).double())
    assert pickle.dumps(states) == before
