"""The pages about scenarios: questions, what is expected, differences from the baseline; and the one to be signed."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import Written, decimals_for, fixed, number, percent, unit_text
from bayestwin.insight.expectations import BASELINE, PROB, plain_words
from bayestwin.report.page import LIGHT, Picture, drawing, figure, fill, picture
from bayestwin.report.tables import LATER

EARLIER = "earlier"
"""A difference where a first time comes, and never does in the baseline."""

MARKS = {"met": "pass", "missed": "fail", "undecided": "warn"}
"""How a verdict is marked."""


class DifferenceRow(NamedTuple):
    """One scenario in the table of a quantity; without differences for the baseline itself."""

    scenario: str
    median: str
    lower: str
    upper: str
    difference: str
    difference_lower: str
    difference_upper: str
    less: str


def render_scenarios(found: xr.DataTree, record: Mapping[str, Any], twin: str) -> str:
    """Write the page.

    Args:
        found: As `bt.scenario` returned it.
        record: The same as plain values, with what each scenario changes, and what flipped.
        twin: Name of the twin.

    Returns:
        The page as text, to be written as UTF-8.
    """
    comparison = found["comparison"].to_dataset()
    verdicts = [one["verdict"] for one in record["expectations"]]
    worst = next((kind for kind in ("missed", "undecided", "met") if kind in verdicts), None)
    with drawing():
        drawn = difference_plot(comparison)
    return fill(
        "scenario.html",
        {
            "name": twin,
            "prob": percent(float(comparison.attrs["prob"])),
            "status": "plain" if worst is None else MARKS[worst],
            "headline": _headline(verdicts),
            "expectations": [one | {"mark": MARKS[one["verdict"]]} for one in record["expectations"]],
            "flipped": record["flipped"],
            "scenarios": record["scenarios"],
            "quantities": [
                (name, str(comparison["units"].sel(quantity=name).item()), _rows(comparison.sel(quantity=name)))
                for name in map(str, comparison["quantity"].to_numpy())
            ],
            "loss": found.attrs["loss"],
            "losses": _losses(comparison),
            "picture": drawn,
            "run": record["run"],
        },
    )


def _headline(verdicts: list[str]) -> str:
    missed, open_ = verdicts.count("missed"), verdicts.count("undecided")
    if not verdicts:
        return "Nothing is expected of these scenarios."
    if missed:
        return f"{missed} of {len(verdicts)} expectations are missed."
    return f"{open_} of {len(verdicts)} expectations cannot be decided." if open_ else "All expectations are met."


def _rows(own: xr.Dataset) -> list[DifferenceRow]:
    """The table of one quantity."""
    rows = []
    for name in map(str, own["scenario"].to_numpy()):
        one = {str(key): float(value) for key, value in own.sel(scenario=name).data_vars.items()}
        values = _written([one[key] for key in ("median", "lower", "upper")])
        keys = ("difference", "difference_lower", "difference_upper")
        apart = [""] * 3 if name == BASELINE else _written([one[key] for key in keys])
        same = one["difference_lower"] == one["difference_upper"] == 0.0
        less = "" if name == BASELINE or same else percent(one["less"])
        rows.append(DifferenceRow(name, values[0], values[1], values[2], apart[0], apart[1], apart[2], less))
    return rows


def _written(ends: list[float]) -> list[str]:
    """Median, lower and upper end with as many decimals as they are worth."""
    spread = ends[2] - ends[1]
    if not math.isfinite(spread) or spread <= 1e-6 * abs(ends[0]):
        return [number(end, 4) if math.isfinite(end) else Written(LATER if end > 0 else EARLIER, end) for end in ends]
    return [fixed(end, decimals_for(spread)) for end in ends]


def _losses(comparison: xr.Dataset) -> list[tuple[str, str, str, str]]:
    """Expected loss, probability of being the best and expected regret, by scenario."""
    if "best" not in comparison:
        return []
    rows = []
    for name in map(str, comparison["scenario"].to_numpy()):
        own = comparison.sel(scenario=name)
        loss, best, regret = (float(own[key]) for key in ("expected_loss", "best", "regret"))
        rows.append((name, number(loss, 4), percent(best), number(regret, 3)))
    return rows


# The page that someone signs.


class AlternativeRow(NamedTuple):
    """One alternative in the table of a decision."""

    name: str
    changes: str
    value: str
    difference: str
    interval: str
    better: str
    kept: str


CAPTION = "Dots are typical differences from the baseline, lines their likely ranges."

MOST_WARNINGS, MOST_REASONS, ENOUGH = 6, 4, 0.02
"""Sentences and reasons that one sheet has room for, and the share of a difference from which on something is one."""


def render_decision(found: xr.DataTree, record: Mapping[str, Any], twin: str) -> str:
    """Write the one page about a decision: question, answer, alternatives, what it hangs on, warnings, signature.

    Args:
        found: As `bt.scenario` returned it.
        record: The same as plain values; `decision` says what is decided.
        twin: Name of the twin.

    Returns:
        The page as text, to be written as UTF-8.
    """
    told, comparison = record["decision"], found["comparison"].to_dataset()
    quantity = told["quantity"]
    unit = unit_text(str(comparison["units"].sel(quantity=quantity).item())) if quantity else ""
    rows = _alternatives(comparison.sel(quantity=quantity), record) if quantity else _demanded(record)
    warnings = _before_signing(record)
    with drawing():
        drawn = difference_plot(comparison.sel(quantity=[quantity])) if quantity else None
    heads = [("alternative", ""), ("what is done", "")]
    if quantity:
        heads += [(told["words"] or quantity, unit or "1"), ("difference from the baseline", unit or "1")]
        heads += [("likely range of it", unit or "1"), *([("chance to be better", "%")] if told["most"] else [])]
    best = told["best"]
    undecided = any(one["verdict"] == "undecided" for one in record["expectations"] if one["scenario"] == best)
    status = "plain" if not told["most"] else "fail" if best is None else "warn" if undecided or warnings else "pass"
    return fill(
        "decision.html",
        {
            "name": twin,
            "question": told["question"] or _asked(record),
            "status": status,
            "headline": _answer(record, comparison, unit) if quantity else _demands(record),
            "lines": _because(record),
            "caption": f"Typical values, and differences with the range that holds {percent(PROB)} of all cases"
            if quantity
            else "What is done, and whether what is demanded of it is kept",
            "heads": [*heads, ("demands", "")],
            "rows": rows,
            "measured": bool(quantity),
            "better": bool(told["most"]),
            "picture": None if drawn is None else drawn._replace(caption=CAPTION),
            "hangs": _hangs(told),
            "warnings": warnings,
            "words": _words(told, comparison),
            "made_from": _made_from(record),
        },
    )


def _asked(record: Mapping[str, Any]) -> str:
    told = record["decision"]
    if not told["most"]:
        questions = [one["question"] for one in record["scenarios"].values() if one["question"]]
        return questions[0] if len(questions) == 1 else "What do the alternatives change?"
    return f"Which alternative has the {told['most']} {told['words'] or told['quantity']}?"


def _better(less: float, told: Mapping[str, Any]) -> float:
    return 1.0 - less if told["most"] == "most" else less


def _unasked(record: Mapping[str, Any]) -> bool:
    """Whether no alternative keeps what is demanded, and the baseline, of which nothing is, might do no better."""
    missed = {one["scenario"] for one in record["expectations"] if one["verdict"] == "missed"}
    asked = {one["scenario"] for one in record["expectations"]}
    return BASELINE not in asked and missed >= set(record["scenarios"]) - {BASELINE}


def _answer(record: Mapping[str, Any], comparison: xr.Dataset, unit: str) -> str:
    """The answer in a sentence."""
    told = record["decision"]
    best, words = told["best"], told["words"] or told["quantity"]
    if not told["most"]:
        return "The alternatives are compared below; nothing was said of what is to be least."
    if best is None:
        return "No alternative keeps what is demanded of it, and the baseline does not either."
    if best == BASELINE and _unasked(record):
        return "Stay with the baseline, of which nothing was demanded: no alternative keeps what is demanded of it."
    if best == BASELINE:
        return f"Stay with the baseline: no alternative that keeps its demands has {told['most']} {words}."
    own = {str(k): float(v) for k, v in comparison.sel(quantity=told["quantity"], scenario=best).data_vars.items()}
    middle, low, high = _written([own[key] for key in ("difference", "difference_lower", "difference_upper")])
    if own["difference_lower"] <= 0.0 <= own["difference_upper"]:
        return f"{best}, though it may make no difference: {words} changes by {middle} {unit} ({low} to {high})."
    less = own["difference"] < 0.0
    ends = sorted((own["difference_lower"], own["difference_upper"]), key=abs)
    size = [text.lstrip("−") for text in _written([abs(own["difference"]), abs(ends[0]), abs(ends[1])])]
    span = "" if size[1] == size[2] else f" (likely {size[1]} to {size[2]} {unit})"
    return f"{best}: {words} is {size[0]} {unit} {'less' if less else 'more'} than in the baseline{span}."


def _demands(record: Mapping[str, Any]) -> str:
    """The answer where nothing is compared but what is demanded: the twin has no quantities of interest."""
    verdicts = [one["verdict"] for one in record["expectations"]]
    if not verdicts:
        return "The twin names nothing by which the alternatives could be compared, and nothing was demanded of them."
    if set(verdicts) == {"met"}:
        return "All that is demanded of the alternatives is kept."
    told = [f"{verdicts.count(kind)} {words}" for kind, words in KEPT.items() if kind in verdicts]
    return f"Of what is demanded of the alternatives: {', '.join(told)}."


def _because(record: Mapping[str, Any]) -> list[str]:
    """What is done then, and whether that keeps what is demanded."""
    best, docs = record["decision"]["best"], record["decision"]["docs"]
    if not record["decision"]["quantity"]:
        told = [(one, plain_words(one["text"], docs)) for one in record["expectations"]]
        return [f"Of {one['scenario']} is demanded {words}: {_demand_words(one, record)}." for one, words in told]
    if best is None:
        return []
    changes = record["scenarios"][best]["changes"]
    own = [one for one in record["expectations"] if one["scenario"] == best]
    lines = [f"What is done: {'; '.join(changes)}."] if changes else []
    scenarios = record["scenarios"]
    if "best" in scenarios[best]:
        ranked = sorted(scenarios, key=lambda name: -scenarios[name]["best"])
        chances = ", ".join(f"{name} {percent(scenarios[name]['best'])}" for name in ranked[:3])
        lines.append(f"Chance to be the best of all: {chances}.")
    if policy := scenarios[best].get("policy"):
        quantity = policy["goal"].partition(" ")[2].partition(".")[0]
        unit = unit_text(scenarios[best]["quantities"][quantity]["unit"])
        value, gain = number(policy["value"], 4), number(abs(policy["regret"]), 4)
        side = "better" if policy["regret"] >= 0.0 else "worse"
        lines.append(f"{docs.get(quantity, quantity)}: {value} {unit}, {gain} {unit} {side} than in the baseline.")
    return lines + [f"Demanded is {plain_words(one['text'], docs)}: {_demand_words(one, record)}." for one in own]


def _demand_words(one: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    policy = record["scenarios"][one["scenario"]].get("policy")
    binds = policy and any(own["binds"] for own in policy["constraints"] if own["text"] == one["text"])
    if one["verdict"] == "undecided" and binds:
        share = "P(" in one["text"] or " with P" in one["text"]
        told = f"{percent(one['value'], 1)} of them" if share else number(one["value"], 4)
        return f"at its limit, as closely as so many cases can tell ({told})"
    words = {"met": "kept", "missed": "not kept", "undecided": "so close that it cannot be told whether it is kept"}
    return words[one["verdict"]]


def _kept(name: str, record: Mapping[str, Any]) -> str:
    verdicts = [one["verdict"] for one in record["expectations"] if one["scenario"] == name]
    return ", ".join(f"{verdicts.count(kind)} {words}" for kind, words in KEPT.items() if kind in verdicts) or "–"


def _done(name: str, record: Mapping[str, Any]) -> str:
    return "; ".join(record["scenarios"][name]["changes"]) or "nothing"


def _demanded(record: Mapping[str, Any]) -> list[AlternativeRow]:
    """The alternatives of a twin without quantities."""
    return [AlternativeRow(n, _done(n, record), "", "", "", "", _kept(n, record)) for n in record["scenarios"]]


def _alternatives(own: xr.Dataset, record: Mapping[str, Any]) -> list[AlternativeRow]:
    rows = []
    for one in _rows(own):
        mine = own.sel(scenario=one.scenario)
        less = float(mine["less"]) if one.less else math.nan
        better = percent(_better(less, record["decision"])) if one.less else Written("–")
        interval = f"{one.difference_lower} to {one.difference_upper}" if one.difference else "–"
        apart = one.difference or "–"
        what, kept = _done(one.scenario, record), _kept(one.scenario, record)
        rows.append(AlternativeRow(one.scenario, what, one.median, apart, interval, better, kept))
    return rows


KEPT = {"met": "kept", "missed": "not kept", "undecided": "at the limit"}
"""What a verdict is called where nobody is to know how it was reached."""


def _before_signing(record: Mapping[str, Any]) -> list[str]:
    """Warnings, the gravest first: of the calibration, of demands, of policies, and what was never seen."""
    told = record["decision"]
    found = [f"The calibration did not pass a check: {words}" for words in told["failed"]]
    found += told.get("missed", ())
    missed = [one for one in record["expectations"] if one["verdict"] == "missed"]
    found += [
        f"{one['scenario']} does not keep what is demanded: {plain_words(one['text'], told['docs'])}." for one in missed
    ]
    if told["best"] == BASELINE and _unasked(record):
        found.append(
            "Whether the baseline keeps what is demanded of the alternatives was not asked; `expect` in "
            f"`{BASELINE}.toml` asks it."
        )
    found += [f"A check of the calibration warns: {words}" for words in told.get("warned", ())]
    for name, one in record["scenarios"].items():
        policy = one.get("policy")
        if policy and not policy["feasible"]:
            found += [f"{name}: {words}" for words in policy["warnings"] if "cannot be kept" in words]
        elif policy and not policy["converged"]:
            found.append(f"{name}: the search for it did not come to an end.")
    known = set(told["warnings"].get(BASELINE, ()))
    for name, sentences in told["warnings"].items():
        new = [words for words in sentences if name == BASELINE or words not in known]
        if new:
            more = f" And {len(new) - 1} more, which the file scenarios.json tells." if len(new) > 1 else ""
            found.append(f"{name} goes beyond what the twin was calibrated on: {new[0]}{more}")
    left = len(found) - MOST_WARNINGS
    return found[:MOST_WARNINGS] + (
        [f"And {left} more, on the pages of the scenarios and of the calibration."] if left > 0 else []
    )


def _hangs(told: Mapping[str, Any]) -> str:
    """What decides the difference that the best alternative makes."""
    shares = {name: share for name, share in told["shares"].items() if share >= ENOUGH}
    if not shares:
        return ""
    reasons = [
        f"{told['docs'].get(name, name)} ({percent(share)})" for name, share in list(shares.items())[:MOST_REASONS]
    ]
    return (
        f"What is open about the difference that {told['about']} makes comes, by shares, from: {', '.join(reasons)}. "
        "Measurements that tell more about the first of them narrow it most."
    )


def _words(told: Mapping[str, Any], comparison: xr.Dataset) -> str:
    prob = float(comparison.attrs["prob"])
    return (
        f"The twin is a model of the real thing that was adjusted to measurements. These leave some of it open, so "
        f"{told['draws']:,} versions of it were kept, all of which agree with them: the cases. Every alternative is "
        f"computed in every case. Half of the cases lie below the typical value, {percent(prob)} in the likely range. "
        "A difference is taken case by case. The chance to be better is the "
        "share of cases in which the alternative beats the baseline. A demand “at the limit” is kept as closely as so "
        "many cases can tell."
    )


def _made_from(record: Mapping[str, Any]) -> str:
    told = record["decision"]["made_from"]
    hashes = ", ".join(f"{key.removesuffix('_sha256')} {told[key][:12]}" for key in told if key.endswith("_sha256"))
    return (
        f"Run {record['run']} of {told['began']}, bayestwin {told['version']}, seed {told['seed']}; sha256 of {hashes}."
    )


def difference_plot(comparison: xr.Dataset) -> Picture | None:
    """Differences from the baseline with their intervals, one panel a quantity; None where there is nothing to see."""
    names = [str(name) for name in comparison["scenario"].to_numpy() if name != BASELINE]
    keys = ("difference_lower", "difference", "difference_upper")
    table = np.stack([comparison[key].sel(scenario=names).transpose("quantity", "scenario").to_numpy() for key in keys])
    shown = [place for place in range(table.shape[1]) if np.isfinite(table[:, place]).any() and np.any(table[:, place])]
    if not names or not shown:
        return None
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    drawn = figure(down * (0.75 + 0.26 * len(names)))
    grid = drawn.subplots(down, across, squeeze=False, sharey=True).ravel()
    places = np.arange(len(names))[::-1]
    told = []
    for axes, place in zip(grid, shown, strict=False):
        lower, middle, upper = table[:, place]
        ends = [_written([float(own) for own in one]) for one in zip(middle, lower, upper, strict=True)]
        each = ", ".join(f"{name} {one[0]} ({one[1]} to {one[2]})" for name, one in zip(names, ends, strict=True))
        told.append(f"{comparison['quantity'].to_numpy()[place]}: {each}.")
        axes.axvline(0.0, color=LIGHT["muted"], linewidth=0.8)
        axes.hlines(places, lower, upper, color=LIGHT["calibrated"], linewidth=3.0)
        axes.plot(middle, places, "o", color=LIGHT["calibrated"], markersize=5.0)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        unit = unit_text(str(comparison["units"].to_numpy()[place]))
        axes.set_title(str(comparison["quantity"].to_numpy()[place]))
        axes.set_xlabel(f"difference from the baseline ({unit})" if unit else "difference from the baseline")
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    prob = percent(float(comparison.attrs["prob"]))
    return picture(
        drawn,
        "differences",
        f"Differences from the baseline with their intervals. {' '.join(told)}",
        f"What each scenario changes against the baseline: dots are medians, lines {prob} intervals of the difference, "
        "draw by draw.",
    )
