"""What can be wrong in a twin, found when it is built and said in the user's own names."""

import itertools
import keyword
import math
from collections.abc import Mapping
from typing import Any

import numpyro.distributions as dist

from bayestwin._base.units import check_unit
from bayestwin.errors import InvalidTwin
from bayestwin.model.components import Input, Observation, Parameter, Solver, State
from bayestwin.model.delays import with_timed_inputs
from bayestwin.model.error import ModelError, ProcessNoise
from bayestwin.model.noise.families import Noise, check_shared, trace_noise
from bayestwin.model.tracing import trace_effect, trace_initial, trace_scalar, trace_times, trace_vector_field
from bayestwin.model.types import Event, SteadyState

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
    _check_choices(twin)
    _check_model_error(twin)
    _check_priors(twin)
    names = (tuple(twin.states), tuple(twin.parameters), tuple(twin.inputs))
    delayed = with_timed_inputs(twin.vector_field, twin.delayed) if twin.delayed else twin.vector_field
    trace_vector_field(delayed, f"The vector field of twin `{twin.name}`", names)
    for name, observation in twin.observations.items():
        if observation.of is not None:
            trace_scalar(observation.of, f"`of=` of observation `{name}`", names)
        elif name not in twin.states:
            raise InvalidTwin(
                f"Observation `{name}` says nothing about what it observes.",
                expected="the name of a state, or `of=function(t, x, p, u)`",
                received=f"`{name}`, with the states {_names(twin.states)}",
                advice="Rename it to a state, or pass `of=`.",
            )
        trace_noise(observation.noise, f"observation `{name}`")
    for name, state in twin.states.items():
        if state.derived:
            trace_initial(state.initial, f"`initial=` of state `{name}`", tuple(twin.parameters))
        if isinstance(state.initial, SteadyState) and callable(state.initial.guess):
            trace_initial(state.initial.guess, f"the guess of state `{name}`", tuple(twin.parameters))
    for name, event in twin.events.items():
        _check_event(name, event, names)
    if isinstance(twin.model_error, ProcessNoise):
        _check_disturbed(twin)


def changed_by(twin: Checked, name: str) -> tuple[str, ...]:
    """What an event changes: names of states and parameters."""
    names = (tuple(twin.states), tuple(twin.parameters), (*twin.inputs, name))
    return tuple(trace_effect(twin.events[name].effect, f"`effect=` of event `{name}`", names))


def _check_event(name: str, event: Event, names: tuple[tuple[str, ...], ...]) -> None:
    """That its functions trace, and its times are times."""
    states, parameters, inputs = names
    trace_effect(event.effect, f"`effect=` of event `{name}`", (states, parameters, (*inputs, name)))
    if event.when is not None:
        trace_scalar(event.when, f"`when=` of event `{name}`", names)
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
    priors: dict[str, object] = {f"parameter `{n}`": p.prior for n, p in twin.parameters.items()}
    for name, state in twin.states.items():
        if not (state.derived or isinstance(state.initial, SteadyState)):
            priors[f"the initial value of state `{name}`"] = state.initial
    parameter_units = {name: parameter.unit for name, parameter in twin.parameters.items()}
    for name, observation in twin.observations.items():
        noise, owner = observation.noise, f"observation `{name}`"
        check_shared(noise, owner, (observation.unit, twin.time_unit), parameter_units)
        priors |= {f"noise `{k}` of {owner}": p for k, p in noise.parameters.items() if not isinstance(p, str)}
    priors |= {f"`{name}` of the model error": q.prior for name, q in twin.error_quantities().items()}
    for owner, prior in priors.items():
        _check_prior(prior, owner)
    for name, parameter in twin.parameters.items():
        _check_own(name, parameter)


def _check_prior(prior: object, owner: str) -> None:
    if isinstance(prior, int | float) and not isinstance(prior, bool) and math.isfinite(prior):
        return
    expected, received = "a scalar NumPyro distribution, or a finite number when the value is known", None
    if not isinstance(prior, dist.Distribution):
        received = "nothing" if prior is None else f"{prior!r}"
    elif prior.batch_shape + prior.event_shape != ():
        received = f"a distribution of shape {prior.batch_shape + prior.event_shape}"
    elif getattr(prior.support, "is_discrete", False):
        received = f"{type(prior).__name__}, which is discrete"
        expected = "a continuous prior: NUTS follows gradients"
    if received is not None:
        raise InvalidTwin(
            f"The prior of {owner} cannot be used.",
            expected=expected,
            received=received,
            advice="For example `dist.LogNormal(0.0, 1.0)`; give each scalar its own name.",
        )


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
    hindrances += [f"input `{name}`, which is cubic" for name, spec in twin.inputs.items() if spec.hold == "cubic"]
    if hindrances:
        raise InvalidTwin(
            f"Process noise does not go with {hindrances[0]}.",
            expected="states of any sign, linear or held inputs, events of known time that change states alone",
            received=", ".join(hindrances),
            advice="Write it as an input or another state, or leave process noise out.",
        )


def _check_own(name: str, parameter: Parameter) -> None:
    """What is another value in each experiment is inferred."""
    if parameter.shared or isinstance(parameter.prior, dist.Distribution):
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
