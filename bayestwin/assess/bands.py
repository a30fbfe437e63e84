"""Bands for coverage: of each share by itself, and those in which all shares of a table or a verdict lie together."""

from __future__ import annotations

import numpy as np
import scipy.stats
import xarray as xr

from bayestwin.assess.dependence import dependent_band, shrinkage

DEPENDENT = 0.5
"""Errors that are worth less than this share of their number are taken to depend on each other."""

LEAST = 3.0
"""So many independent ones show that intervals hold nothing at all, and nothing less than that."""

WORTH = "worth"
"""Name of what a table holds until it has bands, see `dependence.worth_of`."""


def with_bands(counts: xr.Dataset, level: float) -> xr.Dataset:
    """Shares with their bands, from counts.

    Args:
        counts: `num`, `num_inside`, `worth` and `freedom`, all with the dimension `prob`.
        level: Probability of each band, and that of all joint ones together.
    """
    num, dims = counts["num"], counts["num"].dims
    share = (counts["num_inside"] / num.where(num > 0)).rename("coverage")
    alone = counts[WORTH] * shrinkage(counts["freedom"].to_numpy(), level)
    lower, upper = binomial_band(num, _prob(num), level)
    low, high = _dependent(alone, level)
    words = "independent observations that say as much about coverage"
    found = xr.Dataset(
        {
            "coverage": share,
            "num": num,
            "num_inside": counts["num_inside"],
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
    return jointly(found.assign({name: values.transpose(*dims) for name, values in found.data_vars.items()}), level)


def jointly(found: xr.Dataset, level: float, comparisons: int | None = None) -> xr.Dataset:
    """A table with the bands in which all `comparisons` lie together with probability `level` (Bonferroni).

    Each has probability 1 - (1 - `level`) / comparisons, and allows for dependence.

    Args:
        found: As `with_bands` makes it.
        level: That of all together.
        comparisons: How many there are; by default those of the table that anything was observed of.
    """
    number = int((found["num"] > 0).sum()) if comparisons is None else comparisons
    low, high = band_at(found, 1 - (1 - level) / max(number, 1))
    within = (found["coverage"] >= low) & (found["coverage"] <= high)
    made = {"joint_lower": low, "joint_upper": high, "within_joint_band": within}
    dims = found["coverage"].dims
    # as plain arrays: what is known of the coordinates stays
    return found.assign({name: (dims, one.transpose(*dims).to_numpy()) for name, one in made.items()})


def band_at(found: xr.Dataset, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    """The band by which verdicts judge a share, at a probability of its own.

    Errors that do not visibly depend on each other count as what they are worth, which is at most their number: a
    band of probability `level` or more. Where they do (`DEPENDENT`), that what they are worth is estimated counts as
    well. If it did always, a dozen observations could never tell anything, however far they lie outside. They are
    taken for `LEAST` at least, if there are so many: intervals that hold next to nothing are never called good.
    """
    worth = worth_in(found)
    least = np.minimum(_number(found), LEAST)
    known = np.maximum(worth * shrinkage(found["freedom"].to_numpy(), level), least)
    return _dependent(worth.where(worth >= DEPENDENT * _number(found), known), level)


def worth_in(found: xr.Dataset) -> xr.DataArray:
    """How many independent observations those of a table are worth, see `dependence.worth_of`."""
    own = found.attrs.get("effective_level", found.attrs["level"])
    worth = found["num_effective"] / shrinkage(found["freedom"].to_numpy(), own)
    return worth.where(~(worth > _number(found)), _number(found))


def taken_for(found: xr.Dataset) -> xr.DataArray:
    """How many independent observations they are taken for where it is asked whether they are enough."""
    worth = worth_in(found)
    return worth.where(worth < DEPENDENT * _number(found), _number(found))


def _number(found: xr.Dataset) -> xr.DataArray:
    """Different observations, where a table knows how many these are."""
    return found["num_distinct" if "num_distinct" in found else "num"].astype(float)


def binomial_band(num: xr.DataArray, prob: xr.DataArray, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Central `level` of Binomial(num, prob) / num; NaN where num is 0. Same shape as `num`."""
    some = num.where(num > 0)
    tails = ((1 - level) / 2, (1 + level) / 2)
    lower, upper = (some.copy(data=scipy.stats.binom.ppf(tail, some, prob)) / some for tail in tails)
    return lower, upper


def _dependent(alone: xr.DataArray, level: float) -> tuple[xr.DataArray, xr.DataArray]:
    lower, upper = dependent_band(alone.to_numpy(), _prob(alone).to_numpy(), level)
    plain = alone.drop_attrs()
    return plain.copy(data=lower), plain.copy(data=np.asarray(upper))


def _prob(like: xr.DataArray) -> xr.DataArray:
    return like["prob"].broadcast_like(like).transpose(*like.dims)
