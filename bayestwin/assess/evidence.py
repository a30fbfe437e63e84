"""What forecasts show about their intervals, once they are held against what came: all together, and in groups.

Coverage as `coverage` counts it, but with bands that know of groups looked at together and of repeated forecasts of one
observation; and how much such counts can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from bayestwin.assess import draws
from bayestwin.assess.coverage import band_at, binomial_band, coverage, jointly, taken_for
from bayestwin.assess.grouping import BinEdges, By, grouped, name_of
from bayestwin.assess.pit import pit, simultaneous_band

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

LEVEL = 0.95
"""Probability of the bands; of all groups of one kind together."""

TIMES = 2.0
"""Intervals that miss so many times as often as promised are not to be trusted."""

ENOUGH = 0.8
"""Power from which on observations are enough to judge by."""


class Evidence(NamedTuple):
    """Forecasts held against what came.

    Attributes:
        whole: Coverage of all (observation, prob), as `judged` makes it.
        by: The same in groups, by what is told apart, which is the first dimension.
    """

    whole: xr.Dataset
    by: Mapping[str, xr.Dataset]


class Regime(NamedTuple):
    """What tells groups of points apart: see `by` and `bins` of `coverage`; and the unit of its values."""

    by: str | pd.Series
    bins: BinEdges
    unit: str = ""


def gather(
    forecast: xr.DataTree,
    telemetry: Telemetry | None,
    prob: Sequence[float],
    regimes: Mapping[str, Regime],
) -> Evidence:
    """Hold forecasts, or intervals, against what came: all of them, and by each of the `regimes`."""
    found = {name: judged(forecast, telemetry, prob, one.by, one.bins) for name, one in regimes.items()}
    for name, regime in regimes.items():
        found[name][name].attrs["units"] = regime.unit
    return Evidence(judged(forecast, telemetry, prob), found)


def judged(
    forecast: xr.DataTree,
    telemetry: Telemetry | None,
    prob: Sequence[float],
    by: By = None,
    bins: BinEdges = None,
) -> xr.Dataset:
    """Coverage with bands to judge by.

    A backtest predicts an observation from several origins: such forecasts are right or wrong together, and count once
    in the binomial band. Bands of G groups have probability 1 - (1 - LEVEL) / G each, so that all groups of a sound
    forecast lie inside theirs with `LEVEL`.

    Returns:
        As `coverage`, with `num_distinct`: different observations among those counted, more than which they are not
        worth; `told`, how many they are taken for where it is asked whether they are enough: all different ones, or
        where errors follow each other as many independent ones.
    """
    found = coverage(forecast, telemetry, prob, by=by, bins=bins)
    dims = found["num"].dims
    distinct = _distinct(forecast, telemetry, by, bins).broadcast_like(found["num"]).transpose(*dims)
    distinct = distinct.where(distinct < found["num"], found["num"])
    level = 1 - (1 - LEVEL) / (1 if by is None else max(found.sizes[name_of(by)], 1))
    lower, upper = binomial_band(distinct, found["expected"].transpose(*dims), level)
    within = (found["coverage"] >= lower) & (found["coverage"] <= upper)
    found = found.assign(num_distinct=distinct, band_lower=lower, band_upper=upper, within_band=within)
    found = found.assign_attrs(level=level, effective_level=found.attrs["level"])
    return found.assign(told=taken_for(found))


def together(parts: Mapping[str, Evidence], prob: float) -> dict[str, Evidence]:
    """Evidence with the joint bands of one verdict, see `jointly`.

    A verdict compares all that was held out, at every probability; and at `prob` all else: the backtest, and groups.
    In whatever has missed by itself groups are looked at with bands of their own, to say where.

    Args:
        parts: By kind of forecasts, what was held out first.
        prob: Nominal probability of the interval that counts.
    """
    first = next(iter(parts.values()))
    tables = [table for one in parts.values() for table in (one.whole, *one.by.values())]
    compared = int((first.whole["num"] > 0).sum()) + sum(
        int((table["num"].sel(prob=prob, method="nearest") > 0).sum()) for table in tables if table is not first.whole
    )
    found = {}
    for part, one in parts.items():
        groups = {name: jointly(table, LEVEL, compared) for name, table in one.by.items()}
        found[part] = Evidence(jointly(one.whole, LEVEL, compared), groups)
    return found


def ranks(forecast: xr.DataTree, telemetry: Telemetry | None, seed: int, kinds: int = 1) -> xr.Dataset:
    """As `pit`, with bands for as many observations as are different, see `judged`; together they have `LEVEL`.

    Args:
        forecast: A forecast or a backtest.
        telemetry: What was held out; a backtest has its own.
        seed: Determines ties and the simulation of the bands.
        kinds: How many kinds of forecasts are looked at together.
    """
    compared = kinds * len(draws.pairs(forecast, draws.axis(forecast), telemetry))
    level = 1 - (1 - LEVEL) / max(compared, 1)
    dataset = pit(forecast, telemetry, seed=seed, level=level)
    distinct, at = _distinct(forecast, telemetry, None, None), dataset["z"].to_numpy()
    for place, num in enumerate(distinct.to_numpy()):
        if 0 < num < int(dataset["num"][place]):
            dataset["band_lower"][place], dataset["band_upper"][place] = simultaneous_band(int(num), at, level, seed)
    inside = (dataset["ecdf"] >= dataset["band_lower"]) & (dataset["ecdf"] <= dataset["band_upper"])
    return dataset.assign(num_distinct=distinct, within_band=inside.all("z"))


def band(found: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """The ends of the band that coverage is judged by, as shares: the one place that chooses among bands."""
    return found["joint_lower"], found["joint_upper"]


def twice(found: xr.Dataset, comparisons: int) -> xr.DataArray:
    """Whether intervals miss at least twice as often as promised, and more often than chance, dependence allowed for.

    One side each, so that of `comparisons` that are sound none does so with `LEVEL` at least.

    Args:
        found: As `judged` makes it.
        comparisons: How many shares are asked.
    """
    lower, _ = band_at(found, 1 - 2 * (1 - LEVEL) / max(comparisons, 2))
    misses, promised = 1 - found["coverage"], 1 - found["expected"]
    return (misses >= TIMES * promised - 1e-9) & (found["coverage"] < lower)


def power(num: float, prob: float, times: float = TIMES) -> float:
    """Probability that intervals which miss `times` as often as promised fall below their band, misses independent.

    Args:
        num: Number of independent observations, rounded down.
        prob: Nominal probability of the interval.
        times: How many times too often they miss.
    """
    if not num >= 1:
        return 0.0
    num = int(num)
    lowest = scipy.stats.binom.ppf((1 - LEVEL) / 2, num, prob)
    return float(scipy.stats.binom.cdf(lowest - 1, num, max(1 - times * (1 - prob), 0.0)))


def possible(inside: int, num: int) -> tuple[float, float]:
    """True coverages that a count does not exclude: Clopper and Pearson's interval (1934, doi:10.1093/biomet/26.4.404).

    Args:
        inside: Observations inside.
        num: Observations counted, at least one.
    """
    tail = (1 - LEVEL) / 2
    lower = float(scipy.stats.beta.ppf(tail, inside, num - inside + 1)) if inside > 0 else 0.0
    upper = float(scipy.stats.beta.ppf(1 - tail, inside + 1, num - inside)) if inside < num else 1.0
    return lower, upper


def _distinct(forecast: xr.DataTree, telemetry: Telemetry | None, by: By, bins: BinEdges) -> xr.DataArray:
    """Number of different times at which each observation was compared (…, observation)."""

    def judge(tree: xr.DataTree, one: Telemetry | None) -> Callable[[np.ndarray], xr.Dataset]:
        row = draws.axis(tree)
        pairs, labels = draws.pairs(tree, row, one), draws.labels(row)

        def of(keep: np.ndarray) -> xr.Dataset:
            nums = [labels[pair.positions[keep[pair.positions]]].nunique() for pair in pairs.values()]
            return xr.Dataset({"num": ("observation", nums)}, {"observation": list(pairs)})

        return of

    return grouped(judge, forecast, telemetry, by, bins)["num"]
