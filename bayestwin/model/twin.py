"""The model of one asset, as data: states, parameters, inputs, observations and the vector field that ties them.

Nothing here solves or infers. What is wrong in a twin is an error when the twin is built.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpyro.distributions as dist

from bayestwin.errors import InvalidTwin
from bayestwin.model.checks import DIMENSIONS, changed_by, check_twin
from bayestwin.model.components import Input, Observation, Parameter, Solver, State
from bayestwin.model.delays import delayed_inputs
from bayestwin.model.error import Discrepancy, ErrorQuantity, ModelError, Units
from bayestwin.model.tracing import Layout, Shapes, by_name
from bayestwin.model.types import Event, VectorField


class Site(NamedTuple):
    """One scalar that calibration infers, or one for each experiment where it is not shared."""

    name: str
    prior: dist.Distribution
    kind: Literal["parameter", "initial", "noise", "model_error"]
    owner: str
    unit: str
    doc: str
    shared: bool = True


@dataclasses.dataclass(frozen=True)
class Twin:
    """An ODE model of one asset: `dx/dt = vector_field(t, x, p, u)`.

    In the vector field `t` is the time since the telemetry's `t0`, in `time_unit`; `x`, `p`, `u` give states,
    parameters and inputs as attributes or items, `x.a` or `x["a"]`, and `u.name(t - p.dead)` an input at another time;
    the result is a dict with one derivative for each state, of its shape, or a list, tuple or array of them in the
    order of `states`.

    Attributes:
        name: A short identifier; results are filed under it.
        vector_field: The right-hand side, written with `jax.numpy`.
        states: By name.
        parameters: By name.
        observations: By name; one without `of=` is the state of the same name.
        inputs: By name.
        events: By name, in the order in which they take effect where several happen at once.
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
    events: Mapping[str, Event] = dataclasses.field(default_factory=dict)
    time_unit: str = "s"
    solver: Solver = dataclasses.field(default_factory=Solver)
    doc: str = ""
    model_error: ModelError | None = None

    def __post_init__(self) -> None:
        """Check everything that can be checked without telemetry."""
        check_twin(self)
        _check_names(self)

    @property
    def shapes(self) -> tuple[Shapes, Shapes, Shapes]:
        """Names and shapes of states, parameters and inputs."""
        states = {name: state.shape for name, state in self.states.items()}
        return states, dict.fromkeys(self.parameters, ()), dict.fromkeys(self.inputs, ())

    @functools.cached_property
    def layout(self) -> Layout:
        """Where each state stands in one flat array."""
        return Layout(self.shapes[0])

    @functools.cached_property
    def switched(self) -> tuple[str, ...]:
        """Parameters that an event changes."""
        found = set().union(*(changed_by(self, name) for name in self.events))
        return tuple(name for name in self.parameters if name in found)

    @functools.cached_property
    def derivative(self) -> VectorField:
        """The vector field, with its derivatives by name."""
        return by_name(self.vector_field, tuple(self.states))

    @property
    def delayed(self) -> tuple[str, ...]:
        """Inputs that the vector field asks for at other times than now."""
        return delayed_inputs(self.vector_field, tuple(tuple(group.items()) for group in self.shapes))

    @property
    def moving(self) -> bool:
        """Whether something happens at times that are inferred: delayed inputs arrive, or events take place."""
        return bool(self.delayed) or any(event.kind == "inferred" for event in self.events.values())

    @property
    def timed(self) -> tuple[str, ...]:
        """Events whose times are known before the twin is solved, from telemetry, the twin or its parameters."""
        return tuple(name for name, event in self.events.items() if event.kind != "triggered")

    @property
    def triggered(self) -> tuple[str, ...]:
        """Events that the state triggers."""
        return tuple(name for name, event in self.events.items() if event.kind == "triggered")

    def sites(self) -> tuple[Site, ...]:
        """All scalars with a prior, in the order: parameters, initial states, noise parameters, model error."""
        found: list[tuple] = [(n, p.prior, "parameter", n, p.unit, p.doc, p.shared) for n, p in self.parameters.items()]
        for name, state in self.states.items():
            words = f"initial {state.doc or name}"
            found.append((f"{name}_initial", state.initial, "initial", name, state.unit, words, state.shared))
        for name, observation in self.observations.items():
            for key, prior in observation.noise.parameters.items():
                unit = observation.noise.unit_of(key, observation.unit, self.time_unit) or ""
                found.append((f"{name}_{key}", prior, "noise", name, unit, f"noise {key} of {name}"))
        for name, quantity in self.error_quantities().items():
            found.append((name, quantity.prior, "model_error", quantity.owner, quantity.unit, quantity.doc))
        return tuple(Site(*row) for row in found if isinstance(row[1], dist.Distribution))

    def error_quantities(self) -> Mapping[str, ErrorQuantity]:
        """Scalars of the model error, known ones included, under the names that they have in a result."""
        if self.model_error is None:
            return {}
        return self.model_error.quantities(self.units)

    @property
    def units(self) -> Units:
        """Units of its members by name, and its unit of time."""
        groups = (self.states, self.observations, self.inputs)
        return Units(*({name: member.unit for name, member in group.items()} for group in groups), time=self.time_unit)


def _check_names(twin: Twin) -> None:
    """No two variables of a result share a name."""
    names = [site.name for site in twin.sites()] + list(twin.observations)
    names += [f"{name}_noise_free" for name in twin.observations] + [f"{name}_state" for name in twin.states]
    if isinstance(twin.model_error, Discrepancy):
        names += [f"{name}_discrepancy" for name in twin.model_error.scale]
    dimensions = (*DIMENSIONS, *{dim: None for name, state in twin.states.items() for dim in state.axes(name)})
    for name in [*names, *twin.inputs, *twin.events]:
        if names.count(name) > 1 or name in dimensions:
            raise InvalidTwin(
                f"The name `{name}` stands for two things in a result of twin `{twin.name}`.",
                expected="names that stay apart in a result, where `_initial`, `_state`, `_noise_free` and "
                "quantities of noise and model error are appended and the dimensions are "
                f"{', '.join(f'`{d}`' for d in dimensions)}",
                received=", ".join(f"`{n}`" for n in names),
                advice="Rename one of them.",
            )
