"""What a sweep's store tells: a labelled data set, exponents fitted over seeds, a table, files for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastthermo.exponents import OBSERVABLES, Exponent, Exponents, critical_axis, fit
from fastthermo.exponents.observe import FIELDS, rounding_errors
from fastthermo.sweep.measure import COLUMNS
from fastthermo.sweep.store import Store


def dataset(path: str | Path) -> Any:
    """The store as an xarray data set: observables over (case, draws, seed, point), NaN where not measured."""
    import xarray as xr

    store = Store(Path(path))
    grid = store.grid
    values = store.group["values"][:].reshape(*grid.shape, len(COLUMNS), -1)
    dims = ("case", "draws", "seed")
    variables: dict[str, Any] = {name: ((*dims, "point"), values[..., i, :]) for i, name in enumerate(COLUMNS)}
    temperature = store.group["critical_temperature"][:].reshape(grid.shape)
    variables["critical_temperature"] = (dims, temperature, {"long_name": "s_c, NaN without a pitchfork"})
    measured = np.repeat(store.done, grid.block)[: grid.cells].reshape(grid.shape)
    variables["measured"] = (dims, measured)
    coords = {"case": [str(case) for case in grid.cases], "draws": list(grid.draws), "epsilon": ("point", grid.points)}
    return xr.Dataset(variables, coords, {key: str(value) for key, value in store.group.attrs.items()})


def fitted(path: str | Path) -> dict[tuple[str, int], Exponents]:
    """The exponents of every case and sample size, fitted over its seeds; "none" and why where there is no pitchfork.

    What cannot be fitted (a window too small, too few seeds) is left out of the exponents and named in `.reason`.
    """
    data = dataset(path)
    store = Store(Path(path))
    found = {}
    for i, case in enumerate(store.grid.cases):
        for j, draws in enumerate(store.grid.draws):
            cell = data.isel(case=i, draws=j)
            measured = cell["measured"].to_numpy()
            temperature = cell["critical_temperature"].to_numpy()[measured]
            if not len(temperature):
                found[str(case), draws] = Exponents("none", {}, "not measured yet")
            elif np.isnan(temperature[0]):
                axis = critical_axis(case.law())
                found[str(case), draws] = Exponents("none", {}, axis if isinstance(axis, str) else "")
            else:
                rows = {name: cell[name].to_numpy()[measured] for name in COLUMNS}
                found[str(case), draws] = _fit(store.grid.points, rows, float(temperature[0]))
    return found


def _fit(epsilon: np.ndarray, rows: dict[str, np.ndarray], temperature: float) -> Exponents:
    field = epsilon**FIELDS * temperature**0.5
    table = {"epsilon": epsilon, "field": field, **rows}
    table |= rounding_errors(table, temperature**0.5)
    exponents: dict[str, Exponent] = {}
    reasons = []
    for name in COLUMNS:
        try:
            exponents |= fit({key: table[key] for key in ("epsilon", "field", name, f"{name}_error")}).found
        except ValueError as error:
            reasons.append(str(error))
    return Exponents("pitchfork", exponents, "; ".join(reasons), table=table)


def table(path: str | Path) -> list[dict[str, Any]]:
    """A row a case and sample size: its kind, and each exponent with its standard errors."""
    rows = []
    for (case, draws), found in fitted(path).items():
        row: dict[str, Any] = {"case": case, "draws": draws, "kind": found.kind, "reason": found.reason}
        for name, observable in OBSERVABLES.items():
            exponent = found.get(name)
            row[name] = exponent.value if exponent else float("nan")
            row[f"{name}_statistical"] = exponent.statistical if exponent else float("nan")
            row[f"{name}_systematic"] = exponent.systematic if exponent else float("nan")
            row[f"{name}_mean_field"] = observable.mean_field
        rows.append(row)
    return rows


def show(path: str | Path) -> str:
    """The table as text."""
    store = Store(Path(path))
    done = store.done
    lines = [f"{path}: {done.sum()} of {len(done)} tasks, {store.grid.cells} cells"]
    width = max(len(str(case)) for case in store.grid.cases)
    symbols = [observable.symbol for observable in OBSERVABLES.values()]
    lines.append(f"{'case':{width}} {'draws':>7} " + " ".join(f"{symbol:>16}" for symbol in symbols))
    for (case, draws), found in fitted(path).items():
        if found:
            numbers = [f"{found[k].value:.4f} ± {found[k].error:.1g}" if k in found else "-" for k in OBSERVABLES]
            rest = " ".join(f"{number:>16}" for number in numbers)
        else:
            rest = f"no continuous transition: {found.reason}"
        lines.append(f"{case:{width}} {draws or 'exact':>7} {rest}")
    return "\n".join(lines)


def export(path: str | Path, out: str | Path) -> Path:
    """The table as a .csv or .parquet file."""
    import pandas as pd

    from fastthermo._files import replacing

    out = Path(out)
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"out: wanted a name that ends in .csv or .parquet, got {out.name}")
    frame = pd.DataFrame(table(path))
    with replacing(out) as file:
        if out.suffix == ".csv":
            frame.to_csv(file, index=False)
        else:
            frame.to_parquet(file)
    return out
