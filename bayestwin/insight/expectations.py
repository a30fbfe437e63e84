"""What comes of scenarios: differences from the baseline, and expectations, judged within their Monte Carlo error.

P(indoor < 16 degC for 1 h) <= 0.05        a signal, at any time or for so long
energy.q90 <= 420 kWh                      a mean, median or quantile of a quantity; without either its mean
energy < baseline.energy with P >= 0.9     a quantity, against a number or that of another scenario
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from arviz_stats.base.array import array_stats

from bayestwin._base.units import check_unit, convert
from bayestwin._base.wording import count, number, percent
from bayestwin.errors import InvalidSetting
from bayestwin.model.quantities import (
    LongestWhere,
    Max,
    Min,
    QuantityOfInterest,
    function_of,
    unit_of,
)
from bayestwin.model.twin import Twin
from bayestwin.results.schema import quantity_names

BASELINE = "baseline"
"""The scenario in which nothing is changed."""

SURE = 0.95
"""Probability of the Monte Carlo interval by which an expectation is decided."""

PROB, SAME = 0.9, 1e-9
"""Of the intervals of a comparison; and by what share two numbers differ that are the same but for rounding."""

OWN = "condition_"
"""How quantities begin that are made for an expectation."""

SIGNS = r"<=|>=|<|>"
_WHOLE = re.compile(rf"P\((?P<inner>.+)\)\s*(?P<sign>{SIGNS})\s*(?P<prob>[\d.]+)\s*(?P<percent>%)?")
_WITH = re.compile(rf"(?P<inner>.+?)\s+with\s+P\s*(?P<sign>{SIGNS})\s*(?P<prob>[\d.]+)\s*(?P<percent>%)?")
_STATISTIC = re.compile(
    rf"(?P<name>\w+)(?:\.(?P<kind>mean|median|q\d+(?:\.\d+)?))?\s*(?P<sign>{SIGNS})\s*(?P<right>.+)"
)
_INNER = re.compile(rf"(?P<name>\w+)\s*(?P<sign>{SIGNS})\s*(?P<right>.+?)(?:\s+for\s+(?P<length>.+))?")
_OTHER = re.compile(r"(?P<scenario>\w+)\.(?P<quantity>\w+)")
_NUMBER = re.compile(r"(?P<value>[-+−]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?P<unit>.*)")


class Expectation(NamedTuple):
    """What is expected of a scenario: that `P(quantity sign right)`, or the mean, is as it should be.

    Attributes:
        text: As it was written.
        quantity: Whose draws are looked at.
        sign: How they are compared.
        right: With what: a number in the unit of the quantity, or scenario and quantity.
        demand: How the probability is compared, and with what; None where the mean is compared itself.
    """

    text: str
    quantity: str
    sign: str
    right: float | tuple[str, str]
    demand: tuple[str, float] | None


class ExpectationVerdict(NamedTuple):
    """What became of an expectation.

    Attributes:
        verdict: "met", "missed", or "undecided" where the Monte Carlo error leaves it open.
        value: The probability, or the mean.
        lower: Lower end of its Monte Carlo interval.
        upper: Upper end.
        limit: With what it is compared.
        draws: How many draws would about decide it; infinite where none would, and as many as there are where it is.
    """

    verdict: str
    value: float
    lower: float
    upper: float
    limit: float
    draws: float


def read_expectation(text: str, twin: Twin) -> tuple[Expectation, dict[str, QuantityOfInterest]]:
    """What an expectation asks, and the quantities that the twin needs for it beside its own.

    Raises:
        InvalidSetting: If it is not written as expectations are, or is about something that is not there.
    """
    words = " ".join(text.split())
    found = _WHOLE.fullmatch(words) or _WITH.fullmatch(words)
    if found is not None:
        prob = float(found["prob"]) / (100.0 if found["percent"] else 1.0)
        name, sign, right, needed = _read_inner(found["inner"], text, twin)
        return Expectation(text, name, sign, right, (found["sign"], prob)), needed
    told = _STATISTIC.fullmatch(words)
    if told is None or told["name"] not in twin.quantities:
        raise _misfit(text, twin)
    right = _read_right(told["right"], twin.quantities, told["name"], text, twin)
    if told["kind"] in (None, "mean"):
        return Expectation(text, told["name"], told["sign"], right, None), {}
    share = 0.5 if told["kind"] == "median" else float(told["kind"][1:]) / 100.0
    # a quantile lies below a limit exactly where at least so many draws do
    demand = (">=", share) if told["sign"] in ("<", "<=") else ("<=", share)
    return Expectation(text, told["name"], told["sign"] if demand[0] == ">=" else "<=", right, demand), {}


def _read_inner(
    inner: str, text: str, twin: Twin
) -> tuple[str, str, float | tuple[str, str], dict[str, QuantityOfInterest]]:
    """The event of a probability: of a quantity, or of a signal, for which a quantity is made."""
    found = _INNER.fullmatch(inner.strip())
    if found is None:
        raise _misfit(text, twin)
    name, sign = found["name"], found["sign"]
    if name in twin.quantities and found["length"] is None:
        return name, sign, _read_right(found["right"], twin.quantities, name, text, twin), {}
    units = {n: s.unit for n, s in (*twin.inputs.items(), *twin.observations.items(), *twin.states.items())}
    if name not in units or (name in twin.states and twin.states[name].shape):
        raise _misfit(text, twin)
    limit = _read_number(found["right"], units[name], text, twin)
    own = OWN + re.sub(r"\W+", "_", inner.strip()).strip("_").replace("__", "_")
    own = own + ("_above" if sign in (">", ">=") else "_below")
    if found["length"] is None:
        kind = Min if sign in ("<", "<=") else Max
        return own, sign, limit, {own: kind(of=name, unit=units[name])}
    length = _read_number(found["length"], twin.time_unit, text, twin)
    of = function_of(twin, Max(of=name))
    condition = functools.partial(_gap, of, limit, 1.0 if sign in (">", ">=") else -1.0)
    return own, ">=", length, {own: LongestWhere(of=condition)}


def _gap(of: Any, limit: float, side: float, t: Any, x: Any, p: Any, u: Any) -> Any:
    """How far a signal is beyond a limit."""
    return side * (of(t, x, p, u) - limit)


def _read_right(right: str, quantities: Mapping[str, Any], name: str, text: str, twin: Twin) -> float | tuple[str, str]:
    other = _OTHER.fullmatch(right.strip())
    if other is not None and not other["scenario"][0].isdigit():
        if other["quantity"] not in quantities:
            raise _misfit(text, twin)
        return other["scenario"], other["quantity"]
    return _read_number(right, unit_of(twin, quantities[name]), text, twin)


def _read_number(words: str, unit: str, text: str, twin: Twin) -> float:
    """A number in a unit; one without is in it already."""
    found = _NUMBER.fullmatch(words.strip())
    if found is None:
        raise _misfit(text, twin)
    told = found["unit"].strip()
    if told in ("", "%"):
        return float(found["value"].replace("−", "-")) / (100.0 if told else 1.0)
    check_unit(told, f"expectation `{text}`", InvalidSetting)
    value = np.asarray(float(found["value"].replace("−", "-")))
    return float(convert(value, told, unit or "1", f"expectation `{text}`", InvalidSetting))


def _misfit(text: str, twin: Twin) -> InvalidSetting:
    signals = ", ".join(f"`{name}`" for name in dict.fromkeys((*twin.states, *twin.observations, *twin.inputs)))
    quantities = ", ".join(f"`{name}`" for name in twin.quantities) or "none"
    return InvalidSetting(
        "An expectation cannot be read.",
        expected="`P(indoor < 16 degC for 1 h) <= 0.05`, `energy.q90 <= 420 kWh`, or "
        f"`energy < baseline.energy with P >= 0.9`, of the quantities {quantities}, and between the brackets also of "
        f"the signals {signals}",
        received=f"`{text}`",
        advice="Write it like one of these.",
    )


def judge_expectation(one: Expectation, drawn: Mapping[str, xr.Dataset], scenario: str) -> ExpectationVerdict:
    """Judge an expectation by the draws of all scenarios.

    Args:
        one: The expectation.
        drawn: Quantities by scenario; dimensions chain and draw.
        scenario: That of which it is expected.

    Raises:
        InvalidSetting: If it is held against a scenario that is not there.
    """
    values, right = drawn[scenario][one.quantity].to_numpy(), one.right
    if isinstance(right, tuple):
        if right[0] not in drawn:
            raise InvalidSetting(
                f"Scenario `{scenario}` is held against one that is not there.",
                expected=", ".join(f"`{name}`" for name in drawn),
                received=f"`{right[0]}` in `{one.text}`",
                advice="Correct its name, or compare it with it.",
            )
        right = drawn[right[0]][right[1]].to_numpy()
    if one.demand is None:
        difference = values - right
        centre = float(np.nanmean(difference)) + (right if isinstance(right, float) else 0.0)
        limit = right if isinstance(right, float) else 0.0
        half = scipy.stats.norm.ppf(0.5 + SURE / 2) * float(np.nanstd(difference)) / math.sqrt(effective(difference))
        return _decided(one.sign, centre, float(centre - half), float(centre + half), limit, values.size)
    compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}[one.sign]
    holds = compare(values, right).astype(float)
    holds[np.isnan(values) | np.isnan(right)] = np.nan
    share = float(np.nanmean(holds))
    return _decided(one.demand[0], share, *wilson(share, effective(holds)), one.demand[1], values.size)


def _decided(sign: str, value: float, lower: float, upper: float, limit: float, num: int) -> ExpectationVerdict:
    inside = lower < limit < upper
    holds = value <= limit if sign in ("<", "<=") else value >= limit
    far, half = abs(value - limit), (upper - lower) / 2.0
    draws = (num * (half / far) ** 2 if far > 0 else math.inf) if inside else float(num)
    return ExpectationVerdict(
        "undecided" if inside else "met" if holds else "missed", value, lower, upper, limit, draws
    )


def effective(values: np.ndarray) -> float:
    """How many independent draws, shape (chain, draw), would tell as much about the mean; no more than there are."""
    there = np.isfinite(values)
    if not there.all() or np.ptp(values) == 0.0 or values.shape[-1] < 4:
        return float(max(there.sum(), 1))
    statistics: Any = array_stats
    found = float(statistics.ess(values, chain_axis=0, draw_axis=1, method="mean"))
    return float(np.clip(found, 1.0, values.size)) if math.isfinite(found) else float(values.size)


def wilson(share: float, num: float) -> tuple[float, float]:
    """Ends of the Monte Carlo interval of a probability: E. B. Wilson (1927), doi:10.1080/01621459.1927.10502953."""
    z = float(scipy.stats.norm.ppf(0.5 + SURE / 2))
    centre = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    # exactly 0 or 1 where no draw says otherwise, whatever rounding makes of it
    return 0.0 if share == 0.0 else max(centre - half, 0.0), 1.0 if share == 1.0 else min(centre + half, 1.0)


def verdict_words(one: Expectation, judged: ExpectationVerdict) -> str:
    """What became of an expectation, in words."""
    if one.demand is None:
        told = f"the mean is {number(judged.value)}"
    else:
        event = "it" if isinstance(one.right, tuple) else f"{one.quantity} {one.sign} {one.right:g}"
        event = "it" if one.quantity.startswith(OWN) else event
        told = f"the probability of {event} is {percent(judged.value)}"
        told += f" ({percent(judged.lower, 1)} to {percent(judged.upper, 1)} by Monte Carlo)"
    if judged.verdict != "undecided":
        return told
    needed = count(math.ceil(judged.draws), "draw") if math.isfinite(judged.draws) else ""
    more = f"about {needed} would decide it" if needed else "no number of draws decides it"
    return f"{told}, and {more}"


# All scenarios, held against the baseline.


FIGURES = (
    *("median", "lower", "upper"),
    *("difference", "difference_lower", "difference_upper"),
    *("less", "paired_sd", "unpaired_sd"),
)
"""What is told of one quantity of one scenario; of a twin without quantities for none."""


def compared(twin: Twin, drawn: Mapping[str, xr.Dataset], loss: str | None) -> xr.Dataset:
    """Quantities of all scenarios, and their differences from the baseline: see `scenario`."""
    names = [name for name in quantity_names(drawn[BASELINE]) if name in twin.quantities]
    made = [[_row(values[name], drawn[BASELINE][name]) for name in names] for values in drawn.values()]
    rows = {key: np.array([[one[key] for one in own] for own in made], float) for key in FIGURES}
    coords: dict[str, Any] = {"scenario": list(drawn), "quantity": names}
    coords["units"] = ("quantity", [str(drawn[BASELINE][name].attrs["units"]) for name in names])
    found = xr.Dataset({key: (("scenario", "quantity"), table) for key, table in rows.items()}, coords=coords)
    if loss is not None:
        losses = np.stack([values[loss].to_numpy().ravel() for values in drawn.values()])
        losses = losses[:, np.isfinite(losses).all(axis=0)]
        least = losses.min(axis=0)
        best = losses == least
        found["expected_loss"] = ("scenario", losses.mean(axis=1))
        found["best"] = ("scenario", (best / best.sum(axis=0)).mean(axis=1))
        found["regret"] = ("scenario", (losses - least).mean(axis=1))
    return found.assign_attrs(prob=PROB, kind="equal-tailed interval")


def _row(values: xr.DataArray, baseline: xr.DataArray) -> dict[str, float]:
    """Figures of one quantity of one scenario."""
    own, other = values.to_numpy().ravel(), baseline.to_numpy().ravel()
    ends = [(1.0 - PROB) / 2.0, 0.5, (1.0 + PROB) / 2.0]
    there = ~(np.isnan(own) | np.isnan(other))
    # what never comes in either is no difference; in one of them it is an infinite one
    both = there & ~(np.isinf(own) & np.isinf(other))
    difference = np.where(both, own, 0.0) - np.where(both, other, 0.0)
    difference[np.isclose(own, other, rtol=SAME, atol=0.0)] = 0.0
    lower, median, upper = _quantiles(own[~np.isnan(own)], ends)
    below, middle, above = _quantiles(difference[there], ends)
    paired = float(np.std(difference[there])) if np.isfinite(difference[there]).all() else math.nan
    spread = [float(np.std(one[there])) if np.isfinite(one[there]).all() else math.nan for one in (own, other)]
    less = float(np.mean(difference[there] < 0.0)) if there.any() else math.nan
    told = (median, lower, upper, middle, below, above, less, paired, math.hypot(*spread))
    return dict(zip(FIGURES, told, strict=True))


def _quantiles(values: np.ndarray, ends: Sequence[float]) -> list[float]:
    if not values.size:
        return [math.nan] * len(ends)
    method: Any = "linear" if np.isfinite(values).all() else "inverted_cdf"
    return [float(one) for one in np.quantile(values, ends, method=method)]


def judge_all(expected: Sequence[tuple[str, Expectation]], drawn: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """What became of all expectations of some scenarios, one after the other."""
    found = [judge_expectation(one, drawn, name) for name, one in expected]
    columns: dict[str, list[Any]] = {
        "scenario": [name for name, _ in expected],
        "text": [one.text for _, one in expected],
        "words": [verdict_words(one, own) for (_, one), own in zip(expected, found, strict=True)],
        **{
            key: [getattr(own, key) for own in found]
            for key in ("verdict", "value", "lower", "upper", "limit", "draws")
        },
    }
    return xr.Dataset({key: ("expectation", column) for key, column in columns.items()})


def plain_words(text: str, names: Mapping[str, str]) -> str:
    """An expectation in words that need no explanation.

    Args:
        text: As it was written, and read.
        names: What quantities and signals are, in words.
    """
    words = " ".join(text.split())
    found = _WHOLE.fullmatch(words) or _WITH.fullmatch(words)
    told = _INNER.fullmatch(found["inner"].strip()) if found is not None else _STATISTIC.fullmatch(words)
    if told is None:
        return text
    name, right = names.get(told["name"], told["name"]), told["right"].strip()
    other = _OTHER.fullmatch(right)
    right = f"that of {other['scenario']}" if other is not None and not right[0].isdigit() else right
    below = told["sign"] in ("<", "<=")
    if found is None:
        kind = told["kind"] or "mean"
        bound = f"{'at most' if below else 'at least'} {right}"
        if kind.startswith("q"):
            share = float(kind[1:]) / 100.0
            return f"{name} {bound} in {percent(share if below else 1.0 - share)} of all cases"
        return f"{name} {bound} {'on average' if kind == 'mean' else 'in half of all cases'}"
    share = float(found["prob"]) / (100.0 if found["percent"] else 1.0)
    length = f" for {told['length']}" if told["length"] else ""
    most = "at most" if found["sign"] in ("<", "<=") else "at least"
    return f"a chance of {most} {percent(share)} that {name} is {'below' if below else 'above'} {right}{length}"
