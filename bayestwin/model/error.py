"""Model errors: what each is, as data that says what there is to infer for it; likelihoods are computed elsewhere.

A discrepancy is between what the twin says and what is observed; process noise disturbs the states.
"""

import abc
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpyro.distributions as dist

from bayestwin.errors import InvalidTwin
from bayestwin.model.noise.families import Gaussian, Noise
from bayestwin.model.types import Prior, by_row


class Units(NamedTuple):
    """Units of a twin's members by name, and its unit of time."""

    states: Mapping[str, str]
    observations: Mapping[str, str]
    inputs: Mapping[str, str]
    time: str


class ErrorQuantity(NamedTuple):
    """One scalar of a model error.

    Attributes:
        prior: A scalar prior, or a number when known.
        owner: The state or the observation that it is about.
        unit: Unit as text.
        doc: What it is, in words.
    """

    prior: Prior
    owner: str
    unit: str
    doc: str


class ModelError(abc.ABC):
    """A family of ways in which the twin's equations differ from the asset."""

    settings: ClassVar[tuple[str, ...]] = ()
    """Fields that are words or numbers of its own; they are described and fingerprinted as they are."""

    @abc.abstractmethod
    def quantities(self, units: Units) -> Mapping[str, ErrorQuantity]:
        """What there is to infer or to know, under the names it has in a result."""

    @abc.abstractmethod
    def check(self, units: Units, noise: Mapping[str, Noise]) -> None:
        """Refuse what does not fit the twin.

        Args:
            units: Names and units of the twin's members.
            noise: Noise models of its observations.

        Raises:
            InvalidTwin: With what does not fit.
        """


def check_word(word: str, owner: str, words: Iterable[str]) -> None:
    """Refuse a setting that is not one of these words."""
    if word in words:
        return
    raise InvalidTwin(
        f"The {owner} is unknown.",
        expected=" or ".join(f'"{one}"' for one in words),
        received=f"{word!r}",
        advice="Use one of these words.",
    )


def check_gaussian(noise: Mapping[str, Noise], kind: str) -> None:
    """Refuse observations whose noise is not Gaussian, the only one that the error can be integrated out with."""
    for name, model in noise.items():
        if not isinstance(model, Gaussian):
            raise InvalidTwin(
                f"{kind} does not go with the noise of observation `{name}`.",
                expected="bt.Gaussian, with which it is integrated out exactly",
                received=f"bt.{type(model).__name__}",
                advice="Take bt.Gaussian, perhaps of a transformed observation, or leave the model error out.",
            )
        if by_row(model.scale):
            raise InvalidTwin(
                f"{kind} does not go with the noise of observation `{name}`.",
                expected="a `scale` that is the same in all rows: a prior, a number, or the name of a parameter",
                received="a scale that is another one in each row",
                advice="Give it a prior, or leave the model error out.",
            )


def check_positive(prior: Prior, owner: str, *, zero: bool = False) -> None:
    """Refuse a prior that reaches below zero, or a number that does; `zero` says whether it may be known to be that."""
    if isinstance(prior, dist.Distribution):  # its shape is looked at with those of all priors
        support: Any = prior.support
        fine = prior.batch_shape + prior.event_shape != () or not bool(support(-1.0))
    else:
        number = isinstance(prior, int | float) and math.isfinite(prior)
        fine = number and (prior > 0 or (zero and prior == 0))
    if not fine:
        raise InvalidTwin(
            f"The prior of {owner} cannot be used.",
            expected=f"a prior on positive numbers, or a {'number from 0 on' if zero else 'positive number'}",
            received=f"{prior!r}",
            advice="For example `dist.HalfNormal(1.0)`." if zero else "For example `dist.LogNormal(0.0, 0.5)`.",
        )


def listed(names: Iterable[str]) -> str:
    """Names, as errors show them."""
    return ", ".join(f"`{name}`" for name in names) or "none"


# A smooth difference between what the twin says and what is there to be observed.

KERNELS = ("squared_exponential", "matern52", "matern32")

FEWEST_BASIS, MOST_BASIS = 3, 400


