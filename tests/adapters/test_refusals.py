"""Networks that cannot be right are refused by the name of their adapter, with what to do."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import adapters

PROCESS = ft.VariancePreserving()
ENS = ft.Ensemble(np.random.default_rng(0).normal(size=(30, 6)))
X = torch.zeros(3, 6, dtype=torch.float64)


def exact(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return ft.EmpiricalDenoiser(ENS, PROCESS)(x, t).mean


def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    alpha, sigma = (torch.as_tensor(v)[:, None] for v in (PROCESS.alpha(t.numpy()), PROCESS.sigma(t.numpy())))
    return (x - alpha * exact(x, t)) / sigma


@pytest.mark.parametrize(
    ("network", "error", "says"),
    [
        (lambda x, t: x[:, :5], ValueError, r"shape of x, \(\d, 6\), it returned \(\d, 5\)"),
        (lambda x, t: torch.cat([x, x], 1), ValueError, "returns more"),
        (lambda x, t: x.long(), TypeError, "floating-point tensor, it returned a tensor of torch.int64"),
        (lambda x, t: (x, x), TypeError, "it returned tuple"),
        (lambda x, t: x.detach().numpy(), TypeError, "it returned ndarray"),
        (lambda x, t: x / 0, ValueError, "NaN or infinity; check"),
    ],
)
def test_wrong_answers_of_networks(network: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=f"mine: .*{says}"):
        ft.wrap(network, "mean", PROCESS, shape=(6,), name="mine")
    later = ft.wrap(network, "mean", PROCESS, shape=(6,), name="mine", check=False)
    with pytest.raises(error, match=says):
        later(X, 0.5)


def inside(context: Any, through: Any = lambda x: x) -> Any:
    layer = torch.nn.Linear(6, 6).double()

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with context():
            return layer(through(x))

    return network


@pytest.mark.parametrize(
    "network",
    [
        inside(torch.no_grad),
        inside(torch.inference_mode),
        inside(torch.enable_grad, torch.Tensor.detach),
        inside(torch.enable_grad, lambda x: torch.from_numpy(x.detach().numpy())),
    ],
    ids=["no_grad", "inference_mode", "detach", "NumPy"],
)
@pytest.mark.parametrize("predicts", ["mean", "eps"])
def test_derivatives_that_a_network_drops(network: Any, predicts: str) -> None:
    model = ft.wrap(network, predicts, PROCESS, shape=(6,), check=False)
    assert model.mean(X, 2.0).isfinite().all()
    says = "wrap: network: its output carries no derivative in x"
    for ask in (
        lambda chi: chi.rmv(X),
        lambda chi: chi.dense(),
        lambda chi: [chi.mv(X) for _ in range(2)],
    ):
        with pytest.raises(ValueError, match=says):
            ask(ft.susceptibility(model, X, 2.0))
    with pytest.raises(ValueError, match=says):
        model.mean(X.clone().requires_grad_(), 2.0)


def test_derivatives_by_temperature_and_time() -> None:
    model = ft.wrap(exact, "mean", PROCESS, shape=(6,), check=False, batch=8)
    beta, one, says = torch.tensor(2.0).double(), torch.ones(()).double(), "wanted a tensor that needs no gradient"

    def mean(b: torch.Tensor) -> torch.Tensor:
        return model.mean(X, b)

    for call in (
        lambda: mean(beta.clone().requires_grad_()),
        lambda: torch.func.jvp(mean, (beta,), (one,)),
        lambda: torch.func.jacrev(mean)(beta),
        lambda: torch.func.vmap(lambda b: model.mean(X[0], b))(beta[None]),
    ):
        with pytest.raises(ValueError, match=f"beta: {says} .*networks are not differentiated by their time"):
            call()
    for law in (model, ft.EmpiricalDenoiser(ENS, PROCESS)):
        with pytest.raises(ValueError, match=f"t: {says}"):
            torch.func.jvp(lambda t, law=law: law(X, t).mean, (one / 2,), (one,))


class Told(torch.nn.Module):
    """A layer of x, whatever the time."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(6)], ids=["dropout", "batch norm"])
