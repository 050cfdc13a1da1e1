"""Dynamical regimes of generation (Biroli, Bonnaire, de Bortoli & Mezard, arXiv:2402.18491).

Cooling from noise, samples first choose a class (speciation), later a single training point (collapse). What x_t knows
of its data point, its class and its manifold is measured along noised data, with standard errors.
"""

from fastthermo.regimes.averages import Estimate, average, choose
from fastthermo.regimes.information import (
    Peak,
    entropy_rate,
    entropy_rate_peaks,
    excess_entropy,
    gaussian_divergence,
    log_likelihood,
    memorisation_gap,
    mmse,
    mutual_information,
)
from fastthermo.regimes.memory import (
    Windows,
    class_posteriors,
    clone_samples,
    critical_windows,
    same_class,
    total_variation,
    u_turn,
    u_turn_samples,
)
from fastthermo.regimes.spectra import (
    Dimension,
    Spectrum,
    gap_dimension,
    jacobian_spectrum,
    manifold_dimension,
    score_singular_values,
    singular_dimension,
)
from fastthermo.regimes.times import (
    collapse_time,
    condensation_spectrum,
    condensation_temperature,
    condensation_time,
    population_collapse,
    rem_participation,
    speciation_time,
)

__all__ = [
    "Dimension",
    "Estimate",
    "Peak",
    "Spectrum",
    "Windows",
    "average",
    "choose",
    "class_posteriors",
    "clone_samples",
    "collapse_time",
    "condensation_spectrum",
    "condensation_temperature",
    "condensation_time",
    "critical_windows",
    "entropy_rate",
    "entropy_rate_peaks",
    "excess_entropy",
    "gap_dimension",
    "gaussian_divergence",
    "jacobian_spectrum",
    "log_likelihood",
    "manifold_dimension",
    "memorisation_gap",
    "mmse",
    "mutual_information",
    "population_collapse",
    "rem_participation",
    "same_class",
    "score_singular_values",
    "singular_dimension",
    "speciation_time",
    "total_variation",
    "u_turn",
    "u_turn_samples",
]
