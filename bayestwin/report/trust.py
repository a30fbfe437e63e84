"""How far intervals can be trusted, in plain words: what held, where it did not, and how much data that rests on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin.assess import Gate, failed
from bayestwin.assess.evidence import ENOUGH, Evidence, band, possible, power
from bayestwin.report import places
from bayestwin.report.notation import count, percent


class Trial(NamedTuple):
    """A backtest, and what became of its origins.

    Attributes:
        evidence: Its forecasts held against what came; None where no origin gave any, or none were asked.
        planned: Number of origins that were asked for.
        failures: Why origins have no forecast, in words, one for each.
        doubtful: Number of origins whose posterior failed a gate.
        unreached: Number of origins that Ctrl-C left out.
    """

    evidence: Evidence | None
    planned: int
    failures: Sequence[str] = ()
    doubtful: int = 0
    unreached: int = 0


class Trust(NamedTuple):
    """The verdict.

    Attributes:
        status: `pass` where intervals may be trusted, `warn` where only in part or where little can be told, `fail`
            where they must not be.
        headline: One sentence.
        holds: What kept its promise, one sentence each.
        limits: Where intervals cannot be trusted, or what speaks against it.
        basis: How much data that rests on.
        unchecked: What was not looked at.
    """

    status: str
    headline: str
    holds: tuple[str, ...]
    limits: tuple[str, ...]
    basis: tuple[str, ...]
    unchecked: tuple[str, ...]


class _Share(NamedTuple):
    """One observation's coverage of the interval that counts; `side` is narrow, wide, inside or unseen."""

    name: str
    inside: int
    num: int
    distinct: int
    share: float
    lower: float
    upper: float
    side: str


def trust(
    gates: Sequence[Gate],
    held_out: Evidence,
    trial: Trial,
    *,
    prob: float,
    interrupted: bool = False,
    doubts: Sequence[str] = (),
    unchecked: Sequence[str] = (),
    time_unit: str = "",
) -> Trust:
    """Judge how far intervals can be trusted.

    They must not be where a gate of the posterior failed, where the interval of probability `prob` of any observation
    covers less of what was held out than its band, or where what was held out is too little to tell and it does so in
    the backtest. Too little is what would most likely not show intervals that miss twice as often as promised.

    Args:
        gates: Those of the posterior.
        held_out: What was held out, in groups named `horizon` or as the regimes are.
        trial: The backtest.
        prob: Probability of the interval that counts.
        interrupted: Whether sampling was.
        doubts: Other findings against the forecast, in sentences; they make no failure.
        unchecked: What was not looked at, in sentences.
        time_unit: Unit of the horizons.
    """
    bad = failed(gates)
    ours = _shares(held_out.whole, prob)
    theirs = {} if trial.evidence is None else _shares(trial.evidence.whole, prob)
    few = {name: share for name, share in ours.items() if power(share.distinct, prob) < ENOUGH}
    narrow = [share for share in ours.values() if share.side == "narrow"]
    slipped = [one for name, one in theirs.items() if one.side == "narrow" and name in few]
    unsure = [
        share
        for name, share in few.items()
        if power(share.distinct + (theirs[name].distinct if name in theirs else 0), prob) < ENOUGH
    ]
    where = places.narrow_places(held_out, trial.evidence, prob, time_unit)
    wide = [share for share in ours.values() if share.side == "wide"]
    limits = [
        *([f"{count(len(bad), 'gate')} of the posterior failed ({_names(bad)}): see Gates."] if bad else []),
        *(["Sampling was interrupted: the posterior holds only the draws taken until then."] if interrupted else []),
        *(_miss(share, prob, "held-out observations") for share in (*narrow, *wide)),
        *(
            f"{share.name} was never observed in what was held out."
            for share in ours.values()
            if share.side == "unseen"
        ),
        *(_miss(one, prob, "forecasts of the backtest") for one in theirs.values() if one.side in ("narrow", "wide")),
        *_little(ours, "held-out observations", prob),
        *_little(theirs, "forecasts of the backtest", prob),
        *(place.sentence for place in where),
        *_other_levels(held_out.whole, prob),
        *_origins(trial),
        *doubts,
    ]
    warned = [gate for gate in gates if gate.severity == "warn" and not gate.passed]
    if warned:
        limits.append(f"{count(len(warned), 'gate')} of the posterior warned ({_names(warned)}): see Gates.")
    if not gates:
        limits.append("Nothing is known of the posterior: there are no gates.")
    fail = bool(bad or narrow or slipped or interrupted)
    headline = _headline(bad, interrupted, narrow, slipped, unsure, where, wide, list(ours.values()), limits, prob)
    return Trust(
        "fail" if fail else "warn" if limits or unsure else "pass",
        headline,
        tuple(_holds(ours, "held-out observations", prob) + _holds(theirs, "forecasts of the backtest", prob)),
        tuple(limits),
        tuple(_basis(held_out.whole, trial, ours, theirs, prob)),
        tuple(unchecked),
    )


