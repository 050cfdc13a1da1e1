"""What a sweep's store tells: a labelled data set, what its cells tell together, a table, files for others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from fastthermo.sweep.measure import SCALARS
from fastthermo.sweep.measures import Found, Table
from fastthermo.sweep.models import Case
from fastthermo.sweep.store import Store

LABELS = {
    "none": "no continuous transition: ",
    "pitchfork": "not fitted: ",
    "failed": "failed: ",
}  # of reasons, by kind
LONG = 120  # letters of a reason in a table; exports have all of it


def dataset(path: str | Path) -> Any:
    """The store as an xarray data set: observables over (case, size, seed, point), NaN where not measured.

    `measured` says where that is, `failed` why, "" for cells that were not tried and those that were measured.
    """
    import xarray as xr

    store = Store(Path(path))
    store.check()
    grid = store.grid
    values = store.group["values"][:].reshape(*grid.shape, len(grid.columns), -1)
    scalars = store.group["scalars"][:].reshape(*grid.shape, len(SCALARS))
    dims = ("case", "size", "seed")
    variables: dict[str, Any] = {name: ((*dims, "point"), values[..., i, :]) for i, name in enumerate(grid.columns)}
    variables |= {name: (dims, scalars[..., i]) for i, name in enumerate(SCALARS)}
    variables |= {name: (dims, getattr(store, name).reshape(grid.shape)) for name in ("measured", "failed")}
    points = (grid.measure.coordinate, ("point", grid.measure.points))
    coords = {"case": [str(case) for case in grid.cases], "size": list(grid.sizes), points[0]: points[1]}
    return xr.Dataset(variables, coords, {key: str(value) for key, value in store.group.attrs.items()})


def found(path: str | Path) -> Iterator[tuple[Case, Found]]:
    """What the cells of each case tell together, of all its seeds that are measured."""
    from fastthermo.regimes.averages import bar

    store = Store(Path(path))
    store.check()
    grid, every, failed, data = store.grid, store.measured, store.failed, store.data
    _, sizes, seeds = grid.shape
    for index in bar(range(grid.shape[0]), "table", "case"):
        cells = slice(index * sizes * seeds, (index + 1) * sizes * seeds)
        case = grid.case(index).of(data)
        measured, errors = every[cells].reshape(sizes, seeds), failed[cells].reshape(sizes, seeds)
        values = store.group["values"][cells].reshape(sizes, seeds, len(grid.columns), -1)
        scalars = store.group["scalars"][cells].reshape(sizes, seeds, -1)
        temperature = scalars[measured][:, SCALARS.index("critical_temperature")]
        tables: dict[int, Table] = {
            size: {name: values[i, measured[i], j] for j, name in enumerate(grid.columns)}
            for i, size in enumerate(grid.sizes)
            if measured[i].any()
        }
        for i, size in enumerate(grid.sizes):
            if not measured[i].any():
                why = next(filter(None, errors[i]), "")
                yield case, Found(size, "failed" if why else "unmeasured", why or "not measured yet", {})
        if tables:
            for one in grid.measure.found(case, tables, float(temperature[0])):
                yield case, one


def table(path: str | Path) -> list[dict[str, Any]]:
    """A row a case and size: its kind, and each quantity with its standard errors and what theory expects of it."""
    return rows_of(found(path))


def rows_of(everything: Iterable[tuple[Case, Found]]) -> list[dict[str, Any]]:
    """Rows of a table."""
    rows = []
    for case, one in everything:
        row: dict[str, Any] = {"case": str(case), "size": one.size, "kind": one.kind, "reason": one.reason}
        if np.isfinite(one.at):
            row["time"] = one.at
        for name, quantity in one.quantities.items():
            row[name] = quantity.value
            row[f"{name}_statistical"] = quantity.statistical
            row[f"{name}_systematic"] = quantity.systematic
            row[f"{name}_expected"] = quantity.expected
            row[f"{name}_seeds"] = quantity.seeds
        rows.append(row)
    return rows


def show(path: str | Path) -> str:
    """The table as text."""
    store = Store(Path(path))
    done, measure = store.done, store.grid.measure
    everything = list(found(path))
    symbols: dict[str, str] = {}
    for _, one in everything:
        symbols |= {name: quantity.symbol for name, quantity in one.quantities.items()}
    width, seeds = max(len(str(case)) for case, _ in everything), store.grid.seeds
    wide = max([16, *(len(_text(one, name, seeds)) for _, one in everything for name in one.quantities)])
    lines = [
        f"{path}: {done.sum()} of {len(done)} tasks, {store.grid.cells} cells",
        f"{'case':{width}} {measure.sizes:>7} " + " ".join(f"{symbol:>{wide}}" for symbol in symbols.values()),
    ]
    for case, one in everything:
        texts = [f"{_text(one, name, seeds):>{wide}}" for name in symbols] if one.quantities else []
        if np.isfinite(one.at):
            texts.append(f"t = {one.at:g}")
        if one.reason:
            texts.append(LABELS.get(one.kind, "") + shorten(one.reason, LONG, placeholder=" ... (all in `export`)"))
        lines.append(f"{case!s:{width}} {one.size or measure.whole:>7} {' '.join(texts)}")
    return "\n".join(lines)


def _text(one: Found, name: str, seeds: int) -> str:
    """A quantity with its error, and of how many seeds it is where some have none."""
    if name not in one.quantities:
        return "-"
    quantity = one.quantities[name]
    some = f" ({quantity.seeds} of {seeds})" if quantity.seeds < seeds else ""
    return f"{quantity.value:.4f} ± {quantity.error:.1g}{some}"


def export(path: str | Path, out: str | Path) -> Path:
    """The table as a .csv or .parquet file."""
    import pandas as pd

    from fastthermo._files import replacing

    out = Path(out)
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"out: wanted a name that ends in .csv or .parquet, got {out.name}")
    if out.suffix == ".parquet":
        import pyarrow  # noqa: F401  whose absence pandas reports less plainly
    rows = pd.DataFrame(table(path))
    with replacing(out) as file:
        if out.suffix == ".csv":
            rows.to_csv(file, index=False)
        else:
            rows.to_parquet(file)
    return out
