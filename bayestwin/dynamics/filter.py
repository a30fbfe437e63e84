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

from bayestwin.dynamics.affine import Step, constants, exact_steps, kinds_of, steps_exactly
from bayestwin.dynamics.blocks import in_blocks, moments_of, rows_along
from bayestwin.dynamics.field import Field
from bayestwin.dynamics.grid import Grid
from bayestwin.dynamics.kalman import Normals, Pass, Seen, draw_states, propagate, root, update
from bayestwin.dynamics.solve import STEPPERS, Trajectory, begin, observer, so_far
from bayestwin.dynamics.steppers import Position, Precision, Slope, through_jacobian
from bayestwin.model.components import SolverMethod
from bayestwin.model.dependence import parameter_of
from bayestwin.model.error import ProcessNoise
from bayestwin.model.twin import Twin

# From one stop to the next with process noise: mean and covariance of the states, linearised in one of three ways.
#
# A state x near the mean m becomes `mean + Φ (x − m) + N(0, Q)`. Exact: for affine vector fields. Extended: by the
# twin's solver, `m′ = f(m)`, `Φ′ = J Φ`, `Q′ = J Q + Q Jᵀ + diag(σ²)` with J = ∂f/∂x along m. Unscented: points around
# m are solved for, and Φ and what is added to Q are those of the regression through them.
#
# A. H. Jazwinski (1970), Stochastic Processes and Filtering Theory. S. Särkkä (2007), doi:10.1109/TAC.2007.904453.

LEAST = 1e-6
"""Distance of the points from a mean of size 1 where the states are known: a numerical derivative."""


class FilterInterval(NamedTuple):
    """The interval before a stop; of length zero before the first.

    Attributes:
        start: Elapsed time.
        end: Elapsed time.
        left: Inputs at its start; shape (q,).
        right: Inputs at its end; shape (q,).
        amounts: With which value each event of known time happens at its start, NaN where it does not; shape (e,).
        exact: Of an affine twin: Φ, the mean's constant part, and Q.
    """

    start: Array
    end: Array
    left: Array
    right: Array
    amounts: Array
    exact: tuple[Array, Array, Array] | None = None


class Moved(NamedTuple):
    """Where a step leads.

    Attributes:
        mean: Shape (s,).
        transition: Φ, shape (s, s).
        added: Q, shape (s, s).
        at: The solver there.
    """

    mean: Array
    transition: Array
    added: Array
    at: Position


type Move = Callable[[Array, Array, Position, FilterInterval], Moved]
"""`(mean, covariance, solver's position, row)` → where the step leads."""


def rows_of(grid: Grid) -> FilterInterval:
    """The interval before each of the m + 1 stops of a grid; a leading axis in each field."""
    edges = jnp.asarray(grid.edges)
    start = jnp.concatenate([edges[:1], edges[:-1]])
    left, right = (_with_first(grid, inputs) for inputs in (grid.left, grid.right))
    nothing = jnp.full((1, grid.amounts.shape[1]), jnp.nan)
    return FilterInterval(start, edges, left, right, jnp.concatenate([nothing, jnp.asarray(grid.amounts)]))


def _with_first(grid: Grid, inputs: ArrayLike) -> Array:
    """Inputs of the m intervals, shape (m, q), with those at the first stop before them."""
    return jnp.concatenate([jnp.asarray(grid.left[:1] if len(grid.left) else grid.inputs[:1]), jnp.asarray(inputs)])


def affine_rows(twin: Twin, p: Any, diffusion: Array, grid: Grid) -> FilterInterval:
    """The rows of an affine twin with their exact steps; intervals that are alike share theirs.

    Args:
        twin: The twin, affine.
        p: Its parameters.
        diffusion: σ², shape (s,).
        grid: Where to stop.
    """
    field, kinds = Field(twin, p), kinds_of(twin, grid)
    steps = exact_steps(field, diffusion, grid, kinds)
    gamma, lam = (kinds.each(jnp.moveaxis(leaf, 0, -1)) for leaf in (steps.constant, steps.slope))
    each = steps.transition[kinds.which], constants(field, gamma, lam, grid).T, steps.covariance[kinds.which]
    nothing = jnp.zeros(len(twin.states))
    still = jnp.diag(nothing + 1.0), nothing, jnp.diag(nothing)
    transition, constant, covariance = (
        jnp.concatenate([first[None], rest]) for first, rest in zip(still, each, strict=True)
    )
    return rows_of(grid)._replace(exact=(transition, constant, covariance))


