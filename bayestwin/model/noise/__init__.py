"""How observations scatter around what the twin predicts: one small class for each noise model; they can be nested.

A new one is a subclass of `Noise`, here or anywhere else; nothing keeps a list of them. See `docs/extending.md`.
"""

from bayestwin.model.noise.autocorrelated import Autocorrelated
from bayestwin.model.noise.families import (
    Binomial,
    Gaussian,
    LogNormal,
    NegativeBinomial,
    Noise,
    NoiseFrom,
    Poisson,
    Proportional,
    StudentT,
)
from bayestwin.model.noise.wrapped import Biased, Censored, Rounded
from bayestwin.model.types import NoiseParameter

__all__ = [
    "Autocorrelated",
    "Biased",
    "Binomial",
    "Censored",
    "Gaussian",
    "LogNormal",
    "NegativeBinomial",
    "Noise",
    "NoiseFrom",
    "NoiseParameter",
    "Poisson",
    "Proportional",
    "Rounded",
    "StudentT",
]
