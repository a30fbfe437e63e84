"""What can be wrong in a twin, found when it is built and said in the user's own names."""

import itertools
import keyword
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpyro.distributions as dist

from bayestwin._base.units import check_unit, difference_unit, has_offset
from bayestwin.errors import InvalidTwin
from bayestwin.model.black_box import BlackBox, check_black_box
from bayestwin.model.components import Input, Observation, Parameter, Solver, State
from bayestwin.model.delays import with_timed_inputs
from bayestwin.model.dependence import Fault, fault_of
from bayestwin.model.error import ModelError, ProcessNoise, check_positive
from bayestwin.model.noise.families import Noise, check_shared, trace_noise
from bayestwin.model.tracing import (
    Shapes,
    num_arguments,
    trace_effect,
    trace_initial,
    trace_scalar,
    trace_times,
    trace_vector_field,
)
from bayestwin.model.types import ByExperiment, Column, Event, First, SteadyState, by_row, varies

type Checked = Any
"""A `Twin`, whose module imports this one."""

DIMENSIONS = ("chain", "draw", "time", "experiment")
"""Dimensions of a result; nothing in a twin can be called so."""


def check_twin(twin: Checked) -> None:
    """Check everything that can be checked without telemetry.

    Raises:
        InvalidTwin: If names, priors, shapes or units do not fit together.
    """
    check_name(twin.name, "the twin")
    _check_members(twin)
    check_axes(twin.states)
    _check_choices(twin)
    _check_model_error(twin)
    _check_correlated(twin)
    _check_priors(twin)
    if isinstance(twin.vector_field, BlackBox):
        check_black_box(twin)
    shapes = twin.shapes
    delayed = with_timed_inputs(twin.vector_field, twin.delayed) if twin.delayed else twin.vector_field
    trace_vector_field(delayed, f"The vector field of twin `{twin.name}`", shapes)
    for name, observation in twin.observations.items():
        if observation.of is not None:
            trace_scalar(observation.of, f"`of=` of observation `{name}`", shapes)
        elif name not in twin.states:
            raise InvalidTwin(
                f"Observation `{name}` says nothing about what it observes.",
                expected="the name of a state, or `of=function(t, x, p, u)`",
                received=f"`{name}`, with the states {_names(twin.states)}",
                advice="Rename it to a state, or pass `of=`.",
            )
        elif twin.states[name].shape:
            raise InvalidTwin(
                f"Observation `{name}` does not say which entry of the state it observes.",
                expected="a scalar",
                received=f"the state `{name}`, of shape {twin.states[name].shape}",
                advice=f"Pass `of=lambda t, x, p, u: x.{name}[…]`, perhaps under another name.",
            )
        if observation.reads in ("total", "change") and has_offset(observation.unit):
            raise InvalidTwin(
                f"Observation `{name}` is a {observation.reads}, which has no zero of a scale of temperature.",
                expected=f"`K`, or `{difference_unit(observation.unit)}`",
                received=f"`{observation.unit}`",
                advice="Give the unit of a difference, to the twin and to the telemetry.",
            )
        for key, quantity in observation.noise.parameters.items():
            if varies(quantity):
                trace_scalar(quantity, f"`{key}=` of the noise of observation `{name}`", shapes)  # type: ignore[arg-type]
        trace_noise(observation.noise, f"observation `{name}`")
    for name, state in twin.states.items():
        if state.derived:
            _check_derived(twin, name, state)
        if isinstance(state.initial, SteadyState):
            _check_steady(name, state.initial, state.shape, shapes)
    _check_one_past(twin)
    for name, event in twin.events.items():
        _check_event(name, event, shapes)
    if isinstance(twin.model_error, ProcessNoise):
        _check_disturbed(twin)


def _check_derived(twin: Checked, name: str, state: State) -> None:
    """That a state can start from what its function returns, where that is no prior."""
    if f"{name}_initial" in twin.dependences:
        return
    given = twin.shapes[1:] if num_arguments(state.initial) == 2 else twin.shapes[1:2]
    trace_initial(state.initial, f"`initial=` of state `{name}`", given, state.shape, "(p)", "(p, u)")


def _check_steady(name: str, steady: SteadyState, shape: tuple[int, ...], shapes: tuple[Shapes, ...]) -> None:
    """That the functions of a start in equilibrium trace."""
    if callable(steady.guess):
        trace_initial(steady.guess, f"the guess of state `{name}`", (shapes[1],), shape)
    if (under := steady.under) is not None:
        trace_effect(lambda t, x, p, u: under(p), f"`under=` of state `{name}`", ({}, shapes[1], {}))  # noqa: ARG005
    if steady.then is not None:
        trace_initial(steady.then, f"`then=` of state `{name}`", (shapes[1], shapes[0]), shape, "(p, x)")


