"""What `design` does with a model folder: a run that says what to record next, and whether an earlier one was right."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, failed
from bayestwin.errors import InvalidInput, InvalidJob
from bayestwin.insight.candidates import Candidate, options_of
from bayestwin.insight.design import design
from bayestwin.insight.promise import judge_design, promises, sentences
from bayestwin.project.calibrate import inputs_of
from bayestwin.project.job import about_job
from bayestwin.project.model import Model, read_model_telemetry
from bayestwin.project.predict import Results, open_results
from bayestwin.project.run import Carried, Given, VerbOutcome, carry_out, find_run
from bayestwin.project.sections import CandidateSection
from bayestwin.results.store import load, save, write_text_durably
from bayestwin.telemetry import Telemetry

DESIGN, PAGE, KEPT = "design.nc", "design.html", "design_kept.nc"

MOST_OPTIONS = 20
"""Options that are told of; the file has all."""


class Designed(NamedTuple):
    """What to record next, or whether what was promised came true.

    Attributes:
        run: Name of the calibration that it rests on.
        tree: As of `design`, of this run or of the earlier one.
        sentences: What it comes to.
        kept: As of `judge_design`, where an earlier design is judged.
    """

    run: str
    tree: xr.DataTree
    sentences: tuple[str, ...]
    kept: xr.Dataset | None = None


class Planned(NamedTuple):
    """What is given beside the model and its job.

    Attributes:
        files: Planned telemetry by candidate: what the command names, or what a run kept.
        run: Name of the calibration; by default the newest.
        judged: Name of a run of `design` whose promise is judged.
        recorded: What was recorded since, where that is not what it chose.
    """

    files: Mapping[str, pathlib.Path] = {}
    run: str | None = None
    judged: str | None = None
    recorded: str | None = None


def design_model(
    model: Model,
    results: pathlib.Path,
    planned: Planned | None = None,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> tuple[Carried[Designed], str]:
    """Say what to record next for a model, or whether what an earlier run said came true.

    Args:
        model: The model; its job's `[design]` has the candidates and the settings.
        results: Where runs are filed.
        planned: What is given beside it.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Returns:
        The run, and what became of the calibration that it rests on.

    Raises:
        InvalidInput: If there are no candidates, or no such runs.
    """
    planned = planned or Planned()
    earlier = open_results(model, find_run(results, model, planned.run))
    options = {"run": earlier.run.name, "judged": planned.judged, "recorded": planned.recorded}
    if planned.judged is not None:
        given = Given(options, runs=[earlier.run, results / model.name / planned.judged])
        return _carried(model, results, given, earlier, _judging(model, results, planned, earlier), progress)
    files = _files_of(model, planned.files)
    candidates = _candidates_of(model, files)
    with about_job(f"`[design]` of `{model.job_path}`"):  # before a run begins
        options_of(model.twin, earlier.split.calibration, candidates)
    told = {f"candidate-{number}": path for number, path in enumerate(files.values())}
    given = Given(options | {"candidates": list(files)}, told, [earlier.run])

    def work(folder: pathlib.Path, shown: Progress) -> VerbOutcome[Designed]:
        settings = model.job.design.model_dump(exclude={"candidates"})
        tree = design(
            model.twin,
            earlier.split.calibration,
            candidates,
            posterior=earlier.posterior,
            device=device,
            progress=shown,
            **settings,
        )
        save(tree, folder / DESIGN)
        with shown.timed("report"):
            from bayestwin.report.insight import render_design  # half a second, which only a page is worth

            write_text_durably(folder / PAGE, render_design(tree))
        words = tuple(sentences(tree))
        return VerbOutcome(Designed(earlier.run.name, tree, words), "finished", figures_of(tree, words))

    return _carried(model, results, given, earlier, work, progress)


def _carried(
    model: Model, results: pathlib.Path, given: Given, earlier: Results, work: Any, progress: Progress | None
) -> tuple[Carried[Designed], str]:
    inputs = inputs_of(model, earlier.split)
    return carry_out(model, results, "design", inputs, work, progress, given), earlier.status


def _judging(model: Model, results: pathlib.Path, planned: Planned, earlier: Results) -> Any:
    """The work of judging an earlier design by the posterior of a calibration since."""
    path = results / model.name / str(planned.judged) / DESIGN
    if not path.is_file():
        there = sorted(found.parent.name for found in (results / model.name).glob(f"*/{DESIGN}"))
        raise InvalidInput(
            f"There is no design in run `{planned.judged}`.",
            expected=f"a run of `bayestwin design {model.folder}`",
            received=", ".join(f"`{name}`" for name in there[-5:]) or "no such runs",
            advice="Name one of these by `--judge`.",
        )
    tree = load(path)

    def work(folder: pathlib.Path, _: Progress) -> VerbOutcome[Designed]:
        kept = judge_design(tree, model.twin, earlier.split.calibration, earlier.posterior, recorded=planned.recorded)
        save(xr.DataTree(kept), folder / KEPT)
        gates = gates_of(kept)
        words = tuple(str(one) for one in kept["sentence"].values)
        status = "failed gates" if failed(gates) else "finished"
        figures = {"gates": [gate._asdict() for gate in gates], "sentences": list(words)}
        return VerbOutcome(Designed(earlier.run.name, tree, words, kept), status, figures)

    return work


def gates_of(kept: xr.Dataset) -> tuple[Gate, ...]:
    """Whether each target is as narrow as was promised; what was not simulated is not judged."""
    return tuple(
        Gate(
            f"design {name}",
            kept["outcome"].sel(target=name).item() != "wider",
            float(kept["realised"].sel(target=name)),
            float(kept["upper"].sel(target=name)),
            str(kept["sentence"].sel(target=name).item()),
        )
        for name in map(str, kept["target"].values)
        if kept["outcome"].sel(target=name).item() != "unknown"
    )


# Candidates, as the job and the command say them.


def _files_of(model: Model, asked: Mapping[str, pathlib.Path]) -> dict[str, pathlib.Path]:
    """Files of planned telemetry by candidate: those of the job, and those that are asked for beside or instead."""
    files = {}
    for name, one in model.job.design.candidates.items():
        if one.planned is None or name in asked:
            continue
        files[name] = model.folder / one.planned
        if not files[name].is_file():
            raise InvalidJob(
                f"Candidate `{name}` in `[design]` of `{model.job_path}` names a file that is not there.",
                expected=f"telemetry to come in `{files[name]}`",
                received="nothing under that path",
                advice="Correct `planned`, which is counted from the job file.",
            )
    return files | dict(asked)


def _candidates_of(model: Model, files: Mapping[str, pathlib.Path]) -> dict[str, Candidate]:
    """The candidates of the job, and those of files that are given beside."""
    told = dict(model.job.design.candidates)
    told |= {name: CandidateSection() for name in files if name not in told}
    if not told:
        raise InvalidInput(
            f"There is nothing to choose from in `{model.job_path}`.",
            expected="tables `[design.candidates.NAME]` with `planned` or `times`, or `--planned FILE`",
            received="none",
            advice="Say what could be recorded next: a file with the times and inputs of telemetry to come, or the "
            "times at which observations could be read.",
        )
    found = {}
    for name, one in told.items():
        settings: dict[str, Any] = one.model_dump(exclude={"planned"})
        if name in files:
            record = read_model_telemetry(model, files[name], partly=True)
            if not isinstance(record, Telemetry):
                owner, record = _only(name, record)
                settings["experiment"] = settings["experiment"] or owner
            settings["planned"] = record
        found[name] = Candidate(**settings)
    return found


def _only(name: str, records: Mapping[str, Telemetry]) -> tuple[str, Telemetry]:
    """The one asset that a file is about."""
    if len(records) == 1:
        return next(iter(records.items()))
    raise InvalidInput(
        f"Candidate `{name}` is of several assets.",
        expected="planned telemetry of one asset, that was calibrated or is new",
        received=", ".join(f"`{asset}`" for asset in records),
        advice="Write a file for each, and name each as a candidate.",
    )


def figures_of(tree: xr.DataTree, words: tuple[str, ...]) -> dict[str, Any]:
    """What is promised, the choice and the best options, as plain values for JSON."""
    options = tree["options"].to_dataset().isel(option=slice(MOST_OPTIONS))
    rows = {
        str(name): {
            "cost": float(options["cost"].sel(option=name)),
            "sd": {str(t): float(options["sd"].sel(option=name, target=t)) for t in options["target"].values},
        }
        for name in options["option"].values
    }
    return {
        "sentences": list(words),
        "chosen": [str(name) for name in tree["chosen"].to_dataset()["option"].values],
        "promises": [one._asdict() for one in promises(tree)],
        "ranked": rows,
    }
