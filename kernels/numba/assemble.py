"""Sums from their columns, and sums of some queries among those of others."""

import numpy as np
import torch

from fastthermo.kernels import Sums


def sums_of(dominant: np.ndarray, shift: np.ndarray, rest: np.ndarray, *others: np.ndarray) -> Sums:
    with np.errstate(divide="ignore"):
        columns = (dominant, shift, np.log(rest), *others)
    return Sums(*(torch.from_numpy(np.ascontiguousarray(x)) for x in columns))


def replace(sums: Sums, rows: np.ndarray, better: Sums) -> None:
    for x, y in zip(sums, better, strict=True):
        x[torch.from_numpy(rows)] = y


def join(rows: np.ndarray, first: Sums, second: Sums) -> Sums:
    """Sums of all queries from those of `rows` and those of the others."""
    out = Sums(*(x.new_empty((len(rows), *x.shape[1:])) for x in first))
    replace(out, rows, first)
    replace(out, ~rows, second)
    return out