def _check_one_past(twin: Checked) -> None:
    """That all states that start in equilibrium were in the same one."""
    pasts = {n: s.initial.under for n, s in twin.states.items() if isinstance(s.initial, SteadyState)}
    if len({id(under) for under in pasts.values()}) > 1:
        raise InvalidTwin(
            f"States of twin `{twin.name}` are said to have been in equilibrium under different circumstances.",
            expected="the same function `under=` for each `bt.SteadyState`",
            received=", ".join(f"`{n}`: {getattr(u, '__name__', None) or 'none'}" for n, u in pasts.items()),
            advice="Write one function above the twin, and name it in all of them.",
        )


def changed_by(twin: Checked, name: str) -> tuple[str, ...]:
    """What an event changes: names of states and parameters."""
    states, parameters, inputs = twin.shapes
    given = states, parameters, {**inputs, name: ()}
    return tuple(trace_effect(twin.events[name].effect, f"`effect=` of event `{name}`", given))


def _check_event(name: str, event: Event, shapes: tuple[Shapes, ...]) -> None:
    """That its functions trace, and its times are times."""
    states, parameters, inputs = shapes
    trace_effect(event.effect, f"`effect=` of event `{name}`", (states, parameters, {**inputs, name: ()}))
    if event.when is not None:
        trace_scalar(event.when, f"`when=` of event `{name}`", shapes)
    if callable(event.at):
        trace_times(event.at, f"`at=` of event `{name}`", parameters)
    given = () if event.at is None or callable(event.at) else event.at
    increasing = all(a < b for a, b in itertools.pairwise(given))
    if increasing and (event.at is None or event.when is None):
        return
    raise InvalidTwin(
        f"Event `{name}` does not say clearly when it happens.",
        expected="`at=` increasing times or a function of parameters, `when=` a function of states, or neither for a "
        "column of the telemetry",
        received=f"at={event.at!r}, when={event.when!r}",
        advice="Make two events of it, or sort the times.",
    )


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in mapping) or "none"


def check_name(name: object, owner: str) -> None:
    """Names become attributes, columns, files: refuse what is not a plain identifier."""
    if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_"):
        return
    raise InvalidTwin(
        f"The name of {owner} cannot be used.",
        expected="letters, digits and `_`, not starting with a digit or `_`, not a Python keyword",
        received=f"{name!r}",
        advice="Choose a plain identifier; put longer words into `doc=`.",
    )


def _check_members(twin: Checked) -> None:
    """Names, types and units of states, parameters, inputs and observations."""
    groups = {"states": State, "parameters": Parameter, "inputs": Input, "observations": Observation}
    groups["events"] = Event
    for group, kind in groups.items():
        members = getattr(twin, group)
        if not isinstance(members, Mapping):
            raise InvalidTwin(
                f"`{group}` of twin `{twin.name}` have no names.",
                expected=f"a dict, `{{name: bt.{kind.__name__}(…)}}`",
                received=f"{type(members).__name__}",
                advice="Give each a name, by which the equations call it.",
            )
        if not members and group in ("states", "observations"):
            raise InvalidTwin(
                f"Twin `{twin.name}` has no {group}.",
                expected=f"at least one, `{group}={{name: bt.{kind.__name__}(…)}}`",
                received="none",
                advice="Without it there is nothing to solve or to compare with.",
            )
        for name, member in members.items():
            owner = f"{kind.__name__.lower()} `{name}`"
            check_name(name, owner)
            if not isinstance(member, kind):
                raise InvalidTwin(
                    f"`{group}` of twin `{twin.name}` holds something else under `{name}`.",
                    expected=f"bt.{kind.__name__}(…)",
                    received=f"{type(member).__name__}",
                    advice=f"Wrap it: `bt.{kind.__name__}(…)`.",
                )
            check_unit(member.unit, owner, InvalidTwin)
    for name, observation in twin.observations.items():
        if not isinstance(observation.noise, Noise):
            raise InvalidTwin(
                f"Observation `{name}` has no noise model.",
                expected="a noise model such as bt.Gaussian, bt.LogNormal or bt.Poisson",
                received=f"{type(observation.noise).__name__}",
                advice="For example `noise=bt.Gaussian(scale=dist.HalfNormal(1.0))`.",
            )
    check_unit(twin.time_unit, f"the time of twin `{twin.name}`", InvalidTwin)


