"""The priors of all sites together, and the coordinates in which samplers move: from these to values, and back."""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import biject_to
from numpyro.distributions.batch_util import promote_batch_shape
from numpyro.distributions.constraints import Constraint

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Itself, Keyed, key_of
from bayestwin.density.shared_prior import SharedPrior
from bayestwin.model.dependence import parameters, prior_of
from bayestwin.model.pooling import standard
from bayestwin.model.twin import Site, Twin

# The numbers of priors are arguments of compiled programs, so that other priors of the same kinds compile none.


def numbers_of(prior: Any) -> list[Any]:
    """The numbers of which a prior is made, in an order that is the same in every process."""
    if _is_number(prior):
        return [prior]
    return [number for part in _parts(prior).values() for number in numbers_of(part)]


def form_of(prior: Any) -> Hashable:
    """A key of all that a prior is beside its numbers."""
    if _is_number(prior):
        return "number"
    parts = _parts(prior)
    if not parts:
        return key_of(prior)
    fields = getattr(prior, "gather_pytree_aux_fields", tuple)()
    beside = tuple((name, key_of(vars(prior).get(name))) for name in sorted(fields))
    return Itself(type(prior)), beside, tuple((name, form_of(part)) for name, part in parts.items())


def renumbered(prior: Any, numbers: Iterator[Any]) -> Any:
    """A prior of the same form that is made of other numbers, in the order of `numbers_of`."""
    if _is_number(prior):
        return next(numbers)
    parts = _parts(prior)
    if not parts:
        return prior
    made = {name: renumbered(part, numbers) for name, part in parts.items()}
    _, beside = prior.tree_flatten()
    names = prior.gather_pytree_data_fields() if isinstance(prior, dist.Distribution) else beside[0]
    return type(prior).tree_unflatten(beside, tuple(made[name] for name in names))


def numbers_of_all(sites: Sequence[Site]) -> list[Any]:
    """The numbers of the priors of all sites; floating-point numbers, or what JAX has put in their place."""
    numbers = [number for site in sites if not site.dependent for number in numbers_of(site.prior)]
    return [np.asarray(one, float) if isinstance(one, int | float | np.number | np.ndarray) else one for one in numbers]


def forms_of(sites: Sequence[Site]) -> dict[int, Hashable]:
    """What stands in keys for the priors of sites, by the identity of each."""
    return {id(site.prior): form_of(site.prior) for site in sites if not site.dependent}


def with_numbers(sites: Sequence[Site], numbers: Sequence[Any]) -> tuple[Site, ...]:
    """The sites, their priors made of other numbers."""
    given = iter(numbers)
    return tuple(s if s.dependent else s._replace(prior=renumbered(s.prior, given)) for s in sites)


def _parts(value: Any) -> dict[str, Any]:
    """What a distribution is made of, and what bounds where it lives; of anything else nothing is told apart."""
    if isinstance(value, dist.Distribution):
        return {name: vars(value).get(name) for name in sorted(value.gather_pytree_data_fields())}
    if isinstance(value, Constraint) and {"lower_bound", "upper_bound"} & set(vars(value)):
        parts, (names, _) = value.tree_flatten()
        return dict(zip(names, parts, strict=True))
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.ndarray | Array) and not isinstance(value, bool)


