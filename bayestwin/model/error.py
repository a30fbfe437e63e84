"""What every model error is: data that says what there is to infer for it; its likelihood is computed elsewhere."""

import abc
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpyro.distributions as dist

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.noise.base import Noise
from bayestwin.model.noise.plain import Gaussian
from bayestwin.model.types import Prior


class Units(NamedTuple):
    """Units of a twin's members by name, and its unit of time."""

    states: Mapping[str, str]
    observations: Mapping[str, str]
    inputs: Mapping[str, str]
    time: str


class Quantity(NamedTuple):
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
    def quantities(self, units: Units) -> Mapping[str, Quantity]:
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
    message = explain(
        f"The {owner} is unknown.",
        expected=" or ".join(f'"{one}"' for one in words),
        received=f"{word!r}",
        advice="Use one of these words.",
    )
    raise InvalidTwin(message)


def check_gaussian(noise: Mapping[str, Noise], kind: str) -> None:
    """Refuse observations whose noise is not Gaussian, the only one that the error can be integrated out with."""
    for name, model in noise.items():
        if not isinstance(model, Gaussian):
            message = explain(
                f"{kind} does not go with the noise of observation `{name}`.",
                expected="bt.Gaussian, with which it is integrated out exactly",
                received=f"bt.{type(model).__name__}",
                advice="Take bt.Gaussian, perhaps of a transformed observation, or leave the model error out.",
            )
            raise InvalidTwin(message)


def check_positive(prior: Prior, owner: str, *, zero: bool = False) -> None:
    """Refuse a prior that reaches below zero, or a number that does; `zero` says whether it may be known to be that."""
    if isinstance(prior, dist.Distribution):  # its shape is looked at with those of all priors
        support: Any = prior.support
        fine = prior.batch_shape + prior.event_shape != () or not bool(support(-1.0))
    else:
        number = isinstance(prior, int | float) and math.isfinite(prior)
        fine = number and (prior > 0 or (zero and prior == 0))
    if not fine:
        message = explain(
            f"The prior of {owner} cannot be used.",
            expected=f"a prior on positive numbers, or a {'number from 0 on' if zero else 'positive number'}",
            received=f"{prior!r}",
            advice="For example `dist.HalfNormal(1.0)`." if zero else "For example `dist.LogNormal(0.0, 0.5)`.",
        )
        raise InvalidTwin(message)


def listed(names: Iterable[str]) -> str:
    """Names, as errors show them."""
    return ", ".join(f"`{name}`" for name in names) or "none"
