"""torch.func: every transform and composition gives the derivative that plain torch gives."""

from typing import Any

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import fastthermo as ft
from fastthermo import ops

Tensor = torch.Tensor
NAMES = ["log_evidence", "mean", "force", "energy", "entropy"]
FIELD = torch.tensor([0.3, -0.4, 1.1], dtype=torch.float64)
BETA = torch.tensor(1.3, dtype=torch.float64)


@pytest.fixture
def single(states: ops.States) -> Any:
    """single(name)(field (D,), beta ()) -> one quantity of one query"""
    return lambda name: lambda h, b: getattr(ops.boltzmann(states, h[None], b[None]), name)[0]


@pytest.fixture
def plain_single(dense: Any) -> Any:
    return lambda name: lambda h, b: dense(h, b)[name]


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("argument", [0, 1], ids=["field", "beta"])
@pytest.mark.parametrize(
    "transform",
    [
        jacrev,
        jacfwd,
        lambda f, argnums: jacfwd(jacfwd(f, argnums), argnums),
        lambda f, argnums: jacrev(jacrev(f, argnums), argnums),
        lambda f, argnums: jacfwd(jacrev(f, argnums), argnums),
        lambda f, argnums: jacrev(jacfwd(f, argnums), argnums),
        lambda f, argnums: jacrev(jacfwd(f, argnums), 1 - argnums),
        lambda f, argnums: jacfwd(jacrev(f, argnums), 1 - argnums),
    ],
    ids=["rev", "fwd", "fwd-fwd", "rev-rev", "fwd-rev", "rev-fwd", "rev-fwd mixed", "fwd-rev mixed"],
)
def test_jacobians(single: Any, plain_single: Any, transform: Any, name: str, argument: int) -> None:
    found = transform(single(name), argnums=argument)(FIELD, BETA)
    assert close(found, transform(plain_single(name), argnums=argument)(FIELD, BETA))


@pytest.mark.parametrize("name", NAMES)
def test_jvp_and_vjp_agree(single: Any, plain_single: Any, name: str) -> None:
    tangents = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    value, along = jvp(single(name), (FIELD, BETA), tangents)
    want_value, want = jvp(plain_single(name), (FIELD, BETA), tangents)
    assert close(value, want_value)
    assert close(along, want)
    _, pull = vjp(single(name), FIELD, BETA)
    probe = torch.ones_like(value)
    by_field, by_beta = pull(probe)
    assert close((along * probe).sum(), (by_field * tangents[0]).sum() + by_beta * tangents[1])


def test_hessian_of_the_log_evidence_is_that_of_the_landscape(single: Any, states: ops.States) -> None:
    """grad grad F~ = 1 - beta C"""
    h, b = FIELD[None], BETA[None]
    covariance = ops.covariance(states, h, b, ops.boltzmann(states, h, b))[0]
    found = hessian(lambda x: -single("log_evidence")(x, BETA) / BETA)(FIELD)
    assert close(found, torch.eye(3, dtype=torch.float64) - BETA * covariance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (1, 0)], ids=["field", "beta", "both", "columns"])
def test_vmap(single: Any, states: ops.States, name: str, in_dims: tuple[int | None, int | None]) -> None:
    generator = torch.Generator().manual_seed(3)
    fields = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    betas = torch.tensor([0.1, 1.0, 3.0, 9.0], dtype=torch.float64)
    h = FIELD if in_dims[0] is None else fields if in_dims[0] == 0 else fields.T
    b = BETA if in_dims[1] is None else betas
    found = vmap(single(name), in_dims)(h, b)
    rows = FIELD.expand(4, 3) if in_dims[0] is None else fields
    assert close(found, getattr(ops.boltzmann(states, rows, b.expand(4)), name))