NOTHING: Mapping[str, Array] = types.MappingProxyType({})


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Priors:
    """The joint prior of all sites: `p(θ) = Π p(θ_i | θ_1 … θ_(i−1), what the record brings along)`.

    It is a pytree whose leaves are what is known, and the numbers of which priors are made.

    Attributes:
        twin: The twin.
        sites: What is inferred, in the order of z; the prior of each may depend on those before it.
        num_experiments: How many there are; 0 where there is one telemetry alone.
        known: Numbers that the record brings along, by name; with several experiments shape (E,) each.
        centring: How far the coordinates of what is pooled are centred, from 0 to 1, by name: see `_centred`.
        learnt: The joint prior of all that is shared, in place of what sites say of it, if there is one.
    """

    twin: Twin
    sites: tuple[Site, ...]
    num_experiments: int = 0
    known: Mapping[str, ArrayLike] = dataclasses.field(default_factory=dict)
    centring: Mapping[str, ArrayLike] = dataclasses.field(default_factory=dict)
    learnt: SharedPrior | None = None

    def shape_of(self, site: Site) -> tuple[int, ...]:
        """The shape of a site's values: one number, or one for each experiment."""
        return () if site.shared or not self.num_experiments else (self.num_experiments,)

    @property
    def sizes(self) -> list[int]:
        """How many coordinates each site has."""
        return [math.prod(self.shape_of(site)) for site in self.sites]

    def constrain(self, z: Array) -> tuple[dict[str, Array], Array]:
        """Values of all sites, and the log of the determinant of their derivative with respect to z, shape (d,)."""
        values, correction = {}, jnp.zeros(())
        for site, coordinate in zip(self.sites, self._split(z), strict=True):
            how = (_constrained,) if not site.pooled else (_centred, self.centring_of(site))
            values[site.name], stretch = self._each(how[0], site, values, coordinate, *how[1:])
            correction += _total(stretch)
        return values, correction

    def unconstrain(self, values: Mapping[str, ArrayLike]) -> Array:
        """The z of given values, shape (d,)."""
        parts = []
        for site in self.sites:
            how = (_unconstrained,) if not site.pooled else (_uncentred, self.centring_of(site))
            parts.append(self._each(how[0], site, values, jnp.asarray(values[site.name], float), *how[1:]))
        return jnp.concatenate([jnp.atleast_1d(part) for part in parts]) if self.num_experiments else jnp.stack(parts)

    def centring_of(self, site: Site) -> Array:
        """How far the coordinates of a pooled site are centred; not at all where nothing is said."""
        return jnp.broadcast_to(jnp.asarray(self.centring.get(site.name, 0.0), float), self.shape_of(site))

    def sample(self, key: Array, given: Mapping[str, Array] = NOTHING) -> dict[str, Array]:
        """One draw of all sites from their priors, of those that are not given; given ones stand before them."""
        shapes = [self.shape_of(site) for site in self.sites]
        ends = np.cumsum(self.sizes)
        # one call for all that are normal: each takes long to compile
        shares = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
        learnt = self._sampled_shared(shares)
        found: dict[str, Array] = {}
        for number, (site, shape, share) in enumerate(zip(self.sites, shapes, shares, strict=True)):
            if site.name in given:
                found[site.name] = given[site.name]
                continue
            if site.name in learnt:
                found[site.name] = biject_to(self.prior(site, found).support)(learnt[site.name])
                continue
            own, normal = jax.random.fold_in(key, number), share.reshape(shape)
            if self._varies(site):
                drawn = self._each(_sampled, site, found, jax.random.split(own, shape), normal)
            else:
                drawn = self._each(functools.partial(_sampled, shape=shape), site, found, own, normal)
            found[site.name] = drawn
        return found

    def log_density(self, values: Mapping[str, Array]) -> Array:
        """Log prior density of values, in the constrained space."""
        own = [site for site in self.sites if not (self.learnt and site.shared)]
        terms = [_total(self._each(_log_density, site, values, values[site.name])) for site in own]
        return jnp.stack([*terms, *self._log_density_of_shared(values)]).sum()

    def _log_density_of_shared(self, values: Mapping[str, Array]) -> list[Array]:
        """That of all that is shared, where its joint prior is known."""
        if self.learnt is None:
            return []
        places, corrections = [], []
        for site in self.sites:
            if site.shared:
                prior, value = self.prior(site, values), jnp.asarray(values[site.name])
                places.append(_unconstrained(prior, value))
                corrections.append(_constrained(prior, places[-1])[1])
        return [self.learnt.log_density(jnp.stack(places)) - jnp.stack(corrections).sum()]

    def _sampled_shared(self, shares: Sequence[Array]) -> dict[str, Array]:
        """Coordinates of all that is shared, of its joint prior where that is known."""
        if self.learnt is None:
            return {}
        own = {site.name: share for site, share in zip(self.sites, shares, strict=True) if site.shared}
        return dict(zip(own, self.learnt.from_normal(jnp.concatenate(list(own.values()))), strict=True))

    def derive(self, values: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Values of the parameters that are derived from others, or of each experiment where theirs differ."""
        own = {site.name for site in self.sites}
        given = {**self.known, **{name: value for name, value in values.items() if name in own}}
        if not self.num_experiments:
            p = parameters(self.twin, given)
            return {name: getattr(p, name) for name in self.twin.derived}
        each = self._vmap(lambda given: parameters(self.twin, given)._asdict(), self._axes(given))(given)
        differing = self.twin.differing
        return {name: each[name] if name in differing else each[name][0] for name in self.twin.derived}

    def prior(self, site: Site, values: Mapping[str, Any]) -> dist.Distribution:
        """The prior of a site, given the values of those before it; of several experiments in one batch."""
        if not self._varies(site):
            return prior_of(self.twin, site, {**self.known, **values} if site.dependent else values)
        known = {**self.known, **values}
        of_each = self._vmap(lambda own: prior_of(self.twin, site, own), self._axes(known))
        return promote_batch_shape(of_each(known))

    def _varies(self, site: Site) -> bool:
        """Whether the prior of a site is another one in each experiment."""
        return bool(self.num_experiments) and site.dependent and not site.shared

    def _each(self, function: Callable[..., Any], site: Site, values: Mapping[str, Any], *given: Any) -> Any:
        """A function of a site's prior, or of that of each experiment; what is given has then a leading axis."""
        if not self._varies(site):
            return function(self.prior(site, values), *given)
        known = {**self.known, **values}

        def one(own: Mapping[str, Any], *given: Any) -> Any:
            return function(prior_of(self.twin, site, own), *given)

        return self._vmap(one, self._axes(known), *[0] * len(given))(known, *given)

    def _vmap(self, function: Callable[..., Any], *axes: Any) -> Callable[..., Any]:
        return jax.vmap(function, in_axes=axes, axis_size=self.num_experiments)

    def _axes(self, values: Mapping[str, Any]) -> dict[str, int | None]:
        """Which values have a leading axis of experiments."""
        own = {site.name for site in self.sites if not site.shared} | set(self.known)
        return {name: 0 if name in own else None for name in values}

    def _split(self, z: Array) -> Iterable[Array]:
        """The part of z, shape (d,), of each site."""
        if not self.num_experiments:
            return z
        shapes = [self.shape_of(site) for site in self.sites]
        parts = jnp.split(z, np.cumsum(self.sizes))
        assert parts.pop().size == 0, "more coordinates than sites have"
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def tree_flatten(self) -> tuple[tuple[Any, ...], "Keyed[Priors]"]:
        """Numbers, and all else."""
        own = [(site.name, None if site.dependent else site.prior, site.shared) for site in self.sites]
        depending = (self.twin.parameters, self.twin.states) if self.twin.dependences else ()
        key = key_of((own, self.num_experiments, depending), standing=forms_of(self.sites))
        bare = dataclasses.replace(self, known={}, centring={}, learnt=None)
        return (dict(self.known), dict(self.centring), self.numbers, self.learnt), Keyed(bare, key)

    @classmethod
    def tree_unflatten(cls, priors: "Keyed[Priors]", leaves: tuple[Any, ...]) -> "Priors":
        """The priors again, of numbers that may be traced."""
        known, centring, numbers, learnt = leaves
        own = priors.value
        found = cls(own.twin, with_numbers(own.sites, numbers), own.num_experiments, known, centring, learnt)
        vars(found)["numbers"] = numbers
        return found

    @functools.cached_property
    def numbers(self) -> list[Any]:
        """The numbers of which priors are made."""
        return numbers_of_all(self.sites)


def _constrained(prior: dist.Distribution, coordinate: Array) -> tuple[Array, Array]:
    transform = biject_to(prior.support)
    value = transform(coordinate)
    return value, transform.log_abs_det_jacobian(coordinate, value)


def _unconstrained(prior: dist.Distribution, value: Array) -> Array:
    return biject_to(prior.support).inv(value)


# Coordinates of what is pooled. Of a normal with mean m and standard deviation s, y = m + s^(1 − c) (z − c m). With
# c = 0 their prior does not depend on the population, which would make a funnel of few data; with c = 1 they are the
# values, which many data say whatever the population is. In between z has the mean c m, which must not move with s:
# far from 0, as the logarithm of a volume in mL is, values would else run along a bent ridge as s becomes small.
#
# O. Papaspiliopoulos, G. O. Roberts & M. Sköld (2007), doi:10.1214/088342307000000014.


def _centred(prior: dist.Distribution, coordinate: Array, centring: Array) -> tuple[Array, Array]:
    mean, deviation, transform = standard(prior)
    width = deviation ** (1.0 - centring)
    unbounded = mean + width * (coordinate - centring * mean)
    value: Any = transform(unbounded)
    return value, jnp.log(width) + transform.log_abs_det_jacobian(unbounded, value)


def _uncentred(prior: dist.Distribution, value: Array, centring: Array) -> Array:
    mean, deviation, transform = standard(prior)
    return (transform.inv(value) - mean) / deviation ** (1.0 - centring) + centring * mean


def _log_density(prior: dist.Distribution, value: Array) -> Array:
    return prior.log_prob(value)  # type: ignore[return-value]


def _sampled(prior: dist.Distribution, key: Array, normal: Array, shape: Sequence[int] = ()) -> Array:
    """A draw, made of one of a standard normal where it can be."""
    drawn = _from_normal(prior, normal)
    return jnp.asarray(prior.sample(key, tuple(shape)) if drawn is None else drawn, float)


def _from_normal(prior: dist.Distribution, drawn: Array) -> Array | None:
    """A draw of a prior, from one of a standard normal; None where it is not made of a normal."""
    if isinstance(prior, dist.Normal):
        return jnp.asarray(prior.loc) + jnp.asarray(prior.scale) * drawn
    if isinstance(prior, dist.HalfNormal):
        return jnp.asarray(prior.scale) * jnp.abs(drawn)
    if not isinstance(prior, dist.TransformedDistribution) or not isinstance(prior.base_dist, dist.Normal):
        return None
    value: Any = _from_normal(prior.base_dist, drawn)
    for transform in prior.transforms:
        value = transform(value)
    return value


def _total(terms: ArrayLike) -> Array:
    """The sum over experiments, where there are any."""
    return jnp.sum(terms) if jnp.ndim(terms) else jnp.asarray(terms)


# Where a program runs but once or twice, what it takes to compile counts, and not what it takes to run.
hastily = functools.partial(Program, options={"xla_backend_optimization_level": 0})


@hastily
def draw_prior(priors: Priors, bits: Array) -> tuple[dict[str, Array], Array]:
    """Draws of all sites, n first, and their z, shape (n, d), from the bits of n keys."""

    def one(bits: Array) -> tuple[dict[str, Array], Array]:
        values = priors.sample(jax.random.wrap_key_data(bits))
        return values, priors.unconstrain(values)

    return jax.vmap(one)(bits)


@hastily
def draw_rest(priors: Priors, bits: Array, given: Mapping[str, Array]) -> dict[str, Array]:
    """Draws of the sites that are not given, and those that are, n first, from the bits of n keys."""
    return jax.vmap(lambda bits, own: priors.sample(jax.random.wrap_key_data(bits), own))(bits, given)


@hastily
def constrain(priors: Priors, z: Array) -> dict[str, Array]:
    """Values of all sites for n points, shape (n, d); n first."""
    return jax.vmap(lambda z: priors.constrain(z)[0])(z)


@hastily
def derive(priors: Priors, values: Mapping[str, Array]) -> dict[str, Array]:
    """Values of what is derived, for n draws of all sites; n first."""
    return jax.vmap(priors.derive)(values)


@hastily
def unconstrain(priors: Priors, values: Mapping[str, Array]) -> Array:
    """The z of draws of all sites, n first; shape (n, d)."""
    return jax.vmap(priors.unconstrain)(values)
