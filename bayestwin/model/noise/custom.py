"""Any NumPyro distribution as noise, by a function of the predicted value."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, override

import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin.model.noise.base import Noise
from bayestwin.model.tracing import namespace
from bayestwin.model.types import NoiseParameter


@dataclasses.dataclass(frozen=True)
class NoiseFrom(Noise):
    """Noise from a function: `NoiseFrom(lambda v, p: dist.Gamma(p.shape, p.shape / v), {"shape": prior}, positive)`.

    Attributes:
        function: `(value, p)` → the distribution of one observation, written with `jax.numpy`; `p` gives the parameters
            as attributes. Where a value is impossible the density is NaN or −∞.
        priors: The noise parameters by name: each a prior, a known number, or the name of a parameter of the twin.
        support: Where an observation can lie, a constraint of NumPyro.
    """

    function: Callable[[Any, Any], dist.Distribution]
    priors: Mapping[str, NoiseParameter] = dataclasses.field(default_factory=dict)
    support: Any = dataclasses.field(default_factory=lambda: constraints.real)

    @property
    def own_parameters(self) -> Mapping[str, NoiseParameter]:
        """Those in `priors`."""
        return self.priors

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> dist.Distribution:
        """What the function returns."""
        given = namespace("parameters", tuple(self.priors))(*[parameters[name] for name in self.priors])
        return self.function(value, given)

    @override
    def unit_of(self, parameter: str, observation_unit: str, time_unit: str) -> str | None:
        """Unknown: only the function knows what it does with a parameter."""
        return None