def _check_choices(twin: Checked) -> None:
    """Settings that are one word out of a few."""
    if not isinstance(twin.solver, Solver):
        raise InvalidTwin(
            f"The solver of twin `{twin.name}` is something else.",
            expected='bt.Solver(…), for example bt.Solver("rodas5p")',
            received=f"{twin.solver!r}",
            advice="Wrap it: `solver=bt.Solver(…)`.",
        )
    choices = [(f"`hold` of input `{n}`", i.hold, ("linear", "previous", "cubic")) for n, i in twin.inputs.items()]
    choices += [(f"`beyond` of input `{n}`", i.beyond, ("error", "hold", "periodic")) for n, i in twin.inputs.items()]
    choices += [
        (f"`reads` of observation `{n}`", o.reads, ("value", "mean", "total", "change"))
        for n, o in twin.observations.items()
    ]
    choices += [(f"`since` of observation `{n}`", o.begins, ("row", "reading")) for n, o in twin.observations.items()]
    choices += [("`method` of the solver", twin.solver.method, ("auto", "exact", "tsit5", "rodas5p"))]
    for name, spec in twin.inputs.items():
        _check_period(name, spec)
    for owner, received, allowed in choices:
        if received not in allowed:
            raise InvalidTwin(
                f"{owner} is unknown.",
                expected=" or ".join(f'"{word}"' for word in allowed),
                received=f"{received!r}",
                advice="Use one of these words.",
            )


def _check_priors(twin: Checked) -> None:
    """Priors are scalar and continuous, known values are numbers."""
    priors: dict[str, object] = {f"parameter `{n}`": p.prior for n, p in twin.parameters.items() if not p.dependent}
    for name, state in twin.states.items():
        if state.derived or isinstance(state.initial, SteadyState):
            continue
        if not _is_array(state, name):
            priors[f"the initial value of state `{name}`"] = state.initial
    for name, one in twin.dependences.items():
        if one.fault:
            owner = f"parameter `{name}`" if name in twin.parameters else f"the initial value of state `{name[:-8]}`"
            raise _unfit(owner, one.fault)
    parameter_units = {name: parameter.unit for name, parameter in twin.parameters.items()}
    for name, observation in twin.observations.items():
        noise, owner = observation.noise, f"observation `{name}`"
        check_shared(noise, owner, (observation.unit, twin.time_unit), parameter_units)
        _check_rows(noise, owner)
        own = {f"noise `{k}` of {owner}": p for k, p in noise.parameters.items()}
        factors = {f"`factor` of {k}": p.factor for k, p in own.items() if isinstance(p, Column)}
        for factored, factor in factors.items():
            if not isinstance(factor, str):
                check_positive(factor, factored)
        priors |= {k: p for k, p in (own | factors).items() if not isinstance(p, str) and not by_row(p)}
    priors |= {f"`{name}` of the model error": q.prior for name, q in twin.error_quantities().items()}
    for owner, prior in priors.items():
        _check_prior(prior, owner)
    for name, parameter in twin.parameters.items():
        _check_own(name, parameter)
    for site in twin.sites():
        parents = twin.differing.intersection(twin.dependences[site.name].parents) if site.dependent else ()
        if site.shared and parents:
            raise InvalidTwin(
                f"`{site.name}` is said to be the same in all experiments, and its prior is not.",
                expected="`shared=False`, or a prior made of what all experiments have in common",
                received=f"a prior that depends on {_names(dict.fromkeys(sorted(parents)))}, of which each has its own",
                advice="Say `shared=False`: each experiment then draws from a prior of its own.",
            )


def _is_array(state: State, name: str) -> bool:
    """Whether a state is known to start from an array; refuse one that does not fit it."""
    initial: Any = state.initial
    if not (isinstance(initial, list | tuple) or hasattr(initial, "__array__")):
        return False
    try:
        values = np.asarray(initial, float)
        fine, received = bool(np.isfinite(values).all()), f"shape {values.shape}"
    except (TypeError, ValueError):
        fine, received, values = False, f"{initial!r}", np.zeros(())
    if fine and values.shape == state.shape and state.shape:
        return True
    raise InvalidTwin(
        f"The initial value of state `{name}` does not fit it.",
        expected=f"finite numbers of shape {state.shape}" if state.shape else "one number, or a prior",
        received=received if fine else f"{received}, not all of them finite numbers",
        advice="Give as many as the state has entries, or one number for all of them."
        if state.shape
        else "An array of states says so: `bt.State(initial, size=…)`.",
    )


