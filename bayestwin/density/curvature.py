"""Hessians of log densities: whole matrices, and those of experiments that have only a few coordinates in common.

Given what is shared, experiments know nothing of each other, so that the Hessian is an arrow: a border for what is
shared, and a block for each experiment. It is kept, and solved with, at a cost that grows as their number does.

See S. Boyd & L. Vandenberghe (2004), Convex Optimization, appendix C.4, doi:10.1017/CBO9780511804441.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

FLATTEST = 1e-3
"""Least curvature used in a step; a unit of z is about a prior standard deviation."""


class Arrow(NamedTuple):
    """A symmetric matrix of s shared coordinates and m of each of E experiments.

    Attributes:
        border: Between what is shared; shape (s, s).
        edges: Between that and each experiment; shape (E, s, m).
        blocks: Within each experiment; shape (E, m, m).
        shared: Places of what is shared among all coordinates; shape (s,).
        own: Places of what is each experiment's own; shape (E, m).
    """

    border: Any
    edges: Any
    blocks: Any
    shared: Any
    own: Any

    def dense(self) -> Any:
        """The whole matrix, shape (d, d); JAX's within a program, NumPy's outside."""
        parts = [
            (self.shared[:, None], self.shared[None], self.border),
            (self.shared[None, :, None], self.own[:, None, :], self.edges),
            (self.own[:, :, None], self.shared[None, None, :], self.edges.swapaxes(1, 2)),
            (self.own[:, :, None], self.own[:, None, :], self.blocks),
        ]
        num = len(self.shared) + self.own.size
        if isinstance(self.border, Array):
            found = jnp.zeros((num, num))
            for rows, columns, values in parts:
                found = found.at[rows, columns].set(values)
            return found
        whole = np.zeros((num, num))
        for rows, columns, values in parts:
            whole[rows, columns] = values
        return whole


type Hessian = Array | Arrow


class Local(NamedTuple):
    """What a log density looks like around one point.

    Attributes:
        log_density: The value there.
        gradient: Shape (d,).
        hessian: Shape (d, d), or of several experiments an arrow.
    """

    log_density: Array
    gradient: Array
    hessian: Hessian


def joined(each: Local, again: Callable[[Array], Array], z: Array, places: np.ndarray, shared: Sequence[bool]) -> Local:
    """What a log density looks like, from what that of each experiment by itself does.

    Args:
        each: Of the experiments, with a leading axis E; with respect to one coordinate of each site.
        again: The log prior of what is shared, shape (s,), which each of them counts.
        z: Coordinates of all; shape (d,).
        places: Where in z each experiment finds the coordinate of each site; shape (E, sites).
        shared: Whether a site is the same for all; by site.
    """
    kept, own = np.flatnonzero(shared), np.flatnonzero(~np.asarray(shared))
    border, times = places[0, kept], float(len(places) - 1)
    hessian: Any = each.hessian
    total, gradient = each.log_density.sum(), jnp.zeros_like(z).at[places].add(each.gradient)
    middle = hessian[:, kept[:, None], kept[None]].sum(axis=0)
    if len(kept):
        total -= times * again(z[border])
        gradient = gradient.at[border].add(-times * jax.grad(again)(z[border]))
        middle -= times * jax.hessian(again)(z[border])
    edges, blocks = hessian[:, kept[:, None], own[None]], hessian[:, own[:, None], own[None]]
    arrow = Arrow(middle, edges, blocks, jnp.asarray(border), jnp.asarray(places[:, own]))
    return Local(jnp.where(jnp.isfinite(total), total, -jnp.inf), gradient, arrow)


def as_matrix(hessian: Any) -> Any:
    """The whole matrix; shape (d, d)."""
    return hessian.dense() if isinstance(hessian, Arrow) else hessian


def symmetric(hessian: Any) -> Any:
    """The same, exactly symmetric; flat in all directions where it is not finite."""
    if isinstance(hessian, Arrow):
        known = jnp.stack([jnp.isfinite(leaf).all() for leaf in hessian[:3]]).all()
        edges = jnp.where(known, hessian.edges, 0.0)
        return hessian._replace(
            border=_halved(hessian.border, known), edges=edges, blocks=_halved(hessian.blocks, known)
        )
    return _halved(hessian, jnp.isfinite(hessian).all())


def _halved(matrix: Array, known: Array) -> Array:
    flat = -jnp.broadcast_to(jnp.eye(matrix.shape[-1]), matrix.shape)
    return jnp.where(known, (matrix + jnp.swapaxes(matrix, -1, -2)) / 2.0, flat)


def positive(hessian: Array, damping: Array) -> tuple[Array, Array]:
    """Eigenvalues `|λ| + μ` (not below `FLATTEST`) and eigenvectors of the negative Hessian, shape (…, d, d)."""
    values, vectors = jnp.linalg.eigh(-hessian)
    return jnp.maximum(jnp.abs(values), FLATTEST) + damping, vectors


def solve_positive(hessian: Any, damping: Array, vector: Array) -> Array:
    """`(|H| + μI)⁻¹ v`, where H is made negative definite in each block, and then in what is left of the border.

    Args:
        hessian: H, symmetric.
        damping: μ.
        vector: Shape (d,).
    """
    if not isinstance(hessian, Arrow):
        values, vectors = positive(hessian, damping)
        return vectors @ ((vectors.T @ vector) / values)
    values, vectors = positive(hessian.blocks, damping)
    inverses = (vectors / values[:, None, :]) @ jnp.swapaxes(vectors, 1, 2)
    edges = -hessian.edges
    weighed = edges @ inverses
    rest = hessian.border + jnp.einsum("eij,ekj->ik", weighed, edges)
    values, vectors = positive(rest, damping)
    own = vector[hessian.own]
    border = vector[hessian.shared] - jnp.einsum("eij,ej->i", weighed, own)
    border = vectors @ ((vectors.T @ border) / values)
    own = jnp.einsum("eij,ej->ei", inverses, own - jnp.einsum("eij,i->ej", edges, border))
    return jnp.zeros_like(vector).at[hessian.shared].set(border).at[hessian.own].set(own)
