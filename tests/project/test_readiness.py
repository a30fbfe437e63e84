"""`check` finds what makes a calibration fail or mislead, before anything is sampled."""

import pathlib
import re

import pytest
from readable import faults
from tank_model import JOB, TWIN, MakeModel, parse_strictly, run_command, telemetry_text

from bayestwin.check import Finding
from bayestwin.errors import InvalidTelemetry
from bayestwin.project.calibrate import checked_telemetry
from bayestwin.project.check import check_model
from bayestwin.project.model import load_model
from bayestwin.report.tables import finding_rows


def check(model: pathlib.Path, *options: object) -> tuple[int, str, str]:
    return run_command("check", model, "--results", model.parent / "results", *options)


def found_in(model: pathlib.Path) -> tuple[Finding, ...]:
    return check_model(load_model(model), model.parent / "results").found.findings


UNSOLVABLE = TWIN.replace("u.pump - p.rate * x.level", "(1.0 + p.rate) * x.level**2")


def test_a_constant_sensor_is_a_finding(make_model: MakeModel) -> None:
    model = make_model()
    (model / "data" / "tank.csv").write_text(re.sub(r"(?m)^([\d.]+),[^,]+,", r"\1,3.25,", telemetry_text()))
    code, out, _ = check(model, "--json")
    assert code == 0
    (found,) = [row for row in parse_strictly(out) if "never changes" in row["sentence"]]
    assert (found["severity"], found["column"]) == ("warn", "level")
    assert "all 41 values are 3.25 m" in found["sentence"]
    assert "warn  `gauge` (`level`) never changes" in check(model)[1]


def test_a_twin_that_no_prior_draw_can_solve_fails(make_model: MakeModel) -> None:
    code, out, err = check(make_model(twin=UNSOLVABLE))
    assert (code, err) == (1, "")
    (line,) = [line for line in out.splitlines() if "FAIL" in line]
    assert "Not one draw from the prior can be solved" in line
    assert "`level`" in line


def test_that_finding_is_json_too(make_model: MakeModel) -> None:
    code, out, _ = check(make_model(twin=UNSOLVABLE), "--json")
    assert code == 1
    (found,) = [row for row in parse_strictly(out) if row["severity"] == "fail"]
    assert found["evidence"] == {"solved": 0, "drawn": 200}


def test_some_draws_that_cannot_be_solved_are_counted(make_model: MakeModel) -> None:
    # level' = rate·level² from 5 m blows up before 5.75 h where rate > 1/28.75, which 70 % of the draws are
    twin = TWIN.replace("u.pump - p.rate * x.level", "p.rate * x.level**2")
    twin = twin.replace("dist.LogNormal(0.0, 0.5)", "dist.Uniform(0.0, 0.116)")
    (found,) = [f for f in found_in(make_model(twin=twin)) if f.column == "prior"]
    assert found.severity == "warn"
    assert abs(found.evidence["solved"] - 60) < 4 * (200 * 0.3 * 0.7) ** 0.5


def test_a_prior_that_does_not_expect_the_data_warns(make_model: MakeModel) -> None:
    # a tank that holds a thousand times as much: metres for millimetres
    far = TWIN.replace("bt.State(5.0,", "bt.State(5000.0,")
    (found,) = [f for f in found_in(make_model(twin=far)) if "99 %" in f.sentence]
    assert (found.severity, found.column) == ("warn", "level")
    assert "check units and priors" in found.sentence
    (found,) = [f for f in found_in(make_model("near")) if "99 %" in f.sentence]
    assert (found.severity, found.evidence["inside"] >= 0.95) == ("note", True)


def test_what_is_held_out_is_checked_too(make_model: MakeModel) -> None:
    model = make_model()
    (model / "data" / "tank.csv").write_text(re.sub(r"(?m)^8,([^,]+),.*$", r"8,\1,", telemetry_text()))
    with pytest.raises(InvalidTelemetry, match="In the part that is held out: Input `pump` has a gap"):
        found_in(model)


