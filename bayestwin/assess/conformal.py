"""Conformal intervals on top of the posterior predictive: how far observations of a backtest fell is what widens them.

MAPIE (1.x) wraps estimators with `fit` and `predict` over rows of features; its `TimeSeriesRegressor` refits them on
bootstrapped blocks (EnbPI) or moves the nominal probability (ACI), and knows no draws, origins nor horizons. Here
scores are those of posterior draws, and when an observation became known decides what may be used of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws, online, points
from bayestwin.assess.correction import side_by_side
from bayestwin.assess.grouping import Bins, By, Groups, find_groups, name_of, values_of
from bayestwin.assess.intervals import along_points, check_choice, checked_prob
from bayestwin.assess.origins import by_origin
from bayestwin.assess.scaling import scale_of

METHODS = {
    "split": "quantiles of all scores known at an origin",
    "adaptive": "quantiles that follow the scores as they become known",
}


def conformalize(
    backtest: xr.DataTree,
    prob: float | Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    method: Literal["split", "adaptive"] = "split",
    by: By = None,
    bins: Bins = None,
    rate: float = 0.2,
) -> xr.DataTree:
    """Intervals that proved too narrow or too wide in a backtest, made as wide as they should have been.

    The score of an observation is how far it fell from the predictive median, in units of the distance from there to
    the predictive quantile that would be one standard deviation away on its side. An interval reaches from the median
    to conformal quantiles of such scores, the ⌈(n + 1) (1 + prob) / 2⌉-th smallest of n above, and likewise below:
    each end for itself, so that what falls to one side stays there. Ends at an origin are made from scores of times up
    to that origin, so what is returned is out of sample, and `coverage` of it compares raw and conformal intervals.

    **What is promised.** With `"split"`, whatever the twin: an observation lies inside with probability `prob` or
    up to 2 / (n + 1) more, if its score is exchangeable with the n before (Lei et al. 2018,
    doi:10.1080/01621459.2017.1307116; Romano et al. 2019, arXiv:1905.03222). That is on average, not at each time, and
    it fails where scores are not exchangeable: a season or a load that was not there before, an asset that ages, errors
    that grow with the horizon. `by` promises it to each group, against such causes as have a name. Neighbouring
    scores that depend on each other also break it: coverage then drifts for as long as the dependence lasts.

    With `"adaptive"` ends go by the latest scores; each moves outwards when an observation falls beyond it, and a
    little inwards when not, so that over a long time no more than 1 - `prob` of them lie outside, exchangeable or not
    (quantile tracking, Angelopoulos et al. 2023, arXiv:2307.16895; `assess.online` has the bound). Errors along the
    path from one origin come together, and move an end as one. Nothing is promised for any one time, and it reacts
    after the fact.
    Adaptive conformal inference (Gibbs & Candès 2021, arXiv:2106.00072) moves the nominal probability instead, and
    becomes infinitely wide after a few misses.

    Args:
        backtest: What `backtest` returned.
        prob: Nominal probability of each interval, between 0 and 1.
        method: `"split"`, whose correction may be used for long, or `"adaptive"`, where each origin is told of the
            errors before it: its correction is that of the next one, and scatters.
        by: Groups that have scores of their own: `"horizon"`, an input, or a pandas Series of labels over the times. A
            Series does not say to which group later forecasts belong.
        bins: See `coverage`.
        rate: Of `"adaptive"`: how far an end moves where a whole path misses, as a share of the width that the latest
            scores ask for.

    Returns:
        `intervals`: `lower` and `upper` (kind, observation, prob, origin, horizon), `kind` being `"raw"` (the posterior
        predictive's) or `"conformal"`; `median` and `known` (observation, origin, horizon), the number of scores behind
        a conformal end, which is NaN where these are fewer than 2 / (1 - prob) - 1.
        `correction`: conformal quantiles of all scores, `lower` and `upper` (observation, prob), after what `by` names,
        and their number `num`; `intervals(forecast, conformal=…)` applies them to later forecasts.
        `observed_data` and `predictions_constant_data`: those of the backtest.

    Raises:
        InvalidSetting: `prob`, `method`, `by`, `bins` or `rate` has no meaning.
        InvalidInput: This is no backtest.
    """
    levels = checked_prob(prob)
    check_choice("method", method, METHODS)
    _check(backtest, rate)
    row = points.axis(backtest)
    raw = along_points(backtest, levels, "eti")
    groups = None if by is None else find_groups(name_of(by), values_of(by, backtest, None), bins)
    place = np.zeros(row.sizes["time"], dtype=int) if groups is None else _place(groups, by, backtest)
    tails = (1 - levels) / 2
    rule = online.split(tails) if method == "split" else online.adaptive(tails, rate)
    origin, when, count = row["origin"].to_numpy(), row["label"].to_numpy(), 1 if groups is None else len(groups.labels)
    made, ends = [], []
    for name, pair in points.pairs(backtest, row, None).items():
        scale = scale_of(draws.samples(row, name))
        scores = np.full(place.shape, np.nan)
        scores[pair.positions] = scale.at(pair.positions).score(pair.values)
        made.append(online.make_ends(scores, place, origin, when, groups=count, levels=len(levels), rule=rule))
        ends.append((scale.value(made[-1].lower), scale.value(made[-1].upper)))
    lower, upper = (np.stack(part) for part in zip(*ends, strict=True))
    found = side_by_side(raw, lower, upper)
    found["known"] = (("observation", "time"), np.stack([one.known for one in made]).astype(float))
    kept = {group: backtest[group].to_dataset() for group in ("observed_data", "predictions_constant_data")}
    tree = xr.DataTree.from_dict({"intervals": by_origin(found), "correction": _correction(raw, made, groups), **kept})
    tree.attrs = backtest.attrs | {"conformal": {"method": method, "by": groups.name if groups else "", "rate": rate}}
    return tree


def _place(groups: Groups, by: By, backtest: xr.DataTree) -> np.ndarray:
    """Number of the group of each point, -1 for none; shape (time,)."""
    masks = groups.members(np.asarray(values_of(by, backtest, None)))
    return np.select(masks, range(len(masks)), default=-1)


def _correction(raw: xr.Dataset, made: Sequence[online.Made], groups: Groups | None) -> xr.Dataset:
    """Ends in scores, for what comes after the backtest."""
    lower, upper, num = (np.stack(part, axis=1) for part in zip(*(one.last for one in made), strict=True))
    dims = ("group", "observation", "prob")
    words = "of the interval, in spreads from the predictive median"
    found = xr.Dataset(
        {
            "lower": (dims, lower, {"long_name": f"lower end {words}"}),
            "upper": (dims, upper, {"long_name": f"upper end {words}"}),
            "num": (dims[:2], num, {"long_name": "scores that they are made from"}),
        },
        {"observation": raw["observation"].to_numpy(), "prob": raw["prob"].to_numpy()},
        {"by": groups.name if groups else ""},
    )
    if groups is None:
        return found.isel(group=0)
    return found.rename(group=groups.name).assign_coords(groups.coords)


def _check(backtest: xr.DataTree, rate: float) -> None:
    if "origins" not in backtest.children:
        raise errors.InvalidInput(
            errors.explain(
                "Scores come from a backtest.",
                expected="a result with the groups `predictions`, `observed_data` and `origins`",
                received=", ".join(backtest.children) or "a tree without groups",
                advice="Pass what `backtest` returned.",
            )
        )
    if not 0 < rate < np.inf:
        raise errors.InvalidSetting(
            errors.explain(
                "`rate` does not say how fast ends adapt.",
                expected="a positive number",
                received=f"{rate}",
                advice="Leave it out for 0.2; a smaller one adapts more slowly and scatters less.",
            )
        )
