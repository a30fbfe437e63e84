"""Twins with process noise: what each observation is expected to be, given those before it, and draws of the states.

The filter stops where a solve would (see `grid`). At a stop, observations are taken in one after the other, each with
what the ones before it left unknown; their means and standard deviations are all that a likelihood needs:
`log p(y) = Σ log N(y_i | mean_i, scale_i²)`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.dynamics.adaptive import Position
from bayestwin.dynamics.affine import is_affine
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.kalman import Normals, Pass, Seen, draw_states, propagate, root, update
from bayestwin.dynamics.sensitivity import through_jacobian
from bayestwin.dynamics.solve import Trajectory, begin, observer
from bayestwin.dynamics.transition import (
    Move,
    Row,
    affine_rows,
    after_events,
    exact,
    extended,
    points_around,
    regress,
    rows_of,
)
from bayestwin.dynamics.transition import unscented as unscented_move
from bayestwin.model.process_noise import ProcessNoise
from bayestwin.model.twin import Twin


class Expected(NamedTuple):
    """Observations as expected at n saved times, each from all before it; o observations in the twin's order.

    Attributes:
        moments: Means, and logarithms of standard deviations; 0 throughout where the filter failed; shape (2, n, o).
        solved: Whether the filter came through.
        num_steps: Steps of the solver; 0 where steps are exact.
    """

    moments: Array
    solved: Array
    num_steps: Array


class _Model(NamedTuple):
    """The twin at given values: where it begins, how it moves, and how it is seen."""

    at: Position
    covariance: Array
    rows: Row
    move: Move
    observe: Callable[[Array, Array, Array], Mapping[str, Array]]
    scales: list[Array]


def steps_exactly(twin: Twin) -> bool:
    """Whether the filter's steps are exact and need no solver."""
    error = twin.model_error
    return isinstance(error, ProcessNoise) and error.filter == "auto" and is_affine(twin)


