"""Vector fields from right-hand sides that were written for `scipy.integrate`."""

import ast
import contextlib
import dataclasses
import inspect
import math
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from bayestwin.errors import BayestwinError, InvalidTwin
from bayestwin.model.components import Input, Parameter, State
from bayestwin.model.constructs import GIVEN, NOWHERE
from bayestwin.model.rewriting import find_line
from bayestwin.model.traceable import Translation, refuse
from bayestwin.model.tracing import Layout

DRAWS, MOST_ROUNDS, TOLERANCE = 200, 4, 1e-9
"""Draws at which both are compared, how often they are spread further to reach lines, and how far apart they may be."""

TIMES = ("t", "time", "times", "tau")
"""What the argument that is the time is called."""


def from_numpy(
    function: Callable[..., Any],
    states: Mapping[str, State],
    parameters: Mapping[str, Parameter],
    inputs: Mapping[str, Input] | None = None,
    *,
    time_first: bool | None = None,
    seed: int = 0,
) -> Callable[[Any, Any, Any, Any], dict[str, Any]]:
    """A vector field from a right-hand side as `odeint` and `solve_ivp` take it, written with NumPy.

    The function may use NumPy, `math`, `scipy.special`, tables of `scipy.interpolate`, `if`, `and`, `max`, loops of
    known length, assignments to parts of arrays, and other functions of the user's. Its syntax tree is changed so that
    JAX can trace it, with nothing called back. Then both are compared at draws from the priors, and a function that
    comes out otherwise is refused.

    Its arguments are the time and the states, in either order, and after them by name parameters and inputs; one
    argument of another name is all parameters in order, and a second one all inputs. An input may also be called, as
    `u(t)`. Parameters and inputs that it takes from around, as globals or from a closure, are found there. What it
    raises becomes a solve that fails.

    Args:
        function: `(t, y, …)` or `(y, t, …)`, which returns a derivative for each entry of the states, in order.
        states: As of the twin; arrays follow one another in `y`.
        parameters: As of the twin.
        inputs: As of the twin.
        time_first: Whether the time is its first argument; by default that is seen from its name, `t` or `time`.
        seed: Determines at what draws they are compared.

    Returns:
        What `bt.Twin` takes as `vector_field`.

    Raises:
        InvalidTwin: If arguments are not known by name, the source cannot be read, something in it cannot be
            traced, or the result is not what the function returns to 1e-9; the error names the line.

    Warns:
        UserWarning: Where a line was not reached at any draw, so that nothing is known of it.
    """
    inputs = dict(inputs or {})
    plan = _plan(function, parameters, inputs, time_first)
    translation = Translation([*parameters, *inputs])
    layout = Layout({name: state.shape for name, state in states.items()})
    field = NumpyField(translation.translate(function), plan, layout, tuple(states))
    missed: list[int] = []
    for number in range(MOST_ROUNDS):
        draws = _draw(states, parameters, inputs, seed + number, 10.0**number).at_values(translation.around)
        _record(field, translation, draws)
        missed = _compared(function, field, draws)
        if not missed:
            return field
    warnings.warn(
        f"`{_plain(function).__qualname__}`: line {', '.join(map(str, missed))} was not reached at "
        f"{MOST_ROUNDS * DRAWS} draws from the priors, so nobody compared what JAX makes of it.",
        stacklevel=2,
    )
    return field


class CallPlan(NamedTuple):
    """How a right-hand side is called.

    Attributes:
        time_first: Whether the time comes before the states.
        arguments: Of each further argument, its name, what it is ("parameter", "input", "called input", "parameters",
            "inputs"), and whether it is passed by name alone.
        parameters: Names of those that come in one argument, in order.
        inputs: Likewise.
    """

    time_first: bool
    arguments: tuple[tuple[str, str, bool], ...]
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]

    def call(self, function: Callable, t: Any, y: Any, p: Mapping[str, Any], u: Mapping[str, Any]) -> Any:
        """What the function returns."""
        values: list[Any] = [t, y] if self.time_first else [y, t]
        named: dict[str, Any] = {}
        for name, kind, by_name in self.arguments:
            match kind:
                case "parameter":
                    value = p[name]
                case "input":
                    value = u[name]
                case "called input":
                    value = CalledInput(u[name])
                case "parameters" | "further parameters":
                    value = Packed({one: p[one] for one in self.parameters})
                case _:
                    value = Packed({one: u[one] for one in self.inputs})
            if isinstance(value, Packed) and kind == "further parameters":
                values += value
            elif by_name:
                named[name] = value
            else:
                values.append(value)
        token = GIVEN.set({**p, **u})
        try:
            return function(*values, **named)
        finally:
            GIVEN.reset(token)


