"""Fisher information of a twin's likelihood: how much observations at these times say about each direction of z.

`I(z) = E[s sᵀ] = E[−∇² log p(y | z)]` over observations y drawn at z, with s = ∇ log p and the twin replaced by its
linearisation there. For Gaussian and log-normal noise the expectation is taken exactly, for other noise over imagined
records; with a discrepancy that of the equations is exact, that of the discrepancy's own scale and length is not.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import LogNormal, Normal

from bayestwin._base.process import key_for
from bayestwin.density.bind import each_experiment
from bayestwin.density.density import Density, Predicted
from bayestwin.density.observing import draw_correlated
from bayestwin.model import noise as noises
from bayestwin.model.error import ProcessNoise

PAIRS = 32
"""Pairs of imagined records over which noise is averaged that is not averaged exactly."""

BATCH = 8
"""Points at which information is computed in one call, so that there is one compilation for any number of them."""

type Informed = Callable[[np.ndarray], np.ndarray]
"""(n, d) → Fisher information in z, shape (n, d, d); NaN where the twin cannot be solved."""


def information_of(density: Density, seed: int) -> Informed:
    """The Fisher information of all observations that a density has, at any points.

    With process noise, what each observation is expected to be follows from those before it, which stay as they are:
    the information is that of each observation given the ones before.

    Args:
        density: The log density; of its observations only counts which are there, but with process noise.
        seed: Determines the imagined observations, for noise that is not averaged exactly.
    """
    there = _there(density)

    def at(z: Array) -> Array:
        line = _linearised(density, z)
        return _averaged(density, seed, line, there, lambda given: _told_by(given, line.moved, jnp.zeros_like(z)))

    batched = jax.jit(jax.vmap(at))
    return lambda z: _in_batches(batched, z)


type InformedByPart = Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]
"""(n, d), and which observations each of c parts has, c first → information, (n, c, d, d); NaN without a solution."""


def information_of_parts(density: Density, seed: int) -> InformedByPart:
    """The Fisher information of parts of the observations, each as if no other were there; for one solve a point.

    Args:
        density: The log density; which observations it has does not count.
        seed: Determines the imagined observations, for noise that is not averaged exactly.
    """

    def at(z: Array, parts: Mapping[str, Array]) -> Array:
        line, nowhere = _linearised(density, z), jnp.zeros_like(z)
        if has_memory(density):  # what one observation tells hangs on which others there are

            def alone(part: Mapping[str, Array]) -> Array:
                return _averaged(density, seed, line, part, lambda given: _told_by(given, line.moved, nowhere))

            return jax.lax.map(alone, parts)
        union = {name: own.any(axis=0) for name, own in parts.items()}
        return _averaged(density, seed, line, union, lambda given: _told_by_each(given, line.moved, nowhere, parts))

    batched = jax.jit(jax.vmap(at, in_axes=(0, None)))

    def of_all(z: np.ndarray, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        masks = {name: jnp.asarray(own, bool) for name, own in parts.items()}
        return _in_batches(lambda some: batched(some, masks), z)

    return of_all


def has_memory(density: Density) -> bool:
    """Whether observations depend on each other, once all quantities are known."""
    noisy = any(not observation.noise.independent for observation in density.twin.observations.values())
    return noisy or bool(density.twin.correlated) or density.twin.model_error is not None


class _Line(NamedTuple):
    """A twin linearised at a point: what it says there, and what it then says a step away."""

    here: tuple[dict[str, Array], Predicted]
    moved: Callable[[Array], tuple[dict[str, Array], Predicted]]


def _linearised(density: Density, z: Array) -> _Line:
    path = density.path_along(z)
    nowhere = jnp.zeros_like(z)

    def told(step: Array) -> tuple[dict[str, Array], Predicted]:
        values = density.constrain(z + step)
        return values, density.predicted_along(values, path(step))

    here = told(nowhere)
    # Everything that the likelihood is made of is linearised: its own curvature alone is information, where that
    # of what is predicted is multiplied by residuals, which are zero on average but not in a few records.
    slopes = jax.jacfwd(lambda step: _moving(told(step)))(nowhere)

    def moved(step: Array) -> tuple[dict[str, Array], Predicted]:
        values, noise_free, scales, told = jax.tree.map(lambda x, dx: x + dx @ step, _moving(here), slopes)
        return values, here[1]._replace(noise_free=noise_free, scales=scales, by_row=told)

    return _Line(here, moved)


def _averaged(
    density: Density, seed: int, line: _Line, there: Mapping[str, Array], told_by: Callable[[Density], Array]
) -> Array:
    """The mean over imagined records, which have observations where there are some, of what one record tells."""
    pairs = 1 if all(_exact(density, name) for name in density.twin.observations) else PAIRS
    keys = jax.random.split(key_for(seed, "identify noise"), pairs)

    def of_record(key: Array, sign: Array) -> Array:
        many = len(density.experiments)
        keys, signs = (jax.random.split(key, many), jnp.full(many, sign)) if many else (key, sign)
        return told_by(with_observations(density, _imagined(density, *line.here, keys, signs, dict(there))))

    both = jnp.array([1.0, -1.0])
    found = jax.lax.map(lambda key: jax.vmap(lambda sign: of_record(key, sign))(both).mean(axis=0), keys)
    found = found.mean(axis=0)
    return jnp.where(line.here[1].solved.all(), (found + jnp.swapaxes(found, -1, -2)) / 2, jnp.nan)


def _there(density: Density) -> dict[str, Array]:
    return {name: jnp.isfinite(jnp.asarray(own)) for name, own in density.bound.observations.items()}


def _in_batches(batched: Callable[[Array], Array], z: np.ndarray) -> np.ndarray:
    """What is computed at n points, `BATCH` at a time; NaN throughout at points where something is not finite."""
    rows = np.resize(np.arange(len(z)), (-(-len(z) // BATCH), BATCH))
    found = np.concatenate([np.asarray(batched(jnp.asarray(z[some]))) for some in rows])[: len(z)]
    good = np.isfinite(found).all(axis=tuple(range(1, found.ndim)), keepdims=True)
    return np.where(good, found, np.nan)


def _exact(density: Density, name: str) -> bool:
    """Whether the mean over two records of an observation, a standard deviation above and below, is that over all."""
    if isinstance(density.twin.model_error, ProcessNoise):
        return density.twin.model_error.innovations == "gaussian"
    own = density.discrepancies is not None and name in density.discrepancies.processes
    own |= any(name in pair for pair in density.twin.correlated)
    return not own and all(layer.normal for layer in density.twin.observations[name].noise.layers())


def _moving(told: tuple[dict[str, Array], Predicted]) -> tuple[Any, ...]:
    """What depends on z of values and of what is predicted: sites, means, and spreads where these are predicted."""
    values, predicted = told
    return values, predicted.noise_free, predicted.scales, predicted.by_row


def _told_by(density: Density, moved: Callable[[Array], tuple[dict[str, Array], Predicted]], nowhere: Array) -> Array:
    """What one record adds to the information; `moved` says what is predicted a step away."""
    processes = {} if density.discrepancies is None else density.discrepancies.processes
    exact = [name for name in density.twin.observations if _exact(density, name)]
    drawn = [name for name in density.twin.observations if name not in exact and name not in processes]
    here = moved(nowhere)

    def terms(step: Array, names: Sequence[str]) -> Array:
        found = density.log_likelihood(*moved(step))
        return jnp.concatenate([found[name].ravel() for name in names])

    found = jnp.zeros((len(nowhere), len(nowhere)))
    if exact:
        found -= jax.hessian(lambda step: terms(step, exact).sum())(nowhere)
    if drawn:  # each term is that of one observation given those before, so that scores of different ones cancel
        scores = jax.jacfwd(lambda step: terms(step, drawn))(nowhere)
        found += scores.T @ scores
    for name in processes:  # jointly Gaussian: what the mean tells is the same in all records, apart from the rest
        found -= jax.hessian(lambda step, n=name: _jointly(density, n, here[0], moved(step)[1]))(nowhere)
        score = jax.grad(lambda step, n=name: _jointly(density, n, moved(step)[0], here[1]))(nowhere)
        found += jnp.outer(score, score)
    return found


def _told_by_each(
    density: Density,
    moved: Callable[[Array], tuple[dict[str, Array], Predicted]],
    nowhere: Array,
    masks: Mapping[str, Array],
) -> Array:
    """What each of c parts of one record adds to the information, shape (c, d, d); observations are independent."""
    names = list(density.twin.observations)
    exact = [name for name in names if _exact(density, name)]
    drawn = [name for name in names if name not in exact]

    def terms(step: Array, names: Sequence[str]) -> Array:
        found = density.log_likelihood(*moved(step))
        return jnp.concatenate([found[name].ravel() for name in names])

    def weights(names: Sequence[str]) -> Array:
        return jnp.concatenate([masks[name].reshape(len(masks[name]), -1) for name in names], axis=1).astype(float)

    found = jnp.zeros((len(masks[names[0]]), len(nowhere), len(nowhere)))
    if exact:
        own = weights(exact)
        slopes = jax.jacrev if len(own) < len(nowhere) else jax.jacfwd
        found -= jax.jacfwd(slopes(lambda step: own @ terms(step, exact)))(nowhere)
    if drawn:
        scores = jax.jacfwd(lambda step: terms(step, drawn))(nowhere)
        found += jnp.einsum("cn,ni,nj->cij", weights(drawn), scores, scores)
    return found


def _jointly(density: Density, name: str, values: Mapping[str, Array], predicted: Predicted) -> Array:
    """Log likelihood of all observations of one name together, with their discrepancy integrated out."""
    assert density.discrepancies is not None
    scales = {one: density.noise(one, values)[1]["scale"] for one in density.discrepancies.processes}
    return density.discrepancies.log_likelihood(values, predicted.noise_free, scales)[name].sum()


def with_observations(density: Density, observations: Mapping[str, Array]) -> Density:
    """The density given other observations, at the same times."""
    found = dataclasses.replace(density, bound=density.bound._replace(observations=observations))
    if density.discrepancies is not None:
        # which observations there are stays as it is, and would be asked of values that are not known yet
        vars(found)["discrepancies"] = dataclasses.replace(density.discrepancies, observations=observations)
    return found


@each_experiment
def _imagined(
    density: Density,
    values: Mapping[str, ArrayLike],
    predicted: Predicted,
    key: Array,
    sign: Array,
    there: Mapping[str, Array],
) -> dict[str, Array]:
    """Observations where `there` says so, NaN elsewhere: `sign` standard deviations off, or drawn with this sign."""
    found = {}
    for number, name in enumerate(density.bound.observations):
        own = jax.random.fold_in(key, number)
        noise, given = density.noise(name, values, predicted)
        value = predicted.noise_free[name]
        drawn = _one(noise, own, value, density.bound.times, sign, given)
        if density.discrepancies is not None and name in density.discrepancies.processes:
            root = density.discrepancies.factor(name, values)
            normal = jax.random.normal(jax.random.fold_in(own, 1), root.shape[1:])
            white = given["scale"] * jax.random.normal(own, value.shape)
            drawn = value + sign * (root @ normal + white)
        found[name] = drawn
    if density.twin.correlated:
        found |= draw_correlated(key, density.twin, density.bound, density.complete(values), predicted, sign)
    return jax.lax.stop_gradient({name: jnp.where(there[name], drawn, jnp.nan) for name, drawn in found.items()})


def _one(
    noise: noises.Noise, key: Array, value: Array, times: ArrayLike, sign: Array, given: Mapping[str, Any]
) -> Array:
    """One imagined record of an observation."""
    if not noise.independent:  # Gaussian throughout, so that what is mirrored is as likely
        centre = jnp.broadcast_to(jnp.asarray(noise.distribution(value, times, **given).mean), value.shape)  # type: ignore[arg-type]
        return centre + sign * (noise.sample(key, value, times, **given) - centre)
    match noise.distribution(value, times, **given):
        case LogNormal(loc=loc, scale=scale):
            return jnp.exp(loc + sign * scale)
        case Normal(loc=loc, scale=scale):
            return jnp.asarray(loc) + sign * jnp.asarray(scale)
    return noise.sample(jax.random.fold_in(key, (sign > 0).astype(int)), value, times, **given)
