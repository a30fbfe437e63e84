"""Shares of observations inside their interval, and what they say about it, one sentence each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import xarray as xr

from bayestwin.assess import Gate
from bayestwin.assess.evidence import ENOUGH, band, possible, power
from bayestwin.report.notation import count, percent
from bayestwin.report.trial import Trial


class Share(NamedTuple):
    """One observation's coverage of the interval that counts; `side` is narrow, wide, inside or unseen."""

    name: str
    inside: int
    num: int
    distinct: int
    share: float
    lower: float
    upper: float
    side: str


def read_shares(whole: xr.Dataset, prob: float) -> Mapping[str, Share]:
    """By observation, its coverage of the interval of probability `prob`."""
    own = whole.sel(prob=prob, method="nearest")
    lower, upper = band(own)
    found = {}
    for place, name in enumerate(own["observation"].to_numpy()):
        share, low, high = (float(part[place]) for part in (own["coverage"], lower, upper))
        num = int(own["num"][place])
        side = "unseen" if num == 0 else "narrow" if not share >= low else "wide" if not share <= high else "inside"
        distinct = int(own["num_distinct"][place])
        inside = int(own["num_inside"][place])
        found[str(name)] = Share(str(name), inside, num, distinct, share, low, high, side)
    return found


def miss(share: Share, prob: float, what: str) -> str:
    """A sentence on intervals that are too narrow or too wide."""
    word = "narrow" if share.side == "narrow" else "wide"
    return (
        f"Intervals of {share.name} are too {word}: {share.inside:,} of {share.num:,} {what} inside the "
        f"{percent(prob)} interval ({percent(share.share, 1)}; {_expected(share)} would do)."
    )


def holds(shares: Mapping[str, Share], what: str, prob: float) -> list[str]:
    """Sentences on intervals that keep their promise, as far as there is enough to tell."""
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval "
        f"({percent(share.share, 1)}; {_expected(share)} would do)."
        for name, share in shares.items()
        if share.side == "inside" and power(share.distinct, prob) >= ENOUGH
    ]


def too_few(shares: Mapping[str, Share], what: str, prob: float) -> list[str]:
    """Sentences on counts that neither confirm nor contradict the promise."""
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval, too few to tell."
        for name, share in shares.items()
        if share.side == "inside" and power(share.distinct, prob) < ENOUGH
    ]


def other_levels(whole: xr.Dataset, prob: float) -> list[str]:
    """Sentences on the intervals of other probabilities, where that of `prob` is not what misses."""
    sentences = []
    counted = float(whole["prob"].sel(prob=prob, method="nearest"))
    for name in whole["observation"].to_numpy():
        own = whole.sel(observation=name)
        if not bool(own["within_band"].sel(prob=counted)):
            continue
        off = [float(p) for p in own["prob"].to_numpy() if not bool(own["within_band"].sel(prob=p))]
        if off:
            listed = ", ".join(
                f"{percent(float(own['coverage'].sel(prob=p)))} inside that of {percent(p)}" for p in off
            )
            sentences.append(f"Other intervals of {name} are off, held out: {listed}.")
    return sentences


def basis(
    whole: xr.Dataset, trial: Trial, ours: Mapping[str, Share], theirs: Mapping[str, Share], prob: float
) -> list[str]:
    """How much can be told from so many observations."""
    sentences = []
    for name, share in ours.items():
        if not share.num:
            continue
        low, high = possible(share.inside, share.num)
        chance = power(share.distinct, prob)
        sentences.append(
            f"{name}: {count(share.num, 'held-out observation')}. So many do not exclude a true coverage from "
            f"{percent(low)} to {percent(high)}; intervals that miss twice as often as promised would have been "
            f"noticed with a chance of {percent(chance)}."
        )
    if trial.evidence is not None:
        origins = trial.planned - len(trial.failures) - trial.unreached
        listed = ", ".join(
            f"{one.num:,} forecasts of {one.distinct:,} observations of {n}" for n, one in theirs.items()
        )
        sentences.append(f"Backtest: {count(origins, 'origin')}, {listed}.")
    sentences.append(
        f"Bands have a probability of {percent(float(whole.attrs['level']))} if observations are right or wrong "
        "independently of each other. Errors of a time series rarely are: then the same numbers tell less."
    )
    return sentences


def of_which(share: Share, shares: Sequence[Share]) -> str:
    """Of which observation, where there are several."""
    return f" of {share.name}" if len(shares) > 1 else ""


def gate_names(gates: Sequence[Gate]) -> str:
    """Names of gates, as a list in a sentence."""
    return ", ".join(gate.name for gate in gates)


def _expected(share: Share) -> str:
    return f"{percent(share.lower)} to {percent(share.upper)}"
