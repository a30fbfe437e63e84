"""Models that compute their own trajectories and show no equations: what they take, what they give, and one solve."""

import abc
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayestwin.errors import InvalidTwin
from bayestwin.model.error import ProcessNoise


class BlackBox(abc.ABC):
    """A model in place of a vector field: values of parameters go in, outputs at the saved times come out.

    A twin whose `vector_field` is one has its outputs as states. Nothing is known of what goes on in between, so there
    are no derivatives, and events, process noise and integrals, which would change states on the way, are refused.
    """

    @property
    @abc.abstractmethod
    def takes(self) -> tuple[str, ...]:
        """Parameters of the twin that it is solved for, in order."""

    @property
    @abc.abstractmethod
    def driven_by(self) -> tuple[str, ...]:
        """Inputs, which are all of the twin's, in order."""

    @property
    @abc.abstractmethod
    def gives(self) -> tuple[str, ...]:
        """Outputs, which are the twin's states, in order."""

    def __call__(self, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:  # noqa: ARG002
        """Rates of the states, of which nothing is known."""
        return dict.fromkeys(self.gives, jnp.nan)

    @property
    @abc.abstractmethod
    def words(self) -> str:
        """What stands in place of equations, and tells it from any other: part of the twin's fingerprint."""

    @abc.abstractmethod
    def solve(self, values: np.ndarray, edges: np.ndarray, coefficients: np.ndarray, save: np.ndarray) -> np.ndarray:
        """Solve once; the same arguments give the same result, and nothing is raised.

        Args:
            values: Of what it takes; shape (d,).
            edges: Elapsed times, increasing from 0; shape (m + 1,).
            coefficients: Inputs within each interval, as `Grid` has them; shape (m, k, q).
            save: Positions of the saved times among the edges; shape (n,).

        Returns:
            Outputs at the saved times, shape (n, s); NaN from where on the solve failed.
        """

    @abc.abstractmethod
    def check(self, values: np.ndarray, edges: np.ndarray, coefficients: np.ndarray, save: np.ndarray) -> None:
        """Refuse a grid, or a model, that cannot be solved again and again; arguments as of `solve`, values (n, d).

        Raises:
            InvalidTwin: If the grid does not suit it, or the same values do not give the same outputs.
        """

    @property
    @abc.abstractmethod
    def file(self) -> pathlib.Path:
        """Where it is: what a run keeps with the code of its twin."""

    @property
    @abc.abstractmethod
    def tally(self) -> Mapping[str, Any]:
        """What it did since its process began, as plain values: `solves`, `failed` and what says why, and more."""


class OwnStart:
    """The `initial=` of a state of a black box, which starts it by itself."""

    words = "what the model starts with"

    def __call__(self, p: Any) -> Any:  # noqa: ARG002
        """Not known beforehand."""
        return jnp.nan


def check_black_box(twin: Any) -> None:
    """Refuse what a twin asks of a black box that nobody can do from outside.

    Raises:
        InvalidTwin: Naming all of it.
    """
    box = twin.vector_field
    counted = [name for name, observation in twin.observations.items() if observation.counts]
    started = [name for name, state in twin.states.items() if not isinstance(state.initial, OwnStart)]
    found = {
        "events": [*twin.events],
        "process noise": ["model_error"] if isinstance(twin.model_error, ProcessNoise) else [],
        "quantities": [*twin.quantities],
        "observations that read a mean or a total": counted,
        "initial values from outside": [name for name in started if name in box.gives],
        "states that are no outputs of it": [name for name in twin.states if name not in box.gives],
        "outputs that are no states, in its order": [] if (*twin.states,) == box.gives else [*box.gives],
        "no parameter": [name for name in box.takes if name not in twin.parameters],
        "inputs other than its own, in its order": []
        if (*twin.inputs,) == box.driven_by
        else [*twin.inputs] or ["none"],
        "time in other units than seconds": [] if twin.time_unit == "s" else [twin.time_unit],
    }
    if any(found.values()):
        raise InvalidTwin(
            f"Twin `{twin.name}` asks what cannot be done to a model whose equations nobody sees.",
            expected="states that are its outputs and start as it does, and observations of them at the times of rows",
            received="; ".join(
                f"{what}: {', '.join(f'`{n}`' for n in names)}" for what, names in found.items() if names
            ),
            advice="Leave these out; where the model starts is set by its own parameters.",
        )
