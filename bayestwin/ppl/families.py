"""NumPyro's priors as PyMC's: by name where both have the family, else by the log density that NumPyro gives."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pymc as pm
import pytensor.tensor as pt
from numpyro.distributions import biject_to, constraints
from pymc.logprob.transforms import ScaleTransform
from pytensor.tensor.variable import TensorVariable

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.twin import Site
from bayestwin.ppl.operator import JaxTerms

type Family = tuple[Callable[..., Any], Mapping[str, Any]]
"""A distribution of PyMC's, and its parameters by PyMC's names."""

FAMILIES: Mapping[type, Callable[[Any], Family]] = {
    dist.Beta: lambda d: (pm.Beta, {"alpha": d.concentration1, "beta": d.concentration0}),
    dist.Cauchy: lambda d: (pm.Cauchy, {"alpha": d.loc, "beta": d.scale}),
    dist.Exponential: lambda d: (pm.Exponential, {"lam": d.rate}),
    dist.Gamma: lambda d: (pm.Gamma, {"alpha": d.concentration, "beta": d.rate}),
    dist.Gumbel: lambda d: (pm.Gumbel, {"mu": d.loc, "beta": d.scale}),
    dist.HalfCauchy: lambda d: (pm.HalfCauchy, {"beta": d.scale}),
    dist.HalfNormal: lambda d: (pm.HalfNormal, {"sigma": d.scale}),
    dist.InverseGamma: lambda d: (pm.InverseGamma, {"alpha": d.concentration, "beta": d.rate}),
    dist.Laplace: lambda d: (pm.Laplace, {"mu": d.loc, "b": d.scale}),
    dist.Logistic: lambda d: (pm.Logistic, {"mu": d.loc, "s": d.scale}),
    dist.LogNormal: lambda d: (pm.LogNormal, {"mu": d.loc, "sigma": d.scale}),
    dist.Normal: lambda d: (pm.Normal, {"mu": d.loc, "sigma": d.scale}),
    dist.StudentT: lambda d: (pm.StudentT, {"nu": d.df, "mu": d.loc, "sigma": d.scale}),
    dist.Uniform: lambda d: (pm.Uniform, {"lower": d.low, "upper": d.high}),
    dist.Weibull: lambda d: (pm.Weibull, {"alpha": d.concentration, "beta": d.scale}),
}

# What NumPyro makes of `TruncatedNormal(low=…)`, `(high=…)` and both.
TRUNCATED = {
    dist.LeftTruncatedDistribution: {"lower": "low"},
    dist.RightTruncatedDistribution: {"upper": "high"},
    dist.TwoSidedTruncatedDistribution: {"lower": "low", "upper": "high"},
}


class Start(NamedTuple):
    """Where chains start in one variable.

    Attributes:
        value: Its value there.
        unit: How far around it, in the unconstrained coordinate.
    """

    value: float
    unit: float


def prior_variable(site: Site, start: Start | None) -> TensorVariable:
    """The prior of a site as a free variable of the PyMC model around, under the site's name.

    PyMC starts at a variable's support point, which is set here: a model with `initval` is one that `pm.do` and
    `pm.compute_log_likelihood` refuse. From there PyMC and nutpie move each chain by up to 1 in each unconstrained
    coordinate. So that this is no farther than it should be, the coordinate is divided by the unit of the start.

    Args:
        site: The site.
        start: Where chains start; None leaves it to where the unconstrained coordinate is zero.

    Raises:
        InvalidTwin: If PyMC has no transform to where the prior lives.
    """
    settings: dict[str, Any] = {"default_transform": _transform(site)}
    at = float(biject_to(site.prior.support)(jnp.zeros(()))) if start is None else start.value
    if start is not None:
        settings["transform"] = ScaleTransform(lambda *_: np.float64(1.0 / start.unit))
    family = _family(site.prior)
    if family is None:
        return _by_log_density(site, at, settings)
    make, parameters = family

    def dist_of(*values: Any) -> Any:
        return make.dist(**dict(zip(parameters, values[:-1], strict=True)), size=values[-1])  # type: ignore[attr-defined]

    # arrays: PyTensor takes a Python float in single precision wherever that can hold it, and computes on in it
    return pm.CustomDist(
        site.name,
        *(np.asarray(value, float) for value in parameters.values()),
        dist=dist_of,
        support_point=lambda rv, *_: pt.full_like(rv, at),
        class_name=make.__name__,
        **settings,
    )


def _family(prior: Any) -> Family | None:
    """What PyMC calls a prior; None where it has no word for it."""
    if type(prior) in FAMILIES:
        return FAMILIES[type(prior)](prior)
    if type(prior) in TRUNCATED and type(prior.base_dist) is dist.Normal:
        bounds = {theirs: getattr(prior, ours) for theirs, ours in TRUNCATED[type(prior)].items()}
        return pm.TruncatedNormal, {"mu": prior.base_dist.loc, "sigma": prior.base_dist.scale} | bounds
    return None


def _by_log_density(site: Site, at: float, settings: Mapping[str, Any]) -> TensorVariable:
    prior = site.prior
    operator: Any = JaxTerms(lambda values: jnp.reshape(prior.log_prob(values[0]), (1,)))

    def draw(rng: np.random.Generator, size: tuple[int, ...] | None) -> np.ndarray:
        key = jax.random.key(int(rng.integers(2**63)))
        return np.asarray(prior.sample(key, size or ()), float)

    return pm.CustomDist(
        site.name,
        logp=lambda value: operator(pt.atleast_1d(value))[0][0],
        random=draw,
        support_point=lambda rv, *_: pt.full_like(rv, at),
        class_name=type(prior).__name__,
        **settings,
    )


def _transform(site: Site) -> Any:
    """The transform of PyMC's that maps all real numbers to where a prior lives; None for the whole line."""
    support: Any = site.prior.support
    if support is constraints.real:
        return None
    lower, upper = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if lower is None and upper is None:
        known = ", ".join(sorted(family.__name__ for family in FAMILIES))
        message = explain(
            f"The prior of `{site.name}` cannot be given to PyMC.",
            expected=f"{known}, TruncatedNormal, or any other on the real line or an interval",
            received=f"{type(site.prior).__name__}, which lives on {support}",
            advice=f"Give this one as a variable of PyMC's: `pymc_model(..., priors={{'{site.name}': …}})`.",
        )
        raise InvalidTwin(message)
    return pm.distributions.transforms.Interval(
        *(None if bound is None else np.float64(bound) for bound in (lower, upper))
    )
