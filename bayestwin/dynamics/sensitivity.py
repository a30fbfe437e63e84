"""Derivatives of a solve with respect to few quantities: all tangents in one batched forward pass.

An adaptive solver is a loop whose length depends on its data, which reverse mode cannot go through. Its Jacobian by
forward mode is cheap for few quantities; wrapped here it serves forward and reverse mode alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

type WithRecord = Callable[..., tuple[Array, Any]]
"""(k,) → a result to differentiate, and a record of integers and flags that has no derivative; what else it takes has
none either."""


def through_jacobian(function: WithRecord) -> WithRecord:
    """Make `function` differentiable in both modes, by forming its Jacobian in forward mode.

    Args:
        function: Differentiable in forward mode.

    Returns:
        The same function; `jax.grad`, `jax.jvp` and their compositions work on its result.
    """

    @jax.custom_jvp
    def wrapped(theta: Array, *given: Any) -> tuple[Array, Any]:
        return function(theta, *given)

    @wrapped.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
        (theta, *given), (direction, *_) = primals, tangents

        def along(basis: Array) -> tuple[Array, Array, Any]:
            return jax.jvp(lambda theta: function(theta, *given), (theta,), (basis,), has_aux=True)

        basis = jnp.eye(theta.shape[0], dtype=theta.dtype)
        value, jacobian, record = jax.vmap(along, out_axes=(None, 0, None))(basis)
        # a failed solve has no derivative; zero keeps NaN out of everything that is masked out later
        jacobian = jnp.where(jnp.isfinite(jacobian), jacobian, 0.0)
        no_tangent = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), record)
        return (value, record), (jnp.tensordot(direction, jacobian, axes=1), no_tangent)

    return wrapped
