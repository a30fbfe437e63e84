"""What to measure next: which candidates narrow a posterior most, by how much, and afterwards whether they did."""

import math
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.stats import norm

from bayestwin._base.progress import Progress, computing
from bayestwin.calibrate import check_belongs, root_attributes, with_model_error
from bayestwin.density.bind import Experiments, bind_all, sha256_of
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics.choice import with_method
from bayestwin.errors import InvalidArtifact, InvalidSetting
from bayestwin.inference.climb import Mode
from bayestwin.insight.candidates import Candidate, Continuation, Option, options_of
from bayestwin.insight.identify import widened, with_planned
from bayestwin.insight.information import information_of
from bayestwin.insight.profile import draws_in_z, expected_covariance
from bayestwin.insight.selection import (
    CRITERIA,
    Targets,
    Wanted,
    choose_within,
    criteria_of,
    informed_by,
    loss_of,
    spread_after,
    targets_of,
)
from bayestwin.insight.simulated import KnownDraws, NestedMonteCarlo, SimulatedCalibrations, most_draws, paths_of
from bayestwin.insight.ties import Coordinates, coordinates_of
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

INNER = 4000
"""Draws at most that are weighed by their likelihood of simulated telemetry."""

AT_ONCE = 200
"""Sets of options whose covariances are computed together."""


class Known(NamedTuple):
    """What a posterior says before anything is added.

    Attributes:
        density: Of the telemetry that there is.
        coordinates: Those of z.
        z: Draws; shape (n, d).
        covariance: Of z; shape (d, d).
        targets: What is to be narrowed.
        values: Of the targets; shape (n, m).
        sd: Of the targets; shape (m,).
    """

    density: Density
    coordinates: Coordinates
    z: np.ndarray
    covariance: np.ndarray
    targets: Targets
    values: np.ndarray
    sd: np.ndarray

    @property
    def is_point(self) -> bool:
        """Whether there is one point alone, around which everything is linearised."""
        return len(self.z) == 1


