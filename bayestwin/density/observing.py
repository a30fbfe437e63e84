"""What a twin says for one value of all its sites, and how observations scatter around that: noise with its values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

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
