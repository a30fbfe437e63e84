"""Shares of observations inside their interval, and what they say about it, one sentence each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import xarray as xr

from bayestwin._base.wording import count, percent
from bayestwin.assess.evidence import ENOUGH, LEVEL, band, possible, power, twice
from bayestwin.assess.gates import Gate
from bayestwin.assess.trial import Trial


class Share(NamedTuple):
    """One observation's coverage of the interval that counts.

    Attributes:
        side: narrow, wide, inside or unseen, by the band of all that the verdict compares.
        told: How many independent observations they are taken for.
        twice: Whether they miss at least twice as often as promised, beyond chance.
        where: Of which forecasts, in words.
    """

    name: str
    inside: int
    num: int
    distinct: int
    share: float
    lower: float
    upper: float
    side: str
    told: float
    twice: bool
    where: str

    @property
    def bad(self) -> bool:
        """Whether intervals are too narrow by any of both."""
        return self.twice or self.side == "narrow"


def read_shares(whole: xr.Dataset, prob: float, where: str, compared: int) -> Mapping[str, Share]:
    """By observation, its coverage of the interval of probability `prob`, one of so many shares that are `compared`."""
    own = whole.sel(prob=prob, method="nearest")
    lower, upper = band(own)
    missed = twice(own, compared).to_numpy()
    found = {}
    for place, name in enumerate(own["observation"].to_numpy()):
        share, low, high = (float(part[place]) for part in (own["coverage"], lower, upper))
        num = int(own["num"][place])
        side = "unseen" if num == 0 else "narrow" if not share >= low else "wide" if not share <= high else "inside"
        distinct = int(own["num_distinct"][place])
        inside = int(own["num_inside"][place])
        told = float(own["told"][place])
        found[str(name)] = Share(
            str(name), inside, num, distinct, share, low, high, side, told, bool(missed[place]), where
        )
    return found


def miss(share: Share, prob: float, what: str) -> str:
    """A sentence on intervals that are too narrow or too wide."""
    word = "narrow" if share.bad else "wide"
    much = ", which miss at least twice as often as promised" if share.twice else ""
    return (
        f"Intervals of {share.name} are too {word}: {share.inside:,} of {share.num:,} {what} inside the "
        f"{percent(prob)} interval ({percent(share.share, 1)}; {_expected(share)} would do){much}."
    )


def holds(shares: Mapping[str, Share], what: str, prob: float) -> list[str]:
    """Sentences on intervals that keep their promise, as far as there is enough to tell."""
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval "
        f"({percent(share.share, 1)}; {_expected(share)} would do)."
        for name, share in shares.items()
        if share.side == "inside" and not share.twice and power(share.told, prob) >= ENOUGH
    ]


def too_few(shares: Mapping[str, Share], what: str, prob: float) -> list[str]:
    """Sentences on counts that neither confirm nor contradict the promise."""
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval, too few to tell"
        f"{_worth(share)}."
        for name, share in shares.items()
        if share.side == "inside" and not share.twice and power(share.told, prob) < ENOUGH
    ]


def other_levels(whole: xr.Dataset, prob: float) -> list[str]:
    """Sentences on the intervals of other probabilities, where that of `prob` is not what misses."""
    sentences = []
    counted = float(whole["prob"].sel(prob=prob, method="nearest"))
    for name in whole["observation"].to_numpy():
        own = whole.sel(observation=name)
        within = own["within_joint_band"]
        if not bool(within.sel(prob=counted)):
            continue
        off = [float(p) for p in own["prob"].to_numpy() if not bool(within.sel(prob=p))]
        if off:
            listed = ", ".join(
                f"{percent(float(own['coverage'].sel(prob=p)))} inside that of {percent(p)}" for p in off
            )
            sentences.append(f"Other intervals of {name} are off, held out: {listed}.")
    return sentences


def basis(trial: Trial, ours: Mapping[str, Share], theirs: Mapping[str, Share], prob: float) -> list[str]:
    """How much can be told from so many observations."""
    sentences = []
    for name, share in ours.items():
        if not share.num:
            continue
        low, high = possible(share.inside, share.num)
        chance = power(share.told, prob)
        sentences.append(
            f"{name}: {count(share.num, 'held-out observation')}{_worth(share)}. So many do not exclude a true "
            f"coverage from {percent(low)} to {percent(high)}; intervals that miss twice as often as promised would "
            f"have been noticed with a chance of {percent(chance)}."
        )
    if trial.evidence is not None:
        origins = trial.planned - len(trial.failures) - trial.unreached
        listed = ", ".join(
            f"{one.num:,} forecasts of {one.distinct:,} observations of {n}" for n, one in theirs.items()
        )
        sentences.append(f"Backtest: {count(origins, 'origin')}, {listed}.")
    sentences.append(
        f"If intervals hold, all that is compared here lies inside its band with a probability of {percent(LEVEL)}: "
        "bands are as wide as it takes for that, and allow for errors that follow each other."
    )
    return sentences


def of_which(share: Share, shares: Sequence[Share]) -> str:
    """Of which observation, where there are several."""
    return f" of {share.name}" if len(shares) > 1 else ""


def gate_names(gates: Sequence[Gate]) -> str:
    """Names of gates, as a list in a sentence."""
    return ", ".join(gate.name for gate in gates)


def _worth(share: Share) -> str:
    if not share.told < share.distinct:
        return ""
    return f", whose errors follow each other and are worth about {count(max(round(share.told), 1), 'independent one')}"


def _expected(share: Share) -> str:
    """The band, with a decimal where the share would else look as if it lay at its end."""
    ends = (share.lower, share.upper)
    close = any(round(100 * share.share) == round(100 * end) for end in ends)
    lower, upper = (percent(end, int(close)) for end in ends)
    return f"{lower} to {upper}"
