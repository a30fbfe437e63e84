"""A twin in words and as a fingerprint: what reports show, and what tells whether two results come from one twin."""

import dataclasses
import dis
import functools
import hashlib
import inspect
import json
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from bayestwin._base.keys import nested_codes
from bayestwin.model.black_box import OwnStart
from bayestwin.model.components import State
from bayestwin.model.noise.families import Noise
from bayestwin.model.pooling import Pooled
from bayestwin.model.quantities import unit_of
from bayestwin.model.twin import Twin
from bayestwin.model.types import ByExperiment, Column, Event, First, SteadyState, varies

EXACT, FEW = 17, 6
"""Digits that tell any two numbers apart; and of how many numbers all are shown to people."""


def describe(twin: Twin, digits: int = 6) -> dict[str, Any]:
    """The twin as plain text, ready for JSON.

    Args:
        twin: The twin.
        digits: Significant digits of numbers in priors.

    Returns:
        Name, words, source of the vector field, and a list each for states, parameters, inputs and observations.
    """
    found: dict[str, Any] = {
        "name": twin.name,
        "doc": inspect.cleandoc(twin.doc or ("" if twin.black_box else twin.vector_field.__doc__) or ""),
        "equations": twin.black_box.words if twin.black_box else source(twin.vector_field),
        "time_unit": twin.time_unit,
        "solver": _solver_text(twin),
        "states": [
            {"name": n, "unit": s.unit, "doc": s.doc, "initial": initial_text(s, digits)}
            | ({"positive": True} if s.positive else {})
            | ({"shared": True} if s.shared else {})
            | ({"dimensions": {dim: labels.tolist() for dim, labels in s.axes(n).items()}} if s.shape else {})
            for n, s in twin.states.items()
        ],
        "parameters": [
            {"name": n, "unit": p.unit, "doc": p.doc, "prior": prior_text(p.prior, digits)}
            | ({} if p.shared else {"shared": False})
            for n, p in twin.parameters.items()
        ],
        "inputs": [
            {"name": n, "unit": i.unit, "doc": i.doc, "hold": i.hold, "beyond": i.beyond}
            | ({} if i.period is None else {"period": i.period})
            | ({} if i.before is None else {"before": i.before})
            for n, i in twin.inputs.items()
        ],
        "observations": [
            {
                "name": n,
                "unit": o.unit,
                "doc": o.doc,
                "noise": noise_text(o.noise, digits),
                "of": f"state `{n}`" if o.of is None else source(o.of),
            }
            | ({} if o.reads == "value" else {"reads": f"{o.reads} since the last {o.begins}"})
            | ({"correlated": dict(o.correlated)} if o.correlated else {})
            for n, o in twin.observations.items()
        ],
    }
    if twin.events:
        found["events"] = [_event(name, event) for name, event in twin.events.items()]
    if twin.quantities:
        found["quantities"] = [
            {"name": n, "unit": unit_of(twin, q), "doc": q.doc, "kind": type(q).__name__}
            | {"of": q.of if isinstance(q.of, str) else source(q.of)}
            for n, q in twin.quantities.items()
        ]
    if twin.model_error is not None:
        error = twin.model_error
        found["model_error"] = {
            "kind": type(error).__name__,
            "settings": {name: getattr(error, name) for name in error.settings},
            "quantities": [
                {"name": n, "unit": q.unit, "doc": q.doc, "prior": prior_text(q.prior, digits)}
                for n, q in twin.error_quantities().items()
            ],
        }
    return found


def _solver_text(twin: Twin) -> str:
    if twin.black_box:
        return "the model's own"
    return f"{twin.solver.method}, rtol {twin.solver.rtol:g}, atol {twin.solver.atol:g}"


PARTS = {"equations": "the vector field", "time_unit": "the unit of time", "solver": "the solver"}
"""What of a description decides a posterior and is no list of members."""

MEMBERS = ("states", "parameters", "inputs", "observations", "events")


