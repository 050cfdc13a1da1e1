"""Fast, exact thermodynamics of generative diffusion models.

Given a noisy x_t = alpha y + sigma z, clean data y are states of a physical system in the field h = x/alpha at inverse
temperature beta = alpha^2/sigma^2. `Ensemble` is that system for a data set; `posterior` its state at a time of a
diffusion process; the rest asks what such systems are asked: responses, critical times, regimes, samples.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastthermo.adapters import Denoised as Denoised
    from fastthermo.adapters import LearnedDenoiser as LearnedDenoiser
    from fastthermo.adapters import to_azula as to_azula
    from fastthermo.adapters import to_edm as to_edm
    from fastthermo.adapters import wrap as wrap
    from fastthermo.critical import critical_time as critical_time
    from fastthermo.critical import critical_times as critical_times
    from fastthermo.denoiser import Denoiser as Denoiser
    from fastthermo.denoiser import EmpiricalDenoiser as EmpiricalDenoiser
    from fastthermo.denoiser import Model as Model
    from fastthermo.ensemble import Ensemble as Ensemble
    from fastthermo.ensemble import Mixture as Mixture
    from fastthermo.ensemble import top_weights as top_weights
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
    from fastthermo.regimes import collapse_time as collapse_time
    from fastthermo.regimes import excess_entropy as excess_entropy
    from fastthermo.regimes import mutual_information as mutual_information
    from fastthermo.regimes import speciation_time as speciation_time
    from fastthermo.regimes import u_turn as u_turn
    from fastthermo.response import Susceptibility as Susceptibility
    from fastthermo.response import covariance as covariance
    from fastthermo.response import susceptibility as susceptibility
    from fastthermo.sampling import Trajectory as Trajectory
    from fastthermo.sampling import noised as noised
    from fastthermo.sampling import sample as sample
    from fastthermo.state import BoltzmannState as BoltzmannState
    from fastthermo.state import Law as Law
    from fastthermo.state import Posterior as Posterior
    from fastthermo.state import boltzmann as boltzmann
    from fastthermo.state import posterior as posterior
    from fastthermo.training import load_denoiser as load_denoiser
    from fastthermo.training import train as train

_HOME = {
    "adapters": ("Denoised", "LearnedDenoiser", "to_azula", "to_edm", "wrap"),
    "critical": ("critical_time", "critical_times"),
    "denoiser": ("Denoiser", "EmpiricalDenoiser", "Model"),
    "ensemble": ("Ensemble", "Mixture", "top_weights"),
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
        "collapse_time",
        "excess_entropy",
        "mutual_information",
        "speciation_time",
        "u_turn",
    ),
    "response": ("Susceptibility", "covariance", "susceptibility"),
    "sampling": ("Trajectory", "noised", "sample"),
    "state": ("BoltzmannState", "Law", "Posterior", "boltzmann", "posterior"),
    "training": ("load_denoiser", "train"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import fastthermo` stays light."""
    if name in _MODULE:
        return getattr(import_module(f"fastthermo.{_MODULE[name]}"), name)
    raise AttributeError(f"module 'fastthermo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
