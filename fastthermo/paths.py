"""Free-energy differences without the data: the line integral of the force along a path at one temperature.

    F~(h_1) - F~(h_0) = - int (<y> - h) . dh        log p_t(x_1) - log p_t(x_0) = int score . dx = -beta times that

For an exact model any path gives the same; a network's field need not be a gradient, and how far it is from one is
reported beside the value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastthermo._arrays import read_rows
from fastthermo.response import susceptibility

# Gauss-Kronrod rules of 7 and 15 nodes on [-1, 1] (QUADPACK, Piessens et al. 1983): nodes, weights of 15, weights of 7
NODES = np.array(
    [
        0.991455371120812639206,
        0.949107912342758524526,
        0.864864423359769072790,
        0.741531185599394439864,
        0.586087235467691130294,
        0.405845151377397166907,
        0.207784955007898467601,
        0.0,
    ]
)
KRONROD = np.array(
    [
        0.022935322010529224964,
        0.063092092629978553291,
        0.104790010322250183840,
        0.140653259715525918745,
        0.169004726639267902827,
        0.190350578064785409913,
        0.204432940075298892414,
        0.209482141084727828013,
    ]
)
GAUSS = np.array(
    [0, 0.129484966168869693271, 0, 0.279705391489276667901, 0, 0.381830050505118944950, 0, 0.417959183673469387755]
)


class Difference(NamedTuple):
    """A line integral of the force."""

    value: float  # F~ at the end minus F~ at the start of the path
    error: float  # of the quadrature, an upper estimate: |Kronrod - Gauss| and what may hide at ends, over pieces
    curl: float  # |J - J^T| / |J + J^T| of the force's Jacobian J, rms over the middles of the lines; 0 for a gradient
    evaluations: int  # of the mean


def free_energy_difference(
    model: Any, path: Any, beta: float, tolerance: float = 1e-8, max_evaluations: int = 20_000
) -> Difference:
    """F~ at the last point of a path minus F~ at its first, at inverse temperature beta; needs no data.

    Parameters
    ----------
    path : fields (P, D) or shaped like P states, joined by straight lines; P >= 2.
    tolerance : of each piece, in units of the sum of |contributions| over four times the points; pieces are halved
        where they miss it. What the sum misses is `error`: many halved pieces may add up to more.
    max_evaluations : of the mean, after which the error is reported as it is.
    """
    import torch

    rows, _, single = read_rows("path", path, model.dimension, model.device)
    if single or len(rows) < 2:
        raise ValueError(f"path: wanted at least 2 points of {model.dimension} numbers, got {len(rows)}")
    if not rows.isfinite().all():
        raise ValueError("path: wanted finite numbers")
    if not 0 < beta < float("inf"):
        raise ValueError(f"beta: wanted a finite positive number, got {beta}")
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance: wanted a finite number of at least 0, got {tolerance}")
    if not max_evaluations >= 1:
        raise ValueError(f"max_evaluations: wanted at least 1, got {max_evaluations}")
    rows = rows.double()
    curl = susceptibility(model, (rows[1:] + rows[:-1]) / 2, beta).symmetry_defect(shift=1.0)
    nodes, rules = (rows.new_tensor(x) for x in _rules())
    start, end = rows[:-1], rows[1:]
    value = size = error = 0.0
    evaluations = 0
    while len(start):
        half = (end - start) / 2
        h = (start + half)[:, None] + nodes[:, None] * half[:, None]  # (pieces, 17, D)
        with torch.no_grad():
            force = model.mean(h.flatten(0, 1), beta).double() - h.flatten(0, 1)
        evaluations += len(force)
        along = -(force.unflatten(0, h.shape[:2]) * half[:, None]).sum(2)
        sums = along @ rules.mT
        fine, missed = sums[:, 0], sums[:, 1:].abs().sum(1)
        # a piece may miss its share of what is left to the tolerance
        left = missed > tolerance * max(size + float(fine.abs().sum()), 1e-300) / 4 / len(rows)
        if evaluations + 2 * len(nodes) * int(left.sum()) > max_evaluations:
            left = torch.zeros_like(left)
        value += float(fine[~left].sum())
        size += float(fine[~left].abs().sum())
        error += float(missed[~left].sum())
        middle = (start + half)[left]
        start, end = torch.cat([start[left], middle]), torch.cat([middle, end[left]])
    return Difference(value, error, float(np.sqrt(np.mean(np.square(curl.cpu().numpy())))), evaluations)


def _rules() -> tuple[np.ndarray, np.ndarray]:
    """Nodes on [-1, 1], ends included, and rows of weights: Kronrod, Kronrod - Gauss, and what either end tells.

    A step of the force between an end and the node next to it, as at a saddle at low temperature, is seen by no other
    node: that width times the force there less what the others extrapolate to.
    """
    x, kronrod, gauss = (np.concatenate([sign * w, w[-2::-1]]) for w, sign in ((NODES, -1), (KRONROD, 1), (GAUSS, 1)))
    others = ~np.eye(len(x), dtype=bool)
    lagrange = np.array([np.prod((1 - x[k]) / (x[i] - x[k])) for i, k in enumerate(others)])  # at 1
    end = (1 - NODES[0]) * np.r_[0, -lagrange, 1]
    inner = np.pad([kronrod, kronrod - gauss], ((0, 0), (1, 1)))
    return np.r_[-1, x, 1], np.concatenate([inner, [end, end[::-1]]])
