"""What quantities follow from: derived parameters, priors that depend on others, and what records bring along.

A function is told apart by what it returns when it is traced: a number is a derived value, a distribution is a prior.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer
from jax.typing import ArrayLike
from numpyro.distributions import biject_to

from bayestwin.errors import InvalidTwin
from bayestwin.model.tracing import namespace, num_arguments, trace_dependent
from bayestwin.model.types import ByExperiment, First, SteadyState

type Whole = Any
"""A `Twin`, whose module imports this one."""


type Fault = tuple[str, str, str]
"""What was expected, what came, and what to do."""


class Dependence(NamedTuple):
    """What a function of parameters returns.

    Attributes:
        parents: Names of the parameters that it depends on.
        prior: Whether that is a distribution, and not a derived value.
        fault: What is wrong with that distribution, as `fault_of` says it.
        scale: What maps all real numbers to where it lives: the type of the transform.
        bounds: Where it begins and ends, None where it does not; None in place of both where that depends on
            parameters.
    """

    parents: tuple[str, ...]
    prior: bool
    fault: Fault | None = None
    scale: type | None = None
    bounds: tuple[float | None, float | None] | None = None


def dependences_of(twin: Whole) -> dict[str, Dependence]:
    """What the functions of a twin's parameters and initial states return, by parameter or `<state>_initial`.

    Those of initial states that are derived are left out: these are no quantities of a result.

    Raises:
        InvalidTwin: If one does not trace, or returns neither a number nor a distribution.
    """
    found, before = {}, []
    for name, parameter in twin.parameters.items():
        prior: Any = parameter.prior
        owner = f"parameter `{name}`"
        if isinstance(prior, First) and prior.prior is not None:
            found[name] = _of_first(prior, owner)
        elif parameter.dependent:
            found[name] = _traced(prior, owner, tuple(before), tuple(twin.parameters), (), "(p)")
        before.append(name)
    for name, state in twin.states.items():
        initial: Any = state.initial
        owner = f"`initial=` of state `{name}`"
        if isinstance(initial, First) and initial.prior is not None:
            found[f"{name}_initial"] = _of_first(initial, owner)
        elif state.derived and num_arguments(initial) == 1:
            one = _traced(initial, owner, tuple(before), tuple(before), state.shape, "(p)", "(p, u)")
            if one.prior:
                found[f"{name}_initial"] = one
    return found


def _traced(
    function: Any,
    owner: str,
    names: tuple[str, ...],
    later: tuple[str, ...],
    shape: tuple[int, ...],
    *signatures: str,
) -> Dependence:
    kept: list[tuple[Fault | None, type | None, Any]] = []

    def leaves(p: Any) -> Any:
        return _leaves(function(p), kept)

    used = trace_dependent(leaves, function, owner, names, later, shape, *signatures)
    return Dependence(used, True, *kept[-1]) if kept else Dependence(used, False)


def _leaves(value: Any, kept: list[tuple[Fault | None, type | None, Any]]) -> Any:
    """Numbers of which a distribution is made, whose kind is kept; another value as it is."""
    if not isinstance(value, dist.Distribution):
        return value
    fault = fault_of(value)
    if fault is None:
        ends = [getattr(value.support, end, None) for end in ("lower_bound", "upper_bound")]
        moving = any(isinstance(end, Tracer) for end in ends)
        bounds = None if moving else tuple(None if end is None else float(end) for end in ends)
        kept.append((None, type(biject_to(value.support)), bounds))
    else:
        kept.append((fault, None, None))
    return jax.tree.leaves(value)


def _of_first(first: First, owner: str) -> Dependence:
    kept: list[tuple[Fault | None, type | None, Any]] = []

    def leaves(p: Any) -> Any:
        return _leaves(first.prior(p[0]), kept)  # type: ignore[misc]

    trace_dependent(leaves, first.prior, f"`prior=` of `bt.First`, of {owner},", ("first",), (), (), "(first)")  # type: ignore[arg-type]
    if kept:
        return Dependence((), True, *kept[-1])
    raise InvalidTwin(
        f"`prior=` of `bt.First`, of {owner}, returns no distribution.",
        expected="a NumPyro distribution, made from the first value",
        received="a number",
        advice="For example `bt.First(column, lambda first: dist.Normal(first, 0.1))`; leave it out where the value "
        "is exact.",
    )


# Numbers that each record brings along, under the names that they have among the values of a density.


def brought(twin: Whole) -> dict[str, tuple[ByExperiment | First, str]]:
    """What each record brings along: by name what says it, and the unit that it is to have.

    Names are those of the quantities, `k` and `level_initial`; `level_initial_first` where a prior is made of it.
    """
    specs = {name: (parameter.prior, parameter.unit) for name, parameter in twin.parameters.items()}
    specs |= {f"{name}_initial": (state.initial, state.unit) for name, state in twin.states.items()}
    found = {}
    for name, (spec, unit) in specs.items():
        if isinstance(spec, ByExperiment) or (isinstance(spec, First) and spec.prior is None):
            found[name] = (spec, unit)
        elif isinstance(spec, First):
            found[f"{name}_first"] = (spec, unit)
    return found


def differing(twin: Whole) -> frozenset[str]:
    """Parameters of which each experiment has its own: inferred or brought along so, or derived from such."""
    known = brought(twin)
    found = set()
    for name, parameter in twin.parameters.items():
        own = name in known or f"{name}_first" in known or not parameter.shared
        if own or (name in twin.derived and found.intersection(twin.dependences[name].parents)):
            found.add(name)
    return frozenset(found)


# Values and priors, from the values of what is inferred and of what each record brings along.


def parameters(twin: Whole, values: Mapping[str, Any], before: str | None = None) -> Any:
    """All parameters by name, or those before one of them: given, known, or derived from others.

    Args:
        twin: The twin.
        values: By name; what is known or derived may be left out.
        before: The first one that is left out.
    """
    found: dict[str, Any] = {}
    for name, spec in twin.parameters.items():
        if name == before:
            break
        if name in twin.derived and name not in values:
            found[name] = jnp.asarray(spec.prior(namespace("parameters", tuple(found))(*found.values())), float)
        else:
            found[name] = values.get(name, spec.prior)
    return namespace("parameters", tuple(found))(*found.values())


def parameter_of(twin: Whole, name: str, values: Mapping[str, ArrayLike]) -> Any:
    """One parameter: given, known, or derived from others."""
    if name in twin.derived and name not in values:
        return getattr(parameters(twin, values), name)
    return values.get(name, twin.parameters[name].prior)


def start_at(twin: Whole, name: str, values: Mapping[str, Any], p: Any, inputs: Any) -> Any:
    """Where a state starts, or where its equilibrium is sought from.

    Args:
        twin: The twin.
        name: Of the state.
        values: Of what is inferred, and of what the record brings along.
        p: Parameters, by name.
        inputs: Inputs at the start; shape (q,).
    """
    initial = twin.states[name].initial
    if f"{name}_initial" in values:
        return values[f"{name}_initial"]
    if isinstance(initial, SteadyState):
        return initial.begin(p)
    if not twin.states[name].derived:
        return initial
    if num_arguments(initial) == 1:
        return initial(p)
    return initial(p, namespace("inputs", tuple(twin.inputs))(*inputs[: len(twin.inputs)]))


def prior_of(twin: Whole, site: Any, values: Mapping[str, Any]) -> dist.Distribution:
    """The prior of a site, given the values of those before it and what its record brings along."""
    if not site.dependent:
        return site.prior
    spec = site.prior
    if isinstance(spec, First):
        return spec.prior(values[f"{site.name}_first"])  # type: ignore[misc]
    return spec(parameters(twin, values, site.name if site.kind == "parameter" else None))


# Priors that no calibration can draw from.


def fault_of(prior: Any) -> Fault | None:
    """What is wrong with a prior; None where nothing is."""
    expected = "a scalar NumPyro distribution, or a finite number when the value is known"
    example = "For example `dist.LogNormal(0.0, 1.0)`"
    if not isinstance(prior, dist.Distribution):
        return expected, "nothing" if prior is None else f"{prior!r}", f"{example}; give each scalar its own name."
    kind, shape = type(prior).__name__, prior.batch_shape + prior.event_shape
    if shape != ():
        return (
            expected,
            f"a distribution of shape {shape}",
            f"{example}; give each scalar its own name. Those that have one prior together, being correlated, ordered "
            'or shares of a whole, are told by `parameters={**bt.joint(("a", "b"), prior), …}`.',
        )
    if isinstance(prior, dist.Delta):
        return expected, f"{kind}, which is one value", "Give that number instead of a prior."
    if getattr(prior.support, "is_discrete", False):
        return "a continuous prior: NUTS follows gradients", f"{kind}, which is discrete", f"{example}."
    if not _can_be_drawn(prior):
        return (
            "a prior that integrates to one, so that it can be drawn from: chains start at its draws, and gates "
            "compare the posterior with them",
            f"{kind}, an improper one",
            "Say how wide is wide, on the scale on which it is flat: `dist.LogUniform(1e-6, 1e6)` for what is "
            "positive, `dist.Normal(0.0, 1e3)`, `dist.Uniform(low, high)`.",
        )
    try:
        biject_to(prior.support)
    except NotImplementedError:
        return (
            "a prior on the real line, or on an interval of it",
            f"{kind}, which lives on {prior.support}",
            "Write it as a function of quantities that live there.",
        )
    return None


def _can_be_drawn(prior: dist.Distribution) -> bool:
    """Whether a prior has samples, and a density; a distribution of NumPyro does if what it is made of does."""
    base = getattr(prior, "base_dist", None)
    if isinstance(prior, dist.ImproperUniform) or (isinstance(base, dist.Distribution) and not _can_be_drawn(base)):
        return False
    if type(prior).__module__.split(".")[0] == "numpyro":
        return True
    try:
        jax.eval_shape(lambda key: prior.log_prob(prior.sample(key)), jax.random.key(0))  # type: ignore[call-arg]
    except NotImplementedError:
        return False
    return True
