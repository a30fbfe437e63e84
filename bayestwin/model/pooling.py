"""Pooling: quantities of several experiments that come from one population.

`T⁻¹(k_e) ~ Normal(T⁻¹(k_typical), k_spread)` for each experiment e, where T maps all real numbers to where the prior of
k lives: the exponential of what is positive, the identity of what is not bounded.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpyro.distributions as dist
from numpyro.distributions import biject_to
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import ComposeTransform, IdentityTransform, Transform

from bayestwin.errors import InvalidTwin
from bayestwin.model.components import Parameter, State
from bayestwin.model.error import check_positive
from bayestwin.model.types import Prior

TYPICAL, SPREAD = "typical", "spread"


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The prior of one experiment's value, given the population; a function of the parameters `(p)`.

    Attributes:
        typical: Name of the parameter around which values lie.
        spread: Name of the parameter that says how far they lie apart.
        support: Where values live.
    """

    typical: str
    spread: str
    support: Constraint

    def __call__(self, p: Any) -> dist.Distribution:
        """The prior: a normal on all real numbers, mapped to where values live."""
        base = dist.Normal(self.transform.inv(p[self.typical]), p[self.spread])
        return base if self.unbounded else dist.TransformedDistribution(base, self.transform)

    @property
    def transform(self) -> Any:
        """From all real numbers to where values live."""
        return biject_to(self.support)

    @property
    def unbounded(self) -> bool:
        """Whether values can be any real number."""
        return type(self.support) is type(dist.constraints.real)

    @property
    def positive(self) -> bool:
        """Whether values can be any positive number."""
        return type(self.support) is type(dist.constraints.positive)

    @property
    def words(self) -> str:
        """The prior as people read it."""
        if self.unbounded:
            return f"Normal({self.typical}, {self.spread})"
        if self.positive:
            return f"LogNormal(log {self.typical}, {self.spread})"
        return f"around {self.typical}, {self.spread} on the scale on which it can have any value"


def standard(prior: dist.Distribution) -> tuple[Any, Any, Transform]:
    """Mean and standard deviation of the normal of which a pooled prior is made, and what maps it to values."""
    if isinstance(prior, dist.TransformedDistribution):
        base: Any = prior.base_dist
        return base.loc, base.scale, ComposeTransform(prior.transforms)
    normal: Any = prior
    return normal.loc, normal.scale, IdentityTransform()


def with_populations(
    parameters: Mapping[str, Parameter], states: Mapping[str, State]
) -> tuple[Mapping[str, Parameter], Mapping[str, State]]:
    """Parameters and states of a twin, where what is pooled has its population among the parameters.

    Raises:
        InvalidTwin: If a prior cannot be that of a population, or a name is taken.
    """
    if not isinstance(parameters, Mapping) or not isinstance(states, Mapping):
        return parameters, states  # refused with all members
    given = {*parameters, *(f"{name}_initial" for name in states)}
    found: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        if getattr(parameter, "pooled", None) is None:
            found[name] = parameter
            continue
        pooled, population = _pool(
            name, f"parameter `{name}`", parameter, parameter.prior, parameter.doc or name, given
        )
        own = dataclasses.replace(parameter, prior=pooled, shared=False, pooled=None)
        found |= {**population, name: own}
    begun: dict[str, State] = {}
    for name, state in states.items():
        begun[name] = state
        if getattr(state, "pooled", None) is None:
            continue
        owner, doc = f"the initial value of state `{name}`", f"initial {state.doc or name}"
        pooled, population = _pool(f"{name}_initial", owner, state, state.initial, doc, given)
        found |= population
        begun[name] = dataclasses.replace(state, initial=pooled, shared=False, pooled=None)
    return found, begun


def _pool(
    name: str, owner: str, member: Parameter | State, prior: Any, doc: str, given: set[str]
) -> tuple[Pooled, dict[str, Parameter]]:
    """The prior of each experiment's value, and the parameters of the population that it comes from."""
    prior, spread = _checked(prior, member.pooled, owner)
    pooled = Pooled(f"{name}_{TYPICAL}", f"{name}_{SPREAD}", prior.support)  # type: ignore[arg-type]
    words, unit = f"{doc}, standard deviation between experiments", member.unit if pooled.unbounded else ""
    if not pooled.unbounded:
        words += " of the logarithm" if pooled.positive else ", where it can have any value"
    population = {
        pooled.typical: Parameter(prior, unit=member.unit, doc=f"{doc}, typical of all"),
        pooled.spread: Parameter(spread, unit=unit, doc=words),
    }
    _refuse_taken(population, given, owner)
    return pooled, population


def _checked(prior: Any, spread: Any, owner: str) -> tuple[dist.Distribution, Prior]:
    """The priors of the typical value and of the spread, if they can be those of a population."""
    if not isinstance(prior, dist.Distribution) or prior.batch_shape + prior.event_shape:
        raise InvalidTwin(
            f"{owner[0].upper()}{owner[1:]} is pooled, and has no prior of its own.",
            expected="a scalar prior: that of the typical value",
            received=f"{prior!r}",
            advice="For example `bt.Parameter(dist.LogNormal(0.0, 1.0), pooled=dist.HalfNormal(0.4))`.",
        )
    check_positive(spread, f"`pooled=` of {owner}")
    return prior, spread


def _refuse_taken(population: Mapping[str, Any], given: set[str], owner: str) -> None:
    if taken := given.intersection(population):
        raise InvalidTwin(
            f"{owner[0].upper()}{owner[1:]} is pooled, and the name of its population is taken.",
            expected=f"no other member called {' or '.join(f'`{name}`' for name in population)}",
            received=", ".join(f"`{name}`" for name in sorted(taken)),
            advice="Rename the other one.",
        )
