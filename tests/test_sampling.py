"""One trajectory loop for every scheme: coefficients, noise, kinds and shapes, starts, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo import ops
from fastthermo.sampling import SCHEMES, STEP

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(6, 3))
ENS = ft.Ensemble(STATES)
PROCESSES = {
    "VE": ft.VarianceExploding(),
    "OU": ft.OrnsteinUhlenbeck(),
    "VP": ft.VariancePreserving(),
    "EDM": ft.EDM(),
    "flow": ft.FlowMatching(),
    "DDPM": ft.DDPM.linear(),
}


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest) -> ft.Process:
    return PROCESSES[request.param]


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


def one_step(process: ft.Process, scheme: str, t: float, s: float, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """x_s by the sampler, <y> at (x, t) and the noise of the step."""
    found = ft.sample(ENS, process, steps=[t, s], scheme=scheme, x_start=x, seed=5)
    return found, ft.posterior(ENS, process, x, t).mean, ops.normal(*x.shape, 5, 0, STEP).numpy()


def times(process: ft.Process) -> tuple[float, float]:
    return tuple(process.times(7)[[3, 4]])


def test_ddim_keeps_the_noise_it_infers(process: ft.Process) -> None:
    t, s = times(process)
    x = RNG.normal(size=(4, 3))
    found, mean, _ = one_step(process, "ddim", t, s, x)
    want = process.alpha(s) * mean + process.sigma(s) / process.sigma(t) * (x - process.alpha(t) * mean)
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-13)


def test_ancestral_draws_from_the_gaussian_bridge(process: ft.Process) -> None:
    """N(x_s; alpha_s <y>, sigma_s^2) N(x_t; a x_s, v) with a = alpha_t/alpha_s and v = sigma_t^2 - a^2 sigma_s^2."""
    t, s = times(process)
    x = RNG.normal(size=(4, 3))
    found, mean, z = one_step(process, "ancestral", t, s, x)
    a = process.alpha(t) / process.alpha(s)
    v = process.sigma(t) ** 2 - a**2 * process.sigma(s) ** 2
    precision = 1 / process.sigma(s) ** 2 + a**2 / v
    want = (process.alpha(s) * mean / process.sigma(s) ** 2 + a * x / v) / precision + z / np.sqrt(precision)
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-11)


def test_euler_is_euler_maruyama_of_the_reverse_equation(process: ft.Process) -> None:
    t, s = times(process)
    x = RNG.normal(size=(4, 3))
    found, _, z = one_step(process, "euler", t, s, x)
    score, g2, dt = ft.posterior(ENS, process, x, t).score, process.diffusion(t), t - s
    want = x - dt * (process.drift(t) * x - g2 * score) + np.sqrt(g2 * dt) * z
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


def test_euler_in_the_variance_exploding_form() -> None:
    """h(s - ds) = h + (1/s)(<y> - h) ds + sqrt(ds) z"""
    x = RNG.normal(size=(4, 3))
    found, mean, z = one_step(ft.VarianceExploding(), "euler", 0.7, 0.6, x)
    np.testing.assert_allclose(found, x + (mean - x) * 0.1 / 0.7 + np.sqrt(0.1) * z, rtol=1e-12)


def test_heun_averages_the_slopes_of_the_flow(process: ft.Process) -> None:
    """In h = x/alpha, tau = sigma/alpha: dh/dtau = (h - <y>)/tau, by the trapezoid rule."""
    t, s = times(process)
    x = RNG.normal(size=(4, 3))
    found, mean, _ = one_step(process, "heun", t, s, x)
    tau, tau_s = process.sigma(t) / process.alpha(t), process.sigma(s) / process.alpha(s)
    h = x / process.alpha(t)
    slope = (h - mean) / tau
    trial = h + (tau_s - tau) * slope
    end = (trial - ft.boltzmann(ENS, trial, process.beta(s)).mean) / tau_s
    want = process.alpha(s) * (h + (tau_s - tau) * (slope + end) / 2)
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_of_both_backends_agree_to_rounding(process: ft.Process, scheme: str, dtype: torch.dtype) -> None:
    grid = process.times(5)
    x, mean = torch.from_numpy(RNG.normal(size=(2, 50, 7))).to(dtype)
    for i in range(4):
        a, b, c = SCHEMES[scheme].coefficients(process, grid[i], grid[i + 1])
        one, two = (ops.step(x, mean, a, b, c, 1, i, backend=name) for name in ("numba", "reference"))
        size = abs(a) * x.abs().max() + abs(b) * mean.abs().max() + 8 * abs(c)
        assert (one - two).abs().max() <= 2 * torch.finfo(dtype).eps * size


@pytest.mark.parametrize("start", ["noise", "gaussian", "data"])
def test_samples_do_not_depend_on_how_they_are_batched(scheme: str, start: str) -> None:
    arguments = {"process": ft.OrnsteinUhlenbeck(), "steps": 6, "scheme": scheme, "x_start": start, "seed": 3}
    whole = ft.sample(ENS, n=9, **arguments)
    parts = [ft.sample(ENS, n=n, first_sample=first, **arguments) for first, n in ((0, 1), (1, 4), (5, 4))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_seeds_give_different_samples_and_the_same_one_the_same(scheme: str) -> None:
    runs = [ft.sample(ENS, ft.EDM(), 5, steps=4, scheme=scheme, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_samples_are_of_the_kind_shape_and_precision_of_the_data(kind: str, dtype: Any) -> None:
    states = RNG.integers(0, 255, (6, 2, 4)).astype(dtype)
    ens = ft.Ensemble(states if kind == "numpy" else torch.from_numpy(states), scale=2 / 255, shift=-1.0)
    for start in ("noise", "gaussian", "data"):
        x = ft.sample(ens, ft.OrnsteinUhlenbeck(), 3, steps=20, x_start=start)
        assert isinstance(x, np.ndarray if kind == "numpy" else torch.Tensor)
        assert tuple(x.shape) == (3, 2, 4)
        assert str(x.dtype).endswith("float64" if dtype == np.float64 else "float32")
        assert np.abs(np.asarray(x)).max() < 1.2  # in data units


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_given_samples_keep_their_kind_and_dtype(dtype: torch.dtype) -> None:
    start = torch.from_numpy(RNG.normal(size=(5, 3))).to(dtype)
    x = ft.sample(ENS, ft.EDM(), x_start=start, steps=3)
    assert x.dtype == dtype
    want = ft.sample(ENS, ft.EDM(), x_start=start.double(), steps=3)
    assert torch.allclose(x.double(), want, rtol=8 * torch.finfo(dtype).eps, atol=80 * 8 * torch.finfo(dtype).eps)
    if dtype != torch.bfloat16:
        found = ft.sample(ENS, ft.EDM(), x_start=start.numpy(), steps=3)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, x)


def test_samples_given_are_not_written_to() -> None:
    start = RNG.normal(size=(5, 3))
    before = start.copy()
    ft.sample(ENS, ft.EDM(), x_start=start, steps=3)
    np.testing.assert_array_equal(start, before)


def test_trajectory_holds_every_step_and_ends_in_the_samples(scheme: str) -> None:
    process = ft.VariancePreserving()
    path = ft.sample(ENS, process, 4, steps=5, scheme=scheme, trajectory=True)
    np.testing.assert_array_equal(path.times, process.times(6))
    assert path.x.shape == (6, 4, 3)
    np.testing.assert_array_equal(path.x[-1], ft.sample(ENS, process, 4, steps=5, scheme=scheme))
    rest = ft.sample(ENS, process, steps=path.times[:2], scheme=scheme, x_start=path.x[0])
    np.testing.assert_array_equal(rest, path.x[1])


def test_callback_sees_every_step_before_it_is_taken() -> None:
    process, seen = ft.OrnsteinUhlenbeck(), []
    path = ft.sample(
        ENS,
        process,
        4,
        steps=5,
        trajectory=True,
        callback=lambda i, t, x, mean: seen.append((i, t, x.clone(), mean.clone())),
    )
    assert [i for i, *_ in seen] == list(range(5))
    np.testing.assert_array_equal([t for _, t, *_ in seen], path.times[:-1])
    for (_, t, x, mean), kept in zip(seen, path.x[:-1], strict=True):
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_allclose(mean, ft.posterior(ENS, process, kept, t).mean, rtol=1e-12)


def test_times_may_be_given_and_start_late() -> None:
    path = ft.sample(ENS, ft.EDM(), 2, steps=[10.0, 1.0, 0.5], trajectory=True)
    assert path.times.tolist() == [10.0, 1.0, 0.5]
    path = ft.sample(ENS, ft.EDM(), 2, steps=3, t_start=2.0, trajectory=True)
    assert path.times[0] == 2.0
    assert path.times[-1] == ft.EDM().t_min


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_shown_when_asked_for(shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def wait(*_: Any) -> None:
        import time

        time.sleep(0.6)

    ft.sample(ENS, ft.EDM(), 2, steps=3, progress=shown, callback=wait)
    assert ("sampling" in capsys.readouterr().err) == shown


def test_no_samples_are_no_error(scheme: str) -> None:
    assert ft.sample(ENS, ft.EDM(), 0, steps=3, scheme=scheme).shape == (0, 3)


def test_denoisers_are_sampled_as_their_law() -> None:
    process = ft.FlowMatching()
    found = ft.sample(ft.EmpiricalDenoiser(ENS, process), process, 4, steps=5)
    np.testing.assert_array_equal(found, ft.sample(ENS, process, 4, steps=5))


def test_noised_data_are_alpha_y_plus_sigma_z(process: ft.Process) -> None:
    y = RNG.normal(size=(5, 3))
    t, s = times(process)
    z = (ft.noised(ENS, process, t, y, seed=4) - process.alpha(t) * y) / process.sigma(t)
    np.testing.assert_allclose(z, ops.normal(5, 3, 4, 0, 1).numpy(), rtol=1e-9, atol=1e-9)
    again = (ft.noised(ENS, process, s, y, seed=4) - process.alpha(s) * y) / process.sigma(s)
    np.testing.assert_allclose(again, z, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"scheme": "rk4"}, "scheme: .*'rk4'"),
        ({"steps": 0}, "steps: "),
        ({"steps": 1.5}, "steps: wanted an integer .*, got 1.5"),
        ({"seed": -1}, "seed: "),
        ({"seed": 2**64}, "seed: wanted an integer from 0"),
        ({"seed": True}, "seed: "),
        ({"first_sample": 2**32}, r"first_sample: wanted an integer from 0 to 2\*\*32 - 4, got 4294967296"),
        ({"first_sample": 2**32 - 3, "x_start": np.zeros((4, 3))}, "first_sample: "),
        ({"first_sample": 1.5}, "first_sample: "),
        ({"first_sample": -1, "x_start": "data"}, "first_sample: "),
        ({"first_step": 2**32 - 2}, r"first_step: wanted an integer from 0 to 2\*\*32 - 3"),
        ({"first_step": 0.5}, "first_step: "),
        ({"first_step": 2**64}, "first_step: "),
        ({"steps": True}, "steps: "),
        ({"steps": [1.0]}, "steps: "),
        ({"steps": [0.5, 1.0]}, "steps: "),
        ({"steps": [90.0, 1.0]}, "t: "),
        ({"steps": [5.0, 1.0], "t_start": 4.0}, "t_start: "),
        ({"t_start": 100.0}, "t: "),
        ({"t_start": 0.002}, "t_start: "),
        ({"n": None}, "n: "),
        ({"n": -1}, "n: "),
        ({"n": 1.5}, "n: "),
        ({"n": True}, "n: "),
        ({"x_start": "zeros"}, "x_start: .*'zeros'"),
        ({"x_start": np.zeros((4, 5))}, "x_start: "),
        ({"x_start": np.full((4, 3), np.nan)}, "x_start: "),
        ({"x_start": np.zeros((5, 3))}, "n: "),
        ({"device": "meta"}, "device: "),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ft.sample(ENS, ft.EDM(), **{"n": 4, "steps": 3, **arguments})
