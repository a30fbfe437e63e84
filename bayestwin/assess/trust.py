"""How far intervals can be trusted, in plain words: what held, where it did not, and how much data that rests on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bayestwin._base.wording import count, percent
from bayestwin.assess import places
from bayestwin.assess.evidence import ENOUGH, Evidence, power
from bayestwin.assess.gates import Gate, failed
from bayestwin.assess.trial import Trial, origin_sentences
from bayestwin.assess.trust_words import (
    Share,
    basis,
    gate_names,
    holds,
    miss,
    of_which,
    other_levels,
    read_shares,
    too_few,
)


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

    They must not be where a gate of the posterior failed; where the interval of probability `prob` of any observation
    misses at least twice as often as promised, held out or in the backtest, beyond what chance allows; where it covers
    less of what was held out than its band; or where what was held out is too little to tell and it does so in
    the backtest. Too little is what would most likely not show intervals that miss twice as often as promised.

    Bands are those in which all that is compared lies together, see `evidence.together`.

    Args:
        gates: Those of the posterior.
        held_out: What was held out, in groups named `horizon` or as the regimes are, with joint bands.
        trial: The backtest, likewise.
        prob: Probability of the interval that counts.
        interrupted: Whether sampling was.
        doubts: Other findings against the forecast, in sentences; they make no failure.
        unchecked: What was not looked at, in sentences.
        time_unit: Unit of the horizons.
    """
    bad = failed(gates)
    tables = [one.whole for one in (held_out, trial.evidence) if one is not None]
    compared = sum(table.sizes["observation"] for table in tables)
    ours = read_shares(held_out.whole, prob, places.WHERE[0], compared)
    theirs = {} if trial.evidence is None else read_shares(trial.evidence.whole, prob, places.WHERE[1], compared)
    few = {name: share for name, share in ours.items() if power(share.told, prob) < ENOUGH}
    narrow = [share for share in ours.values() if share.bad]
    short = [one for one in theirs.values() if one.bad]
    damning = sorted([*narrow, *(one for one in short if one.twice or one.name in few)], key=lambda share: share.share)
    unsure = [
        share
        for name, share in few.items()
        if power(share.told + (theirs[name].told if name in theirs else 0), prob) < ENOUGH
    ]
    known = {(share.where, share.name) for share in (*narrow, *short)}
    where = places.narrow_places(held_out, trial.evidence, prob, time_unit, known)
    wide = [share for share in ours.values() if share.side == "wide"]
    limits = [
        *([f"{count(len(bad), 'gate')} of the posterior failed ({gate_names(bad)}): see Gates."] if bad else []),
        *(["Sampling was interrupted: the posterior holds only the draws taken until then."] if interrupted else []),
        *(miss(share, prob, "held-out observations") for share in (*narrow, *wide)),
        *(
            f"{share.name} was never observed in what was held out."
            for share in ours.values()
            if share.side == "unseen"
        ),
        *(miss(one, prob, "forecasts of the backtest") for one in theirs.values() if one.bad or one.side == "wide"),
        *too_few(ours, "held-out observations", prob),
        *too_few(theirs, "forecasts of the backtest", prob),
        *(place.sentence for place in where),
        *other_levels(held_out.whole, prob),
        *origin_sentences(trial),
        *doubts,
    ]
    warned = [gate for gate in gates if gate.severity == "warn" and not gate.passed]
    if warned:
        limits.append(f"{count(len(warned), 'gate')} of the posterior warned ({gate_names(warned)}): see Gates.")
    if not gates:
        limits.append("Nothing is known of the posterior: there are no gates.")
    fail = bool(bad or damning or interrupted)
    found = _Found(bad, interrupted, damning, short, unsure, where, wide, list(ours.values()), bool(limits))
    return Trust(
        "fail" if fail else "warn" if limits or unsure else "pass",
        _headline(found, prob),
        tuple(holds(ours, "held-out observations", prob) + holds(theirs, "forecasts of the backtest", prob)),
        tuple(limits),
        tuple(basis(trial, ours, theirs, prob)),
        tuple(unchecked),
    )


def as_plain(found: Trust) -> dict[str, Any]:
    """A verdict for JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found._asdict().items()}


class _Found(NamedTuple):
    """What a headline is made from, what comes first of it said first."""

    bad: Sequence[Gate]
    interrupted: bool
    damning: Sequence[Share]
    short: Sequence[Share]
    unsure: Sequence[Share]
    where: Sequence[places.Place]
    wide: Sequence[Share]
    ours: Sequence[Share]
    limits: bool


def _headline(found: _Found, prob: float) -> str:
    promised = f"{percent(prob)} interval"
    never = "Do not trust these intervals: "
    if found.interrupted:
        return f"{never}sampling was interrupted."
    if found.bad:
        gates = f"{count(len(found.bad), 'gate')} ({gate_names(found.bad)})"
        also = f" And {_held_only(found.damning, promised)}." if found.damning else ""
        return f"{never}the posterior that they come from failed {gates}.{also}"
    if found.damning:
        return f"{never}{_held_only(found.damning, promised)}."
    if found.short:
        worst = sorted(found.short, key=lambda share: share.share)
        return f"The {promised}s held in what was held out, and not in the backtest: {_held_only(worst, promised)}."
    if found.unsure:
        least = min(found.unsure, key=lambda share: share.told)
        return (
            f"Little can be told about these intervals: {count(least.num, 'held-out observation')} of {least.name} "
            f"{'is' if least.num == 1 else 'are'} too few to judge a {promised} by."
        )
    if found.where:
        first = {place.observation: place.short for place in reversed(found.where)}  # of each, the worst
        ordered = dict.fromkeys(place.observation for place in found.where)
        return f"The {promised}s hold on average, but not everywhere: {'; '.join(first[name] for name in ordered)}."
    if found.wide:
        widest = max(found.wide, key=lambda share: share.share)
        return (
            f"The {promised}s are on the safe side, and wider than need be: {percent(widest.share)} of {widest.name} "
            "lie inside."
        )
    worst = max(found.ours, key=lambda share: abs(share.share - prob))
    held = f"{worst.inside:,} of {worst.num:,} held-out observations{of_which(worst, found.ours)} inside"
    if found.limits:
        return f"The {promised}s held ({held}), with reservations."
    return f"The {promised}s can be trusted as far as was checked: {held}."


def _held_only(shares: Sequence[Share], promised: str) -> str:
    """The worst first, and all others that it concerns."""
    parts = [
        f"{'the ' + promised if place == 0 else 'that'} of {share.name} held only {percent(share.share, 1)} "
        f"{'of what was held out' if share.where == places.WHERE[0] else 'in the backtest'}"
        for place, share in enumerate(shares)
    ]
    return ", ".join(parts)
