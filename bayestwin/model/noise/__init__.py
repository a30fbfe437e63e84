"""How observations scatter around what the twin predicts: one small class for each noise model; they can be nested.

A new one is a subclass of `Noise` (see `base`) in a file of this folder, and a line here and in the package's
`__init__.pyi`.
"""

from bayestwin.model.noise.base import Noise
from bayestwin.model.noise.correlated import Autocorrelated
from bayestwin.model.noise.plain import (
    Binomial,
    Gaussian,
    LogNormal,
    NegativeBinomial,
    NoiseFrom,
    Poisson,
    Proportional,
    StudentT,
)
from bayestwin.model.noise.wrapped import Biased, Censored, Rounded

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
    "Poisson",
    "Proportional",
    "Rounded",
    "StudentT",
]
