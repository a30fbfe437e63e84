"""A result in words with their numbers: what pictures show, the verdict, key figures, the starts of chains, the engine.

Also the table of where the uncertainty of predictions comes from.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, fixed, not_to_rely_on, number, percent, scale_for
from bayestwin.assess import Gate, failed
from bayestwin.assess.coverage import kept
from bayestwin.assess.gates import record
from bayestwin.assess.recorded import ridges_of
from bayestwin.inference.method import EXTENDED
from bayestwin.report.reading import PROB, PROBS, Period, Quantity, group

MOST = 12
"""Things that one sentence tells of; the others are counted."""


def listed(texts: Iterable[str], most: int = MOST) -> str:
    """Texts one after the other, those beyond `most` only counted."""
    held = list(texts)
    more = len(held) - most
    return "; ".join(held[:most]) + (f"; and {more} more" if more > 0 else "")


def reach(values: np.ndarray, unit: str) -> str:
    """Smallest and largest of values in `unit`: `from 16.2 to 29.3 °C`."""
    seen = np.asarray(values, dtype=float)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return "never known"
    scale = scale_for(float(np.abs(seen).max()), unit)
    low, high = (number(scale.factor * float(end)) for end in (seen.min(), seen.max()))
    return f"from {low} to {high} {scale.unit}".rstrip()


def size(value: float, unit: str) -> str:
    """A value with its unit."""
    scale = scale_for(value, unit)
    return f"{number(scale.factor * value)} {scale.unit}".rstrip()


def over_time(names: Sequence[str], shown: Iterable[tuple[Period, xr.Dataset | None]], *, observed: bool) -> str:
    """Observations, medians and mean widths of intervals, by name and stretch of time."""
    held = list(shown)
    return listed(_stretch(name, part, bands, observed=observed) for name in names for part, bands in held)


def intervals_of(quantities: Sequence[Quantity]) -> str:
    """Posterior interval of each quantity."""
    prob = percent(PROB)
    return f"{prob} equal-tailed intervals: " + listed(
        f"{q.name} {_between(q.lower, q.upper)} {q.scale.unit}".rstrip() for q in quantities
    )


def correlations(quantities: Sequence[Quantity]) -> str:
    """The strongest correlations between quantities."""
    between = np.atleast_2d(np.corrcoef([quantity.draws.ravel() for quantity in quantities]))
    rows, columns = np.triu_indices(len(quantities), 1)
    order = np.argsort(-np.abs(between[rows, columns]), kind="stable")[:6]
    pairs = [(int(rows[place]), int(columns[place])) for place in order]
    told = (f"{quantities[i].name} and {quantities[j].name} {fixed(float(between[i, j]), 2)}" for i, j in pairs)
    return "correlations: " + listed(told)


def covered(found: xr.Dataset) -> str:
    """Coverage by nominal probability of one observation's intervals, `found` being (prob)."""
    told = []
    for place, prob in enumerate(found["prob"].to_numpy()):
        one = found.isel(prob=place)
        mark = {True: "", False: " (✗)", None: " (cannot be told)"}[kept(one)]
        told.append(f"{percent(float(one['coverage']), 1)} inside that of {percent(float(prob))}{mark}")
    return f"{', '.join(told)}, of {count(int(found['num'].max()), 'observation')}"


def _stretch(name: str, part: Period, bands: xr.Dataset | None, *, observed: bool) -> str:
    told = []
    unit = ""
    if bands is not None and name in bands["observation"]:
        own = bands.sel(observation=name)
        unit = str(own["units"].item()) if "units" in own.coords else ""
        told.append(f"median {reach(own['median'].to_numpy(), unit)}")
        ends = own.sel(prob=PROBS[1])
        wide = (ends["upper"] - ends["lower"]).to_numpy()
        wide = wide[np.isfinite(wide)]
        if wide.size:
            told.append(f"{percent(PROBS[1])} interval {size(float(wide.mean()), unit)} wide on average")
    if observed and name in part.observed:
        values = part.observed[name].to_numpy().astype(float)
        unit = unit or str(part.observed[name].attrs.get("units", ""))
        told.insert(0, f"{count(int(np.isfinite(values).sum()), 'observation')} {reach(values, unit)}")
    return f"{name}, {part.label}: {', '.join(told) or 'nothing'}"