def what_differs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Parts of a twin in which two descriptions, as `describe` makes them, differ: `parameter x` and the like.

    What only explains, and quantities of interest, are no difference; nor is what a function calls elsewhere told.
    """
    found = [words for key, words in PARTS.items() if ours.get(key) != theirs.get(key)]
    for kind in MEMBERS:
        mine, other = (
            {one["name"]: {key: value for key, value in one.items() if key != "doc"} for one in of.get(kind, ())}
            for of in (ours, theirs)
        )
        found += [f"{kind[:-1]} `{n}`" for n in dict.fromkeys((*mine, *other)) if mine.get(n) != other.get(n)]
    return found + (["the model error"] if ours.get("model_error") != theirs.get("model_error") else [])


def _event(name: str, event: Event) -> dict[str, Any]:
    happens = {"telemetry": f"where the telemetry has `{name}`", "scheduled": "at given times", "triggered": "by state"}
    happens["inferred"] = "at times that parameters say"
    found = {"name": name, "unit": event.unit, "doc": event.doc, "happens": happens[event.kind]}
    found |= {"effect": source(event.effect)}
    if event.at is not None:
        found |= {"at": source(event.at) if callable(event.at) else [float(t) for t in event.at]}
    return found if event.when is None else found | {"when": source(event.when)}


def fingerprint(twin: Twin) -> str:
    """SHA-256 over everything that changes the posterior: equations, priors, units, noise, solver, model error.

    What predictions are asked for beside observations does not.
    """
    twin = dataclasses.replace(twin, quantities={}) if twin.quantities else twin
    code = [bytecode(twin.own_field)]
    functions: list[Any] = [o.of for o in twin.observations.values()]
    functions += [s.initial for s in twin.states.values() if s.derived]
    steady = [s.initial for s in twin.states.values() if isinstance(s.initial, SteadyState)]
    functions += [function for one in steady for function in (one.guess, one.under, one.then)]
    functions += [p.prior for p in twin.parameters.values() if p.dependent]
    functions = [one for one in functions if not isinstance(one, Pooled)]  # told whole by their words
    priors = (*(s.initial for s in twin.states.values()), *(p.prior for p in twin.parameters.values()))
    functions += [prior.prior for prior in priors if isinstance(prior, First)]
    functions += [f for event in twin.events.values() for f in (event.effect, event.when, event.at)]
    layers = [layer for o in twin.observations.values() for layer in o.noise.layers()]
    functions += [setting for layer in layers for setting in vars(layer).values() if callable(setting)]
    code += [bytecode(function) for function in functions if callable(function)]
    code += [text for layer in layers for text in _own_code(type(layer))]
    code += [bytecode(own) for layer in layers for own in layer.own_parameters.values() if varies(own)]  # type: ignore[arg-type]
    text = json.dumps([_without_words(describe(twin, digits=EXACT)), twin.solver.max_steps, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _own_code(noise: type[Noise]) -> Iterator[str]:
    """What the classes of a noise model from outside the package do and state; the version stands for those inside."""
    for one in noise.__mro__:
        if not issubclass(one, Noise) or one.__module__.split(".")[0] == "bayestwin":
            continue
        for name, held in sorted(vars(one).items()):
            value: Any = held.fget if isinstance(held, property) else getattr(held, "__func__", held)
            written = isinstance(value, types.FunctionType) and not value.__code__.co_filename.startswith("<")
            if written:
                yield name + source(value) + bytecode(value)
            elif isinstance(value, constraints.Constraint):
                yield name + repr(value)
            elif not name.startswith("_") and not callable(value):
                yield name + _outside(value, frozenset())


def _without_words(description: Any) -> Any:
    """A description less its `doc`: a better word for a parameter does not change the posterior."""
    if isinstance(description, dict):
        return {key: _without_words(value) for key, value in description.items() if key != "doc"}
    return [_without_words(one) for one in description] if isinstance(description, list) else description


def source(function: Callable) -> str:
    """Source text of a function, or a note where Python does not have it."""
    try:
        return inspect.cleandoc("\n" + inspect.getsource(function))
    except (OSError, TypeError):
        return f"(source of {getattr(function, '__name__', 'function')} not available)"


def bytecode(function: Callable, seen: frozenset[int] = frozenset()) -> str:
    """What a function does beyond its source text: constants, and what it takes from outside, the user's own helpers.

    Args:
        function: The function.
        seen: Code already described on the way to it.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return _outside(function, seen)
    inner = list(nested_codes(code))
    constants = [c for one in inner for c in one.co_consts if isinstance(c, int | float | str | tuple)]
    closed = inspect.getclosurevars(function).nonlocals
    loaded = {i.argval for one in inner for i in dis.get_instructions(one) if i.opname == "LOAD_GLOBAL"}
    found = dict(closed) | {n: v for n, v in function.__globals__.items() if n in loaded}
    outside = [(name, _outside(found[name], seen | {id(code)})) for name in sorted(found)]
    return repr(([(one.co_names, one.co_varnames) for one in inner], constants, outside))


def _outside(value: Any, seen: frozenset[int]) -> str:
    """A value that a function takes from outside; libraries count by name only."""
    if isinstance(value, int | float | str | tuple | list | dict):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return repr(np.asarray(value).tolist())
    if isinstance(value, functools.partial):
        return repr((_outside(value.func, seen), value.args, value.keywords))
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, types.FunctionType):
        code = value.__code__
        paths = sysconfig.get_paths()
        if id(code) in seen or code.co_filename.startswith((paths["purelib"], paths["stdlib"])):
            return value.__name__
        return source(value) + bytecode(value, seen)
    return getattr(value, "__name__", type(value).__name__)


