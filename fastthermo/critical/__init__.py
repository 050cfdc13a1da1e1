"""Where a diffusion's landscape F~(h) has its stationary points, how they branch as it cools, and when.

Everything here asks a model only for mean(field, beta) and its directional derivative, so that exact laws and learned
denoisers are interchangeable. Theory: Raya & Ambrogioni 2023; Ambrogioni, arXiv:2310.17467.
"""

from fastthermo.critical.fixed_points import FixedPoints, fixed_points
from fastthermo.critical.times import CONVENTIONS, critical_time, critical_times

__all__ = ["CONVENTIONS", "FixedPoints", "critical_time", "critical_times", "fixed_points"]
