"""How a twin's equations may be wrong, as data: what a twin takes as `model_error=`.

Each kind of model error says what calibration has to infer for it; the likelihood that follows is computed elsewhere.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpyro.distributions as dist

from bayestwin.errors import InvalidTwin, explain
from bayestwin.noise.base import Noise
from bayestwin.noise.continuous import Gaussian
from bayestwin.types import Prior


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
    """Fields that are one word out of a few; they are described and fingerprinted as they are."""

    @abc.abstractmethod
    def quantities(
        self, states: Mapping[str, str], observations: Mapping[str, str], time_unit: str
    ) -> Mapping[str, Quantity]:
        """What there is to infer or to know, under the names it has in a result.

        Args:
            states: Units of the states, by name.
            observations: Units of the observations, by name.
            time_unit: Unit of time.
        """

    @abc.abstractmethod
    def check(self, states: Mapping[str, Any], noise: Mapping[str, Noise]) -> None:
        """Refuse what does not fit the twin.

        Args:
            states: The twin's states.
            noise: Noise models of its observations.

        Raises:
            InvalidTwin: With what does not fit.
        """


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
        filter: `"auto"` is exact for a twin that is affine in states, time and those inputs that are not held, and else
            `"extended"`, which linearises along the predicted states; `"unscented"` averages over points around them.
    """

    scale: Mapping[str, Prior]
    initial_scale: Mapping[str, Prior] = dataclasses.field(default_factory=dict)
    filter: Literal["auto", "extended", "unscented"] = "auto"
    settings: ClassVar[tuple[str, ...]] = ("filter",)

    def quantities(
        self, states: Mapping[str, str], observations: Mapping[str, str], time_unit: str
    ) -> Mapping[str, Quantity]:
        """`<state>_diffusion` and `<state>_initial_scale`."""
        del observations  # it is about states alone
        found = {}
        for name, prior in self.scale.items():
            unit = f"{states[name] or '1'}/{time_unit}**0.5"
            found[f"{name}_diffusion"] = Quantity(prior, name, unit, f"process noise of {name}")
        for name, prior in self.initial_scale.items():
            words = f"spread of {name} at the start"
            found[f"{name}_initial_scale"] = Quantity(prior, name, states[name], words)
        return found

    def check(self, states: Mapping[str, Any], noise: Mapping[str, Noise]) -> None:
        """Names of states, scales that are not negative, and Gaussian noise, for which the filter is right."""
        named = [*self.scale, *self.initial_scale]
        if not self.scale or any(name not in states for name in named):
            message = explain(
                "Process noise does not fit the states of the twin.",
                expected=f"a scale for at least one of {_listed(states)}, and for nothing else",
                received=_listed(named),
                advice="For example `bt.ProcessNoise(scale={'<state>': dist.HalfNormal(1.0)})`.",
            )
            raise InvalidTwin(message)
        for group in ("scale", "initial_scale"):
            for name, prior in getattr(self, group).items():
                _check_not_negative(prior, f"`{group}` of the process noise of state `{name}`")
        if self.filter not in ("auto", "extended", "unscented"):
            message = explain(
                "The filter of the process noise is unknown.",
                expected='"auto", "extended" or "unscented"',
                received=f"{self.filter!r}",
                advice="Use one of these words.",
            )
            raise InvalidTwin(message)
        for name, model in noise.items():
            if not isinstance(model, Gaussian):
                message = explain(
                    f"Process noise does not go with the noise of observation `{name}`.",
                    expected="bt.Gaussian: the Kalman filter is right for it alone",
                    received=f"bt.{type(model).__name__}",
                    advice="Take bt.Gaussian, perhaps of a transformed observation, or leave process noise out.",
                )
                raise InvalidTwin(message)


def _check_not_negative(prior: Prior, owner: str) -> None:
    if isinstance(prior, dist.Distribution):  # its shape is looked at with those of all priors
        support: Any = prior.support
        fine = prior.batch_shape + prior.event_shape != () or not bool(support(-1.0))
    else:
        fine = isinstance(prior, int | float) and math.isfinite(prior) and prior >= 0
    if not fine:
        message = explain(
            f"The prior of {owner} cannot be used.",
            expected="a prior on positive numbers, or a number from 0 on",
            received=f"{prior!r}",
            advice="For example `dist.HalfNormal(1.0)`.",
        )
        raise InvalidTwin(message)


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
