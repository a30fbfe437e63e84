"""Calibration: a twin and its telemetry in, the posterior out."""

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import pathlib
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

import jax
import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import ess

from bayestwin._base.compilation import in_batches
from bayestwin._base.process import key_for
from bayestwin._base.progress import Phase, Progress, computing
from bayestwin.density.ahead import FINAL
from bayestwin.density.bind import Experiments, bind_all, times_of
from bayestwin.density.density import Density, build_density
from bayestwin.density.predictor import USUAL_DRAWS, Predictor, num_stored, terms_fit
from bayestwin.density.priors import Priors, unconstrain
from bayestwin.density.robust import Loss
from bayestwin.density.shared_prior import FEWEST_DRAWS, SharedPrior, fit_shared_prior, misfit
from bayestwin.dynamics.choice import Choice
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry, InvalidTwin
from bayestwin.inference.method import (
    METHODS,
    SETTINGS,
    Draws,
    Problem,
    Settings,
    exact_enough,
    method_named,
    usual_method,
)
from bayestwin.inference.solver import audit_tolerance, choose
from bayestwin.model.components import ATOL
from bayestwin.model.describe import describe, fingerprint, what_differs
from bayestwin.model.error import Discrepancy, ModelError
from bayestwin.model.twin import Twin
from bayestwin.results.checkpoint import FileCheckpoint
from bayestwin.results.schema import (
    SCHEMA_VERSION,
    Axes,
    axes_of,
    bond,
    content_sha256,
    driven_dataset,
    final_dataset,
    likelihood_dataset,
    series_dataset,
    signals_dataset,
    sites_dataset,
    stats_dataset,
    with_failures,
)
from bayestwin.telemetry import Telemetry

PRIOR_DRAWS = 200
FEWEST_READINGS = 3
"""Fewer that are the same, one after the other, may be so by chance."""

LOWER = "Lower `num_chains`, `num_samples` or `predictive_draws`, or calibrate on fewer samples of the telemetry."