@dataclasses.dataclass(frozen=True, eq=False)
class Filter:
    """A twin with process noise, given what was observed.

    Attributes:
        twin: The twin.
        grid: Where to stop and to save.
        observations: By name, NaN = missing, shape (n,) each; those that are not there are missing throughout.
    """

    twin: Twin
    grid: Grid
    observations: Mapping[str, np.ndarray]

    def expect(self, values: Mapping[str, ArrayLike]) -> Expected:
        """What each observation is expected to be, differentiably in the free quantities."""
        free = [site.name for site in self.twin.sites()]
        theta = jnp.stack([jnp.asarray(values[name], float) for name in free]) if free else jnp.zeros(0)

        def of_theta(theta: Array, observed: Array) -> tuple[Array, tuple[Array, Array]]:
            model = self._model(dict(zip(free, theta, strict=True)))
            at, kept = self._run(model, lambda found, means: jnp.stack([means, jnp.log(found.gains.scale)]), observed)
            moments = jnp.swapaxes(kept[self.grid.save], 0, 1)
            return moments, (at.solved & jnp.isfinite(moments).all(), at.num_steps)

        moments, (solved, num_steps) = (through_jacobian(of_theta) if free else of_theta)(theta, self._observed())
        return Expected(jnp.where(solved, moments, 0.0), solved, num_steps)

    def draw(self, values: Mapping[str, ArrayLike], key: Array) -> Trajectory:
        """Draw a trajectory, given all that was observed."""
        keys = jax.random.split(key, 3)
        stops, num_states = len(self.grid.edges), len(self.twin.states)
        shapes = ((num_states,), (stops, num_states), (stops, len(self.twin.observations)))
        normals = (jax.random.normal(*pair) for pair in zip(keys, shapes, strict=True))
        return self.along(values, Normals(*normals))

    def along(self, values: Mapping[str, ArrayLike], normals: Normals) -> Trajectory:
        """The trajectory that standard normal numbers make: smoothed as long as there are observations, then simulated.

        What is simulated goes from stop to stop, each step linearised where the trajectory is.

        Args:
            values: Of all sites.
            normals: For each of the m + 1 stops.
        """
        model = self._model(values)
        # what was observed is known, where a trajectory is drawn given it
        there = [np.isfinite(values) for values in self.observations.values()]
        observed = self.grid.save[np.flatnonzero(np.any(there, axis=0))] if there else np.zeros(0, int)
        last = int(observed[-1]) if observed.size else 0
        if observed.size:
            at, found = self._run(model, lambda found, _: found, self._observed()[: last + 1])
            used = Normals(normals.begin, normals.pushes[: last + 1], normals.noises[: last + 1])
            states = draw_states(found, model.covariance, used)
        else:
            at, states = model.at, (model.at.state + root(model.covariance) @ normals.begin)[None]
        at, after = self._simulate(model, at._replace(state=states[-1]), last + 1, normals.pushes[last + 1 :])
        states = jnp.concatenate([states, after])[self.grid.save]
        solved = at.solved & jnp.isfinite(states).all()
        return Trajectory(jnp.where(solved, states, 1.0), solved, at.num_steps)

    def _observed(self) -> Array:
        """Observations at all stops, NaN = missing; shape (m + 1, o)."""
        table = jnp.full((len(self.grid.edges), len(self.twin.observations)), jnp.nan)
        for number, name in enumerate(self.twin.observations):
            if name in self.observations:
                table = table.at[self.grid.save, number].set(self.observations[name])
        return table

    def _model(self, values: Mapping[str, ArrayLike]) -> _Model:
        twin, error = self.twin, self.twin.model_error
        assert isinstance(error, ProcessNoise)

        def variances(given: Mapping[str, Any], suffix: str) -> Array:
            scales = [values.get(f"{name}_{suffix}", given.get(name, 0.0)) for name in twin.states]
            return jnp.stack([jnp.asarray(scale, float) ** 2 for scale in scales])

        field, state, found = begin(twin, self.grid, values)
        p, diffusion = field.p, variances(error.scale, "diffusion")
        if steps_exactly(twin):
            move, rows = exact, affine_rows(twin, p, diffusion, self.grid)
        else:
            move = (unscented_move if error.filter == "unscented" else extended)(twin, p, diffusion)
            rows = rows_of(self.grid)
        if twin.timed:
            move = after_events(field, move)
        step = self.grid.edges[1] - self.grid.edges[0] if len(self.grid.edges) > 1 else 1.0
        at = Position(state, jnp.asarray(step), found, jnp.zeros((), int))
        scales = [self._scale(name, values) for name in twin.observations]
        covariance = jnp.diag(variances(error.initial_scale, "initial_scale"))
        return _Model(at, covariance, rows, move, observer(twin, values), scales)

    def _scale(self, name: str, values: Mapping[str, ArrayLike]) -> Array:
        """Standard deviation of the noise of an observation, which may be a parameter of the twin."""
        known = self.twin.observations[name].noise.parameters["scale"]
        if isinstance(known, str):
            return jnp.asarray(values.get(known, self.twin.parameters[known].prior), float)
        return jnp.asarray(values.get(f"{name}_scale", known), float)

    def _run(self, model: _Model, keep: Callable[[Pass, Array], Any], observed: Array) -> tuple[Position, Any]:
        """Filter the stops that there are observations for: where the solver stands, and what is to be kept of each."""
        stops = len(observed)
        inputs = np.concatenate([self.grid.left, self.grid.right[-1:] if len(self.grid.right) else self.grid.inputs])
        inputs[self.grid.save] = self.grid.inputs
        present = jnp.isfinite(observed)

        def body(carry: tuple[Position, Array], row: Any) -> tuple[tuple[Position, Array], Any]:
            at, covariance = carry
            interval, values, there, signal = row
            moved = model.move(at.state, covariance, at, interval)
            predicted = covariance = propagate(covariance, moved.transition, moved.added)
            mean, gains, means = moved.mean, [], []
            for number, name in enumerate(self.twin.observations):
                line = self._line(lambda state, n=name: model.observe(interval.end, state, signal)[n], mean, covariance)
                variance = line[2] + model.scales[number] ** 2
                seen = Seen(values[number], there[number], line[0], line[1], variance)
                mean, covariance, gain = update(mean, covariance, seen)
                gains.append(gain)
                means.append(line[0])
            together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gains)
            found = Pass(moved.mean, predicted, moved.transition, moved.added, together)
            return (moved.at._replace(state=mean), covariance), keep(found, jnp.stack(means))

        rows = jax.tree.map(lambda leaf: leaf[:stops], model.rows)
        table = (rows, jnp.where(present, observed, 0.0), present.astype(float), inputs[:stops])
        (at, _), kept = lax.scan(body, (model.at, model.covariance), jax.tree.map(jnp.asarray, table))
        return at, kept

    def _line(self, seen: Callable[[Array], Array], mean: Array, covariance: Array) -> tuple[Array, Array, Array]:
        """The value of an observation near a mean, its slope, and the variance that the line leaves."""
        error = self.twin.model_error
        if not isinstance(error, ProcessNoise) or error.filter != "unscented":
            return seen(mean), jax.jacfwd(seen)(mean), jnp.zeros(())
        points, spread = points_around(mean, covariance)
        value, slope, left = regress(jax.vmap(seen)(points)[:, None], spread)
        return value[0], slope[0], left[0, 0]

    def _simulate(self, model: _Model, at: Position, first: int, pushes: Array) -> tuple[Position, Array]:
        """Simulate from the stop before `first` to the end: where the solver stands, and the states."""
        rows = jax.tree.map(lambda leaf: leaf[first:], model.rows)
        known = jnp.zeros_like(model.covariance)

        def body(at: Position, row: tuple[Row, Array]) -> tuple[Position, Array]:
            interval, push = row
            moved = model.move(at.state, known, at, interval)
            state = moved.mean + root(moved.added) @ push
            return moved.at._replace(state=state), state

        return lax.scan(body, at, (rows, pushes))
