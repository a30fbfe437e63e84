"""What speaks for a run: each gate looks at one kind of evidence that runs of the model have left.

What is missing, damaged, of something else, or no number has not passed. Nothing is computed here.
"""

import datetime
import json
import math
import pathlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeGuard

from bayestwin._base.wording import count
from bayestwin.errors import CorruptArtifact, InvalidInput
from bayestwin.project.record import RECORD, is_locked, read_record
from bayestwin.project.run import ENDED, POSTERIOR, sha256_of
from bayestwin.project.scenario import SCENARIOS
from bayestwin.project.sections import StageSection
from bayestwin.registry.log import InStage, RegistryEvent, is_plain_name

MONITOR, SHADOW = "monitor.json", "shadow.json"
"""What monitoring, and a comparison with production, leave in the folder of a run."""

LARGEST = 64 << 20
"""Bytes that a file of evidence may have."""


class GateOutcome(NamedTuple):
    """What a gate of a promotion said.

    Attributes:
        name: Of the gate.
        verdict: `"missing"` where there is no evidence, or none of this run, which stops as `"failed"` does.
        sentence: What was found, and what to do where it did not pass.
        file: The evidence, counted from the folder of the model's runs; empty where there is none.
        sha256: Hash of that file.
    """

    name: str
    verdict: Literal["passed", "failed", "missing"]
    sentence: str
    file: str = ""
    sha256: str = ""


class Promotable(NamedTuple):
    """A run that can be promoted: it has come to its end, and its posterior is the one that it recorded.

    Attributes:
        folder: Of the run.
        record: The content of its `run.json`.
        posterior_sha256: Hash of its posterior.
        record_sha256: Hash of its record.
    """

    folder: pathlib.Path
    record: Mapping[str, Any]
    posterior_sha256: str
    record_sha256: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def runs(self) -> pathlib.Path:
        """Where the runs of its model are filed."""
        return self.folder.parent


def open_promotable(runs: pathlib.Path, name: str) -> Promotable:
    """A run as it must be to be promoted, whatever its gates say; nobody can overrule that.

    Args:
        runs: Where the runs of the model are filed.
        name: Of the run.

    Raises:
        InvalidInput: There is no such run with a posterior, or it has not come to its end.
        CorruptArtifact: Its posterior is not the one that it recorded.
    """
    folder = runs / name
    there = is_plain_name(name) and not folder.is_symlink() and (folder / POSTERIOR).is_file()
    record = read_record(folder) if there else {}
    if record.get("status") not in ENDED or is_locked(folder):
        raise InvalidInput(
            f"Run `{name}` of `{runs.name}` cannot be promoted.",
            expected=f"a run in `{runs}` that has come to its end, with a posterior",
            received=f"one with the status “{record.get('status')}”" if record else "no run of that name with one",
            advice="`bayestwin runs` lists the runs.",
        )
    recorded, found = _at(record, "outputs", POSTERIOR), sha256_of(folder / POSTERIOR)
    if recorded != found:
        raise CorruptArtifact(
            f"`{folder / POSTERIOR}` is not the posterior that the run recorded.",
            expected=f"the sha256 {str(recorded)[:12]}",
            received=found[:12],
            advice="Restore it from a copy, or calibrate again.",
        )
    return Promotable(folder, record, found, sha256_of(folder / RECORD))


def judge_run(
    run: Promotable, asked: StageSection, stage: str, events: Sequence[RegistryEvent], production: InStage | None
) -> tuple[GateOutcome, ...]:
    """What all gates of a stage say of a run.

    Args:
        run: The run.
        asked: What the job asks for.
        stage: Which stage that is.
        events: The log of the model.
        production: What is in production.
    """
    names = dict.fromkeys(["diagnostics", *asked.requires])
    found = [GATES[name](run) for name in names]
    if asked.shadow_for is not None:
        found.append(shadow_gate(run, asked.shadow_for, production))
    if asked.approvals:
        found.append(approvals_gate(run, asked.approvals, stage, events))
    return tuple(found)


