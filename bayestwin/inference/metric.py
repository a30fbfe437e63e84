"""The metric of the sampler, as the coordinates in which the posterior looks like a unit normal.

Dense, of low rank or diagonal, by the number of dimensions; and of experiments that have only a few coordinates in
common an arrow, which knows all correlations that there are at a cost that grows as their number does.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array

DENSE_UP_TO, LOW_RANK_UP_TO, RANK = 200, 1000, 50
"""Dimensions up to which the metric is dense, then of low rank, then diagonal; and that rank. A dense metric costs d²
multiplications a leapfrog step, which up to here is little beside any ODE solve with d parameters."""

PRIOR_DRAWS = 5.0
"""Draws for each dimension that the old metric counts as when draws correct it."""


class Whitening(NamedTuple):
    """Coordinates of the sampler, for d dimensions and r directions; NumPy arrays, or traced ones.

    `z = centre + deviation · (w + U ((stretch − 1) · Uᵀ w))`: standard deviations, and the directions U in which their
    correlations stretch the posterior. All directions make a dense metric, few a low-rank one, none a diagonal one.

    Attributes:
        centre: Shape (d,).
        deviation: Shape (d,).
        directions: Orthonormal columns U; shape (d, r).
        stretch: Shape (r,).
    """

    centre: Any
    deviation: Any
    directions: Any
    stretch: Any

    def unwhiten(self, w: Array) -> Array:
        """Z of w; shape (d,)."""
        return self.centre + self.deviation * (w + self.directions @ ((self.stretch - 1.0) * (self.directions.T @ w)))

    def along(self, gradient: Any) -> Any:
        """The gradient in w of what has that gradient in z; shape (d,)."""
        pulled = self.deviation * gradient
        return pulled + self.directions @ ((self.stretch - 1.0) * (self.directions.T @ pulled))

    def whiten(self, z: Any) -> Any:
        """W of z; shape (d,)."""
        w = (z - self.centre) / self.deviation
        return w + self.directions @ ((1.0 / self.stretch - 1.0) * (self.directions.T @ w))

    @property
    def kind(self) -> str:
        """`"dense"`, `"low-rank"` or `"diagonal"`."""
        dim, rank = self.directions.shape
        return "dense" if rank == dim else "low-rank" if rank else "diagonal"


class ArrowWhitening(NamedTuple):
    """Coordinates of the sampler, for s shared dimensions and m of each of E experiments.

    `z_shared = centre + L w_shared` and `z_e = centre + B_e (z_shared − centre) + L_e w_e`: given what is shared,
    experiments know nothing of each other.

    Attributes:
        centre: Shape (d,).
        border: L, lower triangular; shape (s, s).
        edges: B_e, how the mean of each experiment's own follows what is shared; shape (E, m, s).
        blocks: L_e, lower triangular; shape (E, m, m).
        shared: Places of what is shared among all coordinates; shape (s,).
        own: Places of what is each experiment's own; shape (E, m).
    """

    centre: Any
    border: Any
    edges: Any
    blocks: Any
    shared: Any
    own: Any

    def unwhiten(self, w: Array) -> Array:
        """Z of w; shape (d,)."""
        shared = self.border @ w[self.shared]
        own = jnp.einsum("ems,s->em", self.edges, shared) + jnp.einsum("emn,en->em", self.blocks, w[self.own])
        return self.centre + jnp.zeros_like(w).at[self.shared].set(shared).at[self.own].set(own)

    def along(self, gradient: Any) -> Any:
        """The gradient in w of what has that gradient in z; shape (d,)."""
        own = gradient[self.own]
        found = np.empty_like(gradient)
        found[self.shared] = self.border.T @ (gradient[self.shared] + np.einsum("ems,em->s", self.edges, own))
        found[self.own] = np.einsum("emn,em->en", self.blocks, own)
        return found

    def whiten(self, z: Any) -> Any:
        """W of z; shape (d,)."""
        away = z - self.centre
        shared = away[self.shared]
        own = away[self.own] - np.einsum("ems,s->em", self.edges, shared)
        found = np.empty_like(z)
        found[self.shared] = scipy.linalg.solve_triangular(self.border, shared, lower=True)
        found[self.own] = np.linalg.solve(self.blocks, own[..., None])[..., 0]
        return found

    @property
    def kind(self) -> str:
        """`"arrow"`."""
        return "arrow"


type Metric = Whitening | ArrowWhitening


def whitening_of(centre: np.ndarray, covariance: np.ndarray) -> Whitening:
    """The coordinates in which a normal with this mean and covariance is a unit normal, or nearly so.

    Args:
        centre: Shape (d,).
        covariance: Shape (d, d).
    """
    dim = centre.size
    deviation = np.sqrt(np.diag(covariance))
    if dim > LOW_RANK_UP_TO:
        return Whitening(centre, deviation, np.zeros((dim, 0)), np.zeros(0))
    values, directions = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    stretch = np.sqrt(np.maximum(values, 1e-12))
    if dim > DENSE_UP_TO:
        most = np.argsort(-np.abs(np.log(stretch)))[:RANK]
        directions, stretch = directions[:, most], stretch[most]
    return Whitening(centre, deviation, directions, stretch)


def arrow_whitening_of(
    centre: np.ndarray, border: np.ndarray, both: np.ndarray, shared: np.ndarray, own: np.ndarray
) -> ArrowWhitening:
    """The coordinates in which a normal with these covariances is a unit normal.

    Args:
        centre: Shape (d,).
        border: Covariance of what is shared; shape (s, s).
        both: That of what is shared, first, and each experiment's own; shape (E, s + m, s + m).
        shared: Places of what is shared; shape (s,).
        own: Places of what is each experiment's own; shape (E, m).
    """
    num = len(shared)
    across, within = both[:, num:, :num], both[:, num:, num:]
    edges = np.swapaxes(np.linalg.solve(both[:, :num, :num], np.swapaxes(across, 1, 2)), 1, 2)
    blocks = np.linalg.cholesky(within - edges @ np.swapaxes(across, 1, 2))
    return ArrowWhitening(centre, np.linalg.cholesky(border), edges, blocks, shared, own)


def first_metric(centre: np.ndarray, scale: np.ndarray, arrow: tuple[np.ndarray, np.ndarray] | None) -> Metric:
    """The metric of a normal around a mode.

    Args:
        centre: Shape (d,).
        scale: A root of its covariance, shape (d, d).
        arrow: Places of what is shared, and of what is each experiment's own, where there are both; used where the
            metric of all dimensions could not be dense.
    """
    if arrow is None or centre.size <= DENSE_UP_TO:
        return whitening_of(centre, scale @ scale.T)
    shared, own = arrow
    together = np.concatenate([np.broadcast_to(shared, (len(own), len(shared))), own], axis=1)
    roots = scale[together]
    return arrow_whitening_of(centre, scale[shared] @ scale[shared].T, roots @ np.swapaxes(roots, 1, 2), shared, own)


def rescale(metric: Metric, z: np.ndarray) -> Metric:
    """Correct a metric by draws: their mean, and their covariance within chains shrunk towards the old one.

    Args:
        metric: The old one.
        z: Draws; shape (s, c, d).
    """
    if isinstance(metric, Whitening):
        return _rescale_whole(metric, z)
    shared, own = metric.shared, metric.own
    within = (z - z.mean(axis=0)).reshape(-1, z.shape[-1])
    of_shared, of_own = within[:, shared], within[:, own]
    old = metric.border @ metric.border.T
    # Chance in the edges adds up over all experiments in how stiff what is shared seems given all the rest, so that
    # the old edges count for as many draws as all dimensions ask for; borders and blocks are as small as they look.
    few, many = (PRIOR_DRAWS * num for num in (len(shared) + own.shape[1], z.shape[-1]))
    across = np.einsum("nem,ns->ems", of_own, of_shared) + many * metric.edges @ old
    edges = np.linalg.solve(of_shared.T @ of_shared + many * old, np.swapaxes(across, 1, 2))
    edges = np.swapaxes(edges, 1, 2)
    rest = of_own - np.einsum("ems,ns->nem", edges, of_shared)
    blocks = np.einsum("nem,nek->emk", rest, rest) + few * metric.blocks @ np.swapaxes(metric.blocks, 1, 2)
    border = (of_shared.T @ of_shared + few * old) / (len(within) + few)
    roots = (np.linalg.cholesky(border), edges, np.linalg.cholesky(blocks / (len(within) + few)))
    return ArrowWhitening(z.reshape(-1, z.shape[-1]).mean(axis=0), *roots, shared, own)


def read_metric(leaves: Mapping[str, np.ndarray], dim: int) -> Metric:
    """The metric of so many dimensions again, of its leaves by name; those without entries may be missing."""
    if "border" in leaves:
        return ArrowWhitening(**leaves)
    return Whitening(**{"directions": np.zeros((dim, 0)), "stretch": np.zeros(0)} | dict(leaves))


def _rescale_whole(whitening: Whitening, z: np.ndarray) -> Whitening:
    """As `rescale`, where the metric is not an arrow."""
    dim = z.shape[-1]
    within = (z - z.mean(axis=0)).reshape(-1, dim)
    deviation, directions, stretch = (np.asarray(leaf) for leaf in whitening[1:])
    correlation = np.eye(dim) + (directions * (stretch**2 - 1.0)) @ directions.T
    prior = PRIOR_DRAWS * dim
    covariance = within.T @ within + prior * np.outer(deviation, deviation) * correlation
    return whitening_of(z.reshape(-1, dim).mean(axis=0), covariance / (within.shape[0] + prior))