def check_axes(states: Mapping[str, State]) -> None:
    """Refuse sizes and dimensions of states that are none, or of which two states say different things.

    Raises:
        InvalidTwin: Naming the state.
    """
    known: dict[str, tuple[str, Any]] = {}
    for name, state in states.items():
        if state.size is not None and not (type(state.size) is int and state.size > 0 and state.coords is None):
            raise InvalidTwin(
                f"The size of state `{name}` makes no sense.",
                expected="`size=` a positive integer, or `coords=` the labels along each dimension",
                received=f"size={state.size!r}, coords={state.coords!r}",
                advice='For example `size=50`, or `coords={"cell": range(50)}`.',
            )
        if state.coords is not None and not _fine_coords(state.coords):
            raise InvalidTwin(
                f"The dimensions of state `{name}` cannot be used.",
                expected="by the name of each dimension different labels, numbers or text, at least one",
                received=f"{state.coords!r}",
                advice='For example `coords={"cell": [0.1, 0.2, 0.3]}`; '
                f"{', '.join(f'`{dim}`' for dim in DIMENSIONS)} are taken.",
            )
        for dim, labels in state.axes(name).items():
            other, before = known.setdefault(dim, (name, labels))
            if not np.array_equal(before, labels):
                raise InvalidTwin(
                    f"States `{other}` and `{name}` differ in what the dimension `{dim}` is.",
                    expected="the same labels in both",
                    received=f"{len(before)} and {len(labels)} labels that are not the same",
                    advice="Give one of the two dimensions another name.",
                )


def _fine_coords(coords: Any) -> bool:
    """Whether these are dimensions with names and labels."""
    if not isinstance(coords, Mapping) or not coords:
        return False
    for dim, labels in coords.items():
        check_name(dim, "the dimension of a state")
        found = np.asarray(labels)
        if dim in DIMENSIONS or found.ndim != 1 or not found.size or found.dtype.kind not in "iufU":
            return False
        if len(np.unique(found)) < len(found) or (found.dtype.kind == "f" and not np.isfinite(found).all()):
            return False
    return True


def _check_rows(noise: Noise, owner: str) -> None:
    """Check that what has another value in each row may have one, and that columns have a name.

    Raises:
        InvalidTwin: If not.
    """
    constant = {name for layer in noise.layers() for name in layer.constant}
    for name, quantity in noise.parameters.items():
        if by_row(quantity) and name in constant:
            raise InvalidTwin(
                f"Noise `{name}` of {owner} cannot be another one in each row.",
                expected="a prior, a number, or the name of a parameter of the twin",
                received="a function" if varies(quantity) else f"{quantity!r}",
                advice="Let the scale change from row to row instead.",
            )
        if isinstance(quantity, Column) and not (isinstance(quantity.name, str) and quantity.name):
            raise InvalidTwin(
                f"The column of noise `{name}` of {owner} has no name.",
                expected='the name of a column of the telemetry, such as `bt.Column("voltage_sd")`',
                received=f"{quantity.name!r}",
                advice="Name the column as `rename` calls it.",
            )


def _check_prior(prior: object, owner: str) -> None:
    if _is_number(prior) or isinstance(prior, First):
        return
    if isinstance(prior, ByExperiment):
        wrong = [name for name, number in prior.numbers.items() if not (isinstance(name, str) and _is_number(number))]
        if prior.numbers and not wrong:
            return
        raise InvalidTwin(
            f"The numbers of {owner} cannot be used.",
            expected='by the name of each experiment a finite number: `{"first": 1.0, "second": 2.0}`',
            received=", ".join(f"{name!r}: {prior.numbers[name]!r}" for name in wrong) or "an empty mapping",
            advice="A prior holds for all experiments, each of which draws from it; one that differs is "
            "made of a known number, `bt.Parameter(lambda p: dist.Normal(p.known, 0.1), shared=False)`.",
        )
    fault = fault_of(prior)
    if fault is not None:
        raise _unfit(owner, fault)


def _unfit(owner: str, fault: Fault) -> InvalidTwin:
    expected, received, advice = fault
    return InvalidTwin(f"The prior of {owner} cannot be used.", expected=expected, received=received, advice=advice)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_model_error(twin: Checked) -> None:
    """That it is one, and goes with the rest of the twin."""
    if twin.model_error is None:
        return
    if not isinstance(twin.model_error, ModelError):
        raise InvalidTwin(
            f"The model error of twin `{twin.name}` is something else.",
            expected="bt.ProcessNoise(…), bt.Discrepancy(…), or None",
            received=f"{twin.model_error!r}",
            advice="For example `model_error=bt.ProcessNoise(scale={'<state>': dist.HalfNormal(1.0)})`.",
        )
    twin.model_error.check(twin.units, {name: o.noise for name, o in twin.observations.items()})


