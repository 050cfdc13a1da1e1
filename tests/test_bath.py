"""Sites sharing one field, and memories, against exact sums."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import gammaln, ndtr

import fastthermo as ft
from fastthermo import solvable
from fastthermo.solvable import AssociativeMemory, Bath

PAIR = solvable.two_deltas(1.0)


@pytest.mark.parametrize("sites", [2, 5, 100, 1000])
@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0, 2.0])
def test_bath_of_two_deltas_is_the_curie_weiss_model(sites: int, beta: float) -> None:
    """K = beta: Z_M = exp(-beta M/2) <exp(beta M m^2/2)>, h = m + N(0, 1/(M beta))"""
    nodes = Bath(PAIR, sites).nodes(beta)
    m, p = solvable.curie_weiss(sites, beta).magnetization()
    up = np.arange(sites + 1)
    log_z = gammaln(sites + 1) - gammaln(up + 1) - gammaln(sites - up + 1) + beta * sites / 2 * (m**2 - 1)
    assert nodes.log_partition == pytest.approx(np.logaddexp.reduce(log_z) - sites * np.log(2), rel=1e-12, abs=1e-12)
    assert nodes.weights @ nodes.h**2 == pytest.approx(p @ m**2 + 1 / (sites * beta), rel=1e-11)
    inside = np.asarray(PAIR.mean(nodes.h[:, None], beta))[:, 0]
    assert nodes.weights @ inside**2 == pytest.approx(((sites * (p @ m**2)) - 1) / (sites - 1), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("sites", [1, 10, 300])
@pytest.mark.parametrize("kink", [0.0, 0.3])
def test_averages_with_a_kink_are_exact_on_nodes_that_meet_there(sites: int, kink: float) -> None:
    """<|h - kink|>, h = m + N(0, 1/M) at beta = 1: of every m the mean of a folded normal distribution."""
    nodes = Bath(PAIR, sites).nodes(1.0, kink=kink)
    m, p = solvable.curie_weiss(sites, 1.0).magnetization() if sites > 1 else (np.array([-1.0, 1.0]), [0.5, 0.5])
    z = (m - kink) * sites**0.5
    folded = math.sqrt(2 / math.pi) * np.exp(-z * z / 2) + z * (2 * ndtr(z) - 1)
    assert nodes.weights @ np.abs(nodes.h - kink) == pytest.approx(p @ folded / sites**0.5, rel=1e-13)
    assert nodes.log_partition == pytest.approx(Bath(PAIR, sites).nodes(1.0).log_partition, rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("sites", [1, 3])
@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e4, 1e6])
def test_no_narrow_mode_of_a_bath_is_lost(sites: int, beta: float) -> None:
    """Z_M is a sum over the configurations of the sites."""
    y, p = np.array([1.0, -1.0, 0.2]), np.array([0.5, 0.3, 0.2])
    bath = Bath(ft.Ensemble(y[:, None], np.log(p)), sites)
    which = np.array(list(itertools.product(range(3), repeat=sites)))
    want = np.log((p[which].prod(1) * np.exp(-beta / 2 * sites * y[which].var(1))).sum())
    assert bath.nodes(beta).log_partition == pytest.approx(want, rel=1e-12, abs=1e-12)
    if beta >= 1e4:
        field = bath.sample(beta, 4000).field
        assert (np.abs(field - y) < 0.1).mean(0) == pytest.approx(p**sites / (p**sites).sum(), abs=0.03)


@pytest.mark.parametrize("law", [PAIR, solvable.gaussian(1.0), solvable.gaussian_mixture([[2.0], [-1.0]], 0.5)])
def test_one_site_is_the_diffusing_particle(law: Any) -> None:
    nodes = Bath(law, 1).nodes(0.8)
    assert nodes.log_partition == pytest.approx(0, abs=1e-12)
    assert nodes.weights @ nodes.h == pytest.approx(float(law.data_mean[0]), abs=1e-11)
    spread = nodes.weights @ (nodes.h - law.data_mean[0]) ** 2
    assert spread == pytest.approx(law.data_variance + 1 / 0.8, rel=1e-11)


def test_fields_in_one_dimension_are_drawn_exactly() -> None:
    """Kolmogorov's distance to the exact distribution, of means smoothed by a Gaussian."""
    sites, beta, n = 30, 1.1, 20000
    h = np.sort(Bath(PAIR, sites).sample(beta, n, seed=1).field[:, 0])
    m, p = solvable.curie_weiss(sites, beta).magnetization()
    cdf = ndtr((h[:, None] - m) * np.sqrt(sites * beta)) @ p
    assert np.abs(cdf - (np.arange(n) + 0.5) / n).max() < 1.63 / np.sqrt(n)  # 1 %


def test_few_fields_of_a_bath_are_of_any_of_its_particles() -> None:
    class Numbered(solvable.Gaussian):
        def draw(self, n: int, seed: int = 0) -> Any:
            return np.arange(n)[:, None] * np.ones(2)

    unit = solvable.gaussian([1.0, 1.0])
    bath = Bath(Numbered(unit.centre, unit.values, unit.vectors), 1)
    assert len({round(bath.sample(1e6, 1, seed).field[0, 0]) for seed in range(64)}) == 8