def exact(mean: Array, covariance: Array, at: Position, row: FilterInterval) -> Moved:
    """The step of an affine twin."""
    del covariance
    assert row.exact is not None
    transition, constant, added = row.exact
    return Moved(jnp.sum(transition * mean[None, :], axis=1) + constant, transition, added, at)


def extended(twin: Twin, p: Any, diffusion: Array, precision: Precision) -> Move:
    """Steps that linearise along the mean; Q is solved for in units of the largest diffusion, as tolerances need."""
    size = len(twin.states)
    unit = jnp.max(diffusion)
    relative = jnp.diag(diffusion / jnp.where(unit > 0, unit, 1.0))

    def move(mean: Array, covariance: Array, at: Position, row: FilterInterval) -> Moved:
        del covariance
        slope = _slope_in(twin, p, row)

        def joint(t: Array, both: Array) -> Array:
            state, phi, q = both[:size], *both[size:].reshape(2, size, size)
            rates, jacobian = slope(t, state), jax.jacfwd(slope, argnums=1)(t, state)
            half = jacobian @ q
            return jnp.concatenate([rates, (jacobian @ phi).ravel(), (half + half.T + relative).ravel()])

        begin = jnp.concatenate([mean, jnp.eye(size).ravel(), jnp.zeros(size * size)])
        at = _advance(twin.solver.method, precision, joint, row, at, begin)
        phi, q = at.state[size:].reshape(2, size, size)
        return Moved(at.state[:size], phi, unit * (q + q.T) / 2, at)

    return move


def unscented(twin: Twin, p: Any, diffusion: Array, precision: Precision) -> Move:
    """Steps that average over points around the mean, which are solved for without noise; Q has what they add to."""
    size = len(twin.states)
    linearised = extended(twin, p, diffusion, precision)

    def move(mean: Array, covariance: Array, at: Position, row: FilterInterval) -> Moved:
        moved = linearised(mean, covariance, at, row)
        slope = _slope_in(twin, p, row)

        def joint(t: Array, states: Array) -> Array:
            return jax.vmap(lambda state: slope(t, state))(states.reshape(-1, size)).ravel()

        points, spread = points_around(mean, covariance)
        at = _advance(twin.solver.method, precision, joint, row, moved.at, points.ravel())
        centre, transition, curved = regress(at.state.reshape(points.shape), spread)
        return Moved(centre, transition, moved.added + curved, at)

    return move


def after_events(field: Field, move: Move) -> Move:
    """Steps at whose start the events of known time happen first; what these do around the mean is linearised."""

    def moved(mean: Array, covariance: Array, at: Position, row: FilterInterval) -> Moved:
        def happen(state: Array) -> Array:
            return field.happen(row.start, state, row.left, row.amounts)

        slope = jax.jacfwd(happen)(mean)
        after = move(happen(mean), slope @ covariance @ slope.T, at, row)
        return after._replace(transition=after.transition @ slope)

    return moved


