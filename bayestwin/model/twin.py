"""The model of one asset, as data: states, parameters, inputs, observations and the vector field that ties them.

Nothing here solves or infers. What is wrong in a twin is an error when the twin is built.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpyro.distributions as dist

from bayestwin._base.units import has_offset
from bayestwin.errors import InvalidTwin
from bayestwin.model.black_box import BlackBox
from bayestwin.model.checks import DIMENSIONS, changed_by, check_twin
from bayestwin.model.components import Input, Observation, Parameter, Solver, State
from bayestwin.model.delays import as_numbers, delayed_inputs
from bayestwin.model.dependence import Dependence, dependences_of, differing
from bayestwin.model.error import Discrepancy, ErrorQuantity, ModelError, Units
from bayestwin.model.pooling import Pooled, with_populations
from bayestwin.model.quantities import QuantityOfInterest, check_quantities
from bayestwin.model.tracing import Layout, Shapes, by_name, namespace
from bayestwin.model.types import Column, Event, First, VectorField, by_row


class Site(NamedTuple):
    """One scalar that calibration infers, or one for each experiment where it is not shared.

    Its `prior` is a distribution, or what `prior_of` makes one from: a function of parameters, or a `bt.First`.
    """

    name: str
    prior: Any
    kind: Literal["parameter", "initial", "noise", "model_error"]
    owner: str
    unit: str
    doc: str
    shared: bool = True

    @property
    def dependent(self) -> bool:
        """Whether its prior depends on parameters, or on what its record brings along."""
        return not isinstance(self.prior, dist.Distribution)

    @property
    def pooled(self) -> bool:
        """Whether each experiment's value comes from a population that is inferred as well."""
        return isinstance(self.prior, Pooled)


