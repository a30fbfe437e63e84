"""Reports about many experiments of one asset: a page about all, and a page about each, linked both ways."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from bayestwin import errors
from bayestwin._base.progress import Progress
from bayestwin._base.wording import percent
from bayestwin.assess import Gate, diagnose, draws
from bayestwin.assess.recorded import record
from bayestwin.report import tables
from bayestwin.report.calibrate import Among, render_report
from bayestwin.report.experiment_rows import Held, experiment_rows, experiment_words, own_forest
from bayestwin.report.facts import flat_rows, result_rows
from bayestwin.report.held_out import held_out
from bayestwin.report.page import fill
from bayestwin.report.quantities import PROB, read_quantities
from bayestwin.report.reading import group
from bayestwin.report.verdict import interrupted, verdict
from bayestwin.results.store import write_text_durably
from bayestwin.telemetry import Telemetry

OVERVIEW = "index.html"
LETTERS = 40
"""Of the name of an experiment in the name of its file."""


def write_reports(
    posterior: xr.DataTree,
    folder: str | os.PathLike[str],
    forecast: xr.DataTree | None = None,
    *,
    validation: Mapping[str, Telemetry] | None = None,
    gates: Sequence[Gate] | None = None,
    provenance: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> pathlib.Path:
    """Write a page about all experiments of an asset, and one about each.

    Args:
        posterior: What `calibrate` returned for several experiments, with the dimension `experiment`.
        folder: Where the pages go; it is made if need be.
        forecast: What `predict` returned, of some of them or all.
        validation: By experiment, telemetry that calibration has not seen.
        gates: The verdict on all; by default `diagnose(posterior)`.
        provenance: What the run recorded about itself.
        progress: Where progress is shown.

    Returns:
        The page about all, `index.html`; each of the others is named by number and experiment.

    Raises:
        InvalidInput: If the result is of one telemetry, or `validation` names an experiment that it does not have.
    """
    names = _names(posterior, validation or {})
    judged = tuple(diagnose(posterior) if gates is None else gates)
    files = [file_name(place, name) for place, name in enumerate(names, 1)]
    where = pathlib.Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    held = []
    with progress or Progress() as shown, shown.phase("report", "one page an experiment", len(names)) as phase:
        for place, (name, file) in enumerate(zip(names, files, strict=True)):
            one = _held(name, file, posterior, forecast, (validation or {}).get(name))
            links = [("All experiments", OVERVIEW)]
            links += [(f"← {names[place - 1]}", files[place - 1])] if place else []
            links += [(f"{names[place + 1]} →", files[place + 1])] if place + 1 < len(names) else []
            page = render_report(
                one.posterior,
                one.forecast,
                validation=one.validation,
                gates=judged,
                provenance=provenance,
                among=Among(name, links),
            )
            write_text_durably(where / file, page)
            held.append(one)
            phase.advance(1)
    return write_text_durably(where / OVERVIEW, _overview(posterior, held, judged, provenance))


def file_name(place: int, name: str) -> str:
    """A file for an experiment: its number, which tells it from all others, and of its name what every system takes."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:LETTERS]
    return f"{place:03d}-{letters.strip('-')}".rstrip("-") + ".html"


def _names(posterior: xr.DataTree, validation: Mapping[str, Telemetry]) -> list[str]:
    known = group(posterior, "observed_data")
    if "experiment" not in known.dims:
        message = errors.explain(
            "These are not several experiments.",
            expected="a result with the dimension `experiment`",
            received="the result of one telemetry",
            advice="`render_report` writes the page about one.",
        )
        raise errors.InvalidInput(message)
    names = [str(name) for name in known["experiment"].to_numpy()]
    strange = [name for name in validation if name not in names]
    if strange:
        message = errors.explain(
            f"`validation` has an experiment `{strange[0]}` that was not calibrated.",
            expected=", ".join(f"`{name}`" for name in names),
            received=f"`{strange[0]}`",
            advice="Give what was held out of each experiment under the name that it was calibrated by.",
        )
        raise errors.InvalidInput(message)
    return names


def _held(
    name: str, file: str, posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None
) -> Held:
    ahead = None
    if forecast is not None and name in group(forecast, "predictions").get("experiment", ()):
        ahead = forecast.sel(experiment=name)
    own = posterior.sel(experiment=name)
    counted = None
    if validation is not None:
        counted = draws.counted(validation, group(own, "observed_data")["experiment"])
    covered, scored, _ = held_out(None if ahead is None else draws.alone(ahead), counted)
    return Held(name, file, own, ahead, validation, covered, scored)


def _overview(
    posterior: xr.DataTree, held: Sequence[Held], judged: Sequence[Gate], provenance: dict[str, Any] | None
) -> str:
    found = verdict(judged, None, interrupted=interrupted(posterior))
    rows = [row for one in held for row in experiment_rows(one)]
    own = [str(name) for name, values in group(posterior, "posterior").data_vars.items() if "experiment" in values.dims]
    shared = [q for q in read_quantities(draws.alone(held[0].posterior)) if q.name.split("[")[0] not in own]
    panels = [(one, {q.name: q for q in read_quantities(draws.alone(one.posterior))}) for one in held]
    bad = list(dict.fromkeys(row.name for row in rows if row.good is False))
    if bad and found.status == "pass":
        words = f"All {len(judged)} gates passed, but not all intervals cover as promised."
        found = found._replace(status="warn", headline=words)
    page = {
        "description": record(posterior, "description"),
        "version": posterior.attrs.get("bayestwin_version", ""),
        "verdict": found._replace(lines=experiment_words(posterior, held, bad)),
        "gates": judged,
        "prob": percent(PROB),
        "experiments": rows,
        "pages": [(one.name, one.file) for one in held],
        "parameters": tables.parameter_rows(shared, judged),
        "picture": own_forest([(one.name, {n: q for n, q in known.items() if n in own}) for one, known in panels]),
        "own": [
            (one.name, tables.parameter_rows([known[n] for n in own if n in known], judged)) for one, known in panels
        ],
        "result": result_rows(posterior, (), None, None),
        "run": flat_rows({key: value for key, value in (provenance or {}).items() if key != "job"}),
    }
    return fill("experiments.html", page)
