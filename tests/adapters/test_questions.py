"""What is asked of a law is asked of a network: where the network is exact, the answers are those of the law."""

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft

PROCESS = ft.OrnsteinUhlenbeck()
LAW = ft.Ensemble(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.3]]).double(), torch.tensor([0.4, 0.4, 0.2]).log())


def score(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return ft.posterior(LAW, PROCESS, x, t).score


ALONE = ft.wrap(score, "score", PROCESS, shape=(2,))
KNOWN = ft.wrap(score, "score", PROCESS, law=LAW)
MODELS = pytest.mark.parametrize("model", [ALONE, KNOWN], ids=["alone", "with data"])


@MODELS
def test_fixed_points_and_their_kinds(model: Any) -> None:
    want, found = (ft.fixed_points(one, 4.0, n=24) for one in (LAW, model))
    assert found.index.tolist() == want.index.tolist()
    assert torch.cdist(found.points.double(), want.points.double()).min(1).values.max() < 1e-6


@MODELS
def test_branches_are_followed_through_the_same_points(model: Any) -> None:
    start = ft.fixed_points(LAW, 6.0, n=24)
    point = start.points[int(np.flatnonzero(start.stable)[0])]
    want, found = (ft.follow(one, point, 6.0, (2.0, 9.0)) for one in (LAW, model))
    assert found.complete == want.complete
    np.testing.assert_allclose(np.sort(found.fold_beta), np.sort(want.fold_beta), rtol=1e-4)
    for branch in (want, found):  # every point is one
        h, beta = branch.points.double(), torch.as_tensor(branch.beta)
        assert float((LAW.mean(h, beta) - h).abs().max()) < 1e-7


@MODELS
def test_slices_and_tangents(model: Any) -> None:
    origin, axis = torch.zeros(2).double(), torch.tensor([1.0, 0.5]).double()
    want, found = (ft.potential_slice(one, origin, axis, 3.0, 1.5, 31).free_energy for one in (LAW, model))
    np.testing.assert_allclose(found, want, atol=1e-7)
    x = torch.tensor([[0.3, 0.1], [-0.2, 0.4]]).double()
    want, found = (ft.lyapunov(one, PROCESS, x, 1.5, 0.1, 2, 32).log_growth for one in (LAW, model))
    np.testing.assert_allclose(found, want, atol=1e-6)


@MODELS
def test_the_same_noise_gives_the_same_runs(model: Any) -> None:
    classes = LAW.split(np.array([0, 1, 2]))
    y = LAW.draw(64, 0)

    def ends(one: Any) -> list[Any]:
        clones = ft.clone_samples(one, PROCESS, 0.4, 32, 24)
        return [ft.u_turn_samples(one, PROCESS, 0.4, y, 24), *clones]

    for want, found in zip(ends(LAW), ends(model), strict=True):
        assert torch.allclose(torch.as_tensor(found).double(), torch.as_tensor(want).double(), rtol=0, atol=1e-5)

    def classify(x: Any) -> Any:
        end = float(PROCESS.beta(PROCESS.t_min))
        return classes.class_posterior(x / float(PROCESS.alpha(PROCESS.t_min)), end)

    x = torch.tensor([0.2, 0.1]).double()
    want = ft.sampled_committor(LAW, PROCESS, x, 0.6, classify, 128, 48)
    found = ft.sampled_committor(model, PROCESS, x, 0.6, classify, 128, 48)
    np.testing.assert_allclose(found[0], want[0], atol=1e-5)
    exact = ft.committor(classes, x / float(PROCESS.alpha(0.6)), float(PROCESS.beta(0.6)))
    assert (abs(found[0] - np.asarray(exact)) <= 4 * found[1] + 0.03).all()


@MODELS
def test_models_are_pickled(model: Any) -> None:
    x = torch.tensor([[0.3, 0.1], [-0.2, 0.4]]).double()
    ft.susceptibility(model, x, 1.0).mv(x)  # what is cached stays here
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(x, 0.5).mean, model(x, 0.5).mean)
    for time in ("t", "1-t", "sigma", "log_snr", "step"):
        assert pickle.dumps(ft.wrap(score, "score", PROCESS, time, shape=(2,), check=False))
    scheduler = SimpleNamespace(config={"num_train_timesteps": 1000, "shift": 1.0})
    assert pickle.dumps(ft.adapters.diffusers(score, scheduler, shape=(2,), check=False))


# other landscapes


@MODELS
def test_the_field_term_moves_the_critical_point(model: Any) -> None:
    for strength in (0.7, 1.0, 1.4):
        want = ft.critical_time(ft.regularised(LAW, field=strength), PROCESS)
        changed = ft.regularised(model, field=strength)
        assert ft.critical_time(changed, PROCESS) == pytest.approx(want, rel=1e-6)
        beta = float(PROCESS.beta(want))
        gain = ft.susceptibility(LAW, LAW.data_mean, beta).leading(1)[0][0]
        assert float(gain) == pytest.approx(strength, rel=1e-6)


@pytest.mark.parametrize("model", [LAW, ALONE], ids=["law", "network"])
def test_responses_of_other_landscapes_are_the_derivatives_of_their_means(model: Any) -> None:
    changed = ft.regularised(model, field=0.8, smoothing=0.3, probes=4)
    h, v = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    chi = ft.susceptibility(changed, h, 2.0)
    step = 1e-6
    difference = (changed.mean(h + step * v, 2.0) - changed.mean(h - step * v, 2.0)) / (2 * step)
    assert torch.allclose(chi.mv(v), difference, atol=1e-7)
    assert torch.allclose((chi.dense() @ v[..., None])[..., 0], difference, atol=1e-7)
    assert torch.allclose(changed.mean(h, 2.0) - 0.2 * h, changed.average(h, 2.0))
    plain = ft.regularised(model)
    assert torch.equal(plain.mean(h, 2.0), model.mean(h, 2.0))


def test_a_wide_smoothing_leaves_the_mean_of_all_data() -> None:
    wide = ft.regularised(LAW, smoothing=1e3, probes=200)
    found = wide.average(torch.zeros(1, 2).double(), 1e3)
    corners = LAW.data().double()
    assert float(torch.cdist(found, corners).min()) > 0.3  # data are averaged, none is copied
    assert not hasattr(wide, "boltzmann")
    assert not hasattr(wide, "evolve")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"field": 0.0}, "field: wanted a finite positive number"),
        ({"smoothing": -1.0}, "smoothing: wanted a finite number of at least 0"),
        ({"probes": 3}, "probes: wanted an even number"),
    ],
)
def test_impossible_landscapes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ft.regularised(LAW, **options)
