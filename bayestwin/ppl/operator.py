"""A JAX function as one operator of PyTensor's: its values and its Jacobian come out of a single call.

PyTensor's own `wrap_jax` calls JAX twice for a value and its gradient, in reverse mode: for a solve that is most of
the time. This one runs in each of PyTensor's backends, and in the processes in which PyMC samples.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytensor.tensor as pt
from jax import Array
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.jax.dispatch.basic import jax_funcify
from pytensor.link.numba.dispatch.basic import numba_funcify, numba_njit

from bayestwin.errors import InvalidSetting, explain


class JaxTerms(Op):
    """Log densities of m terms, and their derivatives with respect to k values.

    Attributes:
        function: From the values, shape (k,), to the terms, shape (m,); differentiable in forward mode.
    """

    itypes = (pt.dvector,)
    otypes = (pt.dvector, pt.dmatrix)

    def __init__(self, function: Callable[[Array], Array]) -> None:
        """Wrap a function; two operators are the same only if they are one object."""
        self.function = function
        self._take_up()

    def _take_up(self) -> None:
        self._compiled = jax.jit(self.with_jacobian)
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it compiles for itself."""
        return {"function": self.function}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compile in this process."""
        self.__init__(state["function"])

    def with_jacobian(self, values: Array) -> tuple[Array, Array]:
        """The terms, shape (m,), and their Jacobian, shape (m, k)."""

        def twice(values: Array) -> tuple[Array, Array]:
            terms = self.function(values)
            return terms, terms

        jacobian, terms = jax.jacfwd(twice, has_aux=True)(values)
        # what is impossible has no derivative; zero keeps NaN out of the gradient of everything else
        return terms, jnp.where(jnp.isfinite(jacobian) & jnp.isfinite(terms)[:, None], jacobian, 0.0)

    def call(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same from arrays to arrays.

        Raises:
            InvalidSetting: In a process forked from the one that made the operator, where JAX would hang.
        """
        if os.getpid() != self._process:
            message = explain(
                "PyMC samples in processes forked from one in which JAX has started: there JAX hangs.",
                expected='`pm.sample(..., mp_ctx="forkserver")`, `cores=1`, or `nuts_sampler="nutpie"` or `"numpyro"`',
                received="chains in forked processes, which is PyMC's default on Linux",
                advice='Pass `mp_ctx="forkserver"`, from a script whose main part stands under `if __name__ == '
                '"__main__":`.',
            )
            raise InvalidSetting(message)
        terms, jacobian = self._compiled(values)
        return np.array(terms), np.array(jacobian)  # copies: PyTensor may write into what it gets

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list[Any]]) -> None:  # noqa: ARG002
        """What PyTensor calls where nothing else is compiled."""
        output_storage[0][0], output_storage[1][0] = self.call(inputs[0])

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], output_gradients: Sequence[Variable]
    ) -> list[Variable]:
        """The gradient from the Jacobian that is there already.

        Raises:
            NotImplementedError: For second derivatives.
        """
        if not isinstance(output_gradients[1].type, DisconnectedType):
            message = "The density of a twin has first derivatives in PyTensor, and no second."
            raise NotImplementedError(message)
        if isinstance(output_gradients[0].type, DisconnectedType):
            return [inputs[0].zeros_like()]  # type: ignore[attr-defined]
        return [pt.dot(output_gradients[0], outputs[1])]


@jax_funcify.register(JaxTerms)  # type: ignore[arg-type]
def _in_jax(op: JaxTerms, **_: Any) -> Callable[[Array], tuple[Array, Array]]:
    """Under JAX the terms are differentiated by JAX itself; the Jacobian is there for PyTensor's gradient."""

    @jax.custom_jvp
    def terms_and_jacobian(values: Array) -> tuple[Array, Array]:
        return op.with_jacobian(values)

    @terms_and_jacobian.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        terms, jacobian = terms_and_jacobian(*primals)
        # of the Jacobian nobody asks the derivative: should someone, NaN says that there is none
        return (terms, jacobian), (jacobian @ tangents[0], jnp.full_like(jacobian, jnp.nan))

    return terms_and_jacobian


@numba_funcify.register(JaxTerms)
def _in_numba(op: JaxTerms, **_: Any) -> Callable[..., Any]:
    """Numba leaves its compiled code for this call, as it would by itself, but without a warning."""
    call = op.call

    @numba_njit
    def terms_and_jacobian(values: Any) -> Any:
        with numba.objmode(terms="float64[::1]", jacobian="float64[:, ::1]"):
            terms, jacobian = call(values)
        return terms, jacobian

    return terms_and_jacobian
