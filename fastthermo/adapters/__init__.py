"""Learned denoisers: any function of a noisy x as a model, whatever it was trained to predict.

With x = alpha y + sigma z, f and g the drift and diffusion of the process, the posterior mean of y given x is

    mean       m
    eps        (x - sigma eps) / alpha                          eps the mean of z
    score      (x + sigma^2 score) / alpha
    v          (alpha x - sigma v) / (alpha^2 + sigma^2)        v = alpha z - sigma y (Salimans & Ho 2022)
    velocity   (sigma' x - sigma u) / (alpha sigma' - sigma alpha')    u = alpha' y + sigma' z = dx/dt

all affine in x and the prediction, and taken in float64. At high noise eps, score and v say little about the mean: they
are divided by alpha.
"""

from fastthermo.adapters.landscapes import Regularised, regularised
from fastthermo.adapters.learned import Denoised, LearnedDenoiser
from fastthermo.adapters.libraries import (
    azula,
    denoising_diffusion_pytorch,
    diffusers,
    edm,
    k_diffusion,
    to_azula,
    to_edm,
    torchcfm,
)
from fastthermo.adapters.wrapping import wrap

__all__ = [
    "Denoised",
    "LearnedDenoiser",
    "Regularised",
    "azula",
    "denoising_diffusion_pytorch",
    "diffusers",
    "edm",
    "k_diffusion",
    "regularised",
    "to_azula",
    "to_edm",
    "torchcfm",
    "wrap",
]