def calibrate(
    twin: Twin,
    telemetry: Telemetry | Experiments,
    *,
    seed: int,
    model_error: ModelError | EllipsisType | None = ...,
    method: str | None = None,
    loss: Loss = "linear",
    num_warmup: int = 200,
    num_samples: int = 1000,
    num_chains: int = 4,
    target_acceptance: float = 0.8,
    max_extensions: int = 3,
    predictive_draws: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    job: Mapping[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    population: xr.DataTree | None = None,
) -> xr.DataTree:
    """Infer a twin's parameters from telemetry.

    By default by NUTS, or by `"ensemble"` where there are no derivatives. `method="laplace"` and `"pathfinder"` draw
    from approximations, in seconds or without Hessians; `"map"` gives the most probable values alone; `"smc"` goes from
    the prior to the posterior in populations, which finds the weights of modes that lie apart. Each returns the same.

    Several experiments of one asset, `{"first": telemetry, "second": …}`, are calibrated together: parameters are
    shared unless they say `shared=False`, initial states are each experiment's own unless they say `shared=True`, noise
    parameters are shared. The result has the dimension `experiment`, and counts time from each experiment's own `t0`.

    With `population` what all share has the joint posterior of other assets as its prior, and what is the asset's own
    comes from their population: what a calibration of all together would say of it, for the price of one.

    Ctrl-C while draws are made ends sampling and returns what there is, with the root attribute `interrupted`.

    Args:
        twin: The twin.
        telemetry: Its observations and inputs; or those of each experiment, by its name.
        seed: Determines everything random.
        model_error: Takes the place of the twin's own, which holds where this is left out; predict with the same.
        method: How to infer: one of the above, or what `bayestwin.inference.register` added.
        loss: For `method="map"`: `"linear"` is least squares where the noise is Gaussian; `"huber"`, `"soft_l1"` and
            `"cauchy"` keep outliers from pulling the values far.
        num_warmup: Transitions of each chain that adapt and are thrown away.
        num_samples: Draws kept of each chain.
        num_chains: Number of chains, or of populations; fewer than two cannot be checked against each other.
        target_acceptance: Mean acceptance that NUTS aims at first; it is raised by itself while transitions diverge.
        max_extensions: How often NUTS goes on by `num_samples` draws again, where chains agree by and large and R̂ or
            ESS would not pass yet; from 400 draws a chain on. The draws are those of chains of that length.
        predictive_draws: About how many draws have trajectories stored: 1,000, or the 100 or more that fit in 800 MB.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.
        job: Recorded with the result; by default the settings of this call.
        checkpoint: File in which NUTS keeps its draws while it makes them. If it is there already, calibration goes on
            from it: the posterior is, to the bit, that of a calibration that was never interrupted.
        population: Posterior of other assets by this twin, or of one record; its initial states are not carried over.

    Returns:
        Groups `posterior`, `sample_stats`, `prior`, `prior_predictive`, `posterior_predictive`, `log_likelihood`,
        `observed_data` and `constant_data`, in ArviZ's schema. Log likelihoods beyond 800 MB: of stored trajectories.
        Of a twin whose past is all in its states, `final_state`: where each draw has brought them by the last row.

    Raises:
        InvalidTelemetry: If the telemetry does not fit the twin.
        InvalidSetting: If float64 is off, the device is absent, or a setting makes no sense.
        InvalidArtifact: If the checkpoint belongs to another calibration, or the population to another twin.
        NoValidStart: If no prior draw has a finite log density.
        OutOfMemory: If draws, or their trajectories, do not fit into memory.
    """
    computation = computing(LOWER, seed=seed, device=device, progress=progress)
    twin = with_model_error(twin, model_error)
    method = method or usual_method(derivatives=twin.black_box is None)
    asked = Settings(num_warmup, num_samples, num_chains, target_acceptance, max_extensions)
    settings = {"method": method, "loss": loss, "predictive_draws": predictive_draws} | asked.told
    check_settings(twin, settings)
    begun = tally_of(twin)
    with computation as shown:
        learnt, told = learn_shared(twin, population, telemetry) if population is not None else (None, {})
        density = dataclasses.replace(build_density(twin, bind_all(twin, telemetry)), loss=loss, learnt=learnt)
        density, choice = choose(density, seed, shown)
        identity = _identity(twin, telemetry, seed, method) | asked._asdict() | told
        attributes = root_attributes(twin, telemetry, seed, job if job is not None else settings)
        axes = axes_of(density.bound, density.experiments, experiment_attributes(attributes))
        kept = FileCheckpoint(pathlib.Path(checkpoint), density, identity, axes) if checkpoint else None
        drawn, audit = draw(method, Problem(density.filled, asked, seed, shown, kept))
        attributes |= record_of(twin, method, drawn, audit, choice) | told
        tree = posterior_of(density.centred(drawn.centring), axes, drawn, attributes, predictive_draws, shown)
    _say_whence(tree.attrs["description"], told)
    tree.attrs |= spent(twin, begun, tree)
    return tree


def tally_of(twin: Twin) -> dict[str, Any]:
    """What a black box did so far; nothing of a twin with equations."""
    return dict(twin.black_box.tally) if twin.black_box else {}


def spent(twin: Twin, begun: Mapping[str, Any], tree: xr.DataTree) -> dict[str, Any]:
    """What a black box did since then, and how many solves an effective draw of the posterior took; to be recorded."""
    if not (found := tally_of(twin)):
        return {}
    done = {name: own - begun[name] if isinstance(own, int) else own for name, own in found.items()}
    draws = [own.to_numpy() for own in tree["posterior"].to_dataset().data_vars.values() if own.ndim == 2]
    worth = [float(ess(own)) for own in draws if np.ptp(own) > 0.0]
    return {"black_box": done | ({"solves_per_effective_draw": done["solves"] / min(worth)} if worth else {})}


def posterior_of(
    density: Density,
    axes: Axes,
    drawn: Draws,
    attributes: Mapping[str, Any],
    predictive_draws: int | None,
    progress: Progress,
    known: Mapping[str, np.ndarray] | None = None,
) -> xr.DataTree:
    """All groups of a posterior, from draws of a density, bound to the root attributes, which have the seed.

    What is known already of each draw, by name as `Predictor` returns it, is not solved for again: all log likelihoods,
    numbers of steps and last states.
    """
    groups = _groups(density, axes, drawn, attributes["seed"], predictive_draws, progress, known)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {**attributes, **_of_grid(density.twin, density), **bond(groups["posterior"])}
    return tree


def check_belongs(twin: Twin, posterior: xr.DataTree) -> None:
    """Refuse a posterior of another twin, or of this twin before its equations, priors or units were changed."""
    ours, theirs = fingerprint(twin), posterior.attrs.get("twin_sha256")
    if ours == theirs:
        return
    held = posterior.attrs.get("description") or {}
    known = json.loads(held) if isinstance(held, str) else held
    apart = what_differs(describe(twin), known) if known else []
    raise InvalidArtifact(
        f"This posterior does not belong to twin `{twin.name}` as it is now.",
        expected=f"a posterior of a twin with fingerprint {ours[:12]}",
        received=f"one of twin `{posterior.attrs.get('twin', '?')}` with fingerprint {str(theirs)[:12]}"
        + (f", which differs in {', '.join(apart[:5])}{', …' * (len(apart) > 5)}" if apart else ""),
        advice="Calibrate again, or take the twin as it was. What a plan is to change has to be in the twin when it is "
        "calibrated, as an input or a parameter: a scenario then changes that.",
    )


def learn_shared(
    twin: Twin, population: xr.DataTree, telemetry: Telemetry | Experiments
) -> tuple[SharedPrior, dict[str, Any]]:
    """The joint prior of all that is shared, from a posterior of other assets, and what is recorded of it.

    Errors are those of `check_population`.
    """
    check_population(twin, population, telemetry)
    sites = tuple(site for site in twin.sites() if site.shared)
    group = population["posterior"].to_dataset()
    values = {site.name: group[site.name].transpose("chain", "draw").to_numpy().ravel() for site in sites}
    z = in_batches(functools.partial(unconstrain, Priors(twin, sites)), values)
    learnt = fit_shared_prior(z)
    distances = misfit(learnt, z)
    names = [site.name for site in sites]
    told = {
        **learnt.recorded(names),
        "posterior_sha256": content_sha256(group),
        "assets": group.sizes.get("experiment", 1),
        "misfit": dict(zip([*names, "all together"], distances.tolist(), strict=True)),
        "ess": float(min(ess(values[name].reshape(group.sizes["chain"], -1)) for name in names)),
    }
    return learnt, {"population": told}


def _say_whence(description: dict[str, Any], told: Mapping[str, Any]) -> None:
    """Have a description say of parameters whose priors are those of a population where these come from."""
    known = told.get("population", {"names": ()})
    for parameter in description["parameters"]:
        if parameter["name"] in known["names"]:
            whose = "1 other record" if known["assets"] == 1 else f"{known['assets']:,} other assets"
            parameter["prior"] = f"as {whose} have it"


def check_population(twin: Twin, population: xr.DataTree, telemetry: Telemetry | Experiments) -> None:
    """Refuse other assets of which nothing can be carried over to these.

    Raises:
        InvalidArtifact: If the posterior is of another twin, or is no posterior.
        InvalidTwin: If nothing is shared.
        InvalidTelemetry: If the telemetry is among what the posterior was made of: it would count twice.
    """
    check_belongs(twin, population)
    if not any(site.shared for site in twin.sites()):
        raise InvalidTwin(
            f"Twin `{twin.name}` shares nothing between assets.",
            expected="parameters that are shared or `pooled=`",
            received="`shared=False` throughout",
            advice="Leave `population` out.",
        )
    sizes, method = population["posterior"].to_dataset().sizes, str(population.attrs["method"])
    num = sizes["chain"] * sizes["draw"]
    if num < FEWEST_DRAWS or method_named(method).judged == "point":
        raise InvalidArtifact(
            "The population is no posterior that a prior could be made of.",
            expected=f"{FEWEST_DRAWS} draws at least, of a method that draws from the posterior",
            received=f"{num:,} draws by `method={method!r}`",
            advice='Calibrate the other assets by `method="nuts"` or `"laplace"`.',
        )
    _refuse_twice(twin, population, telemetry)


def _refuse_twice(twin: Twin, population: xr.DataTree, telemetry: Telemetry | Experiments) -> None:
    """Refuse records that the population has seen: of their names, or with their readings one after the other."""
    ours = {"": telemetry} if isinstance(telemetry, Telemetry) else telemetry
    known = population["observed_data"].to_dataset()
    several = "experiment" in known.dims
    theirs = {str(name): known.sel(experiment=name) for name in known["experiment"].values} if several else {"": known}
    for name, record in ours.items():
        for other, seen in theirs.items():
            if (several and name == other) or _same_readings(twin, record, seen):
                whose = f" of `{name}`" if name else ""
                raise InvalidTelemetry(
                    f"The telemetry{whose} is in the population already, and would count twice.",
                    expected="telemetry that the population was not calibrated on",
                    received=f"that of `{other}`" if other else "the telemetry that it was calibrated on",
                    advice="Take what is known of it from the population, or calibrate the population without it.",
                )


def _same_readings(twin: Twin, record: Telemetry, seen: xr.Dataset) -> bool:
    """Whether a record's readings of some observation are found in others', one after the other, or these in them."""
    for name, observation in twin.observations.items():
        if name in seen and name in record.table.columns:
            ours, theirs = record.in_unit(name, observation.unit), seen[name].to_numpy().astype(float)
            short, long = sorted((ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]), key=len)
            if len(short) >= FEWEST_READINGS and len(np.unique(short)) > 1:
                runs = np.lib.stride_tricks.sliding_window_view(long, len(short))
                begins = np.flatnonzero(np.isclose(runs[:, 0], short[0], rtol=1e-9, atol=0.0))
                if any(np.allclose(runs[at], short, rtol=1e-9, atol=0.0) for at in begins):
                    return True
    return False


