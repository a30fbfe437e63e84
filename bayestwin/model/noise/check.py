"""Whether the noise of an observation fits its twin: names of shared parameters, units, and a trace without numbers."""

import difflib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from bayestwin._base.units import same_unit
from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.noise.base import Noise


def check_shared(noise: Noise, owner: str, own_units: tuple[str, str], twin_units: Mapping[str, str]) -> None:
    """Check that parameters given by name are parameters of the twin, in the right unit, and that no two layers clash.

    Args:
        noise: The noise model.
        owner: Whose it is, for messages.
        own_units: Units of the observation and of time.
        twin_units: Unit of each parameter of the twin.

    Raises:
        InvalidTwin: If not.
    """
    names = [name for layer in noise.layers() for name in layer.own_parameters]
    for name in names:
        if names.count(name) > 1:
            message = explain(
                f"Two layers of the noise of {owner} have a parameter `{name}`.",
                expected="each parameter once",
                received=" around ".join(type(layer).__name__ for layer in reversed([*noise.layers()])),
                advice="Leave out one of them.",
            )
            raise InvalidTwin(message)
    for name, shared in noise.parameters.items():
        if not isinstance(shared, str):
            continue
        if shared not in twin_units:
            close = difflib.get_close_matches(shared, twin_units, n=1)
            message = explain(
                f"Noise `{name}` of {owner} is said to be the parameter `{shared}`, which the twin does not have.",
                expected=", ".join(f"`{parameter}`" for parameter in twin_units) or "a prior, or a number",
                received=f"`{shared}`",
                advice=f"Did you mean `{close[0]}`?" if close else "Add it to `parameters`, or give a prior here.",
            )
            raise InvalidTwin(message)
        unit = noise.unit_of(name, *own_units)
        if unit is not None and not same_unit(unit, twin_units[shared]):
            message = explain(
                f"Parameter `{shared}` has another unit than the noise `{name}` of {owner}, which it is said to be.",
                expected=f"`{unit}`",
                received=f"`{twin_units[shared]}`",
                advice="Sensors share a noise parameter only where it means the same for each of them.",
            )
            raise InvalidTwin(message)


def trace_noise(noise: Noise, owner: str) -> None:
    """Trace the log density of two observations and its derivative, so that what cannot work fails here.

    Raises:
        InvalidTwin: If it does not trace, cannot be differentiated, or is not one distribution for each value.
    """
    two = jnp.zeros(2)
    free = {n: jnp.zeros(()) for n, p in noise.parameters.items() if isinstance(p, dist.Distribution | str)}
    known = {n: p for n, p in noise.parameters.items() if n not in free}

    def shapes(value: Array, free: dict[str, Array]) -> tuple[Array, Array]:
        found = noise.distribution(value, two, **free, **known)  # type: ignore[arg-type]
        return jnp.zeros(found.batch_shape), jnp.zeros(found.event_shape)

    def terms(value: Array, free: dict[str, Array]) -> Array:
        return noise.log_likelihood(two, value, two, **free, **known)  # type: ignore[arg-type]

    try:
        shape = tuple(found.shape for found in jax.eval_shape(shapes, two, free))
        jax.eval_shape(jax.jacfwd(terms, (0, 1)), two, free)
    except Exception as reason:
        first_line = str(reason).strip().splitlines()[:1]
        message = explain(
            f"The noise of {owner} cannot be traced and differentiated by JAX.",
            expected="a log density written with `jax.numpy`; under limits also that of what lies beyond them",
            received=f"{type(reason).__name__}: {first_line[0] if first_line else 'no message'}",
            advice="Correct the function, or choose another noise model.",
        )
        raise InvalidTwin(message) from reason
    if shape != ((2,), ()):
        message = explain(
            f"The noise of {owner} is a distribution of the wrong shape.",
            expected="one of a scalar for each observation",
            received=f"batch shape {shape[0]} and event shape {shape[1]} for two observations",
            advice="Return a univariate distribution whose batch shape is that of the value.",
        )
        raise InvalidTwin(message)
