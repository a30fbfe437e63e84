"""What a log density says at many points: values, whether they can be solved, and how much work they are."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.compilation import BATCH, Program, in_batches
from bayestwin.density.density import Density
from bayestwin.dynamics.solve import Trajectory


class Survey(NamedTuple):
    """What a density says at n points: JAX's arrays within a program, NumPy's outside.

    Attributes:
        log_density: Shape (n,).
        solved: Whether the solves succeeded; shape (n,).
        num_steps: Steps that an adaptive solver took in each of m intervals, shape (n, m), or (n, E, m) for E
            experiments; 0 where there is none.
        scales: The largest absolute value of each state, of an array the same for all its entries; shape (n, s), 0
            where states are not known.
    """

    log_density: Any
    solved: Any
    num_steps: Any
    scales: Any


@Program
def _survey(log_density: Callable[[Array], Array], z: Array) -> Survey:
    def one(z: Array) -> tuple[Array, Array, Array, Array]:
        if not isinstance(log_density, Density):
            return log_density(z), jnp.ones((), bool), jnp.zeros(0, int), jnp.zeros(0)
        path = log_density.path(z)
        if isinstance(path, Trajectory):
            num_steps, scales = path.by_interval, jnp.abs(path.states).reshape(-1, path.states.shape[-1]).max(axis=0)
            scales = log_density.twin.layout.level(scales)
        else:
            num_steps, scales = path.num_steps[None], jnp.zeros(log_density.twin.layout.size)
        return log_density.given(z, path), path.solved.all(), num_steps, scales

    return Survey(*jax.vmap(one)(z))


def survey(log_density: Callable[[Array], Array], z: np.ndarray) -> Survey:
    """Look at n points, shape (n, d); compiled once for any number of them, and for any precision."""
    return in_batches(functools.partial(_survey, as_pytree(log_density)), z, _size(log_density))


def evaluate(log_density: Callable[[Array], Array], z: np.ndarray) -> np.ndarray:
    """Log densities of n points, shape (n, d); shape (n,)."""
    whole = as_pytree(log_density)
    # what else there is of each point is not kept: steps by interval of a long record would fill the memory
    return in_batches(lambda rows: _survey(whole, rows).log_density, z, _size(log_density))


LARGE = 2000
"""Times, of all experiments together, from which on points are looked at, and climbed from, side by side on the cores.
In lock-step all wait for the slowest, which pays where one is so cheap that what is around it counts."""

TOGETHER = 4
"""Points that are then looked at in one call."""


def large(density: Density) -> bool:
    """Whether one point is much work."""
    return num_solved(density) >= LARGE


def num_solved(density: Density) -> int:
    """At how many times a point is solved for, those of all experiments and those that fill them up."""
    return int(np.prod(density.filled.bound.times.shape))


def _size(log_density: Callable[[Array], Array]) -> int:
    return TOGETHER if isinstance(log_density, Density) and large(log_density) else BATCH


def as_pytree(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A log density as compiled programs take it: a `Density` as it is, another function as itself alone."""
    return function if isinstance(function, Density) else jax.tree_util.Partial(function)
