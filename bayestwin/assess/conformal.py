"""Conformal intervals on top of the posterior predictive: how far observations of a backtest fell is what widens them.

MAPIE (1.x) wraps estimators with `fit` and `predict` over rows of features; its `TimeSeriesRegressor` refits them on
bootstrapped blocks (EnbPI) or moves the nominal probability (ACI), and knows no draws, origins nor horizons. Here
scores are those of posterior draws, and when an observation became known decides what may be used of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.draws import by_origin
from bayestwin.assess.grouping import BinEdges, By, Groups, find_groups, name_of, values_of
from bayestwin.assess.intervals import along_points, check_choice, checked_prob, scale_of, side_by_side

# Ends of conformal intervals, in scores: what is made at an origin from scores that were known by then.

LATEST = 100
"""As many scores, or more where a tail is thin, are the latest ones that adaptive ends go by."""

type Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(scores in the order in which they became known, shape (k,); lower and upper ends that there were for these, shape
(prob, k), NaN for none; share that each has in its origin, shape (k,)) → lower and upper ends for what comes next,
shape (prob,), NaN where there is too little."""


class ConformalEnds(NamedTuple):
    """Ends for n points, in G groups.

    Attributes:
        lower: Shape (prob, n).
        upper: Shape (prob, n).
        known: Number of scores behind them, shape (n,).
        last: Lower and upper ends made from all scores, shape (G, prob) each, and the number of these, shape (G,).
    """

    lower: np.ndarray
    upper: np.ndarray
    known: np.ndarray
    last: tuple[np.ndarray, np.ndarray, np.ndarray]


def make_ends(
    scores: np.ndarray,
    place: np.ndarray,
    origin: np.ndarray,
    when: np.ndarray,
    *,
    groups: int,
    levels: int,
    rule: Rule,
) -> ConformalEnds:
    """Make ends origin by origin, from scores of times up to the origin alone.

    Args:
        scores: Of each point; NaN where nothing was observed; shape (n,).
        place: Number of the group of each point, -1 for none; shape (n,).
        origin: The last time that was known when each point was predicted; shape (n,).
        when: The time of each point; shape (n,).
        groups: Number of groups.
        levels: Number of probabilities.
        rule: Makes ends from the scores of a group.
    """
    order = np.argsort(when, kind="stable")
    scored = order[~np.isnan(scores[order])]
    lower, upper = np.full((2, levels, len(scores)), np.nan)
    known = np.zeros(len(scores), dtype=int)
    # that is settled when predictions are made, and does not wait for what will be observed
    part = 1.0 / pd.Series(origin).groupby([origin, place]).transform("size").to_numpy()
    for start in np.unique(origin):
        for group in range(groups):
            now = (origin == start) & (place == group)
            past = scored[(when[scored] <= start) & (place[scored] == group)]
            low, high = rule(scores[past], lower[:, past], upper[:, past], part[past])
            lower[:, now], upper[:, now], known[now] = low[:, None], high[:, None], past.size
    pasts = [scored[place[scored] == group] for group in range(groups)]
    last = [rule(scores[past], lower[:, past], upper[:, past], part[past]) for past in pasts]
    low, high = (np.stack(part) for part in zip(*last, strict=True))
    return ConformalEnds(lower, upper, known, (low, high, np.array([past.size for past in pasts])))


def conformal_quantile(scores: np.ndarray, tail: float) -> float:
    """The ⌈(k + 1) (1 - tail)⌉-th smallest of k scores: one more exceeds it with probability `tail` at most.

    NaN where k is too small for that, which is where k < 1 / tail - 1.
    """
    rank = int(np.ceil((scores.size + 1) * (1 - tail) - 1e-9))
    return float(np.partition(scores, rank - 1)[rank - 1]) if 0 < rank <= scores.size else float("nan")