@pytest.mark.parametrize("dimension", [2, 10])
@pytest.mark.parametrize("sites", [1, 50])
def test_annealed_bath_of_gaussian_data(dimension: int, sites: int) -> None:
    """log Z_M = (1 - M) sum log(1 + beta lambda) / 2, h ~ N(0, (lambda + 1/beta)/M)"""
    values, beta = np.linspace(0.5, 2, dimension), 0.7
    found = Bath(solvable.gaussian(values), sites).sample(beta, 2000, seed=2)
    want = (1 - sites) * np.log1p(beta * values).sum() / 2
    assert abs(found.log_partition - want) <= 3.5 * found.error + 1e-12
    assert found.error < 0.2
    variance = (values + 1 / beta) / sites
    z = (found.field**2 / variance).sum(1)
    assert abs(z.mean() / dimension - 1) < 8 * math.sqrt(2 / dimension / 2000)


def test_annealed_bath_of_a_triangle_keeps_the_weight_of_every_corner() -> None:
    sites, beta, q = 24, 2.2, 3
    law = solvable.simplex(q)
    y = law.means.numpy()
    counts = np.array([c for c in itertools.product(range(sites + 1), repeat=q) if sum(c) == sites])
    total = counts @ y
    log_w = gammaln(sites + 1) - gammaln(counts + 1).sum(1) - sites * math.log(q)
    log_w += beta / 2 * ((total**2).sum(1) / sites - sites)
    found = Bath(law, sites).sample(beta, 4000, seed=3)
    assert abs(found.log_partition - np.logaddexp.reduce(log_w)) <= 3.5 * found.error
    corner = (found.field @ y.T).argmax(1)
    assert np.abs(np.bincount(corner, minlength=3) / 4000 - 1 / 3).max() < 0.08


def test_bath_over_an_ensemble_is_that_of_its_law() -> None:
    states = np.array([[1.0], [-1.0]], np.float32)
    for ens in (ft.Ensemble(states), ft.Ensemble(torch.from_numpy(states))):
        assert Bath(ens, 50).nodes(1.2).log_partition == pytest.approx(Bath(PAIR, 50).nodes(1.2).log_partition)
        assert isinstance(Bath(ens, 50).sample(1.2, 10).field, torch.Tensor) == (not ens.numpy)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Bath(PAIR, 0), "sites: .*0"),
        (lambda: Bath(solvable.sphere(2), 3).nodes(1.0), "law: .*2"),
        (lambda: Bath(PAIR, 1e12).nodes(1e8), "sites, beta: "),
        (lambda: solvable.spherical_loads(0.0), "b: "),
        (lambda: AssociativeMemory(PAIR).retrieve(np.zeros(1), 1.0, max_steps=0), "max_steps: "),
        (lambda: AssociativeMemory(PAIR).retrieve(np.zeros(1), 1.0, tolerance=-1), "tolerance: wanted .* got -1"),
        (lambda: Bath(PAIR, 2).nodes(-1.0), "beta: wanted a finite positive number, got -1"),
        (lambda: Bath(solvable.gaussian([1.0, 2.0]), 2).sample(-1.0), "beta: wanted a finite positive number, got -1"),
    ],
)
def test_bad_arguments_are_refused_by_name(call: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def test_updates_of_a_memory_lower_its_energy_and_settle_on_a_pattern() -> None:
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(40, 32))
    memory = AssociativeMemory(ft.Ensemble(patterns))
    assert memory.load == pytest.approx(math.log(40) / 32)
    cue = patterns[:5] + 0.5 * rng.normal(size=(5, 32))
    energies = [memory.energy(cue, 2.0)]
    h = cue
    for _ in range(5):
        h = memory.update(h, 2.0)
        energies.append(memory.energy(h, 2.0))
    assert (np.diff(energies, axis=0) <= 1e-12).all()
    found = memory.retrieve(cue, 2.0)
    assert found.converged.all()
    np.testing.assert_allclose(found.field, patterns[:5], atol=1e-3)
    assert memory.retrieve(torch.from_numpy(cue[0]), 2.0).field.shape == (32,)


def test_a_memory_settles_on_single_precision_cues_as_on_double_ones() -> None:
    memory = AssociativeMemory(ft.Ensemble(np.random.default_rng(0).normal(size=(50, 8))))
    double, single = (memory.retrieve(np.ones((2, 8), dtype), 1.0) for dtype in (np.float64, np.float32))
    assert single.converged.all()
    assert single.steps == double.steps
    assert single.field.dtype == np.float32
    np.testing.assert_allclose(single.field, double.field, rtol=1e-6, atol=1e-6)


def test_an_unsettled_memory_says_so() -> None:
    found = AssociativeMemory(PAIR).retrieve(np.array([[0.5], [0.0]]), 1.0, max_steps=20)
    assert found.converged.tolist() == [False, True]
    assert found.residual[0] > 1e-3


def test_loads_of_a_spherical_memory() -> None:
    loads = solvable.spherical_loads(1.0)
    assert loads.overlap == pytest.approx(0.618033988749895, rel=1e-14)
    assert loads.condensation == pytest.approx(0.240605912529802, rel=1e-14)
    assert loads.retrieval == pytest.approx(0.622571923779907, rel=1e-14)


def test_a_spherical_memory_forgets_above_its_load() -> None:
    b, d = 0.5, 20
    load = solvable.spherical_loads(b).retrieval
    shares = []
    for size in (int(np.exp(f * load * d)) for f in (0.4, 0.8, 1.25)):
        y = solvable.sphere(d, np.sqrt(d)).draw(size, seed=1)
        ens = ft.Ensemble(y)
        own = np.arange(min(size, 20))
        shares.append(np.median(1 / (1 + np.exp(-ens.log_odds(own, y[own], b)))))
    assert shares[0] > 0.8 > 0.2 > shares[2]
    assert shares[0] > shares[1] > shares[2]