def test_vmap_over_no_queries_and_of_posteriors(single: Any, states: ops.States) -> None:
    none = torch.zeros(0, 3, dtype=torch.float64)
    assert vmap(lambda h: single("mean")(h, BETA))(none).shape == (0, 3)
    ens, x = ft.Ensemble(states.states, states.log_weights), FIELD.repeat(4, 1)
    found = vmap(lambda row: ft.posterior(ens, ft.EDM(), row, 0.5).mean)(x)
    assert close(found, ft.posterior(ens, ft.EDM(), x, 0.5).mean)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("transform", [jacrev, jacfwd, lambda f: jacfwd(jacrev(f)), lambda f: jacrev(jacfwd(f))])
def test_vmap_of_derivatives(single: Any, plain_single: Any, transform: Any, name: str) -> None:
    fields = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    betas = torch.tensor([0.1, 1.0, 3.0, 9.0], dtype=torch.float64)
    found = vmap(transform(single(name)))(fields, betas)
    assert close(found, vmap(transform(plain_single(name)))(fields, betas))


def test_derivatives_of_a_vmapped_function(single: Any) -> None:
    fields = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)

    def total(h: Tensor) -> Tensor:
        return vmap(lambda row: single("log_evidence")(row, BETA))(h).sum()

    rows = torch.stack([grad(lambda x: single("log_evidence")(x, BETA))(row) for row in fields])
    assert close(grad(total)(fields), rows)
    assert close(jvp(total, (fields,), (torch.ones_like(fields),))[1], rows.sum())


@pytest.mark.parametrize("argument", [0, 1], ids=["field", "beta"])
def test_jacobians_of_log_odds(states: ops.States, argument: int) -> None:
    def odds(h: Tensor, b: Tensor) -> Tensor:
        return ops.log_odds(states, torch.tensor([3]), h[None], b[None], ops.boltzmann(states, h[None], b[None]))[0]

    def plain(h: Tensor, b: Tensor) -> Tensor:
        logits = states.log_weights - b * (states.states - h).square().sum(1) / 2
        return logits[3] - torch.cat([logits[:3], logits[4:]]).logsumexp(0)

    for transform in (jacrev, jacfwd):
        assert close(transform(odds, argnums=argument)(FIELD, BETA), transform(plain, argnums=argument)(FIELD, BETA))
    fields = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    found, want = (vmap(jacrev(f), (0, None))(fields, BETA) for f in (odds, plain))
    assert close(found, want)


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
@pytest.mark.parametrize("argument", [0, 1], ids=["field", "beta"])
def test_jacobian_of_the_covariance(states: ops.States, dense: Any, transform: Any, argument: int) -> None:
    def covariance(h: Tensor, b: Tensor) -> Tensor:
        return ops.covariance(states, h[None], b[None], ops.boltzmann(states, h[None], b[None]))[0]

    found = transform(covariance, argnums=argument)(FIELD, BETA)
    assert close(found, transform(lambda h, b: dense(h, b)["covariance"], argnums=argument)(FIELD, BETA))


def test_vmap_of_the_covariance(states: ops.States) -> None:
    fields = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)

    def covariance(h: Tensor) -> Tensor:
        return ops.covariance(states, h[None], BETA[None], ops.boltzmann(states, h[None], BETA[None]))[0]

    assert close(vmap(covariance)(fields), torch.stack([covariance(h) for h in fields]))


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_jacobian_of_a_product_with_the_covariance_is_the_third_cumulant(states: ops.States, transform: Any) -> None:
    probe, other = torch.tensor([[1.0, -2.0, 0.5], [0.2, 0.1, 3.0]], dtype=torch.float64)

    def product(h: Tensor) -> Tensor:
        moments = ops.boltzmann(states, h[None], BETA[None])
        return ops.cumulant(states, h[None], BETA[None], moments, probe[None, None])[0][0]

    moments = ops.boltzmann(states, FIELD[None], BETA[None])
    third, _ = ops.cumulant(states, FIELD[None], BETA[None], moments, torch.stack([probe, other])[None])
    assert close(transform(product)(FIELD) @ other, BETA * third[0])
