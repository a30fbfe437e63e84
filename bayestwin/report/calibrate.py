"""One self-contained HTML page about one result: gathered here, laid out in `calibration.html`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin import errors
from bayestwin._base.wording import percent
from bayestwin.assess import Gate, diagnose, draws
from bayestwin.assess import quantities as asked_quantities
from bayestwin.assess.gates import record
from bayestwin.assess.residuals import dependent, width_words
from bayestwin.report import coverage, model_errors, posteriors, series, tables
from bayestwin.report.coverage import Residuals, residual_words, residuals_of
from bayestwin.report.page import Picture, drawing, fill
from bayestwin.report.prose import interrupted, key_figures, origin_rows, origin_words, start_words, verdict
from bayestwin.report.reading import (
    PROB,
    Period,
    Quantity,
    apart,
    group,
    held_out,
    of_other_draws,
    provenance_rows,
    read_quantities,
    result_rows,
    split,
    time_axis,
)
from bayestwin.report.series import shares_plot
from bayestwin.report.tables import EarlierCheck, finding_rows, finding_words
from bayestwin.results.schema import quantity_names
from bayestwin.telemetry import Telemetry


class Among(NamedTuple):
    """One experiment of several.

    Attributes:
        experiment: Its name; empty where there is only one.
        links: Words and file of each page that this one leads to.
    """

    experiment: str = ""
    links: Sequence[tuple[str, str]] = ()


ALONE = Among()


def render_report(
    posterior: xr.DataTree,
    forecast: xr.DataTree | None = None,
    *,
    validation: Telemetry | None = None,
    gates: Sequence[Gate] | None = None,
    provenance: dict[str, Any] | None = None,
    beside: Mapping[str, tuple[xr.DataTree, xr.DataTree | None]] | None = None,
    shares: xr.Dataset | None = None,
    checked: EarlierCheck | None = None,
    among: Among = ALONE,
) -> str:
    """Write the report about a calibrated twin as one HTML page.

    The page needs nothing beside itself: pictures are inline SVG, and there are no addresses. Its one script copies
    tables and changes colours; without it the page is the same. All text that comes from users is escaped. Where
    something is missing, the page says so, and what to do.

    Args:
        posterior: What `calibrate` returned.
        forecast: What `predict` returned for times after the calibration; None if there is no forecast.
        validation: Telemetry that calibration has not seen, to hold the forecast against.
        gates: The verdict; by default `diagnose(posterior)`.
        provenance: What the run recorded about itself (versions, settings, time taken); may be nested.
        beside: Other calibrations of the same telemetry under other model errors, by what each is called, with their
            forecasts: the page then compares them.
        shares: What `uncertainty_shares` returned, to be drawn over time.
        checked: What `bayestwin check` found in the telemetry; None where it was not run.
        among: Which of several experiments it is about, and the pages about the others.

    Returns:
        The page as text, to be written as UTF-8.

    Raises:
        InvalidInput: If what stands beside it is of another twin or of other telemetry, or there are several
            experiments: `write_reports` writes a page about each.
    """
    others = {name: _of_one(*pair, None)[:2] for name, pair in (beside or {}).items()}
    model_errors.check_beside(posterior, others)
    posterior, forecast, validation = _of_one(posterior, forecast, validation)
    judged = tuple(diagnose(posterior, predictions=forecast) if gates is None else gates)
    quantities = read_quantities(posterior)
    parts = split(posterior, forecast, validation)
    covered, scored, missing = held_out(forecast, validation)
    residuals = residuals_of(parts)
    origins, description = origin_rows(parts), record(posterior, "description")
    page = {
        "description": description,
        "experiment": among.experiment,
        "beyond": among.links,
        "notices": None if provenance is None else provenance.get("telemetry_notices"),
        "findings": finding_rows(checked),
        "finding_words": finding_words(checked),
        "version": posterior.attrs.get("bayestwin_version", ""),
        "verdict": verdict(
            judged, covered, interrupted=interrupted(posterior), other_draws=of_other_draws(forecast, posterior)
        ),
        "gates": judged,
        "figures": key_figures(posterior, quantities, judged, covered, scored),
        "origins": origins,
        "origin_words": origin_words(origins, description),
        "prob": percent(PROB),
        "parameters": tables.parameter_rows(quantities, judged),
        "parameter_words": width_words(judged),
        "starts": start_words(posterior),
        "missing": missing,
        "coverage": [] if covered is None else tables.coverage_rows(covered),
        "coverage_kind": "" if covered is None else covered.attrs["kind"],
        "band": "" if covered is None else percent(covered.attrs["level"]),
        "scores": [] if scored is None else tables.score_rows(scored),
        "quantities": _asked(forecast, validation),
        "residuals": residual_words(residuals, dependent(posterior)),
        "compared": _compared(model_errors.read_settings((posterior, forecast), others, validation))
        if others
        else None,
        "result": result_rows(posterior, parts, forecast, validation),
        "comes_from": provenance_rows(posterior.attrs.get("job") or "{}", provenance),
        "unseen": [] if forecast is None or among.experiment else forecast.attrs.get("beyond", []),
        "pictures": _pictures(posterior, quantities, parts, forecast, covered, residuals, shares),
    }
    return fill("calibration.html", page)


def _asked(forecast: xr.DataTree | None, validation: Telemetry | None) -> list[tables.QuantityRow]:
    """The quantities of interest that a forecast has; with what meters counted, where that was held out."""
    predicted = group(forecast, "predictions")
    names = quantity_names(predicted)
    if forecast is None or not names:
        return []
    meters = [str(predicted[name].attrs["meter"]) for name in names if "meter" in predicted[name].attrs]
    read = validation is not None and all(validation.holds(meter) for meter in meters)
    found = asked_quantities(forecast, prob=PROB, telemetry=validation if meters and read else None)
    return tables.quantity_rows(found, {name: str(predicted[name].attrs["long_name"]) for name in names})


def _of_one(
    posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None
) -> tuple[xr.DataTree, xr.DataTree | None, Telemetry | None]:
    """What a page is about: one telemetry, or one experiment taken out of several."""
    known = group(posterior, "observed_data")
    if "experiment" not in known.coords:
        return posterior, forecast, validation
    if "experiment" not in known.dims:
        counted = None if validation is None else draws.counted(validation, known["experiment"])
        return draws.alone(posterior), None if forecast is None else draws.alone(forecast), counted
    names = known["experiment"].to_numpy()
    raise errors.InvalidInput(
        "A report is about one experiment.",
        expected="a result of one telemetry, or one experiment of it",
        received=f"{len(names)} experiments: {', '.join(f'`{name}`' for name in names)}",
        advice="`write_reports` writes a page about each. Or take one, and its forecast likewise: "
        f"`posterior.sel(experiment={str(names[0])!r})`.",
    )


def _pictures(
    posterior: xr.DataTree,
    quantities: tuple[Quantity, ...],
    parts: tuple[Period, ...],
    forecast: xr.DataTree | None,
    covered: xr.Dataset | None,
    residuals: tuple[Residuals, ...],
    shares: xr.Dataset | None,
) -> dict[str, Picture | None]:
    """Every picture by its name; None where there is nothing to draw."""
    axis = time_axis(posterior)
    other = parts[1:] if apart(parts) else ()
    first = parts[:1] if other else parts
    start = "" if forecast is None else draws.start_words(forecast)
    with drawing():
        return {
            "series": series.observations(first, axis),
            "other": series.observations(other, axis, start) if other else None,
            "closer": series.closer_look(first, axis),
            "hidden": series.hidden_states(first, axis),
            "shares": None if shares is None else shares_plot(shares, axis),
            "discrepancy": series.discrepancies(first, axis),
            "prior": posteriors.against_prior(quantities),
            "pairs": posteriors.pairs(quantities, group(posterior, "sample_stats")),
            "traces": posteriors.traces(quantities),
            "starts": posteriors.starts(record(posterior, "starts").get("log_density", ())),
            "coverage": None if covered is None else coverage.coverage_plot(covered),
            "residuals": coverage.residual_plot(residuals, axis) if residuals else None,
        }


def _compared(compared: tuple[model_errors.ComparedCalibration, ...]) -> dict[str, Any]:
    """What the section on several model errors holds."""
    both = model_errors.shared_quantities(compared)
    with drawing():
        forest = model_errors.forest(both)
    return {
        "words": model_errors.held_out_words(compared) + model_errors.shared_words(both),
        "facts": model_errors.setting_facts(compared),
        "held_out": model_errors.held_out_rows(compared),
        "quantities": model_errors.shared_rows(both),
        "forest": forest,
    }
