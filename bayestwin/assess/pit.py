"""Probability integral transforms of observations within their predictions, and whether they are uniform."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats
import xarray as xr

from bayestwin import errors
from bayestwin._base.process import check_seed
from bayestwin.assess import draws
from bayestwin.assess.grouping import BinEdges, By, grouped

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

STEPS = 100
"""The distribution is looked at in as many steps from 0 to 1."""

SIMULATED = 10_000
"""Uniform samples drawn to find the band; its `level` is then right to 0.5 percentage points."""


def pit(
    forecast: xr.DataTree,
    telemetry: Telemetry | Mapping[str, Telemetry] | None = None,
    *,
    seed: int,
    level: float = 0.95,
    by: By = None,
    bins: BinEdges = None,
) -> xr.Dataset:
    """Distribution of the observations' ranks among their predictive draws, with a simultaneous band.

    An observation's probability integral transform (PIT) is the share of the predictive draws below it, with ties
    broken at random: uniform between 0 and 1 if the forecast is right. `ecdf` is the share of PITs up to `z`. Where it
    rises steeply at both ends, intervals are too narrow; in the middle, too wide; where it lies above `z`
    throughout, forecasts are too high.

    The band holds the whole curve with probability `level`, if PITs are independent (which those of a time series
    rarely are, see `coverage`): pointwise binomial bands, widened by simulation until that is so (Säilynoja, Bürkner &
    Vehtari 2022, doi:10.1007/s11222-022-10090-6).

    Args:
        forecast: What `predict` or `backtest` returned.
        telemetry: Held-out observations, as in `coverage`; a backtest has its own.
        seed: Determines ties and the simulation of the band.
        level: Probability of the band, between 0 and 1.
        by: What to tell apart, see `coverage`.
        bins: See `coverage`.

    Returns:
        `ecdf`, `band_lower`, `band_upper`, all (observation, z); `num` (observations counted) and `within_band` (bool),
        both (observation). Draws that are not there are left out, and `failed` (observation) is then their mean share;
        an observation at a time where none is has no PIT and is not counted. Several experiments are a first dimension,
        then what `by` names.

    Raises:
        InvalidSetting: `seed`, `level`, `by` or `bins` has no meaning.
        InvalidTelemetry: An observation at a time that is not in the forecast, or none at all.
    """
    check_seed(seed)
    if not 0 < level < 1:
        raise errors.InvalidSetting(
            "`level` is not a probability of the simultaneous band.",
            expected="a number between 0 and 1",
            received=f"{level}",
            advice="Write 95 % as 0.95.",
        )
    at = np.arange(1, STEPS) / STEPS

    def judge(tree: xr.DataTree, one: Telemetry | None) -> Callable[[np.ndarray], xr.Dataset]:
        group, dataset = draws.predictive(tree)
        pairs = draws.pairs(tree, dataset, one)
        found, failed = {}, {}
        for name, pair in pairs.items():
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            ensemble = draws.samples(dataset, name)[pair.positions]
            found[name] = transform(ensemble, pair.values, rng)
            failed[name] = draws.share_failed(ensemble)
        units = draws.units(dataset, tuple(pairs))

        def of(keep: np.ndarray) -> xr.Dataset:
            rows = [_row(found[name][keep[pair.positions]], at, level, seed) for name, pair in pairs.items()]
            ecdf, lower, upper, num = (np.stack(part) for part in zip(*rows, strict=True))
            within = (num > 0) & ((lower <= ecdf) & (ecdf <= upper)).all(axis=-1)
            curve, single = ("observation", "z"), ("observation",)
            made = xr.Dataset(
                {
                    "ecdf": (curve, ecdf, {"long_name": "share of the observations whose PIT is at most z"}),
                    "band_lower": (curve, lower),
                    "band_upper": (curve, upper),
                    "num": (single, num),
                    "within_band": (single, within),
                },
                coords={"observation": list(pairs), "z": at, "units": units},
                attrs={"group": group, "level": level, "seed": seed},
            )
            return draws.with_mean_failed(
                made, {name: failed[name][keep[pair.positions]] for name, pair in pairs.items()}
            )

        return of

    return grouped(judge, forecast, telemetry, by, bins)


def transform(ensemble: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """PITs: uniform, exactly and also for counts, if values are drawn as the ensemble is.

    Args:
        ensemble: Predictive draws, shape (n, m).
        values: What was observed, shape (n,).
        rng: Breaks ties, also those between the m + 1 ranks.

    Returns:
        Shape (n,), of the draws that are there; NaN where none is.
    """
    below = np.sum(ensemble < values[:, None], axis=-1)
    tied = np.sum(ensemble == values[:, None], axis=-1)
    num = np.sum(np.isfinite(ensemble), axis=-1)
    return np.where(num > 0, (below + rng.random(len(values)) * (tied + 1)) / (num + 1), np.nan)


def simultaneous_band(num: int, at: np.ndarray, level: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Band that holds the whole empirical distribution of uniform samples with probability `level`.

    Args:
        num: Size of a sample.
        at: Where the distribution is looked at, increasing between 0 and 1; shape (k,).
        level: Probability of the band.
        seed: Determines the simulation.

    Returns:
        Its lower and upper ends, shape (k,) each.
    """
    rng = np.random.default_rng([seed, num])
    counts = rng.multinomial(num, np.diff(at, prepend=0.0, append=1.0), size=SIMULATED)[:, :-1].cumsum(axis=-1)
    # how far out a sample lies where it lies furthest out, as the probability of one tail
    low, high = scipy.stats.binom.cdf(counts, num, at), scipy.stats.binom.sf(counts - 1, num, at)
    furthest = np.minimum(low, high).min(axis=-1)
    # a sample just as far out lies on the band, whatever the rounding
    tail = (1 - 1e-9) * np.quantile(furthest, 1 - level, method="lower")
    return scipy.stats.binom.ppf(tail, num, at) / num, 1.0 - scipy.stats.binom.ppf(tail, num, 1.0 - at) / num


def _row(found: np.ndarray, at: np.ndarray, level: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Empirical distribution of PITs, shape (n,), at `at`; its band; and how many there are."""
    known = np.sort(found[~np.isnan(found)])
    if known.size == 0:
        nothing = np.full(at.shape, np.nan)
        return nothing, nothing, nothing, 0
    lower, upper = simultaneous_band(known.size, at, level, seed)
    return np.searchsorted(known, at, side="right") / known.size, lower, upper, known.size
