"""Empirical coverage of predictive intervals on held-out telemetry, and the bands in which it should lie.

Bands are those of one share and those of all shares of a table together, for independent errors and for errors that
depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
import scipy.special
import scipy.stats
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.gates import Gate
from bayestwin.assess.grouping import BinEdges, By, grouped
from bayestwin.assess.intervals import KINDS, Kind, along_points, check_choice, checked_prob, expected_shares

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
    bins: BinEdges = None,
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

    An observation on an end counts as inside. Whole numbers are therefore inside somewhat more often than `prob`, and
    intervals from few draws hold somewhat less: the bands are those of what a forecast that is right would hold, see
    `expected_shares`. Intervals are those of the draws that are there: where solves failed they are conditional on what
    could be solved, and hold no more than that. An observation at a time where no draw is there is not counted.

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
        `num_inside`, `expected` (share, if the forecast is right), `band_lower`, `band_upper` (shares) and
        `within_band` (bool) of the binomial band;
        `num_effective`, `dependent_lower`, `dependent_upper` and `within_dependent_band` of that which allows for
        dependence, with `freedom`, the degrees of freedom by which that is known; `joint_lower`, `joint_upper` and
        `within_joint_band` of the bands in which, dependence allowed for, all entries lie together with probability
        `level`: what verdicts go by, since of many bands some are left by chance; and `joint_noticed`: intervals that
        hold no more than that in truth leave this band with a probability of 80 %. An observation that was never
        observed has num 0, NaN shares, and is not within its bands. Where draws are not there, also `failed`
        (observation), their mean share at what was observed. Several experiments are a first dimension, then
        what `by` names, then `kind` (raw, conformal).

    Raises:
        InvalidSetting: `prob`, `kind`, `level`, `by` or `bins` has no meaning.
        InvalidTelemetry: An observation at a time that is not in the forecast, or none at all.
    """
    if not 0 < level < 1:
        raise errors.InvalidSetting(
            "`level` is not a probability of the band.",
            expected="a number between 0 and 1",
            received=f"{level}",
            advice="Write 95 % as 0.95.",
        )
    levels = checked_prob(prob)
    check_choice("kind", kind, KINDS)
    if isinstance(forecast, xr.Dataset):
        forecast = xr.DataTree.from_dict({draws.INTERVALS: forecast})

    def judge(tree: xr.DataTree, one: Telemetry | None) -> Callable[[np.ndarray], xr.Dataset]:
        given = draws.INTERVALS in tree.children
        found = draws.axis(tree) if given else along_points(tree, levels, kind)
        found = found if given else found.assign(expected=expected_shares(tree, found))
        pairs = draws.pairs(tree, draws.axis(tree), one)
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
        for other in covered["observation"].to_numpy():
            own = covered.sel(observation=other)
            if not bool(can_tell(own).any()):
                return Gate(name, False, nan, float(limit), _cannot_be_told(own), "warn")
        sure = int(can_tell(covered).sum())
        rest = ", of the others that cannot be told" if sure < total else ""
        sentence = f"On held-out telemetry {sure} of {total} intervals cover as promised{rest}; {_noticed(covered)}."
        return Gate(name, True, 0.0, float(limit), sentence, "warn")
    # an observation that was never observed comes first: infinitely far off
    off = abs(covered["coverage"] - covered["prob"]).fillna(np.inf).where(outside, -1.0)
    worst = covered.isel(off.argmax(...))  # type: ignore[arg-type]
    where = f"`{worst['observation'].item()}`"
    share, prob, num = float(worst["coverage"]), float(worst["prob"]), int(worst["num"])
    sentence = f"On held-out telemetry {value} of {total} intervals do not cover as promised. "
    if num == 0 and draws.FAILED in worst and float(worst[draws.FAILED]) > 0:
        sentence += (
            f"Where {where} was observed not one draw is there: no path could be solved so far (`failed_paths`)."
        )
    elif num == 0:
        sentence += f"{where} was never observed there, so that its intervals cannot be judged: hold out other times."
    else:
        ends = f"{100 * float(worst['joint_lower']):.1f} to {100 * float(worst['joint_upper']):.1f} %"
        word = "wide" if share > float(worst["joint_upper"]) else "narrow"
        sentence += (
            f"Furthest off, those of {where} are too {word}: {100 * share:.3g} % of"
            f" {num:,} observations lie inside the {100 * prob:g} % interval, where chance allows {ends}. See how the"
            " residuals go with time and inputs: a model error (`bt.Discrepancy`, `bt.ProcessNoise`) or another noise"
            " model takes up what the equations leave out, and `bt.conformalize` corrects intervals by past errors."
        )
    return Gate(name, value <= limit, float(value), float(limit), sentence, "warn")


