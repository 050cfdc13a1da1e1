"""What a trained network does with the thermodynamics of its data, each experiment a result folder like a portrait."""

from fastthermo.experiments.comparison import compare

__all__ = ["compare"]
