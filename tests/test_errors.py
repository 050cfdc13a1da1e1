"""Every bad input is refused at the door, by the name of the argument."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

import fastthermo as ft

STATES = np.random.default_rng(0).normal(size=(6, 3))
ENS = ft.Ensemble(STATES)
H = np.zeros((4, 3))
TORCH, ROWS = ft.Ensemble(torch.from_numpy(STATES)), torch.ones(4, 3, dtype=torch.float64)


def nan_at(array: np.ndarray, *place: int, value: float = np.nan) -> np.ndarray:
    out = array.copy()
    out[place] = value
    return out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"states": np.zeros(3)}, r"states: wanted shape \(N, D\).*\(3,\)"),
        ({"states": np.zeros((0, 3))}, r"states: .*\(0, 3\)"),
        ({"states": np.zeros((3, 0))}, r"states: .*\(3, 0\)"),
        ({"states": 1.0}, "states: "),
        ({"states": nan_at(STATES, 4, 1)}, r"states: .*nan at \[4, 1\]"),
        ({"states": nan_at(STATES, 5, 0, value=-np.inf)}, r"states: .*-inf at \[5, 0\]"),
        ({"states": nan_at(np.zeros((5000, 2)), 4500, 1)}, r"states: .*nan at \[4500, 1\]"),
        ({"states": nan_at(np.zeros((3, 2, 2)), 2, 1, 0)}, r"states: .*nan at \[2, 1, 0\]"),
        ({"states": 1e160 * STATES}, r"states: wanted numbers whose squares are finite, got .*e\+1\d\d at \[0, 0\]"),
        ({"log_weights": np.zeros(5)}, r"log_weights: wanted shape \(6,\).*\(5,\)"),
        ({"log_weights": np.zeros((6, 1))}, "log_weights: "),
        ({"log_weights": 0.0}, "log_weights: "),
        ({"log_weights": nan_at(np.zeros(6), 2)}, "log_weights: .*nan at 2"),
        ({"log_weights": nan_at(np.zeros(6), 3, value=np.inf)}, "log_weights: .*inf at 3"),
        ({"log_weights": np.full(6, -np.inf)}, "log_weights: .*positive weight"),
        ({"scale": 0.0}, "scale: "),
        ({"scale": -1.0}, "scale: "),
        ({"scale": np.nan}, "scale: "),
        ({"scale": 1e-200}, "scale: wanted a positive number, from 1e-75 to 1e75, got 1e-200"),
        ({"scale": 1e100}, "scale: "),
        ({"scale": np.inf}, "scale: "),
        ({"shift": np.nan}, "shift: "),
        ({"shift": np.inf}, "shift: "),
        ({"shift": np.ones(3)}, r"shift: wanted one number .*\(3,\)"),
        ({"scale": np.ones(3)}, r"scale: wanted one number .*\(3,\)"),
    ],
)
def test_bad_ensembles(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ft.Ensemble(**{"states": STATES, **arguments})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"states": STATES.astype(complex)}, "states: "),
        ({"states": torch.zeros(3, 2, dtype=torch.complex64)}, "states: "),
        ({"states": np.array([["a", "b"]])}, "states: "),
        ({"states": np.array([[None, 1.0]])}, "states: "),
        ({"states": None}, "states: "),
        ({"states": np.ma.masked_greater(STATES, 0.5)}, "states: wanted numbers that all count"),
        ({"log_weights": ["a"] * 6}, "log_weights: "),
    ],
)
def test_ensembles_of_anything_but_real_numbers(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        ft.Ensemble(**{"states": STATES, **arguments})


QUERIES = {
    "boltzmann": lambda h, b: ft.boltzmann(ENS, h, b),
    "covariance": lambda h, b: ft.covariance(ENS, h, b),
    "cumulant": lambda h, b: ENS.cumulant(h, b, np.ones(3)),
    "top_weights": lambda h, b: ft.top_weights(ENS, h, b, 2),
    "log_odds": lambda h, b: ENS.log_odds(0, h, b),
    "susceptibility": lambda h, b: ft.susceptibility(ENS, h, b),
    "class_posterior": lambda h, b: ENS.split([0, 0, 0, 1, 1, 1]).class_posterior(h, b),
    "resolve": lambda h, b: ENS.split([0, 0, 0, 1, 1, 1]).resolve(h, b),
}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    ("field", "beta", "match"),
    [
        (np.zeros(4), 1.0, r"field: .*\(4,\)"),
        (np.zeros((4, 2)), 1.0, r"field: .*\(4, 2\)"),
        (0.0, 1.0, r"field: .*\(\)"),
        (nan_at(H, 2, 1), 1.0, "field: .*nan.* query 2, dimension 1"),
        (nan_at(H, 3, 0, value=np.inf), 1.0, "field: .*inf.* query 3, dimension 0"),
        (nan_at(H, 1, 2, value=-1e154), 1e-3, r"field: .* squares are finite, got -1e\+154 at query 1, dimension 2"),
        (H, np.ones(3), r"beta: .*\(4,\).*\(3,\)"),
        (H, np.ones((4, 1)), "beta: "),
        (H[0], np.ones(2), "beta: "),
        (H, 0.0, "beta: .*0.0"),
        (H, -2.0, "beta: .*-2.0"),
        (H, np.nan, "beta: .*nan"),
        (H, np.inf, "beta: .*inf"),
        (H, np.array([1.0, 1.0, 0.0, 1.0]), "beta: .*query 2"),
    ],
)
def test_bad_queries(query: str, field: Any, beta: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        QUERIES[query](field, beta)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    ("field", "beta", "match"),
    [
        (H.astype(complex), 1.0, "field: "),
        (np.full((4, 3), "x"), 1.0, "field: "),
        (None, 1.0, "field: "),
        (H, 1j, "beta: "),
        (H, "cold", "beta: "),
        (H, None, "beta: "),
    ],
)
def test_queries_of_anything_but_real_numbers(query: str, field: Any, beta: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        QUERIES[query](field, beta)


@pytest.mark.parametrize("k", [0, 7, -1, 1.5, "2", True])
def test_bad_numbers_of_weights(k: Any) -> None:
    with pytest.raises(ValueError, match="k: "):
        ENS.top_weights(H, 1.0, k)


def test_numbers_of_weights_may_be_integers_of_numpy() -> None:
    assert ENS.top_weights(H, 1.0, np.int64(2))[0].shape == (4, 2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ENS.cumulant(H, 1.0), "probes: "),
        (lambda: ENS.cumulant(H, 1.0, H, H, H), "probes: "),
        (lambda: ENS.cumulant(H, 1.0, np.ones(2)), "probe: "),
        (lambda: ENS.cumulant(H, 1.0, np.ones((3, 3))), "probe: "),
        (lambda: ft.boltzmann(ENS, H, 1.0, precision="half"), "precision: .*'half'"),
        (lambda: ft.boltzmann(ENS, H, 1.0, backend="jax"), "backend: .*'jax'"),
        (lambda: ft.boltzmann(ENS, H, 1.0, rtol=0.0), "rtol: "),
        (lambda: ft.boltzmann(ENS, H, 1.0, rtol=-1.0), "rtol: "),
        (lambda: ENS.log_odds(6, H, 1.0), "index: "),
        (lambda: ENS.log_odds(-1, H, 1.0), "index: "),
        (lambda: ENS.log_odds([0, 1], H, 1.0), "index: "),
        (lambda: ENS.log_odds([0, 1, 2, 3.5], H, 1.0), "index: wanted 4 integers"),
        (lambda: ft.posterior(ENS, ft.EDM(), H, [0.1, 0.2]), r"t: wanted a scalar or shape \(4,\).*\(2,\)"),
        (lambda: ft.posterior(ENS, ft.EDM(), H[:, :2], 0.1), r"x: wanted shape .*\(4, 2\)"),
        (lambda: ft.posterior(ENS, ft.EDM(), H * np.nan, 0.1), "x: wanted finite numbers, got nan at query 0"),
        (lambda: ENS.principal(0), "k: wanted an integer from 1 to 3"),
        (lambda: ENS.principal(4), "k: wanted an integer from 1 to 3"),
        (lambda: ft.solvable.two_deltas(1.0).principal(2), "k: wanted an integer from 1 to 1"),
        (lambda: ft.fixed_points(ENS, 1.0, n=0), "n: wanted an integer of at least 1"),
        (lambda: ft.fixed_points(ENS, 1.0, tolerance=-1), "tolerance: .*-1"),
        (lambda: ft.fixed_points(ENS, 1.0, newton_starts=-1), "newton_starts: wanted .* at least 0, got -1"),
        (lambda: ft.transition(ENS, temperatures=0), "temperatures: wanted .* at least 1, got 0"),
        (lambda: ft.transition(ENS, n=0), "n: wanted .* at least 1, got 0"),
        (lambda: ft.symmetry_breaking(ENS.split(range(6)), temperatures=0), "temperatures: wanted .* got 0"),
        (lambda: ft.bifurcation_diagram(ENS, (1.0, 2.0), temperatures=0), "temperatures: wanted .* got 0"),
        (lambda: ft.bifurcation_diagram(ENS, (2.0,)), r"betas: wanted 0 < low < high, got \(2.0,\)"),
        (lambda: ft.follow(ENS, H, 1.0, (0.5, 2.0)), "point: wanted one point, got 4"),
        (lambda: ft.follow(ENS, H[0], 1.0, 2.0), "betas: wanted 0 < low < high, got 2.0"),
        (lambda: ft.sampled_committor(ENS, ft.EDM(), H[0], 0.5, len, n=1), "n: wanted .* at least 2, got 1"),
        (lambda: ft.lyapunov(ENS, ft.EDM(), H, 1.0, 0.5, k=1.5), "k: wanted an integer .* got 1.5"),
        (lambda: ft.lyapunov(ENS, ft.EDM(), H, 1.0, 0.5, steps=0), "steps: wanted .* got 0"),
        (lambda: ft.critical_windows(ENS.split(range(6)), ft.EDM(), times=1), "times: wanted .* at least 2 .* got 1"),
        (lambda: ft.entropy_rate_peaks(ENS, ft.EDM(), times=4), "times: wanted .* at least 5 .* got 4"),
        (lambda: ft.manifold_dimension(ENS, ft.EDM(), []), r"t: wanted .*\(0,\)"),
        (
            lambda: ft.regimes.condensation_spectrum(ENS, 1, size=1),
            "size: wanted more than one state, finitely many, got 1",
        ),
        (lambda: ft.clone_samples(ENS, ft.EDM(), 0.5, 2, scheme="heun"), "scheme: wanted one with noise.*'heun'"),
        (lambda: ft.same_class(ENS.split(range(6)), ft.EDM(), H, H[:1]), r"b: wanted .*\(4, 3\), got \(1, 3\)"),
        (lambda: ft.exponents.houdayer_hartmann([0, 1], [0, 1], [1, 1], [1, 2]), "x: wanted .* got none"),
        (
            lambda: ft.exponents.houdayer_hartmann([0, 1], [0, 1], [1, 1], [2, 2]),
            "size: wanted at least 2 sizes, got 1",
        ),
        (lambda: ft.exponents.power_law([1, 2], [1, 2], 0.1, correction=0), "correction: wanted .* got 0"),
        (lambda: ft.exponents.power_law([1, 2], [1, 2], -0.1), "y_error: wanted .* got -0.1"),
        (lambda: ft.solvable.ising(np.zeros((2, 2)), np.nan), "K: wanted a finite number, got nan"),
        (lambda: ft.potential_slice(ENS, H[0], H[0] + 1, 1.0, 1.0, n=0), "n: wanted .* at least 2, got 0"),
        (lambda: ft.free_energy_difference(ENS, H, 1.0, tolerance=np.nan), "tolerance: wanted .* got nan"),
        (lambda: ft.free_energy_difference(ENS, H, 1.0, tolerance=-1), "tolerance: wanted .* got -1"),
        (lambda: ft.free_energy_difference(ENS, H, 1.0, max_evaluations=0), "max_evaluations: wanted .* got 0"),
        (lambda: ft.EDM().decreasing("times", [0.1, 0.2]), r"times: wanted .*, got \[0.1 0.2\]"),
        (lambda: ft.potential_slice(ENS, H[0], H[0], 1.0, 1.0), "directions: .*got 0 throughout"),
        (lambda: ft.potential_slice(ENS, H[0], H[0] + 1, 1.0, 0.0), "extent: "),
        (lambda: ft.exponents.binder_ratio(-1, 1), "m2: wanted .*-1"),
        (lambda: ft.noised(ENS, ft.EDM(), [0.1, 0.2], H), r"t: wanted one time .*\(2,\)"),
        (lambda: ft.mutual_information(ENS, ft.EDM(), [[0.5]]), r"t: wanted .*\(1, 1\)"),
        (lambda: ft.mutual_information(ENS, ft.EDM(), []), r"t: wanted .*\(0,\)"),
        (lambda: ft.memorisation_gap(ENS, ft.EDM(), []), r"t: wanted .*\(0,\)"),
        (lambda: ft.class_posteriors(ENS.split([0, 0, 0, 1, 1, 1]), ft.EDM(), []), r"t: wanted .*\(0,\)"),
        (lambda: ft.log_likelihood(ENS, ft.EDM(), 0.5, H[:1]), "data: wanted at least 2"),
        (lambda: ENS.log_odds([True, False, True, True], H, 1.0), "index: wanted 4 integers"),
        (lambda: ENS.mean(H, torch.ones((), requires_grad=True)), "beta: .*no gradient .*: answers are NumPy"),
        (lambda: ft.sample(TORCH, ft.EDM(), x_start=ROWS.clone().requires_grad_(), steps=2), "x_start: .*no gradient"),
        (lambda: vmap(lambda h: TORCH.top_weights(h, 1.0, 2)[0])(ROWS), "field: .*torch.func.*values only"),
        (lambda: grad(lambda b: TORCH.top_weights(ROWS, b, 2)[0].sum())(ROWS[0, 0]), "beta: .*torch.func"),
        (lambda: vmap(lambda i: TORCH.log_odds(i, ROWS[0], 1.0))(torch.arange(3)), "index: .*torch.func"),
        (lambda: grad(lambda y: ft.noised(TORCH, ft.EDM(), 0.5, y).sum())(ROWS), "y: .*torch.func"),
        (lambda: grad(lambda x: ft.sample(TORCH, ft.EDM(), x_start=x, steps=2).sum())(ROWS), "x_start: .*torch.func"),
        (lambda: ft.ops.normal(2, 3, -1, 0, 0), "seed: wanted an integer from 0"),
        (lambda: ft.ops.normal(2, 3, 0, 2**32, 0), "step: wanted an integer from 0"),
        (lambda: ft.noised(ENS, ft.EDM(), 0.1, H, first_sample=2**32 - 3), r"first_sample: .* to 2\*\*32 - 4"),
        (lambda: ft.posterior(ENS, ft.EDM(), H, torch.ones((), requires_grad=True)), "t: .*no gradient"),
        (lambda: ft.Ensemble(torch.zeros(2, 3)).boltzmann(torch.zeros(3, device="meta"), 1.0), "field: .*cpu.*meta"),
    ],
)
def test_bad_options(call: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    "ask",
    [
        lambda name: ft.noised(ENS, name, 0.5, H),
        lambda name: ft.class_posteriors(ENS.split(range(6)), name, 0.5),
        lambda name: ft.regimes.total_variation(ENS.split(range(6)), name, 0.5),
        lambda name: ft.jacobian_spectrum(ENS, name, 0.5),
        lambda name: ft.regimes.score_singular_values(ENS, name, 0.5),
        lambda name: ft.manifold_dimension(ENS, name, 0.5),
        lambda name: ft.log_likelihood(ENS, name, 0.5, H),
        lambda name: ft.mutual_information(ft.solvable.gaussian(1.0), name, 0.5),
        lambda name: ft.entropy_rate_peaks(ENS, name),
        lambda name: ft.condensation_time(ENS, name),
        lambda name: ft.lyapunov(ENS, name, H, 1.0, 0.5),
    ],
)
def test_the_name_of_a_process_is_refused_where_a_process_is_wanted(ask: Any) -> None:
    with pytest.raises(TypeError, match=r"process: wanted one such as .*, got 'vp'"):
        ask("vp")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ft.sample("digits", ft.EDM(), 3), "denoiser: wanted an Ensemble, .* got str"),
        (lambda: ft.noised("digits", ft.EDM(), 0.5, H), "law: wanted an Ensemble, .* got str"),
        (lambda: ft.posterior(STATES, ft.EDM(), H, 0.1), "law: wanted an Ensemble .* got ndarray"),
        (lambda: ft.posterior(ENS, ft.EDM(), H + 1j, 0.1), "x: wanted an array of real numbers, .*complex128"),
        (lambda: ft.posterior(ENS, ft.EDM(), H.astype(str), 0.1), "x: wanted an array of real numbers"),
        (lambda: ft.posterior(ENS, ft.EDM(), np.ma.masked_less(H, 9), 0.1), "x: .*got a masked array"),
        (lambda: ft.posterior(ENS, ft.EDM(), H, "0.1"), "t: wanted real numbers"),
        (lambda: ft.committor(ENS, H, 1.0), r"classes: wanted .* ens.split\(labels\), got Ensemble"),
    ],
)
def test_what_has_no_answer_is_named(call: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        call()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    with pytest.raises(TypeError, match=r"states: wanted a dense tensor .* got a nested one"):
        ft.Ensemble(torch.nested.nested_tensor([torch.eye(2)] * 3))


def test_a_process_is_not_its_name() -> None:
    with pytest.raises(TypeError, match="process: wanted one such as"):
        ft.posterior(ENS, "edm", H, 0.1)  # type: ignore[arg-type]
