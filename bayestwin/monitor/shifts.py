"""Which parameter moved: the one that explains new readings best if it alone is another one since the calibration.

With draws θ ~ N(m, C), and one entry j another one by δ, the log likelihood of what is new is looked at along its
linearised trajectory, `s` and `H` its score and information: `V⁻¹ = (1 + H C)⁻¹ H` is the information on a move when
the uncertainty of all else is integrated out, `u = (1 + H C)⁻¹ s`, and `δ = u_j / V⁻¹_jj`. C. R. Rao's score test with
nuisance parameters (1948, doi:10.1017/S0305004100023987), iterated where the twin is not linear.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.stats import chi2

from bayestwin._base.compilation import Program
from bayestwin.density.density import Density
from bayestwin.density.onestep import one_step
from bayestwin.monitor.ahead import RowsAhead

STEPS = 8
"""Times that each move is looked at along the trajectory that it leads to."""


class Shift(NamedTuple):
    """What new readings say if one quantity alone moved.

    Attributes:
        name: Of a site, or of an observation that is off.
        kind: `"parameter"`, `"noise"`, `"model_error"`, or `"sensor"` where an observation is off by a number.
        before: Its median by the calibration; 0 of a sensor.
        after: Where it moved to.
        moved: By how many standard deviations of the calibration, on the scale on which it is unconstrained; NaN of a
            sensor.
        gain: Log likelihood that the move gains over none.
        z: The square root of twice that, with the sign of the move: standard normal where nothing moved.
        unit: Of before and after.
    """

    name: str
    kind: str
    before: float
    after: float
    moved: float
    gain: float
    z: float
    unit: str


@Program
def _locals(density: Density, points: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Log likelihood of some rows, its gradient and its information, at n points: coordinates, then sensors' offsets.

    Args:
        density: Of one record.
        points: Shape (n, d + o).
        rows: Which count, as 1.0; shape (times, o).
    """
    size = len(density.sites)
    names = list(density.twin.observations)

    def one(point: Array) -> tuple[Array, Array, Array]:
        path = density.path_along(point[:size])

        def likelihood(step: Array) -> Array:
            at = point + step
            values, _ = density.constrain_with_log_det(at[:size])
            predicted = density.predicted_along(values, path(step[:size]))
            added = dict(zip(names, at[size:], strict=True))
            terms = one_step(density, values, predicted, added, probable=False)
            each = jnp.stack([terms[name].log_density for name in names], axis=1)
            found = jnp.where(rows > 0, each, 0.0).sum()
            return jnp.where(predicted.solved, found, jnp.nan)

        def gradient_and_all(step: Array) -> tuple[Array, tuple[Array, Array]]:
            value, gradient = jax.value_and_grad(likelihood)(step)
            return gradient, (value, gradient)

        hessian, (value, gradient) = jax.jacfwd(gradient_and_all, has_aux=True)(jnp.zeros_like(point))
        return value, gradient, -hessian

    return jax.vmap(one)(points)


def find_shifts(ahead: RowsAhead) -> tuple[Shift, ...]:
    """Each quantity by how well its move alone explains what is new, the best first."""
    density, names = ahead.density.filled, list(ahead.density.twin.observations)
    rows = np.zeros((density.bound.times.shape[-1], len(names)))
    rows[: len(ahead.new)] = ahead.new[:, None]
    z = density.unconstrain_all(ahead.values)
    size = z.shape[1]
    covariance = np.zeros((size + len(names),) * 2)
    covariance[:size, :size] = np.atleast_2d(np.cov(z.T))
    known = np.concatenate([z.mean(axis=0), np.zeros(len(names))]), covariance
    candidates = [j for j, site in enumerate(density.sites) if site.kind != "initial"]
    off = [size + k for k, name in enumerate(names) if not density.twin.observations[name].noise.support.is_discrete]
    moves = np.eye(len(covariance))[[*candidates, *off]]
    # how far readings scatter is orthogonal to where they lie, but not by far readings: these would lead steps astray
    scatters = np.array([site.kind in ("noise", "model_error") for site in density.sites] + [False] * len(names))
    apart = (scatters[:, None] == scatters[None]).astype(float)
    look = functools.partial(_locals, density, rows=rows)
    lengths, reached = _climb(look, *known, np.vstack([0.0 * moves[:1], moves]), apart)
    if not np.isfinite(reached[0]):
        return ()
    gains = np.maximum(reached[1:] - reached[0], 0.0)
    found = _told(density, z, candidates, lengths[1:], gains)
    for k, delta, gain in zip(off, lengths[len(found) + 1 :], gains[len(found) :], strict=True):
        signed, name = float(np.sign(delta) * np.sqrt(2.0 * gain)), names[k - size]
        unit = density.twin.observations[name].unit
        found.append(Shift(name, "sensor", 0.0, float(delta), np.nan, float(gain), signed, unit))
    return tuple(sorted(found, key=lambda one: -one.gain))


