"""Switches: comparisons within the equations of a twin, found from their trace, so that no step goes across one.

A field written with `jnp.where`, `sign` or `floor` is taken apart into what it computes while each outcome is held (its
mode), and how far each is from changing (its gap). What held inputs or parameters alone decide is left as it is.

P. I. Barton & C. C. Pantelides (1994), doi:10.1002/aic.690400608; along a surface that both sides lead to: A. F.
Filippov (1988), doi:10.1007/978-94-015-7793-9.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bayestwin.model.tracing import CALLS, OWN_DERIVATIVE, abstract_arguments, called
from bayestwin.model.twin import Twin

BELOW, SLIDING, ABOVE = 0.0, 0.5, 1.0
"""Modes of a comparison: its gap is negative, is kept at zero from both sides, is positive. Those of rounding are whole
numbers."""

MOST_SLIDING = 8
"""With more comparisons of states than these none is followed along its surface."""

COMPARISONS = {"lt": False, "le": False, "gt": True, "ge": True}
"""Primitives that compare, and whether they hold where the first operand is the larger one."""

ROUNDINGS = frozenset({"floor", "ceil", "round", "rem"})

TIME, STATE, INPUT = 1, 2, 4
"""What a number depends on, as bits."""

NOW: Mapping[str, Callable[[Array], Array]] = {
    "side": lambda gap: jnp.where(gap >= 0.0, ABOVE, BELOW),
    "down": jnp.floor,
    "to zero": jnp.trunc,
}
"""The mode that goes with a gap, by the kind of the switch."""


class Operation(NamedTuple):
    """One operation of a trace.

    Attributes:
        primitive: What is done.
        params: Its settings.
        given: Numbers of its operands.
        out: Numbers of its results.
    """

    primitive: Any
    params: Mapping[str, Any]
    given: tuple[int, ...]
    out: tuple[int, ...]


class Decision(NamedTuple):
    """Comparisons of the same two operands, or one rounding.

    Attributes:
        start: The place of its first entry among the modes.
        shape: Of its operands.
        kind: A comparison with two sides; a rounding down, whose mode n holds from n to n + 1; or one towards zero.
        of_state: Whether the states decide.
        of_time: Whether time does, but through inputs.
    """

    start: int
    shape: tuple[int, ...]
    kind: Literal["side", "down", "to zero"]
    of_state: bool
    of_time: bool

    @property
    def entries(self) -> slice:
        """Its entries among the modes."""
        return slice(self.start, self.start + math.prod(self.shape))


type Decide = Callable[[Decision, Array], Array]
"""A switch and its gap → its mode, both of the switch's shape."""


