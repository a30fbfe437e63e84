"""Leave-future-out: how probable what came next was, for a twin that was calibrated on what was known until then.

P.-C. Bürkner, J. Gabry, A. Vehtari (2020), Approximate leave-future-out cross-validation for Bayesian time series
models, doi:10.1080/00949655.2020.1783262.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax import Array
from scipy.special import logsumexp

from bayestwin import errors
from bayestwin._base.process import seed_for
from bayestwin._base.progress import Phase, Progress, computing
from bayestwin.assess.backtest import FAILURES, Stage, cut_stages
from bayestwin.assess.diagnose import diagnose
from bayestwin.assess.gates import failed
from bayestwin.calibrate import calibrate, root_attributes, with_model_error
from bayestwin.density.bind import Bound, bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.predictor import AT_ONCE
from bayestwin.dynamics.choice import with_method
from bayestwin.inference.laplace import STATISTICS
from bayestwin.inference.method import method_named, usual_method
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

# The log density of a record up to one time after the other, given draws of what a twin infers.
#
# `log p(y_a…b | y_1…a, θ)` is the difference of two of them, also where observations hang together by process noise, a
# discrepancy or autocorrelated noise.


class Ahead:
    """`log p(y_1…n | θ)` for several n, for the draws of any posterior of a twin; compiled once for each solver."""

    def __init__(self, density: Density, ends: Sequence[int]) -> None:
        """Prepare; nothing is compiled before the first call.

        Args:
            density: Of the whole record.
            ends: How many of its times each entry has.
        """
        self.density, self.ends = density, np.asarray(ends)
        self._batches: dict[str, Callable[[dict[str, Array]], Array]] = {}

    def __call__(self, posterior: xr.DataTree) -> np.ndarray:
        """Log densities, shape (draws, ends); −inf where the twin cannot be solved over the whole record."""
        method = posterior.attrs.get("solver_choice", {}).get("method", "auto")
        if method not in self._batches:
            solved = self.density.solved_as(with_method(self.density.twin, method))
            self._batches[method] = jax.jit(jax.vmap(_until(solved, self.ends)))
        group = posterior["posterior"].to_dataset()
        values = {site.name: group[site.name].to_numpy().ravel() for site in self.density.sites}
        num = group.sizes["chain"] * group.sizes["draw"]
        found = []
        for first in range(0, num, AT_ONCE):
            rows = np.minimum(np.arange(first, first + AT_ONCE), num - 1)
            batch = self._batches[method]({name: jnp.asarray(v[rows]) for name, v in values.items()})
            found.append(np.asarray(batch)[: num - first])
        return np.concatenate(found)


def _until(density: Density, ends: np.ndarray) -> Callable[[dict[str, Array]], Array]:
    smooth = [_known_until(density, end).discrepancies for end in ends]

    def one(values: dict[str, Array]) -> Array:
        predicted = density.predict(values)
        terms = density.log_likelihood(values, predicted)
        if density.discrepancies is not None:  # these terms have none: observations with one hang together
            terms = {name: term for name, term in terms.items() if name not in density.discrepancies.processes}
        steps = sum(terms.values(), jnp.zeros(len(density.bound.times)))
        found = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])[ends]
        if density.discrepancies is not None:
            scales = {name: density.noise(name, values)[1]["scale"] for name in density.discrepancies.processes}
            each = [part.log_likelihood(values, predicted.noise_free, scales) for part in smooth if part is not None]
            found += jnp.stack([jnp.stack(list(own.values())).sum() for own in each])
        return jnp.where(predicted.solved & ~jnp.isnan(found), found, -jnp.inf)

    return one


def _known_until(density: Density, end: int) -> Density:
    """The density of what has been observed in the first `end` times."""
    later = np.arange(len(density.bound.times)) >= end
    masked = {name: np.where(later, np.nan, values) for name, values in density.bound.observations.items()}
    return dataclasses.replace(density, bound=density.bound._replace(observations=masked))


GROUP = "leave_future_out"


class Weighted(NamedTuple):
    """Draws of one posterior, weighted as those of a later one.

    Attributes:
        log_weights: Normalised; shape (draws,).
        pareto_k: Of the weights; −inf where all are equal.
    """

    log_weights: np.ndarray
    pareto_k: float


class Reference(NamedTuple):
    """A calibration at one origin, which later ones may be reached from.

    Attributes:
        stage: Number of the origin.
        until: Log density of the record up to each end, by draw; shape (draws, ends).
        efficiency: Effective draws for each draw, at most 1.
        gates: Names of failed gates.
    """

    stage: int
    until: np.ndarray
    efficiency: float
    gates: tuple[str, ...]


class Scored(NamedTuple):
    """What became of one origin; a row of the result, whose variables are described there."""

    elpd: float = np.nan
    mcse: float = np.nan
    pareto_k: float = np.nan
    pareto_k_ahead: float = np.nan
    recalibrated: bool = False
    failure: str = ""
    failed_gates: str = ""


def leave_future_out(
    twin: Twin,
    telemetry: Telemetry,
    *,
    horizon: float,
    origins: int | Sequence[Any] = 10,
    seed: int,
    exact: bool = False,
    max_k: float = 0.7,
    gates: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> xr.DataTree:
    """Expected log predictive density of what comes up to `horizon` after each of several origins.

    `elpd = Σ_i log ∫ p(y between origin i and horizon | θ, y before) p(θ | y before) dθ`, of all observations in that
    time together. It holds for model errors and autocorrelated noise as well, of which leaving one out says nothing.

    With `exact` the twin is calibrated at each origin. Without it draws of an earlier origin are weighted by the
    likelihood of what was observed since, and it is calibrated anew only where Pareto k says that weights fail.

    Windows that overlap count observations twice, and their differences scatter more than standard errors say: the
    attribute `overlapping` tells whether they do.

    Args:
        twin: The twin.
        telemetry: All there is.
        horizon: How far ahead to predict, in the twin's unit of time.
        origins: The last times that are known, in the telemetry's own terms; or a number of them, evenly spaced from
            the middle of the telemetry to where `horizon` still fits. Where nothing is observed ahead there is none.
        seed: Determines everything random; an origin gets the same whatever the others are.
        exact: Whether to calibrate at each origin.
        max_k: Largest Pareto k with which draws are weighted.
        gates: Limits of `diagnose` for each calibration.
        progress: Where progress is shown; by default on a terminal only.
        **settings: Those of `calibrate`.

    Returns:
        Group `leave_future_out` with dimension `origin`: `elpd`, its Monte Carlo standard error `mcse`, `num`
        (observations predicted together), `until` (the last time predicted), `recalibrated`, `pareto_k` of the weights
        (NaN where it was calibrated), `pareto_k_ahead` of the mean over draws (above 0.7 few draws make up all of it:
        take more, or a shorter horizon), `failure` and `failed_gates` in words. `bt.compare` takes several of them.

    Raises:
        InvalidSetting: Origins or horizon make no sense, or a setting of `calibrate`.
        InvalidTelemetry: If the telemetry does not fit the twin; likewise other errors of `calibrate`.
    """
    computation = computing(seed=seed, progress=progress)
    twin = with_model_error(twin, settings.pop("model_error", ...))
    bound = bind(twin, telemetry)
    stages, starts, ends = _windows(twin, telemetry, bound, origins, horizon)
    settings = {"predictive_draws": 100} | settings
    ahead = Ahead(build_density(twin, bound), [*starts, *ends])
    with computation as shown, shown.phase("leave future out", "leaving out", len(stages)) as phase:
        rows, stopped = _score(twin, stages, ahead, seed, -np.inf if exact else max_k, gates or {}, settings, phase)
    job = {"horizon": horizon, "origins": len(stages), "exact": exact, "max_k": max_k} | settings
    found = _dataset(twin, stages[: len(rows)], rows, _counts(bound, starts, ends)[: len(rows)])
    tree = xr.DataTree.from_dict({GROUP: found})
    overlapping = bool((np.asarray(ends[:-1]) > np.asarray(starts[1:])).any())
    tree.attrs = root_attributes(twin, telemetry, seed, job) | {"interrupted": stopped, "horizon": horizon}
    tree.attrs |= {"overlapping": overlapping, "method": settings.get("method") or usual_method()}
    return tree


def _windows(
    twin: Twin, telemetry: Telemetry, bound: Bound, origins: int | Sequence[Any], horizon: float
) -> tuple[list[Stage], list[int], list[int]]:
    """Origins with something observed ahead: how many times are known at each, and how many until its horizon."""
    found = []
    for stage in cut_stages(twin, telemetry, origins, horizon, 0.0, "expanding"):
        start = len(stage.known.table)
        end = start + len(stage.times)
        if _counts(bound, [start], [end])[0]:
            found.append((stage, start, end))
    if not found:
        raise errors.InvalidSetting(
            "Nothing is observed ahead of any origin.",
            expected="observations within `horizon` after an origin",
            received=f"a horizon of {horizon:g}",
            advice="Take a longer horizon, or other origins.",
        )
    stages, starts, ends = zip(*found, strict=True)
    return list(stages), list(starts), list(ends)


def _counts(bound: Bound, starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    return [
        sum(int(np.isfinite(values[start:end]).sum()) for values in bound.observations.values())
        for start, end in zip(starts, ends, strict=True)
    ]


def _score(
    twin: Twin,
    stages: Sequence[Stage],
    ahead: Ahead,
    seed: int,
    max_k: float,
    gates: Mapping[str, Any],
    settings: Mapping[str, Any],
    phase: Phase,
) -> tuple[list[Scored], bool]:
    """What becomes of each origin, up to where Ctrl-C ends it, and whether it did."""
    rows: list[Scored] = []
    used: Reference | None = None
    error: BaseException = KeyboardInterrupt()
    for number, stage in enumerate(stages):
        weighted = None if used is None else _reach(used, number)
        if used is None or weighted is None or not weighted.pareto_k <= max_k:
            try:
                used = _calibrated(twin, stage, number, ahead, seed, gates, settings)
            except FAILURES as reason:
                used, error = None, reason
                rows.append(Scored(failure=f"{type(reason).__name__}: {reason}"))
                phase.advance(1, f"origin {stage.origin} failed")
                continue
            if used is None:
                break
            weighted = _reach(used, number)
        rows.append(_scored(used, number, len(stages), weighted))
        phase.advance(1, f"origin {stage.origin}")
    if not any(row.failure == "" for row in rows):
        raise error
    return rows, len(rows) < len(stages)


def _calibrated(
    twin: Twin,
    stage: Stage,
    number: int,
    ahead: Ahead,
    seed: int,
    gates: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Reference | None:
    """The calibration at one origin; None where it was interrupted."""
    own = seed_for(seed, f"leave future out {stage.origin}")
    posterior = calibrate(twin, stage.known, seed=own, progress=Progress(show=False), **settings)
    if posterior.attrs["interrupted"]:
        return None
    bad = tuple(gate.name for gate in failed(diagnose(posterior, **gates)))
    return Reference(number, ahead(posterior), _efficiency(posterior), bad)


def _efficiency(posterior: xr.DataTree) -> float:
    """Effective draws for each draw, on average over all that is inferred; of one chain, or independent draws, 1."""
    group = posterior["posterior"].to_dataset()
    if group.sizes["chain"] == 1 or method_named(posterior.attrs["method"]).independent:
        return 1.0
    values = np.concatenate([v.to_numpy().reshape(*v.shape[:2], -1) for v in group.data_vars.values()], axis=-1)
    found = STATISTICS.ess(values, chain_axis=0, draw_axis=1, method="mean") / values[..., 0].size
    return float(np.clip(np.nanmean(found), 1e-3, 1.0))


def _reach(used: Reference, number: int) -> Weighted:
    """The draws of an earlier origin, weighted by the likelihood of what was observed since."""
    num = len(used.until)
    if number == used.stage:
        return Weighted(np.full(num, -np.log(num)), -np.inf)
    return smoothed(_between(used.until[:, used.stage], used.until[:, number]), used.efficiency)


def smoothed(log_ratios: np.ndarray, efficiency: float) -> Weighted:
    """Pareto smoothed importance weights; k is infinite where there are none."""
    if np.isnan(log_ratios).any() or not np.isfinite(log_ratios).any() or np.ptp(log_ratios) == 0:
        return Weighted(np.full(len(log_ratios), -np.log(len(log_ratios))), np.inf)
    log_weights, k = STATISTICS.psislw(-log_ratios, r_eff=efficiency)
    fine = not np.isnan(log_weights).any() and not np.isnan(k)
    return Weighted(np.asarray(log_weights), float(k) if fine else np.inf)


def _between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Log density of what lies between; −inf for draws that cannot be."""
    with np.errstate(invalid="ignore"):
        found = after - before
    return np.where(np.isnan(found), -np.inf, found)


