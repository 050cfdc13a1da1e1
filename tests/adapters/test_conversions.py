"""Every parametrisation and every library's convention gives the mean of the exact denoiser it was made from."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import adapters

RNG = np.random.default_rng(0)
ENS = ft.Ensemble(torch.from_numpy(RNG.normal(size=(9, 1, 4, 4))))
X = torch.from_numpy(RNG.normal(size=(5, 1, 4, 4)))
PROCESSES = {
    "vp": ft.VariancePreserving(),
    "ou": ft.OrnsteinUhlenbeck(),
    "ve": ft.VarianceExploding(2.0, t_max=50.0),
    "edm": ft.EDM(),
    "flow": ft.FlowMatching(),
    "ddpm": ft.DDPM.linear(),
}


def rates(process: ft.Process, t: float) -> tuple[float, float]:
    """alpha', sigma' by the complex step, straight from the formulas of the process."""
    step = 1e-30
    pair = process._alpha(np.float64(t) + 1j * step), process._sigma(np.float64(t) + 1j * step)
    return float(np.imag(pair[0]) / step), float(np.imag(pair[1]) / step)


def target(kind: str, process: ft.Process, x: torch.Tensor, t: float) -> torch.Tensor:
    """What an optimal network of this kind returns, from the definition of its target: its mean given x."""
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    y = ft.posterior(ENS, process, x, t).mean
    z = (x - alpha * y) / sigma
    if kind == "velocity":
        alpha_rate, sigma_rate = rates(process, t)
        return alpha_rate * y + sigma_rate * z
    return {"mean": y, "eps": z, "score": -z / sigma, "v": alpha * z - sigma * y}[kind]


def exact_network(kind: str, process: ft.Process, time: Any) -> Any:
    """A network that is told `time(t)` and answers exactly; it finds t again among the times of the test."""
    known = {float(time(t)): t for t in TIMES[process]}

    def network(x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        t = known[min(known, key=lambda v: abs(v - float(told[0])))]
        assert abs(float(time(t)) - float(told[0])) <= 1e-12 * max(1, abs(float(told[0])))
        return target(kind, process, x, t)

    return network


TIMES = {p: p.times(7, *(float(p.time(b)) for b in (0.05, 400.0))) for p in PROCESSES.values()}
TIMES[PROCESSES["ddpm"]] = np.array([600.5, 400.5, 200.5, 50.5, 10.5])  # between the steps: rates jump at them


def close(found: torch.Tensor, want: torch.Tensor, factor: float = 1.0) -> bool:
    return float((found - want).abs().max()) <= 1e-12 * factor * float(want.abs().max())


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("kind", ["mean", "eps", "score", "v", "velocity"])
def test_means_through_every_parametrisation_are_exact(name: str, kind: str) -> None:
    process = PROCESSES[name]
    model = ft.wrap(exact_network(kind, process, lambda t: t), kind, process, shape=(1, 4, 4), batch=5, check=False)
    for t in TIMES[process]:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x = alpha * X + sigma * X.flip(0)
        want = ft.posterior(ENS, process, x, t)
        found = model(x, t)
        # predictions of the noise say little about data they hide: they are divided by alpha / sigma
        lost = 1.0 if kind == "mean" else max(1.0, sigma / alpha)
        assert found.mean.shape == x.shape
        assert close(found.mean, want.mean, lost)
        assert close(found.score, want.score, lost)
        assert close(model.mean(x / alpha, float(process.beta(t))), want.mean, 10 * lost)


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("t", lambda p, t: t),
        ("1-t", lambda p, t: 1 - t),
        ("sigma", lambda p, t: p.sigma(t) / p.alpha(t)),
        ("log_snr", lambda p, t: np.log(p.beta(t))),
        (lambda p, t: 1000 * t, lambda p, t: 1000 * t),
    ],
)
def test_networks_are_told_the_time_in_their_own_convention(time: Any, told: Any) -> None:
    process = PROCESSES["vp"]
    network = exact_network("eps", process, lambda t: told(process, t))
    model = ft.wrap(network, "eps", process, time, shape=(1, 4, 4), batch=5, check=False)
    for t in TIMES[process]:
        assert close(
            model(X, t).mean, ft.posterior(ENS, process, X, t).mean, float(process.sigma(t) / process.alpha(t))
        )


def test_steps_are_whole_numbers() -> None:
    seen = []

    def network(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        seen.append(step)
        return x

    ft.wrap(network, "eps", ft.DDPM.linear(), "step", shape=(16,), batch=5, check=False)(X.reshape(5, 16), 41.7)
    assert seen[0].dtype == torch.int64
    assert seen[0].tolist() == [42] * 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_of_half_precision_are_told_unrounded_times(dtype: torch.dtype) -> None:
    seen = []

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append((x.dtype, t))
        return x

    for make in (ft.wrap, lambda net, *_, **options: adapters.k_diffusion(net, ft.DDPM.linear(), **options)):
        model = make(network, "eps", ft.DDPM.linear(), shape=(16,), batch=5, check=False, dtype=dtype)
        model(X.reshape(5, 16), np.array([999, 777, 501.5, 1, 0]))
    (kind, times), (_, sigmas) = seen
    assert kind == dtype
    assert times.tolist() == [999, 777, 501.5, 1, 0]
    assert sigmas.dtype == dtype  # its networks multiply x by functions of sigma


def test_times_may_differ_by_query_and_arrays_be_of_either_kind() -> None:
    process, times = PROCESSES["vp"], np.array([0.1, 0.3, 0.5, 0.7, 0.9])

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ft.posterior(ENS, process, x, t).mean

    model = ft.wrap(network, "mean", process, shape=(1, 4, 4))
    want = ft.posterior(ENS, process, X, times).mean
    assert close(model(X, torch.from_numpy(times)).mean, want)
    found = model(X.numpy(), times).mean
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    assert model(X.float(), 0.3).mean.dtype == torch.float32
    assert close(model(X[0], 0.3).mean, ft.posterior(ENS, process, X[0], 0.3).mean)
    beta = process.beta(times)
    assert close(model.mean(X, beta), ENS.mean(X, beta), 10)


def test_batches_of_any_size_give_the_same_means() -> None:
    process = PROCESSES["edm"]
    sizes = []

    def network(x: torch.Tensor, sigma: torch.Tensor, row: Any) -> torch.Tensor:
        sizes.append(len(x))
        return ft.posterior(ENS, process, x, sigma).mean + row[:, None, None, None]

    row = torch.arange(5.0)
    model = ft.wrap(network, "mean", process, "sigma", shape=(1, 4, 4), batch=2, condition={"row": row}, check=False)
    found = model(X, np.linspace(0.5, 2, 5)).mean
    want = ft.posterior(ENS, process, X, np.linspace(0.5, 2, 5)).mean + row[:, None, None, None]
    assert sizes == [2, 2, 1]
    assert close(found, want)


def conditional(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
    out = ft.posterior(ENS, PROCESSES["vp"], x, t).mean
    return out if label is None else out * (1 + label)[:, None, None, None]


def test_guided_and_conditional_networks_are_tried_as_what_they_are_without_guidance() -> None:
    y = torch.tensor([[-3.0], [-2.0], [2.0], [3.0]], dtype=torch.float64)
    everything, part = ft.Ensemble(y), ft.Ensemble(y[2:])
    process = ft.VarianceExploding(t_min=1e-3)

    def network(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return (part if int(label[0]) else everything).mean(x, process.beta(t.numpy()))

    given: dict[str, Any] = {"condition": {"label": 1}, "unconditional": {"label": 0}, "guidance": 7.5}
    model = ft.wrap(network, "mean", process, law=part, **given)
    h, beta = torch.tensor([[0.5]], dtype=torch.float64), 0.3
    base = everything.mean(h, beta)
    assert torch.allclose(model.mean(h, beta), base + 7.5 * (part.mean(h, beta) - base))
    with pytest.raises(ValueError, match="law holds other data than those of the condition"):
        ft.wrap(network, "mean", process, law=everything, **given)


def test_conditions_and_guidance_pass_through() -> None:
    process = PROCESSES["vp"]
    base = ft.posterior(ENS, process, X, 0.4).mean
    model = ft.wrap(conditional, "mean", process, shape=(1, 4, 4), unconditional={"label": None})
    assert close(model(X, 0.4).mean, base)
    assert close(model(X, 0.4, label=3).mean, 4 * base)
    assert close(model(X, 0.4, label=torch.arange(5)).mean, base * torch.arange(1, 6)[:, None, None, None])
    third = model.given(label=3)
    assert close(third(X, 0.4).mean, 4 * base)
    assert close(third.given(guidance=2.5)(X, 0.4).mean, base + 2.5 * 3 * base)
    with pytest.raises(ValueError, match=r"wrap: guidance needs unconditional"):
        ft.wrap(conditional, "mean", process, shape=(1, 4, 4), guidance=2.0)
    with pytest.raises(ValueError, match="label: wanted one row or 5, one a query, got 3"):
        model(X, 0.4, label=torch.arange(3))


def embedded(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    weight = torch.eye(16, dtype=torch.float64)
    return x + torch.nn.functional.embedding(label, weight).reshape(x.shape)


@pytest.mark.parametrize(
    "label",
    [3, np.int64(3), np.array(3), torch.tensor(3), np.full(5, 3), [3] * 5, torch.full((5,), 3), np.array([3])],
    ids=lambda label: type(label).__name__,
)
def test_integers_of_every_kind_are_conditions(label: Any) -> None:
    model = ft.wrap(embedded, "mean", PROCESSES["vp"], shape=(1, 4, 4), condition={"label": label})
    want = X + torch.eye(16).double()[3].reshape(1, 4, 4)
    assert torch.equal(model(X, 0.4).mean, want)
    assert torch.equal(model.given(label=label).mean(X, 1.0), model.mean(X, 1.0))


# other libraries, by their calling conventions


def test_azula_denoisers() -> None:
    pytest.importorskip("azula")
    from azula.denoise import GaussianDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import CosineSchedule, VESchedule, VPSchedule

    for schedule in (VPSchedule(), VESchedule(), CosineSchedule()):
        cov = IsotropicCovariance(torch.tensor(0.5, dtype=torch.float64))
        theirs = GaussianDenoiser(torch.zeros(16, dtype=torch.float64), cov, schedule)
        model = adapters.azula(theirs, shape=(16,))
        x = X.reshape(5, 16)
        for t in (0.05, 0.5, 0.95):
            time = torch.tensor(t, dtype=torch.float64)
            alpha, sigma = schedule(time)
            assert close(model(x, t).mean, theirs(x, time).mean)
            assert close(torch.tensor(model.schedule(t)), torch.stack([alpha, sigma]))
            beta = (alpha / sigma) ** 2
            # theirs is a small difference of large numbers at high noise
            error = model.mean(x, float(beta)) - 0.5 * x / (0.5 + 1 / beta)
            assert float(error.abs().max()) <= 1e-12 * float(x.abs().max() / alpha)


def test_networks_of_edm_and_k_diffusion() -> None:
    exact = ft.to_edm(ENS)
    assert (exact.img_channels, exact.img_resolution) == (1, 4)
    for model in (adapters.edm(exact), adapters.k_diffusion(exact, shape=(1, 4, 4))):
        for sigma in (0.05, 1.0, 30.0):
            assert close(model(X, sigma).mean, ft.posterior(ENS, ft.EDM(), X, sigma).mean)
            assert close(exact(X, torch.tensor(sigma).double()), ft.posterior(ENS, ft.EDM(), X, sigma).mean)


@pytest.mark.parametrize(("prediction", "kind"), [("epsilon", "eps"), ("sample", "mean"), ("v_prediction", "v")])
def test_networks_of_diffusers_with_a_ddpm_scheduler(prediction: str, kind: str) -> None:
    process = PROCESSES["ddpm"]

    class UNet:
        config = SimpleNamespace(sample_size=4, in_channels=1)

        def __call__(self, x: torch.Tensor, step: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(sample=target(kind, process, x, float(step[0])))

    scheduler = SimpleNamespace(
        config={"prediction_type": prediction}, alphas_cumprod=torch.from_numpy(process.alphas_bar)
    )
    model = adapters.diffusers(UNet(), scheduler)
    assert model.shape == (1, 4, 4)
    for t in (10.0, 200.0, 500.0):
        lost = float(process.sigma(t) / process.alpha(t)) if kind != "mean" else 1.0
        assert close(model(X, t).mean, ft.posterior(ENS, process, X, t).mean, max(1, lost))


def test_networks_of_diffusers_with_a_flow_scheduler() -> None:
    def unet(x: torch.Tensor, step: torch.Tensor) -> SimpleNamespace:
        t = float(step[0]) / 1000
        y = ft.posterior(ENS, PROCESSES["flow"], x, t).mean
        return SimpleNamespace(sample=(x - (1 - t) * y) / t - y)  # noise - data

    scheduler = SimpleNamespace(config={"num_train_timesteps": 1000, "shift": 1.0})
    model = adapters.diffusers(unet, scheduler, shape=(1, 4, 4))
    for t in (0.1, 0.5, 0.9):
        assert close(model(X, t).mean, ft.posterior(ENS, PROCESSES["flow"], X, t).mean, 10)


@pytest.mark.parametrize(("objective", "kind"), [("pred_noise", "eps"), ("pred_x0", "mean"), ("pred_v", "v")])
def test_networks_of_denoising_diffusion_pytorch(objective: str, kind: str) -> None:
    process = PROCESSES["ddpm"]
    diffusion = SimpleNamespace(
        model=lambda x, step: target(kind, process, x, float(step[0])),
        objective=objective,
        alphas_cumprod=torch.from_numpy(process.alphas_bar),
        image_size=4,
        channels=1,
    )
    model = adapters.denoising_diffusion_pytorch(diffusion)
    for t in (10.0, 200.0, 500.0):
        lost = float(process.sigma(t) / process.alpha(t)) if kind != "mean" else 1.0
        assert close(model(X, t).mean, ft.posterior(ENS, process, X, t).mean, max(1, lost))


def test_velocities_of_torchcfm_run_from_noise_to_data() -> None:
    def velocity(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        time = 1 - float(t[0])  # theirs is 0 at the noise: x = t y + (1 - t) z
        y = ft.posterior(ENS, PROCESSES["flow"], x, time).mean
        return y - (x - (1 - time) * y) / time

    model = adapters.torchcfm(velocity, shape=(1, 4, 4))
    for t in (0.1, 0.5, 0.9):
        assert close(model(X, t).mean, ft.posterior(ENS, PROCESSES["flow"], X, t).mean, 10)


def test_exact_denoisers_in_azula_are_told_alpha_and_sigma_in_float64() -> None:
    pair, process, t = ft.Ensemble(np.array([[1000.0], [1001.0]])), ft.FlowMatching(), 0.02
    x = torch.tensor([[1000.5 * float(process.alpha(t))]])
    found = ft.to_azula(pair, process)(x, torch.tensor(t, dtype=torch.float64)).mean
    assert found == ft.posterior(pair, process, x.double(), t).mean.float()
