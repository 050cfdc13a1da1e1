"""Figures and the report, as a browser shows it."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastthermo import sweep
from fastthermo.sweep import Grid, models, transition
from fastthermo.sweep.bath import BathScaling
from fastthermo.sweep.models import Data, Gaussian, TwoDeltas
from fastthermo.sweep.transition import Transition

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>
addEventListener("load", () => {
  const filter = document.querySelector("#filter");
  const shown = () => [...document.querySelectorAll(".wide tbody tr")].filter(row => row.offsetHeight).length;
  const before = shown();
  filter.value = "gaussian"; filter.dispatchEvent(new Event("input"));
  const after = shown();
  document.querySelectorAll(".wide th")[4].click();
  const requests = performance.getEntriesByType("resource").map(x => x.name).filter(x => !x.startsWith("data:"));
  document.documentElement.dataset.probe = JSON.stringify({
    images: [...document.images].map(x => [x.naturalWidth, x.naturalHeight]), before, after, requests,
    title: document.title, first: document.querySelector(".wide tbody").rows[0].cells[0].textContent,
    config: JSON.parse(document.querySelector("#config").textContent).sizes,
    version: JSON.parse(document.querySelector("#provenance").textContent).versions.fastthermo,
  });
});
</script>"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = Grid((TwoDeltas((1.0, 2.0)), Gaussian((1,))), BathScaling(), (256, 1024, 4096))
    return sweep.run(grid, tmp_path_factory.mktemp("report") / "bath <1>.zarr")


def test_the_report_needs_nothing_but_itself(store: Path, tmp_path: Path) -> None:
    text = sweep.write_report(store, tmp_path / "report.html").read_text()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", text)
    assert "<title>bath &lt;1&gt;</title>" in text
    assert text.count("data:image/png;base64,") == 2
    assert html.escape('"kind": "bath"') in text
    assert "seconds of all workers" in text
    with pytest.raises(ValueError, match=r"out: wanted a name that ends in \.html"):
        sweep.write_report(store, tmp_path / "report.pdf")


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")
def test_a_browser_shows_figures_and_table_of_the_report(store: Path, tmp_path: Path) -> None:
    import json

    page = sweep.write_report(store, tmp_path / "report.html")
    page.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    command = [str(BROWSER), "--headless=new", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which chromium demands of root
    shown = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    probe = re.search(r'data-probe="([^"]*)"', shown.stdout)
    assert probe, shown.stderr[-2000:]
    seen = json.loads(html.unescape(probe[1]))
    assert len(seen["images"]) == 2
    assert all(width > 300 and height > 200 for width, height in seen["images"])
    assert (seen["before"], seen["after"]) == (3, 1)
    assert seen["requests"] == []
    assert seen["title"] == "bath <1>"
    assert seen["config"] == [256, 1024, 4096]
    assert seen["version"]


def test_figures_show_every_quantity_and_collapse(store: Path) -> None:
    figures = sweep.figures(list(sweep.found(store)), "title")
    assert list(figures) == ["quantities", "collapses"]
    titles = [axis.get_title(loc="left") for axis in figures["quantities"].axes]
    assert titles == ["$s_c$", r"$1/\nu$", r"$\kappa$", r"$s_c\ \mathrm{(Binder)}$"]
    assert len(figures["collapses"].axes) == 2
    none = sweep.run(Grid((Gaussian((1,)),)), store.parent / "none.zarr")
    assert sweep.figures(list(sweep.found(none)), "title") == {}


def test_a_table_is_not_made_of_data_that_have_changed(tmp_path: Path) -> None:
    file, (first, second) = tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(2, 40, 3))
    np.save(file, first)
    out = sweep.run(Grid((Data((str(file),)),), Transition()), tmp_path / "x.zarr")
    assert "no continuous transition" in sweep.show(out)
    np.save(file, second)
    for kept in (models._load, models._data, models._law, transition.case_axis):  # as in another process
        kept.cache_clear()
    with pytest.raises(ValueError, match=r"mine\.npy holds other data than"):
        sweep.show(out)
