"""How far intervals can be trusted, in plain words: what held, where it did not, and how much data that rests on.

Shares inside intervals, horizons and regimes become sentences here; `trust` makes one verdict of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, percent, short, span_for, unit_text
from bayestwin.assess.coverage import POWER, counts_as, kept
from bayestwin.assess.evidence import LEVEL, Evidence, band, blunt, possible, twice
from bayestwin.assess.gates import Gate, failed
from bayestwin.density.bind import Experiments
from bayestwin.telemetry import Telemetry

# A backtest, and what became of its origins.


class BacktestTrial(NamedTuple):
    """A backtest, and what became of its origins.

    Attributes:
        evidence: Its forecasts held against what came; None where no origin gave any, or none were asked.
        planned: Number of origins that were asked for.
        failures: Why origins have no forecast, in words, one for each.
        doubtful: Number of origins whose posterior failed a gate.
        unreached: Number of origins that Ctrl-C left out.
        gates: Names of the gates that any of them failed.
    """

    evidence: Evidence | None
    planned: int
    failures: Sequence[str] = ()
    doubtful: int = 0
    unreached: int = 0
    gates: Sequence[str] = ()


def origin_sentences(trial: BacktestTrial) -> list[str]:
    """What speaks against it: origins without a forecast, with a doubtful one, or left out."""
    sentences = []
    if trial.failures:
        first = trial.failures[0].split("\n")[0]
        sentences.append(
            f"{len(trial.failures)} of {count(trial.planned, 'origin')} of the backtest gave no forecast: calibrated "
            f"anew on less data, this twin does not always come out. The first: {first}"
        )
    if trial.doubtful:
        sentences.append(
            f"At {trial.doubtful} of {count(trial.planned, 'origin')} of the backtest the posterior failed a gate"
            f"{' (' + ', '.join(trial.gates) + ')' if trial.gates else ''}: forecasts there need not be what a careful "
            "calibration would say. Its table of origins says where. With few observations before the origin, let the "
            "first come later (`origins` in `[validate]`); else take `--method nuts`, or more `num_samples`."
        )
    if trial.unreached:
        sentences.append(
            f"The backtest was interrupted: {trial.unreached} of {count(trial.planned, 'origin')} are missing."
        )
    return sentences


# Shares of observations inside their interval, and what they say about it, one sentence each.


class Share(NamedTuple):
    """One observation's coverage of the interval that counts.

    Attributes:
        side: narrow, wide, inside or unseen, by the band of all that the verdict compares.
        told: How many independent observations they are worth.
        counted: As how many they count in bands: fewer where what they are worth is itself uncertain.
        twice: Whether they miss at least twice as often as promised, beyond chance.
        where: Of which forecasts, in words.
        kept: Whether they keep their promise, as the tables mark it; None where that cannot be told.
        possible: True coverages that are not excluded, by the same band.
        noticed: Intervals that hold no more would have been noticed; 0 where none would.
        blunt: Whether such as miss twice as often as promised would most likely not have been.
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
    counted: float
    twice: bool
    where: str
    kept: bool | None
    possible: tuple[float, float]
    noticed: float
    blunt: bool

    @property
    def bad(self) -> bool:
        """Whether intervals are too narrow by any of both."""
        return self.twice or self.side == "narrow"


def read_shares(whole: xr.Dataset, prob: float, where: str, compared: int) -> Mapping[str, Share]:
    """By observation, its coverage of the interval of probability `prob`, one of so many shares that are `compared`."""
    own = whole.sel(prob=prob, method="nearest")
    lower, upper = band(own)
    missed, weak, true = twice(own, compared).to_numpy(), blunt(own).to_numpy(), possible(own)
    counted = counts_as(own, own.attrs["joint_level"]).to_numpy()
    shares = {}
    for place, name in enumerate(own["observation"].to_numpy()):
        share, low, high = (float(part[place]) for part in (own["coverage"], lower, upper))
        num = int(own["num"][place])
        side = "unseen" if num == 0 else "narrow" if not share >= low else "wide" if not share <= high else "inside"
        distinct = int(own["num_distinct"][place])
        inside = int(own["num_inside"][place])
        told, noticed = float(own["told"][place]), float(own["joint_noticed"][place])
        ends = (float(true[0][place]), float(true[1][place]))
        shares[str(name)] = Share(
            str(name),
            inside,
            num,
            distinct,
            share,
            low,
            high,
            side,
            told,
            float(counted[place]),
            bool(missed[place]),
            where,
            kept(own.isel(observation=place)),
            ends,
            noticed,
            bool(weak[place]),
        )
    return shares


def _unseen(name: str, whole: xr.Dataset) -> str:
    if "failed" in whole and float(whole["failed"].sel(observation=name)) > 0:
        return f"No path could be solved to where {name} was observed in what was held out."
    return f"{name} was never observed in what was held out."


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
        if share.kept and not share.twice
    ]


