"""Derivatives of networks: those of the exact model where the network is exact, and of the network where it is not."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fastthermo as ft
from fastthermo.datasets import load
from fastthermo.training import subset
from fastthermo.training.networks import build

PROCESS = ft.VariancePreserving()
ENS = ft.Ensemble(torch.from_numpy(np.random.default_rng(0).normal(size=(12, 6))))
H = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 6)))
BETA = torch.tensor([0.3, 1.0, 2.0, 4.0, 9.0]).double()


def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    state = ft.posterior(ENS, PROCESS, x, t)
    return (x - state.alpha[:, None] * state.mean) / state.sigma[:, None]


EXACT = ft.wrap(eps, "eps", PROCESS, law=ENS)


def network(shape: tuple[int, ...], width: int = 8) -> nn.Module:
    """A network of ours with weights that are not zero anywhere."""
    torch.manual_seed(0)
    net = build(shape, np.zeros(shape), 0.7, width).double()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1)
    return net.requires_grad_(False)


def test_responses_through_a_network_are_those_of_the_law() -> None:
    found, want = ft.susceptibility(EXACT, H, BETA), ft.susceptibility(ENS, H, BETA)
    v = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 6)))
    for a, b in (
        (found.mv(v), want.mv(v)),
        (found.rmv(v), want.mv(v)),
        (found.dense(), want.dense()),
        (found.leading(3)[0], want.leading(3)[0]),
        (found.self_consistent(), want.self_consistent()),
    ):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)
    assert float(found.symmetry_defect().max()) < 1e-11
    assert torch.equal(want.symmetry_defect(), torch.zeros(5).double())
    assert torch.allclose(want.rmv(v), want.mv(v))


@pytest.mark.parametrize(
    ("shape", "batch"), [((3,), None), ((3,), 2), ((5, 4), 8), ((1, 4, 4), None), ((4, 5, 1), None)]
)
def test_products_are_those_of_the_jacobian(shape: tuple[int, ...], batch: int | None) -> None:
    model = ft.wrap(network(shape), "mean", ft.EDM(), "sigma", shape=shape, batch=batch)
    h = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    beta = torch.tensor([0.5, 1.0, 30.0]).double()
    chi = ft.susceptibility(model, h, beta)
    jacobian = [
        torch.func.jacrev(lambda x, b=b: model.mean(x, float(b)))(x).detach().reshape(model.dimension, -1)
        for x, b in zip(h, beta, strict=True)
    ]
    v = torch.randn(h.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for i, matrix in enumerate(jacobian):
        assert torch.allclose(chi.mv(v)[i].flatten(), matrix @ v[i].flatten(), rtol=1e-9, atol=1e-12)
        assert torch.allclose(chi.rmv(v)[i].flatten(), matrix.T @ v[i].flatten(), rtol=1e-9, atol=1e-12)
        assert torch.allclose(chi.dense()[i], matrix, rtol=1e-9, atol=1e-12)
        symmetric, rest = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
        values = torch.linalg.eigvalsh(symmetric).flip(0)
        assert torch.allclose(chi.leading(2, method="lanczos")[0][i], values[:2], rtol=1e-7)
        defect = float(chi.symmetry_defect(64)[i])
        assert defect == pytest.approx(float(rest.norm() / symmetric.norm()), rel=0.3)


def test_the_derivative_of_a_constant_is_symmetric() -> None:
    model = ft.wrap(lambda x, t: 0 * x + 1, "mean", ft.EDM(), "sigma", shape=(3,), check=False)
    assert ft.susceptibility(model, torch.zeros(2, 3), 1.0).symmetry_defect().tolist() == [0, 0]


class Convolutions(nn.Module):
    """Every way a convolution is called, and an attention of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            nn.Conv2d(4, 4, (3, 1), padding=(2, 0), dilation=(2, 1), groups=2, bias=False),
            nn.Conv2d(4, 4, 3, padding="same"),
            nn.Tanh(),
            nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1),
        )
        self.line = nn.Conv1d(4, 6, 5, stride=3)
        self.out = nn.Conv1d(6, 2, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = self.layers(x).flatten(2)
        q = nn.functional.scaled_dot_product_attention(h.mT, h.mT, h.mT).mT
        return nn.functional.interpolate(self.out(torch.tanh(self.line(q))), x[0, 0].numel()).reshape(x.shape)


def test_layers_of_others_have_their_derivatives() -> None:
    torch.manual_seed(0)
    model = ft.wrap(Convolutions().double(), "mean", ft.EDM(), "sigma", shape=(2, 7, 5), check=False)
    h, v = torch.randn(2, 2, 2, 7, 5, generator=torch.Generator().manual_seed(3)).double()
    chi = ft.susceptibility(model, h, 1.0)
    step = 1e-6
    difference = (model.mean(h + step * v, 1.0) - model.mean(h - step * v, 1.0)) / (2 * step)
    assert torch.allclose(chi.mv(v), difference, rtol=1e-6, atol=1e-8)
    assert float((chi.mv(v) * h).sum()) == pytest.approx(float((v * chi.rmv(h)).sum()), rel=1e-10)


class Skipped(nn.Module):
    """A part of others inside a network that passes its input on."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.3 * x + self.part(x, t)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("within", [lambda part: part, Skipped], ids=["whole", "part"])
@pytest.mark.parametrize(
    "made",
    [
        lambda net: torch.compile(net, backend="aot_eager"),
        lambda net: torch.compile(net, backend="eager"),
        torch.jit.script,
    ],
    ids=["aot", "dynamo", "script"],
)
def test_derivatives_of_compiled_networks_are_those_of_the_networks(made: Any, within: Any) -> None:
    torch.manual_seed(0)
    plain = nn.Bilinear(6, 6, 6).double()
    h, v = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)).double()

    def found(net: Any) -> list[torch.Tensor]:
        chi = ft.susceptibility(ft.wrap(net, "eps", PROCESS, told, shape=(6,), check=False), h, 2.0)
        return [chi.mv(v), chi.mv(v), chi.rmv(v), chi.dense(), chi.leading(2, method="lanczos")[0]]

    def told(process: ft.Process, t: np.ndarray) -> np.ndarray:
        return np.broadcast_to(t[:, None], (len(t), 6))

    for a, b in zip(found(within(made(plain))), found(within(plain)), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_derivatives_pass_through_a_map_over_queries() -> None:
    model = ft.wrap(lambda x, t: x.sin(), "mean", ft.EDM(), "sigma", shape=(6,), check=False, batch=8)
    found = torch.func.grad(lambda h: torch.func.vmap(lambda row: model.mean(row, 1.0))(h).sum())(H)
    assert torch.allclose(found, H.cos(), rtol=1e-12)


def test_critical_times_of_a_network_that_is_exact_are_those_of_the_law() -> None:
    states = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    law, process = ft.Ensemble(states), ft.OrnsteinUhlenbeck()

    def score(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ft.posterior(law, process, x, t).score

    for known in ({"law": law}, {"shape": (2,)}):
        model = ft.wrap(score, "score", process, **known)
        found = ft.critical_time(model, process, "fixed_point")
        assert found == pytest.approx(0.346573590279973, rel=1e-6)
    assert ft.critical_time(ft.wrap(score, "score", process, law=law), process, "speciation") == pytest.approx(
        ft.speciation_time(law, process), nan_ok=True
    )


def test_samples_of_a_network_that_is_exact_are_those_of_the_law() -> None:
    x = ft.sample(ENS, PROCESS, 6, 20, "heun", seed=3)
    assert torch.allclose(ft.sample(EXACT, PROCESS, 6, 20, "heun", seed=3), x, rtol=0, atol=1e-8)
    x = ft.sample(ENS, PROCESS, 6, 20, "ancestral", 0.5, "gaussian", seed=3)
    found = ft.sample(EXACT, PROCESS, 6, 20, "ancestral", 0.5, "gaussian", seed=3)
    assert torch.allclose(found, x, rtol=0, atol=1e-8)


# free energies along paths


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0, 400.0])
@pytest.mark.parametrize("model", [ENS, EXACT], ids=["law", "network"])
def test_free_energy_differences_are_those_of_the_evidence(model: Any, beta: float) -> None:
    path = H[:4]
    want = -(ENS.boltzmann(path[-1], beta).log_evidence - ENS.boltzmann(path[0], beta).log_evidence) / beta
    found = ft.free_energy_difference(model, path, beta)
    assert found.value == pytest.approx(float(want), abs=max(found.error, 1e-9))
    assert found.error < 1e-6
    assert found.curl < 1e-9
    back = ft.free_energy_difference(model, path.flip(0).numpy() if model is not EXACT else path.flip(0), beta)
    assert back.value == pytest.approx(-found.value, abs=1e-8)


@pytest.mark.parametrize("start", [0.0, 0.001, -0.002, -300.0])
def test_no_wall_between_two_valleys_is_missed_at_the_ends_of_a_path(start: float) -> None:
    law, path = ft.Ensemble(np.array([[1.0], [-1.0]])), np.array([[start], [1.0]])
    found = ft.free_energy_difference(law, path, 1e5)
    want = np.diff(law.boltzmann(path, 1e5).regularised_free_energy)[0]
    assert found.value == pytest.approx(want, abs=max(found.error, 1e-12 * abs(want)))
    assert found.error < 1e-7 * abs(want)


def test_a_field_that_is_no_gradient_shows_its_curl() -> None:
    turn = torch.tensor([[0.5, -0.3], [0.3, 0.5]], dtype=torch.float64)
    model = ft.wrap(lambda x, t: x @ turn.T, "mean", ft.EDM(), "sigma", shape=(2,), check=False)
    square = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]).double()
    loop = ft.free_energy_difference(model, square, 1.0)
    assert loop.value == pytest.approx(-2 * 0.3, abs=1e-12)  # minus the curl times the area
    assert loop.curl == pytest.approx(0.3 / 0.5, rel=0.5)


def test_the_reported_error_is_the_error_where_evaluations_run_out() -> None:
    path = torch.stack([ENS.data()[0], ENS.data()[1]])
    want = -(ENS.boltzmann(path[1], 1e4).log_evidence - ENS.boltzmann(path[0], 1e4).log_evidence) / 1e4
    short = ft.free_energy_difference(ENS, path, 1e4, max_evaluations=60)
    assert short.evaluations <= 60
    assert abs(short.value - float(want)) <= short.error
    assert short.error > 1e-6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((H[:1], 1.0), "path: wanted at least 2 points"),
        ((H[0], 1.0), "path: wanted at least 2 points"),
        ((H[:, :3], 1.0), "path: wanted shape"),
        ((H * np.nan, 1.0), "path: wanted finite"),
        ((H, -1.0), "beta: wanted a finite positive"),
    ],
)
def test_impossible_paths(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ft.free_energy_difference(ENS, *arguments)


def test_a_network_with_data_at_hand_is_asked_itself() -> None:
    far = ft.wrap(lambda x, t: 0 * x + 7, "mean", PROCESS, law=ENS, check=False)
    assert not any(hasattr(far, name) for name in ("evolve", "boltzmann", "covariance", "cumulant"))
    for start in ("noise", "gaussian", "data"):
        x = ft.sample(far, PROCESS, 3, 8, "ddim", x_start=start)
        assert torch.allclose(x, torch.full_like(x, 7), atol=0.1)


def unet(width: int = 16) -> tuple[nn.Module, Any]:
    net = network((28, 28), width)
    return net, ft.wrap(net, "mean", ft.EDM(), "sigma", shape=(28, 28))


def test_a_product_costs_at_most_two_and_a_half_forward_passes() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def work(call: Any) -> int:
        with FlopCounterMode(display=False) as counter:
            call()
        return int(counter.get_total_flops())

    _, model = unet()
    h, v = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1)).double()
    forward = work(lambda: model.mean(h, 1.0))
    chi = ft.susceptibility(model, h, 1.0)
    assert work(lambda: chi.mv(v)) <= 2.1 * forward
    assert work(lambda: chi.mv(v)) <= 3.1 * forward  # with the passes that linearise the network, once for all products
    for product in (chi.mv, chi.rmv):
        assert 0.9 * forward <= work(lambda product=product: product(v)) <= 1.1 * forward


def test_eight_leading_pairs_of_images_take_at_most_sixty_products() -> None:
    data = subset(load("mnist-5k"), 150, 0)
    law, process = data.ensemble(), ft.VariancePreserving()

    def score(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ft.posterior(law, process, x, t).score

    model = ft.wrap(score, "score", process, law=law)
    t = ft.critical_time(law, process)
    x = ft.noised(law, process, t, torch.as_tensor(law.data(slice(2))))
    beta = float(process.beta(t))
    chi = ft.susceptibility(model, x / float(process.alpha(t)), beta)
    products, apply = [], chi.apply
    object.__setattr__(chi, "apply", lambda v: products.append(v.shape[1]) or apply(v))
    values, vectors = chi.leading(8, 1e-3)
    assert sum(products) <= 60
    for k in range(8):
        v = vectors[:, k]
        rest = (chi.mv(v) + chi.rmv(v)).flatten(1) / 2 - values[:, k, None] * v
        assert (rest.norm(dim=1) <= 1.1e-3 * values[:, 0]).all()
    want = ft.susceptibility(law, x / float(process.alpha(t)), beta).leading(8, 1e-8)[0]
    assert torch.allclose(values, want, rtol=0, atol=2e-3 * float(want.max()))
