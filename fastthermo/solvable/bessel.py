"""Ratios of modified Bessel functions to a few roundings, for every order nu >= 0 and argument k >= 0.

    A = I_{nu+1}(k) / I_nu(k)          rho = 2 (nu + 1) A / k, in (0, 1]          gap = 1 - A

From Debye's expansion (DLMF 10.41) at an order of at least ORDER, where TERMS of it are exact to rounding, down by
A_nu = 1 / (2 (nu + 1)/k + A_{nu+1}), written for rho where k is small and for the gap where it is large, so that
nothing is lost to cancellation at either end.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from numpy.polynomial import Polynomial

Tensor = torch.Tensor
ORDER, TERMS = 32, 14


class Ratios(NamedTuple):
    """At order nu and argument k, each of the shape of k."""

    log_integral: Tensor  # log [Gamma(nu + 1) (2/k)^nu I_nu(k)] - k
    rho: Tensor  # 2 (nu + 1) A / k
    gap: Tensor  # 1 - A
    slope: Tensor  # dA/dk


def ratios(nu: float, k: Tensor) -> Ratios:
    """See the module; k float64 of any shape, differentiable."""
    steps = max(0, math.ceil(ORDER - nu))
    log_integral, rho, gap, slope = _debye(nu + steps, k)
    small = k < 1
    large = torch.where(small, 1.0, k)  # finite in the form for large k also where that is not used
    for j in range(steps - 1, -1, -1):
        e = 2 * (nu + j + 1)
        far = (e - large * gap) / (e + large * (1 - gap))
        rho = 1 / (1 + k * k / (e * (e + 2)) * rho)
        gap = torch.where(small, 1 - k * rho / e, far)
        # dA_nu/dk = A_nu^2 (e/k^2 - dA_{nu+1}/dk), with A_nu/k taken from rho or from the gap
        slope = torch.where(small, rho / e, (1 - far) / large) ** 2 * (e - k * k * slope)
        log_integral = log_integral - rho.log()
    return Ratios(log_integral, rho, gap, slope)


def _debye(nu: float, k: Tensor) -> Ratios:
    """With z = k/nu, p = (1 + z^2)^-1/2, U and V the sums of DLMF 10.41.10 and .11: V/U = 1 - p (1 - p^2) ratio."""
    z = k / nu
    s = (1 + z * z).sqrt()
    p = 1 / s
    u, du, w, dw = (_horner(c, p) for c in _coefficients(nu))
    ratio, dratio = w / (nu * u), (dw - w * du / u) / (nu * u)
    exponent = -z * (1 + 1 / (s + z)) / (s + 1) - (z * z / (2 * (s + 1))).log1p()
    return Ratios(
        log_integral=_stirling(nu) + nu * exponent - s.log() / 2 + u.log(),
        rho=2 * (1 + 1 / nu) * (1 / (s + 1) - p * p * ratio),
        gap=2 / (1 + z + s) + z * p * p * ratio,
        slope=(1 / (s * (s + 1)) - (1 - z * z) * p**4 * ratio + z * z * p**5 * dratio) / nu,
    )


def _stirling(nu: float) -> float:
    """log [Gamma(nu + 1) e^nu nu^-nu / sqrt(2 pi nu)]"""
    x = 1 / (nu * nu)
    return (1 / 12 - x * (1 / 360 - x * (1 / 1260 - x * (1 / 1680 - x * (1 / 1188 - x * 691 / 360360))))) / nu


@cache
def _coefficients(nu: float) -> tuple[tuple[float, ...], ...]:
    """In p, of U = sum U_k / nu^k, its derivative, W = sum (U_k/2 + p U_k') / nu^k and its derivative."""
    p = Polynomial([0.0, 1.0])
    term, u, w = Polynomial([1.0]), Polynomial([0.0]), Polynomial([0.0])
    for i in range(TERMS):
        u = u + term / nu**i
        w = w + (term / 2 + p * term.deriv()) / nu**i
        term = p**2 * (1 - p**2) * term.deriv() / 2 + ((1 - 5 * p**2) * term).integ() / 8
    return tuple(tuple(map(float, x.coef)) for x in (u, u.deriv(), w, w.deriv()))


def _horner(coefficients: tuple[float, ...], p: Tensor) -> Tensor:
    out = torch.full_like(p, coefficients[-1])
    for c in coefficients[-2::-1]:
        out = out * p + c
    return out
