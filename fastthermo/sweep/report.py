"""A sweep on one page: figures, table, configuration, provenance and timing in one HTML file of its own."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.sweep.measure import SCALARS
from fastthermo.sweep.measures import Found
from fastthermo.sweep.models import Case
from fastthermo.sweep.results import found, rows_of
from fastthermo.sweep.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
figure { margin: 1em 0; overflow-x: auto } img { max-width: 100% }
.wide { overflow-x: auto; max-height: 32em; border: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
th { position: sticky; top: 0; background: #fff; cursor: pointer } td:first-child, th:first-child { text-align: left }
pre { background: #f6f6f6; padding: .8em; overflow-x: auto } input { font: inherit; margin: .5em 0; width: 20em }
</style>
</head>
<body>
<h1>$title</h1>
<p id="summary">$summary</p>
$figures
<h2>Table</h2>
<input id="filter" placeholder="show rows that contain ..." aria-label="filter rows">
<div class="wide">$table</div>
<h2>Timing</h2>
$timing
<h2>Configuration</h2>
<pre id="config">$config</pre>
<h2>Provenance</h2>
<pre id="provenance">$provenance</pre>
<script>
const body = document.querySelector(".wide tbody"), rows = [...body.rows];
document.querySelector("#filter").addEventListener("input", event => {
  for (const row of rows) row.hidden = !row.textContent.includes(event.target.value);
});
document.querySelectorAll(".wide th").forEach((head, column) => head.addEventListener("click", () => {
  const sign = head.dataset.sign = -(head.dataset.sign || -1);
  const key = row => row.cells[column].textContent;
  rows.sort((a, b) => sign * (key(a) - key(b) || key(a).localeCompare(key(b)))).forEach(row => body.append(row));
}));
</script>
</body>
</html>
""")


def figures(rows: list[tuple[Case, Found]], title: str) -> dict[str, Figure]:
    """The figures of what was found; none where nothing was."""
    from fastthermo.plot.sweeps import sweep_figures

    if not any(one.quantities for _, one in rows):
        return {}
    placed = []
    for case, one in rows:
        law = case.law()
        size = one.size or (law.size if math.isfinite(law.size) else 0)
        place = {"size": float(size), "dimension": float(law.dimension), "time": one.at}
        placed.append((case.model, str(case), place, one))
    return sweep_figures(placed, title)


def write_report(path: str | Path, out: str | Path) -> Path:
    """The report of the store at `path` as one HTML file."""
    import pandas as pd

    from fastthermo._files import replacing

    store, out = Store(Path(path)), Path(out)
    if out.suffix != ".html":
        raise ValueError(f"out: wanted a name that ends in .html, got {out.name}")
    rows = list(found(path))
    table = pd.DataFrame(rows_of(rows)).to_html(index=False, border=0, na_rep="", float_format=lambda x: f"{x:.6g}")
    seconds, summary = _timing(store)
    page = PAGE.substitute(
        title=html.escape(store.path.stem),
        summary=html.escape(summary),
        figures="\n".join(_image(name, figure) for name, figure in figures(rows, store.path.stem).items()),
        table=table,
        timing=pd.DataFrame([seconds]).to_html(index=False, border=0, float_format=lambda x: f"{x:.4g}"),
        config=html.escape(json.dumps(json.loads(store.group.attrs["grid"]), indent=2)),
        provenance=html.escape(json.dumps(store.group.attrs["provenance"], indent=2)),
    )
    with replacing(out) as file:
        file.write_text(page, encoding="utf-8")
    return out


def _timing(store: Store) -> tuple[dict[str, Any], str]:
    """Seconds of workers, and what was done, in a line."""
    done = store.done
    scalars = store.group["scalars"][:]
    seconds = scalars[:, SCALARS.index("seconds")]
    spent, bounds = seconds[np.isfinite(seconds)], scalars[:, SCALARS.index("error_bound")]
    finite = np.isfinite(bounds)
    bound = (
        f"worst error bound {bounds[finite].max():.2g}" if finite.any() else "closed forms, which have no error bound"
    )
    summary = f"{done.sum()} of {len(done)} tasks of {store.grid.cells} cells; {bound}."
    quartiles = np.percentile(spent, [0, 50, 100]) if len(spent) else np.full(3, np.nan)
    names = ("seconds of all workers", "fastest cell", "median cell", "slowest cell")
    return dict(zip(names, (float(spent.sum()), *quartiles.tolist()), strict=True)), summary


def _image(name: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{data}"></figure>'
