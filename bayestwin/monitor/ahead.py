"""What a posterior says of each new reading before it is seen: its draws, weighted by all readings before it.

`P(y_t ≤ seen) = Σ w P(y_t ≤ seen | draw, readings before)`, with weights `w ∝ Π p(y_s | draw, readings before s)` over
the new readings before: exact for the draws there are, so that PITs are independent and uniform, whatever the inputs.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from bayestwin._base.progress import Progress
from bayestwin.density.ahead import FINAL, can_go_on, final_states, resumed
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.onestep import look
from bayestwin.density.predictor import at_once, scales_of, solved_for
from bayestwin.dynamics.choice import with_method
from bayestwin.errors import InvalidSetting
from bayestwin.inference.laplace import smooth_tail
from bayestwin.inference.method import MAX_PARETO_K
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

MOST_DRAWS, MOST_NUMBERS = 1000, 2e7
"""Draws that are looked at, and numbers by draw and reading that are kept of them."""

FEWEST_EFFECTIVE = 50.0
"""Draws that must count, so that what they say together of the next reading is to be believed."""


class RowsAhead(NamedTuple):
    """New readings, and what says how probable they are.

    Attributes:
        density: Of the twin from the end of the calibration on, or of the whole record where what was observed leads.
        values: Draws of its sites by name; shape (S,) each.
        labels: Times of its rows; shape (n,).
        new: Which rows are later than the calibration; shape (n,).
        from_end: Whether it starts in the states at the end of the calibration.
    """

    density: Density
    values: dict[str, np.ndarray]
    labels: pd.Index
    new: np.ndarray
    from_end: bool


def build_ahead(twin: Twin, posterior: xr.DataTree, before: Telemetry, whole: Telemetry) -> RowsAhead:
    """What is said of rows that came after a calibration.

    Args:
        twin: The twin.
        posterior: As `calibrate` returned it.
        before: What was calibrated, in the twin's units.
        whole: That with the new rows.

    Raises:
        InvalidTelemetry: If the new rows do not fit the twin.
    """
    last, group = before.table.index[-1], posterior["posterior"].to_dataset()
    later = whole.with_table(whole.table.loc[whole.table.index > last])
    begun: dict[str, np.ndarray] = {}
    from_end = can_go_on(twin, posterior, later, None)
    if from_end:
        later, _, density = resumed(twin, posterior, later, observed=True)
        draws = posterior[FINAL].to_dataset()["draw"].values
        begun, group = final_states(posterior, draws), group.sel(draw=draws)
    else:
        chosen = with_method(twin, posterior.attrs.get("solver_choice", {}).get("method", "auto"))
        density = build_density(twin, bind(twin, whole)).solved_as(chosen)
        later = whole
    values = {
        site.name: begun[site.name]
        if site.name in begun
        else group[site.name].transpose("chain", "draw").to_numpy().ravel()
        for site in density.sites
    }
    paths = posterior["posterior_predictive"].to_dataset()
    kept = [f"{name}_state" in paths for name in twin.states]
    if all(kept):
        states: dict[str, Any] = {f"{name}_state": _by_draw(paths[f"{name}_state"]) for name in twin.states}
        if np.isfinite(np.concatenate([own.ravel() for own in states.values()])).any():
            density = solved_for(density, scales_of(states, twin))
    labels = later.table.index
    num = min(MOST_DRAWS, max(100, int(MOST_NUMBERS // max(1, len(labels) * len(twin.observations)))))
    rows = np.linspace(0, len(next(iter(values.values()))) - 1, num).round().astype(int)
    if num < len(next(iter(values.values()))):
        values = {name: own[rows] for name, own in values.items()}
    return RowsAhead(density, values, labels, np.asarray(labels > last), from_end)


def _by_draw(paths: xr.DataArray) -> np.ndarray:
    whole = paths.transpose("chain", "draw", ...).to_numpy()
    return whole.reshape(-1, *whole.shape[2:])


class Reading(NamedTuple):
    """New readings one after the other, in order of time and within a row in the order of the twin's observations.

    Attributes:
        row: Of the density; shape (r,).
        observation: Its number among those of the twin; shape (r,).
        log_density: By draw; shape (S, r).
        log_below: Likewise, of a reading as low or lower.
        log_above: Of one as high or higher.
        reached: Share of draws that could be solved up to each; shape (r,).
    """

    row: np.ndarray
    observation: np.ndarray
    log_density: np.ndarray
    log_below: np.ndarray
    log_above: np.ndarray
    reached: np.ndarray


def read_ahead(ahead: RowsAhead, progress: Progress) -> Reading:
    """What each draw says of each new reading, given that draw and all readings before.

    Raises:
        InvalidSetting: If a noise model of the user does not say it.
    """
    density, names = ahead.density, list(ahead.density.twin.observations)
    new = ahead.new
    there = np.stack([np.isfinite(density.bound.observations[name]) & new for name in names], axis=1)
    row, observation = np.nonzero(there)
    num = len(next(iter(ahead.values.values())))
    batch = min(at_once(density), num)
    parts: list[tuple[np.ndarray, ...]] = []
    with progress.phase("monitor", "reading one step ahead", num) as phase:
        for first in range(0, num, batch):
            rows = np.minimum(np.arange(first, first + batch), num - 1)
            try:
                found, reached = look(density.filled, {name: own[rows] for name, own in ahead.values.items()})
            except NotImplementedError as reason:
                raise InvalidSetting(
                    "These observations cannot be monitored.",
                    expected="noise whose distribution has a `cdf`, and which says what one observation is given those "
                    "before it, `given_before`",
                    received=str(reason) or "a distribution without `cdf`",
                    advice="Add the method to the noise model.",
                ) from reason
            size = min(batch, num - first)
            own = [np.stack([np.asarray(found[name][part]) for name in names], axis=2) for part in range(3)]
            parts.append((*(one[:size, row, observation] for one in own), np.asarray(reached)[:size, row]))
            phase.advance(size)
    log_density, log_below, log_above, reached = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Reading(row, observation, log_density, log_below, log_above, reached.mean(axis=0))


class Predictive(NamedTuple):
    """New readings as the weighted draws say them, shape (r,) each.

    Attributes:
        log_below: Log probability of a reading lower than that, ties broken at random.
        log_above: Of one higher.
        effective: Draws that count before each.
        trusted: How many readings come before the weights are too uneven.
        pareto_k: Of the weights there.
    """

    log_below: np.ndarray
    log_above: np.ndarray
    effective: np.ndarray
    trusted: int
    pareto_k: float

    @property
    def pit(self) -> np.ndarray:
        """Probability integral transforms."""
        return np.exp(self.log_below)


def weigh(read: Reading, atoms: np.ndarray, rng: np.random.Generator) -> Predictive:
    """Mix what the draws say, each weighted by the readings before.

    Args:
        read: What each draw says.
        atoms: Whether a reading has a probability of its own, as a count has; shape (r,).
        rng: Breaks ties.
    """
    grown = np.cumsum(read.log_density, axis=1)
    weights = np.concatenate([np.zeros((len(grown), 1)), grown[:, :-1]], axis=1)
    total = np.asarray(logsumexp(weights, axis=0))
    with np.errstate(invalid="ignore"):
        weights = weights - total
        below, above = (np.asarray(logsumexp(weights + one, axis=0)) for one in (read.log_below, read.log_above))
        effective = np.exp(-np.asarray(logsumexp(2.0 * weights, axis=0)))
    tied = np.where(atoms, np.maximum(np.exp(below) + np.exp(above) - 1.0, 0.0), 0.0)
    part = rng.random(len(tied)) * tied
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(atoms, np.log(np.maximum(np.exp(below) - part, 0.0)), below)
        above = np.where(atoms, np.log(np.maximum(np.exp(above) - (tied - part), 0.0)), above)
    trusted, shape = _trusted(weights, effective)
    return Predictive(below, above, effective, trusted, shape)


def _trusted(weights: np.ndarray, effective: np.ndarray) -> tuple[int, float]:
    """Readings before which the weights are even enough, and the Pareto k of the last that were looked at.

    Whether a reading counts is known from those before it alone.
    """
    num = weights.shape[1]
    uneven = np.flatnonzero(~(effective >= min(FEWEST_EFFECTIVE, len(weights) / 2.0)))
    end = int(uneven[0]) if uneven.size else num
    shape = -np.inf
    at = np.unique(np.geomspace(1, max(num - 1, 1), 30).round().astype(int))
    for place in at[at < end]:
        if not np.isfinite(weights[:, place]).any() or np.ptp(weights[:, place]) == 0.0:
            continue
        shape = smooth_tail(weights[:, place])[1]
        if not shape <= MAX_PARETO_K:
            return int(place), shape
    return end, shape
