"""The same telemetry under several model errors: how each does on what was held out, and how far quantities move."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin._base.wording import decimals_for, fixed, not_to_rely_on, number, percent, scale_for, unit_text
from bayestwin.assess import diagnose, draws, failed, intervals
from bayestwin.assess.coverage import kept
from bayestwin.assess.gates import record
from bayestwin.report import prose
from bayestwin.report.page import Picture, picture
from bayestwin.report.posteriors import Line, Panel, draw_forest
from bayestwin.report.prose import interrupted
from bayestwin.report.reading import PROB, Calibrated, Quantity, held_out, read_quantities
from bayestwin.telemetry import Telemetry

PHRASES = {"": "without model error", "ProcessNoise": "with process noise", "Discrepancy": "with a discrepancy"}


class ComparedCalibration(NamedTuple):
    """One of the calibrations that are compared.

    Attributes:
        label: What it is called; the page's own by its model error.
        own: Whether the page is about it.
        error: What the description says of the model error; empty without one.
        phrase: What it is in a sentence: `with process noise`; no other setting has the same.
        doubts: Why it must not be relied on, in words; empty where it may be.
        forecast: None if there is no forecast.
        covered: Coverage of what was held out; None where nothing can be held against it.
        scored: Scores likewise.
        quantities: All of its posterior, by name.
    """

    label: str
    own: bool
    error: Mapping[str, Any]
    phrase: str
    doubts: str
    forecast: xr.DataTree | None
    covered: xr.Dataset | None
    scored: xr.Dataset | None
    quantities: Mapping[str, Quantity]


class HeldOutRow(NamedTuple):
    """One line of the table of what was held out; `good` is None where coverage is not known."""

    name: str
    unit: str
    setting: ComparedCalibration
    covered: str
    good: bool | None
    width: str
    rmse: str
    crps: str


def check_beside(posterior: xr.DataTree, beside: Mapping[str, Calibrated]) -> None:
    """Refuse what cannot stand beside a calibration.

    Raises:
        InvalidInput: If one is of another twin or of other telemetry.
    """
    for name, (other, _) in beside.items():
        for key, words in (("twin", "twin"), ("telemetry_sha256", "telemetry")):
            ours, theirs = posterior.attrs.get(key), other.attrs.get(key)
            if ours != theirs:
                raise errors.InvalidInput(
                    f"The calibration `{name}` cannot stand beside this one: it is of another {words}.",
                    expected=f"{key} {ours}",
                    received=f"{theirs}",
                    advice="Compare calibrations of one twin on the same telemetry, which differ in their model error.",
                )


def read_settings(
    own: Calibrated, beside: Mapping[str, Calibrated], validation: Telemetry | None
) -> tuple[ComparedCalibration, ...]:
    """What is compared, in the given order, but that without model error first: others are told against the first."""
    found = [_read("", *own, validation), *(_read(name, *pair, validation) for name, pair in beside.items())]
    phrases = [setting.phrase for setting in found]
    unique = [s if phrases.count(s.phrase) == 1 else s._replace(phrase=f"{s.phrase} ({_told(s)})") for s in found]
    return tuple(sorted(unique, key=lambda setting: bool(setting.error)))


def setting_facts(settings: Sequence[ComparedCalibration]) -> list[tuple[str, str]]:
    """Label and model error of each setting, as text."""
    return [(f"{s.label} (this report)" if s.own else s.label, _error_text(s.error)) for s in settings]


def held_out_words(settings: Sequence[ComparedCalibration]) -> list[str]:
    """Whom not to rely on, then one sentence by observation on how many of those held out each setting covers."""
    words = [not_to_rely_on(f"what stands here {s.phrase}", s.doubts) for s in settings if s.doubts]
    for name in _observations(settings):
        sentences = []
        for setting in settings:
            if (found := _covered(setting, name)) is not None:
                what = "it" if sentences else f"the {percent(PROB)} interval of `{name}`"
                of = "" if sentences else " of what was held out"
                share = percent(float(found["coverage"]))
                sentences.append(f"{capital(setting.phrase)} {what} covers {share}{of}{_judgement(found)}.")
        if sentences:
            words.append(" ".join(sentences))
    return words


def held_out_rows(settings: Sequence[ComparedCalibration]) -> list[HeldOutRow]:
    """The table of coverage, width and scores, by observation and setting; of those that have a forecast."""
    bands = [(s, intervals(s.forecast, PROB)) for s in settings if s.forecast is not None]
    rows = []
    for name in _observations(settings):
        own = [(setting, found.sel(observation=name)) for setting, found in bands if name in found["observation"]]
        widths = [float((found["upper"] - found["lower"]).mean(skipna=False)) for _, found in own]
        size = max((width for width in widths if np.isfinite(width)), default=0.0)
        scale = scale_for(size, str(own[0][1]["units"].item()))
        for (setting, _), width in zip(own, widths, strict=True):
            found = _covered(setting, name)
            scored = None if setting.scored is None else setting.scored.sel(observation=name)
            score = {
                key: "–" if scored is None else number(scale.factor * float(scored[key])) for key in ("rmse", "crps")
            }
            rows.append(
                HeldOutRow(
                    name=name,
                    unit=scale.unit or "–",
                    setting=setting,
                    covered="–" if found is None else percent(float(found["coverage"]), 1),
                    good=None if found is None else kept(found),
                    width=number(scale.factor * width),
                    **score,
                )
            )
    return rows


def capital(phrase: str) -> str:
    """A phrase at the beginning of a sentence; names keep their letters."""
    return phrase[:1].upper() + phrase[1:]


def _read(
    name: str, posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None
) -> ComparedCalibration:
    """One setting; the page's own has no name."""
    error = record(posterior, "description").get("model_error") or {}
    kind = str(error.get("kind", ""))
    phrase = PHRASES.get(kind, f"with {kind}")
    covered, scored, _ = held_out(forecast, validation)
    quantities = {quantity.name: quantity for quantity in read_quantities(posterior)}
    doubts = _doubts(posterior, covered) if name else ""
    return ComparedCalibration(name or phrase, not name, error, phrase, doubts, forecast, covered, scored, quantities)


