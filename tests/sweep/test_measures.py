"""What sweeps measure, against what is known: exponents, finite sizes, critical times, averages along time."""

import math
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from fastthermo import Ensemble, critical_time, solvable, sweep
from fastthermo.process import OrnsteinUhlenbeck, VariancePreserving
from fastthermo.sweep import Grid, measures
from fastthermo.sweep.bath import BathScaling
from fastthermo.sweep.measures import Watch
from fastthermo.sweep.models import Case, CurieWeiss, Data, Gaussian, Hypercube, Mixture, Simplex, Sphere, TwoDeltas
from fastthermo.sweep.times import Averages, Times
from fastthermo.sweep.transition import Transition


def found(grid: Grid, path: Path) -> dict[tuple[str, int], sweep.Found]:
    return {(str(case), one.size): one for case, one in sweep.found(sweep.run(grid, path))}


def test_exponents_are_mean_field_in_every_family_with_a_continuous_transition(tmp_path: Path) -> None:
    models = (TwoDeltas((2.0,)), Sphere((2, 100)), CurieWeiss((10,)), Mixture((2.0,), (1.0,), (4,)))
    rows = found(Grid((*models, Simplex((3,)), Gaussian((2,)))), tmp_path / "x.zarr")
    *pitchforks, simplex, gaussian = rows.values()
    for one in pitchforks:
        assert one.kind == "pitchfork"
        assert len(one.quantities) == len(Transition.columns)
        for name, quantity in one.quantities.items():
            assert abs(quantity.value - quantity.expected) < 3 * quantity.error, name
            assert quantity.error < 1e-3
    assert "first order" in simplex.reason
    assert "no gain passes 1" in gaussian.reason
    assert (simplex.kind, gaussian.kind) == ("none", "none")
    assert "no continuous transition: no gain passes 1" in sweep.show(tmp_path / "x.zarr")


def test_pairs_of_classes_have_exponents_where_mirror_images_make_them_symmetric(tmp_path: Path) -> None:
    grid = Grid((Data(("digits",), ((3, 8),), mirror=(False, True)),))
    plain, mirrored = found(grid, tmp_path / "x.zarr").values()
    assert (plain.kind, mirrored.kind) == ("none", "pitchfork")
    for quantity in mirrored.quantities.values():
        assert quantity.value == pytest.approx(quantity.expected, abs=max(1e-4, 3 * quantity.error))


def test_a_table_tells_what_was_not_fitted_or_passed_from_what_has_no_transition(tmp_path: Path) -> None:
    measure = Transition((0.05, 0.5, 5))
    shown = sweep.show(sweep.run(Grid((TwoDeltas(), Gaussian((2,))), measure, (1,)), tmp_path / "x.zarr")).splitlines()
    assert "not fitted: " in shown[2]
    assert shown[2].endswith("(all in `export`)")
    assert len(shown[2]) < 200
    assert "no continuous transition: no gain passes 1" in shown[3]
    times = Grid((TwoDeltas(),), Times(queries=8), (2,), observables=("collapse", "window"))
    text = sweep.show(sweep.run(times, tmp_path / "y.zarr"))
    assert "2 not passed: collapse, window" in text
    assert "transition" not in text


def test_a_table_and_its_exports_count_the_seeds_that_a_quantity_is_of(tmp_path: Path) -> None:
    grid = Grid((TwoDeltas(),), Times(queries=8), (2, 3), 4)
    out = sweep.run(grid, tmp_path / "x.zarr")
    critical = sweep.dataset(out)["critical"].to_numpy()[0, ..., 0]
    counts = np.isfinite(critical).sum(1)
    some = int(counts[0])
    assert 0 < some < 4
    assert sweep.table(out)[0]["critical_seeds"] == some
    assert f"({some} of 4)" in sweep.show(out)
    part = Grid((TwoDeltas(),), Transition((0.05, 0.5, 8)), (2000,), 6, cells_per_task=2)
    assert "(4 of 6)" in sweep.show(sweep.run(part, tmp_path / "part.zarr", shard=(0, 2)))
    assert " of 6)" not in sweep.show(sweep.run(part, tmp_path / "part.zarr"))


