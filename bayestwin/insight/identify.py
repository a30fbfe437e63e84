"""Identifiability of a twin by telemetry, that there is or that is planned: the public function and its steps."""

from collections.abc import Sequence
from types import EllipsisType
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr

from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import enough_memory, on_device, require_float64
from bayestwin._base.progress import Progress
from bayestwin._base.seeds import check_seed, key_for
from bayestwin.calibrate import check_settings, root_attributes, with_model_error
from bayestwin.density.density import Density, build_density
from bayestwin.density.experiments import Experiments, bind_all
from bayestwin.errors import InvalidSetting, explain
from bayestwin.inference.modes import Mode
from bayestwin.inference.solver import choose
from bayestwin.inference.starts import find_starts
from bayestwin.insight import identifiability_tables
from bayestwin.insight.contraction import draws_in_z, expected_covariance, points_of, with_more
from bayestwin.insight.coordinates import Coordinates, coordinates_of, values_and_slopes
from bayestwin.insight.information import BATCH, information_of
from bayestwin.insight.planned import with_planned
from bayestwin.insight.profile import follow
from bayestwin.insight.richer import richer
from bayestwin.insight.ties import Tie, find_ties
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.predict import check_belongs
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
    require_float64()
    check_seed(seed)
    twin = with_model_error(twin, model_error)
    check_settings(twin, {})
    if posterior is not None:
        check_belongs(twin, posterior)
    keep_compiled()
    with enough_memory("Look at fewer samples of the telemetry."), on_device(device), progress or Progress() as shown:
        density = build_density(twin, bind_all(twin, telemetry))
        coordinates = coordinates_of(density, seed)
        numbers = _numbers_of(coordinates, profile, prob)
        density, choice = choose(density, seed, shown)
        modes = find_starts(density, 1, seed, shown).modes
        points, ties = _points_and_ties(density, coordinates, modes, seed, shown)
        mean, covariance = expected_covariance(modes, points.information[: len(modes)], coordinates.spread)
        drawn = None if posterior is None else draws_in_z(density, posterior)
        groups = {
            "quantities": identifiability_tables.quantities(coordinates, points.information[0], covariance, drawn),
            "points": identifiability_tables.points(coordinates, points.values, points.information, len(modes)),
        }
        if ties:
            groups["ties"] = identifiability_tables.ties(coordinates, ties)
        if numbers:
            with shown.phase("profile", "following profiles", len(numbers)) as phase:
                followed = follow(density, coordinates, numbers, modes[0].z, points.information[0], prob, profile_prior)
                phase.advance(len(numbers))
            groups["profile"] = identifiability_tables.profiles(density, coordinates, followed, prob, profile_prior)
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
        message = explain(
            f"There is no `{unknown[0]}` to profile.",
            expected=", ".join(f"`{name}`" for name in names),
            received=", ".join(f"`{name}`" for name in wanted),
            advice="Name quantities with a prior as they are called in the posterior.",
        )
        raise InvalidSetting(message)


def _numbers_of(coordinates: Coordinates, profile: Sequence[str], prob: float) -> list[int]:
    """Which coordinates are to be profiled."""
    check_names(coordinates.names, profile)
    if not 0.0 < prob < 1.0:
        message = explain(
            "`prob` makes no sense.",
            expected="between 0 and 1",
            received=f"{prob!r}",
            advice="Leave it out for 0.95.",
        )
        raise InvalidSetting(message)
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
    found = find_ties(*seen[1:], coordinates.spread)
    rich = richer(density, seed) if found else None
    if rich is None:
        return tuple((tie, "structural") for tie in found)
    more = information_of(rich, seed)(seen.z)
    solved = np.isfinite(more).all(axis=(1, 2))
    if not solved.any():
        return tuple((tie, "structural") for tie in found)
    remaining = find_ties(more[solved], seen.values[solved], seen.slopes[solved], coordinates.spread)
    always = {tie[:3] for tie in remaining}
    return tuple((tie, "structural" if tie[:3] in always else "telemetry") for tie in found)


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
    places = np.array([wider.names.index(name) for name in coordinates.names])
    covariance = np.diag(wider.spread**2)
    covariance[np.ix_(places, places)] = known
    rng = np.random.default_rng([seed, 6])
    z = wider.centre + wider.spread * rng.standard_normal((len(at), len(wider.names)))
    z[:, places] = at
    with shown.phase("planned", "weighing what is planned", len(z)) as phase:
        added = information_of(after, seed)(z) - information_of(before, seed)(z)
        added = added[np.isfinite(added).all(axis=(1, 2))]
        phase.advance(len(z))
    later = with_more(covariance, added, wider.spread) if len(added) else np.full_like(covariance, np.nan)
    return identifiability_tables.planned(wider, covariance, later, planned)