def _doubts(posterior: xr.DataTree, covered: xr.Dataset | None) -> str:
    """What speaks against a posterior, by the limits of its own job."""
    limits = record(posterior, "job").get("gates") or {}
    known = {key: value for key, value in limits.items() if key in (diagnose.__kwdefaults__ or {})}
    bad = [gate.name for gate in failed(diagnose(posterior, **known, covered=covered))]
    doubts = ["sampling was interrupted"] if interrupted(posterior) else []
    return " and ".join([*doubts, f"gates failed ({', '.join(bad)})"] if bad else doubts)


def _told(setting: ComparedCalibration) -> str:
    return "this report" if setting.own else f"`{setting.label}`"


def _observations(settings: Sequence[ComparedCalibration]) -> list[str]:
    """Those that any setting predicts."""
    found = [draws.predictive(s.forecast)[1] for s in settings if s.forecast is not None]
    return list(dict.fromkeys(name for dataset in found for name in draws.observations(dataset)))


def _covered(setting: ComparedCalibration, name: str) -> xr.Dataset | None:
    """Coverage of the interval of `PROB`; None where it is not known."""
    if setting.covered is None or name not in setting.covered["observation"]:
        return None
    found = setting.covered.sel(observation=name, prob=PROB)
    return found if int(found["num"]) else None


def _judgement(found: xr.Dataset) -> str:
    good = kept(found)
    if good is not False:
        return ", as promised" if good else ", which so few cannot tell from what was promised"
    return ": too wide" if float(found["coverage"]) > float(found["joint_upper"]) else ": too narrow"


def _error_text(error: Mapping[str, Any]) -> str:
    if not error:
        return "Without model error: the equations are taken to be exact."
    chosen = "".join(f", {name} {word}" for name, word in error["settings"].items() if word is not None)
    priors = [f"{q['name']}: {q['prior']} {unit_text(q['unit'])}".rstrip() for q in error["quantities"]]
    return f"{error['kind']}{chosen}. {'; '.join(priors)}."


# Quantities that all settings of a comparison share: how far they move, how much wider they become, and a picture.

FAR = 1.0
"""Quantities that move by more standard deviations are named."""

WIDER = 1.25
"""Quantities whose standard deviation grows by this factor are named; chance is far below it."""

MOST_NAMED = 6


class ComparedEstimate(NamedTuple):
    """One quantity in one setting, in the unit of `Shared.quantity`."""

    setting: ComparedCalibration
    mean: float
    sd: float
    lower: float
    upper: float


class Shared(NamedTuple):
    """One quantity in all settings; `quantity` is that of the page's own, which says name and unit."""

    quantity: Quantity
    marginals: tuple[ComparedEstimate, ...]


class SharedRow(NamedTuple):
    """One line of the table of quantities."""

    name: str
    unit: str
    setting: ComparedCalibration
    mean: str
    sd: str
    lower: str
    upper: str


def shared_quantities(settings: Sequence[ComparedCalibration]) -> tuple[Shared, ...]:
    """All quantities that every setting has."""
    own = next(setting for setting in settings if setting.own)
    names = [name for name in own.quantities if all(name in setting.quantities for setting in settings)]
    return tuple(Shared(own.quantities[n], tuple(_marginal(s, n, own.quantities[n]) for s in settings)) for n in names)


