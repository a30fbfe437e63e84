"""The page that `validate` writes: gathered here, laid out in `validation.html`."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayestwin._base.wording import duration, percent
from bayestwin.assess import points
from bayestwin.assess.validated import HELD_OUT, Validated
from bayestwin.report import coverage, fans, judgements, validation_tables
from bayestwin.report.doubts import SHORT, conformal_words
from bayestwin.report.found import Content, Found, Section
from bayestwin.report.insight import SECTIONS
from bayestwin.report.page import fill
from bayestwin.report.style import Picture, drawing


def render_validation(
    found: Validated, others: Mapping[str, Found], *, folder: str, provenance: Mapping[str, str]
) -> str:
    """Write the page about a validation.

    The page needs nothing beside itself, and all text that comes from users is escaped.

    Args:
        found: What was found.
        others: The newest run of each other verb about the same twin, by verb.
        folder: The model folder, as the user typed it.
        provenance: What the page says about where it comes from, beside hashes and seeds.

    Returns:
        The page as text, to be written as UTF-8.
    """
    unit, prob = found.time_unit, found.prob
    names = list(dict.fromkeys(name for one in found.evidence.values() for name in one.by))
    widths = _widths(found)
    with drawing():
        pictures = _pictures(found)
        groups = [
            (
                "how far ahead" if dim == "horizon" else dim,
                judgements.coverage_by(judgements.by_tables(found.both, found.evidence, dim, prob), dim, prob, unit),
                validation_tables.group_rows(found.evidence, dim, prob, unit),
            )
            for dim in names
        ]
        sections = [(section, _section(section, others)) for section in SECTIONS]
    baselines = validation_tables.baselines_of(found.scores)
    page = {
        "name": found.posterior.attrs.get("twin", ""),
        "version": found.posterior.attrs.get("bayestwin_version", ""),
        "verdict": found.trust,
        "prob": percent(prob),
        "level": percent(float(found.held_out.whole.attrs["level"])),
        "coverage": validation_tables.coverage_rows(found.evidence),
        "groups": groups,
        "group_notes": _group_notes(found),
        "conformal": [] if widths is None else validation_tables.conformal_rows(found.both[HELD_OUT].whole, widths),
        "conformal_words": _conformal(found, widths),
        "conformal_reach": _conformal_reach(found),
        "no_conformal": _no_conformal(found),
        "scores": validation_tables.score_rows(found.scores, prob),
        "baselines": [(f"RMSE of {SHORT[skill]}", "row") for skill in baselines],
        "period": _period_words(found),
        "settings": validation_tables.setting_rows(found.settings, unit),
        "backtest_words": _backtest_words(found),
        "origins": [] if found.backtest is None else validation_tables.origin_rows(found.backtest),
        "gates": found.gates,
        "others": sections,
        "other_sections": [(section.command, section.title) for section in SECTIONS],
        "folder": folder,
        "pictures": pictures,
        "provenance": _provenance(found, provenance),
    }
    return fill("validation.html", page)


def _pictures(found: Validated) -> dict[str, Picture | None]:
    return {
        "coverage": coverage.coverage_plot(found.held_out.whole),
        "conformal": fans.side_by_side(found.posterior, found.intervals, found.telemetry, found.prob),
        "pit": judgements.pit_plot(found.pit),
        "skill": judgements.skill_plot(found.scores),
        "fans": None if found.backtest is None else fans.fans(found.backtest, found.prob),
    }


def _section(section: Section, others: Mapping[str, Found]) -> Content | None:
    """What is to be shown of another verb; None where it has not been run."""
    if section.command not in others:
        return None
    found = others[section.command]
    began = str(found.record.get("began", ""))[:16].replace("T", " ")
    words = [f"Run `{found.run}`" + (f", begun {began} UTC." if began else ".")]
    if found.same_data is False:
        words.append("It is about other telemetry than this validation.")
    if found.trouble:
        return Content(words=(*words, f"Its file cannot be read. {found.trouble}"))
    content = section.build(found)
    return content._replace(words=(*words, *content.words))


def _widths(found: Validated) -> xr.Dataset | None:
    if HELD_OUT not in found.both:
        return None
    row = points.axis(found.predictions)
    places = {name: pair.positions for name, pair in points.pairs(found.predictions, row, found.telemetry).items()}
    return validation_tables.mean_widths(found.intervals, places)


def _conformal(found: Validated, widths: xr.Dataset | None) -> list[str]:
    if widths is None or found.correction is None:
        return []
    own = {part: one.whole.sel(prob=found.prob, method="nearest") for part, one in found.both.items()}
    at = {"prob": found.prob, "method": "nearest"}
    return conformal_words(own, widths.sel(**at), found.correction.sel(**at))


def _conformal_reach(found: Validated) -> str:
    """A warning where what was held out lies further ahead than the backtest looked."""
    if found.backtest is None:
        return ""
    ahead = float(np.max(points.horizons(found.predictions, points.axis(found.predictions))))
    seen = float(np.max(points.horizons(found.backtest, points.axis(found.backtest))))
    if ahead <= 1.01 * seen:
        return ""
    return f", nor is it known further ahead than the backtest looked ({duration(seen, found.time_unit)})"


def _no_conformal(found: Validated) -> str:
    """Why there is no conformal interval at all."""
    if found.backtest is None:
        return "Without a backtest there is nothing that conformal intervals could be made from."
    return "The backtest has too few errors to make conformal intervals from."


def _period_words(found: Validated) -> str:
    return f"A period is {duration(found.period, found.time_unit)}." if found.period else ""


def _group_notes(found: Validated) -> list[str]:
    if any("horizon" in evidence.by for evidence in found.evidence.values()):
        return [
            "What was held out is one forecast: its horizons are also times, and what differs between them may be the "
            "time. A backtest has several forecasts for each horizon."
        ]
    return []


def _backtest_words(found: Validated) -> list[str]:
    words = [
        "The backtest uses what was calibrated alone, so that what was held out stays unseen by the "
        "conformal intervals."
    ]
    if found.trial.evidence is None and found.trial.failures:
        words.append(f"It gave no forecast at all: {found.trial.failures[0]}")
    if found.settings.get("method") not in (None, found.posterior.attrs.get("method")):
        words.append(
            f"Its posteriors are by `{found.settings['method']}`, which is quick; the run itself by "
            f"`{found.posterior.attrs.get('method')}`. `method` in `[validate]` says which."
        )
    return words


def _provenance(found: Validated, told: Mapping[str, str]) -> list[tuple[str, str]]:
    attrs = found.posterior.attrs
    return [
        *told.items(),
        ("bayestwin of the posterior", str(attrs.get("bayestwin_version", "not recorded"))),
        ("seed of the posterior", str(attrs.get("seed", "not recorded"))),
        ("SHA-256 of the twin", str(attrs.get("twin_sha256", "not recorded"))),
        ("SHA-256 of the telemetry calibrated", str(attrs.get("telemetry_sha256", "not recorded"))),
        ("source of what was held out", str(found.telemetry.source)),
        ("SHA-256 of what was held out", str(found.telemetry.sha256)),
    ]
