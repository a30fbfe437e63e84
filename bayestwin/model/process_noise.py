"""Disturbances of the states: a twin as a stochastic differential equation."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.error import ModelError, Quantity, Units, check_gaussian, check_positive, check_word, listed
from bayestwin.model.noise.base import Noise
from bayestwin.model.types import Prior


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

    def quantities(self, units: Units) -> Mapping[str, Quantity]:
        """`<state>_diffusion` and `<state>_initial_scale`."""
        found = {}
        for name, prior in self.scale.items():
            unit = f"{units.states[name] or '1'}/{units.time}**0.5"
            found[f"{name}_diffusion"] = Quantity(prior, name, unit, f"process noise of {name}")
        for name, prior in self.initial_scale.items():
            words = f"spread of {name} at the start"
            found[f"{name}_initial_scale"] = Quantity(prior, name, units.states[name], words)
        return found

    def check(self, units: Units, noise: Mapping[str, Noise]) -> None:
        """Names of states, scales that are not negative, and Gaussian noise, for which the filter is right."""
        named = [*self.scale, *self.initial_scale]
        if not self.scale or any(name not in units.states for name in named):
            message = explain(
                "Process noise does not fit the states of the twin.",
                expected=f"a scale for at least one of {listed(units.states)}, and for nothing else",
                received=listed(named),
                advice="For example `bt.ProcessNoise(scale={'<state>': dist.HalfNormal(1.0)})`.",
            )
            raise InvalidTwin(message)
        for group in ("scale", "initial_scale"):
            for name, prior in getattr(self, group).items():
                check_positive(prior, f"`{group}` of the process noise of state `{name}`", zero=True)
        check_word(self.filter, "filter of the process noise", ("auto", "extended", "unscented"))
        check_gaussian(noise, "Process noise")
