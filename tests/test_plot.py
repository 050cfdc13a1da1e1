"""Figures are drawn for images, channels and points, and a file is replaced only by a whole one."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastthermo.plot import contact_sheet, save


@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 5, 4, 3), (7, 3, 5, 4), (7, 1, 5, 4), (7, 1), (7, 2), (7, 9)])
def test_a_contact_sheet_shows_samples_of_any_shape(shape, tmp_path):
    samples = np.random.default_rng(0).normal(size=shape)
    save(contact_sheet(samples, "samples", columns=3), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


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