def _check_disturbed(twin: Checked) -> None:
    """That a filter can follow the states."""
    hindrances = [f"event `{name}`, which the state triggers" for name in twin.triggered]
    hindrances += [f"event `{n}`, whose time is inferred" for n, e in twin.events.items() if e.kind == "inferred"]
    hindrances += [f"input `{name}`, which is delayed" for name in twin.delayed]
    hindrances += [f"parameter `{name}`, which an event changes" for name in twin.switched]
    hindrances += [f"state `{name}`, which is positive" for name, state in twin.states.items() if state.positive]
    hindrances += [f"state `{name}`, which is an array" for name, state in twin.states.items() if state.shape]
    hindrances += [f"input `{name}`, which is cubic" for name, spec in twin.inputs.items() if spec.hold == "cubic"]
    hindrances += [
        f"observation `{n}`, which is no value at a time" for n, o in twin.observations.items() if o.reads != "value"
    ]
    if hindrances:
        raise InvalidTwin(
            f"Process noise does not go with {hindrances[0]}.",
            expected="scalar states of any sign, linear or held inputs, values that are read at a time, events of "
            "known time that change states alone",
            received=", ".join(hindrances),
            advice="Write it as an input or another state, or leave process noise out.",
        )


def _check_correlated(twin: Checked) -> None:
    """That correlated noise is normal, that both sensors are there, and that each pair is told once."""
    hindrances, pairs = [], twin.correlated
    for (name, other), own in pairs.items():
        pair = f"`{name}` with `{other}`"
        if other not in twin.observations or other == name:
            hindrances.append(f"{pair}, which is no other observation")
            continue
        if (other, name) in pairs and name < other:
            hindrances.append(f"{pair}, told twice")
        if isinstance(own, str) and own not in twin.parameters:
            hindrances.append(f"{pair} by `{own}`, which is no parameter")
        if not isinstance(own, str) and not (_is_number(own) and -1.0 < own < 1.0):
            hindrances.append(f"{pair} by {own!r}")
        noises = {one: twin.observations[one].noise for one in (name, other)}
        hindrances += [f"{pair}: {type(n).__name__} of `{one}`" for one, n in noises.items() if not n.normal]
        if twin.model_error is not None:
            hindrances.append(f"{pair}, and a model error")
    if hindrances:
        raise InvalidTwin(
            f"Noise of twin `{twin.name}` cannot be correlated: {hindrances[0]}.",
            expected="`correlated={'<another observation>': …}`, a number between -1 and 1 or the name of a parameter, "
            "with noise that is normal (bt.Gaussian, bt.Proportional, bt.LogNormal), no model error, each pair once",
            received="; ".join(hindrances),
            advice="For example `correlated={'<other>': 'rho'}` and a parameter `rho` with `dist.Uniform(-1, 1)`.",
        )


def _check_own(name: str, parameter: Parameter) -> None:
    """What is another value in each experiment is inferred."""
    if parameter.shared or isinstance(parameter.prior, dist.Distribution | ByExperiment | First) or parameter.dependent:
        return
    raise InvalidTwin(
        f"Parameter `{name}` is said to differ between experiments, and is known.",
        expected="a prior, from which each experiment has its own value",
        received=f"{parameter.prior!r}",
        advice="Give it a prior; what is known and changes over time or between experiments is an input.",
    )


def _check_period(name: str, spec: Input) -> None:
    if spec.before is not None and not (isinstance(spec.before, int | float) and math.isfinite(spec.before)):
        raise InvalidTwin(
            f"`before` of input `{name}` is not a value.",
            expected="a number, or nothing for what the input is at its first sample",
            received=f"{spec.before!r}",
            advice="Give what the input was before the record begins, in its unit.",
        )
    fine = spec.period is None if spec.beyond != "periodic" else spec.period is not None and spec.period > 0.0
    if fine:
        return
    raise InvalidTwin(
        f"Input `{name}` does not say how it repeats itself.",
        expected='`beyond="periodic"` and a positive `period=`, or neither',
        received=f'beyond="{spec.beyond}", period={spec.period!r}',
        advice="Give the period in the twin's time unit, e.g. 24 for a day of hours.",
    )