@dataclasses.dataclass(frozen=True, eq=False)
class Equations:
    """The vector field of a twin, taken apart.

    Attributes:
        constants: Numbers of what is known when it is traced, and what that is.
        arguments: Numbers of t, states, parameters and inputs.
        operations: In order.
        results: Numbers of what the user's function returns.
        structure: Of that.
        timed: Whether a derivative depends on time but through inputs.
        switches: By the number of the operation, the switch and whether its operands are the other way round.
        chosen: Numbers of the operations that choose by the outcome of a switch.
    """

    constants: Mapping[int, Any]
    arguments: tuple[int, ...]
    operations: tuple[Operation, ...]
    results: tuple[int, ...]
    structure: Any
    timed: bool
    switches: Mapping[int, tuple[Decision, bool]]
    chosen: frozenset[int]

    @functools.cached_property
    def distinct(self) -> tuple[Decision, ...]:
        """All switches, in the order of their modes."""
        return tuple(sorted({switch for switch, _ in self.switches.values()}))

    @property
    def count(self) -> int:
        """How many modes there are: k."""
        return sum(math.prod(switch.shape) for switch in self.distinct)

    @functools.cached_property
    def sides(self) -> np.ndarray:
        """Which modes are of comparisons; shape (k,)."""
        return self._each([switch.kind == "side" for switch in self.distinct])

    @functools.cached_property
    def to_zero(self) -> np.ndarray:
        """Which modes are of roundings towards zero; shape (k,)."""
        return self._each([switch.kind == "to zero" for switch in self.distinct])

    @functools.cached_property
    def by_time(self) -> np.ndarray:
        """Numbers of the modes that time decides, and no state; shape (i,)."""
        return np.flatnonzero(self._each([s.of_time and not s.of_state for s in self.distinct]))

    @functools.cached_property
    def slide(self) -> np.ndarray:
        """Numbers of the modes that may be kept between their two sides; shape (i,)."""
        able = np.flatnonzero(self._each([s.kind == "side" and s.of_state for s in self.distinct]))
        return able if len(able) <= MOST_SLIDING else able[:0]

    @property
    def delicate(self) -> bool:
        """Whether the field is to be computed by `hold` or `derivative` instead of by the user's own function."""
        return bool(self.switches) or any(op.primitive.name in ROOTS for op in self.operations)

    def derivative(self, t: Array, x: Any, p: Any, u: Any) -> dict[str, Array]:
        """What the user's function returns, but finite in its derivatives at a root of zero."""
        return self._run((t, *x, *p, *u), None)

    def hold(self, t: Array, x: Any, p: Any, u: Any, modes: Array) -> tuple[dict[str, Array], Array]:
        """Derivatives by name while every switch stays as it is, and the gaps; modes and gaps have shape (k,)."""
        return self._held((t, *x, *p, *u), modes)

    @functools.cached_property
    def _held(self) -> Callable[..., tuple[dict[str, Array], Array]]:
        """As `hold`, traced once: steps call it dozens of times."""

        def held(arguments: Sequence[Any], modes: Array) -> tuple[dict[str, Array], Array]:
            gaps: dict[Decision, Array] = {}

            def decide(switch: Decision, gap: Array) -> Array:
                gaps[switch] = gap.ravel()
                return modes[switch.entries].reshape(switch.shape)

            found = self._run(arguments, decide)
            return found, jnp.concatenate([jnp.zeros(0), *(gaps[switch] for switch in self.distinct)])

        return jax.jit(held)

    def follow(self, t: Array, x: Any, p: Any, u: Any, modes: Array, before: Array) -> Array:
        """The modes after a jump: those whose gap is no longer what it was before become what is right now.

        Args:
            t: Now.
            x: States by name.
            p: Parameters by name.
            u: Inputs by name.
            modes: Until now; shape (k,).
            before: The gaps until now, NaN where there were none; shape (k,).
        """
        found = modes

        def decide(switch: Decision, gap: Array) -> Array:
            nonlocal found
            kept = modes[switch.entries].reshape(switch.shape)
            mode = jnp.where(gap == before[switch.entries].reshape(switch.shape), kept, NOW[switch.kind](gap))
            found = found.at[switch.entries].set(mode.ravel())
            return jnp.where(mode == SLIDING, ABOVE, mode) if switch.kind == "side" else mode

        self._run((t, *x, *p, *u), decide)
        return found

    def _run(self, arguments: Sequence[Any], decide: Decide | None) -> dict[str, Array]:
        known: dict[int, Any] = dict(self.constants)
        known |= {number: jnp.asarray(value, float) for number, value in zip(self.arguments, arguments, strict=True)}
        for number, (primitive, params, given, out) in enumerate(self.operations):
            values = [known[operand] for operand in given]
            if decide is not None and number in self.switches:
                found = _outcome(primitive.name, params, values, *self.switches[number], decide)
            elif decide is not None and number in self.chosen:
                found = _choose(primitive, params, values)
            elif primitive.name in ROOTS:
                found = ROOTS[primitive.name](primitive, params, *values)
            else:
                found = primitive.bind(*values, **primitive.get_bind_params(params))
            known |= dict(zip(out, found if primitive.multiple_results else [found], strict=True))
        return jax.tree.unflatten(self.structure, [known[number] for number in self.results])

    def _each(self, of_switches: list[bool]) -> np.ndarray:
        return np.repeat(np.array(of_switches, bool), [math.prod(switch.shape) for switch in self.distinct])


