"""What a trained network does with the thermodynamics of its data, each experiment a result folder like a portrait."""

from fastthermo.experiments.comparison import compare
from fastthermo.experiments.late_start import late_start
from fastthermo.experiments.memorisation import memorise
from fastthermo.experiments.regularisation import regularise

__all__ = ["compare", "late_start", "memorise", "regularise"]