# A gate for each kind of evidence.


def _diagnostics(run: Promotable) -> GateOutcome:
    """The gates that the run itself has recorded."""
    gates = run.record.get("gates")
    names = {gate.get("name") for gate in gates if isinstance(gate, dict)} if isinstance(gates, list) else set()
    finished, judged = run.record["status"] == "finished", names & {"rhat", "approximation"}
    if finished and judged:
        verdict, sentence = _judged(gates)
    else:
        verdict = "missing" if finished else "failed"
        sentence = (
            "The record has no gate on R̂ or on how an approximation covers the posterior: calibrate anew."
            if finished
            else f"The run has the status “{run.record['status']}”."
        )
    return GateOutcome("diagnostics", verdict, sentence, f"{run.name}/{RECORD}", run.record_sha256)


def _validation(run: Promotable) -> GateOutcome:
    """What the newest validation of this posterior said of its intervals."""

    def of_this_posterior(record: Mapping[str, Any]) -> bool:
        return _at(record, "uses", run.name, POSTERIOR) == run.posterior_sha256

    found = _newest(run, "validate", of_this_posterior)
    if found is None:
        return _missing("validation", "This posterior was not validated: run `bayestwin validate`.")
    folder, record = found
    status, headline, holds = (_at(record, "verdict", key) for key in ("status", "headline", "holds"))
    covered = _at(record, "summary", "held_out", "coverage")
    shares = [share for name in covered for share in _at(covered, name).values()] if covered else []
    if status == "fail" or record["status"] != "finished":
        outcome = "failed", str(headline or f"The validation has the status “{record['status']}”.")
    elif status not in ("pass", "warn") or not shares or not all(map(_is_number, shares)):
        outcome = "failed", "The validation has no verdict, or coverage that is no number: validate anew."
    elif not holds:
        outcome = "missing", f"Nothing was confirmed of these intervals. {headline}"
    else:
        outcome = "passed", str(headline)
    return _of_file("validation", folder, "validation.nc", record, *outcome)


def _sbc(run: Promotable) -> GateOutcome:
    """Simulation-based calibration of the twin by the code that made the run."""

    def of_twin(record: Mapping[str, Any]) -> bool:
        return record.get("twin_sha256") == run.record.get("twin_sha256")

    def of_code(record: Mapping[str, Any]) -> bool:
        return of_twin(record) and record.get("code_sha256") == run.record.get("code_sha256")

    found = _newest(run, "sbc", of_code)
    if found is None:
        other = _newest(run, "sbc", of_twin) is not None
        words = "There is one of this twin, by other code" if other else "There is none of this twin"
        return _missing("sbc", f"{words}: run `bayestwin sbc` with the code that made the run.")
    return _of_gates("sbc", found, "sbc.nc")


def _identifiability(run: Promotable) -> GateOutcome:
    """What the telemetry that was calibrated can tell of this twin."""

    def same(record: Mapping[str, Any]) -> bool:
        keys = ("twin_sha256",), ("telemetry_sha256", "calibration")
        return all(_at(record, *key) == _at(run.record, *key) for key in keys)

    found = _newest(run, "identify", same)
    if found is None:
        return _missing("identifiability", "Of this twin and telemetry it is not known: run `bayestwin identify`.")
    return _of_gates("identifiability", found, "identify.nc")


def _scenarios(run: Promotable) -> GateOutcome:
    """Whether what is expected of the scenarios is kept with this posterior."""
    name = f"{SCENARIOS}.json"
    content = _beside(run, name)
    if content is None:
        return _missing("scenarios", "No scenarios were run with this posterior: run `bayestwin scenario`.")
    told = content.get("expectations") or []
    verdicts = [_at(one, "verdict") for one in told]
    missed = [str(_at(one, "words") or _at(one, "text")) for one in told if _at(one, "verdict") == "missed"]
    if not _is_recorded(run, name) or content.get("run") != run.name:
        outcome = "failed", f"`{name}` is not the one that the run recorded: run `bayestwin scenario` anew."
    elif missed:
        outcome = "failed", f"{count(len(missed), 'expectation')} missed: {'; '.join(missed)}"
    elif not set(verdicts) <= {"met", "undecided"}:
        outcome = "failed", f"`{name}` has an expectation without a verdict: run `bayestwin scenario` anew."
    elif "met" not in verdicts:
        outcome = "missing", "Nothing is expected of the scenarios, or nothing could be decided."
    else:
        open_ones = verdicts.count("undecided")
        outcome = "passed", f"{count(verdicts.count('met'), 'expectation')} met, {open_ones} undecided, none missed."
    return GateOutcome("scenarios", *outcome, f"{run.name}/{name}", sha256_of(run.folder / name))


