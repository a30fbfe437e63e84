"""Quantities of interest: a number for each draw, made of a whole trajectory, as energy used or time above a limit.

They are asked of a twin and are no part of what is calibrated: no posterior, and no fingerprint, depends on them.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from bayestwin._base.units import check_unit, convert, difference_unit, has_offset, registry
from bayestwin.errors import InvalidTwin
from bayestwin.model.checks import check_name
from bayestwin.model.components import State
from bayestwin.model.delays import as_numbers
from bayestwin.model.tracing import abstract_arguments, by_name, called, namespace, trace_scalar
from bayestwin.model.types import Observed

type Measured = Any
"""A `Twin`, whose module imports this one."""


@dataclasses.dataclass(frozen=True)
class QuantityOfInterest(abc.ABC):
    """One number for each draw of a prediction, from its first time to its last one.

    Attributes:
        of: `(t, x, p, u)` → what it is made of, or the name of a state, an input or an observation, whose unit is then
            known. `t` is the time since `t0`.
        unit: Unit of the quantity as text; of a time the twin's `time_unit` where nothing is said.
        doc: What it is, in words.
    """

    of: Observed | str
    unit: str = ""
    doc: str = ""

    words: ClassVar[str] = ""
    """What it makes of that, in words."""

    condition: ClassVar[bool] = False
    """Whether it is made of a condition, a comparison or a number that is positive where the condition holds."""

    @property
    def given_unit(self) -> str | None:
        """The unit of what `of` returns, where that is said."""
        return getattr(self, "of_unit", None)


@dataclasses.dataclass(frozen=True)
class Integral(QuantityOfInterest):
    """The integral over time, solved for along with the states.

    Attributes:
        of_unit: Unit of what `of` returns; the integral is then converted to `unit`. Where nothing is said, `of` is
            in `unit` per `time_unit`.
        meter: A column of the telemetry that counts the same, in any unit of its dimension; `bt.quantities` holds what
            it counted against the intervals.
    """

    of_unit: str | None = None
    meter: str | None = None

    words: ClassVar[str] = "integral"


@dataclasses.dataclass(frozen=True)
class Mean(QuantityOfInterest):
    """The mean over time.

    Attributes:
        of_unit: Unit of what `of` returns, if it is another one than `unit`.
    """

    of_unit: str | None = None

    words: ClassVar[str] = "mean"


@dataclasses.dataclass(frozen=True)
class Max(QuantityOfInterest):
    """The largest value at any time, between rows and solver steps too.

    Attributes:
        of_unit: Unit of what `of` returns, if it is another one than `unit`.
    """

    of_unit: str | None = None

    words: ClassVar[str] = "largest value"


@dataclasses.dataclass(frozen=True)
class Min(QuantityOfInterest):
    """The smallest value at any time, between rows and solver steps too.

    Attributes:
        of_unit: Unit of what `of` returns, if it is another one than `unit`.
    """

    of_unit: str | None = None

    words: ClassVar[str] = "smallest value"


@dataclasses.dataclass(frozen=True)
class TimeWhere(QuantityOfInterest):
    """How long a condition holds in all: `bt.TimeWhere(lambda t, x, p, u: x.indoor < 16.0, unit="h")`."""

    words: ClassVar[str] = "time for which it holds"
    condition: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class LongestWhere(QuantityOfInterest):
    """The longest time for which a condition holds without a break."""

    words: ClassVar[str] = "longest time for which it holds"
    condition: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class FirstTime(QuantityOfInterest):
    """When a condition holds first, as the time since the first one of the prediction.

    It is infinite where that does not come before the last one: probabilities and order statistics stay right, and
    `bt.quantities` says how often it is so. A path that cannot be solved is NaN, as everywhere.
    """

    words: ClassVar[str] = "first time at which it holds"
    condition: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class FromRows(QuantityOfInterest):
    """Any function of the values at the rows of a prediction, `(t, x, p, u)` → a number.

    `t` and the entries of `x` and `u` have one value for each row, shape (n,); between rows it sees nothing.
    """

    words: ClassVar[str] = "function of the rows"


TIMES = (TimeWhere, LongestWhere, FirstTime)
"""Kinds that are times themselves."""


def unit_of(twin: Measured, quantity: QuantityOfInterest) -> str:
    """The unit of a quantity."""
    return quantity.unit or twin.time_unit if isinstance(quantity, TIMES) else quantity.unit


def function_of(twin: Measured, quantity: QuantityOfInterest) -> Observed:
    """What a quantity is made of, as a function `(t, x, p, u)`."""
    return _named(twin, quantity.of)[0] if isinstance(quantity.of, str) else quantity.of


def level_of(twin: Measured, quantity: QuantityOfInterest, part: Literal["now", "total"] = "now") -> Observed:
    """What a quantity is made of as a number; of a condition one that is positive where it holds, see `Level`."""
    function = function_of(twin, quantity)
    if not quantity.condition:
        return function
    return functools.partial(_part_of_level, function, part)


def _part_of_level(function: Callable, part: str, t: Any, x: Any, p: Any, u: Any) -> Any:
    """A condition as a number; compiled programs find it again by the user's function."""
    return getattr(as_level(function)(t, x, p, u), part)


