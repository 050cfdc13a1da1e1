"""Branches through folds, diagrams of them, trees of classes."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import fastthermo as ft
from fastthermo.datasets import load
from fastthermo.plot import bifurcation_figure, tree_figure

PAIR = ft.Ensemble(np.array([[1.0], [-1.0]]))


def test_a_branch_goes_around_its_fold() -> None:
    law = ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([0.6, 0.4]))
    branch = ft.follow(law, np.array([-0.93]), 2.0, (0.5, 5.0))
    assert branch.complete
    assert 1 / branch.fold_beta == pytest.approx([0.670403655972315], rel=1e-13)
    assert branch.fold_points[0] == pytest.approx([-0.574104819721699], rel=1e-9)
    assert branch.beta[[0, -1]] == pytest.approx(5.0, rel=1e-14)
    residual = ft.boltzmann(law, branch.points, branch.beta).force
    assert np.abs(residual).max() < 1e-12


def test_no_branch_goes_through_what_is_no_fixed_point() -> None:
    ens = ft.Ensemble(np.random.default_rng(0).normal(size=(6, 3)))
    with pytest.raises(ValueError, match=r"point: wanted one near a fixed point at beta = 1, got .* = 88.8"):
        ft.follow(ens, np.array([100.0, 0, 0]), 1.0, (0.5, 2.0))


@pytest.mark.parametrize("states", [np.ones((1, 2)), np.full((3, 2), 0.1)])
def test_data_that_do_not_vary_have_no_tree(states: np.ndarray) -> None:
    with pytest.raises(ValueError, match="classes: wanted data that vary"):
        ft.symmetry_breaking(ft.Ensemble(states).split(np.arange(len(states))))


def test_stability_changes_at_the_fold_and_nowhere_else() -> None:
    law = ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([0.6, 0.4]))
    branch = ft.follow(law, np.array([-0.93]), 2.0, (0.5, 5.0))
    change = np.flatnonzero(np.diff(branch.index))
    assert len(change) == 1
    stable = np.flatnonzero(branch.stable)
    assert branch.fold.sum() == 1
    assert np.flatnonzero(branch.fold)[0] in (stable[0], stable[-1])
    assert branch.gain[branch.fold] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("beta", [0.8, 2.0, 5.0])
def test_a_branch_ends_at_the_ends_of_its_range_wherever_it_is_entered(beta: float) -> None:
    law = ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([0.6, 0.4]))
    found = ft.fixed_points(law, beta, n=8).points[0]
    branch = ft.follow(law, found, beta, (0.8, 5.0))
    assert branch.complete
    assert sorted(branch.beta[[0, -1]]) == pytest.approx([0.8, 5.0], rel=1e-14)
    assert (np.diff(branch.beta) > 0).all() or (np.diff(branch.beta) < 0).all()
    assert np.abs(ft.boltzmann(law, branch.points, branch.beta).force).max() < 1e-12


def test_a_diagram_has_every_branch_once() -> None:
    branches = ft.bifurcation_diagram(PAIR, (0.5, 4.0), temperatures=4)
    ends = sorted(
        round(float(p[0]), 6) for b in branches for p, beta in zip(b.points, b.beta, strict=True) if beta > 3.9
    )
    assert any(e > 0.99 for e in ends)
    assert any(e < -0.99 for e in ends)
    assert len(branches) <= 3
    assert isinstance(bifurcation_figure(branches), Figure)


@pytest.mark.parametrize(("seed", "shape"), [(3, (24, 6)), (5, (60, 12))])
def test_no_branch_is_found_twice_and_none_goes_over_to_another(seed: int, shape: tuple[int, int]) -> None:
    """Along a curve of data without symmetries the index changes by one where s turns, and nowhere else."""
    ens = ft.Ensemble(np.random.default_rng(seed).normal(size=shape))
    branches = ft.bifurcation_diagram(ens, (0.3, 3.0 if shape[1] == 6 else 1.0), temperatures=2, n=32)
    for branch in branches:
        index = np.where(branch.fold[:-1], branch.index[1:], branch.index[:-1])
        assert len(np.unique((-1.0) ** index * np.sign(np.diff(branch.beta)))) == 1
    folds = np.concatenate([branch.fold_points for branch in branches])
    assert len(folds) > 10
    assert len(np.unique(folds.round(6), axis=0)) == len(folds)


@pytest.mark.parametrize("p", [0.500001, 0.5001])
def test_branches_that_almost_meet_are_not_mixed_up(p: float) -> None:
    """Where no symmetry is exact stability changes at folds alone, and the hot phase is that of the heavier state."""
    branches = ft.bifurcation_diagram(ft.Ensemble(np.array([[1.0], [-1.0]]), np.log([p, 1 - p])), (0.5, 4.0), n=64)
    pair, single = sorted(branches, key=lambda branch: len(branch.fold_beta), reverse=True)
    assert [len(branch.fold_beta) for branch in (pair, single)] == [1, 0]
    assert np.count_nonzero(np.diff(pair.index)) == 1
    assert pair.points.max() < 0 < single.points.min()
    assert (single.index == 0).all()


def test_networks_of_single_precision_have_the_branches_and_the_transition_of_their_data() -> None:
    law = ft.Ensemble(torch.tensor([[1.0], [-1.0]], dtype=torch.float64), np.log([0.6, 0.4]))
    process = ft.VarianceExploding(t_min=0.01, t_max=100.0)

    def network(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return law.mean(x, sigma.double() ** -2)

    model = ft.wrap(network, "mean", process, "sigma", law=law, dtype=torch.float32)
    fold = 1 / 0.670403655972315
    found = ft.transition(model, (0.5, 4.0), n=64)
    assert found.kind == "saddle-node"
    assert found.beta == pytest.approx(fold, rel=2e-6)
    branches = ft.bifurcation_diagram(model, (0.5, 4.0), temperatures=4, n=64)
    assert [branch.complete for branch in branches] == [True, True]
    assert np.concatenate([branch.fold_beta for branch in branches]) == pytest.approx([fold], rel=2e-6)


def test_networks_are_followed_to_the_ends_of_their_process() -> None:
    law = ft.Ensemble(torch.tensor([[1.0], [-1.0]], dtype=torch.float64), np.log([0.6, 0.4]))
    process = ft.VarianceExploding(t_min=0.5, t_max=2.0)
    model = ft.wrap(lambda x, sigma: law.mean(x, sigma.double() ** -2), "mean", process, "sigma", law=law)
    branches, exact = (ft.bifurcation_diagram(x, process.beta_range, temperatures=2, n=16) for x in (model, law))
    for branch, want in zip(branches, exact, strict=True):
        assert branch.complete
        assert branch.beta[[0, -1]] == pytest.approx(want.beta[[0, -1]], rel=1e-12)
        assert branch.fold_beta == pytest.approx(want.fold_beta, rel=1e-9)
    for betas in (process.beta_range, None):
        assert ft.transition(model, betas, n=16).beta == pytest.approx(exact[-1].fold_beta[0], rel=1e-9)


def test_two_pairs_of_classes_part_first_between_and_then_within() -> None:
    states = np.array([[4.0, 1.0], [4.0, -1.0], [-4.0, 1.0], [-4.0, -1.0]])
    tree = ft.symmetry_breaking(ft.Ensemble(states).split(np.arange(4)), (0.02, 5.0))
    assert tree.groups(0.5) == [(0, 1), (2, 3)]
    assert tree.split_beta[0, 2] == pytest.approx(1 / 16, rel=1e-3)
    assert tree.split_beta[0, 1] == pytest.approx(1, rel=1e-3)
    assert tree.linkage[:, 2] == pytest.approx([1, 1, 16], rel=1e-3)


def test_digits_that_look_alike_stay_together_longest() -> None:
    """On the real data 0, 6 and 4 leave first; 5 and 9, then 3 and 8, stay together to the last."""
    data = load("digits")
    tree = ft.symmetry_breaking(data.ensemble().split(data.labels), (0.3, 1.0), temperatures=16)
    assert tree.groups(0.3)[0] == tuple(range(10))
    early = set(tree.groups(0.42)[0])
    assert early.isdisjoint({0, 6})
    assert {3, 5, 8, 9} <= early
    assert len(tree.groups(1.0)) == 10
    assert isinstance(tree_figure(tree), Figure)
