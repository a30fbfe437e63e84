"""NumPyro's priors as PyMC's: by name where both have the family, else by the log density that NumPyro gives."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pymc as pm
import pytensor.tensor as pt
from numpyro.distributions import biject_to, constraints

from bayestwin.errors import InvalidTwin, explain
from bayestwin.ppl.operator import JaxTerms
from bayestwin.twin import Site

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


def prior_variable(site: Site, initval: float | None) -> pt.TensorVariable:
    """The prior of a site as a free variable of the PyMC model around, under the site's name.

    Args:
        site: The site.
        initval: Where PyMC starts; None leaves it to PyMC.

    Raises:
        InvalidTwin: If PyMC has neither the family nor a transform to where the prior lives.
    """
    family = _family(site.prior)
    if family is None:
        return _by_log_density(site, initval)
    make, parameters = family
    # arrays: PyTensor takes a Python float in single precision wherever that can hold it, and computes on in it
    return make(site.name, **{name: np.asarray(value, float) for name, value in parameters.items()}, initval=initval)


def _family(prior: Any) -> Family | None:
    """What PyMC calls a prior; None where it has no word for it."""
    if type(prior) in FAMILIES:
        return FAMILIES[type(prior)](prior)
    if type(prior) in TRUNCATED and type(prior.base_dist) is dist.Normal:
        bounds = {theirs: getattr(prior, ours) for theirs, ours in TRUNCATED[type(prior)].items()}
        return pm.TruncatedNormal, {"mu": prior.base_dist.loc, "sigma": prior.base_dist.scale} | bounds
    return None


def _by_log_density(site: Site, initval: float | None) -> pt.TensorVariable:
    prior = site.prior
    operator = JaxTerms(lambda values: jnp.reshape(prior.log_prob(values[0]), (1,)))
    centre = float(biject_to(prior.support)(jnp.zeros(())))

    def draw(rng: np.random.Generator, size: tuple[int, ...] | None) -> np.ndarray:
        key = jax.random.key(int(rng.integers(2**63)))
        return np.asarray(prior.sample(key, size or ()), float)

    return pm.CustomDist(
        site.name,
        logp=lambda value: operator(pt.atleast_1d(value))[0][0],
        random=draw,
        support_point=lambda rv, size: pt.full_like(rv, centre),  # noqa: ARG005
        class_name=type(prior).__name__,
        default_transform=_transform(site),
        initval=initval,
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
    return pm.distributions.transforms.Interval(*(None if bound is None else np.float64(bound) for bound in (lower, upper)))
