"""Families of noise: what each of them is, and those of what is read directly.

A noise model is a frozen dataclass that says how an observation scatters around its predicted value: on a continuous
scale, with a memory, in counts, or by any NumPyro distribution. Whether it fits its twin is traced without numbers.
"""

import abc
import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, override

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from bayestwin._base.units import same_unit
from bayestwin.errors import InvalidTwin
from bayestwin.model.rewriting import find_line
from bayestwin.model.tracing import first_line_of, namespace, untraceable
from bayestwin.model.types import Column, NoiseParameter, by_row

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

    signed: ClassVar[frozenset[str]] = frozenset()
    """Its own parameters that may be zero or negative."""

    constant: ClassVar[frozenset[str]] = frozenset()
    """Its own parameters that cannot have another value in each row."""

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
        """All parameters by name: each a prior, a known number, or the name of a parameter of the twin.

        Or, with another value in each row, a column of the telemetry or a function.
        """
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
            **parameters: Values of the noise parameters, scalars, or of the shape of the values.
        """

    def supported(self, **limits: ArrayLike) -> Any:
        """Where each observation can lie, by what the telemetry says of its row; `support` where it says nothing."""
        del limits
        return self.support

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
        # where nothing was observed the first observation stands once more, finite as it is, and is masked out again
        first, some = jnp.argmax(present), present.any()
        observed = jnp.where(present, observed, jnp.where(some, observed[first], 1.0))
        value = jnp.where(present, value, jnp.where(some, value[first], 1.0))
        return jnp.where(present, self.distribution(value, times, **parameters).log_prob(observed), 0.0)

    def given_before(
        self, observed: ArrayLike, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike
    ) -> dist.Distribution:
        """The distribution of each observation given all those before it; arguments as of `log_likelihood`.

        Of independent observations that of each by itself. Batch shape (n,); of no meaning where nothing was observed.
        """
        del observed
        if not self.independent:
            message = f"`{type(self).__name__}` does not say what one observation is, given those before it"
            raise NotImplementedError(message)
        return self.distribution(value, times, **parameters)

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
        distribution: Any = self.distribution(value, times, **parameters)
        drawn = jnp.asarray(distribution.sample(key), float)
        certain = jnp.asarray(distribution.scale) == 0.0 if self.normal else False  # and is what is predicted
        return known(drawn, ~jnp.isnan(distribution.log_prob(drawn)) | certain)

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
    for name, parameter in noise.parameters.items():
        shared, unit = parameter, noise.unit_of(name, *own_units)
        if isinstance(parameter, Column):
            shared, unit = parameter.factor, ""
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
    free |= {n: two for n, p in noise.parameters.items() if by_row(p)}
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
        if find_line(reason) is not None:  # a function of the user's own
            raise untraceable(f"The noise of {owner}", reason) from None
        raise InvalidTwin(
            f"The noise of {owner} cannot be traced and differentiated by JAX.",
            expected="a log density written with `jax.numpy`; under limits also that of what lies beyond them",
            received=first_line_of(reason),
            advice="Correct the function, or choose another noise model.",
        ) from reason
    if shape != ((2,), ()):
        raise InvalidTwin(
            f"The noise of {owner} is a distribution of the wrong shape.",
            expected="one of a scalar for each observation",
            received=f"batch shape {shape[0]} and event shape {shape[1]} for two observations",
            advice="Return a univariate distribution whose batch shape is that of the value.",
        )


# Noise of what is read directly.


@dataclasses.dataclass(frozen=True)
class Gaussian(Noise):
    """Additive normal noise: `p(y | v) = N(v, scale²)`.

    Attributes:
        scale: Standard deviation, in the unit of the observation.
    """

    scale: NoiseParameter
    normal: ClassVar[bool] = True

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Normal with mean `value`."""
        return dist.Normal(value, scale)


@dataclasses.dataclass(frozen=True)
class Proportional(Noise):
    """Normal noise that grows with the value: `p(y | v) = N(v, scale² + (relative · v)²)`.

    Attributes:
        scale: Standard deviation at a value of 0, in the unit of the observation.
        relative: Standard deviation per value where that is large, no unit: 0.05 is 5 %.
    """

    scale: NoiseParameter
    relative: NoiseParameter
    normal: ClassVar[bool] = True

    @override
    def distribution(
        self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike, relative: ArrayLike
    ) -> dist.Distribution:
        """Normal with mean `value`."""
        return dist.Normal(value, jnp.sqrt(jnp.square(scale) + jnp.square(relative * jnp.asarray(value))))


@dataclasses.dataclass(frozen=True)
class LogNormal(Noise):
    """Multiplicative noise: `p(log y | v) = N(log v, scale²)`; the predicted value is the median.

    Attributes:
        scale: Standard deviation of the logarithm, no unit.
    """

    scale: NoiseParameter
    normal: ClassVar[bool] = True
    support = constraints.positive
    units: ClassVar[Mapping[str, NoiseUnit]] = {}

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike) -> dist.Distribution:
        """Log-normal with median `value`; NaN where that is not positive."""
        value = jnp.asarray(value)
        return dist.LogNormal(jnp.log(known(value, value > 0.0)), scale, validate_args=False)