def split(tails: np.ndarray) -> Rule:
    """Quantiles of all scores; tails (prob,) are the probabilities beyond each end."""

    def rule(scores: np.ndarray, *_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        upper = np.array([conformal_quantile(scores, tail) for tail in tails])
        lower = np.array([-conformal_quantile(-scores, tail) for tail in tails])
        return lower, upper

    return rule


def adaptive(tails: np.ndarray, rate: float) -> Rule:
    """Quantiles of the latest scores, corrected by what the ends made before have missed.

    `end = quantile of the latest scores + Σ η w (missed - tail)`, each end for itself: quantile tracking around a
    forecast of the quantile (Angelopoulos et al. 2023, arXiv:2307.16895), with η = rate · (width of the latest scores)
    and w = 1 / (number of points of the same origin). Errors along one path come together: an origin has one vote,
    however many points it predicts, or a single bad path would throw the ends far out, and a good one far in.

    **What holds for any scores** within ±b, also those that an adversary chooses: the sum is at most 2 b plus the votes
    that are not known yet, since an end beyond b is not missed. So the share of misses beyond each end, weighted by
    η w, exceeds its tail by at most (2 b + max η · (1 + votes under way)) / Σ η. It may fall short of it where ends are
    held apart: an interval always holds the middle of the latest scores and those of lower probability.
    """
    outwards = np.argsort(-tails)

    def rule(
        scores: np.ndarray, lower: np.ndarray, upper: np.ndarray, part: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        high = np.array([_tracked(scores, ends, part, tail, rate) for ends, tail in zip(upper, tails, strict=True)])
        low = np.array([_tracked(-scores, -ends, part, tail, rate) for ends, tail in zip(lower, tails, strict=True)])
        middle = np.median(scores[-LATEST:]) if scores.size else np.nan
        # an end that is not known is further out than any other, and leaves those within as they are
        high[outwards] = np.maximum.accumulate(np.maximum(high[outwards], middle))
        low[outwards] = np.maximum.accumulate(np.maximum(low[outwards], -middle))
        return -low, high

    return rule


def step_sizes(scores: np.ndarray, tail: float, rate: float) -> np.ndarray:
    """η of each score: `rate` times the distance between both tails of the latest scores up to it; shape (k,)."""
    finite = pd.Series(np.where(np.isfinite(scores), scores, np.nan))
    window = finite.rolling(_latest(tail), min_periods=1)
    return rate * (window.quantile(1.0 - tail) - window.quantile(tail)).fillna(0.0).to_numpy()


def _latest(tail: float) -> int:
    # enough for the quantile to be one of them, and some more
    return max(LATEST, int(np.ceil(4.0 / tail)))


def _tracked(scores: np.ndarray, ends: np.ndarray, part: np.ndarray, tail: float, rate: float) -> float:
    """The upper end after all scores, given the ends that there were for these, NaN for none; shape (k,) each."""
    end = conformal_quantile(scores[-_latest(tail) :], tail)
    judged = ~np.isnan(ends)
    if np.isnan(end) or not judged.any():
        return end
    votes = step_sizes(scores, tail, rate)[judged] * part[judged]
    return end + float(np.sum(votes * ((scores[judged] > ends[judged]) - tail)))


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
    bins: BinEdges = None,
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
    row = draws.axis(backtest)
    raw = along_points(backtest, levels, "eti")
    groups = None if by is None else find_groups(name_of(by), values_of(by, backtest, None), bins)
    place = np.zeros(row.sizes["time"], dtype=int) if groups is None else _place(groups, by, backtest)
    tails = (1 - levels) / 2
    rule = split(tails) if method == "split" else adaptive(tails, rate)
    origin, when, count = row["origin"].to_numpy(), row["label"].to_numpy(), 1 if groups is None else len(groups.labels)
    made, ends = [], []
    for name, pair in draws.pairs(backtest, row, None).items():
        scale = scale_of(draws.samples(row, name))
        scores = np.full(place.shape, np.nan)
        scores[pair.positions] = scale.at(pair.positions).score(pair.values)
        made.append(make_ends(scores, place, origin, when, groups=count, levels=len(levels), rule=rule))
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


def _correction(raw: xr.Dataset, made: Sequence[ConformalEnds], groups: Groups | None) -> xr.Dataset:
    """Ends in scores, for what comes after the backtest."""
    lower, upper, num = (np.stack(part, axis=1) for part in zip(*(one.last for one in made), strict=True))
    dims = ("group", "observation", "prob")
    words = "of the interval, in spreads from the predictive median"
    dataset = xr.Dataset(
        {
            "lower": (dims, lower, {"long_name": f"lower end {words}"}),
            "upper": (dims, upper, {"long_name": f"upper end {words}"}),
            "num": (dims[:2], num, {"long_name": "scores that they are made from"}),
        },
        {"observation": raw["observation"].to_numpy(), "prob": raw["prob"].to_numpy()},
        {"by": groups.name if groups else ""},
    )
    if groups is None:
        return dataset.isel(group=0)
    return dataset.rename(group=groups.name).assign_coords(groups.coords)


def _check(backtest: xr.DataTree, rate: float) -> None:
    if "origins" not in backtest.children:
        raise errors.InvalidInput(
            "Scores come from a backtest.",
            expected="a result with the groups `predictions`, `observed_data` and `origins`",
            received=", ".join(backtest.children) or "a tree without groups",
            advice="Pass what `backtest` returned.",
        )
    if not 0 < rate < np.inf:
        raise errors.InvalidSetting(
            "`rate` does not say how fast ends adapt.",
            expected="a positive number",
            received=f"{rate}",
            advice="Leave it out for 0.2; a smaller one adapts more slowly and scatters less.",
        )
