"""What a trained network does with the thermodynamics of its data, each experiment a result folder like a portrait."""

from fastthermo.experiments.comparison import compare
from fastthermo.experiments.memorisation import memorise
from fastthermo.experiments.regularisation import regularise
from fastthermo.experiments.starts import late_start

__all__ = ["compare", "late_start", "memorise", "regularise"]
