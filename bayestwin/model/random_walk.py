"""Parameters that wander: each is its value at the start, moved by a state that process noise alone drives."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpyro.distributions as dist
from numpyro.distributions import biject_to

from bayestwin.errors import InvalidTwin
from bayestwin.model.components import State
from bayestwin.model.dependence import parameters
from bayestwin.model.error import ModelError, ProcessNoise, listed
from bayestwin.model.pooling import Pooled
from bayestwin.model.tracing import by_name, namespace
from bayestwin.model.twin import Twin
from bayestwin.model.types import Observed, Prior


def with_random_walk(twin: Twin, scale: Mapping[str, Prior]) -> Twin:
    """Let parameters of a twin wander, for an asset that drifts.

    The parameter stays, as the value at `t0` with its prior. Beside it there is a state `<parameter>_walk`, which
    starts at 0 and which nothing but process noise moves: the twin is solved with `T(T⁻¹(parameter) + walk)`, where T
    maps all real numbers to where the prior lives, the exponential of what is positive and the identity of what can be
    any number. So telemetry says at each time where the parameter was, and forecasts and updates go on from there.

        twin = bt.with_random_walk(twin, {"fouling": dist.HalfNormal(0.05)})
        posterior = bt.calibrate(twin, telemetry, seed=0)
        walk = posterior["posterior_predictive"]["fouling_walk_state"]
        fouling = posterior["posterior"]["fouling"] * np.exp(walk)

    Args:
        twin: The twin, without a model error, or with process noise, which is kept.
        scale: By parameter: standard deviation of what is added in one unit of time, on the scale on which the
            parameter can have any value: of the logarithm where it is positive, so that 0.05 is 5 %.

    Returns:
        The twin with these states, and with their process noise as its `model_error`.

    Raises:
        InvalidTwin: If one of them has no prior of its own, an event or the noise of an observation sets or takes it, a
            name is taken, or the twin has another model error or noise that a Kalman filter does not take.

    The filter is linearised along the states: of equations in which the parameter multiplies a state that is an
    approximation, L. Ljung (1979), doi:10.1109/TAC.1979.1101943.
    """
    _check_wandering(twin, scale)
    walks = {name: f"{name}_walk" for name in scale}
    transforms = {name: biject_to(twin.parameters[name].prior.support) for name in scale}  # type: ignore[union-attr]
    own = {name: state for name, state in twin.states.items() if name not in twin.integrals}
    states_of = namespace("states", tuple(own))

    def moved(function: Observed) -> Observed:
        """A function of the twin as it was, with the parameters as they are by then."""

        @functools.wraps(function)
        def of_moved(t: Any, x: Any, p: Any, u: Any) -> Any:
            values = {name: value for name, value in p._asdict().items() if name not in twin.derived}
            for name, walk in walks.items():
                values[name] = transforms[name](transforms[name].inv(values[name]) + x[walk])
            return function(t, states_of(*[x[name] for name in own]), parameters(twin, values), u)

        return of_moved

    field = moved(by_name(twin.own_field, tuple(own)))

    @functools.wraps(twin.own_field)
    def vector_field(t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
        return {**field(t, x, p, u), **dict.fromkeys(walks.values(), 0.0)}

    def anew(members: Mapping[str, Any], *functions: str) -> dict[str, Any]:
        """Members of the twin whose functions find the parameters as they are by then."""
        told = {
            name: {kind: moved(own) for kind in functions if callable(own := getattr(one, kind))}
            for name, one in members.items()
        }
        return {name: dataclasses.replace(one, **told[name]) for name, one in members.items()}

    return dataclasses.replace(
        twin,
        vector_field=vector_field,
        states={**own, **{walk: _walk(twin, name) for name, walk in walks.items()}},
        observations=anew(twin.observations, "of"),
        events=anew(twin.events, "effect", "when"),
        quantities=anew(twin.quantities, "of"),
        model_error=_with_walks(twin.model_error, {walks[name]: one for name, one in scale.items()}),
    )


def _walk(twin: Twin, name: str) -> State:
    parameter = twin.parameters[name]
    support: Any = parameter.prior.support  # type: ignore[union-attr]
    unbounded, positive = (type(support) is type(one) for one in (dist.constraints.real, dist.constraints.positive))
    words = "" if unbounded else " of the logarithm" if positive else ", where it can have any value,"
    return State(
        0.0, unit=parameter.unit if unbounded else "", doc=f"change{words} of {parameter.doc or name} since t0"
    )


def _with_walks(error: ModelError | None, scale: Mapping[str, Prior]) -> ProcessNoise:
    """The process noise of a twin, with that of its walks."""
    if error is None:
        return ProcessNoise(scale=scale)
    if isinstance(error, ProcessNoise):
        return dataclasses.replace(error, scale={**error.scale, **scale})
    raise InvalidTwin(
        "Parameters wander by process noise, and the twin has another model error.",
        expected="no `model_error`, or bt.ProcessNoise",
        received=f"bt.{type(error).__name__}",
        advice="Leave that out: what wanders takes its place.",
    )


def _check_wandering(twin: Twin, scale: Mapping[str, Prior]) -> None:
    able = [name for name, one in twin.parameters.items() if isinstance(one.prior, dist.Distribution | Pooled)]
    taken = [name for name in scale if f"{name}_walk" in twin.states]
    noise = {
        value for one in twin.observations.values() for value in one.noise.parameters.values() if isinstance(value, str)
    }
    for wrong, why in (
        ([name for name in scale if name not in able], "no parameter with a prior of its own"),
        ([name for name in scale if name in twin.switched], "a parameter that an event changes"),
        ([name for name in scale if name in noise], "a parameter of the noise of an observation"),
        (list(scale) if twin.black_box else [], "a model whose equations nobody sees"),
        (taken, "one whose state `<parameter>_walk` is there already"),
    ):
        if wrong or not scale:
            raise InvalidTwin(
                f"{listed(wrong) if wrong else 'Nothing'} cannot wander.",
                expected=f"parameters with priors of their own that only equations and `of=` use: {listed(able)}",
                received=why if wrong else "none",
                advice="Let those wander that it follows from, or leave it as it is.",
            )
