"""What a twin says for one value of all its sites, and how observations scatter around that: noise with its values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import LogNormal

from bayestwin.density.bind import Bound
from bayestwin.density.robust import innovation_noise
from bayestwin.model.error import ProcessNoise
from bayestwin.model.noise.families import Noise
from bayestwin.model.twin import Twin
from bayestwin.model.types import Column, varies


class Predicted(NamedTuple):
    """What the twin says for one value of all sites, at n times; with a leading axis for several experiments.

    Attributes:
        noise_free: By observation; shape (n,) each. With process noise what is expected given all observations before.
        states: Shape (n, s); NaN with process noise, where states are not known from parameters alone.
        solved: Whether the solve succeeded.
        num_steps: Steps of the solver.
        reached: Whether the solve came as far as each time, beyond which the rest means nothing; shape (n,).
        scales: With process noise, by observation, the standard deviation around what is expected; shape (n,) each.
        discrepancy: What is added to `noise_free`, by observation, once it is drawn; shape (n,) each.
        by_row: Noise quantities that are functions, by `<observation>_<quantity>`; shape (n,) each.
    """

    noise_free: Mapping[str, Array]
    states: Array
    solved: Array
    num_steps: Array
    reached: Array
    scales: Mapping[str, Array] | None = None
    discrepancy: Mapping[str, Array] | None = None
    by_row: Mapping[str, Array] | None = None


def noise_of(
    twin: Twin, bound: Bound, name: str, values: Mapping[str, ArrayLike], predicted: Predicted | None = None
) -> tuple[Noise, dict[str, Any]]:
    """The noise model of an observation, and its parameters with the values given or known.

    Args:
        twin: The twin.
        bound: Its telemetry, which tells some quantities row by row.
        name: Of the observation.
        values: By site; what the twin knows may be left out.
        predicted: What is predicted with these values, where functions depend on it or process noise adds to noise.

    Returns:
        Parameters by name; those that are another one in each row have shape (n,).
    """
    noise, given = twin.observations[name].noise, {}
    for key, quantity in noise.parameters.items():
        own: Any = quantity
        if isinstance(own, str):
            given[key] = values.get(own, twin.parameters[own].prior)
        elif isinstance(own, Column):
            given[key] = _told(twin, bound, f"{name}_{key}", own, values)
        elif varies(own):
            given[key] = predicted.by_row[f"{name}_{key}"]  # type: ignore[union-attr, index]
        else:
            given[key] = values.get(f"{name}_{key}", own)
    if predicted is None or predicted.scales is None:
        return noise, given
    assert isinstance(twin.model_error, ProcessNoise)
    return innovation_noise(twin.model_error, values, predicted.scales[name])


def _told(twin: Twin, bound: Bound, name: str, column: Column, values: Mapping[str, ArrayLike]) -> ArrayLike:
    """A noise quantity that the telemetry tells, times its factor, of which each experiment may have its own."""
    factor: Any = values.get(f"{name}_factor", column.factor)
    if isinstance(column.factor, str):
        factor = values.get(column.factor, twin.parameters[column.factor].prior)
    own = jnp.expand_dims(jnp.asarray(factor), -1) if jnp.ndim(factor) else factor
    return own * jnp.asarray(bound.columns[name])


def noise_where_seen(
    twin: Twin, bound: Bound, name: str, values: Mapping[str, ArrayLike], predicted: Predicted
) -> tuple[Noise, dict[str, Any]]:
    """As `noise_of`, but that functions say nothing where nothing was observed, so that nothing of it is NaN there."""
    noise, given = noise_of(twin, bound, name, values, predicted)
    for key in (key for key, quantity in noise.parameters.items() if varies(quantity)):
        given[key] = jnp.where(jnp.isfinite(jnp.asarray(bound.observations[name])), given[key], 1.0)
    return noise, given


def read_over_time(twin: Twin, bound: Bound, noise_free: Mapping[str, Array], states: Array) -> dict[str, Array]:
    """Means, totals and changes since an earlier row, of those observations that are such; shape (n,) each.

    Over no time a mean is the value itself, and nothing else has come together.

    Args:
        twin: The twin.
        bound: Its times, and the row from which on each is read.
        noise_free: The value at each time, by observation; shape (n,) each.
        states: Integrals among them; shape (n, s).
    """
    found, times = {}, jnp.asarray(bound.times)
    for name, since in bound.since.items():
        reads, value = twin.observations[name].reads, noise_free[name]
        begun, rows = jnp.asarray(since) >= 0, jnp.maximum(jnp.asarray(since), 0)
        if reads == "change":
            found[name] = jnp.where(begun, value - value[rows], 0.0)
            continue
        counted = states[:, twin.layout.places[f"{name}_integral"].start]
        found[name] = counted - jnp.where(begun, counted[rows], 0.0)
        if reads == "mean":
            length = times - jnp.where(begun, times[rows], 0.0)
            lasting = length > 0.0
            found[name] = jnp.where(lasting, found[name] / jnp.where(lasting, length, 1.0), value)
    return found


# Sensors whose noise is correlated in the same row: their scores, in standard deviations, are normal with ones on the
# diagonal of the covariance. Rows in which one is missing are what is left of that when it is integrated out.


def correlation_terms(
    twin: Twin, bound: Bound, values: Mapping[str, ArrayLike], predicted: Predicted
) -> dict[str, Array]:
    """What correlations add to the log densities of single observations: each is then given those named before it.

    Args:
        twin: The twin.
        bound: Its telemetry.
        values: By site, with what the twin knows.
        predicted: What is predicted with these values.

    Returns:
        By observation that is correlated with others; shape (n,) each, 0 where it is missing. NaN where the
        correlations are not those of any noise.
    """
    names, scores, seen, white, root = _whitened(twin, bound, values, predicted)
    terms: dict[str, Array] = {}
    for i, name in enumerate(names):
        term = (jnp.square(scores[i]) - jnp.square(white[i])) / 2.0 - jnp.log(root[i][i])
        terms[name] = jnp.where(seen[i], term, 0.0)
    return terms


def scores_given_before(
    twin: Twin, bound: Bound, values: Mapping[str, ArrayLike], predicted: Predicted
) -> dict[str, Array]:
    """Standard normal scores of observations that are correlated, each given those named before it; shape (n,) each.

    Arguments as of `correlation_terms`; of no meaning where nothing was observed.
    """
    names, _, _, white, _ = _whitened(twin, bound, values, predicted)
    return dict(zip(names, white, strict=True))


def _whitened(
    twin: Twin, bound: Bound, values: Mapping[str, ArrayLike], predicted: Predicted
) -> tuple[list[str], list[Array], list[Array], list[Array], list[list[Array]]]:
    """Of observations that are correlated: names, scores, where they are, scores given those before, and the root."""
    names = _correlated(twin)
    scores, seen = [], []
    for name in names:
        noise, given = noise_where_seen(twin, bound, name, values, predicted)
        observed = jnp.asarray(bound.observations[name])
        present, value = jnp.isfinite(observed), predicted.noise_free[name]
        centre, scale, logarithmic = _normal(noise, jnp.where(present, value, 1.0), bound.times, given)
        observed = jnp.where(present, observed, 1.0)
        score = ((jnp.log(observed) if logarithmic else observed) - centre) / scale
        scores.append(jnp.where(present, score, 0.0))
        seen.append(present)
    root = _root(twin, names, values, seen)
    white: list[Array] = []
    for i in range(len(names)):
        given_before = sum((root[i][j] * white[j] for j in range(i)), start=jnp.zeros_like(scores[i]))
        white.append((scores[i] - given_before) / root[i][i])
    return names, scores, seen, white, root


def draw_correlated(
    key: Array, twin: Twin, bound: Bound, values: Mapping[str, ArrayLike], predicted: Predicted, sign: ArrayLike = 1.0
) -> dict[str, Array]:
    """New observations of sensors that are correlated; shape (n,) each.

    Arguments as of `correlation_terms`; with `sign` −1 they lie as far from what is predicted on the other side.
    """
    names = _correlated(twin)
    shape = jnp.shape(bound.times)
    root = _root(twin, names, values, [jnp.ones(shape, bool)] * len(names))
    white = sign * jax.random.normal(key, (len(names), *shape))
    found = {}
    for i, name in enumerate(names):
        noise, given = noise_of(twin, bound, name, values, predicted)
        centre, scale, logarithmic = _normal(noise, predicted.noise_free[name], bound.times, given)
        drawn = centre + scale * sum(root[i][j] * white[j] for j in range(i + 1))
        found[name] = jnp.exp(drawn) if logarithmic else drawn
    return found


def _correlated(twin: Twin) -> list[str]:
    among = {name for pair in twin.correlated for name in pair}
    return [name for name in twin.observations if name in among]


def _normal(noise: Noise, value: Array, times: Any, given: Mapping[str, Any]) -> tuple[Array, Array, bool]:
    """Mean and standard deviation of an observation, or of its logarithm if it is that which is normal."""
    distribution: Any = noise.distribution(value, times, **given)
    return distribution.loc, distribution.scale, isinstance(distribution, LogNormal)


def _root(twin: Twin, names: list[str], values: Mapping[str, ArrayLike], seen: list[Array]) -> list[list[Array]]:
    """The Cholesky factor of the correlations in each row, of what is seen there; written out, since it is small."""
    pairs = dict(twin.correlated)

    def correlation(i: int, j: int) -> ArrayLike:
        own = pairs.get((names[i], names[j]), pairs.get((names[j], names[i]), 0.0))
        told: Any = values.get(own, twin.parameters[own].prior) if isinstance(own, str) else own
        return jnp.where(seen[i] & seen[j], told, 0.0)

    root: list[list[Array]] = []
    for i in range(len(names)):
        row: list[Array] = []
        for j in range(i):
            rest = correlation(i, j) - sum(row[m] * root[j][m] for m in range(j))
            row.append(jnp.asarray(rest / root[j][j]))
        row.append(jnp.sqrt(1.0 - sum((jnp.square(one) for one in row), start=jnp.zeros(seen[i].shape))))
        root.append(row)
    return root