def test_networks_in_training_mode_are_warned_of(layer: torch.nn.Module) -> None:
    net = Told(layer).double().train()
    with pytest.warns(UserWarning, match=r"wrap: network: Told is in training mode, .*; call .eval\(\) on it first"):
        ft.wrap(net, "mean", PROCESS, shape=(6,), check=False)
    with pytest.warns(UserWarning, match=r"torchcfm: network: Told is in training mode"):
        adapters.torchcfm(net, shape=(6,), check=False)
    ft.wrap(net.eval(), "mean", PROCESS, shape=(6,), check=False)
    for settled in (torch.nn.Dropout(0.0), torch.nn.BatchNorm1d(6, track_running_stats=False), torch.nn.LayerNorm(6)):
        ft.wrap(Told(settled).double().train(), "mean", PROCESS, shape=(6,), check=False)


@pytest.mark.parametrize("known", [{"law": ENS}, {"shape": (6,)}], ids=["with data", "without"])
@pytest.mark.parametrize(("network", "predicts"), [(exact, "mean"), (eps, "eps")])
def test_time_that_runs_backwards(network: Any, predicts: str, known: dict[str, Any]) -> None:
    process = ft.VariancePreserving(t_min=1e-3, t_max=1 - 1e-3)
    assert ft.wrap(network, predicts, process, **known).dimension == 6
    with pytest.raises(ValueError, match=r"wrap: the mean at t -> 0.001 is not x: time runs otherwise"):
        ft.wrap(network, predicts, process, "1-t", **known)


def test_predictions_taken_for_others() -> None:
    for wrong in ("mean", "velocity"):
        with pytest.raises(ValueError, match=f"something else than '{wrong}'"):
            ft.wrap(eps, wrong, PROCESS, law=ENS)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ft.wrap(3, "mean", PROCESS), TypeError, "network: wanted a torch module"),
        (lambda: ft.wrap(exact, "noise", PROCESS), ValueError, "predicts: wanted one of mean, eps"),
        (lambda: ft.wrap(exact, "mean"), TypeError, "process: wanted the diffusion process"),
        (lambda: ft.wrap(exact, "mean", PROCESS, "seconds"), ValueError, "time: wanted one of t, 1-t"),
        (lambda: ft.wrap(exact, "mean", PROCESS, batch=0), ValueError, "batch: wanted at least 1"),
        (lambda: ft.wrap(exact, "mean", PROCESS).dimension, ValueError, r"wrap: wanted shape=\(...\)"),
        (
            lambda: ft.wrap(exact, "mean", PROCESS, shape=(6,)).draw(3),
            AttributeError,
            "needs the data; give them as law=",
        ),
        (lambda: ft.wrap(exact, "mean", PROCESS, shape=(6,))(X, 7.0), ValueError, "t: wanted times in"),
        (lambda: ft.wrap(exact, "mean", PROCESS, shape=(6,))(X, np.ones(2)), ValueError, r"t: wanted .*\(3,\)"),
        (lambda: ft.wrap(exact, "mean", PROCESS, shape=(6,))(X[:, :5], 0.5), ValueError, "x: wanted shape"),
        (
            lambda: ft.wrap(exact, "mean", PROCESS, shape=(6,)).mean(X, 1e9),
            ValueError,
            "beta: wanted .* knows no other noise",
        ),
        (
            lambda: ft.wrap(exact, "mean", PROCESS, shape=(6,), unconditional={}, guidance=np.nan),
            ValueError,
            "wrap: guidance: wanted a finite number, got nan",
        ),
        (
            lambda: ft.wrap(lambda x, t: x @ torch.eye(5).double(), "mean", PROCESS)(X, 0.5),
            ValueError,
            r"read as 3 states of shape \(6,\)",
        ),
        (lambda: adapters.azula(exact), TypeError, "azula: wanted an object with .schedule"),
        (
            lambda: adapters.diffusers(exact, SimpleNamespace(config={"prediction_type": "epsilon"})),
            ValueError,
            "diffusers: SimpleNamespace has neither alphas_cumprod nor .*DDPMScheduler",
        ),
        (
            lambda: adapters.diffusers(exact, SimpleNamespace(config={}, alphas_cumprod=torch.tensor([0.9, 0.5]))),
            ValueError,
            "diffusers: prediction_type: wanted one of epsilon, sample, v_prediction, got None",
        ),
        (
            lambda: adapters.denoising_diffusion_pytorch(SimpleNamespace(model=exact)),
            TypeError,
            "denoising_diffusion_pytorch: wanted an object with .alphas_cumprod",
        ),
        (
            lambda: adapters.denoising_diffusion_pytorch(
                SimpleNamespace(model=exact, alphas_cumprod=torch.tensor([0.9, 0.5]), objective="pred_y")
            ),
            ValueError,
            "objective: wanted one of pred_noise",
        ),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()
