"""How observations scatter around what the twin predicts: one small class for each noise model; they can be nested.

A new one is a subclass of `base.Noise` in a file of this folder, and a line here and in the package's `__init__`.
"""

from bayestwin.noise.base import Noise
from bayestwin.noise.biased import Biased
from bayestwin.noise.continuous import Gaussian, LogNormal, Proportional, StudentT
from bayestwin.noise.correlated import Autocorrelated
from bayestwin.noise.counts import Binomial, NegativeBinomial, Poisson
from bayestwin.noise.custom import NoiseFrom
from bayestwin.noise.limits import Censored, Rounded

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