SPOILT = re.sub(r"(?m)^(2\.5|2\.75|3|3\.25|3\.5|3\.75|4|4\.25|4\.5|4\.75),[^,]+,", r"\1,1.2345,", telemetry_text())


def test_a_run_is_left_with_findings_and_a_page(make_model: MakeModel) -> None:
    model = make_model()
    (model / "data" / "tank.csv").write_text(SPOILT)
    code, out, _ = check(model, "--json")
    assert code == 0
    (run,) = (model.parent / "results" / "tank").iterdir()
    assert parse_strictly((run / "findings.json").read_text()) == parse_strictly(out)
    record = parse_strictly((run / "run.json").read_text())
    assert (record["command"], record["status"], record["num_findings"]["fail"]) == ("check", "finished", 0)
    assert record["outputs"].keys() >= {"findings.json", "check.html", "inputs/card.md"}
    (stuck,) = [row for row in parse_strictly(out) if row["kind"] == "stuck"]
    assert stuck["evidence"]["rows"] == [[11, 20]]
    assert stuck["evidence"]["times"] == ["2.5", "4.75"]
    checked = checked_telemetry(run.parent, record["telemetry_sha256"]["calibration"])
    assert "rows 11 to 20; 2.5 to 4.75" in [row.where for row in finding_rows(checked)]
    page = (run / "check.html").read_text(encoding="utf-8")
    assert faults(page) == []
    assert "does not move from 1.234 m for 10 values in a row" in page
    assert "marked: stuck at rows 11 to 20." in page


def test_the_job_gates_on_kinds(make_model: MakeModel) -> None:
    strict = make_model("strict", job=JOB + '\n[check]\nfail_on = ["stuck"]\n')
    (strict / "data" / "tank.csv").write_text(SPOILT)
    code, out, _ = check(strict)
    assert code == 1
    assert "FAIL  `gauge` (`level`) does not move" in out
    assert "Do not calibrate yet" in out
    silent = make_model("silent", job=JOB + '\n[check]\nignore = ["stuck"]\nfew = 100\n')
    (silent / "data" / "tank.csv").write_text(SPOILT)
    code, out, _ = check(silent)
    assert code == 0
    assert "does not move" not in out
    assert "`gauge` (`level`) holds only 41 values" in out


def test_a_kind_that_there_is_not_is_an_error_of_the_job(make_model: MakeModel) -> None:
    code, _, err = check(make_model(job=JOB + '\n[check]\nfail_on = ["stucked"]\n'))
    assert code == 2
    assert "wrong value for `check.fail_on`" in err
    assert "`stuck`" in err


def test_rows_are_those_of_the_file_where_the_job_begins_later(make_model: MakeModel) -> None:
    held = TWIN.replace('bt.Input(unit="m/h")', 'bt.Input(unit="m/h", beyond="hold")')
    model = make_model(twin=held, job=JOB.replace("hold_out_from = 6.0", "start = 1.0\nhold_out_from = 6.0"))
    (model / "data" / "tank.csv").write_text(SPOILT)
    (stuck,) = [one for one in found_in(model) if one.kind == "stuck"]
    assert stuck.evidence["rows"] == [[11, 20]]


def test_a_file_that_is_held_out_must_not_have_been_calibrated(make_model: MakeModel) -> None:
    model = make_model()
    code, out, _ = check(model, "--held-out", model / "data" / "tank.csv")
    assert code == 1
    assert "24 times are both calibrated and held out (rows 1 to 24 of the calibration)" in out


def test_the_range_of_the_card_counts(make_model: MakeModel) -> None:
    model = make_model()
    card = (model / "card.md").read_text()
    (model / "card.md").write_text(card + "\n## Operating range\n```toml\n[level]\nhigh = 4.0\nunit = 'm'\n```\n")
    (outside,) = [one for one in found_in(model) if one.kind == "range"]
    assert outside.evidence["rows"][0][0] == 1
    assert "operating range of at most 4 m" in outside.sentence
    (model / "card.md").write_text(card + "\n## Operating range\n```toml\n[levle]\nhigh = 4.0\n```\n")
    code, _, err = check(model)
    assert code == 2
    assert "Did you mean `level`" in err
