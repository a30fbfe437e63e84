"""What every noise model is: a frozen dataclass that says how an observation scatters around its predicted value.

Also whether the noise of an observation fits its twin, which is traced without numbers.
"""

import abc
import dataclasses
import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin._base.units import same_unit
from bayestwin.errors import InvalidTwin
from bayestwin.model.types import NoiseParameter

type NoiseUnit = Literal["observation", "time", "rate"]
"""A noise parameter's unit: that of the observation, of the twin's time, or of the observation per time."""


class Noise(abc.ABC):
    """A family of distributions around the predicted value of an observation.

    Fields annotated `NoiseParameter` are its parameters, a field `noise` is the noise model that it changes, all
    other fields are settings. A new noise model is a frozen dataclass that defines `distribution`; one whose
    observations depend on each other also `independent`, `log_likelihood` and `sample`.
    """

    support: Any = constraints.real
    """Where an observation can lie at all."""

    units: ClassVar[Mapping[str, NoiseUnit]] = {"scale": "observation"}
    """Units of its own parameters; those not named here have none."""

    normal: ClassVar[bool] = False
    """Whether an observation or its logarithm is normal around the value, so that two records tell what all do."""

    @property
    def own_parameters(self) -> Mapping[str, NoiseParameter]:
        """Its parameters by name, without those of the noise model that it changes."""
        if not dataclasses.is_dataclass(self) or (
            "__dataclass_fields__" not in vars(type(self)) and inspect.get_annotations(type(self))
        ):
            own = type(self).__name__
            raise InvalidTwin(
                f"The fields of the noise model `{own}` are not known.",
                expected="a frozen dataclass",
                received=f"`class {own}` without a decorator",
                advice=f"Write `@dataclasses.dataclass(frozen=True)` above `class {own}`.",
            )
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields if _is_parameter(field.type)}

    @property
    def parameters(self) -> Mapping[str, NoiseParameter]:
        """All parameters by name: each a prior, a known number, or the name of a parameter of the twin."""
        return {name: value for layer in self.layers() for name, value in layer.own_parameters.items()}

    def layers(self) -> Iterator["Noise"]:
        """The noise models that it is made of, the innermost first."""
        if isinstance(inner := getattr(self, "noise", None), Noise):
            yield from inner.layers()
        yield self

    @property
    def independent(self) -> bool:
        """Whether observations at different times are independent, given their predicted values."""
        return all(layer.independent for layer in self.layers() if layer is not self)

    @abc.abstractmethod
    def distribution(self, value: ArrayLike, times: ArrayLike, *_: Any, **parameters: Any) -> dist.Distribution:
        """The distribution of one observation by itself, whose noise-free value is `value`.

        A noise model takes its own parameters by name; `*_` and `Any` say to a type checker that these differ.

        Args:
            value: Noise-free values, in the unit of the observation, any shape; NaN or an impossible value gives a
                distribution whose density is NaN.
            times: Elapsed times in the twin's unit, same shape.
            **parameters: Values of the noise parameters, scalars.
        """

    def log_likelihood(self, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """Log density of observations of one signal; the terms add up to that of all of them.

        Args:
            observed: What was observed, NaN where nothing was; shape (n,).
            value: Noise-free values; shape (n,).
            times: Elapsed times, increasing, in the twin's unit; shape (n,).
            **parameters: Values of the noise parameters, scalars.

        Returns:
            Shape (n,); 0 where nothing was observed, and where one depends on those before it given those.
        """
        observed, value = jnp.asarray(observed), jnp.asarray(value)
        present = jnp.isfinite(observed)
        # Where nothing was observed, the first observation stands once more, and is masked out again: what is finite
        # there once is finite twice, and so is its derivative.
        first, some = jnp.argmax(present), present.any()
        observed = jnp.where(present, observed, jnp.where(some, observed[first], 1.0))
        value = jnp.where(present, value, jnp.where(some, value[first], 1.0))
        return jnp.where(present, self.distribution(value, times, **parameters).log_prob(observed), 0.0)

    def saturated(self, observed: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """Log density of observations if each had been predicted exactly; arguments as of `log_likelihood`."""
        return self.log_likelihood(observed, observed, times, **parameters)

    def sample(self, key: Array, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """New observations at n times; NaN where the value is impossible.

        Args:
            key: Randomness.
            value: Noise-free values; shape (n,).
            times: Elapsed times, increasing; shape (n,).
            **parameters: Values of the noise parameters, scalars.
        """
        distribution = self.distribution(value, times, **parameters)
        drawn = jnp.asarray(distribution.sample(key), float)
        return known(drawn, ~jnp.isnan(distribution.log_prob(drawn)))

    def sample_after(
        self, key: Array, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike
    ) -> Array:
        """As `sample`, but that noise which remembers goes on from the last observation.

        Args:
            key: Randomness.
            observed: What was observed, NaN where nothing was; shape (n,).
            value: Noise-free values; shape (n,).
            times: Elapsed times, increasing; shape (n,).
            **parameters: Values of the noise parameters, scalars.
        """
        del observed
        return self.sample(key, value, times, **parameters)

    def unit_of(self, parameter: str, observation_unit: str, time_unit: str) -> str | None:
        """Unit of a noise parameter, given those of the observation and of the twin's time; None if it is unknown."""
        for layer in self.layers():
            if layer is not self and parameter in layer.own_parameters:
                return layer.unit_of(parameter, observation_unit, time_unit)
        units = {"observation": observation_unit, "time": time_unit, "rate": f"{observation_unit or 1}/{time_unit}"}
        return units[self.units[parameter]] if parameter in self.units else ""


def _is_parameter(annotation: object) -> bool:
    """Whether a field holds a noise parameter; where annotations are kept as text, by that."""
    return annotation is NoiseParameter or (
        isinstance(annotation, str) and annotation.rpartition(".")[2] == "NoiseParameter"
    )


def known(value: ArrayLike, possible: ArrayLike) -> Array:
    """The value, and NaN where it is not possible: a NaN density is 0, and other entries keep their derivatives."""
    return jnp.where(possible, value, jnp.nan)


# Whether the noise of an observation fits its twin: names of shared parameters, units, and a trace without numbers.


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
            raise InvalidTwin(
                f"Two layers of the noise of {owner} have a parameter `{name}`.",
                expected="each parameter once",
                received=" around ".join(type(layer).__name__ for layer in reversed([*noise.layers()])),
                advice="Leave out one of them.",
            )
    for name, shared in noise.parameters.items():
        if not isinstance(shared, str):
            continue
        if shared not in twin_units:
            close = difflib.get_close_matches(shared, twin_units, n=1)
            raise InvalidTwin(
                f"Noise `{name}` of {owner} is said to be the parameter `{shared}`, which the twin does not have.",
                expected=", ".join(f"`{parameter}`" for parameter in twin_units) or "a prior, or a number",
                received=f"`{shared}`",
                advice=f"Did you mean `{close[0]}`?" if close else "Add it to `parameters`, or give a prior here.",
            )
        unit = noise.unit_of(name, *own_units)
        if unit is not None and not same_unit(unit, twin_units[shared]):
            raise InvalidTwin(
                f"Parameter `{shared}` has another unit than the noise `{name}` of {owner}, which it is said to be.",
                expected=f"`{unit}`",
                received=f"`{twin_units[shared]}`",
                advice="Sensors share a noise parameter only where it means the same for each of them.",
            )


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
        raise InvalidTwin(
            f"The noise of {owner} cannot be traced and differentiated by JAX.",
            expected="a log density written with `jax.numpy`; under limits also that of what lies beyond them",
            received=f"{type(reason).__name__}: {first_line[0] if first_line else 'no message'}",
            advice="Correct the function, or choose another noise model.",
        ) from reason
    if shape != ((2,), ()):
        raise InvalidTwin(
            f"The noise of {owner} is a distribution of the wrong shape.",
            expected="one of a scalar for each observation",
            received=f"batch shape {shape[0]} and event shape {shape[1]} for two observations",
            advice="Return a univariate distribution whose batch shape is that of the value.",
        )
