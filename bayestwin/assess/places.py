"""Horizons and regimes in words, and those at which intervals are too narrow."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import percent, short, span_for, unit_text
from bayestwin.assess.evidence import Evidence, band

HORIZON = "horizon"

WHERE = ("held out", "in the backtest")
"""Both kinds of forecasts, as sentences call them."""


class Place(NamedTuple):
    """Groups of one kind in which intervals of one observation are too narrow: a whole sentence, and a short one."""

    sentence: str
    short: str
    observation: str
    share: float


def narrow_places(
    held_out: Evidence, backtest: Evidence | None, prob: float, time_unit: str, known: Collection[tuple[str, str]]
) -> list[Place]:
    """Where the interval of probability `prob` covers less than its band, the worst first.

    Args:
        held_out: What was held out.
        backtest: The backtest.
        prob: Nominal probability.
        time_unit: Unit of the horizons.
        known: Kinds of forecasts, as in `WHERE`, and observations whose intervals are too narrow on the whole: where
            they are so most is then told by bands of groups alone.
    """
    found = []
    for evidence, where in zip((held_out, backtest), WHERE, strict=True):
        if evidence is None:
            continue
        for dim, groups in evidence.by.items():
            own = groups.sel(prob=prob, method="nearest")
            names = group_names(groups, dim, time_unit)
            for name in own["observation"].to_numpy():
                one = own.sel(observation=name)
                least = one["band_lower"] if (where, str(name)) in known else band(one)[0]
                found += _place(one, least.to_numpy(), dim, names, str(name), where, time_unit)
    return sorted(found, key=lambda place: place.share)


def group_names(groups: xr.Dataset, dim: str, time_unit: str) -> list[str]:
    """What each group is called: `30 to 60 h`, `0 to 850 W`, or its label."""
    if f"{dim}_from" not in groups.coords:
        return [_label(label, groups[dim].attrs.get("units", "")) for label in groups[dim].to_numpy()]
    ends = zip(groups[f"{dim}_from"].to_numpy(), groups[f"{dim}_to"].to_numpy(), strict=True)
    if dim == HORIZON:
        span = span_for(float(groups[f"{dim}_to"].max()), time_unit)
        scaled = [(short(float(low) * span.factor), short(float(high) * span.factor)) for low, high in ends]
        return [f"{low} to {high} {span.unit}" for low, high in scaled]
    unit = unit_text(groups[dim].attrs.get("units", ""))
    return [f"{short(float(low))} to {short(float(high))} {unit}".strip() for low, high in ends]


def _place(
    own: xr.Dataset, least: np.ndarray, dim: str, names: list[str], observation: str, where: str, time_unit: str
) -> list[Place]:
    """At most one: the groups of one observation that cover less than `least`."""
    share, seen = own["coverage"].to_numpy(), own["num"].to_numpy() > 0
    low = seen & ~(share >= least)
    if not low.any():
        return []
    bad = np.flatnonzero(low)
    words = _span(own, dim, names, bad, seen, time_unit)
    covered = own["num_inside"].to_numpy()[bad].sum() / own["num"].to_numpy()[bad].sum()
    prob = percent(float(own["prob"]))
    sentence = (
        f"Intervals of {observation} are too narrow {words} ({where}): {percent(covered)} inside the {prob} interval."
    )
    short = f"those of {observation} are too narrow {words} ({where}, {percent(covered)} inside)"
    return [Place(sentence, short, observation, float(covered))]


def _span(own: xr.Dataset, dim: str, names: list[str], bad: np.ndarray, seen: np.ndarray, time_unit: str) -> str:
    if dim == HORIZON and f"{dim}_from" in own.coords:
        if len(bad) == seen.sum():
            return "at every horizon"
        if bad[0] > 0 and set(np.flatnonzero(seen[bad[0] :]) + bad[0]) == set(bad):
            span = span_for(float(own[f"{dim}_to"].max()), time_unit)
            return f"beyond {short(float(own[f'{dim}_from'][bad[0]]) * span.factor)} {span.unit} ahead"
        return "at horizons of " + " and ".join(names[place] for place in bad)
    if len(bad) == seen.sum() and len(bad) > 1:
        return f"in every group by {dim}"
    return f"where {dim} is " + " or ".join(names[place] for place in bad)


def _label(label: object, unit: str) -> str:
    text = short(float(label)) if isinstance(label, float | int | np.floating | np.integer) else str(label)
    return f"{text} {unit_text(unit)}".strip()