def _drift(run: Promotable) -> GateOutcome:
    """What monitoring said of this posterior last."""
    content = _beside(run, MONITOR)
    if content is None:
        return _missing("drift", "This posterior was not monitored: run `bayestwin monitor`.")
    verdict, of = content.get("verdict"), content.get("posterior_sha256")
    if of not in (None, run.posterior_sha256):
        outcome = "missing", "Another posterior was monitored: run `bayestwin monitor` anew."
    elif verdict == "ok":
        outcome = "passed", "Monitoring says ok."
    elif verdict in ("watch", "act"):
        outcome = "failed", f"Monitoring says {verdict}: {content.get('reason') or 'it gives no reason'}"
    else:
        outcome = "missing", f"Monitoring says “{verdict or 'nothing'}”, which is not ok."
    return GateOutcome("drift", *outcome, f"{run.name}/{MONITOR}", sha256_of(run.folder / MONITOR))


GATES: dict[str, Callable[[Promotable], GateOutcome]] = {
    "diagnostics": _diagnostics,
    "validation": _validation,
    "sbc": _sbc,
    "scenarios": _scenarios,
    "identifiability": _identifiability,
    "drift": _drift,
}
"""By the name that `requires` in a job file has for it."""


def shadow_gate(run: Promotable, span: datetime.timedelta, production: InStage | None) -> GateOutcome:
    """Whether a run was compared with what is in production for long enough, and was not worse.

    Args:
        run: The run.
        span: How much telemetry both must have been compared on.
        production: What is in production.
    """
    if production is None:
        return GateOutcome("shadow", "passed", "There is no production yet that it could be compared with.")
    content = _beside(run, SHADOW)
    told = content or {}
    of = told.get("posterior_sha256"), told.get("production_posterior_sha256")
    if content is None or of != (run.posterior_sha256, production.posterior_sha256):
        return _missing(
            "shadow", f"It was not compared with `{production.run}`, which is in production: run `bayestwin shadow`."
        )
    compared = told.get("observations") or {}
    seconds: Any = told.get("span_seconds")
    figures = {name: [_at(compared, name, key) for key in ("lower", "difference", "upper")] for name in compared}
    known = {name: own for name, own in figures.items() if all(map(_is_number, own))}
    worse = [name for name, (lower, _, _) in known.items() if lower > 0]
    days = f"{span.total_seconds() / 86_400:g} days"
    if not _is_recorded(run, SHADOW):
        outcome = "failed", f"`{SHADOW}` is not the one that the run recorded: run `bayestwin shadow` anew."
    elif not known or len(known) < len(figures) or not _is_number(seconds):
        outcome = "failed", "A difference of CRPS, an end of its interval, or the span of the telemetry is no number."
    elif seconds < span.total_seconds():
        outcome = "missing", f"It was compared with production for {seconds / 86_400:.4g} days, and not for {days}."
    elif worse:
        outcome = "failed", f"It predicts {', '.join(f'`{name}`' for name in worse)} worse than production does."
    else:
        outcome = "passed", f"For {days} at least it was not worse than production."
    return GateOutcome("shadow", *outcome, f"{run.name}/{SHADOW}", sha256_of(run.folder / SHADOW))