FAR_TOO_WIDE = 2.0
"""So many times as wide as need be intervals are said to be far too wide."""


def width_gate(covered: xr.Dataset | None, description: Mapping[str, object]) -> Gate | None:
    """Predictions are not far too wide; None where that is not seen.

    An interval of probability p that holds a share c of normal errors is z((1 + c) / 2) / z((1 + p) / 2) times as wide
    as need be, with z the normal quantile. That is looked at in the narrowest one, which all errors leave first.

    Args:
        covered: What `coverage` returned of held-out telemetry; None where nothing was held out.
        description: Of the twin, for advice.
    """
    if covered is None or "kind" in covered.dims or "experiment" in covered.dims:
        return None
    own = covered.isel(prob=int(np.argmin(covered["prob"].to_numpy())))
    share = own["coverage"].to_numpy()
    most = 1 - 1 / (2 * np.maximum(own["num"].to_numpy(), 1))  # of all inside not more is known
    ends = [scipy.special.ndtri((1 + part) / 2) for part in (np.minimum(share, most), own["expected"].to_numpy())]
    factor = np.where((own["num"].to_numpy() > 0) & (share > own["joint_upper"].to_numpy()), ends[0] / ends[1], 0.0)
    place = int(np.argmax(factor))
    if not factor[place] >= FAR_TOO_WIDE:
        return None
    worst, error = own.isel(observation=place), description.get("model_error") or {}
    kind = error.get("kind", "") if isinstance(error, Mapping) else ""
    sentence = (
        f"Predictions of `{worst['observation'].item()}` are far too wide: {100 * share[place]:.3g} % of"
        f" {int(worst['num']):,} held-out observations lie inside the {100 * float(worst['prob']):g} % interval, where"
        f" chance allows up to {100 * float(worst['joint_upper']):.0f} %. Intervals about {factor[place]:.2g} times as"
        f" narrow would hold what they promise. {ROOM.get(kind, ROOM[''])} What is said of parameters is another"
        " matter: see `residuals`."
    )
    return Gate("width", False, float(factor[place]), FAR_TOO_WIDE, sentence, "warn")


ROOM = {
    "Discrepancy": "The discrepancy has more room ahead than was needed: give its `scale` a tighter prior, or its"
    " `length` one that reaches over what is predicted; `bt.conformalize` narrows intervals by past errors.",
    "ProcessNoise": "Process noise adds up ahead to more than was needed: give its `scale` a tighter prior, or the"
    " equations a rest to return to; `bt.conformalize` narrows intervals by past errors.",
    "": "Parameters or initial states are uncertain in what is predicted alone, or the scale of the noise is larger"
    " than the errors: tighter priors, or `bt.conformalize`, which narrows intervals by past errors.",
}
"""By model error, what makes predictions wide and what to do."""


def _noticed(covered: xr.Dataset) -> str:
    """What the gate would have found, of the widest intervals of which it can tell something."""
    words = []
    for name in covered["observation"].to_numpy():
        own = covered.sel(observation=name)
        own = own.isel(prob=np.flatnonzero(can_tell(own).to_numpy())[-1])
        prob, share = 100 * float(own["prob"]), 100 * float(own["joint_noticed"])
        words.append(f"{prob:g} % intervals of `{name}` that hold {share:.0f} % or less")
    return f"{' and '.join(words)} would have been noticed (with a chance of {100 * POWER:g} %)"


def _cannot_be_told(own: xr.Dataset) -> str:
    """What a few independent observations leave open, of one observation of the twin."""
    at = own.isel(prob=int(np.argmin(np.abs(own["prob"].to_numpy() - 0.9))))
    num, worth = int(at["num"]), float(worth_in(at))
    ends = f"{100 * float(at['joint_lower']):.0f} to {100 * float(at['joint_upper']):.0f} %"
    few = f", whose errors follow each other, are worth {worth:.2g} independent ones" if worth < 0.9 * num else ""
    return (
        f"Whether intervals cover as promised cannot be told: {num:,} held-out observations of"
        f" `{at['observation'].item()}`{few}{',' if few else ' are too few:'} {100 * float(at['coverage']):.3g} % lay"
        f" inside the {100 * float(at['prob']):g} % interval, where {ends} would do. Hold out a longer stretch, or"
        " other experiments; `bayestwin validate` forecasts from many origins."
    )