class NoiseColumn(NamedTuple):
    """A noise quantity that the telemetry tells row by row."""

    column: Column
    owner: str
    quantity: str
    unit: str

    @property
    def doc(self) -> str:
        """What it is, in words."""
        return f"noise {self.quantity} of {self.owner}, column {self.column.name}"


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
        quantities: By name, what predictions are asked for beside observations: `bt.Integral(…)`, `bt.Max(…)`, …

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
    quantities: Mapping[str, QuantityOfInterest] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check everything that can be checked without telemetry, and add states for what is counted."""
        _drop_integrals(self)
        for name, members in zip(("parameters", "states"), with_populations(self.parameters, self.states), strict=True):
            object.__setattr__(self, name, members)
        check_twin(self)
        check_quantities(self)
        _add_integrals(self)
        _check_names(self)

    @property
    def shapes(self) -> tuple[Shapes, Shapes, Shapes]:
        """Names and shapes of states, parameters and inputs."""
        states = {name: state.shape for name, state in self.states.items()}
        return states, dict.fromkeys(self.parameters, ()), dict.fromkeys(self.inputs, ())

    @property
    def black_box(self) -> BlackBox | None:
        """The model that takes the place of equations, where there is one."""
        return self.vector_field if isinstance(self.vector_field, BlackBox) else None

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

    @functools.cached_property
    def dependences(self) -> Mapping[str, Dependence]:
        """What functions of parameters return: derived values, and priors that depend on others."""
        return dependences_of(self)

    @functools.cached_property
    def derived(self) -> tuple[str, ...]:
        """Parameters that are derived from others."""
        return tuple(name for name in self.parameters if name in self.dependences and not self.dependences[name].prior)

    @functools.cached_property
    def differing(self) -> frozenset[str]:
        """Parameters of which each of several experiments has a value of its own."""
        return differing(self)

    @property
    def timed(self) -> tuple[str, ...]:
        """Events whose times are known before the twin is solved, from telemetry, the twin or its parameters."""
        return tuple(name for name, event in self.events.items() if event.kind != "triggered")

    @property
    def triggered(self) -> tuple[str, ...]:
        """Events that the state triggers."""
        return tuple(name for name, event in self.events.items() if event.kind == "triggered")

    @property
    def forgetful(self) -> bool:
        """Whether its states at one time are all of its past that what comes after depends on."""
        changed = self.model_error is not None or self.delayed or self.triggered or self.switched or self.black_box
        seen = self.observations.values()
        return not changed and all(one.noise.independent and one.reads == "value" for one in seen)

    def sites(self) -> tuple[Site, ...]:
        """All scalars with a prior, in the order: parameters, initial states, noise parameters, model error."""
        found: list[tuple] = [
            (n, p.prior, "parameter", n, p.unit, p.doc, p.shared and not isinstance(p.prior, First))
            for n, p in self.parameters.items()
        ]
        for name, state in self.states.items():
            words, shared = f"initial {state.doc or name}", state.shared and not isinstance(state.initial, First)
            found.append((f"{name}_initial", state.initial, "initial", name, state.unit, words, shared))
        for name, observation in self.observations.items():
            for key, prior in observation.noise.parameters.items():
                unit = observation.noise.unit_of(key, observation.unit, self.time_unit) or ""
                row = (f"{name}_{key}", prior, "noise", name, unit, f"noise {key} of {name}")
                if isinstance(prior, Column):
                    row = (f"{name}_{key}_factor", prior.factor, "noise", name, "", f"factor of noise {key} of {name}")
                found.append(row)
        for name, quantity in self.error_quantities().items():
            found.append((name, quantity.prior, "model_error", quantity.owner, quantity.unit, quantity.doc))
        depend = {name for name, one in self.dependences.items() if one.prior}
        return tuple(Site(*row) for row in found if isinstance(row[1], dist.Distribution) or row[0] in depend)

    @property
    def own_field(self) -> VectorField:
        """The vector field as it was written, without the integrals of what is counted."""
        return self.vector_field.__wrapped__ if hasattr(self.vector_field, "counts") else self.vector_field  # type: ignore[attr-defined]

    @property
    def integrals(self) -> tuple[str, ...]:
        """States that count what is read as a mean or a total."""
        return tuple(f"{name}_integral" for name, observation in self.observations.items() if observation.counts)

    @property
    def correlated(self) -> Mapping[tuple[str, str], float | str]:
        """Pairs of observations whose noise is correlated in the same row, and how: a number, or a parameter."""
        return {(name, other): own for name, o in self.observations.items() for other, own in o.correlated.items()}

    def noise_columns(self) -> Mapping[str, NoiseColumn]:
        """What noise takes from the telemetry row by row, under `<observation>_<quantity>`."""
        return {
            f"{name}_{key}": NoiseColumn(quantity, name, key, o.noise.unit_of(key, o.unit, self.time_unit) or "")
            for name, o in self.observations.items()
            for key, quantity in o.noise.parameters.items()
            if isinstance(quantity, Column)
        }

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


# Observations that are means or totals over the time between rows: each has a state of its own, its integral.


def _add_integrals(twin: Twin) -> None:
    """Add to vector field and states the integral of each observation that is a mean or a total."""
    counted = {f"{name}_integral": (name, spec) for name, spec in twin.observations.items() if spec.counts}
    if not counted:
        return
    own, field = tuple(twin.states), twin.vector_field
    states_of, derivative = namespace("states", own), by_name(field, own)

    @functools.wraps(field)
    def with_integrals(t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
        x, now = states_of(*[getattr(x, name) for name in own]), as_numbers(u)
        rates = {
            integral: getattr(x, name) if spec.of is None else spec.of(t, x, p, now)
            for integral, (name, spec) in counted.items()
        }
        return {**derivative(t, x, p, u), **rates}

    with_integrals.__dict__["counts"] = tuple(counted)
    states = {
        integral: State(0.0, unit=_integral_unit(spec, twin.time_unit), doc=f"integral of {spec.doc or name} since t0")
        for integral, (name, spec) in counted.items()
    }
    object.__setattr__(twin, "vector_field", with_integrals)
    object.__setattr__(twin, "states", {**twin.states, **states})
    for name in ("layout", "derivative"):  # they may have been asked for without them
        vars(twin).pop(name, None)


def _drop_integrals(twin: Twin) -> None:
    """Take off what `_add_integrals` put on a twin that this one was made from."""
    added = getattr(twin.vector_field, "counts", ())
    if added:
        states = {name: state for name, state in twin.states.items() if name not in added}
        object.__setattr__(twin, "states", states)
        object.__setattr__(twin, "vector_field", twin.own_field)


def _integral_unit(spec: Observation, time_unit: str) -> str:
    """Unit of what is counted; none where a temperature is, whose scale has another zero."""
    if spec.reads == "total":
        return spec.unit
    return time_unit if not spec.unit else "" if has_offset(spec.unit) else f"({spec.unit})*({time_unit})"


def _check_names(twin: Twin) -> None:
    """No two variables of a result share a name."""
    names = [site.name for site in twin.sites()] + list(twin.observations) + list(twin.derived)
    names += [f"{n}_{k}" for n, o in twin.observations.items() for k, p in o.noise.parameters.items() if by_row(p)]
    names += [f"{name}_noise_free" for name in twin.observations] + [f"{name}_state" for name in twin.states]
    if isinstance(twin.model_error, Discrepancy):
        names += [f"{name}_discrepancy" for name in twin.model_error.scale]
    dimensions = (*DIMENSIONS, *{dim: None for name, state in twin.states.items() for dim in state.axes(name)})
    asked_of = {*names, *twin.inputs, *twin.events, *twin.parameters, *twin.states}
    for name in [*names, *twin.inputs, *twin.events, *twin.quantities]:
        twice = name in asked_of if name in twin.quantities else names.count(name) > 1
        if twice or name in dimensions:
            raise InvalidTwin(
                f"The name `{name}` stands for two things in a result of twin `{twin.name}`.",
                expected="names that stay apart in a result, where `_initial`, `_state`, `_noise_free` and "
                "quantities of noise and model error are appended and the dimensions are "
                f"{', '.join(f'`{d}`' for d in dimensions)}",
                received=", ".join(f"`{n}`" for n in names),
                advice="Rename one of them.",
            )
