"""One case for each noise model: the model, values of its parameters, and the same distribution by SciPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints
from scipy import stats

import bayestwin as bt
from bayestwin.model.noise import Noise

TIMES = np.array([0.0, 0.4, 1.0, 1.1, 2.5])
LOWER, UPPER, STEP, TRIALS = 1.0, 4.0, 0.5, 12


class Case(NamedTuple):
    """A noise model to test.

    Attributes:
        noise: With a prior on each parameter that calibration is to recover.
        given: Values of its parameters.
        scipy: (value, time) → the distribution, before limits and rounding.
        observed: At `TIMES`.
        value: Predicted at `TIMES`.
        scale: What a predicted value is, from the level of a decaying tank.
    """

    noise: Noise
    given: dict[str, float]
    scipy: Callable[[Any, Any], Any]
    observed: list[float]
    value: list[float]
    scale: Callable = lambda level: level


def gamma(value: Any, p: Any) -> dist.Distribution:
    return dist.Gamma(p.shape, p.shape / value)


REAL = [0.7, 2.9, -1.0, 4.4, 3.2], [1.0, 2.5, 0.1, 3.9, 3.0]
POSITIVE = [0.7, 2.9, 0.02, 4.4, 3.2], [1.0, 2.5, 0.1, 3.9, 3.0]
COUNTS = [0.0, 3.0, 12.0, 1.0, 40.0], [0.3, 2.5, 8.0, 3.9, 33.0]
SHARES = [0.0, 12.0, 5.0, 1.0, 11.0], [0.1, 0.9, 0.5, 0.02, 0.99]
SMALL = dist.LogNormal(-1.5, 0.7)

CASES = {
    "gaussian": Case(bt.Gaussian(SMALL), {"scale": 0.3}, lambda v, t: stats.norm(v, 0.3), *REAL),
    "proportional": Case(
        bt.Proportional(SMALL, dist.LogNormal(-2.0, 0.3)),
        {"scale": 0.3, "relative": 0.2},
        lambda v, t: stats.norm(v, np.sqrt(0.09 + 0.04 * v**2)),
        *REAL,
    ),
    "lognormal": Case(bt.LogNormal(SMALL), {"scale": 0.3}, lambda v, t: stats.lognorm(0.3, scale=v), *POSITIVE),
    "student": Case(
        bt.StudentT(SMALL, dist.LogNormal(1.5, 0.3)),
        {"scale": 0.3, "df": 3.0},
        lambda v, t: stats.t(3.0, v, 0.3),
        *REAL,
    ),
    "poisson": Case(bt.Poisson(), {}, lambda v, t: stats.poisson(v), *COUNTS, lambda level: 4.0 * level),
    "negative binomial": Case(
        bt.NegativeBinomial(dist.LogNormal(1.0, 0.5)),
        {"concentration": 2.5},
        lambda v, t: stats.nbinom(2.5, 2.5 / (2.5 + v)),
        *COUNTS,
        lambda level: 4.0 * level,
    ),
    "binomial": Case(
        bt.Binomial(TRIALS), {}, lambda v, t: stats.binom(TRIALS, v), *SHARES, lambda level: level / (2.0 + level)
    ),
    "biased": Case(
        bt.Biased(bt.Gaussian(SMALL), bias=dist.Normal(0.0, 0.3), drift=dist.Normal(0.0, 0.2)),
        {"scale": 0.3, "bias": 0.4, "drift": -0.2},
        lambda v, t: stats.norm(v + 0.4 - 0.2 * t, 0.3),
        *REAL,
    ),
    "censored": Case(
        bt.Censored(bt.Gaussian(SMALL), lower=LOWER, upper=UPPER),
        {"scale": 0.3},
        lambda v, t: stats.norm(v, 0.3),
        [LOWER, 2.9, LOWER, UPPER, 3.2],
        REAL[1],
    ),
    "censored student": Case(
        bt.Censored(bt.StudentT(SMALL), lower=LOWER, upper=UPPER),
        {"scale": 0.3, "df": 4.0},
        lambda v, t: stats.t(4.0, v, 0.3),
        [LOWER, 2.9, LOWER, UPPER, UPPER],
        REAL[1],
    ),
    "censored lognormal": Case(
        bt.Censored(bt.LogNormal(SMALL), lower=LOWER),
        {"scale": 0.3},
        lambda v, t: stats.lognorm(0.3, scale=v),
        [LOWER, 2.9, LOWER, 4.4, LOWER],
        POSITIVE[1],
    ),
    "censored poisson": Case(
        bt.Censored(bt.Poisson(), upper=10.0),
        {},
        lambda v, t: stats.poisson(v),
        [0.0, 3.0, 10.0, 1.0, 10.0],
        COUNTS[1],
        lambda level: 4.0 * level,
    ),
    "censored negative binomial": Case(
        bt.Censored(bt.NegativeBinomial(dist.LogNormal(1.0, 0.5)), lower=1.0, upper=12.0),
        {"concentration": 2.5},
        lambda v, t: stats.nbinom(2.5, 2.5 / (2.5 + v)),
        [1.0, 3.0, 12.0, 1.0, 12.0],
        COUNTS[1],
        lambda level: 4.0 * level,
    ),
    "rounded": Case(
        bt.Rounded(bt.Gaussian(SMALL), STEP),
        {"scale": 0.3},
        lambda v, t: stats.norm(v, 0.3),
        [0.5, 3.0, -1.0, 4.5, 3.0],
        REAL[1],
    ),
    "rounded lognormal": Case(
        bt.Rounded(bt.LogNormal(SMALL), STEP),
        {"scale": 0.3},
        lambda v, t: stats.lognorm(0.3, scale=v),
        [0.5, 3.0, 0.0, 4.5, 3.0],
        POSITIVE[1],
    ),
    "censored, rounded, biased": Case(
        bt.Biased(bt.Censored(bt.Rounded(bt.Gaussian(SMALL), STEP), upper=UPPER), bias=dist.Normal(0.0, 0.3)),
        {"scale": 0.3, "bias": 0.4, "drift": 0.0},
        lambda v, t: stats.norm(v + 0.4, 0.3),
        [1.5, 3.0, 0.5, UPPER, UPPER],
        REAL[1],
    ),
    "from a function": Case(
        bt.NoiseFrom(gamma, {"shape": dist.LogNormal(2.0, 0.5)}, constraints.positive),
        {"shape": 6.0},
        lambda v, t: stats.gamma(6.0, scale=v / 6.0),
        *POSITIVE,
    ),
}
"""Autocorrelated noise has tests of its own: its observations are not independent."""


def limits_of(noise: Noise) -> tuple[float, float, float]:
    """Lower and upper limit and rounding step of a noise model: −∞, ∞ and 0 where it has none."""
    found = {name: value for layer in noise.layers() for name, value in vars(layer).items()}
    lower, upper = found.get("lower"), found.get("upper")
    return -np.inf if lower is None else lower, np.inf if upper is None else upper, found.get("step", 0.0)