def take_apart(twin: Twin) -> Equations:
    """The equations of a twin, from the trace of its vector field."""
    names = (tuple(twin.states), tuple(twin.parameters), tuple(twin.inputs))
    closed, shape = jax.make_jaxpr(twin.vector_field, return_shape=True)(*abstract_arguments(names))
    sloped = [INPUT if spec.hold != "previous" else 0 for spec in twin.inputs.values()]
    trace = _Trace()
    arguments = [
        trace.new(source) for source in [TIME, *[STATE] * len(twin.states), *[0] * len(twin.parameters), *sloped]
    ]
    results = trace.inline(closed.jaxpr, closed.consts, arguments)
    return Equations(
        constants=trace.constants,
        arguments=tuple(arguments),
        operations=tuple(trace.operations),
        results=tuple(results),
        structure=jax.tree.structure(shape),
        timed=any(trace.sources[number] & TIME for number in results),
        switches=trace.switches,
        chosen=frozenset(trace.chosen),
    )


class _Trace:
    """Operations as they are collected: calls are opened where something within them switches."""

    def __init__(self) -> None:
        self.constants: dict[int, Any] = {}
        self.operations: list[Operation] = []
        self.switches: dict[int, tuple[Decision, bool]] = {}
        self.chosen: set[int] = set()
        self.sources: list[int] = []  # what each number depends on, as bits
        self._decided: set[int] = set()  # numbers that follow from the outcome of a switch
        self._scalars: dict[Any, int] = {}
        self._shared: dict[tuple[int, int], Decision] = {}
        self._modes = 0

    def new(self, sources: int) -> int:
        self.sources.append(sources)
        return len(self.sources) - 1

    def constant(self, value: Any) -> int:
        """Equal scalars have one number, so that comparisons with them are known to be the same."""
        key = (str(jnp.result_type(value)), float(value)) if np.ndim(value) == 0 else id(value)
        if key not in self._scalars:
            self._scalars[key] = self.new(0)
            self.constants[self._scalars[key]] = value
        return self._scalars[key]

    def inline(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[int]) -> list[int]:
        """The numbers of what a trace returns."""
        known = dict(zip(jaxpr.constvars, map(self.constant, constants), strict=True))
        known |= dict(zip(jaxpr.invars, arguments, strict=True))

        def number(atom: Any) -> int:
            return self.constant(atom.val) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            out = self._equation(equation, [number(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, out, strict=True))
        return [number(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[int]) -> list[int]:
        name, params = equation.primitive.name, equation.params
        inner = called(equation)
        # in place of a call that brings its derivative, its trace is taken only where something in it switches
        if inner is not None and (name in CALLS or (name in OWN_DERIVATIVE and _switches(inner))):
            return self.inline(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)
        if name == "cond" and any(map(_switches, params["branches"])):
            which, *operands = given
            branches = [self.inline(branch.jaxpr, branch.consts, operands) for branch in params["branches"]]
            first, last = (self.constant(np.asarray(number, np.int32)) for number in (0, len(branches) - 1))
            which = self._add(lax.clamp_p, {}, [first, which, last], 1)[0]
            return [self._add(lax.select_n_p, {}, [which, *rows], 1)[0] for rows in zip(*branches, strict=True)]
        return self._add(equation.primitive, params, given, len(equation.outvars), equation)

    def _add(self, primitive: Any, params: Any, given: list[int], num: int, equation: Any = None) -> list[int]:
        number = len(self.operations)
        sources = functools.reduce(lambda a, b: a | b, (self.sources[operand] for operand in given), 0)
        decided = any(operand in self._decided for operand in given)
        switch = self._switch(equation, given, sources) if equation is not None and sources else None
        if switch is not None:
            self.switches[number] = switch
        elif primitive.name == "select_n" and given[0] in self._decided:
            self.chosen.add(number)
        out = [self.new(sources) for _ in range(num)]
        if switch is not None or decided:
            self._decided |= set(out)
        self.operations.append(Operation(primitive, params, tuple(given), tuple(out)))
        return out

    def _switch(self, equation: Any, given: list[int], sources: int) -> tuple[Decision, bool] | None:
        """The switch that an operation is, and whether its operands are the other way round."""
        if not _may_switch(equation):
            return None
        name, shape, dtype = equation.primitive.name, equation.outvars[0].aval.shape, equation.invars[0].aval.dtype
        by = (bool(sources & STATE), bool(sources & TIME))
        if name in COMPARISONS or name == "sign":
            zero = self.constant(np.zeros((), dtype))
            first, second = given[0], given[1] if name in COMPARISONS else zero
            if (second, first) in self._shared:
                return self._shared[second, first], True
            if (first, second) not in self._shared:
                self._shared[first, second] = self._place(shape, "side", by)
            return self._shared[first, second], False
        return self._place(shape, "down" if name in ("floor", "ceil", "round") else "to zero", by), False

    def _place(self, shape: tuple[int, ...], kind: Any, by: tuple[bool, bool]) -> Decision:
        self._modes += math.prod(shape)
        return Decision(self._modes - math.prod(shape), shape, kind, *by)


def _may_switch(equation: Any) -> bool:
    """Whether an operation jumps where its operands cross something."""
    name = equation.primitive.name
    whole = name == "convert_element_type" and jnp.issubdtype(equation.params["new_dtype"], jnp.integer)
    if not (whole or name in COMPARISONS or name in ROUNDINGS or name == "sign"):
        return False
    return jnp.issubdtype(equation.invars[0].aval.dtype, jnp.floating)


def _switches(inner: Any) -> bool:
    """Whether something within a trace may switch."""

    def within(equation: Any) -> list[Any]:
        return [part for part in (called(equation), *equation.params.get("branches", ())) if part is not None]

    equations = getattr(inner, "jaxpr", inner).eqns
    return any(_may_switch(equation) or any(map(_switches, within(equation))) for equation in equations)


def _outcome(name: str, params: Any, values: list[Any], switch: Decision, other: bool, decide: Decide) -> Array:
    """What an operation that switches gives in its mode."""
    if name in COMPARISONS:
        first, second = values[::-1] if other else values
        above = decide(switch, first - second) > SLIDING
        return above if COMPARISONS[name] != other else ~above
    if name == "sign":
        return jnp.where((decide(switch, -values[0] if other else values[0]) > SLIDING) != other, 1.0, -1.0)
    if name == "rem":
        return values[0] - values[1] * decide(switch, values[0] / values[1])
    if name == "ceil":
        return -decide(switch, -values[0])
    if name == "convert_element_type":
        return decide(switch, values[0]).astype(params["new_dtype"])
    return decide(switch, values[0] + 0.5 if name == "round" else values[0])


def _choose(primitive: Any, params: Any, values: list[Any]) -> Array:
    """What a switch chooses. Beyond the surface that choice may have no value: there the other one stands in for it."""
    which, *cases = values
    found = primitive.bind(which, *cases, **params)
    if len(cases) != 2 or not jnp.issubdtype(found.dtype, jnp.floating):
        return found
    return jnp.where(jnp.isfinite(found), found, primitive.bind(which, *cases[::-1], **params))


def _root(primitive: Any, params: Any, value: Array) -> Array:
    """A root, whose derivative at zero is taken as zero: infinity times nothing is not a number."""
    away = value != 0.0
    return jnp.where(away, primitive.bind(jnp.where(away, value, 1.0), **params), 0.0)


def _power(primitive: Any, params: Any, base: Array, exponent: Array) -> Array:
    """A power, which is a root where its exponent is below one."""
    if not jnp.issubdtype(jnp.result_type(exponent), jnp.floating):
        return primitive.bind(base, exponent, **params)
    at_root = (base == 0.0) & (exponent < 1.0)
    found = primitive.bind(jnp.where(at_root, 1.0, base), exponent, **params)
    return jnp.where(at_root, primitive.bind(lax.stop_gradient(base), lax.stop_gradient(exponent), **params), found)


ROOTS: Mapping[str, Callable[..., Array]] = {"sqrt": _root, "cbrt": _root, "pow": _power}
"""Primitives whose derivative is infinite at zero."""