def _between(low: float, high: float) -> str:
    return f"{number(low, 4)} to {number(high, 4)}"


# The verdict in plain words: what stands first in the report.


class Verdict(NamedTuple):
    """What a reader must know first.

    Attributes:
        status: `pass`, `warn` or `fail`.
        headline: One sentence.
        lines: What else matters, one sentence each.
        gates: Those that failed, then those that warn.
    """

    status: str
    headline: str
    lines: tuple[str, ...]
    gates: tuple[Gate, ...]


def verdict(
    gates: Sequence[Gate], covered: xr.Dataset | None, *, interrupted: bool, other_draws: bool = False
) -> Verdict:
    """Judge a result from its gates, and from the coverage on held-out telemetry where there is one.

    Args:
        gates: Those of the posterior.
        covered: Coverage of what was held out; None where nothing was predicted.
        interrupted: Whether sampling was.
        other_draws: Whether the forecast was made from other draws.
    """
    bad = failed(gates)
    warned = tuple(gate for gate in gates if gate.severity == "warn" and not gate.passed)
    misses = [] if covered is None else _misses(covered)
    open_ = [] if covered is None or misses else _untold(covered)
    lines = ["Sampling was interrupted: the result holds only the draws taken until then."] if interrupted else []
    if other_draws:
        lines.append(
            "The forecast was made from other draws than those that were calibrated: what is said of its intervals is "
            "not said of this posterior."
        )
    if covered is None:
        lines.append("Whether intervals cover as promised is not known: no held-out telemetry was predicted.")
    elif misses:
        lines.append(f"On held-out telemetry, {'; '.join(misses)}.")
    elif open_:
        lines.append(
            f"On held-out telemetry no interval leaves its band. Whether they cover as promised: {'; '.join(open_)}."
        )
    else:
        lines.append(f"On held-out telemetry, all intervals cover as promised ({_observed(covered)}).")
    doubtful = warned or misses or open_ or interrupted or other_draws or not gates
    status = "fail" if bad else "warn" if doubtful else "pass"
    doubt = "not all intervals cover as promised" if misses else CANNOT_BE_TOLD if open_ else ""
    return Verdict(status, _headline(gates, bad, warned, doubt), tuple(lines), bad + warned)


CANNOT_BE_TOLD = "too little was held out to tell whether all intervals cover as promised"


def interrupted(found: xr.DataTree | xr.Dataset) -> bool:
    """Whether a result was cut short: a truth value in memory, text in a file that was opened without `load`."""
    return str(found.attrs.get("interrupted", False)).lower() in ("true", "1")


def _headline(gates: Sequence[Gate], bad: Sequence[Gate], warned: Sequence[Gate], doubt: str) -> str:
    names = ", ".join(gate.name for gate in [*bad, *warned])
    if bad:
        others = f", {len(warned)} warned" if warned else ""
        return not_to_rely_on("this result", f"{len(bad)} of {count(len(gates), 'gate')} failed{others} ({names})")
    if not gates:
        return "Nothing was judged: there are no gates."
    if warned:
        return f"No gate failed, but {len(warned)} of {len(gates)} warned ({names})."
    if doubt:
        return f"All {len(gates)} gates passed, but {doubt}."
    return f"All {len(gates)} gates passed."