@dataclasses.dataclass(frozen=True)
class Discrepancy(ModelError):
    """A Gaussian process between twin and asset: an observation is what the twin says, plus discrepancy, plus noise.

    The twin's equations stay as they are, and what they cannot follow is told apart from noise (Kennedy and O'Hagan,
    doi:10.1111/1467-9868.00294). Nothing but the two priors keeps a flexible discrepancy from doing the work of the
    physics: `scale` says how far the twin may be off, and has most of its mass near zero; `length` says over which
    stretch its error keeps its sign, and keeps away from the time between samples, at which it could be taken for
    noise, and from lengths over which parameters act.

    The process is a sum of few smooth functions (a Hilbert-space approximation, doi:10.1007/s11222-022-10167-2) and is
    integrated out of the likelihood exactly, so there is nothing to sample but its scale and length, and 10⁴
    observations are no burden.

    Attributes:
        scale: By observation: standard deviation of the discrepancy, in the observation's unit; an observation that is
            not named has none.
        length: By observation, the same ones: its length scale, in the unit of what it runs over. The prior must keep
            away from zero, as `dist.LogNormal` and `dist.InverseGamma` do.
        over: What the discrepancy depends on: `"time"`, or the name of an input, whose range then matters; what was
            learned over an input is also true in the future, over time it is forgotten within a few lengths.
        kernel: How smooth it is; `"squared_exponential"` is the smoothest.
        num_basis: How many functions make up the sum; by default as many as the shortest plausible length asks for.
    """

    scale: Mapping[str, Prior]
    length: Mapping[str, Prior]
    over: str = "time"
    kernel: Literal["squared_exponential", "matern52", "matern32"] = "matern52"
    num_basis: int | None = None
    settings: ClassVar[tuple[str, ...]] = ("over", "kernel", "num_basis")

    def quantities(self, units: Units) -> Mapping[str, ErrorQuantity]:
        """`<observation>_discrepancy_scale` and `<observation>_discrepancy_length`."""
        along = units.time if self.over == "time" else units.inputs[self.over]
        error_quantities = {}
        for name, prior in self.scale.items():
            words = f"scale of the discrepancy of {name}"
            error_quantities[f"{name}_discrepancy_scale"] = ErrorQuantity(prior, name, units.observations[name], words)
            words = f"length of the discrepancy of {name} over {self.over}"
            error_quantities[f"{name}_discrepancy_length"] = ErrorQuantity(self.length[name], name, along, words)
        return error_quantities

    def check(self, units: Units, noise: Mapping[str, Noise]) -> None:
        """Names of observations, positive scales and lengths, and Gaussian noise."""
        fine = self.scale and set(self.scale) == set(self.length) and set(self.scale) <= set(units.observations)
        if not fine:
            raise InvalidTwin(
                "The discrepancy does not fit the observations of the twin.",
                expected=f"a scale and a length for at least one of {listed(units.observations)}, and for nothing else",
                received=f"scales for {listed(self.scale)}, lengths for {listed(self.length)}",
                advice="For example `bt.Discrepancy(scale={'<observation>': dist.HalfNormal(1.0)}, "
                "length={'<observation>': dist.LogNormal(1.0, 0.5)})`.",
            )
        for name in self.scale:
            check_positive(self.scale[name], f"`scale` of the discrepancy of observation `{name}`", zero=True)
            check_positive(self.length[name], f"`length` of the discrepancy of observation `{name}`")
        check_word(self.over, "dimension that the discrepancy runs over", ("time", *units.inputs))
        check_word(self.kernel, "kernel of the discrepancy", KERNELS)
        number = self.num_basis
        if number is not None and not (type(number) is int and FEWEST_BASIS <= number <= MOST_BASIS):
            raise InvalidTwin(
                "`num_basis` of the discrepancy makes no sense.",
                expected=f"an integer from {FEWEST_BASIS} to {MOST_BASIS}, or None",
                received=f"{number!r}",
                advice="Leave it out: it then follows from the prior of the length.",
            )
        check_gaussian({name: noise[name] for name in self.scale}, "A discrepancy")


# Disturbances of the states: a twin as a stochastic differential equation.


