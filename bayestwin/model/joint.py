"""Priors of several parameters together, said one after the other: each given those before it.

`p(a, b, c) = p(a) · p(b | a) · p(c | a, b)`, exactly, so that whatever infers scalars infers these as well.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import transforms

from bayestwin.errors import InvalidTwin
from bayestwin.model.components import Parameter

type Together = dist.Distribution | Callable[[Any], dist.Distribution]


def joint(
    names: Sequence[str],
    prior: Together,
    *,
    unit: str | Mapping[str, str] = "",
    doc: str | Mapping[str, str] = "",
    shared: bool = True,
) -> dict[str, Parameter]:
    """Parameters that have one prior together: `parameters={**bt.joint(("a", "b"), prior), "c": bt.Parameter(…)}`.

    Kinds of priors, each by NumPyro's own distribution:

    - `MultivariateNormal` of quantities that can be any number; with an `ExpTransform` of positive ones.
    - `Dirichlet` of shares that add up to one. The last is derived: it is one less the others.
    - `Normal(…).expand([k]).to_event(1)` with an `OrderedTransform` of ascending ones, which tells apart what the
      equations do not, as a slow and a fast rate of one kind.
    - `LKJ(d, concentration)` of correlations of d things, in the order 1-2, 1-3, …, 2-3, …; its partial correlations
      are independent (Lewandowski, Kurowicka & Joe 2009, doi:10.1016/j.jmva.2009.04.008).

    Args:
        names: Of the parameters, in the order of the distribution's entries.
        prior: The distribution, or a function of the parameters `(p)` before these that returns it.
        unit: Of all of them, or by name.
        doc: What they are, in words; of all of them, or by name.
        shared: As that of a `Parameter`.

    Returns:
        The parameters by name, which stay in this order.

    Raises:
        InvalidTwin: If the prior is of another kind, or of another number of quantities.
    """
    names = tuple(names)
    if isinstance(prior, dist.Distribution) or not callable(prior):  # NumPyro's distributions can be called too
        _kind_of(prior, names)
    found = {}
    for number, name in enumerate(names):
        own = [words if isinstance(words, str) else words.get(name, "") for words in (unit, doc)]
        found[name] = Parameter(_Part(names, prior, number), *own, shared=shared)
    return found


class _Part(NamedTuple):
    """The prior of one of the parameters given those before it, or its value where they determine it."""

    names: tuple[str, ...]
    whole: Together
    number: int

    def __call__(self, p: Any) -> Any:
        whole = self.whole if isinstance(self.whole, dist.Distribution) else self.whole(p)
        before = jnp.stack([p[name] for name in self.names[: self.number]]) if self.number else jnp.zeros(0)
        return _kind_of(whole, self.names)(whole, before)


def _kind_of(prior: Any, names: tuple[str, ...]) -> Callable[[Any, Array], Any]:
    """What gives the prior of the next parameter, from the whole and the values of those before it.

    Raises:
        InvalidTwin: If there is none, or for another number of parameters.
    """
    chain, base = [], prior
    if type(prior) is dist.TransformedDistribution:  # `LKJ` is a kind of it
        base, chain = prior.base_dist, [type(transform) for transform in prior.transforms]
    found = KINDS.get((type(_of_one(base)), *chain))
    if found is None:
        raise InvalidTwin(
            f"The joint prior of {_listed(names)} is of a kind that cannot be said one parameter after the other.",
            expected="`MultivariateNormal`, also with an `ExpTransform`; `Dirichlet`; normals with an "
            "`OrderedTransform`; or `LKJ`",
            received=" with ".join([type(_of_one(base)).__name__, *(f"`{one.__name__}`" for one in chain)])
            if isinstance(prior, dist.Distribution)
            else f"{prior!r}",
            advice="Say it one after the other yourself: `bt.Parameter(lambda p: dist.Normal(2.0 * p.a, 0.3))`.",
        )
    size = prior.event_shape[0]
    size = size * (size - 1) // 2 if isinstance(base, dist.LKJ) else size
    if prior.batch_shape or size != len(names):
        raise InvalidTwin(
            f"The joint prior of {_listed(names)} is one of another number of quantities.",
            expected=f"{len(names)} quantities, and one distribution of them",
            received=f"{size} quantities" + (f" in each of {prior.batch_shape}" if prior.batch_shape else ""),
            advice="Name as many parameters as the distribution has entries.",
        )
    return found


def _of_one(prior: Any) -> Any:
    """The distribution that `expand` and `to_event` have repeated."""
    while isinstance(prior, dist.Independent | dist.ExpandedDistribution):
        prior = prior.base_dist
    return prior


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _normal(whole: Any, before: Array) -> dist.Distribution:
    """With `x = m + L z`, each z follows from those before it."""
    number, triangle = len(before), whole.scale_tril
    z = jax.scipy.linalg.solve_triangular(triangle[:number, :number], before - whole.loc[:number], lower=True)
    return dist.Normal(whole.loc[number] + triangle[number, :number] @ z, triangle[number, number])


def _log_normal(whole: Any, before: Array) -> dist.Distribution:
    normal: Any = _normal(whole.base_dist, jnp.log(before))
    return dist.LogNormal(normal.loc, normal.scale)


def _share(whole: Any, before: Array) -> Any:
    """A share of what is left, by a beta distribution; the last one is all of it."""
    number, concentration = len(before), whole.concentration
    left = 1.0 - before.sum()
    if number == len(concentration) - 1:
        return left
    return _stretched(dist.Beta(concentration[number], concentration[number + 1 :].sum()), 0.0, left)


def _ordered(whole: Any, before: Array) -> dist.Distribution:
    """The first is what it is, each further one lies above the one before it by the exponential of a normal."""
    number, normal = len(before), _of_one(whole.base_dist)
    loc, scale = (jnp.broadcast_to(own, whole.event_shape)[number] for own in (normal.loc, normal.scale))
    if not number:
        return dist.Normal(loc, scale)
    step = [transforms.ExpTransform(), transforms.AffineTransform(before[-1], 1.0, domain=dist.constraints.positive)]
    return dist.TransformedDistribution(dist.Normal(loc, scale), step)


def _correlation(whole: Any, before: Array) -> dist.Distribution:
    """Of i and j: what those before i make of both, and a partial correlation by a stretched beta distribution."""
    size, number = whole.dimension, len(before)
    rows, columns = np.triu_indices(size, 1)
    i, j = int(rows[number]), int(columns[number])
    known = jnp.eye(size).at[rows[:number], columns[:number]].set(before)
    known = known.at[columns[:number], rows[:number]].set(before)
    others, own, other = known[:i, :i], known[:i, i], known[:i, j]
    weights = jnp.linalg.solve(others, own) if i else own
    left_own = 1.0 - own @ weights
    left_other = 1.0 - other @ jnp.linalg.solve(others, other) if i else jnp.ones(())
    middle, half = other @ weights, jnp.sqrt(left_own * left_other)
    shape = whole.concentration + (size - 2 - i) / 2.0
    return _stretched(dist.Beta(shape, shape), middle - half, 2.0 * half)


def _stretched(beta: dist.Beta, start: Any, width: Any) -> dist.Distribution:
    """A beta distribution on another interval than from 0 to 1."""
    onto = transforms.AffineTransform(start, width, domain=dist.constraints.unit_interval)
    return dist.TransformedDistribution(beta, onto)


KINDS: dict[tuple[type, ...], Callable[[Any, Array], Any]] = {
    (dist.MultivariateNormal,): _normal,
    (dist.MultivariateNormal, transforms.ExpTransform): _log_normal,
    (dist.Dirichlet,): _share,
    (dist.Normal, transforms.OrderedTransform): _ordered,
    (dist.LKJ,): _correlation,
}
"""By the type of a distribution, or by that of what it is made of and of how that is transformed."""