def points_around(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """The mean and 2 s points around it, shape (2 s + 1, s), and the matrix that spreads them, shape (s, s)."""
    size = len(mean)
    spread = root(covariance)
    floor = LEAST * (0.01 + jnp.abs(mean))
    diagonal = jnp.diag(spread)
    spread = spread + jnp.diag(jnp.where(diagonal < floor, floor - diagonal, 0.0))
    away = jnp.sqrt(size + _centre(size)) * spread.T
    return mean[None] + jnp.concatenate([jnp.zeros((1, size)), away, -away]), spread


def regress(values: Array, spread: Array) -> tuple[Array, Array, Array]:
    """The line through values at the points around a mean.

    Args:
        values: At the points; shape (2 s + 1, k).
        spread: As `points_around` returned it.

    Returns:
        Mean, shape (k,), slope, shape (k, s), and covariance of what is left, shape (k, k).
    """
    size = len(spread)
    total = size + _centre(size)
    weights = jnp.asarray([_centre(size) / total] + [0.5 / total] * (2 * size))
    mean = weights @ values
    along = (values[1 : size + 1] - values[size + 1 :]) / (2.0 * jnp.sqrt(total))
    slope = jax.scipy.linalg.solve_triangular(spread, along, lower=True, trans=1).T
    away = values - mean[None]
    # the odd part is what the line has; the even part is left
    left = (weights[:, None] * away).T @ away - along.T @ along
    return mean, slope, left


def _centre(size: int) -> float:
    """Weight of the mean among the points, for which fourth moments are those of a normal up to three states."""
    return max(3.0 - size, 0.0)


def _slope_in(twin: Twin, p: Any, row: FilterInterval) -> Slope:
    length = row.end - row.start
    rate = (row.right - row.left) / jnp.where(length > 0, length, 1.0)
    return Field(twin, p).slope(lambda t: row.left + rate * (t - row.start))


def _advance(
    method: SolverMethod, precision: Precision, slope: Slope, row: FilterInterval, at: Position, begin: Array
) -> Position:
    return STEPPERS[method](slope, row.start, row.end, at._replace(state=begin), precision)


class Expected(NamedTuple):
    """Observations as expected at n saved times, each from all before it; o observations in the twin's order.

    Attributes:
        moments: Means, and logarithms of standard deviations; 0 throughout where the filter failed; shape (2, n, o).
        solved: Whether the filter came through.
        num_steps: Steps of the solver; 0 where steps are exact.
        reached: At which times moments are those of the filter; shape (n,).
    """

    moments: Array
    solved: Array
    num_steps: Array
    reached: Array


def _moments(found: Pass, means: Array, _solved: Array) -> Array:
    return jnp.stack([means, jnp.log(found.gains.scale)])


def _with_solved(found: Pass, means: Array, solved: Array) -> tuple[Array, Array]:
    return _moments(found, means, solved), solved


class _Model(NamedTuple):
    """The twin at given values: where it begins, how it moves, and how it is seen."""

    at: Position
    covariance: Array
    field: Field
    diffusion: Array
    observe: Callable[[Array, Array, Array], Mapping[str, Array]]
    scales: list[Array]


class _Course(NamedTuple):
    """How the states move from stop to stop: by which step, over which intervals."""

    rows: FilterInterval
    move: Move


def last_observed(grid: Grid, observations: Mapping[str, np.ndarray]) -> int:
    """The last stop at which something was observed; −1 where nothing was."""
    there = [np.isfinite(values) for values in observations.values()]
    rows = np.flatnonzero(np.any(there, axis=0)) if there else np.zeros(0, int)
    return int(grid.save[rows[-1]]) if rows.size else -1


def is_complete(grid: Grid, observations: Mapping[str, np.ndarray], twin: Twin) -> bool:
    """Whether all is observed at every stop up to the last one that is saved."""
    stops, rows = np.unique(grid.save, return_index=True)
    there = [np.isfinite(observations[name])[rows].all() for name in twin.observations if name in observations]
    return len(there) == len(twin.observations) and all(there) and np.array_equal(stops, np.arange(len(stops)))


@dataclasses.dataclass(frozen=True, eq=False)
class Filter:
    """A twin with process noise, given what was observed.

    Attributes:
        twin: The twin.
        grid: Where to stop and to save.
        observations: By name, NaN = missing, shape (n,) each; those that are not there are missing throughout.
        last: The last stop with an observation, where observations are traced; by default it is looked for.
        complete: Whether nothing is missing; likewise.
    """

    twin: Twin
    grid: Grid
    observations: Mapping[str, np.ndarray]
    last: int | None = None
    complete: bool | None = None

    @property
    def last_observed(self) -> int:
        """The last stop with an observation; −1 where there is none."""
        return last_observed(self.grid, self.observations) if self.last is None else self.last

    def expect(self, values: Mapping[str, ArrayLike], *, backwards: bool = False, partly: bool = False) -> Expected:
        """What each observation is expected to be, differentiably in the free quantities.

        Args:
            values: Of all sites.
            backwards: Whether derivatives are wanted in reverse mode alone, which is cheaper along a long record.
            partly: As of `solve`.
        """
        free = [site.name for site in self.twin.sites()]
        theta = jnp.stack([jnp.asarray(values[name], float) for name in free]) if free else jnp.zeros(0)
        together = in_blocks(self.twin, self.grid)
        in_reverse = backwards and bool(free) and together
        complete = self.complete
        if together and complete is None:
            complete = is_complete(self.grid, self.observations, self.twin)

        def of_theta(theta: Array, grid: Grid, observed: Array) -> tuple[Array, tuple[Array, ...]]:
            # it may be traced, and then cannot be closed over
            own = dataclasses.replace(self, grid=grid, complete=complete)
            model = own._model(dict(zip(free, theta, strict=True)))
            there: Array | bool = True
            if together:
                steps = through_jacobian(steps_of)(theta, grid)[0] if in_reverse else steps_of(theta, grid)[0]
                moments = own._at_once(model, steps, observed, backwards=in_reverse)
                at, moments = model.at, moments[..., grid.save].swapaxes(1, 2)
            else:
                course = own._course(model)
                keep = _with_solved if partly else _moments
                at, kept = own._run(own._begun(model, course), course, keep, observed)
                kept, there = (kept[0], kept[1][grid.save]) if partly else (kept, True)
                moments = jnp.swapaxes(kept[grid.save], 0, 1)
            reached = (so_far(jnp.swapaxes(moments, 0, 1), there),) if partly else ()
            return moments, (at.solved & jnp.isfinite(moments).all(), at.num_steps, *reached)

        def steps_of(theta: Array, grid: Grid) -> tuple[Array, tuple[()]]:
            own = dataclasses.replace(self, grid=grid)
            model = own._model(dict(zip(free, theta, strict=True)))
            return jnp.stack(exact_steps(model.field, model.diffusion, grid, kinds_of(self.twin, grid))), ()

        grid = self.grid._replace(kinds=kinds_of(self.twin, self.grid)) if steps_exactly(self.twin) else self.grid
        expect = through_jacobian(of_theta) if free and not in_reverse else of_theta
        moments, (solved, num_steps, *found) = expect(theta, grid, self._observed())
        reached = found[0] if partly else jnp.full(moments.shape[1], solved)
        known = reached[None, :, None] if partly else solved
        return Expected(jnp.where(known, moments, 0.0), solved, num_steps, reached)

    def draw(self, values: Mapping[str, ArrayLike], key: Array, wider: Array | None = None) -> Trajectory:
        """Draw a trajectory, given all that was observed; `wider` stretches what is new after that, shape (m + 1,)."""
        keys = jax.random.split(key, 3)
        stops, num_states = len(self.grid.edges), len(self.twin.states)
        shapes = ((num_states,), (stops, num_states), (stops, len(self.twin.observations)))
        normals = (jax.random.normal(*pair) for pair in zip(keys, shapes, strict=True))
        drawn = Normals(*normals)
        if wider is not None:
            ahead = jnp.arange(stops) > max(self.last_observed, 0)
            drawn = drawn._replace(pushes=jnp.where(ahead, wider, 1.0)[:, None] * drawn.pushes)
        return self.along(values, drawn)

    def along(self, values: Mapping[str, ArrayLike], normals: Normals) -> Trajectory:
        """The trajectory that standard normal numbers make: smoothed as long as there are observations, then simulated.

        What is simulated goes from stop to stop, each step linearised where the trajectory is; its states are 1 from
        where it fails on. What is smoothed fails as a whole.

        Args:
            values: Of all sites.
            normals: For each of the m + 1 stops.
        """
        model = self._model(values)
        course, last = self._course(model), max(self.last_observed, 0)
        model = self._begun(model, course)
        if self.last_observed >= 0:
            at, found = self._run(model, course, lambda found, *_: found, self._observed()[: last + 1])
            used = Normals(normals.begin, normals.pushes[: last + 1], normals.noises[: last + 1])
            states = draw_states(found, model.covariance, used)
        else:
            at, states = model.at, (model.at.state + root(model.covariance) @ normals.begin)[None]
        begun = jnp.full(last + 1, at.solved & jnp.isfinite(states).all())
        start = at._replace(state=states[-1])
        at, (after, there) = self._simulate(course, start, last + 1, normals.pushes[last + 1 :])
        states = jnp.concatenate([states, after])
        reached = so_far(states, jnp.concatenate([begun, there]))[self.grid.save]
        states, solved = states[self.grid.save], at.solved & reached.all()
        return Trajectory(jnp.where(reached[:, None], states, 1.0), solved, at.num_steps, at.num_steps[None], reached)

    def _observed(self) -> Array:
        """Observations at all stops, NaN = missing; shape (m + 1, o)."""
        table = jnp.full((len(self.grid.edges), len(self.twin.observations)), jnp.nan)
        for number, name in enumerate(self.twin.observations):
            if name in self.observations:
                observed = jnp.asarray(self.observations[name])
                # where nothing was observed it is left as it is: times that fill the grid up are at the last stop again
                rows = jnp.where(jnp.isfinite(observed), jnp.asarray(self.grid.save), len(table))
                table = table.at[rows, number].set(observed, mode="drop")
        return table

    def _model(self, values: Mapping[str, ArrayLike]) -> _Model:
        twin, error, values = self.twin, self.twin.model_error, {**self.grid.known, **values}
        assert isinstance(error, ProcessNoise)

        def variances(given: Mapping[str, Any], suffix: str) -> Array:
            scales = [values.get(f"{name}_{suffix}", given.get(name, 0.0)) for name in twin.states]
            return jnp.stack([jnp.asarray(scale, float) ** 2 for scale in scales])

        field, state, found = begin(twin, self.grid, values)
        step = self.grid.edges[1] - self.grid.edges[0] if len(self.grid.edges) > 1 else 1.0
        at = Position(state, jnp.asarray(step), found, jnp.zeros((), int))
        scales = [self._scale(name, values) for name in twin.observations]
        scaled = {} if error.initial_scale == "diffusion" else error.initial_scale
        covariance = jnp.diag(variances(scaled, "initial_scale"))
        return _Model(at, covariance, field, variances(error.scale, "diffusion"), observer(twin, values), scales)

    def _course(self, model: _Model) -> _Course:
        twin, p, diffusion = self.twin, model.field.p, model.diffusion
        assert isinstance(twin.model_error, ProcessNoise)
        if steps_exactly(twin):
            move, rows = exact, affine_rows(twin, p, diffusion, self.grid)
        else:
            # moments are solved for as well, whose scale is not that of a state
            precision = self.grid.precision._replace(atol=jnp.min(jnp.asarray(self.grid.precision.atol)))
            by_points = twin.model_error.filter == "unscented"
            move = (unscented if by_points else extended)(twin, p, diffusion, precision)
            rows = rows_of(self.grid)
        return _Course(rows, after_events(model.field, move) if twin.timed else move)

    def _begun(self, model: _Model, course: _Course) -> _Model:
        """The model with the covariance at its beginning, where that is what a first step adds."""
        if not self._follows or len(self.grid.edges) < 2:
            return model
        first = jax.tree.map(lambda leaf: leaf[1], course.rows)
        return model._replace(covariance=course.move(model.at.state, model.covariance, model.at, first).added)

    @property
    def _follows(self) -> bool:
        error = self.twin.model_error
        return isinstance(error, ProcessNoise) and error.initial_scale == "diffusion"

    def _at_once(self, model: _Model, steps: Array, observed: Array, *, backwards: bool) -> Array:
        """Moments of the observations at all stops, in blocks; shape (2, o, m + 1)."""
        rows = rows_along(model.field, Step(*steps), self.grid, model.observe, self._inputs)
        if self._follows:
            model = model._replace(covariance=rows.added[..., 0 if rows.which is None else rows.which[1]])
        present = jnp.isfinite(observed).T
        rows = rows._replace(
            variance=jnp.stack(model.scales)[:, None] ** 2,
            present=present.astype(float),
            values=jnp.where(present, observed.T, 0.0),
        )
        return moments_of(rows, model.at.state, model.covariance, complete=bool(self.complete), backwards=backwards)

    @property
    def _inputs(self) -> Array:
        """Inputs at all stops; shape (m + 1, q)."""
        ends = self.grid.right[-1:] if len(self.grid.right) else self.grid.inputs
        inputs = jnp.concatenate([jnp.asarray(self.grid.left), jnp.asarray(ends)])
        return inputs.at[self.grid.save].set(self.grid.inputs)

    def _scale(self, name: str, values: Mapping[str, ArrayLike]) -> Array:
        """Standard deviation of the noise of an observation, which may be a parameter of the twin."""
        known = self.twin.observations[name].noise.parameters["scale"]
        if isinstance(known, str):
            return jnp.asarray(parameter_of(self.twin, known, values), float)
        return jnp.asarray(values.get(f"{name}_scale", known), float)

    def _run(
        self, model: _Model, course: _Course, keep: Callable[[Pass, Array, Array], Any], observed: Array
    ) -> tuple[Position, Any]:
        """Filter the stops that there are observations for: where the solver stands, and what is to be kept of each."""
        stops = len(observed)
        present = jnp.isfinite(observed)

        def body(carry: tuple[Position, Array], row: Any) -> tuple[tuple[Position, Array], Any]:
            at, covariance = carry
            interval, values, there, signal = row
            moved = course.move(at.state, covariance, at, interval)
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
            return (moved.at._replace(state=mean), covariance), keep(found, jnp.stack(means), moved.at.solved)

        rows = jax.tree.map(lambda leaf: leaf[:stops], course.rows)
        table = (rows, jnp.where(present, observed, 0.0), present.astype(float), self._inputs[:stops])
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

    def _simulate(
        self, course: _Course, at: Position, first: int, pushes: Array
    ) -> tuple[Position, tuple[Array, Array]]:
        """Simulate from the stop before `first` to the end: where it stands, the states, and whether it came there."""
        known = jnp.zeros((len(self.twin.states), len(self.twin.states)))
        rows = jax.tree.map(lambda leaf: leaf[first:], course.rows)

        def body(at: Position, row: tuple[FilterInterval, Array]) -> tuple[Position, tuple[Array, Array]]:
            interval, push = row
            moved = course.move(at.state, known, at, interval)
            state = moved.mean + root(moved.added) @ push
            return moved.at._replace(state=state), (state, moved.at.solved)

        return lax.scan(body, at, (rows, pushes))