def as_plain(found: Trust) -> dict[str, Any]:
    """A verdict for JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found._asdict().items()}


def _shares(whole: xr.Dataset, prob: float) -> Mapping[str, _Share]:
    own = whole.sel(prob=prob, method="nearest")
    lower, upper = band(own)
    found = {}
    for place, name in enumerate(own["observation"].to_numpy()):
        share, low, high = (float(part[place]) for part in (own["coverage"], lower, upper))
        num = int(own["num"][place])
        side = "unseen" if num == 0 else "narrow" if not share >= low else "wide" if not share <= high else "inside"
        distinct = int(own["num_distinct"][place])
        inside = int(own["num_inside"][place])
        found[str(name)] = _Share(str(name), inside, num, distinct, share, low, high, side)
    return found


def _headline(
    bad: Sequence[Gate],
    interrupted: bool,
    narrow: Sequence[_Share],
    slipped: Sequence[_Share],
    unsure: Sequence[_Share],
    where: Sequence[places.Place],
    wide: Sequence[_Share],
    ours: Sequence[_Share],
    limits: Sequence[str],
    prob: float,
) -> str:
    promised = f"{percent(prob)} interval"
    never = "Do not trust these intervals: "
    if interrupted:
        return f"{never}sampling was interrupted."
    if bad:
        return f"{never}the posterior that they come from failed {count(len(bad), 'gate')} ({_names(bad)})."
    if narrow:
        worst = min(narrow, key=lambda share: share.share)
        return f"{never}the {promised} of {worst.name} held only {percent(worst.share)} of what was held out."
    if slipped:
        worst = min(slipped, key=lambda share: share.share)
        return (
            f"{never}the {promised} of {worst.name} held only {percent(worst.share)} in the backtest, and too little "
            "was held out to say otherwise."
        )
    if unsure:
        least = min(unsure, key=lambda share: share.distinct)
        return (
            f"Little can be told about these intervals: {count(least.num, 'held-out observation')} of {least.name} "
            f"{'is' if least.num == 1 else 'are'} too few to judge a {promised} by."
        )
    if where:
        return f"The {promised}s hold on average, but not everywhere: {where[0].short}."
    if wide:
        widest = max(wide, key=lambda share: share.share)
        return (
            f"The {promised}s are on the safe side, and wider than need be: {percent(widest.share)} of {widest.name} "
            "lie inside."
        )
    worst = max(ours, key=lambda share: abs(share.share - prob))
    held = f"{worst.inside:,} of {worst.num:,} held-out observations{_of(worst, ours)} inside"
    if limits:
        return f"The {promised}s held ({held}), with reservations."
    return f"The {promised}s can be trusted as far as was checked: {held}."


def _miss(share: _Share, prob: float, what: str) -> str:
    word = "narrow" if share.side == "narrow" else "wide"
    return (
        f"Intervals of {share.name} are too {word}: {share.inside:,} of {share.num:,} {what} inside the "
        f"{percent(prob)} interval ({percent(share.share, 1)}; {_expected(share)} would do)."
    )


def _little(shares: Mapping[str, _Share], what: str, prob: float) -> list[str]:
    """Sentences on counts that neither confirm nor contradict the promise."""
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval, too few to tell."
        for name, share in shares.items()
        if share.side == "inside" and power(share.distinct, prob) < ENOUGH
    ]


def _holds(shares: Mapping[str, _Share], what: str, prob: float) -> list[str]:
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval "
        f"({percent(share.share, 1)}; {_expected(share)} would do)."
        for name, share in shares.items()
        if share.side == "inside" and power(share.distinct, prob) >= ENOUGH
    ]


def _expected(share: _Share) -> str:
    return f"{percent(share.lower)} to {percent(share.upper)}"


def _other_levels(whole: xr.Dataset, prob: float) -> list[str]:
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


def _origins(trial: Trial) -> list[str]:
    sentences = []
    if trial.failures:
        first = trial.failures[0].split("\n")[0]
        sentences.append(
            f"{len(trial.failures)} of {count(trial.planned, 'origin')} of the backtest gave no forecast: calibrated "
            f"anew on less data, this twin does not always come out. The first: {first}"
        )
    if trial.doubtful:
        sentences.append(
            f"At {trial.doubtful} of {count(trial.planned, 'origin')} of the backtest the posterior failed a gate: its "
            "forecasts there need not be what a careful calibration would say."
        )
    if trial.unreached:
        sentences.append(
            f"The backtest was interrupted: {trial.unreached} of {count(trial.planned, 'origin')} are missing."
        )
    return sentences


def _basis(
    whole: xr.Dataset, trial: Trial, ours: Mapping[str, _Share], theirs: Mapping[str, _Share], prob: float
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


def _of(share: _Share, shares: Sequence[_Share]) -> str:
    return f" of {share.name}" if len(shares) > 1 else ""


def _names(gates: Sequence[Gate]) -> str:
    return ", ".join(gate.name for gate in gates)
