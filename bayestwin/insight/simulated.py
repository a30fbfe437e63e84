"""How narrow targets will be: the mean over telemetry that draws of the posterior make, by nested Monte Carlo.

Each record to come is made by one draw. What a calibration would then say follows from weighing all other draws by
their likelihood of it, which is exact but for chance; or, where few of them would remain, of draws around its mode.
T. Rainforth, A. Foster, D. R. Ivanova & F. Bickford Smith (2024), doi:10.1214/23-STS915.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import logsumexp, xlogy

from bayestwin._base.process import key_for, seed_for
from bayestwin._base.progress import Phase
from bayestwin.density.curvature import as_matrix
from bayestwin.density.density import Density
from bayestwin.inference.climb import climb
from bayestwin.insight.information import with_observations

MOST_NUMBERS = 20_000_000
"""Numbers that the paths of all draws may have together."""

BATCH = 16
"""Draws that are solved, or records that are calibrated, in one call."""

LEAST_WORTH = 50.0
"""Effective number of draws that weighing must leave, in nine of ten simulations; else Laplace approximations do."""

CLIMBED = 64
"""Simulations at most where each is a climb to a mode."""

RESAMPLED = 20
"""Times that the draws are resampled, to tell how far widths hang on which draws there are."""

AROUND, FREEDOM = 200, 5.0
"""Draws around each mode, and degrees of freedom of the t distribution that they are of."""


class SimulatedCalibrations(NamedTuple):
    """What o calibrations of simulated telemetry say of m targets.

    Attributes:
        covariance: Of the targets; shape (o, m, m).
        width: Of the central interval of each; shape (o, m).
        resampled: The widths with other draws in place of these, the same in all simulations; shape (o, r, m).
        ess: Effective number of draws that weighing leaves; shape (o,).
        gain: What the record tells of all quantities, in nats; shape (o,).
        method: `"weighted draws"`, or `"draws around modes"`.
    """

    covariance: np.ndarray
    width: np.ndarray
    resampled: np.ndarray
    ess: np.ndarray
    gain: np.ndarray
    method: str


class KnownDraws(NamedTuple):
    """Draws of what is known now.

    Attributes:
        z: Shape (j, d).
        targets: Of each draw; shape (j, m).
        covariance: Of z; shape (d, d).
        target_of: z → targets; shape (m,).
        told: Values and what is predicted, of each draw.
    """

    z: np.ndarray
    targets: np.ndarray
    covariance: np.ndarray
    target_of: Callable[[Array], Array]
    told: Any


def most_draws(density: Density, num: int) -> int:
    """How many of some draws have paths that fit into memory."""
    twin = density.twin
    each = density.bound.times.size * (twin.layout.size + 2 * len(twin.observations) + 1)
    return max(min(num, MOST_NUMBERS // each), 1)


def paths_of(density: Density, z: np.ndarray) -> Any:
    """Values of all sites and what is predicted for n points, n first in each leaf."""

    def one(z: Array) -> Any:
        values = density.constrain(z)
        return values, density.predict(values)

    return _in_batches(jax.jit(jax.vmap(one)), len(z), z)


class NestedMonteCarlo:
    """Telemetry to come on one plan: simulated, and calibrated."""

    def __init__(self, before: Density, drawn: KnownDraws, seed: int, prob: float) -> None:
        """Take the density without what is planned, at all its times, and draws; nothing is compiled yet."""
        self.before, self.drawn, self.prob = before, drawn, prob
        self.seed, self.key = seed, key_for(seed, "design records")
        self._past = {name: jnp.asarray(own) for name, own in before.bound.observations.items()}
        self._records = jax.jit(jax.vmap(self._record))
        self._likelihoods = jax.jit(self._likelihoods_of)
        self._calibrated = jax.jit(jax.vmap(self._around_mode, in_axes=(0, 0, 0, None)))

    def simulate(self, seen: Mapping[str, np.ndarray], num: int, phase: Phase) -> SimulatedCalibrations:
        """What calibrations would say with some observations more.

        Args:
            seen: Which ones, by name.
            num: Number of records; made by the first draws, the same for whatever is asked.
            phase: Told of each record.
        """
        mask = {name: jnp.asarray(own, bool) for name, own in seen.items()}
        truths = np.arange(min(num, len(self.drawn.z)))
        keys = jax.random.split(self.key, len(truths))
        given = jax.tree.map(lambda leaf: leaf[truths], self.drawn.told)
        records = self._records(keys, given)
        each = (jax.tree.map(lambda own, o=o: own[o], records) for o in truths)
        terms = np.stack([np.asarray(self._likelihoods(record, mask, self.drawn.told)) for record in each])
        found = _weighted(terms, self.drawn.targets, self.prob, self.seed)
        if np.quantile(found.ess, 0.1) >= LEAST_WORTH:
            phase.advance(num)
            return found
        few = truths[:CLIMBED]
        some = jax.tree.map(lambda own: own[few], records)
        weights, targets, gain = _in_batches(
            lambda *given: self._calibrated(*given, mask), len(few), keys[few], self.drawn.z[few], some
        )
        phase.advance(num)
        # each simulation has draws of its own here, so that chance differs between them, and is in their spread
        return _summary(weights, targets, gain, self.prob, "draws around modes", np.ones((1, AROUND)))

    def _record(self, key: Array, told: Any) -> dict[str, Array]:
        drawn = self.before.draw(key, *told)
        return {name: drawn[name] for name in self._past}

    def _with(self, record: Mapping[str, Array], seen: Mapping[str, Array]) -> Density:
        observations = {name: jnp.where(seen[name], record[name], past) for name, past in self._past.items()}
        return with_observations(self.before, observations)

    def _likelihoods_of(self, record: Mapping[str, Array], seen: Mapping[str, Array], told: Any) -> Array:
        """Log likelihood of a record, given what was observed before, under each draw; shape (j,)."""
        given = self._with(record, seen)

        def one(told: Any) -> Array:
            found = given.log_likelihood(*told)
            total = jnp.stack([jnp.where(seen[name], own, 0.0).sum() for name, own in found.items()]).sum()
            return jnp.where(told[1].solved.all() & jnp.isfinite(total), total, -jnp.inf)

        return jax.vmap(one)(told)

    def _around_mode(
        self, key: Array, z: Array, record: Mapping[str, Array], seen: Mapping[str, Array]
    ) -> tuple[Array, Array, Array]:
        """Draws around the mode that is reached from the truth: weights, targets, and the information gained.

        They are of a t distribution with the curvature at the mode, whose tails are wider than those of posteriors,
        weighed by the posterior's density.
        """
        given = self._with(record, seen)
        reached = climb(given.local, z[None])
        mode, precision = reached.z[0], -as_matrix(jax.tree.map(lambda leaf: leaf[0], reached.hessian))
        root = jnp.linalg.cholesky(precision)
        normal, chi2 = jax.random.split(jax.random.fold_in(key, 1))
        steps = jax.random.normal(normal, (AROUND, len(z)))
        steps *= jnp.sqrt(FREEDOM / jax.random.chisquare(chi2, FREEDOM, (AROUND, 1)))
        draws = mode[None] + jax.scipy.linalg.solve_triangular(root.T, steps.T).T
        heights = jax.lax.map(given, draws, batch_size=BATCH)
        proposed = -0.5 * (FREEDOM + len(z)) * jnp.log1p((steps**2).sum(axis=1) / FREEDOM)
        targets = jax.lax.map(self.drawn.target_of, draws)
        now = jnp.linalg.slogdet(jnp.asarray(self.drawn.covariance))[1]
        return jax.nn.softmax(heights - proposed), targets, (now + jnp.linalg.slogdet(precision)[1]) / 2


def _in_batches(function: Callable[..., Any], num: int, *arrays: Any) -> Any:
    """What a function of n rows finds, `BATCH` rows a call: one compilation."""
    found = []
    for first in range(0, num, BATCH):
        rows = np.minimum(np.arange(first, first + BATCH), num - 1)
        part = function(*jax.tree.map(lambda leaf, rows=rows: leaf[rows], arrays))
        size = min(BATCH, num - first)
        found.append(jax.tree.map(lambda leaf, size=size: np.asarray(leaf)[:size], part))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def _weighted(terms: np.ndarray, targets: np.ndarray, prob: float, seed: int) -> SimulatedCalibrations:
    """What weighing says; record o is made by draw o, which is left out there.

    All simulations weigh the same draws, so that chance moves their widths together: other draws are stood for by
    those of a Bayesian bootstrap, doi:10.1214/aos/1176345338.

    Args:
        terms: Log likelihood of each of o records under each of j draws; shape (o, j).
        targets: Of each draw; shape (j, m).
        prob: Of the central interval.
        seed: Of the bootstrap.
    """
    rows = np.arange(len(terms))
    others = terms.copy()
    others[rows, rows] = -np.inf
    total = logsumexp(others, axis=1, keepdims=True)
    good = np.isfinite(total[:, 0])
    weights = np.exp(others - np.where(good[:, None], total, 0.0))
    gain = xlogy(weights, weights).sum(axis=1) + np.log(len(targets) - 1)
    everyone = np.broadcast_to(targets, (len(terms), *targets.shape))
    again = np.random.default_rng(seed_for(seed, "design draws")).exponential(size=(RESAMPLED, len(targets)))
    return _summary(weights, everyone, gain, prob, "weighted draws", again)


def _summary(
    weights: np.ndarray, targets: np.ndarray, gain: np.ndarray, prob: float, method: str, again: np.ndarray
) -> SimulatedCalibrations:
    """What weighted draws say in each of o simulations. NaN where none remains.

    Args:
        weights: Shape (o, j).
        targets: Shape (o, j, m).
        gain: Shape (o,).
        prob: Of the central interval.
        method: Where the draws are from.
        again: How much each draw counts where draws are resampled; shape (r, j).
    """
    squares = (weights**2).sum(axis=1)
    remains = squares > 0.0
    spread = targets - np.einsum("oj,ojm->om", weights, targets)[:, None]
    # as with n draws, of which n − 1 tell the spread
    left = np.maximum(1.0 - squares, np.finfo(float).tiny)
    covariance = np.einsum("oj,ojm,ojk->omk", weights, spread, spread) / left[:, None, None]
    width, resampled = (
        np.array([_widths(own * each, values, prob) for own, values in zip(weights, targets, strict=True)])
        for each in (np.ones((1, weights.shape[1])), again)
    )
    return SimulatedCalibrations(
        np.where(remains[:, None, None], covariance, np.nan),
        np.where(remains[:, None], width[:, 0], np.nan),
        np.where(remains[:, None, None], resampled, np.nan),
        1.0 / np.where(remains, squares, np.inf),
        gain,
        method,
    )


def _widths(weights: np.ndarray, targets: np.ndarray, prob: float) -> np.ndarray:
    """Widths, shape (r, m), of the central intervals of weighted draws; weights (r, j), targets (j, m)."""
    found = []
    for values in targets.T:
        order = np.argsort(values)
        own = weights[:, order]
        share = (np.cumsum(own, axis=1) - own / 2) / np.maximum(own.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        edges = np.array([np.interp([(1 - prob) / 2, (1 + prob) / 2], row, values[order]) for row in share])
        found.append(edges[:, 1] - edges[:, 0])
    return np.stack(found, axis=-1)
