"""A twin solved by `diffrax.diffeqsolve` as diffrax's documentation shows it, for the engines that use it."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
from jax import Array

import bayestwin as bt
from bayestwin.density.bind import Bound, bind
from posteriors import Posterior

SOLVERS = {"auto": diffrax.Tsit5, "tsit5": diffrax.Tsit5, "rodas5p": diffrax.Kvaerno5}
MOST_STEPS = 4096
"""diffrax's own default; a jump of the inputs, at which a step has to end, adds one."""


def build_solve(posterior: Posterior, adjoint: diffrax.AbstractAdjoint) -> Callable[[Mapping[str, Any]], dict]:
    """A function of values by name that gives the noise-free observations by name, shape (n,) each.

    Args:
        posterior: The posterior; its twin says method and tolerances.
        adjoint: How the solve is differentiated.
    """
    twin, bound = posterior.twin, bind(posterior.twin, posterior.telemetry)
    inputs_at = _interpolated(twin, bound)
    controller = diffrax.PIDController(rtol=twin.solver.rtol, atol=twin.solver.atol)
    if twin.inputs:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.asarray(bound.times))

    def slope(t: Any, state: Any, parameters: Any) -> Array:
        p = _named(twin.parameters, parameters)
        found = twin.vector_field(t, _named(twin.states, state), p, inputs_at(t))
        return jnp.stack([jnp.asarray(found[name], float) for name in twin.states])

    def solve(values: Mapping[str, Any]) -> dict[str, Array]:
        known = {n: s.prior for n, s in twin.parameters.items()} | {n: s.initial for n, s in twin.states.items()}
        parameters = [values.get(name, known[name]) for name in twin.parameters]
        initial = [jnp.asarray(values.get(f"{name}_initial", known[name]), float) for name in twin.states]
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            SOLVERS[twin.solver.method](),
            t0=0.0,
            t1=bound.times[-1],
            dt0=None,
            y0=jnp.stack(initial),
            args=parameters,
            saveat=diffrax.SaveAt(ts=jnp.asarray(bound.times)),
            stepsize_controller=controller,
            adjoint=adjoint,
            max_steps=MOST_STEPS + (len(bound.times) if twin.inputs else 0),
            throw=False,
        )
        states = solution.ys
        assert states is not None
        times = jnp.asarray(bound.times)
        x, p = _named(twin.states, states.T), _named(twin.parameters, parameters)
        return {
            name: getattr(x, name) if spec.of is None else spec.of(times, x, p, inputs_at(times))
            for name, spec in twin.observations.items()
        }

    return solve


def observed(posterior: Posterior) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By observation, the rows at which it is there and its values in them."""
    bound = bind(posterior.twin, posterior.telemetry)
    rows = {name: np.flatnonzero(np.isfinite(values)) for name, values in bound.observations.items()}
    return {name: (there, bound.observations[name][there]) for name, there in rows.items()}


def _named(names: Any, values: Any) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(names, values, strict=True)))


def _interpolated(twin: bt.Twin, bound: Bound) -> Callable[[Array], SimpleNamespace]:
    """Inputs as functions of time."""
    times = jnp.asarray(bound.times)
    held = jnp.asarray([spec.hold == "previous" for spec in twin.inputs.values()])
    samples = jnp.asarray(np.stack([bound.inputs[name] for name in twin.inputs], axis=-1)) if twin.inputs else None

    def inputs_at(t: Array) -> SimpleNamespace:
        if samples is None:
            return SimpleNamespace()
        i = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
        share = (t - times[i]) / (times[i + 1] - times[i])
        linear = samples[i] + (samples[i + 1] - samples[i]) * jnp.expand_dims(share, -1)
        return _named(twin.inputs, jnp.moveaxis(jnp.where(held, samples[i], linear), -1, 0))

    return inputs_at
