"""Figures of sweeps tell their cases apart, over axes that fit what is drawn."""

import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastthermo.exponents import collapse
from fastthermo.plot.exponents import symbol
from fastthermo.plot.sweeps import sweep_figures
from fastthermo.sweep import Found
from fastthermo.sweep.measures import Quantity


def row(
    family: str, name: str, size: float, value: float, dimension: float = 64.0
) -> tuple[str, str, dict[str, float], Found]:
    found = Found(int(size), "times", "", {"speciation": Quantity("t (speciation)", value, 0.1)})
    return family, name, {"size": size, "dimension": dimension, "time": math.nan}, found


def drawn(rows: list[tuple[str, str, dict[str, float], Found]]) -> tuple[Axes, list[str]]:
    """The first panel, and the texts of the legend."""
    figure = sweep_figures(rows)["quantities"]
    return figure.axes[0], [text.get_text() for text in figure.legends[0].get_texts()]


def test_cases_of_a_family_at_the_same_places_have_marks_of_their_own() -> None:
    rows = [row("data", f"digits {pair}", size, 1.0) for pair in ("01", "17", "35") for size in (100.0, 300.0)]
    axis, names = drawn([*rows, row("gaussian", "d=2", 100.0, 1.0, 2.0)])
    assert names == ["digits 01", "digits 17", "digits 35", "gaussian", "size 100", "size 300"]
    lines = [container[0] for container in axis.containers]
    assert len({mpl.colors.to_hex(line.get_color()) for line in lines}) == 4
    assert len({line.get_marker() for line in lines}) == 4


def test_cases_that_stand_apart_or_are_too_many_share_the_mark_of_their_family() -> None:
    assert drawn([row("sphere", f"d={d}", 0.0, 1.0, d) for d in (2.0, 3.0)])[1] == ["sphere"]
    many = [row("data", f"case {i}", size, 1.0) for i in range(40) for size in (100.0, 300.0)]
    assert drawn(many)[1] == ["data"]


@pytest.mark.parametrize(("value", "scale"), [(math.nan, "linear"), (1.0, "log")])
def test_an_axis_is_logarithmic_for_the_span_of_what_is_drawn(value: float, scale: str) -> None:
    rows = [row("data", "digits", size, 1.0) for size in (100.0, 300.0)]
    axis, _ = drawn([*rows, row("data", "digits", 1e4, value)])
    assert axis.get_xscale() == scale


def test_a_sum_is_a_sign_and_not_three_letters() -> None:
    assert symbol("sum w^2") == r"\sum\,w^2"


def test_quantities_that_are_nowhere_finite_leave_empty_panels() -> None:
    axis, names = drawn([row("data", "digits", size, math.nan) for size in (100.0, 300.0)])
    assert not axis.containers
    assert names == []


def place(dimension: float) -> dict[str, float]:
    return {"size": 0.0, "dimension": dimension, "time": math.nan}


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.axison]


def test_panels_stand_at_most_four_a_row_under_titles_that_are_mathematics() -> None:
    symbols = ["beta", "gamma", "gamma'", "delta", "alpha", "z nu", "alpha (barrier)"]
    found = Found(0, "pitchfork", "", {name: Quantity(name, 1.0, 0.1) for name in symbols})
    axes = panels(
        sweep_figures([("sphere", "d=2", place(2.0), found), ("sphere", "d=3", place(3.0), found)])["quantities"]
    )
    assert [axis.get_subplotspec().get_geometry()[1] for axis in axes] == [4] * 7
    assert [axis.get_title(loc="left") for axis in axes] == [f"${symbol(name)}$" for name in symbols]
    assert symbol("alpha (barrier)") == r"\alpha\ \mathrm{(barrier)}"
    assert symbol("t (speciation)") == r"t\ \mathrm{(speciation)}"


@pytest.mark.parametrize("others", [(), (2.0, 3.0, 10.0)])
def test_cases_at_one_place_stand_side_by_side_about_it(others: tuple[float, ...]) -> None:
    rows = [row("two_deltas", f"mu={mu}", 0.0, 0.5, 1.0) for mu in range(3)]
    axis, names = drawn([*rows, *(row("sphere", f"d={d}", 0.0, 0.5, d) for d in others)])
    assert names[-3:] == ["mu=0", "mu=1", "mu=2"]
    left, middle, right = (container[0].get_xdata()[0] for container in axis.containers[:3])
    assert left < middle < right
    assert middle == pytest.approx(1)
    inches = axis.figure.dpi_scale_trans.inverted().transform(axis.transData.transform([(left, 0.5), (middle, 0.5)]))
    assert np.ptp(inches[:, 0]) > 3.5 / 72
    assert list(axis.get_xticks()) == [1.0, *others]


def test_what_is_not_drawn_is_named_in_a_note_with_the_reason() -> None:
    rows = [row("sphere", "d=2", 0.0, 1.0, 2.0)]
    rows += [("simplex", f"q={q}", place(2.0), Found(0, "none", "first order", {})) for q in (3, 4)]
    rows += [("gaussian", f"d={d}", place(d), Found(0, "none", "no transition", {})) for d in range(1, 10)]
    note = sweep_figures(rows)["quantities"].legends[0].get_title().get_text()
    assert note.replace("\n", " ") == "not drawn: q=3, q=4 (first order); 9 cases of gaussian (no transition)"


@pytest.mark.parametrize(
    ("sizes", "scale"), [((100.0, 300.0, 1000.0), "log"), ((100.0, 200.0, 300.0), "linear"), ((8.0, 16.0, 32.0), "log")]
)
def test_the_axis_of_geometric_sizes_is_logarithmic_with_ticks_at_the_sizes(
    sizes: tuple[float, ...], scale: str
) -> None:
    axis, _ = drawn([row("data", "digits", size, 1.0) for size in sizes])
    assert axis.get_xscale() == scale
    assert [text.get_text() for text in axis.get_xticklabels()] == [f"{size:g}" for size in sizes]


def test_sizes_at_one_dimension_have_marks_of_their_own_size_which_the_legend_names() -> None:
    sizes = (100.0, 300.0, 1000.0)
    rows = [row("gaussian", f"d={d}", size, 1.0, d) for d in (8.0, 16.0) for size in sizes]
    figure = sweep_figures(rows)["quantities"]
    over_dimension = next(axis for axis in panels(figure) if axis.get_xlabel() == "dimension")
    marks = [container[0] for container in over_dimension.containers]
    assert len({(mark.get_marker(), mark.get_markersize()) for mark in marks}) == 6
    handles = figure.legends[0].legend_handles[-3:]
    assert [handle.get_label() for handle in handles] == ["size 100", "size 300", "size 1000"]
    assert {handle.get_markersize() for handle in handles} == {mark.get_markersize() for mark in marks}


def test_collapses_name_their_sizes_and_the_order_parameter() -> None:
    size = np.repeat([64.0, 256.0, 1024.0], 9)
    control = 1 + np.tile(np.linspace(-2, 2, 9), 3) / size**0.5
    value = np.tile(np.exp(-np.linspace(-2, 2, 9)), 3) / size**0.25
    found = Found(0, "pitchfork", "", {"kappa": Quantity("kappa", 0.25)}, collapse(control, size, value, 0.01 * value))
    figure = sweep_figures([("mixture", "m=1", place(1.0), found)])["collapses"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$L = 64$", "$L = 256$", "$L = 1024$"]
    assert figure.axes[0].get_ylabel().startswith("order parameter")
