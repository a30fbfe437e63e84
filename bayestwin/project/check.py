"""What `check` does with a model folder: a run that holds findings as JSON and a page with each column's picture."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bayestwin._base.compilation import keep_compiled
from bayestwin._base.progress import Progress
from bayestwin.check import Finding, Limit, check, read_limits
from bayestwin.check.check import record_for
from bayestwin.check.signals import SignalRecord
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.project.calibrate import FINDINGS, inputs_of
from bayestwin.project.job import as_toml
from bayestwin.project.model import Model, Split, check_ready, load_telemetry, read_model_telemetry
from bayestwin.project.record import read_record, to_json
from bayestwin.project.run import Carried, Given, VerbOutcome, carry_out
from bayestwin.report.check import render_readiness
from bayestwin.results.store import write_text_durably
from bayestwin.telemetry import Telemetry

PAGE = "check.html"


class CheckedModel(NamedTuple):
    """What was found about a model's telemetry and priors.

    Attributes:
        findings: The worst first.
        limits: The operating range of the model's card, by observation and input.
    """

    findings: tuple[Finding, ...]
    limits: dict[str, Limit]

    @property
    def failed(self) -> bool:
        """Whether there is anything that a calibration should not begin with."""
        return any(finding.severity == "fail" for finding in self.findings)


def check_model(
    model: Model, results: pathlib.Path, held_out: pathlib.Path | None = None, *, progress: Progress | None = None
) -> Carried[CheckedModel]:
    """Check a model's telemetry and its prior predictive; nothing is sampled from the posterior.

    Args:
        model: The model.
        results: Where runs are filed.
        held_out: A file of telemetry that is to be held out, instead of what the job's split holds out.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If telemetry, card or settings are wrong; this comes before a run begins.
    """
    split = load_telemetry(model)
    if held_out is not None:
        split = split._replace(held_out=read_model_telemetry(model, held_out))
    check_ready(model, split)
    build_density(model.twin, bind_all(model.twin, split.calibration))
    limits = read_limits(model.folder / "card.md", model.twin)
    keep_compiled()

    def work(run: pathlib.Path, shown: Progress) -> VerbOutcome[CheckedModel]:
        section = model.job.check
        findings = check(
            model.twin,
            split.calibration,
            split.held_out,
            seed=section.seed,
            limits=limits,
            thresholds=section.thresholds(),
            fail_on=section.fail_on,
            ignore=section.ignore,
            first_row=split.first_row,
            progress=shown,
        )
        findings = tuple(one._replace(sentence=as_toml(one.sentence)) for one in findings)
        checked_model = CheckedModel(findings, limits)
        write_text_durably(run / FINDINGS, to_json([finding._asdict() for finding in findings]))
        with shown.timed("report"):
            known = split.calibration
            units = (known if isinstance(known, Telemetry) else next(iter(known.values()))).units
            page = render_readiness(
                findings,
                _looked_at(model, split),
                limits,
                model.twin.name,
                time_unit=units.get("time", model.twin.time_unit),
                folder=str(model.folder),
                provenance=_provenance(run),
            )
        write_text_durably(run / PAGE, page)
        return VerbOutcome(checked_model, "failed gates" if checked_model.failed else "finished", figures_of(findings))

    inputs = inputs_of(model, split)
    given = Given(files={} if held_out is None else {"held_out": held_out})
    return carry_out(model, results, "check", inputs, work, progress, given)


def _looked_at(model: Model, split: Split) -> SignalRecord | dict[str, SignalRecord]:
    """The columns that were looked at; of a fleet those of each asset."""
    if isinstance(split.calibration, Telemetry):
        return record_for(model.twin, *split.of_one("check"), split.first_row)
    later = split.held_out if isinstance(split.held_out, Mapping) else {}
    return {name: record_for(model.twin, one, later.get(name)) for name, one in split.calibration.items()}


def figures_of(findings: Sequence[Finding]) -> dict[str, Any]:
    """How many findings of each severity, and the findings themselves."""
    counts = {severity: sum(one.severity == severity for one in findings) for severity in ("fail", "warn", "note")}
    return {"num_findings": counts, "findings": [finding._asdict() for finding in findings]}


def _provenance(run: pathlib.Path) -> dict[str, str]:
    record = read_record(run)
    hashes = record["telemetry_sha256"]
    told = {
        "run": record["run"],
        "begun": str(record["began"])[:16].replace("T", " ") + " UTC",
        "job file": record["job_file"],
        "SHA-256 of the twin": record["twin_sha256"],
        "SHA-256 of the telemetry calibrated": hashes["calibration"],
        "SHA-256 of what is held out": hashes["held_out"],
    }
    return {name: str(value) for name, value in told.items() if value}