@dataclasses.dataclass(frozen=True)
class ProcessNoise(ModelError):
    """Disturbances of the states: `dx = f(t, x, p, u) dt + diag(scale) dW`, with independent Wiener processes W.

    The states are then not known from parameters alone: they are estimated along the telemetry by a Kalman filter, and
    all results have their smoothed trajectories.

    Attributes:
        scale: By state: standard deviation of what is added in one unit of time, in the state's unit per square root
            of the time unit; a state that is not named is not disturbed.
        initial_scale: By state: standard deviation of the state at `t0` around its `initial`; without it the state
            begins exactly there. A state with a known `initial` and an `initial_scale` has a normal prior that the
            filter integrates out: that is easier to draw from than a prior on `initial`, which is a site of its own.
            Or `"diffusion"`: the covariance at `t0` is what process noise adds up to the second time at which the
            solver stops, the convention of CTSM-R, so that it is inferred with the diffusion.
        filter: `"auto"` is exact for a twin that is affine in states, time and those inputs that are not held, and else
            `"extended"`, which linearises along the predicted states; `"unscented"` averages over points around them.
        innovations: How an observation scatters around what the filter expects from all before it, in units of the
            filter's standard deviation: `"gaussian"`, or with heavy tails, so that opened windows and failing sensors
            do not widen everything: `"student"` is Student-t, also in forecasts, and `"huber"` is normal up to
            `threshold` and exponential beyond, for the likelihood alone: forecasts are normal with the scales it gives.
            The Kalman gain is that of normal innovations.
        df: Degrees of freedom of `"student"`, a prior or a number, by default 4; `innovation_df` in a result.
        threshold: Of `"huber"`, in standard deviations, by default 3.
    """

    scale: Mapping[str, Prior]
    initial_scale: Mapping[str, Prior] | Literal["diffusion"] = dataclasses.field(default_factory=dict)
    filter: Literal["auto", "extended", "unscented"] = "auto"
    innovations: Literal["gaussian", "student", "huber"] = "gaussian"
    df: Prior | None = None
    threshold: float | None = None

    @property
    def settings(self) -> tuple[str, ...]:  # type: ignore[override]
        """`filter`, and what is not as it is by default."""
        others = {"innovations": "gaussian", "threshold": None}
        own = tuple(name for name, usual in others.items() if getattr(self, name) != usual)
        return ("filter", *own, *(("initial_scale",) if self.initial_scale == "diffusion" else ()))

    def quantities(self, units: Units) -> Mapping[str, ErrorQuantity]:
        """`<state>_diffusion`, `<state>_initial_scale` and `innovation_df`."""
        error_quantities = {}
        for name, prior in self.scale.items():
            unit = f"{units.states[name] or '1'}/{units.time}**0.5"
            error_quantities[f"{name}_diffusion"] = ErrorQuantity(prior, name, unit, f"process noise of {name}")
        for name, prior in self._initial_scales.items():
            words = f"spread of {name} at the start"
            error_quantities[f"{name}_initial_scale"] = ErrorQuantity(prior, name, units.states[name], words)
        if self.df is not None:
            words = "degrees of freedom of innovations"
            error_quantities["innovation_df"] = ErrorQuantity(self.df, next(iter(units.observations)), "", words)
        return error_quantities

    @property
    def _initial_scales(self) -> Mapping[str, Prior]:
        return {} if isinstance(self.initial_scale, str) else self.initial_scale

    def check(self, units: Units, noise: Mapping[str, Noise]) -> None:
        """Names of states, scales that are not negative, and Gaussian noise, for which the filter is right."""
        if isinstance(self.initial_scale, str):
            check_word(self.initial_scale, "`initial_scale` of the process noise", ("diffusion",))
        named = [*self.scale, *self._initial_scales]
        if not self.scale or any(name not in units.states for name in named):
            raise InvalidTwin(
                "Process noise does not fit the states of the twin.",
                expected=f"a scale for at least one of {listed(units.states)}, and for nothing else",
                received=listed(named),
                advice="For example `bt.ProcessNoise(scale={'<state>': dist.HalfNormal(1.0)})`.",
            )
        for group, scales in (("scale", self.scale), ("initial_scale", self._initial_scales)):
            for name, prior in scales.items():
                check_positive(prior, f"`{group}` of the process noise of state `{name}`", zero=True)
        check_word(self.filter, "filter of the process noise", ("auto", "extended", "unscented"))
        check_word(self.innovations, "word for the innovations of the process noise", ("gaussian", "student", "huber"))
        for setting, word in (("df", "student"), ("threshold", "huber")):
            self._check_tails(setting, word)
        check_gaussian(noise, "Process noise")

    def _check_tails(self, setting: str, word: str) -> None:
        """That a setting of heavy tails is positive, and that the innovations have it."""
        value = getattr(self, setting)
        if value is None:
            return
        if self.innovations != word:
            raise InvalidTwin(
                f"`{setting}` of the process noise belongs to other innovations.",
                expected=f'`innovations="{word}"`, or no `{setting}`',
                received=f'`innovations="{self.innovations}"` and {setting}={value!r}',
                advice=f'Say `innovations="{word}"`, or leave `{setting}` out.',
            )
        if setting == "threshold" and isinstance(value, dist.Distribution):
            raise InvalidTwin(
                "`threshold` of the process noise is not inferred.",
                expected="a positive number of standard deviations",
                received=f"{value!r}",
                advice='Say for example 3.0, or take `innovations="student"`, whose `df` may have a prior.',
            )
        check_positive(value, f"`{setting}` of the innovations")
