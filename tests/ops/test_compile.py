"""torch.compile leaves the ops out of its graphs and keeps their values and derivatives."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import fastthermo as ft
from fastthermo import ops

Tensor = torch.Tensor


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler about itself
        yield
    torch._dynamo.reset()


@pytest.fixture
def energy(states: ops.States) -> Any:
    def function(field: Tensor, beta: Tensor) -> Tensor:
        moments = ops.boltzmann(states, 2 * field, beta + 1)
        return moments.mean.sum(1) * moments.log_evidence

    return function


def test_values_and_gradients_survive_compilation(energy: Any, point: tuple[Tensor, Tensor]) -> None:
    compiled = torch.compile(energy)
    assert torch.allclose(compiled(*point), energy(*point), rtol=1e-12)
    found = torch.autograd.grad(compiled(*point).sum(), point)
    want = torch.autograd.grad(energy(*point).sum(), point)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("inside", [False, True], ids=["jvp of compiled", "compiled jvp"])
def test_forward_derivatives_survive_compilation(energy: Any, point: tuple[Tensor, Tensor], inside: bool) -> None:
    primals = tuple(x.detach() for x in point)
    tangents = tuple(torch.ones_like(x) for x in primals)

    def along(function: Any) -> Any:
        return lambda *x: torch.func.jvp(function, x, tangents)

    if inside:
        found = torch.compile(along(energy), backend="aot_eager")(*primals)
    else:
        found = along(torch.compile(energy, backend="aot_eager"))(*primals)
    for a, b in zip(found, along(energy)(*primals), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
        assert (a != 0).all()


def test_a_whole_graph_is_refused(energy: Any, point: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(Exception, match="boltzmann"):
        torch.compile(energy, fullgraph=True)(*point)


def test_gradients_of_every_differentiable_quantity_survive_compilation() -> None:
    generator = torch.Generator().manual_seed(0)
    ens = ft.Ensemble(torch.randn(50, 4, generator=generator))
    h = torch.randn(3, 4, generator=generator).requires_grad_()

    def functions() -> Any:
        for name in ("mean", "force", "log_evidence", "regularised_energy", "entropy"):
            yield lambda h, name=name: (getattr(ft.boltzmann(ens, h, 1.0), name) ** 2).sum()
        yield lambda h: (ft.posterior(ens, ft.VariancePreserving(), h, 0.3).score ** 2).sum()

    for function in functions():
        found, want = (
            torch.autograd.grad(f(h), h)[0] for f in (torch.compile(function, backend="aot_eager"), function)
        )
        assert torch.allclose(found, want, rtol=1e-10)
    with pytest.raises(NotImplementedError, match="not differentiable"):
        ft.boltzmann(ens, h, 1.0).heat_capacity.sum().backward()


def test_samples_weights_and_noised_data_survive_compilation() -> None:
    """Of a new ensemble each: what is made with its first answer is not traced either."""
    states = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    x, process = states[:3] + 0.5, ft.EDM()
    for function in (
        lambda ens, x: ft.sample(ens, process, steps=2, x_start=x, scheme="heun") * 2,
        lambda ens, x: ft.sample(ens, process, steps=2, x_start=x, callback=lambda *_: None) * 2,
        lambda ens, x: ft.noised(ens, process, 0.5, x) * 2,
        lambda ens, x: ens.top_weights(x, 1.0, 2)[0] + ens.log_odds(2, x, 1.0)[:, None],
    ):
        found = torch.compile(function, backend="aot_eager")(ft.Ensemble(states), x)
        assert torch.equal(found, function(ft.Ensemble(states), x))