def _misses(covered: xr.Dataset) -> list[str]:
    """Which intervals do not keep their promise, one text for each observation that has some."""
    texts = []
    for name in covered["observation"].to_numpy():
        own = covered.sel(observation=name)
        probs = own["prob"].to_numpy()[~own["within_joint_band"].to_numpy()]
        shares = [float(own["coverage"].sel(prob=prob)) for prob in probs]
        if not shares:
            continue
        if not np.isfinite(shares).all():
            gone = "failed" in covered and float(own["failed"]) > 0
            why = "no path could be solved to where it was observed" if gone else "was never observed"
            texts.append(f"{name}{':' if gone else ''} {why}, and its intervals cannot be judged")
            continue
        above = [share > float(own["joint_upper"].sel(prob=prob)) for share, prob in zip(shares, probs, strict=True)]
        word = "too wide" if all(above) else "off" if any(above) else "too narrow"
        pairs = zip(probs, shares, strict=True)
        found = ", ".join(f"{percent(share)} inside the {percent(float(prob))} interval" for prob, share in pairs)
        texts.append(f"intervals of {name} are {word}: {found}")
    return texts


def _observed(covered: xr.Dataset) -> str:
    return ", ".join(f"{name}: {_worth(covered.sel(observation=name))}" for name in covered["observation"].to_numpy())


def _worth(own: xr.Dataset) -> str:
    """How many observations, and how many independent ones they are worth where errors follow each other."""
    num = int(own["num"].max())
    worth = own["num_effective"].to_numpy() if "num_effective" in own else np.array([float(num)])
    if not np.isfinite(worth).all() or worth.min() > num / 2:
        return count(num, "observation")
    return f"{count(num, 'observation')}, worth about {max(round(float(worth.min())), 1):,} independent of each other"


def _untold(covered: xr.Dataset) -> list[str]:
    """Of which intervals too little was held out to tell, one text for each observation; none where all can be told."""
    texts, some = [], False
    for name in covered["observation"].to_numpy():
        own = covered.sel(observation=name)
        told = [kept(own.isel(prob=place)) is not None for place in range(own.sizes["prob"])]
        sure, open_ = (
            " and ".join(
                percent(float(prob)) for prob, one in zip(own["prob"].to_numpy(), told, strict=True) if one is asked
            )
            for asked in (True, False)
        )
        some = some or bool(open_)
        much = _worth(own)
        if not open_:
            texts.append(f"those of {name} do ({much})")
        elif not sure:
            texts.append(f"of {name} it cannot be told ({much})")
        else:
            texts.append(f"those of {name} of {sure} do, of those of {open_} it cannot be told ({much})")
    return texts if some else []


# The numbers that a reader of a report looks for first.


class Figure(NamedTuple):
    """One key figure: what it is, its value, and `pass`, `warn`, `fail` or nothing."""

    name: str
    value: str
    note: str = ""
    status: str = ""


def key_figures(
    posterior: xr.DataTree,
    quantities: Sequence[Quantity],
    gates: Sequence[Gate],
    covered: xr.Dataset | None,
    scored: xr.Dataset | None,
) -> list[Figure]:
    """The numbers that a reader looks for first."""
    bad = {gate.name: gate.severity for gate in gates if not gate.passed}
    chains, draws = quantities[0].draws.shape
    note = f"{count(chains, 'chain')} × {draws:,}"
    figures = [Figure("draws", f"{chains * draws:,}", note, bad.get("chains", ""))]
    # NaN wins on purpose: a number that cannot be computed must not hide behind the others.
    rhat = float(np.max([quantity.rhat for quantity in quantities]))
    ess = float(np.min([(quantity.ess_bulk, quantity.ess_tail) for quantity in quantities]))
    poor = bad.get("ess_bulk", "") or bad.get("ess_tail", "")
    figures.append(Figure("largest R̂", fixed(rhat, 3), "", bad.get("rhat", "")))
    figures.append(Figure("smallest ESS", fixed(ess, 0), "bulk and tail", poor))
    stats = group(posterior, "sample_stats")
    for name, words, gate in (
        ("diverging", "divergences", "divergences"),
        ("solver_failed", "failed solves", "solver_failures"),
    ):
        if name in stats:
            values = stats[name].to_numpy()
            figures.append(Figure(words, f"{int((values != 0).sum()):,}", f"of {values.size:,}", bad.get(gate, "")))
    if covered is None:
        figures.append(Figure(f"{percent(PROB)} interval covers", "not known", "nothing to compare with"))
    else:
        figures.append(_coverage_figure(covered))
    if scored is not None:
        skill = [float(value) for value in scored["skill"].to_numpy()]
        status = "" if min(skill) > 0 else "warn"
        note = "against persistence" if len(skill) == 1 else f"worst of {len(skill)}, against persistence"
        worst = float(np.min(skill))
        figures.append(Figure(f"RMSE {'higher' if worst < 0 else 'lower'} by", percent(abs(worst)), note, status))
    return figures


