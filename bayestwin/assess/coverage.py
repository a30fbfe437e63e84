"""Empirical coverage of predictive intervals on held-out telemetry, and the band in which it should lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.intervals import Kind, intervals

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry


def coverage(
    forecast: xr.DataTree,
    telemetry: Telemetry | Mapping[str, Telemetry],
    prob: float | Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    kind: Kind = "eti",
    level: float = 0.95,
) -> xr.Dataset:
    """Share of the observations that lie inside their predictive interval, by observation and `prob`.

    If an interval holds what it promises, and observations fall inside or outside independently,
    the number inside is Binomial(num, prob); the band is the central `level` of it, divided by num.

    **What the band does not know.** Forecast errors of a time series are rarely independent: one calibration
    stands behind all of them, and what the twin leaves out persists from one sample to the next. Correlated
    observations are worth fewer than num. The coverage of a sound forecast then scatters more than the band
    says and falls outside it more often than 1 - `level`; and where it lies inside, that is weaker evidence
    than as many independent observations would give. Nor does a share near `prob` say that the intervals hold
    at each time: those too wide by day can make up for those too narrow by night.

    An observation on an end counts as inside (whole-number observations are therefore covered somewhat too
    often). One at a time where a draw is not finite has no interval, and counts as outside.

    Args:
        forecast: What `predict` returned (or a posterior, for coverage of the calibration's own data).
        telemetry: Held-out observations; NaN is missing and does not count. Of several experiments those of each, by
            its name.
        prob: Nominal probability of each interval, between 0 and 1.
        kind: `"eti"` or `"hdi"`, see `intervals`.
        level: Probability of the binomial band, between 0 and 1.

    Returns:
        All with dimensions (observation, prob): `coverage` (share inside), `num` (observations counted),
        `num_inside`, `band_lower`, `band_upper` (shares) and `within_band` (bool). An observation that was
        never observed has num 0, NaN shares, and is not within its band. Several experiments are a first dimension.

    Raises:
        InvalidSetting: `prob`, `kind` or `level` has no meaning.
        InvalidTelemetry: An observation at a time that is not in the forecast, or none at all.
    """
    if not 0 < level < 1:
        raise errors.InvalidSetting(
            errors.explain(
                "`level` is not a probability of the binomial band.",
                expected="a number between 0 and 1",
                received=f"{level}",
                advice="Write 95 % as 0.95.",
            )
        )
    if isinstance(telemetry, Mapping):
        return draws.of_each(forecast, telemetry, lambda tree, one: coverage(tree, one, prob, kind=kind, level=level))
    found = intervals(forecast, prob, kind=kind)
    group, dataset = draws.predictive(forecast)
    pairs = {name: draws.observed(dataset, telemetry, name) for name in draws.observations(dataset)}
    draws.require_some(pairs, telemetry)
    inside = [_num_inside(found.sel(observation=name), pair) for name, pair in pairs.items()]
    where = {"observation": found["observation"], "prob": found["prob"]}
    num_inside = xr.DataArray(np.stack(inside), coords=where, dims=tuple(where))
    counted = xr.DataArray([pair.values.size for pair in pairs.values()], dims="observation")
    num = counted.broadcast_like(num_inside)
    share = (num_inside / num.where(num > 0)).rename("coverage")
    lower, upper = binomial_band(num, found["prob"].broadcast_like(num), level)
    return xr.Dataset(
        {
            "coverage": share,
            "num": num,
            "num_inside": num_inside,
            "band_lower": lower,
            "band_upper": upper,
            "within_band": (share >= lower) & (share <= upper),
        },
        coords={"units": found["units"]},
        attrs={"kind": found.attrs["kind"], "group": group, "level": level},
    )


def binomial_band(num: xr.DataArray, prob: xr.DataArray, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Central `level` of Binomial(num, prob) / num; NaN where num is 0. Same shape as `num`."""
    some = num.where(num > 0)
    tails = ((1 - level) / 2, (1 + level) / 2)
    lower, upper = (some.copy(data=scipy.stats.binom.ppf(tail, some, prob)) / some for tail in tails)
    return lower, upper


def _num_inside(found: xr.Dataset, pair: draws.Observed) -> np.ndarray:
    """How many of n observations lie inside, shape (prob,)."""
    lower = found["lower"].to_numpy()[:, pair.positions]
    upper = found["upper"].to_numpy()[:, pair.positions]
    return np.sum((lower <= pair.values) & (pair.values <= upper), axis=-1)