class Weighed(NamedTuple):
    """What options are expected to tell, by Fisher information.

    Attributes:
        covariances: Of the targets, in units of their scale, for sets of options, (s, c) → (s, n, m, m).
        now: The same without any; shape (n, m, m).
        scale: Of each target; shape (m,).
    """

    covariances: Any
    now: np.ndarray
    scale: np.ndarray

    def loss(self, sets: np.ndarray, criterion: str) -> np.ndarray:
        """What is to be made small, of sets of options."""
        parts = [sets[first : first + AT_ONCE] for first in range(0, len(sets), AT_ONCE)]
        return np.concatenate([loss_of(self.covariances(part), criterion) for part in parts])

    def narrowed(self, sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share of the standard deviation of each target that is left, and its Monte Carlo error; shape (s, m)."""
        before = np.diagonal(self.now, axis1=-2, axis2=-1)
        after = np.diagonal(self.covariances(sets), axis1=-2, axis2=-1)
        left = np.sqrt(after / np.where(before > 0.0, before, np.nan))
        return left.mean(axis=1), left.std(axis=1) / math.sqrt(left.shape[1])


def design(
    twin: Twin,
    telemetry: Telemetry | Experiments,
    candidates: Mapping[str, Candidate | Telemetry],
    *,
    posterior: xr.DataTree,
    seed: int,
    of: Wanted = None,
    future: Telemetry | None = None,
    criterion: Literal["A", "D", "E"] = "A",
    relative: bool = True,
    budget: float | None = None,
    prob: float = 0.9,
    draws: int = 64,
    best: int = 3,
    simulations: int = 200,
    model_error: ModelError | EllipsisType | None = ...,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Say which observations to come would narrow the posterior most.

    All candidates are ranked by the Fisher information of their observations, averaged over draws of the posterior.
    What the best ones would do is then computed by nested Monte Carlo: telemetry that draws of the posterior make is
    calibrated, and its intervals are what is promised. `bt.judge_design` says afterwards whether it was kept.

    Of a posterior that is a point (`method="map"`) the design is locally optimal: everything is linearised there, what
    is known so far is the Fisher information of the telemetry and the prior, and nothing is simulated.

    Args:
        twin: The twin.
        telemetry: What was calibrated; or that of each experiment, by its name.
        candidates: What could be recorded next, by name. Those that go on from one telemetry with different inputs
            exclude each other; experiments by name do not.
        posterior: As of `calibrate` with this telemetry.
        seed: Determines everything random.
        of: What is to be narrowed: names of quantities, by default all parameters; or by name functions `(p)` of the
            parameters, or `(p, y)` also of what is predicted, alone or in a pair with their unit. `y` has times `t`
            (elapsed, in the twin's unit), states and observations without noise, at the times of `future`.
        future: Times and inputs for `(p, y)`, which go on from `telemetry`; by default the times of that.
        criterion: `"A"` makes the sum of variances small, `"D"` the volume of the region that targets lie in, `"E"`
            the variance of the worst known combination. Of one target all are the same (c-optimality).
        relative: Whether variances are in units of the present ones; else in the targets' own units.
        budget: The sum of costs at most, within which options are chosen together; by default the best one alone is.
        prob: Of the intervals whose widths are told.
        draws: Draws of the posterior over which Fisher information is averaged.
        best: How many of the best options are simulated, beside what is chosen; 0 for nothing.
        simulations: Telemetries that are simulated and calibrated for each.
        model_error: As in `calibrate`; a twin is needed that has none.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Groups `targets` (what is known now), `options` (what each is expected to do, the best first), `chosen` (what
        to record, in the order of the choice, with what is left after each step), and with draws `simulated` (by set:
        standard deviation and width of each simulated calibration).

    Raises:
        InvalidTelemetry: If telemetry, or what is planned, does not fit the twin.
        InvalidSetting: If a setting or a candidate makes no sense, or is not possible with this twin.
        InvalidArtifact: If the posterior belongs to another twin, or to other telemetry.
        OutOfMemory: If information does not fit into memory.
    """
    computation = computing("Lower `draws`, or give fewer candidates.", seed=seed, device=device, progress=progress)
    twin = with_model_error(twin, model_error)
    settings = {"criterion": criterion, "relative": relative, "budget": budget, "prob": prob, "draws": draws}
    settings |= {"best": best, "simulations": simulations}
    _check_settings(settings)
    _check_same(twin, posterior, telemetry)
    with computation as shown:
        known = known_of(twin, telemetry, posterior, of, future, seed)
        plans, options = options_of(known.density.twin, telemetry, candidates)
        scale = known.sd if relative else np.ones_like(known.sd)
        with shown.phase("information", "weighing candidates", len(options)) as phase:
            weighed, wider = _weigh(known, plans, options, scale, draws, seed)
            order, chosen = _choose(weighed, options, criterion, budget)
            phase.advance(len(options))
        groups = {"targets": _targets_dataset(known, prob), "options": _options_dataset(weighed, known, options, order)}
        if best and not known.is_point:
            sets = _sets_to_simulate(order[:best], chosen)
            with shown.phase("simulated", "simulating telemetry to come", simulations * len(sets)) as phase:
                found = _simulate(known, plans, options, sets, wider, (seed, simulations, prob), phase)
            if budget is None:
                chosen = list(min(found, key=lambda own: float(loss_of(_scaled(found[own], scale), criterion))))
            groups["simulated"] = _simulated_dataset(found, known, options, scale)
        groups["chosen"] = _chosen_dataset(weighed, known, options, chosen)
    tree = xr.DataTree.from_dict(groups)
    told = {"criterion": criterion, "prob": prob, "budget": "" if budget is None else budget}
    tree.attrs = root_attributes(twin, telemetry, seed, settings) | told
    return tree


def _check_settings(settings: Mapping[str, Any]) -> None:
    budget = settings["budget"]
    wrong = [
        ("criterion", ", ".join(f'"{name}"' for name in CRITERIA), settings["criterion"] not in CRITERIA),
        ("budget", "a sum of costs above zero", budget is not None and not budget > 0.0),
        ("prob", "between 0 and 1", not 0.0 < settings["prob"] < 1.0),
        *[(name, "a whole number from 2 on", settings[name] < 2) for name in ("draws", "simulations")],
        ("best", "a whole number from 0 on", settings["best"] < 0),
    ]
    for name, expected, bad in wrong:
        if bad:
            raise InvalidSetting(
                f"`{name}` makes no sense.", expected=expected, received=repr(settings[name]), advice="Leave it out."
            )


def _check_same(twin: Twin, posterior: xr.DataTree, telemetry: Telemetry | Experiments) -> None:
    check_belongs(twin, posterior)
    ours, theirs = sha256_of(telemetry), posterior.attrs.get("telemetry_sha256", "")
    if ours != theirs:
        raise InvalidArtifact(
            "This posterior was calibrated with other telemetry than what is to go on.",
            expected=f"a posterior of telemetry with fingerprint {ours[:12]}",
            received=f"one of telemetry with fingerprint {theirs[:12]}",
            advice="Pass the telemetry that was calibrated, or calibrate this one first.",
        )


# What is known before anything is added.


def known_of(
    twin: Twin,
    telemetry: Telemetry | Experiments,
    posterior: xr.DataTree,
    of: Wanted,
    future: Telemetry | None,
    seed: int,
) -> Known:
    """What a posterior says of targets.

    Args:
        twin: The twin.
        telemetry: What was calibrated.
        posterior: Of that.
        of: As of `design`.
        future: As of `design`.
        seed: Determines draws from which spreads of priors are taken.

    Raises:
        InvalidSetting: If a target makes no sense, or there are too few draws to tell a covariance from.
    """
    twin = with_method(twin, posterior.attrs.get("solver_choice", {}).get("method", "auto"))
    density = build_density(twin, bind_all(twin, telemetry))
    coordinates = coordinates_of(density, seed)
    seer, rows = density, slice(None)
    if future is not None:
        if not isinstance(telemetry, Telemetry):
            raise InvalidSetting(
                "`future` goes on from one telemetry.",
                expected="one telemetry, or functions `(p)` in `of` alone",
                received=f"{len(telemetry)} experiments",
                advice="Leave `future` out.",
            )
        seer, rows = with_planned(twin, telemetry, future)[0], slice(-len(future.table), None)
    targets = targets_of(seer, coordinates, of, rows)
    z = draws_in_z(density, posterior)
    if len(z) == 1:
        spread = coordinates.spread
        mode = Mode(z[0], 0.0, np.eye(len(spread)), 1.0)
        covariance = expected_covariance((mode,), information_of(density, seed)(z), spread)[1]
        slopes = _slopes(targets, z)[0]
        values = np.asarray(targets.of(jnp.asarray(z[0])))[None]
        return Known(density, coordinates, z, covariance, targets, values, _sd(slopes @ covariance @ slopes.T))
    if len(z) < 10 * z.shape[1]:
        raise InvalidSetting(
            "The posterior has too few draws to tell what is known now.",
            expected=f"{10 * z.shape[1]} draws at least, ten for each of {z.shape[1]} quantities",
            received=f"{len(z)} draws",
            advice='Calibrate with more; `method="laplace"` makes them in seconds.',
        )
    kept = np.random.default_rng([seed, 8]).permutation(len(z))[: most_draws(density, INNER)]
    batched = jax.jit(lambda some: jax.lax.map(targets.of, some))
    values = np.asarray(batched(jnp.asarray(z[kept])))
    covariance = np.atleast_2d(np.cov(z, rowvar=False))
    return Known(density, coordinates, z[kept], covariance, targets, values, values.std(axis=0, ddof=1))


def _slopes(targets: Targets, z: np.ndarray) -> np.ndarray:
    """Derivatives of targets at n points; shape (n, m, d)."""
    return np.asarray(jax.jit(lambda some: jax.lax.map(jax.jacfwd(targets.of), some))(jnp.asarray(z)))


def _sd(covariance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.diagonal(covariance))


# What options are expected to tell, and the choice.


def _weigh(
    known: Known, plans: Sequence[Continuation], options: Sequence[Option], scale: np.ndarray, draws: int, seed: int
) -> tuple[Weighed, Coordinates]:
    """By Fisher information; with the coordinates that there are with what is planned."""
    wider = coordinates_of(plans[0].after, seed)
    z = widened(known.coordinates, wider, known.covariance, known.z[:draws], seed)[1]
    informed = informed_by(plans, options, z, seed)
    if not informed.good.any():
        raise InvalidSetting(
            "What candidates would tell cannot be computed at any draw of the posterior.",
            expected="a twin that can be solved, and differentiated, over the planned times",
            received=f"0 of {len(z)} draws",
            advice="Look at what `bt.predict` makes of the planned inputs.",
        )
    # around each draw as the telemetry and the prior see it there: a posterior that bends is not one normal
    precision = informed.before + np.diag(wider.spread**-2.0)
    own = _slopes(known.targets, known.z[:draws][informed.good])
    slopes = np.zeros((*own.shape[:2], len(wider.names)))
    slopes[:, :, [wider.names.index(name) for name in known.coordinates.names]] = own / scale[None, :, None]

    def covariances(sets: np.ndarray) -> np.ndarray:
        return spread_after(precision, informed.added(sets), slopes, wider.spread)

    now = covariances(np.zeros((1, len(options)), bool))[0]
    return Weighed(covariances, now, scale), wider


def _choose(
    weighed: Weighed, options: Sequence[Option], criterion: str, budget: float | None
) -> tuple[list[int], list[int]]:
    """Options in the order of what each does by itself, and those that are chosen."""
    least = np.linalg.eigvalsh(weighed.now).min(axis=-1)
    if criterion == "D" and not (least > 1e-12 * np.trace(weighed.now, axis1=-2, axis2=-1)).all():
        raise InvalidSetting(
            'The criterion `"D"` needs targets of which none follows from the others.',
            expected="as many independent targets as there are",
            received=f"{len(weighed.scale)} targets that hang together",
            advice='Leave some of them out, or take `criterion="A"`.',
        )
    single = weighed.loss(np.eye(len(options), dtype=bool), criterion)
    order = [int(i) for i in np.argsort(single, kind="stable")]
    if budget is None:
        return order, order[:1]
    costs, plans = np.array([one.cost for one in options]), np.array([one.plan for one in options])
    chosen = choose_within(lambda sets: weighed.loss(sets, criterion), costs, plans, budget)
    if not chosen:
        raise InvalidSetting(
            "The budget is not enough for any candidate that would tell something.",
            expected=f"at least the {costs.min():g} that the cheapest one costs",
            received=f"budget={budget:g}",
            advice="Raise `budget`, or leave it out to see what each candidate would do.",
        )
    return order, chosen


# SimulatedCalibrations telemetry to come.


def _sets_to_simulate(best: Sequence[int], chosen: Sequence[int]) -> list[tuple[int, ...]]:
    return list(dict.fromkeys([tuple(chosen), *[(i,) for i in best]]))


def _simulate(
    known: Known,
    plans: Sequence[Continuation],
    options: Sequence[Option],
    sets: Sequence[tuple[int, ...]],
    wider: Coordinates,
    settings: tuple[int, int, float],
    phase: Any,
) -> dict[tuple[int, ...], SimulatedCalibrations]:
    """What calibrations would say with each set of options more; all are of the same draws and the same noise."""
    seed, simulations, prob = settings
    found: dict[tuple[int, ...], SimulatedCalibrations] = {}
    for number, plan in enumerate(plans):
        own = [one for one in sets if options[one[0]].plan == number]
        if not own:
            continue
        num = most_draws(plan.before, len(known.z))
        covariance, z = widened(known.coordinates, wider, known.covariance, known.z[:num], seed)
        places = jnp.asarray([wider.names.index(name) for name in known.coordinates.names])

        def target_of(z: Any, places: Any = places) -> Any:
            return known.targets.of(z[places])

        drawn = KnownDraws(z, known.values[:num], covariance, target_of, paths_of(plan.before, z))
        nested = NestedMonteCarlo(plan.before, drawn, seed, prob)
        for one in own:
            seen = {
                name: np.any([options[i].seen[name] for i in one], axis=0) for name in plan.before.bound.observations
            }
            found[one] = nested.simulate(seen, simulations, phase)
    return {one: found[one] for one in sets}


def _scaled(found: SimulatedCalibrations, scale: np.ndarray) -> np.ndarray:
    """Covariances in units of the targets' scale, of the simulations that say something."""
    good = np.isfinite(found.covariance).all(axis=(1, 2))
    return found.covariance[good] / scale[:, None] / scale[None]


# What is found, as datasets that can be stored.


def _targets_dataset(known: Known, prob: float) -> xr.Dataset:
    """What is known now."""
    edges = [(1.0 - prob) / 2, (1.0 + prob) / 2]
    width = 2.0 * norm.ppf(edges[1]) * known.sd
    if not known.is_point:
        width = np.diff(np.quantile(known.values, edges, axis=0), axis=0)[0]
    data = {
        "mean": ("target", known.values.mean(axis=0), {"long_name": "mean now"}),
        "sd": ("target", known.sd, {"long_name": "standard deviation now"}),
        "width": ("target", width, {"long_name": f"width of the {100 * prob:g} % interval now"}),
    }
    return _over_targets(data, known)


def _options_dataset(weighed: Weighed, known: Known, options: Sequence[Option], order: Sequence[int]) -> xr.Dataset:
    """What each option does by itself, the best first."""
    sets = np.eye(len(options), dtype=bool)[list(order)]
    left, error = weighed.narrowed(sets)
    criteria = criteria_of(weighed.covariances(sets))
    ranked = [options[i] for i in order]
    data = {
        "sd": (("option", "target"), left * known.sd, {"long_name": "standard deviation expected with it"}),
        "sd_error": (("option", "target"), error * known.sd, {"long_name": "Monte Carlo error of `sd`"}),
        "narrowing": (
            ("option", "target"),
            1.0 - left,
            {"long_name": "share by which it is expected to lower the standard deviation", "units": ""},
        ),
        "value": (
            ("option", "criterion"),
            np.stack([criteria[name] for name in CRITERIA], axis=1),
            {"long_name": "the criteria of optimal design, log10", "units": ""},
        ),
        "cost": ("option", [float(one.cost) for one in ranked], {"long_name": "cost", "units": ""}),
        "num_observed": (
            "option",
            [int(sum(own.sum() for own in one.seen.values())) for one in ranked],
            {"long_name": "observations that it adds", "units": ""},
        ),
    }
    coords = {
        "option": [one.name for one in ranked],
        "candidate": ("option", [one.candidate for one in ranked]),
        "criterion": list(CRITERIA),
        "meaning": ("criterion", list(CRITERIA.values())),
    }
    return _over_targets(data, known).assign_coords(coords)


def _chosen_dataset(weighed: Weighed, known: Known, options: Sequence[Option], chosen: Sequence[int]) -> xr.Dataset:
    """What is chosen, with what is left after each step."""
    steps = np.zeros((len(chosen), len(options)), bool)
    for row in range(len(chosen)):
        steps[row, list(chosen[: row + 1])] = True
    left, error = weighed.narrowed(steps)
    data = {
        "sd": (("option", "target"), left * known.sd, {"long_name": "standard deviation expected with all up to it"}),
        "sd_error": (("option", "target"), error * known.sd, {"long_name": "Monte Carlo error of `sd`"}),
        "cost": (
            "option",
            np.cumsum([options[i].cost for i in chosen]),
            {"long_name": "cost of all up to it", "units": ""},
        ),
    }
    return _over_targets(data, known).assign_coords(option=[options[i].name for i in chosen])


def _simulated_dataset(
    found: Mapping[tuple[int, ...], SimulatedCalibrations], known: Known, options: Sequence[Option], scale: np.ndarray
) -> xr.Dataset:
    """By set and simulation, what its calibration says; NaN where a set has fewer simulations than others."""
    resampled = [one.resampled for one in found.values()]
    most, times = (max(own.shape[axis] for own in resampled) for axis in (0, 1))

    def filled(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.full((most - len(array), *array.shape[1:]), np.nan)])

    sd = [np.sqrt(np.diagonal(one.covariance, axis1=-2, axis2=-1)) for one in found.values()]
    criteria = [criteria_of(_scaled(one, scale)) for one in found.values()]
    each = ("set", "simulation", "target")
    data = {
        "sd": (each, np.stack([filled(one) for one in sd]), {"long_name": "standard deviation in a calibration"}),
        "width": (
            each,
            np.stack([filled(one.width) for one in found.values()]),
            {"long_name": "width of the interval in a calibration"},
        ),
        "resampled_width": (
            ("set", "simulation", "resample", "target"),
            np.stack([filled(np.repeat(own, times // own.shape[1], axis=1)) for own in resampled]),
            {"long_name": "width with other draws in place of these"},
        ),
        "ess": (
            ("set", "simulation"),
            np.stack([filled(one.ess) for one in found.values()]),
            {"long_name": "effective number of draws that weighing leaves", "units": ""},
        ),
        "gain": (
            ("set", "simulation"),
            np.stack([filled(one.gain) for one in found.values()]),
            {"long_name": "information gained about all quantities, in nats", "units": ""},
        ),
        "value": (
            ("set", "criterion"),
            np.array([[float(own[name]) for name in CRITERIA] for own in criteria]),
            {"long_name": "the criteria of optimal design, log10", "units": ""},
        ),
    }
    coords = {
        "set": [" + ".join(options[i].name for i in own) for own in found],
        "method": ("set", [one.method for one in found.values()]),
        "criterion": list(CRITERIA),
    }
    return _over_targets(data, known).assign_coords(coords)


def _over_targets(data: Mapping[str, Any], known: Known) -> xr.Dataset:
    coords = {"target": list(known.targets.names), "unit": ("target", list(known.targets.units))}
    return xr.Dataset(dict(data), coords=coords)