def noise_text(noise: Noise, digits: int = 6) -> str:
    """A noise model in words, e.g. `Censored(Gaussian(scale ~ HalfNormal(0.5)), upper = 10)`."""
    parts = []
    own = dict(noise.own_parameters)
    for name, value in ({n: v for n, v in vars(noise).items() if n not in own and n != "priors"} | own).items():
        if isinstance(value, Noise):
            parts.append(noise_text(value, digits))
        elif isinstance(value, dist.Distribution):
            parts.append(f"{name} ~ {prior_text(value, digits)}")
        elif isinstance(value, int | float):
            parts.append(f"{name} = {value:.{digits}g}")
        elif isinstance(value, Column):
            parts.append(f"{name} = {_column_text(value, digits)}")
        elif isinstance(value, constraints.Constraint):
            parts.append(f"{name} {value!r}")
        elif value is not None and not isinstance(value, str) and not callable(value):
            parts.append(f"{name} = {_outside(value, frozenset())}")
        elif value is not None:
            parts.append(f"{name} = {value}" if isinstance(value, str) else " ".join(source(value).split()))
    return f"{type(noise).__name__}({', '.join(parts)})"


def _column_text(column: Column, digits: int) -> str:
    """A column that noise takes from the telemetry, in words, e.g. "2 × column `voltage_sd`"."""
    factor, told = column.factor, f"column `{column.name}`"
    if isinstance(factor, dist.Distribution):
        return f"{told} × factor ~ {prior_text(factor, digits)}"
    if isinstance(factor, str):
        return f"{told} × {factor}"
    return told if factor == 1.0 else f"{factor:.{digits}g} × {told}"


def initial_text(state: State, digits: int = 6) -> str:
    """Where a state starts, in words."""
    initial: Any = state.initial
    if isinstance(initial, OwnStart):
        return initial.words
    if isinstance(initial, SteadyState):
        guess = initial.guess
        text = f"equilibrium, sought from {source(guess) if callable(guess) else f'{guess or 0.0:.{digits}g}'}"
        text += f", under {source(initial.under)}" if initial.under else ""
        return text + (f", then {source(initial.then)}" if initial.then else "")
    return prior_text(initial, digits)


def prior_text(prior: Any, digits: int = 6) -> str:
    """A prior in words, e.g. `Normal(1, 0.5) truncated to > 0`, the known number, or the function that makes it."""
    if isinstance(prior, ByExperiment):
        return "; ".join(f"{name}: {number:.{digits}g}" for name, number in prior.numbers.items()) + " (known)"
    if isinstance(prior, First):
        around = "" if prior.prior is None else f", {source(prior.prior)}"
        return f"first value of {prior.column}{around}"
    if isinstance(prior, Pooled):
        return prior.words
    if callable(prior) and not isinstance(prior, dist.Distribution):
        return source(prior)
    if not isinstance(prior, dist.Distribution):
        numbers = [f"{number:.{digits}g}" for number in np.asarray(prior, float).ravel()]
        if np.ndim(prior) == 0:
            return f"{numbers[0]} (known)"
        shown = numbers if digits >= EXACT or len(numbers) <= FEW else [*numbers[: FEW - 2], "…", numbers[-1]]
        return f"[{', '.join(shown)}] ({len(numbers)} known)"
    base = getattr(prior, "base_dist", None)
    low, high = (_number(getattr(prior, end, None), digits) for end in ("low", "high"))
    if isinstance(base, dist.Distribution) and (low or high):
        bounds = f"({low}, {high})" if low and high else f"> {low}" if low else f"< {high}"
        return f"{prior_text(base, digits)} truncated to {bounds}"
    arguments = [_number(getattr(prior, name), digits) for name in prior.arg_constraints]
    if isinstance(prior, dist.TransformedDistribution) and not arguments:
        arguments = [prior_text(prior.base_dist, digits)]
        for transform in prior.transforms:
            settings = [f"{k}={_number(v, digits)}" for k, v in sorted(vars(transform).items()) if _is_number(v)]
            arguments.append(f"{type(transform).__name__}({', '.join(settings)})")
    return f"{type(prior).__name__}({', '.join(arguments)})"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.generic | jax.Array) and np.ndim(value) == 0


def _number(value: Any, digits: int) -> str:
    if value is None:
        return ""
    try:
        return f"{float(value):.{digits}g}"
    except TypeError:
        return str(value)
