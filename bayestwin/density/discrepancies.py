"""The discrepancies of a twin's observations, given its telemetry: what they add to likelihood and predictions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bayestwin.density.bind import Bound
from bayestwin.density.discrepancy import HilbertProcess, build_process
from bayestwin.dynamics.grid import Grid
from bayestwin.model.discrepancy import Discrepancy
from bayestwin.model.twin import Twin


@dataclasses.dataclass(frozen=True, eq=False)
class Discrepancies:
    """Gaussian processes by the observation that each is added to.

    Attributes:
        twin: The twin.
        observations: What was observed, NaN where nothing was; shape (n,) each.
        processes: The process of each observation that has one.
    """

    twin: Twin
    observations: Mapping[str, np.ndarray]
    processes: Mapping[str, HilbertProcess]

    def log_likelihood(
        self, values: Mapping[str, ArrayLike], noise_free: Mapping[str, Array], scales: Mapping[str, ArrayLike]
    ) -> dict[str, Array]:
        """Log density of all observations of one name together, with the discrepancy integrated out.

        Args:
            values: Of the sites.
            noise_free: What the twin says, by observation; shape (n,) each.
            scales: Standard deviation of the noise, by observation.
        """
        return {
            name: process.log_likelihood(
                self.observations[name] - noise_free[name], scales[name], *self.given(name, values)
            )
            for name, process in self.processes.items()
        }

    def draw(
        self,
        key: Array,
        values: Mapping[str, ArrayLike],
        noise_free: Mapping[str, Array],
        scales: Mapping[str, ArrayLike],
    ) -> dict[str, Array]:
        """Discrepancies, drawn given what was observed; shape (n,) each. Arguments as in `log_likelihood`."""
        found = {}
        for number, (name, process) in enumerate(self.processes.items()):
            residuals = jnp.asarray(self.observations.get(name, np.nan)) - noise_free[name]
            own = jax.random.fold_in(key, number)
            found[name] = process.draw(own, residuals, scales[name], *self.given(name, values))
        return found

    def factor(self, name: str, values: Mapping[str, ArrayLike]) -> Array:
        """A root of the prior covariance of one discrepancy at all n times; shape (n, m)."""
        return self.processes[name].factor(*self.given(name, values))

    def given(self, name: str, values: Mapping[str, ArrayLike]) -> tuple[ArrayLike, ArrayLike]:
        """Scale and length of one discrepancy, inferred or known."""
        known: Any = self.twin.error_quantities()
        scale, length = (f"{name}_discrepancy_{which}" for which in ("scale", "length"))
        return values.get(scale, known[scale].prior), values.get(length, known[length].prior)


def build_discrepancies(twin: Twin, bound: Bound, grid: Grid) -> Discrepancies | None:
    """The discrepancies of a twin; None where it has none.

    Args:
        twin: The twin.
        bound: Has the times, and what was observed at them: an observation that it does not have was not.
        grid: Has the inputs at these times.

    Raises:
        InvalidTwin: If a discrepancy is too fine for what it runs over.
    """
    error = twin.model_error
    if not isinstance(error, Discrepancy):
        return None
    places = bound.times if error.over == "time" else grid.inputs[:, list(twin.inputs).index(error.over)]
    nothing = np.full(len(places), np.nan)
    seen = {name: np.isfinite(bound.observations.get(name, nothing)) for name in error.scale}
    processes = {name: build_process(error, name, places, observed) for name, observed in seen.items()}
    return Discrepancies(twin, bound.observations, processes)