@dataclasses.dataclass(frozen=True)
class StudentT(Noise):
    """Additive heavy-tailed noise: `y = v + scale · t(df)`; single outliers pull less than under `Gaussian`.

    Attributes:
        scale: Scale, in the unit of the observation.
        df: Degrees of freedom, no unit; 4 is heavy-tailed, above 30 it is nearly Gaussian.
    """

    scale: NoiseParameter
    df: NoiseParameter = 4.0

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, scale: ArrayLike, df: ArrayLike) -> dist.Distribution:
        """Student-t with location `value`."""
        return dist.StudentT(df, value, scale)


# Noise of counts: events at a rate, events that cluster, successes out of a number of trials.

LEAST = 1e-100
"""An expected count that is as good as 0 and has, unlike it, a logarithm."""


@dataclasses.dataclass(frozen=True)
class Poisson(Noise):
    """Counts: `p(y | v) = Poisson(v)`; the predicted value is the expected count."""

    support = constraints.nonnegative_integer

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike) -> dist.Distribution:
        """Poisson with rate `value`; NaN where that is negative."""
        return dist.Poisson(_expected(value), validate_args=False)


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(Noise):
    """Counts that scatter more than Poisson's: mean v, variance `v + v² / concentration`.

    Attributes:
        concentration: No unit; the smaller, the more they scatter, and from about 10 v on they are nearly Poisson.
    """

    concentration: NoiseParameter
    support = constraints.nonnegative_integer

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, *, concentration: ArrayLike) -> dist.Distribution:
        """Negative binomial with mean `value`; NaN where that is negative."""
        return dist.NegativeBinomial2(_expected(value), concentration, validate_args=False)


@dataclasses.dataclass(frozen=True)
class Binomial(Noise):
    """Successes out of `trials`: `p(y | v) = Binomial(trials, v)`; the predicted value is their probability.

    Attributes:
        trials: How many there are for each observation.

    Raises:
        InvalidTwin: If `trials` is not a positive integer.
    """

    trials: int
    units: ClassVar[Mapping[str, NoiseUnit]] = {}

    def __post_init__(self) -> None:
        """Refuse a number of trials that cannot be."""
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise InvalidTwin(
                "`trials` of bt.Binomial makes no sense.",
                expected="an integer, at least 1",
                received=f"{self.trials!r}",
                advice="It is a known number, the same for all observations.",
            )

    @property
    def support(self) -> Any:
        """From 0 to `trials`."""
        return constraints.integer_interval(0, self.trials)

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike) -> dist.Distribution:
        """Binomial with probability `value`; NaN where that is none."""
        value = jnp.asarray(value)
        return dist.BinomialProbs(known(value, (value >= 0.0) & (value <= 1.0)), self.trials, validate_args=False)

    @override
    def saturated(self, observed: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> Array:
        """A count is predicted exactly by its share of the trials."""
        return self.log_likelihood(observed, jnp.asarray(observed) / self.trials, times, **parameters)


def _expected(value: ArrayLike) -> Array:
    value = jnp.asarray(value)
    return known(jnp.maximum(value, LEAST), value >= 0.0)


# Any NumPyro distribution as noise, by a function of the predicted value.


@dataclasses.dataclass(frozen=True)
class NoiseFrom(Noise):
    """Noise from a function: `NoiseFrom(lambda v, p: dist.Gamma(p.shape, p.shape / v), {"shape": prior}, positive)`.

    Attributes:
        function: `(value, p)` → the distribution of one observation, written with `jax.numpy`; `p` gives the parameters
            as attributes. Where a value is impossible the density is NaN or −∞.
        priors: The noise parameters by name: each a prior, a known number, or the name of a parameter of the twin.
        support: Where an observation can lie, a constraint of NumPyro.
    """

    function: Callable[[Any, Any], dist.Distribution]
    priors: Mapping[str, NoiseParameter] = dataclasses.field(default_factory=dict)
    support: Any = dataclasses.field(default_factory=lambda: constraints.real)

    @property
    def signed(self) -> frozenset[str]:  # type: ignore[override]
        """All: only the function knows what it does with a parameter."""
        return frozenset(self.priors)

    @property
    def own_parameters(self) -> Mapping[str, NoiseParameter]:
        """Those in `priors`."""
        return self.priors

    @override
    def distribution(self, value: ArrayLike, times: ArrayLike, **parameters: ArrayLike) -> dist.Distribution:
        """What the function returns."""
        given = namespace("parameters", tuple(self.priors))(*[parameters[name] for name in self.priors])
        return self.function(value, given)

    @override
    def unit_of(self, parameter: str, observation_unit: str, time_unit: str) -> str | None:
        """Unknown: only the function knows what it does with a parameter."""
        return None
