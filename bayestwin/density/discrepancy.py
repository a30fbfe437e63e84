"""Discrepancies: Gaussian processes as sums of few sines, integrated out of Gaussian likelihoods.

On [−L, L] the Laplacian's eigenfunctions sin(ω_j (x + L)) / √L, with ω_j = j π / 2L, carry independent normal weights
whose variances are the kernel's spectral density at ω_j (Solin and Särkkä, doi:10.1007/s11222-019-09886-w). Given n
observations with independent noise of one scale, what is left of them is a problem of the size of the sum.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from jax.typing import ArrayLike

from bayestwin.density.bind import Bound
from bayestwin.dynamics.grid import Grid
from bayestwin.errors import InvalidTwin
from bayestwin.model.error import FEWEST_BASIS, MOST_BASIS, Discrepancy
from bayestwin.model.twin import Twin

TRIED = 2000
"""Prior draws of the length of which the plausible range is taken."""

PLAUSIBLE = (0.01, 0.99)


class Kernel(NamedTuple):
    """A stationary kernel on the line.

    Attributes:
        amplitude: Square root of the spectral density of unit variance: (ω, length) → shape of ω.
        margin: Lengths that the interval must reach beyond the data for the boundary not to be felt.
        density: Functions that one length needs, for each multiple of it in the half-width of the interval.
    """

    amplitude: Callable[[ArrayLike, ArrayLike], Array]
    margin: float
    density: float


def _squared_exponential(omega: ArrayLike, length: ArrayLike) -> Array:
    return (2.0 * math.pi) ** 0.25 * jnp.sqrt(length) * jnp.exp(-0.25 * (length * omega) ** 2)  # type: ignore[operator]


def _matern52(omega: ArrayLike, length: ArrayLike) -> Array:
    return 4.0 / math.sqrt(3.0) * 5.0**1.25 * jnp.sqrt(length) * (5.0 + (length * omega) ** 2) ** -1.5  # type: ignore[operator]


def _matern32(omega: ArrayLike, length: ArrayLike) -> Array:
    return 2.0 * 3.0**0.75 * jnp.sqrt(length) / (3.0 + (length * omega) ** 2)  # type: ignore[operator]


# Margins and densities are those of the study of Riutort-Mayol and others, doi:10.1007/s11222-022-10167-2.
KERNELS = {
    "squared_exponential": Kernel(_squared_exponential, margin=3.2, density=1.75),
    "matern52": Kernel(_matern52, margin=4.1, density=2.65),
    "matern32": Kernel(_matern32, margin=4.5, density=3.42),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class HilbertProcess:
    """A Gaussian process at n places, some of them observed with Gaussian noise; a sum of m functions.

    Attributes:
        kernel: The kernel.
        frequencies: ω; shape (m,).
        basis: Its functions at the places; shape (n, m).
        observed: Which places are observed; shape (n,).
        gram: Products of the functions, summed over what is observed; shape (m, m).
    """

    kernel: Kernel = dataclasses.field(metadata={"static": True})
    frequencies: np.ndarray
    basis: np.ndarray
    observed: np.ndarray
    gram: np.ndarray

    def log_likelihood(self, residuals: ArrayLike, noise: ArrayLike, scale: ArrayLike, length: ArrayLike) -> Array:
        """Log density of all that is observed together, with the process integrated out.

        Args:
            residuals: Observations minus what the process is added to, shape (n,); NaN or anything where not observed.
            noise: Standard deviation of the noise.
            scale: Standard deviation of the process.
            length: Its length.
        """
        residuals = jnp.where(self.observed, residuals, 0.0)
        num = jnp.asarray(self.observed).sum()
        root, mean = self._weights(residuals, noise, scale, length)
        explained = jnp.sum((root.T @ mean) ** 2)
        quadratic = jnp.sum(residuals**2) / noise**2 - explained  # type: ignore[operator]
        log_det = 2.0 * num * jnp.log(noise) + 2.0 * jnp.log(jnp.diagonal(root)).sum()
        return -0.5 * (quadratic + log_det + num * math.log(2.0 * math.pi))

    def draw(self, key: Array, residuals: ArrayLike, noise: ArrayLike, scale: ArrayLike, length: ArrayLike) -> Array:
        """The process at all places, drawn given what is observed; shape (n,). Arguments as in `log_likelihood`."""
        residuals = jnp.where(self.observed, residuals, 0.0)
        root, mean = self._weights(residuals, noise, scale, length)
        normal = jax.random.normal(key, self.frequencies.shape)
        weights = mean + jsl.solve_triangular(root.T, normal, lower=False)
        return jnp.asarray(self.basis) @ (self._amplitudes(scale, length) * weights)

    def expect(
        self, residuals: ArrayLike, noise: ArrayLike, scale: ArrayLike, length: ArrayLike
    ) -> tuple[Array, Array]:
        """What a residual is expected to be, given all those before it, and its standard deviation; shape (n,) each.

        Places are taken in their order; arguments as in `log_likelihood`. What was not observed tells nothing.
        """
        features = jnp.asarray(self.basis) * self._amplitudes(scale, length)[None]
        white = jnp.square(noise)

        def update(belief: tuple[Array, Array], row: tuple[Array, Array, Array]) -> tuple[Any, tuple[Array, Array]]:
            (mean, covariance), (feature, residual, here) = belief, row
            shared = covariance @ feature
            expected, variance = feature @ mean, feature @ shared + white
            gain = jnp.where(here, shared / variance, 0.0)
            after = mean + gain * (residual - expected), covariance - gain[:, None] * shared[None, :]
            return after, (expected, jnp.sqrt(variance))

        num = len(self.frequencies)
        rows = (features, jnp.where(self.observed, residuals, 0.0), jnp.asarray(self.observed))
        return lax.scan(update, (jnp.zeros(num), jnp.eye(num)), rows)[1]

    def factor(self, scale: ArrayLike, length: ArrayLike) -> Array:
        """Of the prior covariance of the process at all places: a root, shape (n, m)."""
        return jnp.asarray(self.basis) * self._amplitudes(scale, length)[None]

    def _weights(self, residuals: Array, noise: ArrayLike, scale: ArrayLike, length: ArrayLike) -> tuple[Array, Array]:
        """Of the standardised weights given what is observed: Cholesky factor of the precision, and the mean."""
        amplitudes = self._amplitudes(scale, length)
        shared = amplitudes[:, None] * self.gram * amplitudes[None]
        precision = jnp.eye(len(amplitudes)) + shared / noise**2  # type: ignore[operator]
        root = jnp.linalg.cholesky(precision)
        pulled = amplitudes * (self.basis.T @ residuals) / noise**2  # type: ignore[operator]
        return root, jsl.cho_solve((root, True), pulled)

    def _amplitudes(self, scale: ArrayLike, length: ArrayLike) -> Array:
        return jnp.asarray(scale) * self.kernel.amplitude(self.frequencies, length)


def build_process(error: Discrepancy, name: str, places: np.ndarray, observed: np.ndarray) -> HilbertProcess:
    """The process of one observation.

    Args:
        error: The discrepancy.
        name: Name of the observation.
        places: Where the process is wanted: elapsed times, or an input at these; shape (n,).
        observed: Which of them are observed; shape (n,).

    Raises:
        InvalidTwin: If lengths that the prior holds plausible would need too many functions.
    """
    kernel = KERNELS[error.kernel]
    shortest, longest = _plausible(error.length[name])
    low, high = float(np.min(places)), float(np.max(places))
    half = 0.5 * (high - low) or longest
    reach = max(1.2 * half, kernel.margin * longest)
    needed = max(FEWEST_BASIS, math.ceil(kernel.density * reach / shortest))
    if error.num_basis is None and needed > MOST_BASIS:
        raise InvalidTwin(
            f"The discrepancy of observation `{name}` is too fine for what it runs over.",
            expected=f"lengths for which {MOST_BASIS} functions are enough, over a range of {high - low:g}",
            received=f"lengths from {shortest:g} to {longest:g} (1 % and 99 % of the prior), which need {needed}",
            advice="Let the prior of `length` keep further away from zero, or narrow it. What changes from sample to "
            "sample is noise; for that take bt.Autocorrelated or bt.ProcessNoise.",
        )
    frequencies = np.arange(1, (error.num_basis or needed) + 1) * math.pi / (2.0 * reach)
    from_edge = places - 0.5 * (low + high) + reach
    basis = np.sin(from_edge[:, None] * frequencies) / math.sqrt(reach)
    seen = basis[observed]
    return HilbertProcess(kernel, frequencies, basis, observed, seen.T @ seen)


def _plausible(length: object) -> tuple[float, float]:
    """The range of lengths that the prior holds plausible; of a known one it is that."""
    if not isinstance(length, dist.Distribution):
        return float(length), float(length)  # type: ignore[arg-type]
    with jax.ensure_compile_time_eval():  # a density may be traced when it first needs its processes
        drawn = np.asarray(length.sample(jax.random.key(0), (TRIED,)))
    shortest, longest = np.quantile(drawn, PLAUSIBLE)
    return float(shortest), float(longest)


# The discrepancies of a twin's observations, given its telemetry: what they add to likelihood and predictions.


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

    def known(self, reached: Array) -> Array:
        """Where what is drawn is known, shape (n,): nowhere if something was observed after the solve had failed.

        Args:
            reached: Whether the solve came as far as each time; shape (n,).
        """
        lost = [jnp.isfinite(jnp.asarray(values)) & ~reached for values in self.observations.values()]
        return reached & ~jnp.array(lost, bool).any()

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
