"""`check` finds what makes a calibration fail or mislead, before anything is sampled."""

import pathlib
import re

import pytest
from tank_model import TWIN, MakeModel, parse_strictly, run_command, telemetry_text

from bayestwin.errors import InvalidTelemetry
from bayestwin.readiness import Finding
from bayestwin.runs.checking import check_model
from bayestwin.runs.model import load_model


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
    assert "warn  `level` never changes" in check(model)[1]


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
