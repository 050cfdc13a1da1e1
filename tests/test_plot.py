"""Figures are drawn for images, channels and points, and a file is replaced only by a whole one."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastthermo.plot import contact_sheet, logarithmic, save, time_axis


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
