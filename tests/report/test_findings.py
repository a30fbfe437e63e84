"""The report says what was found in the data before calibration, and says so where nobody looked."""

import json
import pathlib

import pytest
from readable import faults

from bayestwin.project.calibrate import FINDINGS, checked_telemetry
from bayestwin.report import render_report
from bayestwin.report.tables import MOST_FINDINGS, EarlierCheck, finding_rows, finding_words

EVIL = "<script>alert(1)</script>"
STUCK = {
    "kind": "stuck",
    "severity": "warn",
    "column": "hare",
    "sentence": "`hare` stays at 20.6 for 9 samples.",
    "evidence": {"rows": [[4, 12]], "num_rows": 9, "times": ["1904", "1912"]},
}
NOTE = {"kind": "noise", "severity": "note", "column": "", "sentence": f"Fine. {EVIL}", "evidence": {}}
BAD = {
    "kind": "gap",
    "severity": "fail",
    "column": "lynx",
    "sentence": "No data.",
    "evidence": {"rows": [[3, 3]], "num_rows": 1},
}


def section(page: str) -> str:
    return page.split('id="telemetry"')[1].split("</section>")[0]


def test_findings_are_listed_with_the_worst_first_and_where_they_lie() -> None:
    rows = finding_rows(EarlierCheck("one", [NOTE, STUCK, BAD]))
    assert [row.severity for row in rows] == ["fail", "warn", "note"]
    assert rows[0].where == "row 3"
    assert rows[1].where == "rows 4 to 12; 1904 to 1912"
    assert rows[2].where == "–"


def test_findings_and_notices_stand_in_the_report_as_text(small) -> None:
    provenance = {"telemetry_notices": [f"3 rows were sorted. {EVIL}"]}
    page = render_report(small.posterior, provenance=provenance, checked=EarlierCheck("run-7", [STUCK, NOTE]))
    part = section(page)
    assert "3 rows were sorted. &lt;script&gt;" in part
    assert "<code>hare</code> stays at 20.6 for 9 samples." in part
    assert "<code>run-7</code>" in part
    assert page.count("<script") == 1
    assert faults(page) == []
    assert "telemetry_notices" not in page


def test_where_check_was_not_run_the_report_says_so(small) -> None:
    part = section(render_report(small.posterior, provenance={"telemetry_notices": []}))
    assert "<code>bayestwin check</code> was not run on this telemetry" in part
    assert "nothing was sorted, left out or taken as missing" in part
    assert "is not recorded here" in section(render_report(small.posterior))


def test_nothing_found_is_not_the_same_as_not_looked_at() -> None:
    assert finding_words(EarlierCheck("one")) == "`bayestwin check` found nothing (run `one`)."
    assert "3 more" in finding_words(EarlierCheck("one", [NOTE] * (MOST_FINDINGS + 3)))


@pytest.mark.parametrize("found", [{}, {"severity": None, "evidence": 3}, {"evidence": {"times": "never", "rows": 3}}])
def test_what_is_missing_in_a_finding_does_no_harm(found: dict) -> None:
    (row,) = finding_rows(EarlierCheck("one", [found]))
    assert (row.severity, row.where) == ("warn", "–")


def run_of_check(folder: pathlib.Path, name: str, telemetry: str, content: str | None, command: str = "check") -> None:
    run = folder / name
    run.mkdir()
    record = {"command": command, "status": "finished", "telemetry_sha256": {"calibration": telemetry}}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    if content is not None:
        (run / FINDINGS).write_text(content, encoding="utf-8")


def test_the_newest_check_of_the_same_telemetry_is_read(tmp_path: pathlib.Path) -> None:
    run_of_check(tmp_path, "1", "aa", json.dumps([NOTE]))
    run_of_check(tmp_path, "2", "aa", json.dumps([STUCK]))
    run_of_check(tmp_path, "3", "bb", json.dumps([BAD]))
    run_of_check(tmp_path, "4", "aa", None, command="calibrate")
    found = checked_telemetry(tmp_path, "aa")
    assert found == EarlierCheck("2", [STUCK])
    assert checked_telemetry(tmp_path, "cc") is None


@pytest.mark.parametrize("content", [None, "{", '{"findings": 3}', "[1]", "\u0000"])
def test_findings_that_cannot_be_read_are_told(tmp_path: pathlib.Path, content: str | None) -> None:
    run_of_check(tmp_path, "1", "aa", content)
    found = checked_telemetry(tmp_path, "aa")
    assert found is not None
    assert found.findings == ()
    assert "cannot be read" in finding_words(found)