def _of_grid(twin: Twin, density: Density) -> dict[str, Any]:
    """What a density was solved with: tolerances by state, and what each record brought along, by name.

    The second is by name and experiment where there are several, and what a prediction goes on from.
    """
    found: dict[str, Any] = {}
    if np.min(atol := density.grid.precision.atol) < twin.solver.atol == ATOL:
        found["atol_by_scale"] = twin.layout.least(np.min(np.atleast_2d(atol), axis=0))
    known = {name: np.asarray(number).tolist() for name, number in density.grid.known.items()}
    if density.experiments:
        known = {name: dict(zip(density.experiments, numbers, strict=True)) for name, numbers in known.items()}
    return found | ({"known": known} if known else {})


def record_of(twin: Twin, method: str, drawn: Draws, audit: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """What a method did and found, and how the twin was solved."""
    return {
        **dict(drawn.record),
        **audit,
        "method": method,
        "solver": describe(twin)["solver"],
        "solver_choice": {"method": choice.method, "reason": choice.reason, **choice.evidence},
        "interrupted": drawn.interrupted,
    }


def with_model_error(twin: Twin, model_error: ModelError | EllipsisType | None) -> Twin:
    """The twin with this model error; `...` leaves it as it is."""
    return twin if isinstance(model_error, EllipsisType) else dataclasses.replace(twin, model_error=model_error)


def draw(method: str, problem: Problem) -> tuple[Draws, dict[str, Any]]:
    """Draws, and the record of their tolerance audit; fixed steps that are not exact enough give way."""
    drawn = METHODS[method](problem)
    twin = problem.density.twin
    if METHODS[method].judged == "point" or twin.solver.method == "exact" or twin.black_box:
        return drawn, {}
    audit = audit_tolerance(problem.density.centred(drawn.centring), drawn, problem.progress)
    fixed = drawn.record.get("sensitivities", {}).get("mode") == "reverse"
    if fixed and not exact_enough(audit) and not drawn.interrupted:
        forward = problem.settings._replace(sensitivities="forward")
        drawn = METHODS[method](problem._replace(settings=forward))
        audit = audit_tolerance(problem.density.centred(drawn.centring), drawn, problem.progress)
    return drawn, {"tolerance_audit": audit}


def _identity(twin: Twin, telemetry: Telemetry | Experiments, seed: int, method: str) -> dict[str, Any]:
    """What the bits of draws depend on, besides the settings."""
    versions = {name: importlib.metadata.version(name) for name in ("bayestwin", "blackjax", "jax", "jaxlib")}
    hashes = {"twin_sha256": fingerprint(twin), "telemetry_sha256": times_of(twin, telemetry)["telemetry_sha256"]}
    return {"method": method, "seed": seed} | hashes | versions


def check_settings(twin: Twin, settings: Mapping[str, Any]) -> None:
    """Refuse words that are unknown, numbers that make no sense, and twins with nothing to infer."""
    for setting in SETTINGS:
        if setting.name in settings and not setting.fits(settings[setting.name]):
            raise InvalidSetting(
                f"`{setting.name}` makes no sense.",
                expected=setting.expected,
                received=f"{settings[setting.name]!r}",
                advice="Leave it out for the default.",
            )
    other_loss = settings.get("loss", "linear") != "linear"
    chosen = METHODS[settings.get("method") or usual_method(derivatives=twin.black_box is None)]
    if other_loss and not chosen.losses:
        fitting = " or ".join(f'`method="{name}"`' for name, method in METHODS.items() if method.losses)
        raise InvalidSetting(
            f'`loss="{settings["loss"]}"` belongs to {fitting}.',
            expected='`loss="linear"`: a posterior needs a likelihood',
            received=f"method {chosen.name!r}",
            advice="For outliers in a posterior use the noise model `bt.StudentT`.",
        )
    dependent = [name for name, observation in twin.observations.items() if not observation.noise.independent]
    dependent += [name for pair in twin.correlated for name in pair]
    if other_loss and dependent:
        alone = twin.observations[dependent[0]].noise.independent
        raise InvalidSetting(
            f'`loss="{settings["loss"]}"` does not fit the noise of observation `{dependent[0]}`.',
            expected="observations that are independent, each of which can lie far off by itself",
            received="noise that is correlated with that of another sensor" if alone else "autocorrelated noise",
            advice='Use `loss="linear"`, or another noise model.',
        )
    if other_loss and isinstance(twin.model_error, Discrepancy):
        raise InvalidSetting(
            f'`loss="{settings["loss"]}"` does not go with a discrepancy.',
            expected="observations that are independent, each of which can lie far off by itself",
            received="a discrepancy, which ties them together",
            advice='Use `loss="linear"`, or `model_error=None`.',
        )
    if twin.black_box and chosen.derivatives:
        without = " or ".join(f'`method="{name}"`' for name, method in METHODS.items() if not method.derivatives)
        raise InvalidSetting(
            f'`method="{chosen.name}"` needs derivatives, which twin `{twin.name}` does not have.',
            expected=without,
            received="a model that shows no equations",
            advice="Leave `method` out.",
        )
    if not twin.sites():
        raise InvalidTwin(
            f"Twin `{twin.name}` has nothing to infer.",
            expected="a prior on at least one parameter, initial state or noise parameter",
            received="known numbers only",
            advice="Use `simulate` to solve it.",
        )


def root_attributes(
    twin: Twin, telemetry: Telemetry | Experiments, seed: int, job: Mapping[str, Any]
) -> dict[str, Any]:
    """What binds a result to its twin, telemetry, settings and version."""
    times = times_of(twin, telemetry)
    return {
        "bayestwin_version": importlib.metadata.version("bayestwin"),
        "schema_version": SCHEMA_VERSION,
        "twin": twin.name,
        "twin_sha256": fingerprint(twin),
        "telemetry_sha256": times["telemetry_sha256"],
        "seed": seed,
        "job": json.dumps(job, sort_keys=True, default=_named),
        "time_unit": twin.time_unit,
        **times,
        "description": describe(twin),
    }


def _named(value: Any) -> str:
    """A setting that JSON does not know, in words; a posterior by its draws."""
    return content_sha256(value["posterior"].to_dataset())[:12] if isinstance(value, xr.DataTree) else str(value)


def experiment_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What the coordinate `experiment` says: how elapsed times come from those of each experiment's telemetry."""
    return {"t0": attributes["t0"], "time_unit": attributes["time_unit"]}


def _groups(
    density: Density,
    axes: Axes,
    drawn: Draws,
    seed: int,
    predictive_draws: int | None,
    progress: Progress,
    known: Mapping[str, np.ndarray] | None,
) -> dict[str, xr.Dataset]:
    twin, bound = density.twin, density.bound
    chains, num = drawn.z.shape[:2]
    predictor = Predictor(density)
    places = math.prod(axes.shape)
    kept = thinned(chains, num, num_stored(density, places, predictive_draws))
    prior_kept = thinned(1, PRIOR_DRAWS, num_stored(density, places, None))
    of_all, followed = known is None and terms_fit(density, chains * num), np.arange(num)
    if known is not None:
        followed = kept
    elif not of_all and twin.solver.method == "exact":
        followed = np.union1d(kept, thinned(chains, num, USUAL_DRAWS))
    all_rows, rows = ((np.arange(chains)[:, None] * num + own).ravel() for own in (followed, kept))
    with progress.phase("predictive", "predicting", chains * num + PRIOR_DRAWS) as phase:
        values = density.constrain_all(drawn.z.reshape(chains * num, -1))
        found = _predicted(predictor, values, seed, phase, all_rows, rows, of_all=of_all)
        values |= density.derive_all(values)
        prior, prior_found = _prior(density, predictor, seed, phase, prior_kept)
    found |= known or {}
    stats = drawn.stats | {"solver_steps": found["num_steps"].reshape(chains, num)}
    with_terms = np.arange(num) if of_all or known is not None else kept
    final = final_dataset(twin, found, chains, followed if known is None else np.arange(num), bound.labels[-1])
    return ({FINAL: final} if final.data_vars else {}) | {
        "posterior": sites_dataset(
            twin, {name: v.reshape(chains, num, *v.shape[1:]) for name, v in values.items()}, axes.coords
        ),
        "sample_stats": stats_dataset(stats),
        "prior": sites_dataset(twin, {name: v[None] for name, v in prior.items()}, axes.coords),
        "prior_predictive": series_dataset(twin, prior_found, axes, 1, prior_kept),
        "posterior_predictive": with_failures(series_dataset(twin, found, axes, chains, kept), axes),
        "log_likelihood": likelihood_dataset(found, bound, chains, with_terms, density.experiments),
        "observed_data": signals_dataset(twin.observations, bound.observations, axes),
        "constant_data": driven_dataset(twin, bound, axes),
    }


def _predicted(
    predictor: Predictor,
    values: Mapping[str, np.ndarray],
    seed: int,
    phase: Phase,
    followed: np.ndarray,
    kept: np.ndarray,
    *,
    of_all: bool,
) -> dict[str, np.ndarray]:
    """Trajectories of some draws, log likelihoods of these or of all, and where the twin ends in those followed."""
    density, key, num = predictor.density, key_for(seed, "posterior_predictive"), len(next(iter(values.values())))
    given, places = {name: own[followed] for name, own in values.items()}, np.searchsorted(followed, kept)
    final = density.twin.forgetful and not density.experiments
    found = predictor(given, key, phase, places, None if of_all else places, followed, final=final)
    phase.advance(num - len(followed))
    # only without a solver there are draws that are not followed, and none takes any steps
    return found if len(followed) == num else found | {"num_steps": np.zeros(num, int)}


def _prior(
    density: Density, predictor: Predictor, seed: int, phase: Phase, kept: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    if density.twin.model_error is not None:  # trajectories are drawn given what was observed: here that is nothing
        predictor = Predictor(dataclasses.replace(density, bound=density.bound._replace(observations={})))
    keys = jax.random.split(key_for(seed, "prior"), PRIOR_DRAWS)
    values, _ = density.draw_prior(keys)
    return values | density.derive_all(values), predictor(
        values, key_for(seed, "prior_predictive"), phase, kept, np.arange(0)
    )


def thinned(chains: int, num: int, wanted: int) -> np.ndarray:
    """Numbers of the draws, the same in each chain and evenly spaced, that make about `wanted` draws in all."""
    each = min(num, max(1, round(wanted / chains)))
    return np.unique(np.linspace(0, num - 1, each).round().astype(int))
