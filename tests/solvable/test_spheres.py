"""Spheres: Bessel ratios by long arithmetic, stored digits, Goldstone modes, the critical point."""

from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scipy.optimize import brentq

import fastthermo as ft
from fastthermo import solvable
from fastthermo.solvable.bessel import ratios

VE, OU = ft.VarianceExploding(), ft.OrnsteinUhlenbeck()


def same(value: Any, rel: float = 1e-12) -> Any:
    return pytest.approx(value, rel=rel, abs=rel)


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0, 4.0, 31.5, 32.0, 499.0])
def test_bessel_ratios_agree_with_long_arithmetic(nu: float) -> None:
    k = np.r_[0.0, 1e-8, 0.3, 0.999, 1.0, 1.5, np.geomspace(2, 2e4, 6), 1e6, 1e9, 1e16]
    got = ratios(nu, torch.from_numpy(k))
    assert [float(x[0]) for x in got] == same([0, 1, 1, 1 / (2 * nu + 2)])
    for i, x in enumerate(k[1:], 1):
        with mp.workdps(80):
            i0, i1 = mp.besseli(nu, mpf(x)), mp.besseli(nu + 1, mpf(x))
            a = i1 / i0
            log_integral = mp.log(mp.gamma(nu + 1) * (2 / mpf(x)) ** nu * i0) - x
            want = (log_integral, 2 * (nu + 1) * a / x, 1 - a, 1 - a * a - (2 * nu + 1) * a / x)
            for name, value, truth in zip(got._fields, got, want, strict=True):
                size = max(1, abs(truth)) if name == "log_integral" else abs(truth)
                assert abs(mpf(float(value[i])) - truth) < 2e-13 * size, (name, x)


@pytest.mark.parametrize(
    ("d", "log_partition", "mean", "radial", "transverse"),
    [
        (3, -1.14968146961081, 0.438124726315845, 0.223880422436205, 0.29208315087723),
        (2, -1.00121263228438, 0.596133238831291, 0.247203002339655, 0.39742215922086),
    ],
)
def test_sphere_in_a_field(d: int, log_partition: float, mean: float, radial: float, transverse: float) -> None:
    law, h = solvable.sphere(d), np.array([0.3, 0.4, 0.0])[:d]
    state = law.boltzmann(h, 3.0)
    assert float(state.log_partition) == same(log_partition)
    np.testing.assert_allclose(state.mean, mean * h / 0.5, rtol=1e-12)
    n = np.outer(h, h) / 0.25
    want = radial * n + transverse * (np.eye(d) - n)
    np.testing.assert_allclose(law.covariance(h, 3.0), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("d", "value"), [(2, 0.831462024754257), (3, 0.788886566629197), (10, 0.730981843703263)])
def test_order_parameter_of_a_sphere_and_its_goldstone_modes(d: int, value: float) -> None:
    law, r = solvable.sphere(d, np.sqrt(d)), np.sqrt(d)
    unit = np.eye(d)[0]
    root = brentq(lambda x: law.boltzmann(x * unit, 2.0).force[0], 0.3 * r, r, xtol=1e-15, rtol=1e-15)
    assert root / r == same(value)
    gains = 2 * np.linalg.eigvalsh(law.covariance(root * unit, 2.0))
    np.testing.assert_allclose(gains[1:], 1, rtol=1e-12)
    assert gains[0] < 1


@pytest.mark.parametrize("d", [2, 3, 10])
def test_critical_point_of_a_sphere(d: int) -> None:
    """s_c = r^2/d, and (h*/r)^2 = (d + 2)/d (1 - s/s_c)"""
    r = 1.7
    law = solvable.sphere(d, r)
    assert ft.critical_time(law, VE) == same(r**2 / d)
    for eps in (1e-3, 1e-4):
        beta, unit = d / r**2 / (1 - eps), np.eye(d)[0]
        want = np.sqrt((d + 2) / d * eps)
        root = brentq(lambda x: law.boltzmann(x * r * unit, beta).force[0], want / 2, 2 * want, xtol=1e-15)  # noqa: B023
        assert root == pytest.approx(want, rel=eps)


def test_sphere_of_one_dimension_is_two_deltas() -> None:
    assert solvable.sphere(1, 2.0).boltzmann(np.array([0.1]), 1.0).mean == same(2 * np.tanh(0.2))
