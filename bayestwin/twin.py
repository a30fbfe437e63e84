"""The model of one asset, as data: states, parameters, inputs, observations and the vector field that ties them.

Nothing here solves or infers. What is wrong in a twin is an error when the twin is built.
"""

import dataclasses
import keyword
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpyro.distributions as dist

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model_error import ModelError, Quantity
from bayestwin.noise import Noise
from bayestwin.tracing import trace_observed, trace_vector_field
from bayestwin.types import Observed, Prior, VectorField
from bayestwin.units import check_unit

DIMENSIONS = ("chain", "draw", "time")
"""Dimensions of a result; nothing in a twin can be called so."""


@dataclasses.dataclass(frozen=True)
class State:
    """One component of the state.

    Attributes:
        initial: Its value when the telemetry starts: a scalar prior, or a number when known.
        unit: Unit as text, `""` for none.
        doc: What it is, in words.
    """

    initial: Prior
    unit: str = ""
    doc: str = ""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One constant of the twin.

    Attributes:
        prior: A scalar prior, or a number when known.
        unit: Unit as text, `""` for none.
        doc: What it is, in words.
    """

    prior: Prior
    unit: str = ""
    doc: str = ""


@dataclasses.dataclass(frozen=True)
class Input:
    """One exogenous signal, read from the telemetry.

    Attributes:
        unit: Unit as text, `""` for none; telemetry in another unit is converted.
        hold: Between two samples, `"linear"` interpolates and `"previous"` keeps the earlier one.
        beyond: Outside the samples, `"error"` refuses and `"hold"` keeps the nearest sample.
        doc: What it is, in words.
    """

    unit: str = ""
    hold: Literal["linear", "previous"] = "linear"
    beyond: Literal["error", "hold"] = "error"
    doc: str = ""


@dataclasses.dataclass(frozen=True)
class Observation:
    """One signal that the telemetry holds and the twin predicts.

    Attributes:
        noise: How observations scatter around the predicted value.
        of: `(t, x, p, u)` → predicted value; by default the state of the same name.
        unit: Unit as text, `""` for none; telemetry in another unit is converted.
        doc: What it is, in words.
    """

    noise: Noise
    of: Observed | None = None
    unit: str = ""
    doc: str = ""


@dataclasses.dataclass(frozen=True)
class Solver:
    """How the twin is solved.

    Attributes:
        method: `"tsit5"` (explicit), `"rodas5p"` (for stiff twins), or `"auto"`, whichever of them needs less work.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in the units of the states.
        max_steps: Most steps between two times at which the solver has to stop (observations, input samples).
    """

    method: Literal["auto", "tsit5", "rodas5p"] = "auto"
    rtol: float = 1e-6
    atol: float = 1e-8
    max_steps: int = 1000


class Site(NamedTuple):
    """One scalar that calibration infers."""

    name: str
    prior: dist.Distribution
    kind: Literal["parameter", "initial", "noise", "model_error"]
    owner: str
    unit: str
    doc: str


@dataclasses.dataclass(frozen=True)
class Twin:
    """An ODE model of one asset: `dx/dt = vector_field(t, x, p, u)`.

    In the vector field `t` is the time since the telemetry's `t0`, in `time_unit`; `x`, `p`, `u` give states,
    parameters and inputs as attributes; the result is a dict with one scalar derivative for each state.

    Attributes:
        name: A short identifier; results are filed under it.
        vector_field: The right-hand side, written with `jax.numpy`.
        states: By name.
        parameters: By name.
        observations: By name; one without `of=` is the state of the same name.
        inputs: By name.
        time_unit: Unit of `t`; dates in the telemetry are counted in it.
        solver: Method and tolerances.
        doc: What the asset is, in words.
        model_error: How the equations may be wrong, for example `bt.ProcessNoise(…)`; None takes them at their word.

    Raises:
        InvalidTwin: If names, priors, shapes or units do not fit together.
    """

    name: str
    vector_field: VectorField
    states: Mapping[str, State]
    parameters: Mapping[str, Parameter]
    observations: Mapping[str, Observation]
    inputs: Mapping[str, Input] = dataclasses.field(default_factory=dict)
    time_unit: str = "s"
    solver: Solver = Solver()
    doc: str = ""
    model_error: ModelError | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked without telemetry."""
        _check_name(self.name, "the twin")
        _check_members(self)
        if self.model_error is not None:
            self.model_error.check(self.states, {name: o.noise for name, o in self.observations.items()})
        _check_sites(self)
        for name, observation in self.observations.items():
            if observation.of is None and name not in self.states:
                message = explain(
                    f"Observation `{name}` says nothing about what it observes.",
                    expected="the name of a state, or `of=function(t, x, p, u)`",
                    received=f"`{name}`, with the states {_names(self.states)}",
                    advice="Rename it to a state, or pass `of=`.",
                )
                raise InvalidTwin(message)
        names = (tuple(self.states), tuple(self.parameters), tuple(self.inputs))
        trace_vector_field(self.vector_field, f"The vector field of twin `{self.name}`", names)
        for name, observation in self.observations.items():
            if observation.of is not None:
                trace_observed(observation.of, f"`of=` of observation `{name}`", names)

    def sites(self) -> tuple[Site, ...]:
        """All scalars with a prior, in the order: parameters, initial states, noise parameters, model error."""
        found = [(n, p.prior, "parameter", n, p.unit, p.doc) for n, p in self.parameters.items()]
        for name, state in self.states.items():
            found.append(
                (
                    f"{name}_initial",
                    state.initial,
                    "initial",
                    name,
                    state.unit,
                    f"initial {state.doc or name}",
                )
            )
        for name, observation in self.observations.items():
            for key, prior in observation.noise.parameters.items():
                unit = observation.noise.unit_of(key, observation.unit)
                found.append((f"{name}_{key}", prior, "noise", name, unit, f"noise {key} of {name}"))
        for name, quantity in self.error_quantities().items():
            found.append((name, quantity.prior, "model_error", quantity.owner, quantity.unit, quantity.doc))
        return tuple(Site(*row) for row in found if isinstance(row[1], dist.Distribution))  # type: ignore[arg-type]

    def error_quantities(self) -> Mapping[str, Quantity]:
        """Scalars of the model error, known ones included, under the names that they have in a result."""
        if self.model_error is None:
            return {}
        states, observed = ({n: m.unit for n, m in group.items()} for group in (self.states, self.observations))
        return self.model_error.quantities(states, observed, self.time_unit)


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in mapping) or "none"