def _scored(used: Reference, number: int, num: int, weighted: Weighted) -> Scored:
    terms = _between(used.until[:, number], used.until[:, num + number])
    elpd = float(np.asarray(logsumexp(weighted.log_weights + terms)))
    here = number == used.stage
    share = np.exp(terms - elpd) if np.isfinite(elpd) else np.full(len(terms), np.nan)
    mcse = float(np.sqrt(np.sum((np.exp(weighted.log_weights) * (share - 1.0)) ** 2) / used.efficiency))
    return Scored(
        elpd=elpd,
        mcse=mcse,
        pareto_k=np.nan if here else weighted.pareto_k,
        pareto_k_ahead=smoothed(weighted.log_weights + terms, used.efficiency).pareto_k,
        recalibrated=here,
        failed_gates=", ".join(used.gates),
    )


def _dataset(twin: Twin, stages: Sequence[Stage], rows: Sequence[Scored], counts: Sequence[int]) -> xr.Dataset:
    words = {
        "elpd": "log predictive density of what is observed up to the horizon",
        "mcse": "Monte Carlo standard error of elpd",
        "pareto_k": "Pareto k of the weights; NaN where the twin was calibrated",
        "pareto_k_ahead": "Pareto k of the mean over draws",
        "recalibrated": "the twin was calibrated at this origin",
        "failure": "why there is nothing",
        "failed_gates": "gates that the calibration did not pass",
    }
    found: dict[str, Any] = {
        name: ("origin", [getattr(row, name) for row in rows], {"long_name": w}) for name, w in words.items()
    }
    found["num"] = ("origin", list(counts), {"long_name": "observations predicted"})
    found["until"] = ("origin", pd.Index([stage.times[-1] for stage in stages]).to_numpy(), {"long_name": "last time"})
    origins = pd.Index([stage.origin for stage in stages]).to_numpy()
    coords: dict[str, Any] = {"origin": ("origin", origins, {"long_name": "last time that was known"})}
    return xr.Dataset(found, coords, {"time_unit": twin.time_unit})