class CalledInput:
    """An input where a function calls it with the time."""

    def __init__(self, value: Any) -> None:
        """The value of now."""
        self.value = value

    def __call__(self, *_: Any) -> Any:
        """The value of now."""
        return self.value


class Packed(tuple):
    """Values in order, which are also found by name, as items and as attributes."""

    names: Mapping[str, Any]

    def __new__(cls, values: Mapping[str, Any]) -> "Packed":
        """In the order of the mapping."""
        made = super().__new__(cls, values.values())
        made.names = values
        return made

    def __getitem__(self, key: Any) -> Any:
        """By place or by name."""
        if isinstance(key, str):
            return self.names[key]
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        """By name."""
        try:
            return self.names[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass(frozen=True, eq=False)
class NumpyField:
    """A right-hand side as a vector field; see `from_numpy`.

    Attributes:
        function: That JAX can trace.
        plan: How it is called.
        layout: Of the states.
        states: Their names.
    """

    function: Callable
    plan: CallPlan
    layout: Layout
    states: tuple[str, ...]

    def __call__(self, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
        """Derivatives by state."""
        own, driven = (one if isinstance(one, Mapping) else one._asdict() for one in (p, u))
        y = self.layout.join([x[name] for name in self.states])
        flat = _flat(self.plan.call(self.function, t, y, own, driven), self.layout.size)
        return dict(zip(self.states, self.layout.split(flat), strict=True))


def _flat(found: Any, size: int) -> Any:
    """Derivatives as one array, shape (s,), of a list, a tuple, a dict or an array of any shape."""
    if found is NOWHERE:
        return jnp.full(size, jnp.nan)
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        found = jnp.concatenate([jnp.ravel(jnp.asarray(one, float)) for one in found])
    flat = jnp.ravel(jnp.asarray(found, float))
    if flat.shape != (size,):
        raise TypeError(f"it returns {flat.size} numbers for {size} states")
    return flat


# Which argument is what.


def _plan(
    function: Callable, parameters: Mapping[str, Any], inputs: Mapping[str, Any], time_first: bool | None
) -> CallPlan:
    """How a function is called, from the names of its arguments."""
    name = _plain(function).__qualname__
    arguments = list(inspect.signature(getattr(function, "py_func", function)).parameters.values())
    if len(arguments) < 2:
        raise InvalidTwin(
            f"`{name}` has no place for the time and the states.",
            expected="`(t, y, …)` as for `solve_ivp`, or `(y, t, …)` as for `odeint`",
            received=f"({', '.join(one.name for one in arguments)})",
            advice="Add the argument, even where the function does not look at it.",
        )
    timed = [one.name in TIMES for one in arguments[:2]]
    if time_first is None and timed[0] == timed[1]:
        raise InvalidTwin(
            f"It cannot be seen which argument of `{name}` is the time.",
            expected="one of its first two arguments called `t` or `time`, or `time_first=True` or `False`",
            received=f"({', '.join(one.name for one in arguments)})",
            advice="Say `time_first=True` for a function of `solve_ivp`, `time_first=False` for one of `odeint`.",
        )
    time_first = timed[0] if time_first is None else time_first
    called = _called(_plain(function))
    found: list[tuple[str, str, bool]] = []
    unknown: list[inspect.Parameter] = []
    for one in arguments[2:]:
        by_name = one.kind is one.KEYWORD_ONLY
        if one.name in parameters:
            found.append((one.name, "parameter", by_name))
        elif one.name in inputs:
            found.append((one.name, "called input" if one.name in called else "input", by_name))
        elif one.kind is one.VAR_POSITIONAL:
            found.append((one.name, "further parameters", False))
        elif one.kind is not one.VAR_KEYWORD and one.default is one.empty:
            unknown.append(one)
            found.append((one.name, ("parameters", "inputs")[min(len(unknown), 2) - 1], by_name))
        elif one.kind is not one.VAR_KEYWORD:
            break  # what has a default keeps it, and so does all that follows it
    named = {one[0] for one in found}
    left = [tuple(one for one in names if one not in named) for names in (parameters, inputs)]
    # one argument for all of them is not beside others that have arguments of their own
    if len(unknown) > 2 or (unknown and not left[0]) or (len(unknown) == 2 and not left[1]):
        raise InvalidTwin(
            f"`{name}` has arguments that are neither parameters nor inputs.",
            expected="names among " + (", ".join(f"`{one}`" for one in (*parameters, *inputs)) or "none at all"),
            received=", ".join(f"`{one.name}`" for one in unknown),
            advice="Give a parameter or input the name of the argument, or the argument a default.",
        )
    return CallPlan(time_first, tuple(found), left[0], left[1])


def _called(function: Callable) -> set[str]:
    """Names of arguments that the function calls."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return set()
    return {one.func.id for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}


# Whether it computes what the function does.


class ComparedAt(NamedTuple):
    """Where both are compared: arrays whose first axis is that of the draws."""

    times: np.ndarray
    states: np.ndarray
    parameters: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]

    def at_values(self, around: Mapping[str, Any]) -> "ComparedAt":
        """The same where what a function takes from around has the value that it has there."""
        found = [
            {name: np.full(DRAWS, float(around[name])) if name in around else own for name, own in given.items()}
            for given in (self.parameters, self.inputs)
        ]
        return self._replace(parameters=found[0], inputs=found[1])

    def at(self, k: int) -> tuple[float, np.ndarray, dict[str, float], dict[str, float]]:
        """One of them, as plain numbers: time, states, parameters, inputs."""
        p, u = ({name: float(own[k]) for name, own in values.items()} for values in (self.parameters, self.inputs))
        return float(self.times[k]), self.states[k].copy(), p, u


def _draw(states: Mapping, parameters: Mapping, inputs: Mapping, seed: int, spread: float) -> ComparedAt:
    """Draws of priors; states spread about theirs, as they are later on."""
    rng = np.random.default_rng(seed)
    keys = iter(jax.random.split(jax.random.key(seed), len(states) + len(parameters) + 1))

    def of(prior: Any) -> np.ndarray:
        if isinstance(prior, Distribution):
            return np.asarray(prior.sample(next(keys), (DRAWS,)), float)
        fixed = isinstance(prior, int | float)
        return np.full(DRAWS, float(prior)) if fixed else np.exp(rng.standard_normal(DRAWS))

    columns = []
    for state in states.values():
        own, size = state.initial, math.prod(state.shape)
        begun = np.tile(np.ravel(own), (DRAWS, 1)) if isinstance(own, list | tuple | np.ndarray) else None
        begun = np.repeat(of(own)[:, None], size, axis=1) if begun is None else begun
        scale = np.where(begun == 0.0, 1.0, np.abs(begun))
        moved = np.exp(rng.standard_normal((DRAWS, size))) * begun + (begun == 0.0) * rng.standard_normal((DRAWS, size))
        shifted = begun + spread * scale * rng.standard_normal((DRAWS, size))
        columns.append(np.where(rng.random((DRAWS, 1)) < (0.5 if spread == 1.0 else 0.2), moved, shifted))
    given = {name: of(one.prior) for name, one in parameters.items()}
    driven = {}
    for name in inputs:  # off, on, and of any size
        size = rng.choice([0.0, 1.0, 10.0, 100.0], DRAWS) * np.where(rng.random(DRAWS) < 0.7, 1.0, -1.0)
        driven[name] = size * np.where(rng.random(DRAWS) < 0.5, 1.0, np.abs(rng.standard_normal(DRAWS)))
    times = rng.uniform(0.0, 10.0 ** rng.uniform(-1.0, 3.0, DRAWS))
    return ComparedAt(times, np.concatenate(columns, axis=1), given, driven)


def _compared(function: Callable, field: NumpyField, draws: ComparedAt) -> list[int]:
    """Hold both against each other; lines of the function that no draw reached."""
    plain = _plain(function)
    code, reached = plain.__code__, set[int]()
    ours, finite_slopes = _computed(plain, field, draws)
    with _reaching(code, reached):
        theirs, reason = _called_at(function, field, draws)
        again, _ = _called_at(function, field, draws)
    if not np.array_equal(theirs, again, equal_nan=True):
        raise refuse(
            plain,
            code.co_firstlineno,
            "begins a function that returns something else when it is called again",
            "What a system remembers is a state of it, and chance is `bt.ProcessNoise`.",
        )
    there = np.isfinite(theirs).all(axis=1)
    if not there.any():
        raise InvalidTwin(
            f"`{plain.__qualname__}` has no value at any of {DRAWS} draws from the priors.",
            expected="a number for each entry of the states, in order",
            received=_first(reason) if reason is not None else "NaN",
            advice="Correct the function, or priors that let it fail.",
        )
    near = TOLERANCE * (np.abs(theirs) + np.median(np.abs(theirs[there]), axis=0))
    off = there & ~(np.abs(ours - theirs) <= near).all(axis=1)
    if off.any():
        worst = int(np.flatnonzero(off)[0])
        raise refuse(
            plain,
            _first_difference(function, field, draws, worst),
            f"comes out otherwise in JAX at {off.sum()} of {there.sum()} draws, as {ours[worst]} where the function "
            f"returns {theirs[worst]}",
            "Write that line with `jax.numpy`, or in another way.",
        )
    if (there & ~finite_slopes).any():
        raise InvalidTwin(
            f"`{plain.__qualname__}` has no derivative where it has a value, at {(there & ~finite_slopes).sum()} of "
            f"{there.sum()} draws.",
            expected="a finite derivative by each state and parameter",
            received="NaN or ∞: of a branch that is not taken, as of a root of what is negative there, or at an edge",
            advice="Keep what a branch is computed from where it has a derivative: `np.sqrt(max(h, 1e-9))`, not "
            "`np.sqrt(h) if h > 0 else 0`.",
        )
    return sorted(_lines_of(plain) - reached)


def _record(field: NumpyField, translation: Translation, draws: ComparedAt) -> None:
    """Keep for each branch what it is computed from at a draw that takes it."""
    translation.sites.recording = True
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(DRAWS):
            if len(translation.sites) == translation.num_sites and not any(
                None in own for own in translation.sites.values()
            ):
                break
            with contextlib.suppress(Exception):  # what cannot be called is told where it is traced
                field.plan.call(field.function, *draws.at(k))
    translation.sites.recording = False


def _plain(function: Callable) -> Any:
    """The function that the user wrote, of what it is wrapped in."""
    function = getattr(function, "func", function)
    function = getattr(function, "py_func", function)
    if not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(function, "__func__", function)


def _called_at(function: Callable, field: NumpyField, draws: ComparedAt) -> tuple[np.ndarray, Exception | None]:
    """What the function returns at each draw, NaN where it raises, and what it raised last."""
    found, reason = np.full(draws.states.shape, np.nan), None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for k in range(DRAWS):
            try:
                returned = field.plan.call(function, *draws.at(k))
                parts = returned.values() if isinstance(returned, dict) else returned
                found[k] = np.concatenate([np.ravel(np.asarray(one, float)) for one in parts])
            except Exception as raised:  # whatever a function of the user raises
                reason = raised
    return found, reason


def _computed(function: Any, field: NumpyField, draws: ComparedAt) -> tuple[np.ndarray, np.ndarray]:
    """What the field returns at each draw, and whether its derivatives are finite."""

    def flat(y: Any, p: Mapping[str, Any], t: Any, u: Mapping[str, Any]) -> Any:
        return _flat(field.plan.call(field.function, t, y, p, u), field.layout.size)

    def both(*one: Any) -> tuple[Any, Any]:
        slopes = jax.tree.leaves(jax.jacrev(flat, (0, 1))(*one))
        return flat(*one), jnp.stack([jnp.isfinite(own).all() for own in slopes]).all()

    try:
        ours, finite = jax.jit(jax.vmap(both))(draws.states, draws.parameters, draws.times, draws.inputs)
    except BayestwinError:
        raise
    except Exception as reason:
        line = find_line(reason)
        advice = "Write it with `jax.numpy`, and pass it to `bt.Twin` as it is."
        if line is None:
            raise InvalidTwin(
                f"`{function.__qualname__}` cannot become a vector field.",
                expected="a number for each entry of the states",
                received=_first(reason),
                advice=advice,
            ) from reason
        raise InvalidTwin(
            f"`{function.__qualname__}` cannot become a vector field: line {line.number} cannot be traced.",
            expected="steps that JAX can trace" + (f", as `{line.written}`" if line.written else ""),
            received=f"`{line.text}`"
            + ("" if line.needed else f", which raises {type(reason).__name__}: {_first(reason)}"),
            advice=line.advice if line.needed else advice,
        ) from reason
    return np.asarray(ours), np.asarray(finite)


def _first(reason: BaseException) -> str:
    """An exception of Python or JAX in a line."""
    return f"{type(reason).__name__}: {str(reason).partition(chr(10))[0]}"


# Lines: which were reached, and the first that comes out otherwise.


def _lines_of(function: Any) -> set[int]:
    """Lines of a function that compute something; not those that only raise."""
    code = function.__code__
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return set()
    shift = code.co_firstlineno - 1
    raised = {one.lineno + shift for one in ast.walk(tree) if isinstance(one, ast.Raise)}
    return {line for *_, line in code.co_lines() if line and line > code.co_firstlineno} - raised


@contextlib.contextmanager
def _traced(look: Callable[[Any, str, Any], Any]) -> Iterator[None]:
    """Have a function told of each line that is run, as `sys.settrace` tells it."""
    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


def _reaching(code: Any, reached: set[int]) -> contextlib.AbstractContextManager[None]:
    """Note which lines of a function are run."""

    def look(frame: Any, *_: Any) -> Any:
        if frame.f_code is not code:
            return None
        reached.add(frame.f_lineno)
        return look

    return _traced(look)


def _first_difference(function: Callable, field: NumpyField, draws: ComparedAt, place: int) -> int:
    """The first line that gives a variable another value in one than in the other; else the one that returns."""
    plain = _plain(function)
    found = [
        _assigned(own, plain.__code__.co_filename, field.plan, draws.at(place)) for own in (function, field.function)
    ]
    for key in sorted(set(found[0]) & set(found[1])):
        try:
            theirs, ours = (np.asarray(values[key], float) for values in found)
            if theirs.shape != ours.shape or not np.allclose(ours, theirs, rtol=TOLERANCE, atol=0.0, equal_nan=True):
                return key[0]
        except (TypeError, ValueError):  # not numbers
            continue
    return max((line for line, _ in found[0]), default=plain.__code__.co_firstlineno)


def _assigned(function: Callable, file: str, plan: CallPlan, at: tuple) -> dict[tuple[int, str], Any]:
    """Values that lines of a file give to variables, by line and name, while a function is called."""
    values: dict[tuple[int, str], Any] = {}
    last: dict[Any, tuple[int, dict[str, int]]] = {}

    def look(frame: Any, *_: Any) -> Any:
        if frame.f_code.co_filename != file:
            return None
        line, before = last.get(frame, (0, {}))
        for name, value in frame.f_locals.items():
            if line and before.get(name) != id(value) and not name.startswith("_bt_"):
                values[line, name] = np.array(value) if isinstance(value, np.ndarray) else value
        last[frame] = frame.f_lineno, {name: id(value) for name, value in frame.f_locals.items()}
        return look

    with warnings.catch_warnings(), np.errstate(all="ignore"), _traced(look), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        plan.call(function, *at)
    return values
