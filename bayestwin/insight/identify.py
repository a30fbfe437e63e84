"""Identifiability of a twin by telemetry, that there is or that is planned: what observations say about each direction.

The public function, planned telemetry, and telemetry as rich as it could be.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr

from bayestwin._base.process import (
    key_for,
    seed_for,
)
from bayestwin._base.progress import Progress, computing
from bayestwin.calibrate import check_belongs, check_settings, root_attributes, with_model_error
from bayestwin.density.bind import Bound, Experiments, bind, bind_all
from bayestwin.density.density import Density, build_density
from bayestwin.density.rows import rows_before
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.inference.climb import Mode
from bayestwin.inference.solver import choose
from bayestwin.inference.starts import find_starts
from bayestwin.insight import identify_verdict
from bayestwin.insight.information import BATCH, information_of
from bayestwin.insight.profile import draws_in_z, expected_covariance, follow, points_of, with_more
from bayestwin.insight.ties import Coordinates, Tie, coordinates_of, find_ties, values_and_slopes
from bayestwin.model.error import ModelError, ProcessNoise
from bayestwin.model.noise import Noise
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

MOST_TRIED = 64
"""Prior draws tried until `BATCH` of them can be solved."""


class Points(NamedTuple):
    """Where information is looked at: the modes first, then draws of the prior; n points."""

    z: np.ndarray
    information: np.ndarray
    values: np.ndarray
    slopes: np.ndarray


def identify(
    twin: Twin,
    telemetry: Telemetry | Experiments,
    *,
    seed: int,
    posterior: xr.DataTree | None = None,
    planned: Telemetry | Experiments | None = None,
    profile: Sequence[str] = (),
    profile_prior: bool = False,
    prob: float = 0.95,
    model_error: ModelError | EllipsisType | None = ...,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Say which quantities telemetry can tell, before anything is sampled.

    The Fisher information of the observations is computed at the modes and at draws of the prior. Directions in which
    it is zero everywhere are ties: what they concern cannot be told apart. How far each posterior is expected to
    contract follows from the information at the modes. All of that is in z, where positive quantities stand as their
    logarithms. `bayestwin.insight.identify_verdict` says the result in sentences.

    Args:
        twin: The twin.
        telemetry: Its observations and inputs; or those of each experiment, by its name.
        seed: Determines everything random.
        posterior: As of `calibrate`, for the contraction of its draws beside the expected one.
        planned: Telemetry to come, whose times and inputs count; observations need no values. It goes on from
            `telemetry`; of experiments by name, those that are new begin anew.
        profile: Quantities whose profile likelihood is wanted, by name.
        profile_prior: Whether the prior counts in profiles; by default they are of the likelihood alone.
        prob: Of intervals by profiles.
        model_error: As in `calibrate`.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Groups `quantities` (spread, contraction, correlations, directions), `points` (where information was looked
        at), and as far as there are any `ties`, `profile`, `planned`.

    Raises:
        InvalidTelemetry: If telemetry does not fit the twin.
        InvalidSetting: If a setting makes no sense, or is not possible with this twin.
        InvalidArtifact: If the posterior belongs to another twin.
        NoValidStart: If no prior draw has a finite log density.
        OutOfMemory: If information does not fit into memory.
    """
    computation = computing("Look at fewer samples of the telemetry.", seed=seed, device=device, progress=progress)
    twin = with_model_error(twin, model_error)
    check_settings(twin, {})
    if posterior is not None:
        check_belongs(twin, posterior)
    with computation as shown:
        density = build_density(twin, bind_all(twin, telemetry))
        coordinates = coordinates_of(density, seed)
        numbers = _numbers_of(coordinates, profile, prob)
        density, choice = choose(density, seed, shown)
        modes = find_starts(density, 1, seed, shown).modes
        points, ties = _points_and_ties(density, coordinates, modes, seed, shown)
        mean, covariance = expected_covariance(modes, points.information[: len(modes)], coordinates.spread)
        drawn = None if posterior is None else draws_in_z(density, posterior)
        groups = {
            "quantities": identify_verdict.quantities(coordinates, points.information[0], covariance, drawn),
            "points": identify_verdict.points(coordinates, points.values, points.information, len(modes)),
        }
        if ties:
            groups["ties"] = identify_verdict.ties(coordinates, ties)
        if numbers:
            with shown.phase("profile", "following profiles", len(numbers)) as phase:
                followed = follow(density, coordinates, numbers, modes[0].z, points.information[0], prob, profile_prior)
                phase.advance(len(numbers))
            groups["profile"] = identify_verdict.profiles(density, coordinates, followed, prob, profile_prior)
        if planned is not None:
            known = covariance if drawn is None else np.atleast_2d(np.cov(drawn, rowvar=False))
            at = points_of(density, mean, covariance, drawn, seed)
            groups["planned"] = _planned(density, coordinates, telemetry, planned, known, at, seed, shown)
    tree = xr.DataTree.from_dict(groups)
    job = {"profile": list(profile), "profile_prior": profile_prior, "prob": prob, "planned": planned is not None}
    tree.attrs = root_attributes(twin, telemetry, seed, job) | {"solver_choice": choice.method}
    return tree