def _told(
    density: Density, z: np.ndarray, candidates: list[int], lengths: np.ndarray, gains: np.ndarray
) -> list[Shift]:
    """The moves of sites, with the values before and after in their units."""
    middle = np.median(z, axis=0)
    ends = np.repeat(middle[None], len(candidates) + 1, axis=0)
    ends[np.arange(1, len(ends)), candidates] += lengths[: len(candidates)]
    values = density.constrain_all(ends)
    found = []
    for number, j in enumerate(candidates):
        site, delta, gain = density.sites[j], float(lengths[number]), float(gains[number])
        own = values[site.name]
        moved = delta / float(z[:, j].std(ddof=1))
        signed = float(np.sign(delta) * np.sqrt(2.0 * gain))
        before, after = float(own[0]), float(own[number + 1])
        found.append(Shift(site.name, site.kind, before, after, moved, gain, signed, site.unit))
    return found


def _climb(
    look: Any, centre: np.ndarray, covariance: np.ndarray, moves: np.ndarray, apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise over a single move, and over all else under what the calibration says of it.

    Points are `m + C a + δ e`, so that what all else costs is `a' C a / 2` also where C is singular.

    Args:
        look: Points → log likelihood, gradient, information.
        centre: m, shape (k,).
        covariance: C, shape (k, k).
        moves: e, the direction in which each may move; zeros for none; shape (c, k).
        apart: Which entries of the information are kept, as 1.0; shape (k, k).

    Returns:
        Lengths δ of the moves, and the log likelihood that they reach less what it costs; shape (c,) each.
    """
    num, size = moves.shape
    at, tried = np.zeros((num, size + 1)), np.zeros((num, size + 1))  # a and δ
    best, shrink, steps = np.full(num, -np.inf), np.ones(num), np.zeros((num, size + 1))
    for _ in range(STEPS):
        pulls, lengths = tried[:, :size], tried[:, size]
        away = pulls @ covariance + lengths[:, None] * moves
        value, score, information = (np.asarray(own) for own in look(centre + away))
        reached = value - 0.5 * np.einsum("ci,ij,cj->c", pulls, covariance, pulls)
        for c in range(num):
            if reached[c] > best[c] and np.isfinite(score[c]).all() and np.isfinite(information[c]).all():
                at[c], best[c], shrink[c] = tried[c], reached[c], 1.0
                steps[c] = _step(away[c], covariance, score[c], information[c] * apart, moves[c]) - tried[c]
            else:  # NaN is not higher either
                shrink[c] *= 0.4
        tried = at + shrink[:, None] * steps
    return at[:, size], best


def _step(
    away: np.ndarray, covariance: np.ndarray, score: np.ndarray, information: np.ndarray, move: np.ndarray
) -> np.ndarray:
    """Where the maximum is by the linearisation `away` from the centre: a and δ; shape (k + 1,)."""
    values, vectors = np.linalg.eigh(0.5 * (information + information.T))
    information = (vectors * np.maximum(values, 0.0)) @ vectors.T
    here = score + information @ away
    shared = np.eye(len(away)) + information @ covariance
    both = np.linalg.solve(shared, np.stack([here, information @ move], axis=1))
    known = float(move @ both[:, 1])
    length = float(move @ both[:, 0]) / known if known > 0.0 else 0.0
    return np.append(both[:, 0] - length * both[:, 1], length)


def probability(shifts: tuple[Shift, ...]) -> float:
    """How probable it is that the best of all moves gains as much where nothing moved; Bonferroni's bound."""
    return min(1.0, len(shifts) * float(chi2.sf(2.0 * shifts[0].gain, 1))) if shifts else 1.0