def approvals_gate(run: Promotable, wanted: int, stage: str, events: Sequence[RegistryEvent]) -> GateOutcome:
    """Whether enough people have approved of this posterior for this stage, since it was last taken back.

    Names are as people told them. The same name in other letters, or with spaces around it, is the same person.
    """
    names: dict[str, str] = {}
    for one in events:
        if one.event == "rollback" and one.replaces == run.name:
            names.clear()
        elif (one.event, one.stage, one.posterior_sha256) == ("approve", stage, run.posterior_sha256):
            names[same_person(one.who)] = one.who
    told = f"{count(len(names), 'person', 'people')} approved of it ({', '.join(names.values())})" if names else ""
    if len(names) < wanted:
        words = f"{told or 'Nobody approved of it'}, and {wanted} must: `bayestwin promote --approve`."
        return _missing("approvals", words)
    return GateOutcome("approvals", "passed", f"{told}.")


def same_person(name: str) -> str:
    """A name without what may be written in different ways."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


# What evidence says.


def _judged(gates: Any) -> tuple[Literal["passed", "failed", "missing"], str]:
    """The verdict of a list of gates as a record has it: those that only warn stop nothing."""
    if not (isinstance(gates, list) and gates and all(isinstance(gate, dict) for gate in gates)):
        return "missing", "No gate was recorded."
    counted = [gate for gate in gates if gate.get("severity") != "warn"]
    bad = [gate for gate in counted if gate.get("passed") is not True]
    if bad:
        return "failed", " ".join(str(gate.get("sentence") or f"`{gate.get('name')}` failed.") for gate in bad)
    blank = [str(gate.get("name")) for gate in counted if not _is_number(gate.get("value"))]
    if blank or not counted:
        return "failed", f"No number stands behind {', '.join(f'`{name}`' for name in blank) or 'any gate'}."
    return "passed", f"All of {count(len(counted), 'gate')} passed."


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _at(content: Any, *keys: str) -> Any:
    """What stands in nested tables at these keys; None where it does not, or something else stands on the way."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _newest(
    run: Promotable, command: str, fits: Callable[[Mapping[str, Any]], bool]
) -> tuple[pathlib.Path, Mapping[str, Any]] | None:
    """The newest run of a command that came to its end and fits, with its record; None where there is none."""
    for path in sorted(run.runs.glob(f"*/{RECORD}"), reverse=True):
        try:
            record = read_record(path.parent)
        except CorruptArtifact:
            continue
        if record.get("command") == command and record.get("status") in ENDED and fits(record):
            return path.parent, record
    return None


def _of_gates(name: str, found: tuple[pathlib.Path, Mapping[str, Any]], result: str) -> GateOutcome:
    folder, record = found
    return _of_file(name, folder, result, record, *_judged(record.get("gates")))


def _of_file(
    name: str, folder: pathlib.Path, result: str, record: Mapping[str, Any], verdict: Any, sentence: str
) -> GateOutcome:
    """The outcome of a gate by the record of another run, whose result must still be the one that it recorded."""
    recorded = _at(record, "outputs", result)
    if not recorded or sha256_of(folder / result) != recorded:
        verdict, sentence = "failed", f"`{folder.name}/{result}` is not the one that was recorded."
    return GateOutcome(name, verdict, sentence, f"{folder.name}/{RECORD}", sha256_of(folder / RECORD))


def _is_recorded(run: Promotable, name: str) -> bool:
    """Whether a file in the folder of a run is the one that its record knows."""
    return _at(run.record, "outputs", name) == sha256_of(run.folder / name)


def _missing(name: str, sentence: str) -> GateOutcome:
    return GateOutcome(name, "missing", sentence)


def _beside(run: Promotable, name: str) -> dict[str, Any] | None:
    """A JSON object in the folder of a run; an empty one where the file is none, and None where there is no file.

    NaN and infinities, which JSON does not have, are none of its numbers.
    """
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        small = path.stat().st_size <= LARGEST
        content = json.loads(path.read_bytes(), parse_constant=lambda _: None) if small else None
    except (ValueError, RecursionError):
        content = None
    return content if isinstance(content, dict) else {}
