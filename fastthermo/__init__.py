"""Fast, exact thermodynamics of generative diffusion models.

Given a noisy x_t = alpha y + sigma z, clean data y are states of a physical system in the field h = x/alpha at inverse
temperature beta = alpha^2/sigma^2. `Ensemble` is that system for a data set; `posterior` its state at a time of a
diffusion process; the rest asks what such systems are asked: responses, critical times, regimes, samples.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastthermo import adapters as adapters
    from fastthermo import datasets as datasets
    from fastthermo import exponents as exponents
    from fastthermo import solvable as solvable
    from fastthermo import sweep as sweep
    from fastthermo.adapters import Denoised as Denoised
    from fastthermo.adapters import LearnedDenoiser as LearnedDenoiser
    from fastthermo.adapters import regularised as regularised
    from fastthermo.adapters import to_azula as to_azula
    from fastthermo.adapters import to_edm as to_edm
    from fastthermo.adapters import wrap as wrap
    from fastthermo.critical import Branch as Branch
    from fastthermo.critical import FixedPoints as FixedPoints
    from fastthermo.critical import Transition as Transition
    from fastthermo.critical import Tree as Tree
    from fastthermo.critical import bifurcation_diagram as bifurcation_diagram
    from fastthermo.critical import committor as committor
    from fastthermo.critical import critical_time as critical_time
    from fastthermo.critical import critical_times as critical_times
    from fastthermo.critical import fixed_points as fixed_points
    from fastthermo.critical import follow as follow
    from fastthermo.critical import lyapunov as lyapunov
    from fastthermo.critical import potential_slice as potential_slice
    from fastthermo.critical import sampled_committor as sampled_committor
    from fastthermo.critical import symmetry_breaking as symmetry_breaking
    from fastthermo.critical import transition as transition
    from fastthermo.denoiser import Denoiser as Denoiser
    from fastthermo.denoiser import EmpiricalDenoiser as EmpiricalDenoiser
    from fastthermo.denoiser import Model as Model
    from fastthermo.ensemble import Ensemble as Ensemble
    from fastthermo.ensemble import Mixture as Mixture
    from fastthermo.ensemble import top_weights as top_weights
    from fastthermo.experiments import compare as compare
    from fastthermo.experiments import late_start as late_start
    from fastthermo.experiments import memorise as memorise
    from fastthermo.experiments import regularise as regularise
    from fastthermo.paths import Difference as Difference
    from fastthermo.paths import free_energy_difference as free_energy_difference
    from fastthermo.process import DDPM as DDPM
    from fastthermo.process import EDM as EDM
    from fastthermo.process import FlowMatching as FlowMatching
    from fastthermo.process import OrnsteinUhlenbeck as OrnsteinUhlenbeck
    from fastthermo.process import Process as Process
    from fastthermo.process import VarianceExploding as VarianceExploding
    from fastthermo.process import VariancePreserving as VariancePreserving
    from fastthermo.regimes import Estimate as Estimate
    from fastthermo.regimes import class_posteriors as class_posteriors
    from fastthermo.regimes import clone_samples as clone_samples
    from fastthermo.regimes import collapse_time as collapse_time
    from fastthermo.regimes import condensation_temperature as condensation_temperature
    from fastthermo.regimes import condensation_time as condensation_time
    from fastthermo.regimes import critical_windows as critical_windows
    from fastthermo.regimes import entropy_rate as entropy_rate
    from fastthermo.regimes import entropy_rate_peaks as entropy_rate_peaks
    from fastthermo.regimes import excess_entropy as excess_entropy
    from fastthermo.regimes import gaussian_divergence as gaussian_divergence
    from fastthermo.regimes import jacobian_spectrum as jacobian_spectrum
    from fastthermo.regimes import log_likelihood as log_likelihood
    from fastthermo.regimes import manifold_dimension as manifold_dimension
    from fastthermo.regimes import memorisation_gap as memorisation_gap
    from fastthermo.regimes import mmse as mmse
    from fastthermo.regimes import mutual_information as mutual_information
    from fastthermo.regimes import population_collapse as population_collapse
    from fastthermo.regimes import same_class as same_class
    from fastthermo.regimes import speciation_time as speciation_time
    from fastthermo.regimes import u_turn as u_turn
    from fastthermo.regimes import u_turn_samples as u_turn_samples
    from fastthermo.response import Susceptibility as Susceptibility
    from fastthermo.response import covariance as covariance
    from fastthermo.response import susceptibility as susceptibility
    from fastthermo.sampling import Trajectory as Trajectory
    from fastthermo.sampling import noised as noised
    from fastthermo.sampling import sample as sample
    from fastthermo.sharding import ShardedEnsemble as ShardedEnsemble
    from fastthermo.sharding import StreamedEnsemble as StreamedEnsemble
    from fastthermo.state import BoltzmannState as BoltzmannState
    from fastthermo.state import Law as Law
    from fastthermo.state import Posterior as Posterior
    from fastthermo.state import boltzmann as boltzmann
    from fastthermo.state import posterior as posterior
    from fastthermo.training import load_denoiser as load_denoiser
    from fastthermo.training import train as train

_HOME = {
    "adapters": ("Denoised", "LearnedDenoiser", "regularised", "to_azula", "to_edm", "wrap"),
    "critical": (
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
    ),
    "denoiser": ("Denoiser", "EmpiricalDenoiser", "Model"),
    "ensemble": ("Ensemble", "Mixture", "top_weights"),
    "experiments": ("compare", "late_start", "memorise", "regularise"),
    "paths": ("Difference", "free_energy_difference"),
    "process": (
        "DDPM",
        "EDM",
        "FlowMatching",
        "OrnsteinUhlenbeck",
        "Process",
        "VarianceExploding",
        "VariancePreserving",
    ),
    "regimes": (
        "Estimate",
        "class_posteriors",
        "clone_samples",
        "collapse_time",
        "condensation_temperature",
        "condensation_time",
        "critical_windows",
        "entropy_rate",
        "entropy_rate_peaks",
        "excess_entropy",
        "gaussian_divergence",
        "jacobian_spectrum",
        "log_likelihood",
        "manifold_dimension",
        "memorisation_gap",
        "mmse",
        "mutual_information",
        "population_collapse",
        "same_class",
        "speciation_time",
        "u_turn",
        "u_turn_samples",
    ),
    "response": ("Susceptibility", "covariance", "susceptibility"),
    "sampling": ("Trajectory", "noised", "sample"),
    "sharding": ("ShardedEnsemble", "StreamedEnsemble"),
    "state": ("BoltzmannState", "Law", "Posterior", "boltzmann", "posterior"),
    "training": ("load_denoiser", "train"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
_SUBMODULES = ("adapters", "datasets", "exponents", "solvable", "sweep")  # asked for as `ft.solvable.two_deltas`

__all__ = sorted((*_MODULE, *_SUBMODULES))


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import fastthermo` stays light."""
    if name in _SUBMODULES:
        return import_module(f"fastthermo.{name}")
    if name in _MODULE:
        return getattr(import_module(f"fastthermo.{_MODULE[name]}"), name)
    raise AttributeError(f"module 'fastthermo' has no attribute {name!r}")


def __dir__() -> list[str]:
    hidden = {"Any", "TYPE_CHECKING", "import_module"}
    return sorted({*globals(), *__all__} - hidden)
