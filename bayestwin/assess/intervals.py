"""Predictive intervals, always with `prob` and kind: from draws (equal-tailed, highest density), or conformal ones.

Conformal ends are quantiles of what a backtest has taught, in units of the spread of the draws on each side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr
from arviz_stats.visualization import hdi

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.draws import by_origin
from bayestwin.assess.grouping import Groups, values_of

Kind = Literal["eti", "hdi"]

KINDS = {"eti": "equal-tailed interval", "hdi": "highest-density interval"}
TARGETS = {
    "observation": "a new observation (parameter and observation uncertainty)",
    "noise_free": "the noise-free value (parameter uncertainty only)",
}


def intervals(
    tree: xr.DataTree,
    prob: float | Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    kind: Kind = "eti",
    of: Literal["observation", "noise_free"] = "observation",
    conformal: xr.DataTree | None = None,
) -> xr.Dataset:
    """Median and intervals of every observation at every time.

    Draws that are not there (from when their solve failed on, or where the noise model has no such observation) are
    left out: intervals are then conditional on what can be predicted, and narrower than what is known. `failed` says
    how many that are.

    Args:
        tree: A forecast (group `predictions`) or a posterior (group `posterior_predictive`).
        prob: Nominal probability of each interval, between 0 and 1.
        kind: `"eti"` leaves (1 - prob) / 2 of the draws outside at each end; `"hdi"` is the narrowest
            interval that holds `prob` of the draws. One interval each, also where draws have several modes.
        of: `"observation"` for a new noisy observation, `"noise_free"` for the observed value without noise.
        conformal: What `conformalize` returned: the ends get the dimension `kind`, `"raw"` for what the posterior
            predictive says and `"conformal"` for what it says corrected by the errors of that backtest.

    Returns:
        `median` (observation, time), `lower` and `upper` (observation, prob, time), in the unit that the
        coordinate `units` (observation) names; attributes say kind, what they are intervals of, and group. Where draws
        are not there, also `failed` (observation, time), their share. Several experiments are a first dimension, NaN
        where one has no such time. Those of a backtest have `origin` and `horizon` instead of `time`.

    Raises:
        InvalidSetting: `prob`, `kind` or `of` is not one of those above, or not what was conformalized.
        InvalidInput: The tree holds no predictive draws.
    """
    levels = checked_prob(prob)
    check_choice("kind", kind, KINDS)
    check_choice("of", of, TARGETS)
    names = draws.experiments(tree)
    if names:
        parts = [intervals(tree.sel(experiment=name), prob, kind=kind, of=of, conformal=conformal) for name in names]
        return draws.side_by_side(parts, names)
    dataset = along_points(tree, levels, kind, of)
    if conformal is not None:
        check_choice("kind", kind, {"eti": "conformal intervals have two tails"})
        check_choice("of", of, {"observation": "conformal intervals are those of observations"})
        dataset = corrected(tree, dataset, conformal)
    return by_origin(dataset)


def along_points(tree: xr.DataTree, levels: np.ndarray, kind: Kind, of: str = "observation") -> xr.Dataset:
    """As `intervals`, of one experiment, with all settings checked; those of a backtest along one row of points."""
    group, dataset = draws.predictive(tree)
    names = draws.observations(dataset)
    suffix = draws.NOISE_FREE if of == "noise_free" else ""
    ends = _equal_tailed if kind == "eti" else _highest_density
    found, failed = [], []
    for name in names:
        table = draws.samples(dataset, name + suffix)
        failed.append(draws.share_failed(table))
        found.append(ends(table, levels))
    median, lower, upper = (np.stack(part) for part in zip(*found, strict=True))
    words = f"the {KINDS[kind]} of {TARGETS[of]}"
    made = xr.Dataset(
        {
            "median": (("observation", "time"), median, {"long_name": f"median of {TARGETS[of]}"}),
            "lower": (("observation", "prob", "time"), lower, {"long_name": f"lower end of {words}"}),
            "upper": (("observation", "prob", "time"), upper, {"long_name": f"upper end of {words}"}),
        },
        coords={
            "observation": list(names),
            "prob": ("prob", levels, {"long_name": "nominal probability of the interval"}),
            **dataset["time"].coords,
            "units": draws.units(dataset, names),
        },
        attrs={"kind": KINDS[kind], "of": of, "group": group},
    )
    # of a backtest there are points that no origin has
    shares = made["median"].copy(data=np.where(pd.isna(draws.labels(dataset)), np.nan, np.stack(failed))).drop_attrs()
    return draws.with_failed(made, shares)


def expected_shares(tree: xr.DataTree, found: xr.Dataset) -> xr.DataArray:
    """What intervals hold if the draws are right, shape (observation, prob, time): not quite what they promise.

    The ends of an interval from S draws lie between two of them, and of what comes each of the S + 1 gaps holds an
    equal share: (S − 1) p / (S + 1). Of whole numbers many lie on the ends, and the draws themselves say how many.

    Args:
        tree: The forecast.
        found: Its intervals, as `along_points` gives them.
    """
    _, dataset = draws.predictive(tree)
    expected = found["lower"].copy(data=np.empty(found["lower"].shape)).drop_attrs()
    for name in found["observation"].to_numpy():
        samples, own = draws.samples(dataset, str(name)), found.sel(observation=name)
        num = np.sum(~np.isnan(samples), axis=-1)  # of those that are there
        shares = own["prob"].to_numpy()[:, None] * (num - 1)
        if np.array_equal(samples, np.round(samples), equal_nan=True):
            ends = zip(own["lower"].to_numpy(), own["upper"].to_numpy(), strict=True)
            inside = [((low[:, None] <= samples) & (samples <= high[:, None])).sum(axis=-1) - 1 for low, high in ends]
            shares = np.maximum(shares, inside)
        expected.loc[{"observation": name}] = shares / (num + 1)
    return expected


def checked_prob(prob: float | Sequence[float]) -> np.ndarray:
    """Nominal probabilities as an array, shape (prob,), in the given order.

    Raises:
        InvalidSetting: Not between 0 and 1, given twice, or none at all.
    """
    levels = np.atleast_1d(np.asarray(prob, dtype=float))
    inside = (levels > 0) & (levels < 1)
    if levels.ndim != 1 or levels.size == 0 or not inside.all() or np.unique(levels).size != levels.size:
        raise errors.InvalidSetting(
            "`prob` does not say which intervals are wanted.",
            expected="different numbers between 0 and 1, such as `prob=(0.5, 0.9)`",
            received=f"{prob}",
            advice="Write 90 % as 0.9.",
        )
    return levels


def check_choice(setting: str, value: str, choices: dict[str, str]) -> None:
    """Raise where a setting is none of its choices.

    Raises:
        InvalidSetting: `value` is not in `choices` (value → meaning).
    """
    if value not in choices:
        raise errors.InvalidSetting(
            f"`{setting}` has no meaning here.",
            expected="; ".join(f'"{choice}": {meaning}' for choice, meaning in choices.items()),
            received=f"{value!r}",
            advice=f"Pass one of these as `{setting}=`.",
        )


def _equal_tailed(table: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median (time,), lower and upper ends (prob, time) of draws (time, samples)."""
    wanted = np.concatenate([[0.5], (1 - levels) / 2, (1 + levels) / 2])
    found = draws.of_those_there(table, lambda some, _: np.quantile(some, wanted, axis=-1, overwrite_input=True).T).T
    return found[0], found[1 : 1 + levels.size], found[1 + levels.size :]


