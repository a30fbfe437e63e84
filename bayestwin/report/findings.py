"""What was found in the data before calibration: notices of reading, and the findings of `bayestwin check`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bayestwin.check.finding import SEVERITIES, Severity, where

MOST_FINDINGS = 100


class Checked(NamedTuple):
    """A run of `check` on the telemetry that was calibrated.

    Attributes:
        run: Its name.
        findings: Each with `kind`, `severity`, `column`, `sentence` and `evidence`.
        trouble: Why they cannot be read, in words; empty where they can.
    """

    run: str
    findings: Sequence[Mapping[str, Any]] = ()
    trouble: str = ""


class FindingRow(NamedTuple):
    """One line of the table."""

    severity: str
    kind: str
    column: str
    sentence: str
    where: str


def finding_rows(checked: Checked | None) -> list[FindingRow]:
    """The table of findings, the worst first."""
    if checked is None:
        return []
    worst = sorted(checked.findings, key=lambda one: SEVERITIES.index(_severity(one)))
    return [_row(one) for one in worst[:MOST_FINDINGS]]


def finding_words(checked: Checked | None) -> str:
    """What the findings are of, in a sentence."""
    if checked is None:
        return (
            "`bayestwin check` was not run on this telemetry: whether sensors stuck, drifted or lost samples was not "
            "looked at. Run it on this model, and write this report again by `bayestwin report`."
        )
    if checked.trouble:
        return f"Run `{checked.run}` of `bayestwin check` cannot be read. {checked.trouble}"
    more = len(checked.findings) - MOST_FINDINGS
    if not checked.findings:
        return f"`bayestwin check` found nothing (run `{checked.run}`)."
    return f"Findings of `bayestwin check` (run `{checked.run}`)" + (
        f"; {more} more are in its files." if more > 0 else "."
    )


def _row(found: Mapping[str, Any]) -> FindingRow:
    evidence = found.get("evidence")
    return FindingRow(
        _severity(found),
        str(found.get("kind") or "–"),
        str(found.get("column") or "–"),
        str(found.get("sentence") or ""),
        _where(evidence) if isinstance(evidence, Mapping) else "–",
    )


def _severity(found: Mapping[str, Any]) -> Severity:
    """How bad a finding is; what does not say so is worth a look."""
    told = found.get("severity")
    return told if told in SEVERITIES else "warn"


def _where(evidence: Mapping[str, Any]) -> str:
    """Where a finding lies: its rows and its times, as far as they are known."""
    rows, times = evidence.get("rows"), evidence.get("times")
    told = []
    if isinstance(rows, list) and rows and all(isinstance(pair, list) and len(pair) == 2 for pair in rows):
        told.append(where({"rows": rows, "num_rows": evidence.get("num_rows")}))
    if isinstance(times, list) and times:
        told.append(" to ".join(dict.fromkeys(map(str, times[:2]))))
    return "; ".join(told) or "–"