def test_the_bath_collapses_with_mean_field_exponents(tmp_path: Path) -> None:
    grid = Grid((TwoDeltas((0.5,)), Mixture((2.0,)), Gaussian((1,))), BathScaling(), (1024, 4096, 16384, 65536))
    *pitchforks, none = found(grid, tmp_path / "x.zarr").values()
    for one in pitchforks:
        for name in ("critical", "inverse_nu", "kappa", "binder"):
            quantity = one.quantities[name]
            assert abs(quantity.value - quantity.expected) < 2 * quantity.error, name
        assert one.quantities["inverse_nu"].error < 0.02
        assert one.collapse.quality < 2
    assert none.kind == "none"


def test_sampled_baths_agree_with_exact_ones() -> None:
    """The sphere in one dimension is two deltas; its sequential Monte Carlo is that of any dimension."""
    law, sizes = solvable.two_deltas(1.0), (256,)
    exact = BathScaling((-1.0, 1.0, 5)).measure(
        Case("two_deltas", (("mu", 1.0), ("p", 0.5))), 256, [1], Watch("exact", None)
    )
    bath = solvable.Bath(solvable.gaussian_mixture([[1.0, 0.0], [-1.0, 0.0]], 0.0), sizes[0])
    betas = 1 / (1 - np.linspace(-1, 1, 5) / 16)
    sampled = np.array([np.abs(bath.sample(b, 4096, 3).field[:, 0]).mean() for b in betas])
    np.testing.assert_allclose(sampled, exact[0][0, 0], rtol=0.06)
    assert exact[1] == pytest.approx(1)
    assert law.dimension == 1


def test_moments_of_a_bath_in_one_dimension_are_exact() -> None:
    """h = m + N(0, 1/(M beta)), m the magnetisation of a Curie-Weiss model: of every m a folded normal distribution."""
    case, sites = Case("two_deltas", (("mu", 1.0), ("p", 0.5))), 16
    scaling = BathScaling((-2.0, 2.0, 5))
    (rows,), _ = scaling.measure(case, sites, [1], Watch("exact", None))
    for beta, order, second in zip(1 / (1 - scaling.points / 4), rows[0], rows[1], strict=True):
        m, p = solvable.curie_weiss(sites, beta).magnetization()
        width = (sites * beta) ** -0.5
        folded = width * math.sqrt(2 / math.pi) * np.exp(-((m / width) ** 2) / 2) + m * (2 * ndtr(m / width) - 1)
        assert order == pytest.approx(p @ folded, rel=1e-12)
        assert second == pytest.approx(p @ m**2 + width**2, rel=1e-12)


def test_moments_of_a_bath_are_of_the_direction_that_is_critical() -> None:
    """Of a mixture in more dimensions those that are not critical add nothing."""
    scaling = BathScaling((-1.0, 1.0, 3), particles=2048)
    line, many = (
        scaling.measure(Case("mixture", (("m", 1.5), ("v", 0.5), ("d", d))), 64, [1], Watch("exact", None))[0]
        for d in (1, 6)
    )
    np.testing.assert_allclose(many[0, 0], line[0, 0], rtol=0.06)


def test_condensation_of_samples_is_that_of_the_random_energy_model(tmp_path: Path) -> None:
    """s_cond = tr(Sigma) / (2 log N) for data of one length: corners of a cube exactly, Gaussians in high dimension."""
    sizes = (200, 2000)
    grid = Grid((Hypercube((64,)), Gaussian((64,))), Times("ou", 32), sizes, observables=("condensation",))
    rows = found(grid, tmp_path / "x.zarr")
    for size in sizes:
        temperature = 64 / (2 * math.log(size))
        assert temperature > 1 / OrnsteinUhlenbeck().beta_range[1]
        want = math.log1p(temperature) / 2  # s = e^2t - 1
        assert rows["hypercube(d=64)", size].quantities["condensation"].value == pytest.approx(want, rel=0.03)
        assert rows["gaussian(d=64, v=1.0)", size].quantities["condensation"].value == pytest.approx(want, rel=0.08)


