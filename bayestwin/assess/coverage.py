"""Empirical coverage of predictive intervals on held-out telemetry, and the band in which it should lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws, points
from bayestwin.assess.bands import WORTH, with_bands
from bayestwin.assess.dependence import worth_of
from bayestwin.assess.gates import Gate
from bayestwin.assess.grouping import Bins, By, grouped
from bayestwin.assess.intervals import KINDS, Kind, along_points, check_choice, checked_prob

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry


def coverage(
    forecast: xr.DataTree | xr.Dataset,
    telemetry: Telemetry | Mapping[str, Telemetry] | None = None,
    prob: float | Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    kind: Kind = "eti",
    level: float = 0.95,
    by: By = None,
    bins: Bins = None,
) -> xr.Dataset:
    """Share of the observations that lie inside their predictive interval, by observation and `prob`.

    If an interval holds what it promises, and observations fall inside or outside independently,
    the number inside is Binomial(num, prob); the band is the central `level` of it, divided by num.

    **Dependence.** Forecast errors of a time series are rarely independent: what the twin leaves out persists from
    one sample to the next. Correlated observations are worth fewer than num, and the coverage of a sound forecast
    falls outside the binomial band more often than 1 - `level`. A second band allows for that: it is that of
    `num_effective` independent observations, as many as these are worth (see `assess.dependence`). Errors at one origin
    of a backtest are one block and may depend on each other in any way, and those of neighbouring blocks too; of
    a single forecast each time is a block. In simulations with autoregressive errors a sound forecast falls outside
    it in at most 1 - `level` of the cases, in a few of the strongest dependence in up to 8 % at `level` 0.95. Of few
    blocks it is wide, and says little: of a single one `num_effective` is 0 and the band reaches from 0 to 1.

    **What neither band knows.** One calibration may stand behind all errors, and one season. Nor does a share near
    `prob` say that the intervals hold at each time: those too wide by day can make up for those too narrow by night.
    `by` tells such times apart. To lie within a wide band is weak evidence.

    An observation on an end counts as inside (whole-number observations are therefore covered somewhat too
    often). One at a time where a draw is not finite has no interval, and counts as outside.

    Args:
        forecast: What `predict` or `backtest` returned (or a posterior, for coverage of the calibration's own data);
            or intervals that `conformalize` or `intervals` returned, which are then judged as they are: `prob` and
            `kind` are theirs. Of raw and conformal intervals those points are compared at which there are both.
        telemetry: Held-out observations; NaN is missing and does not count. Of several experiments those of each, by
            its name. A backtest has its own.
        prob: Nominal probability of each interval, between 0 and 1.
        kind: `"eti"` or `"hdi"`, see `intervals`.
        level: Probability of the bands, between 0 and 1.
        by: What to tell apart: `"horizon"` (time since the last known observation, in the twin's unit of time),
            `"origin"` of a backtest, the name of an input or of a column of the telemetry, or a pandas Series of labels
            over the times. Observations and experiments are told apart anyway.
        bins: Edges of the bins in which values of `by` are put, or the number of bins that hold about as many points
            each. By default each value is a group where there are at most 12, otherwise there are 4 bins.

    Returns:
        All with dimensions (observation, prob): `coverage` (share inside), `num` (observations counted),
        `num_inside`, `band_lower`, `band_upper` (shares) and `within_band` (bool) of the binomial band;
        `num_effective`, `dependent_lower`, `dependent_upper` and `within_dependent_band` of that which allows for
        dependence, with `freedom`, the degrees of freedom by which that is known; `joint_lower`, `joint_upper` and
        `within_joint_band` of the bands in which, dependence allowed for, all entries lie together with probability
        `level`: what verdicts go by, since of many bands some are left by chance. An observation that was never
        observed has num 0, NaN shares, and is not within its bands. Several experiments are a first dimension, then
        what `by` names, then `kind` (raw, conformal).

    Raises:
        InvalidSetting: `prob`, `kind`, `level`, `by` or `bins` has no meaning.
        InvalidTelemetry: An observation at a time that is not in the forecast, or none at all.
    """
    if not 0 < level < 1:
        raise errors.InvalidSetting(
            errors.explain(
                "`level` is not a probability of the band.",
                expected="a number between 0 and 1",
                received=f"{level}",
                advice="Write 95 % as 0.95.",
            )
        )
    levels = checked_prob(prob)
    check_choice("kind", kind, KINDS)
    if isinstance(forecast, xr.Dataset):
        forecast = xr.DataTree.from_dict({points.INTERVALS: forecast})

    def judge(tree: xr.DataTree, one: Telemetry | None) -> Callable[[np.ndarray], xr.Dataset]:
        given = points.INTERVALS in tree.children
        found = points.axis(tree) if given else along_points(tree, levels, kind)
        pairs = points.pairs(tree, points.axis(tree), one)
        return lambda keep: _covered(found, pairs, keep)

    return with_bands(grouped(judge, forecast, telemetry, by, bins), level)


def coverage_gate(covered: xr.Dataset | None, limit: int) -> Gate:
    """The intervals keep their promise on telemetry that calibration has not seen.

    Args:
        covered: What `coverage` returned; None where nothing was held out.
        limit: Largest number of intervals outside the band in which all of them lie together.
    """
    name, nan = "coverage", float("nan")
    if covered is None or covered["coverage"].size == 0:
        sentence = (
            "Whether intervals cover as promised cannot be told: no held-out telemetry was predicted. Hold some out, by"
            " `hold_out_from` in `[split]` of the job file."
        )
        return Gate(name, False, nan, float(limit), sentence, "warn")
    outside = ~covered["within_joint_band"]
    value, total = int(outside.sum()), outside.size
    if value == 0:
        sentence = f"On held-out telemetry {total} of {total} intervals cover as promised."
        return Gate(name, True, 0.0, float(limit), sentence, "warn")
    # an observation that was never observed comes first: infinitely far off
    off = abs(covered["coverage"] - covered["prob"]).fillna(np.inf).where(outside, -1.0)
    worst = covered.isel(off.argmax(...))  # type: ignore[arg-type]
    where = f"`{worst['observation'].item()}`"
    share, prob, num = float(worst["coverage"]), float(worst["prob"]), int(worst["num"])
    sentence = f"On held-out telemetry {value} of {total} intervals do not cover as promised. "
    if num == 0:
        sentence += f"{where} was never observed there, so that its intervals cannot be judged: hold out other times."
    else:
        ends = f"{100 * float(worst['joint_lower']):.1f} to {100 * float(worst['joint_upper']):.1f} %"
        sentence += (
            f"Furthest off, those of {where} are too {'wide' if share > prob else 'narrow'}: {100 * share:.3g} % of"
            f" {num:,} observations lie inside the {100 * prob:g} % interval, where chance allows {ends}. See how the"
            " residuals go with time and inputs: a model error (`bt.Discrepancy`, `bt.ProcessNoise`) or another noise"
            " model takes up what the equations leave out, and `bt.conformalize` corrects intervals by past errors."
        )
    return Gate(name, value <= limit, float(value), float(limit), sentence, "warn")


def _covered(found: xr.Dataset, pairs: Mapping[str, draws.Observed], keep: np.ndarray) -> xr.Dataset:
    """Counts of what lies inside, of the points in the mask `keep`, and what these are worth."""
    dims = (*(("kind",) if "kind" in found.dims else ()), "observation", "prob", "time")
    lower, upper = (found[end].transpose(*dims).to_numpy() for end in ("lower", "upper"))
    there = _comparable(lower) if "kind" in found.dims else np.ones(lower.shape, dtype=bool)
    block = (found["origin"] if "origin" in found.coords else found["time"]).to_numpy()
    inside, counted, worth, freedom = [], [], [], []
    for place, pair in enumerate(pairs.values()):
        kept = keep[pair.positions]
        at, values = pair.positions[kept], pair.values[kept]
        low, high, judged = (ends[..., place, :, :][..., at] for ends in (lower, upper, there))
        inside.append(np.sum(judged & (low <= values) & (values <= high), axis=-1))
        counted.append(np.sum(judged, axis=-1))
        alone, known = _worth(_stretch(low, high, values), judged, block[at], found["prob"].to_numpy())
        worth.append(alone)
        freedom.append(known)
    where = {dim: found[dim] for dim in dims[:-1]}
    names = ("num", "num_inside", WORTH, "freedom")
    parts = zip(names, (counted, inside, worth, freedom), strict=True)
    return xr.Dataset(
        {name: xr.DataArray(np.stack(part, axis=-2), where, dims[:-1]) for name, part in parts},
        coords={"units": found["units"]},
        attrs={"kind": found.attrs["kind"], "group": found.attrs["group"]},
    )


def _stretch(lower: np.ndarray, upper: np.ndarray, values: np.ndarray) -> np.ndarray:
    """By what factor each interval must be stretched about its middle to reach the value; shape (…, n)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.abs(2 * values - lower - upper) / (upper - lower)
    # no width, or no end, says no more than inside or not
    return np.where(np.isnan(factor), np.where((lower <= values) & (values <= upper), 0.0, np.inf), factor)


def _worth(
    stretch: np.ndarray, judged: np.ndarray, block: np.ndarray, probs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `worth_of`, of each interval, NaN where nothing was judged; shape (…, prob) from (…, prob, n)."""
    found = np.full((2, *stretch.shape[:-1]), np.nan)
    for cell in np.ndindex(found.shape[1:]):
        one = judged[cell]
        if one.any():
            found[:, *cell] = worth_of(stretch[cell][one], block[one], float(probs[cell[-1]]))
    return found[0], found[1]


def _comparable(ends: np.ndarray) -> np.ndarray:
    """Where all kinds of intervals, the first dimension, have an end; and where the raw one has none, an outside."""
    there = ~np.isnan(ends)
    return np.broadcast_to(there.all(axis=0) | ~there[0], ends.shape)