def in_own_unit(twin: Measured, quantity: QuantityOfInterest, values: Any) -> Any:
    """Values as they are computed, converted to the unit of the quantity."""
    source = _computed_in(twin, quantity)
    return values if source is None else convert(values, source, unit_of(twin, quantity), "a quantity", InvalidTwin)


def _computed_in(twin: Measured, quantity: QuantityOfInterest) -> str | None:
    """The unit in which a quantity is computed; None where its function is taken at its word."""
    if isinstance(quantity, TIMES):
        return twin.time_unit
    told = quantity.given_unit
    if told is None:
        told = _named(twin, quantity.of)[1] if isinstance(quantity.of, str) else None
    if told is None:
        return None
    return f"({told or '1'})*({twin.time_unit or '1'})" if isinstance(quantity, Integral) else told


def _named(twin: Measured, name: str) -> tuple[Observed, str]:
    """The function and the unit of a state, an input or an observation."""
    if name in twin.states:
        return functools.partial(_entry, "x", name), twin.states[name].unit
    if name in twin.inputs:
        return functools.partial(_entry, "u", name), twin.inputs[name].unit
    return twin.observations[name].of, twin.observations[name].unit


def _entry(kind: Literal["x", "u"], name: str, t: Any, x: Any, p: Any, u: Any) -> Any:
    """A state or an input; compiled programs find it again by its name."""
    del t, p
    return getattr(x if kind == "x" else u, name)


# What can be wrong, found when the twin is built.


def check_quantities(twin: Measured) -> None:
    """Check the quantities of a twin.

    Raises:
        InvalidTwin: If names, functions or units do not fit.
    """
    for name, quantity in twin.quantities.items():
        owner = f"quantity `{name}`"
        check_name(name, owner)
        if not isinstance(quantity, QuantityOfInterest):
            raise InvalidTwin(
                f"`quantities` of twin `{twin.name}` holds something else under `{name}`.",
                expected="bt.Integral(…), bt.Mean(…), bt.Max(…), bt.Min(…), bt.TimeWhere(…), bt.LongestWhere(…), "
                "bt.FirstTime(…) or bt.FromRows(…)",
                received=type(quantity).__name__,
                advice="Say what it is to be made of: `bt.Max(of=lambda t, x, p, u: …)`.",
            )
        check_unit(quantity.unit, owner, InvalidTwin)
        _check_function(twin, owner, quantity)
        _check_units(twin, owner, quantity)


def _check_function(twin: Measured, owner: str, quantity: QuantityOfInterest) -> None:
    """That what it is made of is there, and is one number."""
    shapes = twin.shapes
    if isinstance(quantity.of, str):
        known = [*[n for n, state in twin.states.items() if not state.shape], *twin.inputs, *twin.observations]
        if quantity.of not in known or quantity.condition or isinstance(quantity, FromRows):
            raise InvalidTwin(
                f"{owner[0].upper()}{owner[1:]} does not say what it is made of.",
                expected="a function `(t, x, p, u)`"
                if quantity.condition or isinstance(quantity, FromRows)
                else f"a function `(t, x, p, u)`, or one of {', '.join(f'`{one}`' for one in dict.fromkeys(known))}",
                received=f"`{quantity.of}`",
                advice="Correct the name, or write a function.",
            )
        return
    if isinstance(quantity, FromRows):
        if twin.switched:
            raise InvalidTwin(
                f"{owner[0].upper()}{owner[1:]} would see parameters as they are at the start.",
                expected="a twin without events that change parameters",
                received=f"events that change {', '.join(f'`{one}`' for one in twin.switched)}",
                advice="Use one of the other kinds, which follow them.",
            )
        rows = [{one: (ROWS, *shape) for one, shape in group.items()} for group in shapes]
        given = rows[0], shapes[1], rows[2]

        def at_rows(t: Any, x: Any, p: Any, u: Any) -> Any:
            return quantity.of(jnp.broadcast_to(t, ROWS), x, p, u)  # type: ignore[operator]

        trace_scalar(at_rows, f"`of=` of {owner}", given)
        return
    trace_scalar(_level_for(quantity, owner), f"`of=` of {owner}", shapes)


