"""Twins whose vector field is affine in states, inputs and time: how they are recognised, and their exact steps.

Between two stops inputs are straight lines, or constant where they are held, so such a twin is `x' = A x + a + b τ`,
τ since the last stop, and with process noise `dx = (A x + a + b τ) dt + diag(σ) dW`. See `Step` for what that leads to.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from bayestwin.model.tracing import namespace
from bayestwin.model.twin import Twin

ORDER, SHORT, MOST_DOUBLINGS = 12, 0.25, 60

SHAPING = ("reshape", "broadcast_in_dim", "squeeze", "concatenate", "slice", "transpose", "rev", "copy")
CARRIED = frozenset({"add", "sub", "neg", "add_any", "reduce_sum", "cumsum", *SHAPING})
"""Primitives that are linear in all their operands together."""

BY_CONSTANT = frozenset({"mul", "dot_general"})
"""Primitives that are linear in either operand where the other is constant."""


CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"})
"""Primitives that call a trace of their own."""


class Step(NamedTuple):
    """What happens over a time h: `x(h) = Φ x(0) + Γ a + Λ b + N(0, Q)`; shape (s, s) each.

    Attributes:
        transition: `Φ = exp(A h)`.
        constant: Γ.
        slope: Λ.
        covariance: `Q = ∫₀ʰ exp(A s) diag(σ²) exp(A s)ᵀ ds`.
    """

    transition: Array
    constant: Array
    slope: Array
    covariance: Array


def is_affine(twin: Twin) -> bool:
    """Whether the vector field is affine in time, states and inputs together, whatever parameters and held inputs are.

    Every operation of its trace has to be known as linear, so what is said to be affine is; a field that is affine for
    a reason that only algebra sees is not recognised.
    """
    sloped = [int(spec.hold != "previous") for spec in twin.inputs.values()]
    return max(_degrees(twin.vector_field, twin, 1, sloped)) <= 1


def has_held_matrix(twin: Twin) -> bool:
    """Whether the matrix of an affine twin depends on inputs, held ones, and so differs from interval to interval."""
    return max(_degrees(jax.jacfwd(twin.vector_field, argnums=1), twin, 0, [1] * len(twin.inputs))) > 0


def _degrees(function: Callable, twin: Twin, of_states: int, of_inputs: list[int]) -> list[int]:
    """Degrees (0 constant, 1 affine, 2 other) of what a function of (t, x, p, u) returns, given those of its arguments.

    Those of time and states are one number, and parameters are constant.
    """
    scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
    groups = {"states": twin.states, "parameters": twin.parameters, "inputs": twin.inputs}
    x, p, u = (namespace(kind, tuple(names))(*[scalar] * len(names)) for kind, names in groups.items())
    degrees = [of_states] * (1 + len(x)) + [0] * len(p) + of_inputs
    return _outputs_of(jax.make_jaxpr(function)(scalar, x, p, u).jaxpr, degrees)


def _outputs_of(jaxpr: Any, degrees: list[int]) -> list[int]:
    """Degrees of the outputs of a trace, given those of its inputs."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, degrees, strict=True))

    def degree(atom: Any) -> int:
        return 0 if hasattr(atom, "val") else known.get(atom, 0)

    for equation in jaxpr.eqns:
        given = [degree(atom) for atom in equation.invars]
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if equation.primitive.name in CALLS and inner is not None:
            out = _outputs_of(getattr(inner, "jaxpr", inner), given)
        else:
            out = [max(given, default=0) if _linear(equation, given) else 2] * len(equation.outvars)
        known |= dict(zip(equation.outvars, out, strict=True))
    return [degree(atom) for atom in jaxpr.outvars]


def _linear(equation: Any, given: list[int]) -> bool:
    """Whether an operation keeps the degree of its operands."""
    name, varying = equation.primitive.name, [degree > 0 for degree in given]
    if not any(varying) or name in CARRIED:
        return True
    if name in BY_CONSTANT:
        return sum(varying) == 1
    if name == "integer_pow":
        return equation.params["y"] == 1
    if name == "convert_element_type":  # whole numbers are rounded
        return jnp.issubdtype(equation.params["new_dtype"], jnp.floating)
    return name in ("div", "select_n") and not varying[1 if name == "div" else 0]


def exact_step(matrix: Array, diffusion: Array, span: Array) -> Step:
    """The step over a time `span`, by Taylor series over a short time that is then doubled.

    Unlike in Van Loan's exponential of a larger matrix (doi:10.1109/TAC.1978.1101743) nothing grows where A is stiff.

    Args:
        matrix: A, shape (s, s).
        diffusion: σ², shape (s,).
        span: h, in the twin's time unit, not negative.
    """
    norm = lax.stop_gradient(jnp.abs(matrix).sum(axis=0).max() * span)
    wanted = jnp.ceil(jnp.log2(jnp.maximum(norm / SHORT, 1.0)))
    doublings = jnp.where(jnp.isfinite(wanted), jnp.minimum(wanted, MOST_DOUBLINGS), 0.0).astype(int)
    short = span * 0.5**doublings

    def double(loop: tuple[Array, Array, Step]) -> tuple[Array, Array, Step]:
        number, time, (phi, gamma, lam, q) = loop
        doubled = Step(phi @ phi, gamma + phi @ gamma, phi @ lam + lam + time * gamma, q + phi @ q @ phi.T)
        return number + 1, 2.0 * time, doubled

    start = (jnp.zeros((), int), short, _series(matrix, diffusion, short))
    return lax.while_loop(lambda loop: loop[0] < doublings, double, start)[2]


def _series(matrix: Array, diffusion: Array, span: Array) -> Step:
    """The step over a time so short that `ORDER` terms are exact."""
    scaled = matrix * span
    power, spread = jnp.eye(len(matrix)), jnp.diag(diffusion) * span
    sums = [jnp.zeros_like(matrix)] * 4
    for k in range(ORDER):
        factors = (1.0 / math.factorial(k + i) for i in (0, 1, 2, 1))
        terms = (power, power, power, spread)
        sums = [total + term * factor for total, term, factor in zip(sums, terms, factors, strict=True)]
        half = scaled @ spread
        power, spread = scaled @ power, half + half.T
    phi, gamma, lam, q = sums
    return Step(phi, gamma * span, lam * span**2, q)