def _coverage_figure(covered: xr.Dataset) -> Figure:
    """Coverage of the interval nearest to `PROB`, of the observation that misses it by most."""
    one = covered.sel(prob=PROB, method="nearest")
    miss = np.nan_to_num(np.abs(one["coverage"].to_numpy() - float(one["prob"])), nan=np.inf)
    worst = one.isel(observation=int(np.argmax(miss)))
    note = "of what was held out" if miss.size == 1 else f"{worst['observation'].item()}, worst of {miss.size}"
    good = [kept(one.isel(observation=place)) for place in range(miss.size)]
    note += "; cannot be told" if good[int(np.argmax(miss))] is None else ""
    status = "" if all(good) else "warn"
    return Figure(f"{percent(float(one['prob']))} interval covers", percent(float(worst["coverage"])), note, status)


# How the starts of chains were found, and what the engine did by itself, in words.


def start_words(posterior: xr.DataTree) -> list[str]:
    """How the chains' starts were found, in sentences; empty where nothing was recorded."""
    starts = record(posterior, "starts")
    if not starts:
        return []
    drawn, failed = int(starts.get("drawn", 0)), int(starts.get("failed", 0))
    words = [f"{count(drawn, 'point was', 'points were')} drawn from the prior; {failed:,} could not be solved."]
    if "optimised" in starts:
        optimised, converged = int(starts["optimised"]), int(starts.get("converged", 0))
        best = f", {int(starts['highest']):,} ended at the best mode" if "highest" in starts else ""
        words.append(f"Of the best {optimised:,}, which were optimised, {converged:,} converged{best}.")
    modes = ridges_of(starts) if "modes" in starts else []
    if len(modes) == 1 and len(modes[0]) > 1:
        words.append(
            f"They ended at {len(modes[0])} points of one ridge, along which the log density hardly falls: one mode."
        )
    elif len(modes) == 1:
        words.append("One mode holds all but a negligible share of the posterior (Laplace's approximation).")
    elif modes:
        weights = starts.get("weights", ())
        shares = ", ".join(percent(sum(float(weights[n]) for n in mode)) for mode in modes) if len(weights) else ""
        held = f" ({shares} by Laplace's approximation)" if shares else ""
        words.append(
            f"{len(modes)} modes share the posterior{held}: "
            "look whether more than one makes sense for this asset; a prior can exclude those that do not."
        )
    return words + _engine_words(posterior)


MODES = {
    "reverse": (
        "Derivatives were computed backwards through steps of fixed lengths, which is faster for this twin; whether "
        "such steps are exact enough is what the gate `tolerance` says"
    ),
    "exact": "Derivatives were computed backwards through exact steps: the twin needs no solver",
}
"""How derivatives were taken, where it was not forward."""


def _black_box_words(box: Mapping[str, Any]) -> str:
    """What a model that shows no equations did, in a sentence."""
    words = f"The model solved itself, without derivatives and with no audit of its error: {box['solves']:,} solves"
    if each := box.get("solves_per_effective_draw"):
        words += f", {each:.0f} for each effective draw"
    if not box["failed"]:
        return f"{words}; none failed."
    lost = box["crashed"] + box["timed_out"]
    words += f"; {box['failed']:,} failed" + (f", in {lost:,} of which its process was lost" if lost else "")
    return f"{words}, the last of them for this reason: {box['last_failure']}."


