"""From values of the sites to trajectories, predictions and log likelihoods, many draws at a time."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.compilation import Program
from bayestwin._base.progress import Phase
from bayestwin.density.density import Density
from bayestwin.density.survey import num_solved
from bayestwin.dynamics.blocks import in_blocks
from bayestwin.dynamics.steppers import Precision
from bayestwin.model.components import ATOL
from bayestwin.model.twin import Twin

AT_ONCE = 100
"""Draws solved in one call; the last batch is padded, so that there is one compilation."""

MOST_NUMBERS = 10_000_000
"""Of the trajectories of states that are arrays at most about so many numbers are kept, 80 MB: where they have more,
those of fewer entries, evenly spread over each dimension from its first to its last."""

MOST_KEPT = 2.5e7
"""Numbers that one call keeps at once of long records: 200 MB."""

USUAL_DRAWS, FEWEST_DRAWS = 1000, 100
"""Draws whose trajectories are stored where nobody asked for a number: these, and of long records down to those."""

MOST_STORED = 100_000_000
"""Numbers of all trajectories that are stored where nobody asked for a number of draws, and of all log likelihoods: 800
MB each. What one draw needs grows with the record, so that 100,000 rows would fill what memory there is."""


def num_stored(density: Density, places: int, wanted: int | None) -> int:
    """About how many draws have their trajectories stored.

    Args:
        density: What is predicted.
        places: Places of the result along experiments and times together.
        wanted: The number that was asked for, which holds; None for as many as `MOST_STORED` allows.
    """
    if wanted is not None:
        return wanted
    states = sum(not state.shape for state in density.twin.states.values())  # arrays have `MOST_NUMBERS` of their own
    each = places * (2 * len(density.twin.observations) + states)
    return int(np.clip(MOST_STORED // max(each, 1), FEWEST_DRAWS, USUAL_DRAWS))


def terms_fit(density: Density, num: int) -> bool:
    """Whether the log likelihoods of so many draws are to be stored."""
    return num * sum(values.size for values in density.bound.observations.values()) <= MOST_STORED


def at_once(density: Density) -> int:
    """How many draws are solved in one call; fewer of long records, and where states are arrays with long paths."""
    layout = density.twin.layout
    if not layout.scalar:
        return int(np.clip(MOST_NUMBERS // (num_solved(density) * layout.size), 1, AT_ONCE))
    size, seen = len(density.twin.states), len(density.twin.observations)
    each = num_solved(density) * (2 * size + 4 * seen)
    if in_blocks(density.twin, density.grid):  # what is smoothed keeps all of its filter
        each = len(density.grid.edges) * (3 * size**2 + 2 * size + seen * (2 * size + 6))
    return int(np.clip(MOST_KEPT // each, 1, AT_ONCE))


class Predictor:
    """Evaluates a density's twin for many draws; compiled once, for any number of draws.

    Results are dicts of arrays with leading axis n, the number of draws: `<observation>`, `<observation>_noise_free`,
    `<state>_state` with shape (n, times), `log_likelihood/<observation>` likewise, and `solved`, `num_steps` with
    shape (n,). Several experiments stand before the times, the dimensions of a state that is an array after them, with
    as many entries as `MOST_NUMBERS` allows. Where a solve fails all is NaN from then on.
    """

    def __init__(self, density: Density) -> None:
        """Prepare for one density; nothing is compiled before the first call."""
        self.density, self.num_times = density, density.bound.times.shape[-1]

    def __call__(
        self,
        values: Mapping[str, np.ndarray],
        key: Array,
        phase: Phase,
        keep: np.ndarray | None = None,
        keep_terms: np.ndarray | None = None,
        numbers: np.ndarray | None = None,
        *,
        final: bool = False,
    ) -> dict[str, np.ndarray]:
        """Predict.

        Args:
            values: By site; shape (n,) each, or (n, E) where each of E experiments has its own.
            key: Randomness of the noise.
            phase: Told of each draw.
            keep: Numbers of the draws whose trajectories are wanted; all by default.
            keep_terms: Likewise of those whose log likelihoods are.
            numbers: Those under which draws have their noise; 0 to n − 1 by default.
            final: Whether `<state>_final`, shape (n, …), is wanted: the last states of all draws, if those of arrays
                are kept whole.
        """
        alone = 1 if numbers is None else len(numbers)  # where nothing is inferred draws differ by their noise
        num = next(iter(values.values())).shape[0] if values else alone
        everyone = np.arange(num)
        keep, keep_terms, numbers = (everyone if own is None else own for own in (keep, keep_terms, numbers))
        whole: dict[str, np.ndarray] = {}
        before = slice(None), *[slice(None)] * bool(self.density.experiments)
        stored = len(keep)
        batch, entries = at_once(self.density), entries_kept(self.density.twin, stored * num_solved(self.density))
        for first in range(0, num, batch):
            rows = np.minimum(np.arange(first, first + batch), num - 1)
            given = {name: v[rows] for name, v in values.items()}
            found = predict_draws(self.density.filled, given, key, numbers[rows], entries)
            if first == 0:
                scaled = solved_for(self.density, scales_of(found, self.density.twin))
                if scaled is not self.density:
                    self.density = scaled
                    found = predict_draws(self.density.filled, given, key, numbers[rows], entries)
            size = min(batch, num - first)
            if final and not entries:
                ends = {name: array for name, array in found.items() if name.endswith("_state")}
                for name, array in ends.items():
                    own = np.asarray(array[:size, self.num_times - 1])
                    place = name.removesuffix("_state") + "_final"
                    whole.setdefault(place, np.empty((num, *own.shape[1:])))[first : first + size] = own
            for name, array in found.items():
                scalar = name in ("solved", "num_steps")
                chosen = everyone if scalar else keep_terms if name.startswith("log_likelihood/") else keep
                own = np.asarray(array) if scalar else np.asarray(array)[*before, : self.num_times]
                start, stop = np.searchsorted(chosen, (first, first + size))
                # written where it stays: joining parts would take twice the memory
                whole.setdefault(name, np.empty((len(chosen), *own.shape[1:]), own.dtype))
                whole[name][start:stop] = own[chosen[start:stop] - first]
            phase.advance(size)
        return whole


def entries_kept(twin: Twin, times: int) -> dict[str, np.ndarray]:
    """By dimension, the places along it at which states that are arrays are kept; nothing where it is everywhere.

    Args:
        twin: The twin.
        times: Of all draws together.
    """
    axes = [state.axes(name) for name, state in twin.states.items() if state.shape]
    num = sum(math.prod(map(len, own.values())) for own in axes)
    if num * times <= MOST_NUMBERS:
        return {}
    share = MOST_NUMBERS / (num * times)
    kept: dict[str, np.ndarray] = {}
    # along a dimension of several states the one with fewest dimensions, which come last, needs the most thinning
    for own in sorted(axes, key=len, reverse=True):
        thinned = share ** (1.0 / len(own))
        kept |= {dim: spread_over(len(labels), max(1, int(thinned * len(labels)))) for dim, labels in own.items()}
    return kept


def spread_over(size: int, num: int) -> np.ndarray:
    """Places of so many out of `size` entries, evenly from the first to the last."""
    return np.linspace(0, size - 1, num).round().astype(int) if num < size else np.arange(size)


# How exactly to solve, by the scale of each state: an absolute tolerance for states of about one hides what is small.

FINER = 0.01
"""An absolute tolerance that is set by the scale of a state is this times the relative one of that."""


def solved_for(density: Density, scales: np.ndarray) -> Density:
    """The density with absolute tolerances that hide no state of these scales, shape (s,), if none was asked for.

    As long as `rtol` of its scale is more than that, nothing changes.
    """
    precision: Any = density.grid.precision
    finer = finer_for(density.twin, precision, scales)
    return density if finer is precision else density.solved_to(finer)


def finer_for(twin: Twin, precision: Any, scales: np.ndarray) -> Precision:
    """As `solved_for`, of a precision alone, which is the same one where nothing changes."""
    own = np.zeros(precision.atol.shape[-1])
    own[: len(scales)] = np.max(precision.rtol) * scales
    positive = twin.layout.repeat([state.positive for state in twin.states.values()])
    own[: len(scales)][positive] = 0.0  # solved for as logarithms
    atol = unhidden(precision.atol, own)
    if twin.solver.atol != ATOL or np.array_equal(atol, precision.atol):
        return precision
    return precision._replace(atol=atol)


def unhidden(atol: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Absolute tolerances, and `FINER` times the relative one of a state's scale where that is less; 0 is no scale."""
    return np.where((relative > 0) & (relative < atol), FINER * relative, atol)


