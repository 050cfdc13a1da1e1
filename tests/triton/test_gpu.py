"""On a GPU: no host synchronisation, graphs, streams and devices, derivatives, and the constants of the bound."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fastthermo as ft
from fastthermo import ops
from fastthermo.kernels import Noise, Schedule, reference

pytest.importorskip("triton")
from fastthermo.kernels import triton as kernels

pytestmark = pytest.mark.gpu
Tensor = torch.Tensor
SHAPES = [(300, 3), (5000, 24), (5000, 200)]  # near; screened and by products
BETAS = torch.logspace(-4, 4, 24).double()
MANY = 40_003  # queries that fill a device, in any tile


def law(size: int, dimension: int, device: str = "cuda", dtype: torch.dtype = torch.float32) -> ops.States:
    generator = torch.Generator().manual_seed(dimension)
    y = torch.randn(size, dimension, generator=generator)
    if dtype == torch.uint8:
        y = (40 * y + 128).clamp(0, 255)
    phi = torch.randn(size, generator=generator).double().log_softmax(0)
    return ops.States(y.to(device, dtype), phi.to(device))


def queries(states: ops.States, beta: Tensor = BETAS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    y = states.states.cpu().double()
    noise = torch.randn(len(beta), y.shape[1], generator=generator).double()
    field = y[: len(beta)] + noise / beta[:, None].sqrt()
    return field.to(states.states.device), beta.to(states.states.device)


def everything(states: ops.States, field: Tensor, beta: Tensor, single: bool = True) -> list[Tensor]:
    moments = ops.boltzmann(states, field, beta, single=single)
    probes = torch.ones_like(field)[:, None]
    return [
        *moments,
        ops.covariance(states, field, beta, moments, single=single),
        *ops.cumulant(states, field, beta, moments, probes, single=single),
        *ops.top_weights(states, field, beta, moments, 3, single=single),
    ]


@pytest.fixture(params=list(product(SHAPES, [torch.float32, torch.float64, torch.uint8])), ids=str)
def both(request: pytest.FixtureRequest) -> SimpleNamespace:
    """A law here on the device and there on the CPU, and queries on the device."""
    shape, dtype = request.param
    here, there = law(*shape, dtype=dtype), law(*shape, device="cpu", dtype=dtype)
    field, beta = queries(here, BETAS / (1600 if dtype == torch.uint8 else 1))
    return SimpleNamespace(here=here, there=there, field=field, beta=beta)


@pytest.mark.parametrize("single", [False, True])
def test_forces_are_those_of_the_cpu(both: SimpleNamespace, single: bool) -> None:
    found = ops.boltzmann(both.here, both.field, both.beta, single=single)
    want = ops.boltzmann(both.there, both.field.cpu(), both.beta.cpu())
    rms = (2 * want.energy).sqrt()
    gap = (found.force.cpu() - want.force).norm(dim=1)
    assert (gap <= (found.error_bound.cpu() + want.error_bound) * rms).all()
    assert (gap <= (1e-6 if single else 1e-11) * rms).all()


@pytest.mark.parametrize("single", [False, True])
def test_second_moments_are_those_of_the_cpu(both: SimpleNamespace, single: bool) -> None:
    *_, found, product, _, _, _ = everything(both.here, both.field, both.beta, single)
    *_, want, exact, _, _, _ = everything(both.there, both.field.cpu(), both.beta.cpu(), False)
    square = 2 * ops.boltzmann(both.there, both.field.cpu(), both.beta.cpu()).energy
    relative, left_out = (1e-5, 1e-10) if single else (1e-9, 0.0)  # of the coldest only the largest weights count
    allowed = relative * want.diagonal(dim1=1, dim2=2).sum(1) + left_out * square
    assert ((found.cpu() - want).flatten(1).norm(dim=1) <= allowed).all()
    assert ((product.cpu() - exact).norm(dim=1) <= allowed * both.here.dimension**0.5).all()


@pytest.mark.parametrize("dimension", [2, 6, 12])
def test_many_queries_get_the_answers_of_few(dimension: int) -> None:
    states = law(300, dimension)
    few, beta = queries(states, torch.logspace(-3, 5, 200).double())
    copies = torch.arange(MANY, device="cuda") % len(beta)
    found = ops.boltzmann(states, few[copies], beta[copies], single=True)
    want = ops.boltzmann(states, few, beta, single=True)
    gap = (found.force - want.force[copies]).norm(dim=1)
    assert (gap <= 2e-6 * (2 * want.energy[copies]).sqrt()).all()


@contextmanager
def no_waiting() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("shape", SHAPES)
def test_no_call_waits_for_the_device(shape: Any) -> None:
    states = law(*shape)
    field, beta = queries(states)
    everything(states, field, beta)
    with no_waiting():
        everything(states, field, beta)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_method_of_an_ensemble_waits_for_the_device(shape: Any) -> None:
    states = law(*shape)
    field, _ = queries(states)
    ens, process = ft.Ensemble(states.states, states.log_weights), ft.VariancePreserving()

    def call() -> Any:
        posterior = ft.posterior(ens, process, field, 0.3)
        return ens.boltzmann(field, 0.5).mean, posterior.score, posterior.log_density, ens.covariance(field, 0.5)

    call()
    with no_waiting():
        call()


def trajectory(shape: Any, steps: int, samples: int = 64) -> tuple[Any, ...]:
    states = law(*shape)
    packed = kernels.pack(states.states, states.log_weights)
    table = torch.tensor([[0.9, 0.1, 0.3, 1.2, 0.7], [0.3, 0.8, 0.1, 1.0, 50.0]] * (steps // 2)).double().cuda()
    x = torch.randn(samples, shape[1], generator=torch.Generator().manual_seed(0)).cuda()
    return packed, x, Schedule(table), Noise(3, 7, 0, 1)


@pytest.mark.parametrize("steps", [2, 8])  # one after another, and in a graph
@pytest.mark.parametrize(("shape", "samples"), [((300, 3), 64), ((300, 12), 64), ((5000, 24), 64), ((300, 2), MANY)])
def test_steps_are_those_of_the_reference_wait_for_nothing_and_keep_their_memory(
    shape: Any, samples: int, steps: int
) -> None:
    packed, x, schedule, key = trajectory(shape, steps, samples)
    path, held = kernels.evolve(packed, x, schedule, key, True), []
    exact = reference.pack(packed.states, packed.log_weights)
    for i, (before, found) in enumerate(zip([x, *path[:-1]], path, strict=True)):
        row = Schedule(schedule.table[i : i + 1])
        want = reference.evolve(exact, before.double(), row, key._replace(first_step=key.first_step + i))
        assert ((found - want).abs() / (1 + before.abs())).max() < 2e-6
    with no_waiting():
        for _ in range(40):
            last = kernels.evolve(packed, x, schedule, key)
            held.append(torch.cuda.memory_reserved())
    assert torch.equal(last, path[-1])
    assert held[-1] == held[3]


def test_steps_may_be_captured() -> None:
    packed, x, schedule, key = trajectory((5000, 24), 2)
    want, graph = kernels.evolve(packed, x, schedule, key), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = kernels.evolve(packed, x, schedule, key)
    graph.replay()
    assert torch.equal(found, want)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_captured_call_gives_the_answers_of_new_queries(shape: Any) -> None:
    states = law(*shape)
    field, beta = queries(states)
    everything(states, field, beta)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(states, field, beta)
    field.copy_(field.flip(0))
    beta.copy_(beta.flip(0))
    graph.replay()
    for found, want in zip(captured, everything(states, field, beta), strict=True):
        assert torch.equal(found, want)


def test_calls_run_on_the_current_stream() -> None:
    states = law(*SHAPES[1])
    field, beta = queries(states)
    want = ops.boltzmann(states, field, beta).force
    late = torch.zeros_like(field)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(field)
        found = ops.boltzmann(states, late, beta).force
    stream.synchronize()
    assert torch.equal(found, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_two_devices_answer_alike_in_one_process() -> None:
    answers = []
    for device in ("cuda:0", "cuda:1"):
        states = law(*SHAPES[1], device=device)
        answers.append(ops.boltzmann(states, *queries(states)).force)
        assert str(answers[-1].device) == device
    assert torch.equal(answers[0].cpu(), answers[1].cpu())


def test_queries_on_another_device_are_refused() -> None:
    ens = ft.Ensemble(torch.zeros(3, 2, device="cuda"))
    with pytest.raises(ValueError, match=r"field: wanted a tensor on cuda:0, where the states are, got one on cpu"):
        ens.boltzmann(torch.zeros(2), 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_invalid_queries_are_nan_and_spare_the_others(shape: Any) -> None:
    states = law(*shape)
    field, beta = queries(states)
    want = ops.boltzmann(states, field, beta)
    beta[3], field[5, 0] = -1.0, torch.nan
    found = ops.boltzmann(states, field, beta)
    bad = torch.zeros(len(beta), dtype=torch.bool, device="cuda")
    bad[[3, 5]] = True
    for name in ("log_evidence", "mean", "force", "energy", "entropy", "error_bound"):
        x, y = getattr(found, name), getattr(want, name)
        assert x[bad].isnan().flatten(1).any(1).all() if x.ndim > 1 else x[bad].isnan().all()
        assert torch.equal(x[~bad], y[~bad])


@pytest.mark.parametrize("dimension", [3, 20])
def test_derivatives_pass_gradcheck(dimension: int) -> None:
    states = law(300, dimension, dtype=torch.float64)
    field, beta = (x[8:10].clone().requires_grad_() for x in queries(states))

    def quantities(field: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        moments = ops.boltzmann(states, field, beta)
        return moments.log_evidence, moments.mean, moments.energy, moments.entropy

    def covariance(field: Tensor, beta: Tensor) -> Tensor:
        return ops.covariance(states, field, beta, ops.boltzmann(states, field, beta))

    assert torch.autograd.gradcheck(quantities, (field, beta), check_forward_ad=True, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradcheck(covariance, (field, beta), atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(lambda h, b: quantities(h, b)[:2], (field, beta), atol=1e-6, rtol=1e-5)


def test_rtol_is_met_by_float64() -> None:
    states = law(*SHAPES[1])
    field, beta = queries(states)
    assert ops.boltzmann(states, field, beta, single=True).error_bound.max() > 1e-7
    assert ops.boltzmann(states, field, beta[:16].repeat(2)[:24], single=True, rtol=1e-7).error_bound.max() <= 1e-7


@pytest.mark.parametrize("dimension", [64, 784, 3072])
@pytest.mark.parametrize("signs", ["both", "one"])
def test_tensor_cores_accumulate_within_the_constant_of_the_bound(dimension: int, signs: str) -> None:
    """Four million random pairs of float16 vectors: |computed - exact| <= gamma |g| |t|, gamma of `screen`."""
    import triton

    from fastthermo.kernels.triton import config, screen

    size = 2048
    generator = torch.Generator(device="cuda").manual_seed(dimension)
    g, t = (torch.randn(size, dimension, generator=generator, device="cuda") for _ in range(2))
    scale = torch.exp(2 * torch.randn(2, size, 1, generator=generator, device="cuda"))
    g, t = ((x.abs() if signs == "one" else x) * s for x, s in zip((g, t), scale, strict=True))
    g, t = (x.clamp(-1e3, 1e3).half() for x in (g, t))
    zero, one = torch.zeros(size, dtype=torch.float64, device="cuda"), torch.ones(size, device="cuda")
    tile = config.tile("screen", dimension, "sm_90")
    found = torch.empty(size, size, device="cuda")
    screen._screen_kernel[(triton.cdiv(size, tile.b) * triton.cdiv(size, tile.n),)](
        g, t, one, zero, zero, one.double(), found, size, size, dimension, size,
        GROUP=1, BLOCK_B=tile.b, BLOCK_N=tile.n, BLOCK_D=tile.d, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    lengths = g.double().norm(dim=1)[:, None] * t.double().norm(dim=1)
    error = (found.double() - g.double() @ t.double().T).abs() / lengths
    gamma = (dimension / 8 + 8) * screen.ACCUMULATION
    print(f"\nD {dimension}, {signs} signs: largest error {float(error.max()):.2e}, gamma {gamma:.2e}")
    assert error.max() <= gamma


@pytest.mark.parametrize("dimension", [24, 784, 3072])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_energies_by_halves_are_within_their_bound(dimension: int, dtype: torch.dtype) -> None:
    """Two million energies |t|^2/2 - t.g: |computed - exact| <= eps of `split`."""
    from fastthermo.kernels.triton import pack, split

    size, queries = 2048, 1024
    states = law(size, dimension, dtype=dtype)
    packed = pack(states.states, states.log_weights)
    generator = torch.Generator(device="cuda").manual_seed(dimension)
    field = states.states[:queries].double()
    field += 40 * torch.randn(queries, dimension, generator=generator, device="cuda", dtype=torch.float64)
    g = split.halves(packed, field, torch.ones(queries, dtype=torch.float64, device="cuda"), "single")
    found = torch.empty(queries, size, device="cuda")
    split.energies(packed, g, "single", found)
    t = states.states.double() - packed.anchor
    exact = t.square().sum(1) / 2 - (field - packed.anchor) @ t.T
    share = ((found.double() - exact).abs() / g.eps[:, None]).max()
    print(f"\nD {dimension}, {dtype}: largest error {float(share):.2e} of eps")
    assert share <= 1