def _covered(found: xr.Dataset, pairs: Mapping[str, draws.ObservedPoints], keep: np.ndarray) -> xr.Dataset:
    """Counts of what lies inside, of the points in the mask `keep`, and what these are worth."""
    dims = (*(("kind",) if "kind" in found.dims else ()), "observation", "prob", "time")
    lower, upper = (found[end].transpose(*dims).to_numpy() for end in ("lower", "upper"))
    there = _comparable(lower) if "kind" in found.dims else ~np.isnan(lower)
    block = (found["origin"] if "origin" in found.coords else found["time"]).to_numpy()
    promised = found.get("expected", found["prob"].broadcast_like(found["lower"])).transpose(*dims).to_numpy()
    inside, counted, worth, freedom, expected = [], [], [], [], []
    for place, pair in enumerate(pairs.values()):
        kept = keep[pair.positions]
        at, values = pair.positions[kept], pair.values[kept]
        low, high, judged = (ends[..., place, :, :][..., at] for ends in (lower, upper, there))
        inside.append(np.sum(judged & (low <= values) & (values <= high), axis=-1))
        counted.append(np.sum(judged, axis=-1))
        shares = np.sum(np.where(judged, promised[..., place, :, :][..., at], 0.0), axis=-1)
        expected.append(shares / np.maximum(counted[-1], 1))
        alone, known = _worth(_stretch(low, high, values), judged, block[at], found["prob"].to_numpy())
        worth.append(alone)
        freedom.append(known)
    where = {dim: found[dim] for dim in dims[:-1]}
    names = ("num", "num_inside", WORTH, "freedom", "expected")
    parts = zip(names, (counted, inside, worth, freedom, expected), strict=True)
    made = xr.Dataset(
        {name: xr.DataArray(np.stack(part, axis=-2), where, dims[:-1]) for name, part in parts},
        coords={"units": found["units"]},
        attrs={"kind": found.attrs["kind"], "group": found.attrs["group"]},
    )
    if draws.FAILED not in found:
        return made
    shares = dict(zip(pairs, found[draws.FAILED].transpose("observation", "time").to_numpy(), strict=True))
    kept = {name: pair.positions[keep[pair.positions]] for name, pair in pairs.items()}
    return draws.with_mean_failed(made, {name: shares[name][at] for name, at in kept.items()})


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
    """Where all kinds of intervals, the first dimension, have an end."""
    return np.broadcast_to(~np.isnan(ends).any(axis=0), ends.shape)


# Bands for coverage: of each share by itself, and those in which all shares of a table or a verdict lie together.

DEPENDENT = 0.5
"""Errors that are worth less than this share of their number are taken to depend on each other."""

LEAST_COUNT = 3.0
"""So many independent ones show that intervals hold nothing at all, and nothing less than that."""

POWER, LOSS = 0.8, 1 / 3
"""With what probability a loss is to be noticed, and what share of the promise: where intervals may hold a third less
than they promise and no band is likely to be left, a share inside says nothing."""

WORTH = "worth"
"""Name of what a table holds until it has bands, see `dependence.worth_of`."""


def with_bands(counts: xr.Dataset, level: float) -> xr.Dataset:
    """Shares with their bands, from counts.

    Args:
        counts: `num`, `num_inside`, `worth`, `freedom` and `expected`, all with the dimension `prob`.
        level: Probability of each band, and that of all joint ones together.
    """
    num, dims = counts["num"], counts["num"].dims
    share = (counts["num_inside"] / num.where(num > 0)).rename("coverage")
    alone = counts[WORTH] * shrinkage(counts["freedom"].to_numpy(), level)
    lower, upper = binomial_band(num, counts["expected"], level)
    low, high = _dependent(alone, counts["expected"], level)
    words = "independent observations that say as much about coverage"
    dataset = xr.Dataset(
        {
            "coverage": share,
            "num": num,
            "num_inside": counts["num_inside"],
            "expected": counts["expected"].assign_attrs(long_name="share inside if the forecast is right"),
            "band_lower": lower,
            "band_upper": upper,
            "within_band": (share >= lower) & (share <= upper),
            "num_effective": alone.assign_attrs(long_name=words),
            "freedom": counts["freedom"].assign_attrs(long_name="degrees of freedom by which that is known"),
            "dependent_lower": low,
            "dependent_upper": high,
            "within_dependent_band": (share >= low) & (share <= high),
        },
        attrs=counts.attrs | {"level": level},
    )
    dataset = dataset.assign({name: values.transpose(*dims) for name, values in dataset.data_vars.items()})
    return jointly(dataset if draws.FAILED not in counts else dataset.assign(failed=counts[draws.FAILED]), level)