ROWS = 3
"""With so many rows a function of rows is tried out."""


def _level_for(quantity: QuantityOfInterest, owner: str) -> Observed:
    """A condition as a number, and whatever else as it is."""
    if not quantity.condition:
        return quantity.of  # type: ignore[return-value]

    def level(t: Any, x: Any, p: Any, u: Any) -> Any:
        try:
            return as_level(quantity.of)(t, x, p, u).now  # type: ignore[arg-type]
        except NotOfComparisons as reason:
            raise InvalidTwin(
                f"The condition of {owner} is not made of comparisons.",
                expected="comparisons such as `x.indoor < 16.0`, joined by `&`, `|` and `~`, or a number that is "
                "positive where the condition holds",
                received=f"the operation `{reason}`",
                advice="The time at which it begins to hold is found where a difference crosses zero.",
            ) from None

    return functools.wraps(quantity.of)(level)  # type: ignore[arg-type]


def _check_units(twin: Measured, owner: str, quantity: QuantityOfInterest) -> None:
    """That units convert, and that what is known of `of` does not contradict them."""
    if isinstance(quantity, FromRows):
        return
    told = quantity.given_unit
    if told is not None:
        check_unit(told, f"`of_unit` of {owner}", InvalidTwin)
    named = _named(twin, quantity.of)[1] if isinstance(quantity.of, str) else None
    known = named if named is not None else _unit_returned(twin, quantity)
    if told is not None and known is not None and not _alike(told, known):
        raise _contradicts(owner, f"`of_unit={known!r}`, in which `of` is", f"`{told}`", "Leave `of_unit` out.")
    if isinstance(quantity, Integral) and has_offset(told or known or ""):
        raise _contradicts(
            owner,
            f"a difference of temperatures, in `{difference_unit(told or known)}`",
            f"`{told or known}`, whose zero is not the zero of the scale",
            "Integrate a difference: `lambda t, x, p, u: x.indoor - 16.0`, with `of_unit` its unit.",
        )
    source, wanted = _computed_in(twin, quantity), unit_of(twin, quantity)
    if source is not None:
        kinds = [registry().get_dimensionality(one or "1") for one in (source, wanted)]
        if kinds[0] != kinds[1]:
            raise _contradicts(owner, f"a unit that `{source}` converts to", f"`{wanted}`", "Correct its `unit`.")
    elif known is not None:
        expected = f"({known or '1'})*({twin.time_unit or '1'})" if isinstance(quantity, Integral) else known
        if not _alike(expected, wanted):
            raise _contradicts(
                owner,
                f"`{expected}`, which is what it is computed in",
                f"`{wanted}`",
                f"Say `of_unit={known!r}` to have it converted.",
            )


def _contradicts(owner: str, expected: str, received: str, advice: str) -> InvalidTwin:
    return InvalidTwin(
        f"The unit of {owner} contradicts what it is made of.", expected=expected, received=received, advice=advice
    )


def _alike(one: str, other: str) -> bool:
    first, second = (registry().Quantity(1.0, unit or "1") for unit in (one, other))
    return bool(first == second) and has_offset(one) == has_offset(other)


def _unit_returned(twin: Measured, quantity: QuantityOfInterest) -> str | None:
    """The unit of a state or an input that a function returns as it is; None of whatever else."""
    if quantity.condition:
        return None
    shapes = twin.shapes
    traced = jax.make_jaxpr(quantity.of)(*abstract_arguments(shapes)).jaxpr  # type: ignore[arg-type]
    names = [None, *twin.states, *[None] * len(twin.parameters), *twin.inputs]
    units = {name: member.unit for name, member in (*twin.states.items(), *twin.inputs.items())}
    places = {id(atom): name for name, atom in zip(names, traced.invars, strict=True) if name is not None}
    name = places.get(id(traced.outvars[0]))
    return None if name is None else units[name]


# Integrals as states of their own.


