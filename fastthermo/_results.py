"""A result is a folder: arrays (KIND.zarr, an xarray data set), summary.json, KIND.png and .pdf.

It is made in a hidden folder beside its place and moved there when it is whole; an interrupted one is taken up again by
the same call.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

import fastthermo
from fastthermo._files import locked, make_folder, replacing


@dataclass(frozen=True)
class Settings:
    """What a result's numbers depend on; a run is taken up again only where all of it agrees."""

    data: str
    fingerprint: str  # of the data
    states: int
    dimension: int
    labelled: bool
    process: str
    times: int
    queries: int
    seed: int
    version: str

    @classmethod
    def about(cls, data: Any, ensemble: Any, process: Any, times: int, queries: int, seed: int, **more: Any) -> Self:
        """Of this version, a Dataset, its Ensemble and a Process; `more` : fields of a subclass."""
        return cls(
            data=data.name,
            fingerprint=data.fingerprint,
            states=ensemble.size,
            dimension=ensemble.dimension,
            labelled=data.labels is not None,
            process=repr(process),
            times=times,
            queries=queries,
            seed=seed,
            version=fastthermo.__version__,
            **more,
        )


def check_out(out: Path, overwrite: bool, kind: str) -> None:
    """Raise ValueError where `out` exists and may not be replaced."""
    if not out.exists():
        return
    if not overwrite:
        raise ValueError(f"out: {out} exists; choose another folder or --overwrite")
    ours = (out / "summary.json").is_file() and (out / f"{kind}.zarr").is_dir()
    if out.is_symlink() or not out.is_dir() or (any(out.iterdir()) and not ours):
        raise ValueError(f"out: {out} is not a {kind} result, it will not be overwritten")


@contextmanager
def claimed(out: Path, settings: Settings, overwrite: bool, kind: str) -> Iterator[Path]:
    """The hidden folder to work in, this process's alone: new, or an unfinished result with the same settings."""
    make_folder(out.parent)
    busy = f"out: another process is at work on {out}; wait for it, or choose another folder"
    with locked(out.with_name(f".{out.name}.lock"), busy):
        check_out(out, overwrite, kind)
        yield _folder(out, settings, overwrite, kind)


def _folder(out: Path, settings: Settings, overwrite: bool, kind: str) -> Path:
    folder, wanted = out.with_name(f".{out.name}.partial"), {"kind": kind, **asdict(settings)}
    if folder.exists():
        try:
            found = json.loads((folder / "settings.json").read_text())
        except (OSError, ValueError):
            found = None
        if found == wanted:
            return folder
        if found is not None and not overwrite:
            if found | {"fingerprint": settings.fingerprint} == wanted:
                raise ValueError(
                    f"data: {folder} holds an unfinished {kind} of other data than {settings.data} holds now; bring "
                    "those back to finish it, or overwrite it"
                )
            key = next(key for key, value in wanted.items() if found.get(key) != value)
            raise ValueError(
                f"{key}: {folder} holds an unfinished {found.get('kind')} with {key} = {found.get(key)!r}, this one "
                f"has {wanted[key]!r}; repeat those settings to finish it, or overwrite it"
            )
        shutil.rmtree(folder)
    folder.mkdir()
    with replacing(folder / "settings.json") as file:  # before any work, which is theirs
        file.write_text(json.dumps(wanted, indent=2))
    return folder


def open_arrays(folder: Path, kind: str, settings: Settings, make: Callable[[], tuple[Any, dict[str, Any]]]) -> Any:
    """The Zarr arrays of a result by name, found there or made up front from an xarray data set and its encoding."""
    import zarr

    path = folder / f"{kind}.zarr"
    if not path.is_dir():
        dataset, encoding = make()
        dataset = dataset.assign_attrs({"title": f"{kind} of {settings.data}", **asdict(settings)})
        begun = folder / f"{kind}.partial.zarr"
        dataset.to_zarr(begun, mode="w", encoding=encoding, consolidated=False)
        begun.rename(path)
    return dict(zarr.open_group(path, mode="r+").arrays())


def rows(variables: Mapping[str, tuple[Any, ...]], first: tuple[str, ...] = ("time",)) -> dict[str, Any]:
    """The encoding of variables (dims, values, ...) with a chunk for each entry of their first dimension."""
    return {
        name: {"chunks": (1, *v[1].shape[1:])}
        for name, v in variables.items()
        if v[0][0] in first and v[1].ndim > 1 and v[1].size
    }


def times(t: np.ndarray, beta: np.ndarray) -> dict[str, tuple[Any, ...]]:
    """The coordinates of a result over diffusion time."""
    return {
        "time": ("time", t, {"long_name": "diffusion time t", "units": "1"}),
        "beta": ("time", beta, {"long_name": "inverse temperature", "units": "1 / data unit^2"}),
    }


def finish(
    folder: Path, out: Path, kind: str, summary: dict[str, Any], draw: Callable[[Any], Any], save: Callable[..., None]
) -> None:
    """Figure and summary, then the whole result into its place."""
    import xarray as xr

    # read here, not by a Dask cluster that happens to be the default
    with xr.open_zarr(folder / f"{kind}.zarr", consolidated=False, chunks=None) as dataset:
        figure = draw(dataset.load())
    save(figure, folder / f"{kind}.png")
    figure.set_layout_engine("none")  # found once
    save(figure, folder / f"{kind}.pdf")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    old = out.with_name(f".{out.name}.old")
    if out.exists():
        if old.exists():
            shutil.rmtree(old)
        out.rename(old)
    folder.rename(out)
    for name in ("checkpoint.npz", "settings.json"):  # by which it is known as unfinished, until it is in its place
        (out / name).unlink(missing_ok=True)
    if old.exists():
        shutil.rmtree(old)