def _engine_words(posterior: xr.DataTree) -> list[str]:
    """What the engine chose, and what it did by itself while sampling, in sentences."""
    words = []
    choice = record(posterior, "solver_choice")
    if box := record(posterior, "black_box"):
        words.append(_black_box_words(box))
    elif choice.get("method") == "exact":
        words.append("The twin is affine in its states: it was solved by exact steps, which have no tolerance.")
    elif choice:
        words.append(
            "The solver was chosen by a trial on draws from the prior, with fewer steps allowed than later: "
            f"{choice.get('reason', choice.get('method'))}."
        )
    if mode := record(posterior, "sensitivities"):
        forward = f"Derivatives were computed along with each solve, step by step ({mode.get('reason')})"
        words.append(f"{MODES.get(str(mode.get('mode')), forward)}.")
    sampling = record(posterior, "sampling")
    for event in sampling.get("events", ()):
        if event["what"] == "raised target acceptance":
            words.append(
                f"A transition diverged after {event['after_draws']:,} draws: all were made again with smaller steps, "
                f"aiming at an acceptance of {event['to']:g}."
            )
        elif event["what"] == EXTENDED:
            words.append(f"Chains were too short to be judged and went on to {event['to']:,} draws each.")
        else:
            chains = ", ".join(str(chain) for chain in event["chains"])
            words.append(f"Chain {chains} stuck in {event['found_in']} and was started again from the ladder.")
    return words


# Where the uncertainty of predictions comes from: parameters, discrepancy and noise, by stretch of time.


class SpreadRow(NamedTuple):
    """One line of the table: standard deviations in the unit; `discrepancy` is empty where there is none."""

    name: str
    part: str
    unit: str
    parameters: str
    discrepancy: str
    noise: str
    whole: str


def origin_rows(parts: Sequence[Period]) -> list[SpreadRow]:
    """The table of standard deviations, by observation and stretch of time."""
    return [
        _row(part, name) for name in parts[0].names for part in parts if {name, f"{name}_noise_free"} <= set(part.draws)
    ]


def origin_words(rows: Sequence[SpreadRow], description: Mapping[str, Any]) -> list[str]:
    """How the table is read, in sentences."""
    words = [
        "Standard deviations over the draws, root mean square over times.",
        "“Parameters” is what the twin says without noise, and holds the initial states.",
    ]
    if (description.get("model_error") or {}).get("kind") == "ProcessNoise":
        words[1] = (
            "“Parameters and states” is what the twin says without noise. With process noise the states are not known "
            "from parameters alone: what is uncertain about them, and their disturbances ahead, stands there as well."
        )
    if any(row.discrepancy for row in rows):
        words.append(
            "Parts need not add up in squares: parameters and discrepancy are inferred together, and where one takes "
            "more the other takes less."
        )
    if any("NaN" in row for row in rows):
        words.append("NaN says that no draw could be solved.")
    return words


def _row(part: Period, name: str) -> SpreadRow:
    whole, noise_free = part.draws[name], part.draws[f"{name}_noise_free"]
    discrepancy = part.draws.get(f"{name}_discrepancy")
    noise = whole - noise_free if discrepancy is None else whole - noise_free - discrepancy
    total = _spread(whole)
    scale = scale_for(total, str(whole.attrs.get("units", "")))

    def text(draws: xr.DataArray) -> str:
        return number(scale.factor * _spread(draws), 2)

    return SpreadRow(
        name=name,
        part=part.label,
        unit=scale.unit or "–",
        parameters=text(noise_free),
        discrepancy="" if discrepancy is None else text(discrepancy),
        noise=text(noise),
        whole=text(whole),
    )


def _spread(draws: xr.DataArray) -> float:
    """Standard deviation over the draws that are there, root mean square over times; NaN where there are none."""
    there = draws.where(np.isfinite(draws)).dropna("time", how="all")
    if there.sizes["time"] == 0:
        return float("nan")
    return float(np.sqrt(there.var(("chain", "draw"), skipna=bool(there.isnull().any())).mean("time")))
