"""A law as a dense associative memory (modern Hopfield network; Ramsauer et al., arXiv:2008.02217).

Its energy at a pattern of activity h is the regularised free energy F~(h), one update is h -> <y>, a head of attention
over the stored patterns, and every update lowers the energy:

    F~(h) = -log sum_n phi_n exp(-beta |y_n - h|^2/2) / beta          F~(<y>) <= F~(h)

Stored memories are its stable fixed points; the load of N patterns in D dimensions is log(N)/D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastthermo._arrays import cast_like, is_torch


class Retrieval(NamedTuple):
    """What a memory recalls from B cues."""

    field: Any  # shaped like the cues
    steps: int  # updates made
    residual: Any  # (B,) |<y> - h| at the end, in the units of the data
    converged: Any  # (B,) whether that is below the tolerance


class Loads(NamedTuple):
    """Overlap with typical patterns, and the loads up to which a spherical memory is uncondensed and retrieves."""

    overlap: float
    condensation: float
    retrieval: float


@dataclass(frozen=True)
class AssociativeMemory:
    """The memory of a law; its patterns are the states of an `Ensemble` or what a closed form describes."""

    law: Any

    @property
    def load(self) -> float:
        """log(N)/D; infinite for a continuous law."""
        return math.log(self.law.size) / self.law.dimension

    def energy(self, field: Any, beta: Any) -> Any:
        """F~(h), one a query."""
        return self.law.boltzmann(field, beta).regularised_free_energy

    def update(self, field: Any, beta: Any) -> Any:
        """<y>, shaped like `field`."""
        return self.law.boltzmann(field, beta).mean

    def retrieve(self, cue: Any, beta: Any, tolerance: float = 1e-10, max_steps: int = 1000) -> Retrieval:
        """Updates from `cue` (D,), (B, D) or image-shaped until |<y> - h| <= tolerance times the rms of the data.

        What has not settled after `max_steps` is said so by `converged`, with its residual.
        """
        if max_steps < 1:
            raise ValueError(f"max_steps: wanted at least 1, got {max_steps}")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance: wanted a finite number of at least 0, got {tolerance}")
        scale = math.sqrt(self.law.data_variance + float(np.sum(np.square(self.law.data_mean))))
        given: Any = cue if is_torch(cue) else np.asarray(cue)
        field = given.double() if is_torch(given) else given.astype(np.float64)  # rounded, it would never settle
        for steps in range(max_steps + 1):
            state = self.law.boltzmann(field, beta)
            batch = tuple(state.log_evidence.shape)
            residual = (state.force.reshape((*batch, -1)) ** 2).sum(-1) ** 0.5
            if steps == max_steps or bool((residual <= tolerance * scale).all()):
                break
            field = state.mean
        return Retrieval(cast_like(field, given), steps, residual, residual <= tolerance * scale)


def spherical_loads(b: float) -> Loads:
    """A memory of exp(load D) random patterns on the sphere of radius sqrt(D), at beta = b, cued with one of them.

    Among the others the energy is that of a random-energy model with overlap u* = (sqrt(1 + 4 b^2) - 1)/2b. It
    condenses, and with it the weight of the nearest of them, above a temperature where the load is -log(1 - u*^2)/2;
    the cued pattern outweighs all others together up to the load b (1 - u*) - log(1 - u*^2)/2
    (Lucibello & Mezard, arXiv:2304.14964).
    """
    if not 0 < b < math.inf:
        raise ValueError(f"b: wanted a finite positive number, got {b}")
    u = 2 * b / (math.sqrt(1 + 4 * b * b) + 1)
    condensation = -math.log1p(-u * u) / 2
    return Loads(u, condensation, b * (1 - u) + condensation)