def with_integrals(twin: Measured) -> tuple[Measured, tuple[str, ...]]:
    """The twin without quantities and model error, and with the integral of each as a state; and these states' names.

    Of those that are no integrals too: so the steps of the solver are as short as what they are made of asks for.
    """
    bare = dataclasses.replace(twin, quantities={}, model_error=None)
    wanted = {
        f"{name}_so_far": level_of(twin, one, "total")
        for name, one in twin.quantities.items()
        if not isinstance(one, FromRows)
    }
    if not wanted:
        return bare, ()
    # what observations count stands behind these states: it is added anew
    before = {name: state for name, state in bare.states.items() if name not in bare.integrals}
    own, field = tuple(before), bare.own_field
    states_of, derivative = namespace("states", own), by_name(field, own)

    @functools.wraps(field)
    def counting(t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
        x, now = states_of(*[getattr(x, name) for name in own]), as_numbers(u)
        rates = {name: jnp.asarray(of(t, x, p, now), float) for name, of in wanted.items()}
        return {**derivative(t, x, p, u), **rates}

    states = before | {name: State(0.0) for name in wanted}
    return dataclasses.replace(bare, vector_field=counting, states=states), tuple(wanted)


# Conditions as numbers that cross zero where they begin or end to hold.


class NotOfComparisons(TypeError):
    """A condition that is not made of comparisons; its text names the operation."""


class Level(NamedTuple):
    """A condition as numbers.

    Attributes:
        now: Positive where it holds: `a < b` is `b − a`; of several that hold together the smallest counts, of
            alternatives the largest.
        total: The sum of the differences of all of its comparisons, which has no bends.
    """

    now: Any
    total: Any


def as_level(function: Callable) -> Callable[[Any, Any, Any, Any], Level]:
    """A condition `(t, x, p, u)` as numbers; one that is a number already stays as it is."""

    def level(t: Any, x: Any, p: Any, u: Any) -> Level:
        arguments = jax.tree.map(jnp.asarray, (t, x, p, u))
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if getattr(shape, "dtype", None) != jnp.bool_:
            return Level(*[function(t, x, p, u)] * 2)
        (found,) = _levels(traced.jaxpr, traced.consts, [_there(leaf) for leaf in jax.tree.leaves(arguments)])
        if found.level is None:
            raise NotOfComparisons(traced.jaxpr.eqns[-1].primitive.name if traced.jaxpr.eqns else "constant")
        return found.level

    return level


class _Traced(NamedTuple):
    """A value on the way through a trace, computed when it is asked for; and the level of a condition."""

    value: Callable[[], Any]
    level: Any = None


def _levels(jaxpr: Any, constants: Any, arguments: Sequence[_Traced]) -> list[_Traced]:
    """What a trace returns. Comparisons of which the level is all that is wanted are left out."""
    known: dict[Any, _Traced] = {}

    def read(atom: Any) -> _Traced:
        return _Traced(lambda: atom.val) if hasattr(atom, "val") else known[atom]

    known.update(zip(jaxpr.constvars, map(_there, constants), strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        inner = called(equation) if equation.primitive.name in OPENED else None
        found = _computed(equation, given) if inner is None else _levels(inner.jaxpr, inner.consts, given)
        known.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _there(value: Any) -> _Traced:
    return _Traced(lambda: value)


def _computed(equation: Any, given: Sequence[_Traced]) -> list[_Traced]:
    """What an operation returns."""

    @functools.cache
    def values() -> Sequence[Any]:
        found = equation.primitive.bind(*[one.value() for one in given], **equation.params)
        return found if equation.primitive.multiple_results else [found]

    level = _level(equation, given)
    return [_Traced(lambda place=place: values()[place], level) for place in range(len(equation.outvars))]


OPENED = ("jit", "pjit", "closed_call")
"""Operations that call a trace, which is looked into."""


def _level(equation: Any, given: Sequence[_Traced]) -> Any:
    """The level of a condition, from what it is made of; None of what is none."""
    kind = equation.primitive.name
    if kind in ("lt", "le", "gt", "ge"):
        smaller, larger = given if kind in ("lt", "le") else reversed(given)
        gap = jnp.asarray(larger.value(), float) - jnp.asarray(smaller.value(), float)
        return Level(gap, gap)
    if kind == "convert_element_type" and equation.outvars[0].aval.dtype == jnp.bool_:
        return given[0].level
    joined: Mapping[str, Callable] = {"and": jnp.minimum, "or": jnp.maximum, "not": jnp.negative}
    if kind not in joined or equation.outvars[0].aval.dtype != jnp.bool_:
        return None
    if any(one.level is None for one in given):
        raise NotOfComparisons(kind)
    return Level(joined[kind](*[one.level.now for one in given]), sum(one.level.total for one in given))