def shared_words(shared: Sequence[Shared]) -> list[str]:
    """Which quantities move far between settings, and which become much wider than in the first setting."""
    if not shared:
        return ["There is no quantity that all settings share."]
    return [_moves(shared), *_wider(shared)]


def shared_rows(shared: Sequence[Shared]) -> list[SharedRow]:
    """The table of quantities by setting; each number shows two digits of its own sd."""
    rows = []
    for quantity, marginals in shared:
        for setting, mean, sd, lower, upper in marginals:
            texts = (fixed(value, decimals_for(sd)) for value in (mean, sd, lower, upper))
            rows.append(SharedRow(quantity.name, quantity.scale.unit or "–", setting, *texts))
    return rows


def forest(shared: Sequence[Shared]) -> Picture | None:
    """Mean and interval of each shared quantity, one line a setting; None where nothing is shared."""
    if not shared:
        return None
    panels = [
        Panel(
            quantity.label, tuple(Line(m.setting.label, m.mean, m.lower, m.upper, own=m.setting.own) for m in marginals)
        )
        for quantity, marginals in shared
    ]
    drawn = draw_forest(panels)
    names = ", ".join(quantity.name for quantity, _ in shared)
    told = prose.listed(
        f"{quantity.label}, {m.setting.label}: {number(m.mean)} ({number(m.lower)} to {number(m.upper)})"
        for quantity, marginals in shared
        for m in marginals
    )
    alt = f"Mean and {percent(PROB)} equal-tailed interval of {names} under each setting of model error. {told}."
    caption = (
        f"Marks: posterior means. Lines: {percent(PROB)} equal-tailed intervals. Blue, with a diamond: the setting "
        "that this report is about. What lies apart is told by the model error, not by the data alone."
    )
    return picture(drawn, "forest", alt, caption)


def _marginal(setting: ComparedCalibration, name: str, own: Quantity) -> ComparedEstimate:
    """Of one setting, in the unit of the page's own: each posterior chooses its powers of ten by itself."""
    found = setting.quantities[name]
    factor = own.scale.factor / found.scale.factor
    return ComparedEstimate(setting, *(factor * value for value in (found.mean, found.sd, found.lower, found.upper)))


def _moves(shared: Sequence[Shared]) -> str:
    """Quantities that move far, each with the two settings that it lies farthest apart in."""
    found = []
    for quantity, marginals in shared:
        apart = [(_apart(one, other), one, other) for one, other in itertools.combinations(marginals, 2)]
        shift, one, other = max(apart, key=lambda pair: pair[0])
        if shift > FAR:
            between = f" ({one.setting.phrase} vs {other.setting.phrase})" if len(marginals) > 2 else ""
            found.append((shift, f"`{quantity.name}` by {number(shift, 2)}{between}"))
    if not found:
        return "No quantity moves by more than one posterior standard deviation between settings."
    listed = _listed([words for _, words in sorted(found, key=lambda pair: -pair[0])])
    return f"Between settings these move by more than one posterior standard deviation (the wider one's): {listed}."


def _apart(one: ComparedEstimate, other: ComparedEstimate) -> float:
    """How many standard deviations, of the wider one, two means lie apart; 0 where that cannot be told."""
    wide = max(one.sd, other.sd)
    apart = abs(one.mean - other.mean) / wide if wide > 0 else 0.0
    return apart if math.isfinite(apart) else 0.0


def _wider(shared: Sequence[Shared]) -> list[str]:
    """One sentence for each setting but the first: what becomes wider than there, and by how much."""
    words = []
    first, *others = (marginal.setting for marginal in shared[0].marginals)
    for place, setting in enumerate(others, start=1):
        growth = [(quantity.name, _growth(marginals[0], marginals[place])) for quantity, marginals in shared]
        grown = sorted((pair for pair in growth if pair[1] >= WIDER), key=lambda pair: -pair[1])
        start = capital(setting.phrase)
        if grown:
            listed = _listed([f"`{name}` {number(factor, 2)} times" for name, factor in grown])
            words.append(f"{start}, standard deviations are larger than {first.phrase}: {listed}.")
        else:
            words.append(f"{start}, no standard deviation is much larger than {first.phrase}.")
    return words


def _growth(first: ComparedEstimate, other: ComparedEstimate) -> float:
    """By what factor the standard deviation grows; 0 where that cannot be told."""
    return other.sd / first.sd if first.sd > 0 else 0.0


def _listed(words: Sequence[str]) -> str:
    """At most `MOST_NAMED` of them."""
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")
