"""Twin + telemetry → log density, in the unconstrained space in which optimisers and samplers move.

`log p(z) = log p(θ(z)) + log |dθ/dz| + Σ w_i log p(y_i | twin(θ), noise(θ))`, with one coordinate z for each site, and
of several experiments one for each of them where the site is not shared; w is 1 unless old rows are to count less.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bayestwin._base.compilation import in_batches
from bayestwin._base.keys import Keyed, key_of
from bayestwin.density.bind import (
    Bound,
    each,
    each_experiment,
    fill_bound,
    fill_grid,
    fill_kinds,
    stack_bounds,
    stack_grids,
    stack_kinds,
)
from bayestwin.density.curvature import Local, joined
from bayestwin.density.discrepancy import Discrepancies, build_discrepancies
from bayestwin.density.observing import (
    Predicted,
    correlation_terms,
    draw_correlated,
    noise_of,
    noise_where_seen,
    read_over_time,
)
from bayestwin.density.priors import (
    Priors,
    constrain,
    derive,
    draw_prior,
    draw_rest,
    forms_of,
    numbers_of_all,
    unconstrain,
    with_numbers,
)
from bayestwin.density.robust import LOSSES, Loss, stretches
from bayestwin.density.shared_prior import SharedPrior
from bayestwin.dynamics.affine import kinds_of, kinds_of_each, steps_exactly
from bayestwin.dynamics.blocks import in_blocks
from bayestwin.dynamics.filter import Expected, Filter, is_complete, last_observed
from bayestwin.dynamics.grid import Grid, build_grid, precision_of
from bayestwin.dynamics.solve import Trajectory, observe, solve, vary
from bayestwin.dynamics.steppers import Precision
from bayestwin.errors import InvalidTwin
from bayestwin.model.error import ProcessNoise
from bayestwin.model.noise.families import Noise
from bayestwin.model.twin import Site, Twin


class Parts(NamedTuple):
    """What a density is made of beside its arrays: programs are compiled once for all densities that have these.

    Attributes:
        twin: The twin.
        sites: What is inferred.
        loss: The loss.
        of_values: Of which values it is the density.
        experiments: Names of the experiments.
        last: With process noise, the last stop with an observation.
        complete: With process noise, whether nothing is missing up to there.
    """

    twin: Twin
    sites: tuple[Site, ...]
    loss: Loss
    of_values: bool
    experiments: tuple[str, ...]
    last: int | None
    complete: bool | None

    def keyed(self) -> "Keyed[Parts]":
        """These parts as they are found again; how precisely a twin is solved is among the arrays."""
        twin = self.twin
        members = (twin.vector_field, twin.states, twin.parameters, twin.observations, twin.inputs, twin.events)
        settings = (twin.model_error, twin.solver.method, self.loss, self.of_values, len(self.experiments))
        return Keyed(self, key_of((*members, *settings, self.last, self.complete), standing=forms_of(self.sites)))


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Density:
    """The log density of a twin given telemetry; a function of z with shape (d,).

    It is a pytree whose leaves are telemetry, grid, tolerances, and the numbers of which priors are made. Compiled
    programs take it as an argument, so that one that is there serves all densities of the same twin, with priors of the
    same kinds, and the same shapes.

    Attributes:
        twin: The twin.
        bound: Its telemetry.
        grid: Where the solver stops.
        sites: What is inferred, in the order of z.
        loss: What is done to observations far from what is predicted: `"linear"` nothing, others pull them in.
        of_values: Whether this is the density of the values of the sites themselves, whose highest point is their
            most probable value, and not that of z, whose highest point moves with the choice of coordinates.
        experiments: Names of the experiments, in the order of the leading axis of `bound` and `grid`; none where
            there is one telemetry alone.
        centring: How far coordinates of what is pooled are centred, from 0 to 1, by site; shape (E,) each.
        learnt: The joint prior of all that is shared, in place of what the twin says of it, if there is one.
        beside: Of how many experiments this is one, where it is evaluated for all of them side by side.
    """

    twin: Twin
    bound: Bound
    grid: Grid
    sites: tuple[Site, ...]
    loss: Loss = "linear"
    of_values: bool = False
    experiments: tuple[str, ...] = ()
    centring: Mapping[str, ArrayLike] = dataclasses.field(default_factory=dict)
    learnt: SharedPrior | None = None
    beside: int = 1

    def tree_flatten(self) -> tuple[tuple[Any, ...], Keyed[Parts]]:
        """Arrays, and all else; labels are for people."""
        processes = None if self.discrepancies is None else dict(self.discrepancies.processes)
        bound = self.bound
        arrays = (
            bound.times,
            bound.observations,
            self._compiled_grid,
            processes,
            bound.columns,
            bound.since,
            bound.weights,
        )
        return (*arrays, self._numbers, self.priors.centring, self.learnt), self._parts_of

    @classmethod
    def tree_unflatten(cls, parts: Keyed[Parts], leaves: tuple[Any, ...]) -> "Density":
        """The density again, of arrays that may be traced."""
        (times, observations, grid, processes, columns, since, weights, numbers, centring, learnt) = leaves
        twin, sites, loss, of_values, experiments, *_ = parts.value
        nothing: Any = None
        bound = Bound(times, nothing, observations, {}, {}, columns, since, weights=weights)
        found = cls(twin, bound, grid, with_numbers(sites, numbers), loss, of_values, experiments, centring, learnt)
        known = None if processes is None else Discrepancies(twin, observations, processes)
        vars(found).update(discrepancies=known, _compiled_grid=grid, _parts_of=parts, _numbers=numbers)
        return found

    @functools.cached_property
    def _compiled_grid(self) -> Grid:
        """The grid with what depends on its numbers and cannot be found where it is traced."""
        exact = self.twin.solver.method == "exact" or steps_exactly(self.twin)
        if not exact or isinstance(self.grid.edges, Array):
            return self.grid
        if not self.experiments:
            return self.grid._replace(kinds=fill_kinds(kinds_of(self.twin, self.grid)))
        alone = [jax.tree.map(lambda own, n=n: own[n], self.grid) for n in range(len(self.experiments))]
        return self.grid._replace(kinds=stack_kinds(kinds_of_each(self.twin, alone)))

    @functools.cached_property
    def filled(self) -> "Density":
        """The same density with room for more times and stops, so that records of about one length share programs."""
        if self.grid.edges.shape[-1] < 2 or self.bound.labels is None:
            return self
        alike = self.twin.solver.method == "exact" or steps_exactly(self.twin)
        return dataclasses.replace(self, bound=fill_bound(self.bound), grid=fill_grid(self.grid, alike=alike))

    @functools.cached_property
    def _numbers(self) -> list[Any]:
        return numbers_of_all(self.sites)

    @functools.cached_property
    def _parts_of(self) -> Keyed[Parts]:
        noisy = isinstance(self.twin.model_error, ProcessNoise)
        last = last_observed(self.grid, self.bound.observations) if noisy else None
        # it makes a difference only to a long record, and programs are not to be told apart by more than that
        long = noisy and in_blocks(self.twin, self.grid)
        complete = is_complete(self.grid, self.bound.observations, self.twin) if long else None
        return Parts(self.twin, self.sites, self.loss, self.of_values, self.experiments, last, complete).keyed()

    def solved_as(self, twin: Twin) -> "Density":
        """The density of the same twin with another solver."""
        return dataclasses.replace(self, twin=twin).solved_to(precision_of(twin))

    @property
    def pooled(self) -> bool:
        """Whether something comes from a population that is inferred."""
        return any(site.pooled for site in self.sites)

    def centred(self, centring: Mapping[str, ArrayLike]) -> "Density":
        """The density in other coordinates of what is pooled."""
        return dataclasses.replace(self, centring=dict(centring)) if centring else self

    def solved_to(self, precision: Precision) -> "Density":
        """The density solved to another precision."""
        each = jax.tree.map(lambda own, new: np.full(np.shape(own), new), self.grid.precision, precision)
        return dataclasses.replace(self, grid=self.grid._replace(precision=Precision(*each)))

    def __call__(self, z: Array) -> Array:
        """Log density at z up to a constant; −inf where the solve fails or the density is not finite."""
        return self._log_density(z)

    def local(self, z: Array) -> Local:
        """Log density, gradient and Gauss–Newton Hessian at z, for the price of the gradient.

        The twin is replaced by its linearisation, everything else stays as it is: value and gradient are exact, the
        Hessian leaves out the second derivatives of the trajectory (with process noise, of the moments that
        observations are expected to have), which a good fit multiplies by small residuals.
        """
        if self.experiments and any(not site.shared for site in self.sites):
            return self._local_by_experiment(z)
        path = self.path_along(z)

        def linearised(step: Array) -> Array:
            return self.given(z + step, path(step))

        def gradient_and_all(step: Array) -> tuple[Array, tuple[Array, Array]]:
            value, gradient = jax.value_and_grad(linearised)(step)
            return gradient, (value, gradient)

        hessian, (value, gradient) = jax.jacfwd(gradient_and_all, has_aux=True)(jnp.zeros_like(z))
        return Local(value, gradient, hessian)

    def _local_by_experiment(self, z: Array) -> Local:
        """As `local`, from what each experiment says by itself, less what all say again of what is shared.

        Each is differentiated for what is its own and what is shared alone, so that the cost grows as their number.
        """
        common = Priors(self.twin, tuple(site for site in self.sites if site.shared), learnt=self.learnt)

        def one(bound: Bound, grid: Grid, centring: Mapping[str, Array], z: Array) -> Local:
            own = {"bound": bound, "grid": grid, "centring": centring}
            return dataclasses.replace(self, **own, experiments=(), beside=len(self.experiments)).local(z)

        def again(z: Array) -> Array:
            values, correction = common.constrain(z)
            return common.log_density(values) + (0.0 if self.of_values else correction)

        arrays = self.bound, self._compiled_grid, dict(self.priors.centring)
        bound, grid, centring = jax.tree.map(jnp.asarray, arrays)
        each = jax.vmap(one)(bound, grid, centring, z[self._places])
        return joined(each, again, z, self._places, [site.shared for site in self.sites])

    @property
    def _places(self) -> np.ndarray:
        """Where in z each experiment finds the coordinate of each site; shape (E, sites)."""
        num, sizes = len(self.experiments), self.priors.sizes
        begin = np.cumsum([0, *sizes[:-1]])
        return np.stack([np.broadcast_to(at + np.arange(size), num) for at, size in zip(begin, sizes, strict=True)], 1)

    @property
    def arrow(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Places in z of what is shared, (s,), and of what is each experiment's own, (E, m); None without either."""
        shared = np.array([site.shared for site in self.sites])
        if not self.experiments or shared.all() or not shared.any():
            return None
        return self._places[0, shared], self._places[:, ~shared]

    def path_along(self, z: Array) -> Callable[[Array], Trajectory | Expected]:
        """What solving gives a step away from z, with the twin replaced by its linearisation at z."""

        def values_and_path(z: Array) -> tuple[Array, Trajectory | Expected]:
            path = self.path(z)
            return path[0], path

        jacobian, path = jax.jacfwd(values_and_path, has_aux=True)(z)
        return lambda step: path._replace(**{path._fields[0]: path[0] + jacobian @ step})  # type: ignore[arg-type]

    def constrain(self, z: Array) -> dict[str, Array]:
        """Values of all sites, by name, for unconstrained z."""
        return self.constrain_with_log_det(z)[0]

    def constrain_with_log_det(self, z: Array) -> tuple[dict[str, Array], Array]:
        """Values of all sites, and the log of the determinant of their derivative with respect to z."""
        return self.priors.constrain(z)

    @functools.cached_property
    def priors(self) -> Priors:
        """The priors of its sites."""
        known = {} if self.grid is None else self.grid.known
        priors = Priors(self.twin, self.sites, len(self.experiments), known)
        centring = {site.name: np.zeros(priors.shape_of(site)) for site in self.sites if site.pooled}
        return dataclasses.replace(priors, centring=centring | dict(self.centring), learnt=self.learnt)

    def shape_of(self, site: Site) -> tuple[int, ...]:
        """The shape of a site's values: one number, or one for each experiment."""
        return self.priors.shape_of(site)

    def unconstrain(self, values: Mapping[str, ArrayLike]) -> Array:
        """The z of given values, shape (d,)."""
        return self.priors.unconstrain(values)

    def unconstrain_all(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The z of n draws of all sites, n first; shape (n, d)."""
        return in_batches(functools.partial(unconstrain, self.priors), values)

    def sample_prior(self, key: Array) -> dict[str, Array]:
        """One draw of all sites from their priors."""
        return self.priors.sample(key)

    def draw_prior(self, keys: Array) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws from the priors, one for each of n keys: values by site, n first, and their z, shape (n, d)."""
        drawn = functools.partial(draw_prior, self.priors)
        return in_batches(drawn, np.asarray(jax.random.key_data(keys)))

    def draw_rest(self, keys: Array, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """For n draws of some sites, n first, those of the others from their priors; all of them, by name."""
        rows = {"bits": np.asarray(jax.random.key_data(keys)), "given": dict(given)}
        return in_batches(lambda own: draw_rest(self.priors, **own), rows)

    def constrain_all(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Values of all sites for n points, shape (n, d); n first."""
        return in_batches(functools.partial(constrain, self.priors), z)

    def derive_all(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the parameters that are derived from others, for n draws of all sites; n first."""
        if not self.twin.derived:
            return {}
        return in_batches(functools.partial(derive, self.priors), values)

    def complete(self, values: Mapping[str, ArrayLike]) -> Mapping[str, ArrayLike]:
        """Values of all sites with what the record brings along, and what is derived from both."""
        if not self.twin.derived and not self.grid.known:
            return values
        return {**self.priors.derive(values), **self.grid.known, **values}

    def predict(self, values: Mapping[str, ArrayLike], *, partly: bool = False, beside: int = 1) -> Predicted:
        """Solve the twin for one value of all sites; with process noise, predict each observation from those before.

        Where it is asked for `partly`, what a solve that fails says before that is kept, and has no derivatives; it may
        be one of so many `beside` each other that the caller maps over.
        """
        if not partly:
            return self.predicted_along(values, self._solve(values))
        together = {} if self._filter else {"beside": beside}
        return self.predicted_along(values, self._solving(values, partly=True, **together))

    # These are compiled as parts of what calls them. That they are jitted themselves makes JAX trace each once,
    # and differentiate that, where else it would do so again in every function and every loop that one stands in.

    @functools.cached_property
    def _log_density(self) -> Callable[[Array], Array]:
        solve = self._solve
        if self._filter is not None and in_blocks(self.twin, self.grid):
            solve = functools.partial(self._filter.expect, backwards=True)
        return jax.jit(lambda z: self.given(z, solve(self.constrain(z))))

    @functools.cached_property
    def _solve(self) -> Callable[[Mapping[str, ArrayLike]], Trajectory | Expected]:
        return jax.jit(self._solving)

    @property
    def _solving(self) -> Callable[..., Trajectory | Expected]:
        if self._filter:
            return self._filter.expect
        return functools.partial(solve, self.twin, self._compiled_grid, beside=self.beside)

    @functools.cached_property
    def _filter(self) -> Filter | None:
        noisy = isinstance(self.twin.model_error, ProcessNoise)
        known = vars(self).get("_parts_of")
        last, complete = (known.value.last, known.value.complete) if known else (None, None)
        return Filter(self.twin, self._compiled_grid, self.bound.observations, last, complete) if noisy else None

    def parts(self, z: Array) -> tuple[Array, Array]:
        """Log prior density and log likelihood at z; their sum is the log density."""
        return self._parts(z, self.path(z))

    def path(self, z: Array) -> Trajectory | Expected:
        """What solving gives at z."""
        return self._solve(self.constrain(z))

    def given(self, z: Array, path: Trajectory | Expected) -> Array:
        """Log density at z, if that is what solving gives."""
        prior, likelihood = self._parts(z, path)
        total = prior + likelihood
        return jnp.where(jnp.isfinite(total), total, -jnp.inf)

    def _parts(self, z: Array, path: Trajectory | Expected) -> tuple[Array, Array]:
        values, correction = self.constrain_with_log_det(z)
        predicted = self.predicted_along(values, path)
        terms = self.log_likelihood(values, predicted)
        if self.discrepancies is not None:
            terms |= self.discrepancies.log_likelihood(values, predicted.noise_free, self._noise_scales(values))
        if self.loss != "linear":
            terms = self._softened(values, predicted, terms)
        if self.bound.weights is not None:
            terms = {name: self.bound.weights * term for name, term in terms.items()}
        likelihood = jnp.stack([term.sum() for term in terms.values()]).sum()
        prior = self.priors.log_density(values) + (0.0 if self.of_values else correction)
        solved = predicted.solved.all() if self.experiments else predicted.solved
        return prior, jnp.where(solved & jnp.isfinite(likelihood), likelihood, -jnp.inf)

    @each_experiment
    def _softened(
        self, values: Mapping[str, Array], predicted: Predicted, terms: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Log likelihoods in which the deviance `2 (log p(y | y) − log p(y | v))` is replaced by its loss."""
        best = {}
        for name, observed in self.bound.observations.items():
            noise, given = noise_where_seen(self.twin, self.bound, name, self.complete(values), predicted)
            best[name] = noise.saturated(observed, self.bound.times, **given)
        deviance = {name: jnp.maximum(2.0 * (best[name] - term), 0.0) for name, term in terms.items()}
        return {name: best[name] - 0.5 * LOSSES[self.loss](deviance[name]) for name in terms}

    @each_experiment
    def predicted_along(self, values: Mapping[str, ArrayLike], path: Trajectory | Expected) -> Predicted:
        """What the twin says for one value of all sites, if `path` is what solving gives."""
        if not isinstance(path, Expected):
            return self._along(values, path)
        means, scales = (dict(zip(self.twin.observations, columns.T, strict=True)) for columns in path.moments)
        unknown = jnp.full((path.moments.shape[1], self.twin.layout.size), jnp.nan)
        spread = {name: jnp.exp(scale) for name, scale in scales.items()}
        return Predicted(means, unknown, path.solved, path.num_steps, path.reached, spread)

    def _along(self, values: Mapping[str, ArrayLike], trajectory: Trajectory) -> Predicted:
        given = self.complete(values)
        noise_free = observe(self.twin, self.bound.times, trajectory.states, self.grid.inputs, given)
        noise_free |= read_over_time(self.twin, self.bound, noise_free, trajectory.states)
        told = vary(self.twin, self.bound.times, trajectory.states, self.grid.inputs, given)
        return Predicted(noise_free, *trajectory[:3], trajectory.reached, by_row=told)

    def noise(
        self, name: str, values: Mapping[str, ArrayLike], predicted: Predicted | None = None
    ) -> tuple[Noise, dict[str, Any]]:
        """As `noise_of`."""
        return noise_of(self.twin, self.bound, name, self.complete(values), predicted)

    @each_experiment
    def log_likelihood(self, values: Mapping[str, ArrayLike], predicted: Predicted) -> dict[str, Array]:
        """Log density of each observation, shape (n,) each; 0 where it is missing.

        With discrepancies it is that given the one drawn, if there is one; where sensors are correlated, that given
        those named before in the same row.
        """
        terms = {}
        for name, observed in self.bound.observations.items():
            noise, given = noise_where_seen(self.twin, self.bound, name, self.complete(values), predicted)
            expected = predicted.noise_free[name] + (predicted.discrepancy or {}).get(name, 0.0)
            terms[name] = noise.log_likelihood(observed, expected, self.bound.times, **given)
        return terms | {name: terms[name] + term for name, term in self._correlations(values, predicted).items()}

    @each_experiment
    def correlations(self, values: Mapping[str, ArrayLike], predicted: Predicted) -> dict[str, Array]:
        """What is added to the log density of each observation by itself, where sensors are correlated."""
        return self._correlations(values, predicted)

    def _correlations(self, values: Mapping[str, ArrayLike], predicted: Predicted) -> dict[str, Array]:
        if not self.twin.correlated:
            return {}
        return correlation_terms(self.twin, self.bound, self.complete(values), predicted)

    def disturbed(self, key: Array, values: Mapping[str, ArrayLike], predicted: Predicted) -> Predicted:
        """What is predicted, with discrepancies drawn given all that was observed, where the twin has some."""
        if self.discrepancies is None or predicted.discrepancy is not None:
            return predicted
        scales = self._noise_scales(values)
        drawn = self.discrepancies.draw(key, values, predicted.noise_free, scales)
        return predicted._replace(discrepancy=drawn, reached=self.discrepancies.known(predicted.reached))

    def _noise_scales(self, values: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
        assert self.discrepancies is not None
        return {name: self.noise(name, values)[1]["scale"] for name in self.discrepancies.processes}

    @functools.cached_property
    def discrepancies(self) -> Discrepancies | None:
        """The processes that observations have beside their noise; None where the twin has no discrepancy."""
        error = self.twin.model_error
        return None if error is None else build_discrepancies(self.twin, self.bound, self.grid)

    def draw(self, key: Array, values: Mapping[str, ArrayLike], predicted: Predicted) -> dict[str, Array]:
        """New observations `<observation>`, with `<observation>_noise_free` and `<state>_state`; shape (n,) each.

        With a discrepancy also `<observation>_discrepancy`. With process noise they follow one trajectory drawn given
        all that was observed; NaN where that fails.
        """
        keys = jax.random.split(key, len(self.experiments)) if self.experiments else key
        return self._drawn(values, predicted, keys)

    @each_experiment
    def _drawn(self, values: Mapping[str, ArrayLike], predicted: Predicted, key: Array) -> dict[str, Array]:
        own = jax.random.fold_in(key, len(predicted.noise_free))
        error, wider = self.twin.model_error, None
        if self._filter is not None:
            assert isinstance(error, ProcessNoise)
            grid = self._filter.grid
            stretched = stretches(jax.random.fold_in(own, 1), error, values, len(grid.edges))
            predicted = self._along(values, self._filter.draw(values, own, stretched))
            wider = None if stretched is None else stretched[grid.save]
        predicted = self.disturbed(own, values, predicted)
        discrepancy = predicted.discrepancy or {}
        found: dict[str, Array] = {}
        together: Mapping[str, Array] = {}
        if self.twin.correlated:
            together = draw_correlated(key, self.twin, self.bound, self.complete(values), predicted)
        for number, (name, value) in enumerate(predicted.noise_free.items()):
            noise, given = self.noise(name, values, predicted)
            given |= {} if wider is None else {"scale": given["scale"] * wider}
            disturbed = value + discrepancy.get(name, 0.0)
            own_key, observed = jax.random.fold_in(key, number), self.bound.observations.get(name)
            if name in together:
                found[name] = together[name]
            elif noise.independent or observed is None:
                found[name] = noise.sample(own_key, disturbed, self.bound.times, **given)
            else:
                found[name] = noise.sample_after(own_key, observed, disturbed, self.bound.times, **given)
            found[f"{name}_noise_free"] = value
        found |= {f"{name}_discrepancy": drawn for name, drawn in discrepancy.items()}
        for name, place in self.twin.layout.places.items():
            shape = self.twin.states[name].shape
            found[f"{name}_state"] = predicted.states[:, place].reshape(-1, *shape)
        reached = predicted.reached
        for name, array in found.items():
            found[name] = jnp.where(jnp.expand_dims(reached, tuple(range(1, array.ndim))), array, jnp.nan)
        return found

    def until(self, share: float) -> "Density":
        """The density given the first observations alone, that share of all, but twice as many as there are sites."""
        present = np.any([np.isfinite(values) for values in self.bound.observations.values()], axis=0)
        times = np.sort(self.bound.times[present])
        last = times[min(len(times), max(2 * len(self.sites), math.ceil(share * len(times)))) - 1]
        early = self.bound.times <= last
        observations = {name: np.where(early, values, np.nan) for name, values in self.bound.observations.items()}
        return dataclasses.replace(self, bound=self.bound._replace(observations=observations))

    def alone(self, number: int) -> "Density":
        """The density of one experiment by itself."""
        bound, grid = jax.tree.map(lambda array: array[number], (self.bound, self.grid))
        return dataclasses.replace(self, bound=bound, grid=grid, experiments=(), centring={})


def build_density(twin: Twin, bound: Bound | Mapping[str, Bound]) -> Density:
    """The log density of `twin` given bound telemetry, or that of each experiment, sampled where its inputs are."""
    if isinstance(bound, Bound):
        return Density(twin, bound, _grid(twin, bound), twin.sites())
    return join(twin, bound, each(functools.partial(_grid, twin), bound))


def _grid(twin: Twin, bound: Bound) -> Grid:
    return build_grid(twin, bound.times, bound.times, bound.inputs, bound.events, bound.known)


def join(twin: Twin, bounds: Mapping[str, Bound], grids: Mapping[str, Grid]) -> Density:
    """The log density of several experiments together, by their names.

    Raises:
        InvalidTwin: If the twin has a model error.
    """
    if twin.model_error is not None:
        raise InvalidTwin(
            f"Twin `{twin.name}` has a model error, which several experiments cannot have yet.",
            expected="one telemetry, or a twin without `model_error=`",
            received=f"the experiments {', '.join(f'`{name}`' for name in bounds)}",
            advice="Calibrate each experiment by itself, or pass `model_error=None`.",
        )
    stacked = stack_bounds(list(bounds.values())), stack_grids(list(grids.values()))
    return Density(twin, *stacked, twin.sites(), experiments=tuple(bounds))