def test_times_of_labelled_data_are_those_of_the_package(tmp_path: Path) -> None:
    grid = Grid((Data(("digits",), ((0, 1),)),), Times(queries=64), (0, 100), 2)
    whole, samples = found(grid, tmp_path / "x.zarr").values()
    law = Case("data", (("name", "digits"), ("classes", (0, 1)), ("pool", 1), ("mirror", False))).law()
    assert whole.quantities["critical"].value == critical_time(law, VariancePreserving())
    assert whole.quantities["collapse"].value < samples.quantities["collapse"].value  # fewer data collapse earlier
    assert whole.quantities["collapse"].value < whole.quantities["window"].value  # classes part before data do
    assert samples.quantities["speciation"].statistical > 0


def test_averages_along_time_of_gaussian_data_are_the_closed_forms(tmp_path: Path) -> None:
    times = (0.2, 1.0)
    grid = Grid((Gaussian((3,)),), Averages(times, "ou", 2000))
    rows = [one for _, one in sweep.found(sweep.run(grid, tmp_path / "x.zarr"))]
    assert [one.at for one in rows] == list(times)
    for t, one in zip(times, rows, strict=True):
        beta = float(OrnsteinUhlenbeck().beta(t))
        information, mmse = one.quantities["information"], one.quantities["mmse"]
        assert abs(information.value - 1.5 * math.log1p(beta)) < 4 * information.error
        assert mmse.value == pytest.approx(3 / (1 + beta))
    assert "t = 0.2" in sweep.show(tmp_path / "x.zarr")
    assert "   law " in sweep.show(tmp_path / "x.zarr")


def test_sums_are_asked_with_the_precision_and_backend_of_the_grid_and_their_bound_is_kept(tmp_path: Path) -> None:
    def bounds(**keys: object) -> tuple[np.ndarray, np.ndarray]:
        grid = Grid((Sphere((3,)),), Transition((0.05, 0.5, 5)), (300,), 2, **keys)  # type: ignore[arg-type]
        result = sweep.run_task(grid, 0)
        return result.values, result.scalars[:, sweep.SCALARS.index("error_bound")]

    values, exact = bounds()
    reference, plain = bounds(backend="reference")
    np.testing.assert_allclose(reference, values, rtol=1e-6)
    assert not np.array_equal(reference, values)
    assert (exact > 0).all()
    assert (exact < 1e-11).all()
    assert (plain > 0).all()
    assert (plain < 1e-11).all()
    closed = sweep.run_task(Grid((TwoDeltas(),)), 0).scalars[:, sweep.SCALARS.index("error_bound")]
    assert np.isnan(closed).all()


def test_critical_times_are_asked_with_the_backend_of_the_grid(tmp_path: Path) -> None:
    law = Case("data", (("name", "digits"), ("classes", (0, 1)), ("pool", 1), ("mirror", False))).law()
    with pytest.raises(ValueError, match=r"backend: .*nothing"):
        critical_time(Watch("exact", "nothing").law(law), VariancePreserving())


def test_a_gpu_can_be_locked_by_whoever_finds_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(uuid="one")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: cuda)
    monkeypatch.setattr(torch.cuda, "set_device", lambda i: None)
    held: list[Any] = []
    monkeypatch.setattr(measures, "_locks", held)
    before = os.umask(0o077)
    try:
        measures.gpu.__wrapped__()
        with pytest.raises(ValueError, match="none of them is free"):
            measures.gpu.__wrapped__()
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644
    assert [lock.mode for lock in held] == ["r"]
    held.pop().close()


def test_samples_of_a_data_set_are_without_replacement() -> None:
    case = Case("data", (("name", "digits"), ("classes", ()), ("pool", 1), ("mirror", False)))
    whole, labels = case.sample(0, 1)
    sample, some = case.sample(1000, 1)
    assert isinstance(sample, Ensemble)
    assert whole.size == len(labels) == 1797
    assert len(np.unique(sample.states.reshape(1000, -1), axis=0)) == len(some) == 1000
    assert sample.states.dtype == np.uint8
