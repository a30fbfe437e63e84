"""How observations scatter around what the twin predicts: one small class for each noise model; they can be nested.

A new one is a subclass of `base.Noise` in a file of this folder, and a line here and in the package's `__init__`.
"""

from bayestwin.model.noise.base import Noise
from bayestwin.model.noise.biased import Biased
from bayestwin.model.noise.correlated import Autocorrelated
from bayestwin.model.noise.counts import Binomial, NegativeBinomial, Poisson
from bayestwin.model.noise.custom import NoiseFrom
from bayestwin.model.noise.plain import Gaussian, LogNormal, Proportional, StudentT
from bayestwin.model.noise.wrapped import Censored, Rounded

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
