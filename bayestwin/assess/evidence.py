"""What forecasts show about their intervals, once they are held against what came: all together, and in groups.

Coverage as `coverage` counts it, but with bands that know of groups looked at together and of repeated forecasts of one
observation; and how much such counts can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scipy.special
import xarray as xr

from bayestwin.assess import draws
from bayestwin.assess.coverage import band_at, binomial_band, counts_as, coverage, jointly, worth_in
from bayestwin.assess.grouping import BinEdges, By, grouped, name_of
from bayestwin.assess.pit import pit, simultaneous_band
from bayestwin.assess.population import of_all

if TYPE_CHECKING:
    from bayestwin.density.bind import Experiments
    from bayestwin.telemetry import Telemetry

ASSET = "asset"
"""By what a fleet is told apart."""

LEVEL = 0.95
"""Probability of the bands; of all groups of one kind together."""

TIMES = 2.0
"""Intervals that miss so many times as often as promised are not to be trusted."""


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
    telemetry: Telemetry | Experiments | None,
    prob: Sequence[float],
    regimes: Mapping[str, Regime],
) -> Evidence:
    """Hold forecasts, or intervals, against what came: all, and by each of the `regimes`; of a fleet also by asset."""
    found = {name: judged(forecast, telemetry, prob, one.by, one.bins) for name, one in regimes.items()}
    for name, regime in regimes.items():
        found[name][name].attrs["units"] = regime.unit
    if isinstance(telemetry, Mapping):
        each = coverage(forecast, telemetry, prob).rename(experiment=ASSET)
        distinct = _distinct(forecast, telemetry, None, None).rename(experiment=ASSET)
        found[ASSET] = _told(each, distinct, len(telemetry))
    return Evidence(judged(forecast, telemetry, prob), found)


def judged(
    forecast: xr.DataTree,
    telemetry: Telemetry | Experiments | None,
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
        worth; and `told`, how many independent ones they are worth.
    """
    found = coverage(forecast, telemetry, prob, by=by, bins=bins)
    distinct = _distinct(forecast, telemetry, by, bins)
    if isinstance(telemetry, Mapping):
        found, distinct = of_all(found), distinct.sum("experiment")
    return _told(found, distinct, 1 if by is None else max(found.sizes[name_of(by)], 1))


def _told(found: xr.Dataset, distinct: xr.DataArray, groups: int) -> xr.Dataset:
    """Coverage with what `judged` adds, from how many observations of each entry are different."""
    dims = found["num"].dims
    distinct = distinct.broadcast_like(found["num"]).transpose(*dims)
    distinct = distinct.where(distinct < found["num"], found["num"])
    level = 1 - (1 - LEVEL) / groups
    lower, upper = binomial_band(distinct, found["expected"].transpose(*dims), level)
    within = (found["coverage"] >= lower) & (found["coverage"] <= upper)
    found = found.assign(num_distinct=distinct, band_lower=lower, band_upper=upper, within_band=within)
    found = found.assign_attrs(level=level, effective_level=found.attrs["level"])
    return found.assign(told=worth_in(found))


def compared(parts: Mapping[str, Evidence], prob: float) -> int:
    """How many shares one verdict compares: all that was held out, at every probability; and at `prob` all else.

    Args:
        parts: By kind of forecasts, what was held out first: the backtest and groups of both are all else.
        prob: Nominal probability of the interval that counts.
    """
    first = next(iter(parts.values()))
    tables = [table for one in parts.values() for table in (one.whole, *one.by.values())]
    return int((first.whole["num"] > 0).sum()) + sum(
        int((table["num"].sel(prob=prob, method="nearest") > 0).sum()) for table in tables if table is not first.whole
    )


def together(parts: Mapping[str, Evidence], number: int) -> dict[str, Evidence]:
    """Evidence with the joint bands of one verdict, which compares so many shares: see `jointly` and `compared`."""
    return {
        part: Evidence(
            jointly(one.whole, LEVEL, number), {name: jointly(table, LEVEL, number) for name, table in one.by.items()}
        )
        for part, one in parts.items()
    }


def ranks(forecast: xr.DataTree, telemetry: Telemetry | Experiments | None, seed: int, kinds: int = 1) -> xr.Dataset:
    """As `pit`, with bands for as many observations as are different, see `judged`; together they have `LEVEL`.

    Args:
        forecast: A forecast or a backtest.
        telemetry: What was held out, of several experiments, which are then taken together, by name; a backtest has its
            own.
        seed: Determines ties and the simulation of the bands.
        kinds: How many kinds of forecasts are looked at together.
    """
    first, one = draws.parts(forecast, telemetry)[0]
    level = 1 - (1 - LEVEL) / max(kinds * len(draws.pairs(first, draws.axis(first), one)), 1)
    dataset, distinct = pit(forecast, telemetry, seed=seed, level=level), _distinct(forecast, telemetry, None, None)
    at, several = dataset["z"].to_numpy(), isinstance(telemetry, Mapping)
    if several:
        num, distinct = dataset["num"], distinct.sum("experiment")
        ecdf = (dataset["ecdf"].fillna(0.0) * num).sum("experiment") / num.sum("experiment")
        bands = dataset[["band_lower", "band_upper"]].isel(experiment=0, drop=True).copy(deep=True)
        dataset = bands.assign(ecdf=ecdf, num=num.sum("experiment")).assign_attrs(dataset.attrs)
    for place, num in enumerate(distinct.to_numpy()):
        if num > 0 and (several or num < int(dataset["num"][place])):
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


def blunt(found: xr.Dataset) -> xr.DataArray:
    """Whether intervals that miss `TIMES` as often as promised would most likely not have left their joint band."""
    return found["joint_noticed"] < 1 - TIMES * (1 - found["expected"]) - 1e-9


def possible(found: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """True coverages that shares do not exclude, at the probability of their joint bands and for what these count.

    That is Clopper and Pearson's interval (1934, doi:10.1093/biomet/26.4.404), continued between whole numbers: what
    was promised lies in it where, and only where, the share lies in its band.

    Args:
        found: As `together` makes it.
    """
    num = counts_as(found, found.attrs["joint_level"])
    most, own, tail = (found["coverage"] * num).to_numpy(), num.to_numpy(), (1 - found.attrs["joint_level"]) / 2
    some = own > 0
    inside, own = np.where(some, most, 1.0), np.where(some, own, 2.0)
    tiny = np.finfo(float).tiny
    lower = np.where(inside > 0, scipy.special.betaincinv(np.maximum(inside, tiny), own - inside + 1.0, tail), 0.0)
    upper = scipy.special.betaincinv(inside + 1.0, np.maximum(own - inside, tiny), 1.0 - tail)
    upper = np.where(inside < own, upper, 1.0)
    plain = found["coverage"]
    return plain.copy(data=np.where(some, lower, 0.0)), plain.copy(data=np.where(some, upper, 1.0))


def _distinct(forecast: xr.DataTree, telemetry: Telemetry | Experiments | None, by: By, bins: BinEdges) -> xr.DataArray:
    """Number of different times at which each observation was compared (…, observation)."""

    def judge(tree: xr.DataTree, one: Telemetry | None) -> Callable[[np.ndarray], xr.Dataset]:
        row = draws.axis(tree)
        pairs, labels = draws.pairs(tree, row, one), draws.labels(row)

        def of(keep: np.ndarray) -> xr.Dataset:
            nums = [labels[pair.positions[keep[pair.positions]]].nunique() for pair in pairs.values()]
            return xr.Dataset({"num": ("observation", nums)}, {"observation": list(pairs)})

        return of

    return grouped(judge, forecast, telemetry, by, bins)["num"]
