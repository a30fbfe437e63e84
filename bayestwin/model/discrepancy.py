"""A smooth difference between what the twin says and what is there to be observed."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.error import ModelError, Quantity, Units, check_gaussian, check_positive, check_word, listed
from bayestwin.model.noise.base import Noise
from bayestwin.model.types import Prior

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

    def quantities(self, units: Units) -> Mapping[str, Quantity]:
        """`<observation>_discrepancy_scale` and `<observation>_discrepancy_length`."""
        along = units.time if self.over == "time" else units.inputs[self.over]
        found = {}
        for name, prior in self.scale.items():
            words = f"scale of the discrepancy of {name}"
            found[f"{name}_discrepancy_scale"] = Quantity(prior, name, units.observations[name], words)
            words = f"length of the discrepancy of {name} over {self.over}"
            found[f"{name}_discrepancy_length"] = Quantity(self.length[name], name, along, words)
        return found

    def check(self, units: Units, noise: Mapping[str, Noise]) -> None:
        """Names of observations, positive scales and lengths, and Gaussian noise."""
        fine = self.scale and set(self.scale) == set(self.length) and set(self.scale) <= set(units.observations)
        if not fine:
            message = explain(
                "The discrepancy does not fit the observations of the twin.",
                expected=f"a scale and a length for at least one of {listed(units.observations)}, and for nothing else",
                received=f"scales for {listed(self.scale)}, lengths for {listed(self.length)}",
                advice="For example `bt.Discrepancy(scale={'<observation>': dist.HalfNormal(1.0)}, "
                "length={'<observation>': dist.LogNormal(1.0, 0.5)})`.",
            )
            raise InvalidTwin(message)
        for name in self.scale:
            check_positive(self.scale[name], f"`scale` of the discrepancy of observation `{name}`", zero=True)
            check_positive(self.length[name], f"`length` of the discrepancy of observation `{name}`")
        check_word(self.over, "dimension that the discrepancy runs over", ("time", *units.inputs))
        check_word(self.kernel, "kernel of the discrepancy", KERNELS)
        number = self.num_basis
        if number is not None and not (type(number) is int and FEWEST_BASIS <= number <= MOST_BASIS):
            message = explain(
                "`num_basis` of the discrepancy makes no sense.",
                expected=f"an integer from {FEWEST_BASIS} to {MOST_BASIS}, or None",
                received=f"{number!r}",
                advice="Leave it out: it then follows from the prior of the length.",
            )
            raise InvalidTwin(message)
        check_gaussian({name: noise[name] for name in self.scale}, "A discrepancy")
