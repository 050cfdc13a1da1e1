"""Whole calls pass Triton's own binder and compiler as on a GPU, with the arguments that they really give kernels."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux"),
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first test waits for all compilations
]
KEYS = "op", "dtype", "precision", "size", "dimension", "queries"
CALLS = [
    ("mean", "float32", "single", 600, 24, 3),  # rows that no vector divides
    ("mean", "uint8", "double", 600, 24, 3),
    ("mean", "float64", "double", 300, 2, 1),
    ("mean", "float32", "single", 300, 3, 70),
    ("covariance", "float32", "single", 600, 24, 3),
    ("covariance", "uint8", "double", 600, 24, 3),
    ("cumulant", "uint8", "single", 600, 200, 40),
    ("cumulant", "float32", "double", 600, 24, 3),
    ("evolve", "float32", "single", 300, 3, 70),
]


@pytest.fixture(scope="module")
def kernels(compiled: Callable[..., Any]) -> dict[tuple[Any, ...], Any]:
    found = compiled([dict(zip(KEYS, call, strict=True)) for call in CALLS], "standin:launched")
    return dict(zip(CALLS, found, strict=True))


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_call_compiles_and_launches_its_kernels(call: tuple[Any, ...], kernels: dict[Any, Any]) -> None:
    found = kernels[call]
    if isinstance(found, Exception):
        raise found
    last = {"mean": ("_finish_kernel", "_settle_kernel", "_near_kernel"), "covariance": ("_covariance_kernel",)}
    last |= {"cumulant": ("_again_kernel", "_cumulant_kernel"), "evolve": ("_evolve_kernel",)}
    assert any(name in found for name in last[call[0]])
