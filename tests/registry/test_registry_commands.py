"""Promotions by the command line: the same answers, exit 1 where a gate stops, 2 for what makes no sense."""

import json
import pathlib

import pytest
from fabricated import JOB, write_model, write_run
from tank_model import parse_strictly, run_command

import bayestwin as bt
from bayestwin.registry.log import LOG

A, B = "20260301-a", "20260305-b"


@pytest.fixture
def tank(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A model folder and two runs of it, where the command line looks for them."""
    for run in (A, B):
        write_run(tmp_path / "results", run)
    monkeypatch.chdir(tmp_path)
    return write_model(tmp_path).relative_to(tmp_path)


def test_a_run_comes_to_production_and_goes_back(tank: pathlib.Path) -> None:
    for run in (A, B):
        code, out, err = run_command("promote", tank, "--run", run, "--to", "staging", "--by", "Ann", "--why", "new")
        assert (code, err) == (0, "")
        assert f"pass  diagnostics: All of 2 gates passed. ({run}/run.json)" in out
        assert f"Run {run} is in staging: event " in out
        code, out, err = run_command("promote", tank, "--to", "prod", "--by", "Bob")
        assert (code, err) == (0, "")
        assert f"Run {run} is in prod: event " in out
    code, out, err = run_command("rollback", "tank", "--why", "it is [bold]worse[/bold]\x1b[31m", "--by", "Ann")
    assert (code, err) == (0, "")
    assert out == f"Run {A} is in prod again, and {B} no more: event 5.\n"
    code, out, err = run_command("history", tank)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 8
    assert lines[0].endswith(f"promote {A} to staging by Ann: new")
    assert lines[4].endswith(f"rollback to {A} from {B} by Ann: it is [bold]worse[/bold]?[31m")
    assert lines[5:7] == [f"In production: run {A}, by Bob, event 2.", "In staging: nothing."]
    assert lines[7].startswith("The log is whole, and ends with event 5: sha256 ")


def test_a_gate_that_stops_is_exit_1_and_force_is_told(tank: pathlib.Path) -> None:
    code, out, err = run_command("promote", tank, "--run", A, "--to", "prod")
    assert code == 1
    assert "none  stage: It is not in staging: promote it there first." in out
    assert err == f"Run {A} does not come into prod: stage did not pass. Nothing was changed.\n"
    code, out, _ = run_command("promote", tank, "--run", A, "--to", "prod", "--json")
    assert code == 1
    answer = parse_strictly(out)
    assert answer["event"] is None
    assert [gate["verdict"] for gate in answer["gates"]] == ["missing", "passed"]
    code, out, err = run_command("promote", tank, "--run", A, "--to", "prod", "--force")
    assert (code, out) == (2, "")
    assert "`--force` needs a reason" in err
    code, out, err = run_command("promote", tank, "--run", A, "--to", "prod", "--force", "--why", "now", "--json")
    assert (code, err) == (0, "")
    assert parse_strictly(out)["event"]["overridden"] == ["stage"]
    assert "[overruled: stage]" in run_command("history", tank)[1]


def test_approvals_are_said_and_counted(tank: pathlib.Path) -> None:
    write_model(pathlib.Path(), JOB + "approvals = 1\n")
    run_command("promote", tank)
    code, _, err = run_command("promote", tank, "--to", "prod")
    assert (code, "approvals did not pass" in err) == (1, True)
    code, out, err = run_command("promote", tank, "--approve", "--by", "Ann")
    assert (code, out, err) == (0, f"Ann approves of run {B} for prod: event 2.\n", "")
    assert run_command("promote", tank, "--to", "prod")[0] == 0


def test_history_tells_what_was_in_production_then(tank: pathlib.Path) -> None:
    for run in (A, B):
        for stage in ("staging", "prod"):
            run_command("promote", tank, "--run", run, "--to", stage, "--by", "Ann")
    events = bt.registry.history(tank)
    code, out, _ = run_command("history", "tank", "--at", events[1].when, "--json")
    answer = parse_strictly(out)
    assert (code, answer["production"]["run"], answer["events"]) == (0, A, [])
    code, out, _ = run_command("history", "tank", "--at", "2026-01-01")
    assert (code, out.splitlines()[0]) == (0, "In production at 2026-01-01T00:00:00+00:00: nothing.")
    code, out, _ = run_command("history", "tank", "--json")
    answer = parse_strictly(out)
    assert [one["seq"] for one in answer["events"]] == [1, 2, 3, 4]
    assert (answer["production"]["run"], answer["staging"], answer["at"]) == (B, None, None)
    code, out, err = run_command("history", "tank", "--at", "last week")
    assert (code, out) == (2, "")
    assert "`--at` cannot be read" in err


def test_an_edited_log_is_exit_2_with_the_number_of_the_line(tank: pathlib.Path) -> None:
    for stage in ("staging", "prod"):
        run_command("promote", tank, "--run", A, "--to", stage, "--by", "Ann")
    path = pathlib.Path("results/tank") / LOG
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace("Ann", "Eve")]), encoding="utf-8")
    for arguments in (["history", "tank"], ["rollback", "tank", "--why", "x"], ["promote", tank, "--run", B]):
        code, out, err = run_command(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: Line 2 of `{path}` was changed since it was written.")


def test_rollback_without_a_production_before_is_exit_2(tank: pathlib.Path) -> None:
    for stage in ("staging", "prod"):
        run_command("promote", tank, "--run", A, "--to", stage)
    code, out, err = run_command("rollback", "tank", "--why", "worse")
    assert (code, out) == (2, "")
    assert f"Received: `{A}`, which is the first" in err


def test_nothing_that_the_environment_holds_is_printed_or_kept(
    tank: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2")
    out = "".join(run_command("promote", tank, "--json")[1:])
    assert "hunter2" not in out + pathlib.Path("results/tank", LOG).read_text(encoding="utf-8")
    assert json.loads(out)["event"]["seq"] == 1
