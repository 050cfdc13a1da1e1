"""Along the landscape: slices and differences of F~, and committors.

The posterior weights of clean data are martingales of the reverse process: the chance to end in a class is its class
posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastthermo._arrays import is_torch, read_rows, whole
from fastthermo.critical.newton import force
from fastthermo.ensemble.mixture import check_split
from fastthermo.process import Process
from fastthermo.sampling import sample

if TYPE_CHECKING:
    import torch

NODES, PANELS = 16, 8  # of Gauss-Legendre quadrature along a segment


class Slice(NamedTuple):
    """F~ minus its value at the origin on a line (n,) or plane (n, n) of fields, and the coordinates of each axis."""

    coordinates: tuple[np.ndarray, ...]
    free_energy: np.ndarray


def climb(model: Any, a: torch.Tensor, b: torch.Tensor, beta: float) -> float:
    """F~(b) - F~(a) of two fields (D,): of a law exactly, else the integral of h - <y> along the segment.

    On fixed nodes, fast and smooth in beta, as roots are looked for; `paths.free_energy_difference` tells its errors.
    """
    import torch

    if hasattr(model, "boltzmann"):
        values = model.boltzmann(torch.stack([a, b]), beta).regularised_free_energy
        return float(values[1] - values[0])
    return float(_work(model, a[None], (b - a)[None], beta, PANELS)[0])


def potential_slice(model: Any, origin: Any, directions: Any, beta: float, extent: float, n: int = 101) -> Slice:
    """F~ - F~(origin) at origin + c v for c in [-extent, extent], along one direction v or on a grid of two.

    directions : (D,), (1, D) or (2, D), or shaped like states; of any length but 0: coordinates are in units of theirs.
    n : coordinates along each, ends included.

    Raises
    ------
    ValueError for other numbers of directions, a direction of length 0, an extent that is not positive and fewer than
    two coordinates.
    """
    import torch

    start, _, _ = read_rows("origin", origin, model.dimension, model.device)
    axes, _, _ = read_rows("directions", directions, model.dimension, model.device)
    if len(start) != 1 or len(axes) not in (1, 2):
        raise ValueError(f"directions: wanted one or two of them and one origin, got {len(axes)} and {len(start)}")
    start, axes = start.double(), axes.double()
    if not bool((axes != 0).any(1).all()):
        raise ValueError("directions: wanted vectors of some length, got 0 throughout")
    if not 0 < extent < np.inf:
        raise ValueError(f"extent: wanted a finite positive number, got {extent}")
    whole("n", n, 2)
    grid = np.linspace(-extent, extent, n)
    c = start.new_tensor(grid)
    line = start + c[:, None] * axes[:1]
    fields = line if len(axes) == 1 else (line[:, None] + c[None, :, None] * axes[1]).flatten(0, 1)
    if hasattr(model, "boltzmann"):
        values = model.boltzmann(torch.cat([start, fields]), beta).regularised_free_energy
        values = values[1:] - values[0]
    else:
        along = _cumulative(model, start, axes[:1], c, beta)
        values = along[0]
        if len(axes) == 2:
            values = (along[0][:, None] + _cumulative(model, line, axes[1:].expand(n, -1), c, beta)).flatten()
    shape = (n,) * len(axes)
    return Slice((grid,) * len(axes), values.detach().cpu().numpy().reshape(shape))


def committor(classes: Any, field: Any, beta: Any) -> Any:
    """The probability (B, C) that generation from field h at beta ends in each class: its posterior, a martingale.

    classes : an ensemble split by labels; a TypeError for others.
    """
    check_split(classes)
    return classes.class_posterior(field, beta)


def sampled_committor(
    model: Any,
    process: Process,
    x: Any,
    t: float,
    classify: Callable[[Any], Any],
    n: int = 256,
    steps: int = 128,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The same for any denoiser, from n runs of the reverse process from x (D,) at t: (C,) and standard errors (C,).

    Parameters
    ----------
    classify : samples (n, ...) to their class probabilities (n, C), or to true and false (n,).
    n, steps, seed : runs, at least 2 for a standard error, the steps of each and the seed of their noise.

    Raises
    ------
    ValueError for several points, fewer than two runs and a time outside of the process.
    """
    whole("n", n, 2)
    rows, _, _ = read_rows("x", x, model.dimension, model.device)
    if len(rows) != 1:
        raise ValueError(f"x: wanted one point, got {len(rows)}")
    repeated = rows.expand(n, -1).clone()
    start: Any = repeated if is_torch(x) else repeated.cpu().numpy()
    ends = sample(model, process, steps=steps, scheme="heun_sde", t_start=t, x_start=start, seed=seed, progress=False)
    p = np.asarray(classify(ends), dtype=np.float64).reshape(n, -1)
    return p.mean(0), p.std(0, ddof=1) / np.sqrt(n)


def _work(model: Any, a: torch.Tensor, along: torch.Tensor, beta: float, panels: int = 1) -> torch.Tensor:
    """The integral of (h - <y>).dh from a to a + along, (B, D) each: (B,)."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    x = a.new_tensor(((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel())
    w = a.new_tensor(np.tile(weights / (2 * panels), panels))
    h = a[:, None] + x[:, None] * along[:, None]
    flat = h.flatten(0, 1)
    pull = -force(model, flat, flat.new_full((len(flat),), beta)).reshape(h.shape)
    return (pull * along[:, None]).sum(2) @ w


def _cumulative(model: Any, start: torch.Tensor, axis: torch.Tensor, c: torch.Tensor, beta: float) -> torch.Tensor:
    """F~ relative to each start (B, D) at start + c axis, (B, n)."""
    import torch

    n = len(c)
    first = start + c[0] * axis
    edges = first[:, None] + (c[:-1] - c[0])[None, :, None] * axis[:, None]
    length = (c[1:] - c[:-1])[None, :, None] * axis[:, None]
    pieces = _work(model, edges.flatten(0, 1), length.flatten(0, 1), beta).reshape(len(start), n - 1)
    total = torch.cat([pieces.new_zeros(len(start), 1), pieces.cumsum(1)], 1)
    k = int(c.abs().argmin())  # from there to the start is at most half a piece
    return total - total[:, k : k + 1] - _work(model, start + c[k] * axis, -c[k] * axis, beta)[:, None]