def jointly(found: xr.Dataset, level: float, comparisons: int | None = None) -> xr.Dataset:
    """A table with the bands in which all `comparisons` lie together with probability `level` (Bonferroni).

    Each has probability 1 - (1 - `level`) / comparisons, and allows for dependence.

    Args:
        found: As `with_bands` makes it.
        level: That of all together.
        comparisons: How many there are; by default those of the table that anything was observed of.
    """
    number = int((found["num"] > 0).sum()) if comparisons is None else comparisons
    joint_level = 1 - (1 - level) / max(number, 1)
    low, high = band_at(found, joint_level)
    within = (found["coverage"] >= low) & (found["coverage"] <= high)
    noticed = _noticed_below(low, counts_as(found, joint_level))
    made = {"joint_lower": low, "joint_upper": high, "within_joint_band": within, "joint_noticed": noticed}
    dims = found["coverage"].dims
    # as plain arrays: what is known of the coordinates stays
    found = found.assign({name: (dims, one.transpose(*dims).to_numpy()) for name, one in made.items()})
    return found.assign_attrs(joint_level=joint_level)


def band_at(found: xr.Dataset, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    """The band by which verdicts judge a share, at a probability of its own."""
    return _dependent(counts_as(found, level), found["expected"], level)


def counts_as(found: xr.Dataset, level: float) -> xr.DataArray:
    """How many independent observations those of a table count as in a band of that probability.

    Errors that do not visibly depend on each other count as what they are worth, which is at most their number: a
    band of probability `level` or more. Where they do (`DEPENDENT`), that what they are worth is estimated counts as
    well. If it did always, a dozen observations could never tell anything, however far they lie outside. They are
    taken for `LEAST` at least, if there are so many: intervals that hold next to nothing are never called good.
    """
    worth = worth_in(found)
    least = np.minimum(_number(found), LEAST_COUNT)
    known = np.maximum(worth * shrinkage(found["freedom"].to_numpy(), level), least)
    return worth.where(worth >= DEPENDENT * _number(found), known)


def _noticed_below(lower: xr.DataArray, num: xr.DataArray) -> xr.DataArray:
    """The largest true coverage at which shares lie below their band with probability `POWER`; 0 if none does."""
    most, own = (lower * num).to_numpy() - 1.0, num.to_numpy()
    some = (lower.to_numpy() > 0) & (own > 0)
    most, own = np.where(some, most, 0.0), np.where(some, own, 1.0)
    missed = scipy.special.betaincinv(np.maximum(own - most, np.finfo(float).tiny), most + 1.0, POWER)
    return lower.copy(data=np.where(some, 1.0 - missed, 0.0))


def can_tell(found: xr.Dataset) -> xr.DataArray:
    """Whether intervals that hold `LOSS` less than they promise would have been noticed."""
    return found["joint_noticed"] >= (1 - LOSS) * found["expected"] - 1e-9


def kept(one: xr.Dataset) -> bool | None:
    """Whether one entry of a table kept its promise; None where that cannot be told, of too few or none at all."""
    if not int(one["num"]):
        return None
    if not bool(one["within_joint_band"]):
        return False
    return True if bool(can_tell(one)) else None


def worth_in(found: xr.Dataset) -> xr.DataArray:
    """How many independent observations those of a table are worth, see `dependence.worth_of`."""
    own = found.attrs.get("effective_level", found.attrs["level"])
    worth = found["num_effective"] / shrinkage(found["freedom"].to_numpy(), own)
    return worth.where(~(worth > _number(found)), _number(found))


def _number(found: xr.Dataset) -> xr.DataArray:
    """Different observations, where a table knows how many these are."""
    return found["num_distinct" if "num_distinct" in found else "num"].astype(float)


def binomial_band(num: xr.DataArray, expected: xr.DataArray, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Central `level` of Binomial(num, expected) / num; NaN where num is 0. Same shape as `num`."""
    some = num.where(num > 0)
    tails = ((1 - level) / 2, (1 + level) / 2)
    lower, upper = (some.copy(data=scipy.stats.binom.ppf(tail, some, expected)) / some for tail in tails)
    return lower, upper


def _dependent(alone: xr.DataArray, expected: xr.DataArray, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    lower, upper = dependent_band(alone.to_numpy(), expected.transpose(*alone.dims).to_numpy(), level)
    plain = alone.drop_attrs()
    return plain.copy(data=lower), plain.copy(data=np.asarray(upper))


# A band for coverage whose errors depend on each other: as many independent observations as these are worth.
#
# The dependence is that of the observations at hand, from one to the next or from one origin of a backtest to the
# next. What all of them share (one calibration, one season) cannot be seen in them, and is not in the band.

RATE = 0.3
SPECTRUM = 0.4
LEAST_FREQUENCIES = 2
"""How many frequencies the long-run variance is read from, see `frequencies`. Chosen by simulation, so that a sound
forecast with autoregressive errors stays in the band as often as it says (`tests/assess/test_dependence.py`)."""

SURE = 0.95
"""One side of the probability that independent neighbours are less correlated than what counts as dependence."""

MOST_CORRELATED = 0.99
"""Correlation of neighbours, as it is estimated, goes up to that."""

HALVINGS = 60
"""Ends of the band are found to 2 to the power of minus that."""


def num_effective(stretch: np.ndarray, block: np.ndarray, prob: float, level: float) -> float:
    """How many independent observations say as much about coverage as these do, at one `level`.

    That is what they are worth, see `worth_of`, times (z / t)²: the quantiles of the normal and of Student's t
    distribution at `level`, since it is estimated (Korn & Graubard 1998, Survey Methodology 24:193-201, who do so for
    samples of households).

    Args:
        stretch: As in `worth_of`.
        block: Likewise.
        prob: Nominal probability of the interval.
        level: Probability of the band.

    Returns:
        Between 0 and n; 0 where there are fewer than two blocks.
    """
    worth, freedom = worth_of(stretch, block, prob)
    return float(worth * shrinkage(freedom, level))


def shrinkage(freedom: np.ndarray | float, level: float) -> np.ndarray:
    """What a number of independent observations shrinks by at `level`, if it is known by so many degrees of freedom."""
    tail = (1 + level) / 2
    return (scipy.stats.norm.ppf(tail) / scipy.stats.t.ppf(tail, freedom)) ** 2


def worth_of(stretch: np.ndarray, block: np.ndarray, prob: float) -> tuple[float, int]:
    """How many independent observations would have the same variance, and the degrees of freedom of that.

    With D = 1 where an observation lies inside and 0 elsewhere, and V the variance of mean(D) that allows for
    dependence, that is n* = mean(D) (1 - mean(D)) / V, not more than there are. V comes from sums of D over blocks, and
    the squares of ν cosine transforms of these at the lowest frequencies, which are independent and have all one
    expectation where dependence does not reach further than n / ν: hence t with ν degrees of freedom, also of few
    blocks (Müller 2007, doi:10.1016/j.jeconom.2007.01.019; Lazarus, Lewis, Stock & Watson 2018,
    doi:10.1080/07350015.2018.1506926).

    "Inside" is here the interval stretched until `prob` of the observations are in it. Else there would be
    nothing to see of the dependence of intervals that hold all observations, and too little of too wide ones.

    Args:
        stretch: By what factor its interval must be stretched to hold each observation, shape (n,).
        block: Where each belongs, as numbers that increase with time: errors within a block may depend on each
            other in any way; shape (n,).
        prob: Nominal probability of the interval.

    Returns:
        Between 0 and n, and ν; 0 and 1 where there are fewer than two blocks.
    """
    _, place = np.unique(block, return_inverse=True)
    blocks, num = int(place.max(initial=-1)) + 1, stretch.size
    if blocks < 2:
        return 0.0, 1
    rank = np.clip(round(prob * num), 1, num - 1)
    inside = stretch <= np.partition(stretch, rank - 1)[rank - 1]
    share = inside.mean()
    sums = np.bincount(place, inside - share, blocks)
    freedom = frequencies(stretch, place, blocks)
    # the type-II transform of SciPy is twice the sum with cos(π k (b + 1/2) / blocks)
    waves = np.asarray(scipy.fft.dct(sums))[1 : freedom + 1] / 2
    variance = 2.0 * np.mean(waves**2) / num**2
    # where all are equally far out nothing is seen of their dependence: a block is worth one
    worth = blocks if share == 1.0 else min(num, share * (1 - share) / variance) if variance > 0 else num
    return float(min(worth, num * _from_neighbours(stretch))), freedom


def dependent_band(num: np.ndarray, prob: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares that are not too small nor too large for `num` independent observations, which need not be a whole number.

    A share lies within where neither tail of Binomial(num, prob) from there on, continued between whole numbers by
    the incomplete beta function, has less than (1 - `level`) / 2: where its Clopper-Pearson interval holds `prob`.

    Args:
        num: As `num_effective`, of any shape; 0 gives the band from 0 to 1, which excludes nothing, and NaN gives NaN.
        prob: Nominal probability, of the same shape.
        level: Probability of the band.

    Returns:
        Its lower and upper ends.
    """
    upper = 1.0 - _lower_end(num, 1.0 - prob, level)
    return _lower_end(num, prob, level), upper


def _lower_end(num: np.ndarray, prob: np.ndarray, level: float) -> np.ndarray:
    """The smallest share x / num with P(X ≤ x) ≥ (1 - level) / 2."""
    low, high = np.zeros_like(num), np.ones_like(num)
    tail = (1 - level) / 2
    below = _at_most(low * num, num, prob) < tail
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rare = _at_most(middle * num, num, prob) < tail
        low, high = np.where(rare, middle, low), np.where(rare, high, middle)
    return np.where(np.isnan(num), np.nan, np.where(below, low, 0.0))


def _at_most(count: np.ndarray, num: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """P(X ≤ count) of Binomial(num, prob), also between whole numbers."""
    rest = np.maximum(num - count, np.finfo(float).tiny)
    return np.where(num > 0, scipy.special.betainc(rest, count + 1.0, 1.0 - prob), 1.0)


def _from_neighbours(stretch: np.ndarray) -> float:
    """What share of independent observations these are worth if they depend on each other as neighbours do.

    Few blocks say little about V, and may hide a dependence that neighbours show: where the rank correlation r of these
    is more than chance makes, that is (1 - r) / (1 + r), as of an autoregressive process; otherwise 1.
    """
    ranks = scipy.stats.rankdata(stretch)
    ranks -= ranks.mean()
    square = np.sum(ranks**2)
    correlation = np.sum(ranks[1:] * ranks[:-1]) / square if square > 0 else 0.0
    if not correlation > scipy.stats.norm.ppf(SURE) / np.sqrt(stretch.size):
        return 1.0
    return float((1 - correlation) / (1 + correlation))


def frequencies(stretch: np.ndarray, place: np.ndarray, blocks: int) -> int:
    """Number ν of the cosine transforms that the variance is read from.

    The spectrum of what is correlated by φ from one block to the next is flat up to a frequency of about 1 - φ:
    more than RATE · blocks (1 - φ) / π would make the variance too small. It never takes more than
    SPECTRUM · blocks^(2/3), which is what Lazarus et al. recommend.
    """
    ranks = np.bincount(place, scipy.stats.rankdata(stretch), blocks) / np.bincount(place, minlength=blocks)
    ranks -= ranks.mean()
    square = np.sum(ranks**2)
    correlation = np.sum(ranks[1:] * ranks[:-1]) / square if square > 0 else 0.0
    # estimates from few blocks are too small (Kendall 1954, doi:10.1093/biomet/41.3-4.403)
    correlation = np.clip(correlation + (1 + 3 * correlation) / blocks, 0.0, MOST_CORRELATED)
    wanted = round(RATE * blocks * (1 - correlation) / np.pi)
    return int(
        np.clip(wanted, min(LEAST_FREQUENCIES, blocks - 1), max(int(SPECTRUM * blocks ** (2 / 3)), LEAST_FREQUENCIES))
    )
