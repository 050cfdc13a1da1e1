"""What backends derive from sums in one pass is what `ops.moments` derives from them."""

from typing import Any

import pytest

from fastthermo.kernels import reference
from fastthermo.ops.moments import derive

OF_MOMENTS = "log_evidence", "mean", "force", "energy", "entropy", "energy_variance", "reference", "log_prior"


@pytest.mark.parametrize("name", ["numba", "triton"])
def test_moments_of_a_kernel_are_those_of_the_formulas(name: str, case: Any, request: pytest.FixtureRequest) -> None:
    if name == "numba":
        from fastthermo.kernels import numba as kernels
    else:
        kernels = request.getfixturevalue("interpreted")
    log_weights, field, beta = case.rest
    sums = reference.boltzmann(reference.pack(case.states, log_weights), field, beta)
    want = derive(sums, case.states[sums.dominant].double(), log_weights[sums.dominant], field, beta)
    found = kernels.derive(case.states, log_weights, field, beta, sums)
    terms = {
        "log_evidence": beta * sums.energy_min + sums.log_rest.abs(),
        "entropy": beta * sums.excess + sums.log_rest.abs(),
        "energy_variance": sums.excess_square,
    }
    for quantity, x in zip(OF_MOMENTS, found, strict=True):
        y = getattr(want, quantity)
        scale = y.abs() + terms.get(quantity, 0) + 1e-300
        assert ((x - y).abs() <= 4e-16 * scale).all(), quantity