def check_names(names: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse to profile what is not inferred.

    Args:
        names: Of what is inferred.
        wanted: Of what is to be profiled.

    Raises:
        InvalidSetting: If one of them is unknown.
    """
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise InvalidSetting(
            f"There is no `{unknown[0]}` to profile.",
            expected=", ".join(f"`{name}`" for name in names),
            received=", ".join(f"`{name}`" for name in wanted),
            advice="Name quantities with a prior as they are called in the posterior.",
        )


def _numbers_of(coordinates: Coordinates, profile: Sequence[str], prob: float) -> list[int]:
    """Which coordinates are to be profiled."""
    check_names(coordinates.names, profile)
    if not 0.0 < prob < 1.0:
        raise InvalidSetting(
            "`prob` makes no sense.",
            expected="between 0 and 1",
            received=f"{prob!r}",
            advice="Leave it out for 0.95.",
        )
    return [coordinates.names.index(name) for name in dict.fromkeys(profile)]


def _points_and_ties(
    density: Density, coordinates: Coordinates, modes: tuple[Mode, ...], seed: int, shown: Progress
) -> tuple[Points, tuple[tuple[Tie, str], ...]]:
    """Information at the modes and at draws of the prior; ties, and whether they are of the equations.

    A tie is `"structural"` if it is there with telemetry as rich as it could be, else `"telemetry"`.
    """
    with shown.phase("information", "computing information", BATCH) as phase:
        informed = information_of(density, seed)
        drawn = density.draw_prior(jax.random.split(key_for(seed, "identify points"), MOST_TRIED))[1]
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        at = np.stack([mode.z for mode in modes])
        information = informed(at)
        count = 0
        for first in range(0, len(drawn), BATCH):
            new = informed(drawn[first : first + BATCH])
            solved = np.isfinite(new).all(axis=(1, 2))
            at = np.concatenate([at, drawn[first : first + BATCH][solved][: BATCH - count]])
            information = np.concatenate([information, new[solved][: BATCH - count]])
            phase.advance(len(at) - len(modes) - count)
            count = len(at) - len(modes)
            if count >= BATCH:
                break
    points = Points(at, information, *values_and_slopes(density, at))
    return points, _ties(density, coordinates, points, seed)


def _ties(density: Density, coordinates: Coordinates, points: Points, seed: int) -> tuple[tuple[Tie, str], ...]:
    good = np.isfinite(points.information).all(axis=(1, 2))
    if not good.any():
        return ()
    seen = Points(*(part[good] for part in points))
    # in these coordinates what a population says of each of its members is a standard normal: it counts as told
    population = np.diag(np.repeat([float(site.pooled) for site in density.sites], density.priors.sizes))
    ties = find_ties(seen.information + population, seen.values, seen.slopes, coordinates.spread)
    rich = richer(density, seed) if ties else None
    if rich is None:
        return tuple((tie, "structural") for tie in ties)
    more = information_of(rich, seed)(seen.z)
    solved = np.isfinite(more).all(axis=(1, 2))
    if not solved.any():
        return tuple((tie, "structural") for tie in ties)
    remaining = find_ties(more[solved] + population, seen.values[solved], seen.slopes[solved], coordinates.spread)
    always = {tie[:3] for tie in remaining}
    return tuple((tie, "structural" if tie[:3] in always else "telemetry") for tie in ties)


def _planned(
    density: Density,
    coordinates: Coordinates,
    telemetry: Telemetry | Experiments,
    planned: Telemetry | Experiments,
    known: np.ndarray,
    at: np.ndarray,
    seed: int,
    shown: Progress,
) -> xr.Dataset:
    """What is expected of the spreads with and without what is planned, in all coordinates that there then are."""
    before, after = with_planned(density.twin, telemetry, planned)
    wider = coordinates_of(after, seed)
    covariance, z = widened(coordinates, wider, known, at, seed)
    with shown.phase("planned", "weighing what is planned", len(z)) as phase:
        added = information_of(after, seed)(z) - information_of(before, seed)(z)
        added = added[np.isfinite(added).all(axis=(1, 2))]
        phase.advance(len(z))
    later = with_more(covariance, added, wider.spread) if len(added) else np.full_like(covariance, np.nan)
    return identify_verdict.planned(wider, covariance, later, planned)


def widened(
    coordinates: Coordinates, wider: Coordinates, known: np.ndarray, at: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance and points in coordinates among which are those of experiments that are only planned.

    Args:
        coordinates: Those so far.
        wider: Those with the new ones, which are as their priors say.
        known: Covariance so far; shape (d, d).
        at: Points so far; shape (n, d).
        seed: Determines the new coordinates of points.
    """
    places = np.array([wider.names.index(name) for name in coordinates.names])
    covariance = np.diag(wider.spread**2)
    covariance[np.ix_(places, places)] = known
    rng = np.random.default_rng([seed, 6])
    z = wider.centre + wider.spread * rng.standard_normal((len(at), len(wider.names)))
    z[:, places] = at
    return covariance, z


# Telemetry that is only planned: its times and inputs after those that there are, and what is to be observed then.


def with_planned(
    twin: Twin, telemetry: Telemetry | Experiments, planned: Telemetry | Experiments
) -> tuple[Density, Density]:
    """The densities without and with planned observations; both have all times, so that they have the same z.

    A planned observation needs no value: it counts at each time at which its column has one, and at all times where
    the column is empty or absent.

    Args:
        twin: The twin.
        telemetry: What there is.
        planned: What is planned: it goes on from there; of experiments by name, which may be new.

    Raises:
        InvalidSetting: If the twin has process noise.
        InvalidTelemetry: If what is planned does not go on from what there is.
    """
    if isinstance(twin.model_error, ProcessNoise):
        raise InvalidSetting(
            f"What planned telemetry would say of twin `{twin.name}` is not known.",
            expected="a twin without process noise, whose information does not hang on the values to come",
            received="`model_error=bt.ProcessNoise(…)`",
            advice="Pass `model_error=None` for an answer that leaves out disturbances, or leave out `planned`.",
        )
    if isinstance(telemetry, Telemetry) and isinstance(planned, Telemetry):
        bounds = _continued(twin, telemetry, planned)
        return build_density(twin, bounds[0]), build_density(twin, bounds[1])
    if isinstance(telemetry, Telemetry) or isinstance(planned, Telemetry):
        raise InvalidTelemetry(
            "`planned` does not go on from `telemetry`.",
            expected="telemetry after telemetry, or experiments by name beside experiments",
            received="one telemetry and several experiments",
            advice='Name both: `{"first": telemetry}` and `{"second": planned}`.',
        )
    pairs = {name: _one_planned(twin, telemetry, planned, name) for name in dict.fromkeys([*telemetry, *planned])}
    before, after = ({name: pair[part] for name, pair in pairs.items()} for part in range(2))
    return build_density(twin, before), build_density(twin, after)


def _one_planned(twin: Twin, telemetry: Experiments, planned: Experiments, name: str) -> tuple[Bound, Bound]:
    """One experiment, without and with what is planned of it."""
    if name not in planned:
        bound = bind(twin, telemetry[name], experiment=name)
        return bound, bound
    if name in telemetry:
        return _continued(twin, telemetry[name], planned[name], name)
    bound = bind(twin, planned[name], observed=False, experiment=name)
    later = _expected(twin, bound)
    nothing = {key: np.full(len(bound.times), np.nan) for key in twin.observations}
    return bound._replace(observations=nothing), bound._replace(observations=later)


def _continued(
    twin: Twin, telemetry: Telemetry, planned: Telemetry, experiment: str | None = None
) -> tuple[Bound, Bound]:
    past = bind(twin, telemetry, experiment=experiment)
    clocks = [(one.dated, one.units.get("time", twin.time_unit)) for one in (telemetry, planned)]
    last = telemetry.table.index[-1]
    if clocks[0] != clocks[1] or not planned.table.index[0] > last:
        raise InvalidTelemetry(
            "`planned` does not go on from `telemetry`.",
            expected=f"times after {telemetry.shown(last)}, dates or numbers in the same unit as those before",
            received=f"times from {planned.shown(planned.table.index[0])} on",
            advice="Shift its times; what begins anew is another experiment: pass both by name.",
        )
    ahead = bind(twin, dataclasses.replace(planned, t0=telemetry.t0), observed=False, known=past.known)

    def joined(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([before[name], after[name]]) for name in before}

    nothing = {name: np.full(len(ahead.times), np.nan) for name in twin.observations}
    whole = Bound(
        times=np.concatenate([past.times, ahead.times]),
        labels=np.concatenate([past.labels, ahead.labels]),
        observations=joined(past.observations, nothing),
        inputs=joined(past.inputs, ahead.inputs),
        events=joined(past.events, ahead.events),
        columns=joined(past.columns, ahead.columns),
        known=past.known,
    )
    whole = whole._replace(since=rows_before(twin, whole.times, whole.observations))
    richer = joined(past.observations, _expected(twin, ahead))
    return whole, whole._replace(observations=richer, since=rows_before(twin, whole.times, richer))


def _expected(twin: Twin, bound: Bound) -> dict[str, np.ndarray]:
    """A value for each planned observation, which only says that there will be one; NaN elsewhere."""
    found = {}
    for name, observation in twin.observations.items():
        values = bound.observations.get(name, np.full(len(bound.times), np.nan))
        there = np.isfinite(values) if np.isfinite(values).any() else np.ones(len(bound.times), dtype=bool)
        found[name] = np.where(there, _possible(observation.noise), np.nan)
    return found


def _possible(noise: Noise) -> float:
    return 1.0 if bool(np.asarray(noise.support(1.0))) else 0.0


# Telemetry as rich as it could be: what is unseen even then is so by the equations, not by this telemetry.


def richer(density: Density, seed: int) -> Density | None:
    """The density with every input moving at random and everything observed at all times.

    Args:
        density: The log density.
        seed: Determines the inputs.

    Returns:
        None where nothing could be richer, or, with several experiments or process noise, cannot be told.
    """
    twin, bound = density.twin, density.bound
    if density.experiments or isinstance(twin.model_error, ProcessNoise):
        return None
    complete = all(np.isfinite(values).all() for values in bound.observations.values())
    if not bound.inputs and complete:
        return None
    rng = np.random.default_rng(seed_for(seed, "identify inputs"))
    inputs = {name: _moved(values, rng) for name, values in bound.inputs.items()}
    observed = {
        name: np.full(len(bound.times), values[np.isfinite(values)][0] if np.isfinite(values).any() else 1.0)
        for name, values in bound.observations.items()
    }
    found = build_density(twin, bound._replace(inputs=inputs, observations=observed))
    return dataclasses.replace(found, sites=density.sites)


def _moved(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An input with a random part as large as its own range, of one sign where it has one."""
    known = values[np.isfinite(values)]
    size = float(np.ptp(known)) or float(np.abs(known).max(initial=0.0)) or 1.0
    moved = values + size * rng.uniform(-0.5, 0.5, len(values))
    return np.abs(moved) if known.size and known.min() >= 0 else moved