def _check_name(name: object, owner: str) -> None:
    """Names become attributes, columns, files: refuse what is not a plain identifier."""
    if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_"):
        return
    message = explain(
        f"The name of {owner} cannot be used.",
        expected="letters, digits and `_`, not starting with a digit or `_`, not a Python keyword",
        received=f"{name!r}",
        advice="Choose a plain identifier; put longer words into `doc=`.",
    )
    raise InvalidTwin(message)


def _check_members(twin: Twin) -> None:
    """Names, types and units of states, parameters, inputs and observations."""
    groups = {"states": State, "parameters": Parameter, "inputs": Input, "observations": Observation}
    for group, kind in groups.items():
        members = getattr(twin, group)
        if not members and group in ("states", "observations"):
            message = explain(
                f"Twin `{twin.name}` has no {group}.",
                expected=f"at least one, `{group}={{name: bt.{kind.__name__}(…)}}`",
                received="none",
                advice="Without it there is nothing to solve or to compare with.",
            )
            raise InvalidTwin(message)
        for name, member in members.items():
            owner = f"{kind.__name__.lower()} `{name}`"
            _check_name(name, owner)
            if not isinstance(member, kind):
                message = explain(
                    f"`{group}` of twin `{twin.name}` holds something else under `{name}`.",
                    expected=f"bt.{kind.__name__}(…)",
                    received=f"{type(member).__name__}",
                    advice=f"Wrap it: `bt.{kind.__name__}(…)`.",
                )
                raise InvalidTwin(message)
            check_unit(member.unit, owner, InvalidTwin)
    for name, observation in twin.observations.items():
        if not isinstance(observation.noise, Noise):
            message = explain(
                f"Observation `{name}` has no noise model.",
                expected="bt.Gaussian, bt.LogNormal, bt.StudentT or bt.Poisson",
                received=f"{type(observation.noise).__name__}",
                advice="For example `noise=bt.Gaussian(scale=dist.HalfNormal(1.0))`.",
            )
            raise InvalidTwin(message)
    _check_choices(twin)
    check_unit(twin.time_unit, f"the time of twin `{twin.name}`", InvalidTwin)


