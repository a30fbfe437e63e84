"""A small twin, and log densities of it that are wrong in one way each, while the right one simulates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from twins import bound_density, telemetry_of

import bayestwin as bt
from bayestwin._base.compilation import keep_compiled
from bayestwin._base.progress import Progress
from bayestwin.density.density import Density
from bayestwin.inference.many import Lengths
from bayestwin.insight.sbc import rank, simulate_many

NOISE = 0.6


def filling(noise: float = NOISE, *, swapped: bool = False) -> bt.Twin:
    """`level' = inflow − rate · level`, few and noisy observations: priors matter."""
    priors = [dist.LogNormal(0.5, 0.6), dist.LogNormal(-0.5, 0.4)]
    inflow, rate = reversed(priors) if swapped else priors
    return bt.Twin(
        name="filling",
        vector_field=lambda t, x, p, u: {"level": p.inflow - p.rate * x.level},
        states={"level": bt.State(dist.Normal(5.0, 1.0), unit="m")},
        parameters={"inflow": bt.Parameter(inflow, unit="m/h"), "rate": bt.Parameter(rate, unit="1/h")},
        observations={"level": bt.Observation(bt.Gaussian(noise), unit="m")},
        time_unit="h",
    )


def gauge(later: float = 0.0) -> bt.Telemetry:
    """Times of six observations, one of them missing; their values do not matter."""
    times = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 5.0])
    seen = np.array([5.0, 4.0, np.nan, 3.0, 2.0, 2.0])
    return telemetry_of({"time": times + later, "level": seen}, t0=0.0)


@jax.tree_util.register_pytree_node_class
class WrongJacobian(Density):
    """Changes of variables have the wrong sign."""

    def constrain_with_log_det(self, z):
        """The values, and minus the log of the determinant."""
        values, log_det = super().constrain_with_log_det(z)
        return values, -log_det


@jax.tree_util.register_pytree_node_class
class Dropped(Density):
    """The first observation is left out."""

    def log_likelihood(self, values, predicted):
        """All terms but the first."""
        terms = super().log_likelihood(values, predicted)
        return {name: jnp.where(jnp.arange(term.size) == 0, 0.0, term) for name, term in terms.items()}


def right() -> Density:
    """The log density as it should be."""
    return bound_density(filling(), gauge())


def as_a(kind: type[Density], density: Density) -> Density:
    """The same density, of another kind."""
    return kind(**{field.name: getattr(density, field.name) for field in dataclasses.fields(density)})


PLANTED = {
    "half noise": lambda: bound_density(filling(NOISE / 2.0), gauge()),
    "shifted time": lambda: bound_density(filling(), gauge(later=0.5)),
    "wrong sign in the Jacobian": lambda: as_a(WrongJacobian, right()),
    "swapped prior": lambda: bound_density(filling(swapped=True), gauge()),
    "dropped observation": lambda: as_a(Dropped, right()),
}
"""By name, a log density with that bug."""


def check(density: Density, seed: int, num: int, level: float = 0.95) -> xr.Dataset:
    """Ranks, when this density draws and the right one simulates."""
    keep_compiled()
    with Progress(show=False).phase("sbc", "", num) as phase:
        simulated = simulate_many(right(), num, seed, phase)
        return rank(density, simulated, seed=seed, lengths=Lengths(), level=level, phase=phase)