def too_few(shares: Mapping[str, Share], what: str, prob: float) -> list[str]:
    """Sentences on counts that neither confirm nor contradict the promise."""
    return [
        f"{name}: {share.inside:,} of {share.num:,} {what} inside the {percent(prob)} interval, too few to tell"
        f"{_worth(share)} ({percent(share.share, 1)}; {_expected(share)} would do)."
        for name, share in shares.items()
        if share.num and share.kept is None and not share.twice
    ]


def too_blunt(shares: Mapping[str, Share], what: str, prob: float) -> list[str]:
    """Sentences on counts that confirm the promise, and would have done so of intervals that miss far too often."""
    return [
        f"{name}: {count(share.num, what)}{_worth(share)} would most likely not have shown it if the {percent(prob)} "
        "interval missed twice as often as promised."
        for name, share in shares.items()
        if share.kept and share.blunt
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


def basis(trial: BacktestTrial, ours: Mapping[str, Share], theirs: Mapping[str, Share], prob: float) -> list[str]:
    """How much can be told from so many observations."""
    sentences = [
        f"{name}: {count(share.num, 'held-out observation')}{_worth(share)}. {_open(share, prob)}"
        for name, share in ours.items()
        if share.num
    ]
    if trial.evidence is not None:
        origins = trial.planned - len(trial.failures) - trial.unreached
        sentences.append(f"Backtest: {count(origins, 'origin')}.")
        sentences += [
            f"{name}: {share.num:,} forecasts of {count(share.distinct, 'observation')}{_worth(share)}. "
            f"{_open(share, prob)}"
            for name, share in theirs.items()
            if share.num
        ]
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


def _open(share: Share, prob: float) -> str:
    """What so many leave open, by the band that marks go by, and what they would have shown."""
    low, high = share.possible
    digits = int(any(round(100 * end) == round(100 * prob) for end in share.possible))
    told = (
        f"intervals that hold {percent(share.noticed)} or less would have been noticed (with a chance of "
        f"{percent(POWER)})"
        if share.noticed >= 0.01
        else "no interval, whatever it holds, would have been noticed"
    )
    return (
        f"So many do not exclude that the {percent(prob)} interval truly holds from {percent(low, digits)} to "
        f"{percent(high, digits)}; {told}."
    )


def _worth(share: Share) -> str:
    if not share.told < 0.9 * share.distinct:
        return ""
    told, counted = (max(round(one), 1) for one in (share.told, share.counted))
    least = f", and may be worth no more than {counted}" if counted < 0.75 * told else ""  # the band is that of so many
    return f", whose errors follow each other and are worth about {count(told, 'independent one')}{least}"


def _expected(share: Share) -> str:
    """The band, with a decimal where the share would else look as if it lay at its end."""
    ends = (share.lower, share.upper)
    close = any(round(100 * share.share) == round(100 * end) for end in ends)
    lower, upper = (percent(end, int(close)) for end in ends)
    return f"{lower} to {upper}"


# Horizons and regimes in words, and those at which intervals are too narrow.

HORIZON = "horizon"

WHERE = ("held out", "in the backtest")
"""Both kinds of forecasts, as sentences call them."""


class Place(NamedTuple):
    """Groups of one kind in which intervals of one observation are too narrow: a whole sentence, and a short one."""

    sentence: str
    short: str
    observation: str
    share: float


def narrow_places(held_out: Evidence, backtest: Evidence | None, prob: float, time_unit: str) -> list[Place]:
    """Where the interval of probability `prob` covers less than its band, the worst first: what tables mark with ✗."""
    found = []
    for evidence, where in zip((held_out, backtest), WHERE, strict=True):
        if evidence is None:
            continue
        for dim, groups in evidence.by.items():
            own = groups.sel(prob=prob, method="nearest")
            names = group_names(groups, dim, time_unit)
            for name in own["observation"].to_numpy():
                one = own.sel(observation=name)
                found += _place(one, band(one)[0].to_numpy(), dim, names, str(name), where, time_unit)
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
    trial: BacktestTrial,
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
    the backtest. Too little is what would most likely not show intervals that miss twice as often as promised. Whether
    promises were kept is said as the tables mark it, by `coverage.kept`.

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
    ours = read_shares(held_out.whole, prob, WHERE[0], compared)
    theirs = {} if trial.evidence is None else read_shares(trial.evidence.whole, prob, WHERE[1], compared)
    few = {name for name, share in ours.items() if share.blunt or share.kept is None}
    narrow = [share for share in ours.values() if share.bad]
    short = [one for one in theirs.values() if one.bad]
    damning = sorted([*narrow, *(one for one in short if one.twice or one.name in few)], key=lambda share: share.share)
    unsure = [share for share in ours.values() if share.kept is None]
    where = narrow_places(held_out, trial.evidence, prob, time_unit)
    wide = [share for share in ours.values() if share.side == "wide"]
    limits = [
        *([f"{count(len(bad), 'gate')} of the posterior failed ({gate_names(bad)}): see Gates."] if bad else []),
        *(["Sampling was interrupted: the posterior holds only the draws taken until then."] if interrupted else []),
        *(miss(share, prob, "held-out observations") for share in (*narrow, *wide)),
        *(_unseen(share.name, held_out.whole) for share in ours.values() if share.side == "unseen"),
        *(miss(one, prob, "forecasts of the backtest") for one in theirs.values() if one.bad or one.side == "wide"),
        *too_few(ours, "held-out observations", prob),
        *too_few(theirs, "forecasts of the backtest", prob),
        *too_blunt({n: one for n, one in ours.items() if not _shown(theirs.get(n))}, "held-out observation", prob),
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
    found = _Found(bad, interrupted, damning, short, unsure, where, wide, list(ours.values()), theirs, bool(limits))
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
    where: Sequence[Place]
    wide: Sequence[Share]
    ours: Sequence[Share]
    theirs: Mapping[str, Share]
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
        return _unsure(found, promised)
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


def _unsure(found: _Found, promised: str) -> str:
    """Where what was held out cannot tell: whether the backtest can."""
    least = min(found.unsure, key=lambda share: share.told if share.num else 0.0)
    few = (
        f"{count(least.num, 'held-out observation')} of {least.name} {'is' if least.num == 1 else 'are'} too few to "
        f"judge a {promised} by"
    )
    again = [found.theirs.get(share.name) for share in found.unsure]
    held = [share for share in again if share is not None and share.kept]
    if len(held) < len(again):
        return f"Little can be told about these intervals: {few}."
    listed = ", ".join(f"{one.inside:,} of {one.num:,}{of_which(one, held)} inside" for one in held)
    return f"In the backtest the {promised}s held ({listed}), but {few}."


def _shown(share: Share | None) -> bool:
    """Whether intervals that miss twice as often as promised would most likely have been noticed."""
    return share is not None and bool(share.kept) and not share.blunt


def _held_only(shares: Sequence[Share], promised: str) -> str:
    """The worst first, and all others that it concerns."""
    parts = [
        f"{'the ' + promised if place == 0 else 'that'} of {share.name} held only {percent(share.share, 1)} "
        f"{'of what was held out' if share.where == WHERE[0] else 'in the backtest'}"
        for place, share in enumerate(shares)
    ]
    return ", ".join(parts)


# What a validation found, as its page takes it.

HELD_OUT, BACKTEST = "held out", "backtest"
"""The two kinds of forecasts that are judged, as they are called on the page."""


class Validated(NamedTuple):
    """One calibrated run, and all that was held against it.

    Attributes:
        posterior: What was calibrated.
        predictions: Of what was held out.
        telemetry: What was held out; of a fleet of each asset, by its name.
        gates: The verdict on the posterior.
        prob: Nominal probability of the interval that counts.
        held_out: What was held out, judged.
        trial: The backtest, judged.
        backtest: What `bt.backtest` returned; None where there is none.
        intervals: Of the held-out times, as `bt.intervals` gives them; with `kind` where there are conformal ones.
        both: Raw and conformal intervals, judged, by `HELD_OUT` and `BACKTEST`; empty without a backtest.
        correction: What conformal intervals are made from; None without a backtest.
        pit: Ranks of the observations, likewise.
        scores: Errors and skill, likewise.
        period: After which observations repeat themselves, for a simple method; None for none.
        settings: How the backtest was made, by name.
        trust: The verdict.
        run: Name of the run.
        job: File of its job, as far as it is known.
    """

    posterior: xr.DataTree
    predictions: xr.DataTree
    telemetry: Telemetry | Experiments
    gates: Sequence[Gate]
    prob: float
    held_out: Evidence
    trial: BacktestTrial
    backtest: xr.DataTree | None
    intervals: xr.Dataset
    both: Mapping[str, Evidence]
    correction: xr.Dataset | None
    pit: Mapping[str, xr.Dataset]
    scores: Mapping[str, xr.Dataset]
    period: float | None
    settings: Mapping[str, Any]
    trust: Trust
    run: str = ""
    job: str = ""

    @property
    def time_unit(self) -> str:
        """The twin's unit of time."""
        return str(self.posterior.attrs.get("time_unit", ""))

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        """Raw intervals, judged, by `HELD_OUT` and `BACKTEST`."""
        trial = self.trial.evidence
        return {HELD_OUT: self.held_out} | ({} if trial is None else {BACKTEST: trial})
