"""The same telemetry under several model errors: what is compared, and how each does on what was held out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin._base.wording import number, percent, scale_for, unit_text
from bayestwin.assess import diagnose, draws, failed, intervals
from bayestwin.assess.recorded import record
from bayestwin.report.held_out import held_out
from bayestwin.report.quantities import PROB, Quantity, read_quantities
from bayestwin.report.verdict import interrupted
from bayestwin.telemetry import Telemetry

type Calibrated = tuple[xr.DataTree, xr.DataTree | None]
"""What `calibrate` returned, and what `predict` did with it."""

PHRASES = {"": "without model error", "ProcessNoise": "with process noise", "Discrepancy": "with a discrepancy"}


class Setting(NamedTuple):
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
    setting: Setting
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
                message = errors.explain(
                    f"The calibration `{name}` cannot stand beside this one: it is of another {words}.",
                    expected=f"{key} {ours}",
                    received=f"{theirs}",
                    advice="Compare calibrations of one twin on the same telemetry, which differ in their model error.",
                )
                raise errors.InvalidInput(message)


def read_settings(
    own: Calibrated, beside: Mapping[str, Calibrated], validation: Telemetry | None
) -> tuple[Setting, ...]:
    """What is compared, in the given order, but that without model error first: others are told against the first."""
    found = [_read("", *own, validation), *(_read(name, *pair, validation) for name, pair in beside.items())]
    phrases = [setting.phrase for setting in found]
    unique = [s if phrases.count(s.phrase) == 1 else s._replace(phrase=f"{s.phrase} ({_told(s)})") for s in found]
    return tuple(sorted(unique, key=lambda setting: bool(setting.error)))


def setting_facts(settings: Sequence[Setting]) -> list[tuple[str, str]]:
    """Label and model error of each setting, as text."""
    return [(f"{s.label} (this report)" if s.own else s.label, _error_text(s.error)) for s in settings]


def held_out_words(settings: Sequence[Setting]) -> list[str]:
    """Whom not to rely on, then one sentence by observation on how many of those held out each setting covers."""
    words = [f"Do not rely on what stands here {s.phrase}: {s.doubts}." for s in settings if s.doubts]
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


def held_out_rows(settings: Sequence[Setting]) -> list[HeldOutRow]:
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
                    good=None if found is None else bool(found["within_joint_band"]),
                    width=number(scale.factor * width),
                    **score,
                )
            )
    return rows


def capital(phrase: str) -> str:
    """A phrase at the beginning of a sentence; names keep their letters."""
    return phrase[:1].upper() + phrase[1:]


def _read(name: str, posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None) -> Setting:
    """One setting; the page's own has no name."""
    error = record(posterior, "description").get("model_error") or {}
    kind = str(error.get("kind", ""))
    phrase = PHRASES.get(kind, f"with {kind}")
    covered, scored, _ = held_out(forecast, validation)
    quantities = {quantity.name: quantity for quantity in read_quantities(posterior)}
    doubts = _doubts(posterior, covered) if name else ""
    return Setting(name or phrase, not name, error, phrase, doubts, forecast, covered, scored, quantities)


def _doubts(posterior: xr.DataTree, covered: xr.Dataset | None) -> str:
    """What speaks against a posterior, by the limits of its own job."""
    limits = record(posterior, "job").get("gates") or {}
    known = {key: value for key, value in limits.items() if key in (diagnose.__kwdefaults__ or {})}
    bad = [gate.name for gate in failed(diagnose(posterior, **known, covered=covered))]
    doubts = ["sampling was interrupted"] if interrupted(posterior) else []
    return " and ".join([*doubts, f"gates failed ({', '.join(bad)})"] if bad else doubts)


def _told(setting: Setting) -> str:
    return "this report" if setting.own else f"`{setting.label}`"


def _observations(settings: Sequence[Setting]) -> list[str]:
    """Those that any setting predicts."""
    found = [draws.predictive(s.forecast)[1] for s in settings if s.forecast is not None]
    return list(dict.fromkeys(name for dataset in found for name in draws.observations(dataset)))


def _covered(setting: Setting, name: str) -> xr.Dataset | None:
    """Coverage of the interval of `PROB`; None where it is not known."""
    if setting.covered is None or name not in setting.covered["observation"]:
        return None
    found = setting.covered.sel(observation=name, prob=PROB)
    return found if int(found["num"]) else None


def _judgement(found: xr.Dataset) -> str:
    if bool(found["within_joint_band"]):
        return ", as promised"
    return ": too narrow" if float(found["coverage"]) < float(found["prob"]) else ": too wide"


def _error_text(error: Mapping[str, Any]) -> str:
    if not error:
        return "Without model error: the equations are taken to be exact."
    chosen = "".join(f", {name} {word}" for name, word in error["settings"].items() if word is not None)
    priors = [f"{q['name']}: {q['prior']} {unit_text(q['unit'])}".rstrip() for q in error["quantities"]]
    return f"{error['kind']}{chosen}. {'; '.join(priors)}."
