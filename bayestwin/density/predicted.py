"""What a twin says for one value of all its sites."""

from collections.abc import Mapping
from typing import NamedTuple

from jax import Array


class Predicted(NamedTuple):
    """What the twin says for one value of all sites, at n times; with a leading axis for several experiments.

    Attributes:
        noise_free: By observation; shape (n,) each. With process noise what is expected given all observations before.
        states: Shape (n, s); NaN with process noise, where states are not known from parameters alone.
        solved: Whether the solve succeeded; where it did not, the rest means nothing.
        num_steps: Steps of the solver.
        scales: With process noise, by observation, the standard deviation around what is expected; shape (n,) each.
        discrepancy: What is added to `noise_free`, by observation, once it is drawn; shape (n,) each.
    """

    noise_free: Mapping[str, Array]
    states: Array
    solved: Array
    num_steps: Array
    scales: Mapping[str, Array] | None = None
    discrepancy: Mapping[str, Array] | None = None