def _check_choices(twin: Twin) -> None:
    """Settings that are one word out of a few."""
    if not isinstance(twin.solver, Solver):
        message = explain(
            f"The solver of twin `{twin.name}` is something else.",
            expected='bt.Solver(…), for example bt.Solver("rodas5p")',
            received=f"{twin.solver!r}",
            advice="Wrap it: `solver=bt.Solver(…)`.",
        )
        raise InvalidTwin(message)
    if not isinstance(twin.model_error, ModelError | None):
        message = explain(
            f"The model error of twin `{twin.name}` is something else.",
            expected="bt.ProcessNoise(…), or None",
            received=f"{twin.model_error!r}",
            advice="For example `model_error=bt.ProcessNoise(scale={'<state>': dist.HalfNormal(1.0)})`.",
        )
        raise InvalidTwin(message)
    choices = [(f"`hold` of input `{n}`", i.hold, ("linear", "previous")) for n, i in twin.inputs.items()]
    choices += [(f"`beyond` of input `{n}`", i.beyond, ("error", "hold")) for n, i in twin.inputs.items()]
    choices += [("`method` of the solver", twin.solver.method, ("auto", "tsit5", "rodas5p"))]
    for owner, received, allowed in choices:
        if received not in allowed:
            message = explain(
                f"{owner} is unknown.",
                expected=" or ".join(f'"{word}"' for word in allowed),
                received=f"{received!r}",
                advice="Use one of these words.",
            )
            raise InvalidTwin(message)


def _check_sites(twin: Twin) -> None:
    """Priors are scalar and continuous, known values are numbers, and no two variables of a result share a name."""
    priors: dict[str, object] = {f"parameter `{n}`": p.prior for n, p in twin.parameters.items()}
    priors |= {f"the initial value of state `{n}`": s.initial for n, s in twin.states.items()}
    for name, observation in twin.observations.items():
        priors |= {f"noise `{key}` of observation `{name}`": p for key, p in observation.noise.parameters.items()}
    priors |= {f"`{name}` of the model error": q.prior for name, q in twin.error_quantities().items()}
    for owner, prior in priors.items():
        _check_prior(prior, owner)
    names = [site.name for site in twin.sites()] + list(twin.observations)
    names += [f"{name}_noise_free" for name in twin.observations] + [f"{name}_state" for name in twin.states]
    for name in [*names, *twin.inputs]:
        if names.count(name) > 1 or name in DIMENSIONS:
            message = explain(
                f"The name `{name}` stands for two things in a result of twin `{twin.name}`.",
                expected="names that stay apart in a result, where `_initial`, `_state`, `_noise_free` and "
                "quantities of noise and model error are appended and the dimensions are "
                f"{', '.join(f'`{d}`' for d in DIMENSIONS)}",
                received=", ".join(f"`{n}`" for n in names),
                advice="Rename one of them.",
            )
            raise InvalidTwin(message)


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
        message = explain(
            f"The prior of {owner} cannot be used.",
            expected=expected,
            received=received,
            advice="For example `dist.LogNormal(0.0, 1.0)`; give each scalar its own name.",
        )
        raise InvalidTwin(message)
