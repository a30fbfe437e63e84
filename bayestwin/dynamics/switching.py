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

from bayestwin.dynamics.operations import (
    ROOTS,
    AlikeOperations,
    Operation,
    are_many_formulas,
    put_together,
    real_numbers,
)
from bayestwin.model.delays import ASKED, with_timed_inputs
from bayestwin.model.tracing import CALLS, OWN_DERIVATIVE, abstract_arguments, called
from bayestwin.model.twin import Twin

BELOW, SLIDING, ABOVE = 0.0, 0.5, 1.0
"""Modes of a comparison: its gap is negative, is kept at zero from both sides, is positive. Those of rounding are whole
numbers."""

ON_SURFACE = 1e-12
"""Operands that differ by less than this part of their sizes are equal but for rounding."""

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


class Delay(NamedTuple):
    """An input that is asked for at another time than now.

    Attributes:
        name: The input.
        at: The number of that time.
        given: Numbers of the arguments that answer it: the input then, or the times and coefficients of its samples.
        fixed: Whether that time is now less what parameters say, so that a sample arrives at a time known beforehand.
    """

    name: str
    at: int
    given: tuple[int, ...]
    fixed: bool


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
        shaped: Whether it does but by what changes evenly with time, and by comparisons of that, each of which time
            decides once: only then something can happen unseen between two stops.
        switches: By the number of the operation, the switch and whether its operands are the other way round.
        chosen: Numbers of the operations that choose by the outcomes of switches, and these.
        delays: Inputs that are asked for at other times than now.
        num_states: How many states there are.
    """

    constants: Mapping[int, Any]
    arguments: tuple[int, ...]
    operations: tuple[Operation, ...]
    results: tuple[int, ...]
    structure: Any
    timed: bool
    shaped: bool
    switches: Mapping[int, tuple[Decision, bool]]
    chosen: Mapping[int, frozenset[Decision]]
    delays: tuple[Delay, ...]
    num_states: int

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
        return bool(self.switches or self.delays) or any(op.primitive.name in ROOTS for op in self.operations)

    @property
    def fixed(self) -> tuple[Delay, ...]:
        """Delays that are known beforehand."""
        return tuple(delay for delay in self.delays if delay.fixed)

    def lags(self, p: Any) -> Array:
        """How long ago what is asked for was, of each delay that is known beforehand; shape (r,)."""
        wanted = [delay.at for delay in self.fixed]
        nothing = [0.0] * (len(self.arguments) - len(p))
        start = 1 + self.num_states
        arguments = (*nothing[:start], *p, *nothing[start:])
        known = self._known(arguments, None, self._leading_to(wanted))
        return -jnp.stack([jnp.asarray(known[number], float) for number in wanted])

    def answered(self, u: Any, tables: Callable[[Delay], tuple[Array, Array]]) -> list[Any]:
        """Inputs, and what answers each delay, as the other functions take them.

        Args:
            u: Inputs, and after them those of the delays that are known beforehand.
            tables: The times and coefficients of the samples that another delay looks into.
        """
        then = iter(u[len(u) - len(self.fixed) :])
        found = list(u[: len(u) - len(self.fixed)])
        for delay in self.delays:
            found += [next(then)] if delay.fixed else tables(delay)
        return found

    def as_ever(self, u: Mapping[str, Any]) -> list[Any]:
        """Inputs by name as the other functions take them, if they had always been what they are now."""
        then = [u[delay.name] for delay in self.fixed]
        return self.answered([*u.values(), *then], lambda one: (jnp.zeros(1), jnp.full((2, 1), u[one.name])))

    @functools.cached_property
    def alike(self) -> AlikeOperations | None:
        """What follows from arguments, switches and what these choose, where it is long and formulas of scalars."""
        if self.delays or not are_many_formulas(self.operations, self.constants):
            return None
        before = [self.operations[number] for number in self._deciding]
        made = {number for one in before for number in one.out}
        rest = [one for number, one in enumerate(self.operations) if number not in self._deciding]
        given = made.intersection([*self.results, *(number for one in rest for number in one.given)])
        return put_together(rest, self.constants, (*self.arguments, *sorted(given)), self.results)

    @functools.cached_property
    def _deciding(self) -> list[int]:
        """Numbers of the operations that lead to switches and to what these choose, as far as to real numbers."""
        real = real_numbers(self.operations, self.constants, self.arguments)
        wanted = {number for one in (*self.switches, *self.chosen) for number in self.operations[one].out}
        while True:
            found = self._leading_to(sorted(wanted))
            unreal = {number for one in found for number in self.operations[one].out} - real
            wanted |= {number for one in self.operations if unreal.intersection(one.given) for number in one.out}
            if wanted.issubset(number for one in found for number in self.operations[one].out):
                return found

    def compute(self, arguments: Array, modes: Array | None) -> tuple[Array, Array]:
        """What `hold` and `derivative` give, where the equations are `alike`: an array, and the gaps.

        Args:
            arguments: In the order of `arguments`; shape (a,).
            modes: Of the switches that are held, shape (k,); None where they are not.

        Returns:
            Derivatives in the order of `results`, shape (s,), and gaps, shape (k,), or (0,) where nothing is held.
        """
        assert self.alike is not None
        gaps: dict[Decision, Array] = {}

        def decide(switch: Decision, gap: Array) -> Array:
            assert modes is not None
            gaps[switch] = gap.ravel()
            return modes[switch.entries].reshape(switch.shape)

        needed = self._needed(self._deciding)
        own = [arguments[place] if number in needed else None for place, number in enumerate(self.arguments)]
        known = self._known(own, None if modes is None else decide, self._deciding)
        more = [jnp.asarray(known[number], float) for number in self.alike.given[len(self.arguments) :]]
        given = jnp.concatenate([arguments, jnp.stack(more)]) if more else arguments
        held = [] if modes is None else [gaps[one] for one in self.distinct]
        return self.alike.compute(given), jnp.concatenate([jnp.zeros(0), *held])

    @property
    def names(self) -> list[str]:
        """What the results are derivatives of."""
        places = jax.tree.unflatten(self.structure, range(len(self.results)))
        return sorted(places, key=places.__getitem__)

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

        switching = [number for one in self.switches for number in self.operations[one].out]
        self._known((t, *x, *p, *u), decide, self._leading_to(switching))
        return found

    def _run(self, arguments: Sequence[Any], decide: Decide | None) -> dict[str, Array]:
        known = self._known(arguments, decide, range(len(self.operations)))
        return jax.tree.unflatten(self.structure, [known[number] for number in self.results])

    def _leading_to(self, wanted: Sequence[int]) -> list[int]:
        """Numbers of the operations that some results follow from."""
        needed, found = set(wanted), []
        for number in range(len(self.operations) - 1, -1, -1):
            if needed.intersection(self.operations[number].out):
                needed |= set(self.operations[number].given)
                found.append(number)
        return found[::-1]

    def _needed(self, numbers: Sequence[int]) -> set[int]:
        """Numbers of what some operations take, and of the results."""
        return {number for one in numbers for number in self.operations[one].given} | set(self.results)

    def _known(self, arguments: Sequence[Any], decide: Decide | None, numbers: Sequence[int]) -> dict[int, Any]:
        """What some operations lead to, by number."""
        known, needed = dict(self.constants), self._needed(numbers)
        given = zip(self.arguments, arguments, strict=True)
        known |= {number: jnp.asarray(value, float) for number, value in given if number in needed}
        beyond: dict[Decision, Array] = {}
        for number in numbers:
            primitive, params, given, out = self.operations[number]
            values = [known[operand] for operand in given]
            if decide is not None and number in self.switches:
                switch, other = self.switches[number]
                found = _outcome(primitive.name, params, values, switch, other, decide, beyond)
            elif decide is not None and number in self.chosen:
                found = _choose(primitive, params, values, [beyond[switch] for switch in self.chosen[number]])
            elif primitive.name in ROOTS:
                found = ROOTS[primitive.name](primitive, params, *values)
            else:
                found = primitive.bind(*values, **primitive.get_bind_params(params))
            known |= dict(zip(out, found if primitive.multiple_results else [found], strict=True))
        return known

    def _each(self, of_switches: list[bool]) -> np.ndarray:
        return np.repeat(np.array(of_switches, bool), [math.prod(switch.shape) for switch in self.distinct])


def take_apart(twin: Twin, samples: tuple[int, int] = (1, 1)) -> Equations:
    """The equations of a twin, from the trace of its vector field.

    Args:
        twin: The twin.
        samples: How many samples and coefficients delays look into that are not known beforehand.
    """
    function = with_timed_inputs(twin.derivative, twin.delayed) if twin.delayed else twin.derivative
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*abstract_arguments(twin.shapes))
    sloped = [INPUT if spec.hold != "previous" else 0 for spec in twin.inputs.values()]
    trace = _Trace(samples)
    clock, *varying = [trace.new(source) for source in [TIME, *[STATE] * len(twin.states)]]
    constant = {name: trace.new(0) for name in twin.parameters}
    inputs = {name: trace.new(source) for name, source in zip(twin.inputs, sloped, strict=True)}
    trace.clock.add(clock)
    trace.even.add(clock)
    trace.fixed |= {number for name, number in constant.items() if not twin.delayed or name not in twin.switched}
    trace.inputs |= inputs
    arguments = [clock, *varying, *constant.values(), *inputs.values()]
    results = trace.inline(closed.jaxpr, closed.consts, arguments)
    return Equations(
        constants=trace.constants,
        arguments=(*arguments, *[number for delay in trace.delays for number in delay.given]),
        operations=tuple(trace.operations),
        results=tuple(results),
        structure=jax.tree.structure(shape),
        timed=any(trace.sources[number] & TIME for number in results),
        shaped=not trace.shaped.isdisjoint(results),
        switches=trace.switches,
        chosen=trace.chosen,
        delays=tuple(trace.delays),
        num_states=len(twin.states),
    )


class _Trace:
    """Operations as they are collected: calls are opened where something within them switches."""

    def __init__(self, samples: tuple[int, int]) -> None:
        self.constants: dict[int, Any] = {}
        self.operations: list[Operation] = []
        self.switches: dict[int, tuple[Decision, bool]] = {}
        self.chosen: dict[int, frozenset[Decision]] = {}
        self.sources: list[int] = []  # what each number depends on, as bits
        self.clock: set[int] = set()  # numbers that are now and more or less of what is fixed
        self.fixed: set[int] = set()  # numbers that follow from parameters alone
        self.even: set[int] = set()  # numbers that change evenly with time
        self.shaped: set[int] = set()  # numbers that depend on time otherwise, but for comparisons of even ones
        self.inputs: dict[str, int] = {}
        self.delays: list[Delay] = []
        self._answers: dict[tuple[str, int], int] = {}
        self._samples = samples
        self._decided: dict[int, frozenset[Decision]] = {}  # numbers that follow from outcomes of switches, and these
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
            self.fixed.add(self._scalars[key])
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
        if equation.primitive is ASKED:
            return [self._ask(params["name"], given[0])]
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
        decided = frozenset().union(*(self._decided.get(operand, frozenset()) for operand in given))
        switch = self._switch(equation, given, sources) if equation is not None and sources else None
        if switch is not None:
            self.switches[number] = switch
        elif primitive.name == "select_n" and given[0] in self._decided:
            self.chosen[number] = self._decided[given[0]]
        out = [self.new(sources) for _ in range(num)]
        if self.fixed.issuperset(given):
            self.fixed |= set(out)
        elif primitive.name in ("add", "sub"):
            first, second = given if primitive.name == "sub" or given[0] in self.clock else given[::-1]
            self.clock |= set(out) if first in self.clock and second in self.fixed else set()
        self._note_shape(primitive.name, given, out, compares=switch is not None and primitive.name in COMPARISONS)
        if switch is not None:
            decided |= {switch[0]}
        if decided:
            self._decided |= dict.fromkeys(out, decided)
        self.operations.append(Operation(primitive, params, tuple(given), tuple(out)))
        return out

    def _note_shape(self, name: str, given: list[int], out: list[int], *, compares: bool) -> None:
        """Note how results depend on time, if not by their states alone."""
        moving = [number for number in given if number in self.even]
        plain = self.shaped.isdisjoint(given) and all(number in self.even or number in self.fixed for number in given)
        if plain and moving and compares:
            return
        once = (name == "mul" and len(moving) == 1) or (name == "div" and given[1] not in self.even)
        if plain and moving and (name in ("add", "sub", "neg", "copy", "convert_element_type") or once):
            self.even |= set(out)
        elif moving or not self.shaped.isdisjoint(given):
            self.shaped |= set(out)

    def _ask(self, name: str, at: int) -> int:
        """The number of an input at a time."""
        if at == min(self.clock):
            return self.inputs[name]
        if (name, at) in self._answers:
            return self._answers[name, at]
        if at in self.clock:
            answer = self.new(self.sources[self.inputs[name]])
            self.delays.append(Delay(name, at, (answer,), fixed=True))
        else:
            tables, (num, powers) = (self.new(0), self.new(0)), self._samples
            self.delays.append(Delay(name, at, tables, fixed=False))
            shapes = [jax.ShapeDtypeStruct(shape, float) for shape in ((), (num,), (num + 1, powers))]
            closed = jax.make_jaxpr(look_up)(*shapes)
            answer = self.inline(closed.jaxpr, closed.consts, [at, *tables])[0]
        self._answers[name, at] = answer
        return answer

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


def look_up(time: Array, samples: Array, coefficients: Array) -> Array:
    """A signal at some time, as something that switches from sample to sample.

    Args:
        time: Shape ().
        samples: Times of the samples, increasing, infinite behind the last one; shape (k,).
        coefficients: Before the first sample and from each on, of the powers of the time since it; shape (k + 1, d).
    """
    real = jnp.isfinite(samples)
    begins = jnp.where(real, samples, 0.0)
    lengths = jnp.where(real[1:], begins[1:] - begins[:-1], 1.0)
    # how many samples have passed, and what part of the time to the next one; it never stands still at a whole number
    parts = jnp.concatenate([1.0 + (time - begins[:1]), (time - begins[:-1]) / lengths])
    least, last = jnp.where(jnp.arange(len(parts)) == 0, 0.5, 0.0), begins.max()
    passed = jnp.where(real, jnp.clip(parts, least, 1.0), 0.0).sum() + jnp.clip(time - last, 0.0, 0.5)
    number = jnp.floor(passed)
    row = (jnp.arange(len(coefficients)) == number).astype(float)
    passed = time - row @ jnp.concatenate([begins[:1], begins])
    value = jnp.zeros(())
    for coefficient in (row @ coefficients)[::-1]:
        value = value * passed + coefficient
    return value


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


def _outcome(
    name: str,
    params: Any,
    values: list[Any],
    switch: Decision,
    other: bool,
    decide: Decide,
    beyond: dict[Decision, Array],
) -> Array:
    """What an operation that switches gives in its mode; notes in `beyond` where its gap says another one."""

    def mode(gap: Array, size: Array | float = 0.0) -> Array:
        held = decide(switch, gap)
        beyond[switch] = (NOW[switch.kind](gap) != held) | (jnp.abs(gap) <= ON_SURFACE * size)
        return held

    if name in COMPARISONS:
        first, second = values[::-1] if other else values
        above = mode(first - second, jnp.abs(first) + jnp.abs(second)) > SLIDING
        return above if COMPARISONS[name] != other else ~above
    if name == "sign":
        return jnp.where((mode(-values[0] if other else values[0]) > SLIDING) != other, 1.0, -1.0)
    if name == "rem":
        return values[0] - values[1] * mode(values[0] / values[1])
    if name == "ceil":
        return -mode(-values[0])
    if name == "convert_element_type":
        return mode(values[0]).astype(params["new_dtype"])
    return mode(values[0] + 0.5 if name == "round" else values[0])


def _choose(primitive: Any, params: Any, values: list[Any], beyond: list[Array]) -> Array:
    """What switches choose. Beyond the surface of one that choice may have no value: there the other one stands in."""
    which, *cases = values
    found = primitive.bind(which, *cases, **params)
    if len(cases) != 2 or not jnp.issubdtype(found.dtype, jnp.floating):
        return found
    own = functools.reduce(jnp.logical_or, [one if one.shape == found.shape else one.any() for one in beyond])
    return jnp.where(jnp.isfinite(found) | ~own, found, primitive.bind(which, *cases[::-1], **params))