def scales_of(found: Mapping[str, Any], twin: Twin) -> np.ndarray:
    """The typical scale of each state, shape (s,), from the paths of some draws; 0 where none is known.

    All entries of a state that is an array have the same.
    """
    paths = [np.abs(np.asarray(found[f"{name}_state"])) for name in twin.states]
    each = [path.reshape(len(path), -1).max(axis=1) for path in paths]
    return twin.layout.repeat([np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else 0.0 for one in each])


EXACTER, MOST_EXACT = 1e3, 1e-12
"""How many times tighter than the twin's the tolerances of a simulation are, and the smallest relative one: what it is
held against may be told from it, and a bend of the field (`jnp.maximum`), which the error estimate of a step sees late,
costs no digits."""


def exacter(density: Density) -> Density:
    """The density solved as precisely as a simulation is."""
    own: Any = density.grid.precision
    return density.solved_to(own.tightened(np.clip(np.min(own.rtol) / MOST_EXACT, 1.0, EXACTER)))


@Program
def predict_draws(
    density: Density, values: Mapping[str, Array], key: Array, rows: Array, entries: Mapping[str, Array]
) -> dict[str, Array]:
    """What `Predictor` computes at once; `rows` are the numbers under which draws have their noise."""
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(rows)
    found = jax.vmap(functools.partial(_one, density, len(rows)))(values, keys)
    for name, state in density.twin.states.items():
        dims = list(state.axes(name))
        for number, dim in enumerate(dims):
            if dim in entries:
                path = f"{name}_state"
                found[path] = jnp.take(found[path], entries[dim], axis=number - len(dims))
    return found


def _one(density: Density, beside: int, values: Mapping[str, Array], key: Array) -> dict[str, Array]:
    predicted = density.predict(values, partly=True, beside=beside)
    predicted = density.disturbed(jax.random.fold_in(key, 1), values, predicted)
    found = density.draw(key, values, predicted)
    terms = density.log_likelihood(values, predicted)
    found |= {f"log_likelihood/{name}": jnp.where(predicted.reached, term, jnp.nan) for name, term in terms.items()}
    return found | {"solved": predicted.solved.all(), "num_steps": predicted.num_steps.sum()}
