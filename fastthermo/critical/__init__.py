"""Where a diffusion's landscape F~(h) has its stationary points, how they branch as it cools, and when.

Everything here asks a model only for mean(field, beta) and its directional derivative, so that exact laws and learned
denoisers are interchangeable. Theory: Raya & Ambrogioni 2023; Ambrogioni, arXiv:2310.17467.
"""

from fastthermo.critical.branch import Branch, follow
from fastthermo.critical.classify import transition
from fastthermo.critical.cooling import Transition
from fastthermo.critical.diagram import bifurcation_diagram
from fastthermo.critical.flow import committor, potential_slice, sampled_committor
from fastthermo.critical.stationary import FixedPoints, fixed_points
from fastthermo.critical.tangents import lyapunov
from fastthermo.critical.times import CONVENTIONS, critical_time, critical_times
from fastthermo.critical.tree import Tree, symmetry_breaking

__all__ = [
    "CONVENTIONS",
    "Branch",
    "FixedPoints",
    "Transition",
    "Tree",
    "bifurcation_diagram",
    "committor",
    "critical_time",
    "critical_times",
    "fixed_points",
    "follow",
    "lyapunov",
    "potential_slice",
    "sampled_committor",
    "symmetry_breaking",
    "transition",
]
