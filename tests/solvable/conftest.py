"""One law of every kind, and the temperatures that they are asked at."""

from typing import Any

import numpy as np
import pytest

from fastthermo import solvable

RNG = np.random.default_rng(0)
LAWS = {
    "two deltas": solvable.two_deltas([1.0, -0.5, 2.0], 0.6),
    "simplex": solvable.simplex(4, 1.3),
    "circle": solvable.sphere(2, 1.5),
    "sphere": solvable.sphere(5, 1.5),
    "ring": solvable.ising_ring(7, 0.4),
    "curie-weiss": solvable.curie_weiss(6, 0.8),
    "symmetric curie-weiss": solvable.curie_weiss(50, 1.2).symmetric(),
    "gaussian": solvable.gaussian(np.cov(RNG.normal(size=(3, 9))), [0.3, -1.0, 0.5]),
    "mixture": solvable.gaussian_mixture(RNG.normal(size=(4, 3)), [0.0, 0.1, 0.7, 2.0], [0.1, 0.4, 0.3, 0.2]),
}
BETAS = np.geomspace(1e-8, 1e8, 17)


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Any:
    return LAWS[request.param]


@pytest.fixture
def laws() -> dict[str, Any]:
    return LAWS


@pytest.fixture
def betas() -> np.ndarray:
    return BETAS
