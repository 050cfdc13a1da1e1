"""Figures are drawn for images, channels and points, and a file is replaced only by a whole one."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastthermo.plot import contact_sheet, events, headline, logarithmic, save, scatter, time_axis


@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 5, 4, 3), (7, 3, 5, 4), (7, 1, 5, 4), (7, 1), (7, 2), (7, 9)])
def test_a_contact_sheet_shows_samples_of_any_shape(shape, tmp_path):
    samples = np.random.default_rng(0).normal(size=shape)
    save(contact_sheet(samples, "samples", columns=3), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_a_file_of_no_known_ending_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"out: wanted a file that ends in .*\.png.*figure"):
        save(Figure(), tmp_path / "figure")


def test_a_figure_that_fails_to_draw_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def fail(self, file, **options):
        file.write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        save(Figure(), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_a_logarithmic_axis_has_room_for_what_is_positive_and_no_more():
    axis = Figure().subplots()
    assert logarithmic(axis, np.array([1e-3, 2.0]), np.array([0.0, -1.0, np.nan, np.inf])) == 5e-4
    assert axis.get_ylim() == (5e-4, 4.0)
    assert logarithmic(axis, np.array([1e-310, 0.5])) == pytest.approx(1e-8)
    assert logarithmic(axis, np.zeros(2)) == 0


@pytest.mark.parametrize("t", [np.linspace(0.5, 2, 4), np.geomspace(1e-3, 10, 4)])
def test_a_time_axis_with_a_margin_has_room_for_marks_at_its_ends(t):
    axis = Figure().subplots()
    time_axis(axis, t, margin=0.02)
    inside = axis.transAxes.inverted().transform(axis.transData.transform([(t[0], 0), (t[-1], 0)]))[:, 0]
    np.testing.assert_allclose(inside, [0.02 / 1.04, 1.02 / 1.04])
    time_axis(axis, t)
    assert axis.get_xlim() == (t[0], t[-1])


@pytest.mark.parametrize(
    ("when", "scale"),
    [([0.05], "log"), ([0.5, 0.05], "log"), ([0.5], "linear"), ([0.001, 2.0], "linear"), ([], "linear")],
)
def test_time_is_logarithmic_where_something_happens_in_the_first_tenth_of_a_linear_axis(when, scale):
    axis = Figure().subplots()
    time_axis(axis, np.linspace(0.01, 1, 50), when)
    assert axis.get_xscale() == scale


def test_an_axis_of_time_shows_the_landmarks_that_there_are_and_the_loss_of_half_of_the_information():
    none, t = {"time": None}, np.array([0.9, 0.5, 0.1, 0.01])
    summary = {"critical_time": {"fixed_point": {"time": 0.4}}, "speciation_time": none, "collapse_time": none}
    assert events(summary, t) == [0.4]
    assert events(summary, t, np.array([0.0, 0.1, 1.1, 2.0])) == [0.4, 0.1]


def test_times_on_a_logarithmic_axis_are_numbers_and_not_powers_of_ten():
    axis = Figure().subplots()
    time_axis(axis, np.geomspace(0.2, 12, 20), [0.8])
    low, high = axis.get_xlim()
    shown = [x for x in axis.get_xticks() if low <= x <= high]
    assert axis.xaxis.get_major_formatter().format_ticks(shown) == ["0.2", "0.5", "1", "2", "5", "10"]


def test_one_dimension_is_singular():
    summary = {"data": "two", "states": 2, "dimension": 1, "process": "EDM()"}
    assert headline(summary) == "two: 2 states in 1 dimension, EDM process"
    assert headline({**summary, "dimension": 2}) == "two: 2 states in 2 dimensions, EDM process"


def test_the_legend_of_points_stands_beside_them():
    figure = Figure(layout="constrained")
    axis = figure.subplots()
    scatter(axis, list(np.random.default_rng(0).normal(size=(2, 9, 2))), ["early", "late"])
    figure.draw_without_rendering()
    assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1


def test_numbers_are_histograms_in_labelled_rows_over_the_same_bins():
    axis = Figure().subplots()
    scatter(axis, list(np.random.default_rng(0).normal(size=(3, 40, 1))), ["a", "b", "c"])
    data = [patch.get_data() for patch in axis.patches]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b", "c"]
    assert [row.baseline for row in data] == list(axis.get_yticks()) == [2, 1, 0]
    assert all(np.array_equal(row.edges, data[0].edges) and row.values.max() < row.baseline + 1 for row in data)
