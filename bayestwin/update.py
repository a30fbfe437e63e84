"""Updating: a posterior and what was observed since in, the posterior of the whole record out.

Draws are weighted by the likelihood of what is new, which is exact while weights are even enough. Where they are not,
NUTS goes on from these draws over the whole record: nothing is taken for a normal, or smoothed by a kernel. Where the
asset drifts, old rows may count less: see `forget`.

The weights' tail: A. Vehtari et al. (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.sampling_diagnostics import ess

from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress, computing
from bayestwin._base.units import convert
from bayestwin.calibrate import check_belongs, posterior_of, record_of, root_attributes
from bayestwin.density.ahead import FINAL, can_go_on, final_states, final_time, from_same_start, past_of, resumed
from bayestwin.density.bind import Bound, bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.predictor import Predictor
from bayestwin.density.rows import faded
from bayestwin.density.survey import evaluate
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry, NothingNew
from bayestwin.inference.climb import Mode
from bayestwin.inference.laplace import smooth_tail
from bayestwin.inference.method import MAX_PARETO_K, MIN_ESS_PER_CHAIN, Draws, Settings, method_named
from bayestwin.inference.nuts import sample_nuts
from bayestwin.inference.solver import audit_tolerance, choose, choose_sensitivities
from bayestwin.inference.starts import Starts
from bayestwin.model.twin import Twin
from bayestwin.results.schema import axes_of, content_sha256
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.times import paired

UPDATES = "updates"
"""What a posterior says of those that it has been through, the first one first."""

KEPT_RECORDS = ("sampling", "num_warmup", "starts", "sensitivities", "population")
"""What is known of how draws came about stays true of them while they are weighted."""

FORGET = "forget"
"""What a posterior says where old rows count less: `half_life` in the twin's unit of time, what all rows `count` for
together, and how many of the first ones are `faded`, which count for less than a tenth each."""

EVEN = 10
"""Draws that count for each chain where chains go on from weighted draws."""


def update(
    twin: Twin,
    posterior: xr.DataTree,
    telemetry: Telemetry,
    *,
    seed: int,
    max_k: float = MAX_PARETO_K,
    forget: float | str | datetime.timedelta | None = None,
    predictive_draws: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    job: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """The posterior of a twin given all that it was calibrated on and what was observed since.

    Rows may be later than those of the calibration, between them, or the same ones with other readings, which then
    take the place of those before. In whatever order and batches rows arrive, the posterior is that of all of them.

    While Pareto k of the weights is at most `max_k`, and enough draws count, draws are chosen by weight. Else chains go
    on from them over the whole record, as long as those before, which costs a calibration without its search for modes.

    With `forget`, the likelihood of each reading is raised to the power `2^(−age / half-life)`, its age counted from
    the last reading of the record; the prior counts in full. What old rows count for follows from the record and the
    half-life of the latest update alone, in whatever batches they came; without `forget`, all count in full again.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` by chains, or `update`, returned it; of one record.
        telemetry: What is new, with its inputs; rows that are known already do no harm.
        seed: Determines everything random.
        max_k: Largest Pareto k with which draws are weighted; negative to go on by chains whatever it is.
        forget: Half-life of what readings count for, as a number in the twin's unit of time, a `timedelta`, or text
            such as `"P2D"` or `"12 h"`; None for all in full.
        predictive_draws: As in `calibrate`.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.
        job: Recorded with the result; by default the settings of this call.

    Returns:
        What `calibrate` returns. The root attribute `updates` has an entry for each update so far: `rows` and
        `readings` that were new, `revised` readings, `pareto_k`, `effective` draws under the weights, `how`
        (`"weighted"` or `"went on"`), `log_predictive` (log density of what is new given all before, None where Pareto
        k says that it is not known, or rows are forgotten), the hashes of the posterior before and of the telemetry,
        and the seed. Where rows are forgotten, the root attribute `forget` has `half_life`, `count` and `faded`.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin, is of several experiments, or has no chains.
        InvalidSetting: If `max_k` is no number, or `forget` no length of time, or not defined for this twin.
        InvalidTelemetry: If the telemetry does not fit, or has nothing that was not counted already.
        OutOfMemory: If trajectories do not fit into memory.
    """
    computation = computing("Lower `predictive_draws`.", seed=seed, device=device, progress=progress)
    check_belongs(twin, posterior)
    check_updatable(posterior)
    if not isinstance(max_k, int | float) or np.isnan(max_k):
        raise InvalidSetting(
            "`max_k` makes no sense.",
            expected="a number, 0.7 by default",
            received=repr(max_k),
            advice="Leave it out for the default.",
        )
    half_life = half_life_of(twin, forget)
    before, whole, told = joined(twin, posterior, telemetry)
    check_news(twin, told)
    told_job = {"max_k": max_k, "forget": forget, "predictive_draws": predictive_draws} if job is None else dict(job)
    attributes = root_attributes(twin, whole, seed, told_job) | {UPDATES: [*posterior.attrs.get(UPDATES, ())]}
    with computation as shown:
        bound = _faded(bind(twin, whole), half_life)
        attributes |= _forgotten(bound, half_life)
        density, choice = choose(build_density(twin, bound), seed, shown)
        axes = axes_of(density.bound, density.experiments)
        in_full = half_life is None and FORGET not in posterior.attrs
        if in_full and _knows_the_past(twin, posterior, telemetry):
            weighed = _weigh_later(density, posterior, telemetry, seed, shown)
        else:
            weighed = _weigh(density, _as_before(density, before, posterior), posterior, shown)
        # a tail that ends has a negative k; NaN is not at most anything
        fine = (
            weighed.pareto_k <= max_k and max_k >= 0.0 and weighed.effective >= MIN_ESS_PER_CHAIN * weighed.num_chains
        )
        told |= weighed.recorded | {"how": "weighted" if fine else "went on"}
        told |= {} if in_full else {"log_predictive": None}  # what old rows count for has changed as well
        known = None
        if fine:
            drawn, audit, known = _choose_by_weight(density.filled, weighed, posterior, seed, shown)
        else:
            drawn, audit = _draw_on(density.filled, weighed, posterior, seed, shown)
        attributes |= record_of(twin, "nuts" if not fine else str(posterior.attrs["method"]), drawn, audit, choice)
        attributes[UPDATES].append(told | {"telemetry_sha256": telemetry.sha256, "seed": seed, "max_k": max_k})
        return posterior_of(density, axes, drawn, attributes, predictive_draws, shown, known)


def check_updatable(posterior: xr.DataTree) -> None:
    """Refuse what has no chains that could go on, or more than one record.

    Raises:
        InvalidArtifact: If so.
    """
    group, method = posterior["posterior"].to_dataset(), str(posterior.attrs["method"])
    several = "experiment" in group.dims
    if not several and method_named(method).judged in ("transitions", "chains"):
        return
    raise InvalidArtifact(
        "This posterior cannot be updated.",
        expected="draws of chains, of one record",
        received="those of several experiments" if several else f"those by `method={method!r}`",
        advice="Calibrate on all telemetry together."
        if several
        else 'Calibrate by `method="nuts"` first: draws of an approximation would stay those of an approximation.',
    )


def check_follows(twin: Twin, posterior: xr.DataTree, telemetry: Telemetry) -> None:
    """Refuse rows up to which inputs are not known, before anything is computed.

    Raises:
        InvalidTelemetry: If so.
    """
    if _knows_the_past(twin, posterior, telemetry):
        resumed(twin, posterior, telemetry, observed=True)


def known_record(twin: Twin, posterior: xr.DataTree, alike: Telemetry) -> Telemetry:
    """The record that a posterior of one was made of, in the twin's units; zone and settings are those of one alike."""
    alike = from_same_start(twin, past_of(posterior), alike)
    groups = [posterior[name].to_dataset() for name in ("observed_data", "constant_data")]
    series = {str(name): one for group in groups for name, one in group.data_vars.items()}
    known = pd.DataFrame({name: one.to_numpy().astype(float) for name, one in series.items()})
    known.index = pd.Index(groups[0]["time"].to_numpy(), name=alike.table.index.name)
    units = {name: spec.unit for name, spec in _specs(twin).items() if spec.unit}
    units |= {"time": alike.units["time"]} if "time" in alike.units else {}
    plain = dataclasses.replace(alike, units=units, renamed={}, texts={}, notices=())
    return plain.with_table(known.sort_index())


def whole_record(twin: Twin, posterior: xr.DataTree, telemetry: Telemetry) -> Telemetry:
    """The record of a posterior with what was observed since.

    Raises:
        InvalidTelemetry: As of `update`.
    """
    _, whole, told = joined(twin, posterior, telemetry)
    check_news(twin, told)
    return whole


def _specs(twin: Twin) -> dict[str, Any]:
    return {**twin.observations, **twin.inputs, **twin.events, **twin.noise_columns()}


def joined(twin: Twin, posterior: xr.DataTree, telemetry: Telemetry) -> tuple[Telemetry, Telemetry, dict[str, Any]]:
    """The record before and the whole one, in the twin's units, and what is new in numbers; see `check_news`."""
    before, specs = known_record(twin, posterior, telemetry), _specs(twin)
    known = before.table
    if not (known.index.is_unique and telemetry.table.index.is_unique):
        raise InvalidTelemetry(
            "A record with replicates cannot be updated.",
            expected="each time once",
            received="times that are there more than once, so that it is open which readings are new",
            advice="Calibrate on all telemetry together.",
        )
    there = [name for name in specs if name in telemetry.table.columns]
    new = pd.DataFrame({n: telemetry.in_unit(n, specs[n].unit) for n in there}, index=telemetry.table.index)
    told = _news(twin, known, new)
    return before, before.with_table(new.combine_first(known).sort_index()), told


def _news(twin: Twin, known: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    """How many rows and readings are new, how many take the place of others, and how many were counted already."""
    places = paired(new.index, known.index)
    readings = revised = again = 0
    for name in twin.observations:
        if name in new:
            ours = new[name].to_numpy()
            theirs = np.where(places >= 0, known[name].to_numpy()[places], np.nan)
            same = np.isclose(ours, theirs, rtol=1e-9, atol=0.0)
            again += int(same.sum())
            revised += int((np.isfinite(ours) & np.isfinite(theirs) & ~same).sum())
            readings += int((np.isfinite(ours) & ~np.isfinite(theirs)).sum())
    return {"rows": int((places < 0).sum()), "readings": readings, "revised": revised, "again": again}


def check_news(twin: Twin, told: Mapping[str, int]) -> None:
    """Refuse telemetry in which nothing is new.

    Raises:
        NothingNew: If so.
    """
    if told["readings"] + told["revised"]:
        return
    raise NothingNew(
        "There is nothing in this telemetry that the posterior does not know.",
        expected="readings of " + ", ".join(f"`{name}`" for name in twin.observations) + " that were not counted yet",
        received=f"{told['again']:,} readings, all of them counted already" if told["again"] else "no readings",
        advice="Wait for new rows; to count these again would make the posterior narrower than it is.",
    )


def _as_before(density: Density, before: Telemetry, posterior: xr.DataTree) -> Density:
    """The density of the record before, its rows weighted as they were, solved as that of the whole one."""
    twin, known = density.twin, posterior.attrs.get(FORGET)
    bound = _faded(bind(twin, before), None if known is None else float(known["half_life"]))
    return build_density(twin, bound).solved_as(twin).solved_to(density.grid.precision)


FADED = 0.1
"""Rows that count for less are left out where it is asked whether a posterior describes what it is of."""


def half_life_of(twin: Twin, forget: float | str | datetime.timedelta | None) -> float | None:
    """The half-life of what readings count for, in the twin's unit of time; None where all count in full.

    Raises:
        InvalidSetting: If it is no length of time, or readings are not independent given the parameters.
    """
    if forget is None:
        return None
    if isinstance(forget, str) and (plain := re.fullmatch(r"[\d.]+(e[+-]?\d+)?", forget.strip())):
        forget = float(plain[0])
    if isinstance(forget, bool | int | float):
        length = np.nan if isinstance(forget, bool) else float(forget)
    else:
        try:
            seconds = pd.Timedelta(forget).total_seconds()
        except ValueError:
            seconds = np.nan
        length = float(convert(np.asarray(seconds), "s", twin.time_unit, "`forget`", InvalidSetting))
    if not (np.isfinite(length) and length > 0.0):
        raise InvalidSetting(
            "`forget` is no length of time.",
            expected=f"a half-life: a number of {twin.time_unit or 'units of time'} above 0, or text such as `P2D`",
            received=repr(forget),
            advice="Leave it out for all rows to count in full.",
        )
    remembering = [name for name, one in twin.observations.items() if not one.noise.independent]
    if twin.model_error is None and not remembering:
        return length
    raise InvalidSetting(
        f"Twin `{twin.name}` cannot forget: a reading is not worth a part of itself by its own.",
        expected="readings that are independent of each other given the parameters",
        received=f"{type(twin.model_error).__name__}, which ties readings together"
        if twin.model_error is not None
        else f"noise of `{remembering[0]}` that remembers",
        advice="Calibrate anew on the rows that are to count (`start` in `[split]`); process noise on what drifts "
        "follows it by itself.",
    )


def _faded(bound: Bound, half_life: float | None) -> Bound:
    """The record with its rows counting less the older they are."""
    if half_life is None:
        return bound
    return bound._replace(weights=faded(bound.times, bound.observations, half_life))


def _forgotten(bound: Bound, half_life: float | None) -> dict[str, Any]:
    """What is recorded of rows that count less; see `FORGET`."""
    if half_life is None or bound.weights is None:
        return {}
    read = np.any([np.isfinite(values) for values in bound.observations.values()], axis=0)
    rows = int(np.sum(bound.weights < FADED))
    return {FORGET: {"half_life": half_life, "count": float(bound.weights[read].sum()), "faded": rows}}


def counting_rows(twin: Twin, posterior: xr.DataTree, whole: Telemetry) -> Telemetry:
    """The record of a posterior without the readings that have faded."""
    rows = posterior.attrs.get(FORGET, {"faded": 0})["faded"]
    kept = np.arange(len(whole.table)) >= rows
    read = {name: whole.table[name].where(kept) for name in twin.observations if name in whole.table}
    return whole.with_table(whole.table.assign(**read))


class _Weighed(NamedTuple):
    """The draws of a posterior under the likelihood of what is new.

    Attributes:
        z: All draws, chain after chain; shape (n, d).
        log_density: Of the whole record; shape (n,).
        log_weights: Normalised; shape (n,).
        pareto_k: Of the weights.
        effective: Draws that count.
        log_predictive: Log density of what is new, given all before.
        num_chains: How many chains there are.
        posterior_sha256: Of the draws.
        known: Of each draw, what `Predictor` returns of the whole record, as far as it was not solved for again.
    """

    z: np.ndarray
    log_density: np.ndarray
    log_weights: np.ndarray
    pareto_k: float
    effective: float
    log_predictive: float
    num_chains: int
    posterior_sha256: str
    known: Mapping[str, np.ndarray] | None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """As plain numbers; None where one is not known."""
        known = self.pareto_k <= MAX_PARETO_K
        return {
            "pareto_k": self.pareto_k if np.isfinite(self.pareto_k) else None,
            "effective": self.effective,
            "log_predictive": self.log_predictive if known else None,
            "posterior_sha256": self.posterior_sha256,
        }


def _weigh(density: Density, before: Density, posterior: xr.DataTree, progress: Progress) -> _Weighed:
    """Weigh draws by how probable they make what is new."""
    z, values = _draws_of(density, posterior)
    with progress.phase("update", "weighing draws", 2 * len(z)) as phase:
        here = evaluate(density.filled, z)
        phase.advance(len(z))
        ratio = here - evaluate(before.filled, z)
        phase.advance(len(z))
    return _weighed(z, values, here, ratio, posterior)


def _knows_the_past(twin: Twin, posterior: xr.DataTree, telemetry: Telemetry) -> bool:
    """Whether all that is known of rows so far need not be solved for again: new ones are later, all draws are kept."""
    if not can_go_on(twin, posterior, telemetry, None) or "solver_steps" not in posterior["sample_stats"]:
        return False
    num, last = posterior["posterior"].sizes["draw"], posterior["observed_data"].to_dataset()["time"].values[-1]
    return last == final_time(posterior) and all(
        posterior[name].sizes.get("draw") == num for name in (FINAL, "log_likelihood")
    )


def _weigh_later(
    density: Density, posterior: xr.DataTree, telemetry: Telemetry, seed: int, progress: Progress
) -> _Weighed:
    """As `_weigh`, of rows that are all later, at the cost of these alone."""
    z, values = _draws_of(density, posterior)
    _, bound, ahead = resumed(density.twin, posterior, telemetry, observed=True)
    begun = final_states(posterior, posterior["posterior"].to_dataset()["draw"].values)
    given = {site.name: begun[site.name] if site.kind == "initial" else values[site.name] for site in ahead.sites}
    with progress.phase("update", "weighing draws", len(z)) as phase:
        predictor = Predictor(ahead.solved_to(density.grid.precision))
        found = predictor(given, key_for(seed, "update"), phase, np.arange(0), final=True)
    ratio, known = np.zeros(len(z)), {name: own for name, own in found.items() if name.endswith("_final")}
    for name, seen in density.bound.observations.items():
        terms, num = np.full((len(z), len(seen)), np.nan), len(seen) - len(bound.times)
        own = posterior["log_likelihood"][name].transpose("chain", "draw", ...).to_numpy()
        terms[:, np.flatnonzero(np.isfinite(seen[:num]))] = own.reshape(len(z), -1)
        if name in bound.observations:
            terms[:, num:] = found[f"log_likelihood/{name}"]
            ratio += terms[:, num:][:, np.isfinite(bound.observations[name])].sum(axis=1)
        known[f"log_likelihood/{name}"] = terms
    stats = posterior["sample_stats"].to_dataset().transpose("chain", "draw")
    known["num_steps"] = stats["solver_steps"].to_numpy().ravel() + found["num_steps"]
    return _weighed(z, values, stats["lp"].to_numpy().ravel() + ratio, ratio, posterior, known)


def _draws_of(density: Density, posterior: xr.DataTree) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All draws of a posterior, chain after chain: their z, and the values of the sites by name."""
    group = posterior["posterior"].to_dataset()
    arrays = {site.name: group[site.name].transpose("chain", "draw", ...).to_numpy() for site in density.sites}
    values = {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}
    return density.unconstrain_all(values), values


def _weighed(
    z: np.ndarray,
    values: Mapping[str, np.ndarray],
    here: np.ndarray,
    ratio: np.ndarray,
    posterior: xr.DataTree,
    known: Mapping[str, np.ndarray] | None = None,
) -> _Weighed:
    """Draws with log density `here` over the whole record, which `ratio` makes so much more probable than before."""
    group = posterior["posterior"].to_dataset()
    chains, num = group.sizes["chain"], len(z)
    ratio = np.where(np.isnan(ratio), -np.inf, ratio)  # draws that the record before could not be solved for either
    bulk = min(float(ess(one.reshape(chains, num // chains, -1)[..., 0], method="mean")) for one in values.values())
    efficiency = float(np.clip(bulk / num, 1e-3, 1.0))
    if not np.isfinite(ratio).any():
        weights, shape = np.full(num, -np.log(num)), np.inf
    else:
        weights, shape = smooth_tail(ratio, efficiency)
    counting = efficiency / float(np.square(np.exp(weights)).sum())
    mean = float(np.logaddexp.reduce(ratio) - np.log(num))
    return _Weighed(z, here, weights, shape, counting, mean, chains, content_sha256(group), known)


def _choose_by_weight(
    density: Density, weighed: _Weighed, posterior: xr.DataTree, seed: int, progress: Progress
) -> tuple[Draws, dict[str, Any], dict[str, np.ndarray] | None]:
    """Systematic choice: each draw is there as often as its weight says, to within one, and stays near its place.

    With what is known of the draws that were chosen.
    """
    chosen = _systematic(np.exp(weighed.log_weights), len(weighed.z), seed)
    by_chain = chosen.reshape(weighed.num_chains, -1)
    stats = posterior["sample_stats"].to_dataset()
    kept = {str(name): one.transpose("chain", "draw").to_numpy().ravel()[by_chain] for name, one in stats.items()}
    kept.pop("solver_steps", None)  # counted anew over the whole record
    kept |= {"lp": weighed.log_density[by_chain]}
    record = {name: posterior.attrs[name] for name in KEPT_RECORDS if name in posterior.attrs}
    drawn = Draws(weighed.z[by_chain], kept, record)
    known = None if weighed.known is None else {name: own[chosen] for name, own in weighed.known.items()}
    return drawn, _audited(density, drawn, progress), known


def _draw_on(
    density: Density, weighed: _Weighed, posterior: xr.DataTree, seed: int, progress: Progress
) -> tuple[Draws, dict[str, Any]]:
    """Chains over the whole record, from draws that it does not make improbable, in the metric that these have."""
    weights = _evened(weighed.log_weights, EVEN * weighed.num_chains)
    begun = weighed.z[_systematic(weights, weighed.num_chains, seed)]
    centre = weights @ weighed.z
    apart = weighed.z - centre
    covariance = (weights[:, None] * apart).T @ apart + 1e-10 * np.eye(len(centre))
    highest = float(evaluate(density, centre[None])[0])
    mode = Mode(centre, highest, np.linalg.cholesky(covariance), 1.0)
    starts = Starts(begun, (mode,), {})
    settings = Settings(num_chains=weighed.num_chains, num_samples=posterior["posterior"].sizes["draw"])
    density, mode_of = choose_sensitivities(density, starts, seed, progress)
    drawn = sample_nuts(density, starts, settings=settings, seed=seed, progress=progress)
    drawn = drawn._replace(record={"sensitivities": mode_of, **drawn.record})
    return drawn, _audited(density, drawn, progress)


def _audited(density: Density, drawn: Draws, progress: Progress) -> dict[str, Any]:
    if density.twin.solver.method == "exact":
        return {}
    return {"tolerance_audit": audit_tolerance(density, drawn, progress)}


def _systematic(weights: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Numbers of draws, increasing, each as often as its share of `num` says, to within one; shape (num,)."""
    first = float(jax.random.uniform(key_for(seed, "update")))
    passed = np.cumsum(weights) / np.sum(weights)
    return np.searchsorted(passed, (first + np.arange(num)) / num).clip(max=len(weights) - 1)


def _evened(log_weights: np.ndarray, least: int) -> np.ndarray:
    """Weights to the largest power, at most one, with which so many draws count; shape (n,), adding up to one."""

    def to_power(power: float) -> np.ndarray:
        raised = np.where(np.isfinite(log_weights), power * log_weights, -np.inf)
        found = np.exp(raised - raised.max())
        return found / found.sum()

    low, high, middle = 0.0, 1.0, 1.0
    for _ in range(50):
        enough = 1.0 / np.square(to_power(middle)).sum() >= least
        low, high = (middle, high) if enough else (low, middle)
        middle = (low + high) / 2.0
    return to_power(low)