def _highest_density(table: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median (time,), lower and upper ends (prob, time) of draws (time, samples)."""

    def found(some: np.ndarray, _: np.ndarray) -> np.ndarray:
        if not len(some):
            return np.empty((0, 1 + 2 * levels.size))
        ends = np.stack([hdi(some, prob=level, dim=-1) for level in levels])
        return np.column_stack([np.median(some, axis=-1), ends[..., 0].T, ends[..., 1].T])

    rows = draws.of_those_there(table, found).T
    return rows[0], rows[1 : 1 + levels.size], rows[1 + levels.size :]


# What a backtest has taught, applied to later forecasts: intervals whose ends are conformal quantiles of scores.

RAW_AND_CONFORMAL = ("raw", "conformal")


def corrected(tree: xr.DataTree, raw: xr.Dataset, conformal: xr.DataTree) -> xr.Dataset:
    """Conformal intervals beside the raw ones.

    Args:
        tree: A forecast of one experiment.
        raw: Its equal-tailed intervals (observation, prob, time).
        conformal: What `conformalize` returned.

    Returns:
        As `raw`, its ends with `kind` as the first dimension; NaN where a correction is not known, as for a horizon or
        an input outside of what the backtest saw.

    Raises:
        InvalidInput: This is no result of `conformalize`, or not for these observations.
        InvalidSetting: Another `prob` is asked for than was conformalized.
    """
    found = _checked(raw, conformal)
    row = draws.predictive(tree)[1]
    by = str(found.attrs["by"])
    masks = [np.ones(row.sizes["time"], dtype=bool)]
    if by:
        masks = groups_of(found, by).members(np.asarray(values_of(by, tree, None)))
        found = found.transpose(by, "observation", "prob")
    ends = {}
    for end in ("lower", "upper"):
        scores = found[end].to_numpy().reshape(len(masks), *raw[end].shape[:2])
        values = np.full(raw[end].shape, np.nan)
        for place, name in enumerate(raw["observation"].to_numpy()):
            spread = np.full(raw[end].shape[1:], np.nan)
            for number, mask in enumerate(masks):
                spread[:, mask] = scores[number, place][:, None]
            values[place] = scale_of(draws.samples(row, str(name))).value(spread)
        ends[end] = values
    return side_by_side(raw, ends["lower"], ends["upper"])


def side_by_side(raw: xr.Dataset, lower: np.ndarray, upper: np.ndarray) -> xr.Dataset:
    """Raw intervals, and conformal ones whose ends have shape (observation, prob, time), along `kind`."""
    found = raw.copy()
    for end, values in (("lower", lower), ("upper", upper)):
        both = np.stack([raw[end].to_numpy(), values])
        found[end] = (("kind", *raw[end].dims), both, raw[end].attrs)
    return found.assign_coords(kind=list(RAW_AND_CONFORMAL))


def groups_of(correction: xr.Dataset, by: str) -> Groups:
    """The groups that a correction distinguishes."""
    edges = None
    if f"{by}_from" in correction.coords:
        edges = np.append(correction[f"{by}_from"].to_numpy(), correction[f"{by}_to"].to_numpy()[-1])
    return Groups(by, correction[by].to_numpy(), edges)


def _checked(raw: xr.Dataset, conformal: xr.DataTree) -> xr.Dataset:
    """The correction for these observations and probabilities."""
    if "correction" not in conformal.children:
        raise _misfit(errors.InvalidInput, "a group `correction`", conformal.children)
    dataset = conformal["correction"].to_dataset()
    for dim, error in (("observation", errors.InvalidInput), ("prob", errors.InvalidSetting)):
        wanted, known = raw[dim].to_numpy(), dataset[dim].to_numpy()
        if not np.isin(wanted, known).all():
            raise _misfit(error, f"{dim} {', '.join(map(str, wanted))}", [f"{dim} {one}" for one in known])
        dataset = dataset.sel({dim: wanted})
    return dataset


def _misfit(kind: type[errors.BayestwinError], expected: str, received: Iterable[str]) -> errors.BayestwinError:
    return kind(
        "`conformal` does not say how to correct these intervals.",
        expected=expected,
        received=", ".join(received) or "nothing",
        advice="Pass what `conformalize` returned for a backtest of this twin, and the `prob` that it was given.",
    )


# How far a value lies from the predictive median, in units of the spread on its side; and values from that.


class CentreAndSpread(NamedTuple):
    """Centre and spread of predictive draws, each of shape (n,).

    Attributes:
        centre: Their median.
        below: From there down to the quantile that lies one standard deviation below in a normal distribution.
        above: Likewise upwards.
    """

    centre: np.ndarray
    below: np.ndarray
    above: np.ndarray

    def at(self, positions: np.ndarray) -> CentreAndSpread:
        """That of some of the points."""
        return CentreAndSpread(self.centre[positions], self.below[positions], self.above[positions])

    def score(self, values: np.ndarray) -> np.ndarray:
        """Signed distance of values, shape (n,), from the centre; infinite where draws have no spread."""
        error = values - self.centre
        spread = np.where(error < 0, self.below, self.above)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(error == 0, 0.0, error / spread)

    def value(self, scores: np.ndarray) -> np.ndarray:
        """Values that have these scores, shape (…, n)."""
        spread = np.where(scores < 0, self.below, self.above)
        with np.errstate(invalid="ignore"):
            # an infinite score is an infinite end, also of draws without spread
            return self.centre + np.where(np.isinf(scores), scores, scores * spread)


def scale_of(table: np.ndarray) -> CentreAndSpread:
    """The scale of draws (n, samples) that are there; NaN where none is."""
    one = float(scipy.stats.norm.cdf(1.0))
    low, centre, high = draws.of_those_there(table, lambda some, _: np.quantile(some, [1 - one, 0.5, one], axis=-1).T).T
    return CentreAndSpread(centre, centre - low, high - centre)
