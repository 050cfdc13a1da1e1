"""The first transition on cooling, and of which kind it is.

    pitchfork      the high-temperature phase becomes unstable and others leave it continuously
    saddle-node    another minimum of F~ appears at a distance, with a saddle, and stays above the first
    first-order    ... and later becomes the lower of the two: at the Maxwell point both are as low
    none           one minimum at every temperature looked at, or several that are there from the hottest on

None of the four is assumed: the high-temperature phase and every other one found are followed over s = 1/beta through
their folds, and what comes first decides (`cooling.py`). Ambrogioni, arXiv:2310.17467, for what the transitions mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import whole
from fastthermo.critical.branch import check_betas
from fastthermo.critical.cooling import TOLERANCE, Cooling, Transition
from fastthermo.critical.starts import averages, data, spread
from fastthermo.critical.stationary import fixed_points, spectrum

if TYPE_CHECKING:
    import torch

TOGETHER = 4  # temperatures searched at once, from hot to cold


def transition(
    model: Any,
    betas: tuple[float, float] | None = None,
    temperatures: int = 24,
    n: int = 256,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Transition:
    """The first transition of a law or denoiser on cooling.

    Parameters
    ----------
    betas : the range looked at; by default from where F~ is surely convex (beta |y - mean|^2 < 1 for all data) to 100
        over the data variance in its leading direction, within the process of a denoiser.
    temperatures : of the search for fixed points, uniform in log beta; transitions that come and go between two of them
        may be missed.
    n, seed : starts at each of them, as in `fixed_points`.
    tolerance : of the fixed points, |<y> - h| in units of the spread of the starts.

    Raises
    ------
    ValueError for a range, a number or a tolerance that cannot be, and for a model that can neither draw data nor be
    sampled.
    """
    whole("temperatures", temperatures, 1)
    whole("n", n, 1)
    rows = averages(data(model, n, seed), n, seed)
    scale = spread(model, 1.0 if betas is None else betas[0], rows)
    if betas is None:
        betas = _range(model, data(model, n, seed), scale)
    check_betas(betas)
    grid = np.geomspace(*betas, temperatures)
    unconverged, previous = 0, None
    for block in np.array_split(grid, -(-temperatures // TOGETHER)):
        for found in fixed_points(model, block, rows, newton_starts=n, tolerance=tolerance, seed=seed):
            unconverged += found.unconverged
            one = len(found) == 1 and bool(found.stable[0])
            if not one and len(found):
                hot = previous if previous is not None else found
                return Cooling(model, hot, found, betas, scale, unconverged, seed).classify()
            previous = found if one else previous
    return Transition("none", *(np.nan, None, (np.nan, np.nan), np.nan, np.nan, np.nan), betas, unconverged)


def _range(model: Any, rows: torch.Tensor, scale: float) -> tuple[float, float]:
    low = 1 / (float((rows - rows.mean(0)).square().sum(1).max()) or scale**2)
    gain, _, _ = spectrum(model, rows.mean(0, keepdim=True), rows.new_full((1,), low))
    high = max(100 / max(float(gain[0]), 1e-3), 10) * low
    if hasattr(model, "process"):
        least, most = model.process.beta_range
        low, high = max(low, least), min(high, most)
    return low, high
