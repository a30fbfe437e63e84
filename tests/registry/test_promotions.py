"""A run comes into production on evidence alone: each gate stops one, and all that is needed lets one pass."""

import concurrent.futures
import datetime
import json
import os
import pathlib
import pickle
import shutil
import threading
from collections.abc import Callable
from typing import Any

import h5py
import pytest
from fabricated import (
    ALL,
    JOB,
    add_json,
    all_evidence,
    expected,
    gate,
    shadowed,
    validate,
    write_model,
    write_posterior,
    write_run,
)
from stored_files import forge
from tank_model import run_command

import bayestwin as bt
from bayestwin.errors import (
    BayestwinError,
    CorruptArtifact,
    InvalidInput,
    InvalidJob,
    InvalidSetting,
    RunLocked,
    UnsafeArtifact,
)
from bayestwin.project.record import locked, read_record, renew_outputs, write_record
from bayestwin.project.sections import StageSection
from bayestwin.registry import evidence
from bayestwin.registry.evidence import GATES, SHADOW, judge_run, open_promotable
from bayestwin.registry.log import LOG, append, read_log
from bayestwin.registry.production import examine_logs

A, B, C = "20260301-a", "20260305-b", "20260306-c"


@pytest.fixture
def results(tmp_path: pathlib.Path) -> pathlib.Path:
    write_run(tmp_path / "results", A)
    return tmp_path / "results"


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_model(tmp_path)


def to_prod(model: pathlib.Path, results: pathlib.Path, run: str) -> None:
    for stage in ("staging", "prod"):
        assert bt.registry.promote(model, results, run=run, to=stage, by="Ann").event is not None


def files_in(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The way of a run through the stages.


def test_a_run_goes_to_staging_and_then_to_prod(model: pathlib.Path, results: pathlib.Path) -> None:
    first = bt.registry.promote(model, results, by="Ann", why="it is the first")
    assert (first.run, first.stage, first.event.seq, first.stopped_by) == (A, "staging", 1, ())
    assert bt.registry.stages("tank", results).production is None
    second = bt.registry.promote(model, results, by="Bob")
    assert (second.run, second.stage, second.event.seq) == (A, "prod", 2)
    stages = bt.registry.stages(model, results)
    assert (stages.production.run, stages.staging) == (A, None)
    one, two = bt.registry.history("tank", results)
    assert (one.who, one.why, one.stage, one.overridden) == ("Ann", "it is the first", "staging", [])
    assert (two.who, two.stage, two.posterior_sha256) == ("Bob", "prod", one.posterior_sha256)
    gates = {gate["name"]: gate for gate in two.evidence["gates"]}
    assert gates["diagnostics"]["verdict"] == "passed"
    assert gates["diagnostics"]["file"] == f"{A}/run.json"
    assert gates["diagnostics"]["sha256"] == two.record_sha256
    assert two.evidence["asked"]["requires"] == ["diagnostics"]


def test_what_is_there_already_is_not_promoted_again(model: pathlib.Path, results: pathlib.Path) -> None:
    bt.registry.promote(model, results)
    with pytest.raises(InvalidInput, match="is in staging already"):
        bt.registry.promote(model, results, to="staging")
    bt.registry.promote(model, results)
    for stage in ("staging", "prod", None):
        with pytest.raises(InvalidInput, match="is in prod already"):
            bt.registry.promote(model, results, to=stage)
    assert len(bt.registry.history(model, results)) == 2


def test_straight_to_prod_is_stopped_unless_forced_with_a_reason(model: pathlib.Path, results: pathlib.Path) -> None:
    found = bt.registry.promote(model, results, to="prod")
    assert found.event is None
    assert [(gate.name, gate.verdict) for gate in found.stopped_by] == [("stage", "missing")]
    with pytest.raises(InvalidSetting, match="`--force` needs a reason"):
        bt.registry.promote(model, results, to="prod", force=True, why=" ")
    assert bt.registry.history(model, results) == ()
    assert not (results / "tank" / LOG).exists()
    forced = bt.registry.promote(model, results, to="prod", force=True, why="the old one is wrong", by="Ann")
    assert forced.event.overridden == ["stage"]
    assert bt.registry.stages(model, results).production.run == A
    (event,) = bt.registry.history(model, results)
    assert (event.overridden, event.why, event.who) == (["stage"], "the old one is wrong", "Ann")


def test_nothing_is_overridden_where_nothing_stands_against_it(model: pathlib.Path, results: pathlib.Path) -> None:
    assert bt.registry.promote(model, results, force=True, why="in a hurry").event.overridden == []


# Gates.


def blocked_by(results: pathlib.Path, run: str, *requires: str) -> dict[str, str]:
    """By name, the verdicts that are not "passed"."""
    asked = StageSection(requires=list(requires))
    found = judge_run(open_promotable(results / "tank", run), asked, "prod", (), None)
    assert [one.name for one in found] == list(dict.fromkeys(["diagnostics", *requires]))
    return {one.name: one.verdict for one in found if one.verdict != "passed"}


def test_all_gates_let_a_run_pass_that_has_all_evidence(results: pathlib.Path, model: pathlib.Path) -> None:
    all_evidence(results / "tank" / A)
    job = JOB.replace('["diagnostics"]', ALL) + "approvals = 2\n"
    write_model(model.parents[1], job)
    bt.registry.promote(model, results)
    for name in ("Ann", "Bob"):
        bt.registry.approve(model, results, by=name)
    found = bt.registry.promote(model, results, to="prod")
    assert [(one.name, one.verdict) for one in found.gates] == [
        (name, "passed") for name in ("stage", *GATES, "approvals")
    ]
    assert found.event is not None
    for one in found.gates[1:-1]:
        assert evidence.sha256_of(results / "tank" / one.file) == one.sha256 != ""


def test_the_job_names_the_gates_there_are() -> None:
    section = StageSection.model_json_schema()
    assert section["properties"]["requires"]["items"]["enum"] == list(GATES)


BAD_GATES = {
    "failed": [gate("finite"), gate("rhat", passed=False)],
    "NaN": [gate("finite"), gate("rhat", value=None)],
    "infinite": [gate("finite"), gate("rhat", value=float("inf"))],
    "no verdict": [gate("finite"), {"name": "rhat", "value": 1.0}],
    "the word true": [gate("finite"), gate("rhat", passed="true")],
    "a number of text": [gate("finite"), gate("rhat", value="1.0")],
    "without R̂": [gate("finite")],
    "warnings alone": [gate("rhat", severity="warn")],
    "none": [],
    "no list": {"rhat": True},
}


@pytest.mark.parametrize("case", BAD_GATES)
def test_diagnostics_stop_a_run(tmp_path: pathlib.Path, model: pathlib.Path, case: str) -> None:
    write_run(tmp_path / "results", A, gates=BAD_GATES[case])
    assert set(blocked_by(tmp_path / "results", A)) == {"diagnostics"}
    for stage in ("staging", "prod"):
        found = bt.registry.promote(model, tmp_path / "results", to=stage)
        assert found.event is None
        assert "diagnostics" in [one.name for one in found.stopped_by]
    assert not (tmp_path / "results" / "tank" / LOG).exists()


def test_diagnostics_stop_a_run_that_failed_its_gates(tmp_path: pathlib.Path) -> None:
    write_run(tmp_path, A, status="failed gates")
    assert blocked_by(tmp_path, A) == {"diagnostics": "failed"}


def test_diagnostics_are_required_whatever_a_job_names(tmp_path: pathlib.Path) -> None:
    write_run(tmp_path, A, gates=[])
    assert blocked_by(tmp_path, A) == {"diagnostics": "missing"}


def change_record(run: pathlib.Path, **told: Any) -> None:
    write_record(run, read_record(run) | told)


def summary_of(share: object) -> dict[str, Any]:
    return {"held_out": {"coverage": {"level": {"0.9": share}}}}


type Spoil = Callable[[pathlib.Path], object]

VALIDATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "do not trust": ("failed", {"verdict": {"status": "fail", "headline": "no", "holds": ["x"]}}),
    "failed": ("failed", {"status": "failed gates"}),
    "nothing told": ("missing", {"verdict": {"status": "warn", "headline": "Little can be told.", "holds": []}}),
    "no verdict": ("failed", {"verdict": None}),
    "coverage NaN": ("failed", {"summary": summary_of(None)}),
    "coverage text": ("failed", {"summary": summary_of("0.9")}),
    "no coverage": ("failed", {"summary": {}}),
    "another posterior": ("missing", {"uses": {A: {"posterior.nc": "0" * 64}}}),
    "another run": ("missing", {"uses": {}}),
    "interrupted": ("missing", {"status": "interrupted"}),
}


@pytest.mark.parametrize("case", VALIDATIONS)
def test_validation_stops_a_run(results: pathlib.Path, case: str) -> None:
    verdict, told = VALIDATIONS[case]
    validate(results / "tank" / A, **told)
    assert blocked_by(results, A, "validation") == {"validation": verdict}


def test_the_newest_validation_counts(results: pathlib.Path) -> None:
    validate(results / "tank" / A, "20260302-good")
    assert blocked_by(results, A, "validation") == {}
    validate(results / "tank" / A, "20260303-bad", verdict={"status": "fail", "headline": "no", "holds": []})
    assert blocked_by(results, A, "validation") == {"validation": "failed"}


def test_no_evidence_at_all_is_missing(results: pathlib.Path) -> None:
    assert blocked_by(results, A, *GATES) == dict.fromkeys(list(GATES)[1:], "missing")


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"gates": [gate("sbc rate", passed=False)]}, "failed"),
        ({"gates": [gate("sbc rate", value=None)]}, "failed"),
        ({"gates": []}, "missing"),
        ({"code_sha256": "0" * 64}, "missing"),
        ({"twin_sha256": "0" * 64}, "missing"),
        ({"status": "interrupted"}, "missing"),
    ],
)
def test_sbc_stops_a_run(results: pathlib.Path, told: dict[str, Any], verdict: str) -> None:
    run = write_run(results, "20260302-sbc", "sbc", gates=[gate("sbc rate")])
    assert blocked_by(results, A, "sbc") == {}
    change_record(run, **told)
    assert blocked_by(results, A, "sbc") == {"sbc": verdict}


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"gates": [gate("structure", passed=False)]}, "failed"),
        ({"gates": [gate("structure", value=None)]}, "failed"),
        ({"gates": [gate("contraction", severity="warn")]}, "failed"),
        ({"telemetry_sha256": {"calibration": "0" * 64}}, "missing"),
        ({"twin_sha256": "0" * 64}, "missing"),
    ],
)
def test_identifiability_stops_a_run(results: pathlib.Path, told: dict[str, Any], verdict: str) -> None:
    run = write_run(results, "20260302-identify", "identify", gates=[gate("structure")])
    assert blocked_by(results, A, "identifiability") == {}
    change_record(run, **told)
    assert blocked_by(results, A, "identifiability") == {"identifiability": verdict}


@pytest.mark.parametrize(("name", "result"), [("sbc", "sbc.nc"), ("validation", "validation.nc")])
@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("another")])
def test_evidence_that_was_changed_stops_a_run(results: pathlib.Path, name: str, result: str, spoil: Spoil) -> None:
    all_evidence(results / "tank" / A)
    assert blocked_by(results, A, name) == {}
    (path,) = (results / "tank").glob(f"*/{result}")
    spoil(path)
    assert blocked_by(results, A, name) == {name: "failed"}


SCENARIOS: dict[str, tuple[str, Any]] = {
    "missed": ("failed", expected("met", "missed", run=A)),
    "undecided": ("missing", expected("undecided", run=A)),
    "none": ("missing", expected(run=A)),
    "NaN": ("failed", expected("met", None, run=A)),
    "no verdict": ("failed", {"run": A, "expectations": [{"text": "e"}]}),
    "no tables": ("failed", {"run": A, "expectations": ["met"]}),
    "another run": ("failed", expected("met", run=B)),
    "no JSON": ("failed", "{"),
    "deep": ("failed", "[" * 100_000),
}


@pytest.mark.parametrize("case", SCENARIOS)
def test_scenarios_stop_a_run(results: pathlib.Path, case: str) -> None:
    verdict, content = SCENARIOS[case]
    add_json(results / "tank" / A, "scenarios.json", content)
    assert blocked_by(results, A, "scenarios") == {"scenarios": verdict}


def test_scenarios_that_were_edited_stop_a_run(results: pathlib.Path) -> None:
    path = add_json(results / "tank" / A, "scenarios.json", expected("missed", run=A))
    path.write_text(path.read_text().replace("missed", "met"))
    assert blocked_by(results, A, "scenarios") == {"scenarios": "failed"}


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ({"verdict": "watch"}, "failed"),
        ({"verdict": "act"}, "failed"),
        ({"verdict": "insufficient data"}, "missing"),
        ({"verdict": "OK"}, "missing"),
        ({"verdict": None}, "missing"),
        ({"verdict": "ok", "posterior_sha256": "0" * 64}, "missing"),
        ({}, "missing"),
        ('{"verdict": NaN}', "missing"),
        ("", "missing"),
        ("[]", "missing"),
    ],
)
def test_drift_stops_a_run(results: pathlib.Path, content: Any, verdict: str) -> None:
    add_json(results / "tank" / A, "monitor.json", content)
    assert blocked_by(results, A, "drift") == {"drift": verdict}


@pytest.mark.parametrize("name", ["scenarios.json", "monitor.json"])
def test_evidence_that_is_too_large_is_not_read(
    results: pathlib.Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_evidence(results / "tank" / A)
    monkeypatch.setattr(evidence, "LARGEST", 10)
    gate = {"scenarios.json": "scenarios", "monitor.json": "drift"}[name]
    assert set(blocked_by(results, A, gate)) == {gate}


# Approvals.


def with_approvals(model: pathlib.Path, wanted: int) -> None:
    write_model(model.parents[1], JOB + f"approvals = {wanted}\n")


def test_too_few_approvals_stop_a_run(model: pathlib.Path, results: pathlib.Path) -> None:
    with_approvals(model, 2)
    bt.registry.promote(model, results)
    for name in ("Ann", " ann", "ANN ", "\uff21nn"):  # the last one in wide letters
        bt.registry.approve(model, results, by=name)
    bt.registry.approve(model, results, by="Bob", to="staging")
    found = bt.registry.promote(model, results, to="prod")
    assert [(one.name, one.verdict) for one in found.stopped_by] == [("approvals", "missing")]
    bt.registry.approve(model, results, by="Bob")
    assert bt.registry.promote(model, results, to="prod").event is not None


def test_an_approval_is_of_one_posterior(model: pathlib.Path, results: pathlib.Path) -> None:
    with_approvals(model, 1)
    bt.registry.approve(model, results, by="Ann")
    run = results / "tank" / A
    write_posterior(run, mean=0.5)
    renew_outputs(run)
    bt.registry.promote(model, results)
    assert [one.name for one in bt.registry.promote(model, results, to="prod").stopped_by] == ["approvals"]


def test_an_approval_does_not_outlive_a_rollback(model: pathlib.Path, results: pathlib.Path) -> None:
    with_approvals(model, 1)
    write_run(results, B)
    for run in (A, B):
        bt.registry.approve(model, results, run=run, by="Ann")
        to_prod(model, results, run)
    bt.registry.rollback(model, results, why="worse")
    bt.registry.promote(model, results, run=B)
    assert [one.name for one in bt.registry.promote(model, results, run=B).stopped_by] == ["approvals"]
    bt.registry.approve(model, results, by="Ann")
    assert bt.registry.promote(model, results, run=B).event is not None


# Shadow.


def test_shadow_stops_a_run_and_lets_one_pass(model: pathlib.Path, results: pathlib.Path) -> None:
    to_prod(model, results, A)
    candidate, production = write_run(results, B), results / "tank" / A
    write_model(model.parents[1], JOB + 'shadow_for = "P7D"\n')
    bt.registry.promote(model, results)
    figures = {"lower": -0.2, "difference": -0.1, "upper": 0.0}
    cases = {
        "missing": [
            None,
            {},
            shadowed(candidate, production, posterior_sha256="0" * 64),
            shadowed(candidate, production, production_posterior_sha256="0" * 64),
            shadowed(candidate, production, span_seconds=7 * 86_400.0 - 1),
        ],
        "failed": [
            shadowed(candidate, production, span_seconds=None),
            shadowed(candidate, production, observations={}),
            shadowed(candidate, production, observations={"level": figures | {"difference": None}}),
            shadowed(candidate, production, observations={"level": figures | {"lower": None}}),
            shadowed(candidate, production, observations={"level": figures, "flow": {"difference": -1.0}}),
            shadowed(candidate, production, observations={"level": figures | {"lower": 0.001, "difference": 0.1}}),
        ],
    }
    for verdict, contents in cases.items():
        for content in contents:
            if content is not None:
                add_json(candidate, SHADOW, content)
            found = bt.registry.promote(model, results, to="prod")
            assert [(one.name, one.verdict) for one in found.stopped_by] == [("shadow", verdict)], content
    path = add_json(candidate, SHADOW, shadowed(candidate, production, span_seconds=1.0))
    path.write_text(json.dumps(shadowed(candidate, production)))  # by hand
    found = bt.registry.promote(model, results, to="prod")
    assert [(one.name, one.verdict) for one in found.stopped_by] == [("shadow", "failed")]
    add_json(candidate, SHADOW, shadowed(candidate, production))
    assert bt.registry.promote(model, results, to="prod").event is not None


def test_the_first_production_has_nothing_to_be_compared_with(model: pathlib.Path, results: pathlib.Path) -> None:
    write_model(model.parents[1], JOB + "shadow_for = 7\n")
    to_prod(model, results, A)


# What nobody can overrule.


def refused(model: pathlib.Path, results: pathlib.Path, error: type[BayestwinError], **told: Any) -> str:
    before = files_in(results)
    for force in (False, True):
        with pytest.raises(error) as found:
            bt.registry.promote(model, results, **({"why": "now"} | told), force=force)
    assert files_in(results) == before
    return str(found.value)


@pytest.mark.parametrize("stage", ["staging", "prod"])
def test_a_damaged_posterior_is_refused_even_with_force(model: pathlib.Path, results: pathlib.Path, stage: str) -> None:
    path = results / "tank" / A / "posterior.nc"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "not the posterior that the run recorded" in refused(model, results, CorruptArtifact, to=stage)
    renew_outputs(path.parent)  # as if it had been so from the beginning: its own sum still tells
    assert "damaged" in refused(model, results, CorruptArtifact, to=stage)
    path.unlink()
    refused(model, results, InvalidInput, to=stage, run=A)


def test_a_pickle_is_refused_even_with_force(model: pathlib.Path, results: pathlib.Path) -> None:
    run = results / "tank" / A
    (run / "posterior.nc").write_bytes(pickle.dumps({"posterior": 1}))
    renew_outputs(run)
    assert "is a pickle" in refused(model, results, UnsafeArtifact)


def shape_bomb(file: h5py.File) -> None:
    file["posterior"].create_dataset("gamma", shape=(1 << 40, 1 << 10), dtype="f8", chunks=(1 << 10, 1 << 10))


def link_elsewhere(file: h5py.File) -> None:
    file["posterior/gamma"] = h5py.ExternalLink("/etc/passwd", "/secret")


@pytest.mark.parametrize("change", [shape_bomb, link_elsewhere])
def test_a_file_that_is_not_safe_to_open_is_refused_even_with_force(
    model: pathlib.Path, results: pathlib.Path, change: Callable[[h5py.File], None]
) -> None:
    forge(results / "tank" / A / "posterior.nc", change)
    renew_outputs(results / "tank" / A)
    assert "holds what bayestwin does not open" in refused(model, results, UnsafeArtifact)


def test_a_posterior_of_another_twin_is_refused_even_with_force(model: pathlib.Path, results: pathlib.Path) -> None:
    run = results / "tank" / A
    write_posterior(run, twin="0" * 64)
    renew_outputs(run)
    assert "is of another twin" in refused(model, results, CorruptArtifact)


def test_a_posterior_that_was_changed_in_staging_is_refused(model: pathlib.Path, results: pathlib.Path) -> None:
    bt.registry.promote(model, results)
    write_posterior(results / "tank" / A, mean=0.5)
    renew_outputs(results / "tank" / A)
    assert "is not the one that came to staging" in refused(model, results, CorruptArtifact, to="prod", run=A)


@pytest.mark.parametrize("status", ["running", "failed", "interrupted", None])
def test_a_run_that_did_not_end_is_refused(model: pathlib.Path, results: pathlib.Path, status: str | None) -> None:
    change_record(results / "tank" / A, status=status)
    refused(model, results, InvalidInput, run=A)


def test_a_run_that_is_being_written_is_refused(model: pathlib.Path, results: pathlib.Path) -> None:
    with locked(results / "tank" / A), pytest.raises(InvalidInput, match="cannot be promoted"):
        bt.registry.promote(model, results)


@pytest.mark.parametrize("name", ["../elsewhere", "..", ".", "", "a/b", "/etc", "absent", "a\0b", "linked"])
def test_a_name_that_is_no_run_of_the_model_is_refused(model: pathlib.Path, results: pathlib.Path, name: str) -> None:
    shutil.copytree(results / "tank" / A, results / "elsewhere")
    (results / "tank" / "linked").symlink_to(results / "elsewhere")
    if name:
        refused(model, results, InvalidInput, run=name)
        with pytest.raises(InvalidInput):
            bt.registry.approve(model, results, run=name)


def test_a_log_that_was_changed_stops_all(model: pathlib.Path, results: pathlib.Path) -> None:
    write_run(results, B)
    to_prod(model, results, A)
    path = results / "tank" / LOG
    path.write_text(path.read_text().replace('"who":"Ann"', '"who":"Eve"', 1))
    refused(model, results, CorruptArtifact, run=B)
    for act in (
        lambda: bt.registry.history(model, results),
        lambda: bt.registry.stages(model, results),
        lambda: bt.registry.approve(model, results, run=B),
        lambda: bt.registry.rollback(model, results, why="x"),
    ):
        with pytest.raises(CorruptArtifact, match="Line 1 of "):
            act()


def test_a_stage_that_is_none_in_the_job_is_told(model: pathlib.Path, results: pathlib.Path) -> None:
    write_model(model.parents[1], JOB.replace("promote.prod", "promote.production"))
    with pytest.raises(InvalidJob, match=r"unknown key `promote\.production`"):
        bt.registry.promote(model, results)
    write_model(model.parents[1], JOB.replace('["diagnostics"]', '["diagnostic"]'))
    with pytest.raises(InvalidJob, match=r"wrong value for `promote\.staging\.requires`"):
        bt.registry.promote(model, results)


# Back to what was there before.


@pytest.fixture
def two_productions(model: pathlib.Path, results: pathlib.Path) -> pathlib.Path:
    write_run(results, B)
    to_prod(model, results, A)
    to_prod(model, results, B)
    return results


def test_rollback_goes_to_the_production_before(model: pathlib.Path, two_productions: pathlib.Path) -> None:
    write_run(two_productions, C)
    to_prod(model, two_productions, C)
    for left, back in ((C, B), (B, A)):
        event = bt.registry.rollback(model, two_productions, why="worse", by="Ann")
        assert (event.replaces, event.run, event.why) == (left, back, "worse")
        assert bt.registry.stages(model, two_productions).production.run == back
    with pytest.raises(InvalidInput, match="no production of `tank` to go back to"):
        bt.registry.rollback(model, two_productions, why="worse")
    to_prod(model, two_productions, C)  # what was taken back may come again
    assert bt.registry.rollback(model, two_productions, why="worse").run == A


def test_rollback_needs_a_reason_and_a_person(two_productions: pathlib.Path) -> None:
    with pytest.raises(InvalidSetting, match="`rollback` needs a reason"):
        bt.registry.rollback("tank", two_productions, why="\n")
    with pytest.raises(InvalidSetting, match="not known who"):
        bt.registry.rollback("tank", two_productions, why="worse", by=" ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: (run / "posterior.nc").unlink(),
        lambda run: (run / "posterior.nc").write_bytes((run / "posterior.nc").read_bytes()[:-1]),
        lambda run: write_posterior(run, mean=0.5),
        lambda run: (write_posterior(run, mean=0.5), renew_outputs(run)),
        shutil.rmtree,
    ],
)
def test_rollback_to_what_is_gone_or_damaged_is_refused(two_productions: pathlib.Path, spoil: Spoil) -> None:
    spoil(two_productions / "tank" / A)
    before = files_in(two_productions)
    with pytest.raises(CorruptArtifact, match=r"is (missing|not the posterior that was promoted)"):
        bt.registry.rollback("tank", two_productions, why="worse")
    assert files_in(two_productions) == before
    assert bt.registry.stages("tank", two_productions).production.run == B


def test_rollback_does_not_mind_what_is_in_production(two_productions: pathlib.Path) -> None:
    """That may be damaged: this is when one goes back."""
    shutil.rmtree(two_productions / "tank" / B)
    assert bt.registry.rollback("tank", two_productions, why="it is gone").run == A


def test_doctor_finds_a_log_that_was_changed_and_a_production_that_was_damaged(
    two_productions: pathlib.Path,
) -> None:
    assert examine_logs(two_productions) == examine_logs(two_productions / "absent") == ()
    shutil.rmtree(two_productions / "tank" / A)
    (found,) = examine_logs(two_productions)
    assert (found.severity, found.column) == ("fail", "tank")
    assert f"is missing. Run `{A}` was, and cannot be gone back to." in found.sentence
    write_posterior(two_productions / "tank" / B, mean=0.5)
    assert (
        f"not the posterior that was promoted. Run `{B}` is in production." in examine_logs(two_productions)[1].sentence
    )
    (two_productions / "tank" / LOG).unlink()
    (found,) = examine_logs(two_productions)
    assert "its end was cut off" in found.sentence
    code, out, _ = run_command("doctor", "--results", two_productions)
    assert code == 1
    assert "its end was cut off" in out


def test_what_was_in_production_then(model: pathlib.Path, two_productions: pathlib.Path) -> None:
    events = bt.registry.history(model, two_productions)
    moments = [datetime.datetime.fromisoformat(one.when) for one in events]
    tick = datetime.timedelta(microseconds=1)
    at = {moments[0] - tick: None, moments[1] - tick: None, moments[1]: A, moments[3] - tick: A, moments[3]: B}
    for moment, run in at.items():
        production = bt.registry.stages(model, two_productions, at=moment).production
        assert (production.run if production else None) == run
    naive = moments[1].replace(tzinfo=None)
    assert bt.registry.stages(model, two_productions, at=naive).production.run == A


def test_of_a_model_without_runs_nothing_is_known(tmp_path: pathlib.Path) -> None:
    for act in (bt.registry.history, bt.registry.stages, bt.registry.approve):
        with pytest.raises(InvalidInput, match="There is no run of `tank`"):
            act("tank", tmp_path)
    assert list(tmp_path.iterdir()) == []


# Two at once, and what an event must not hold.


def test_of_two_promotions_at_once_none_is_lost_and_one_is_in_production(
    model: pathlib.Path, results: pathlib.Path
) -> None:
    """Both may win where one began after the other was done; else one is told that it came too late."""
    write_run(results, B)
    barrier = threading.Barrier(2)

    def promote_at_once(run: str) -> int | str:
        barrier.wait()
        try:
            return bt.registry.promote(model, results, run=run, to="prod", force=True, why="x").event.seq
        except RunLocked as reason:
            return str(reason)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = dict(zip((A, B), pool.map(promote_at_once, (A, B)), strict=True))
    events = bt.registry.history(model, results)
    won = {run: answer for run, answer in answers.items() if isinstance(answer, int)}
    assert {one.run: one.seq for one in events} == won
    assert all("was changed by someone else meanwhile" in str(answers[run]) for run in answers.keys() - won.keys())
    assert bt.registry.stages(model, results).production.run == events[-1].run


def test_a_change_between_looking_and_promoting_is_told(
    model: pathlib.Path, results: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone promotes another run while this one is being judged: what was decided no longer holds."""
    write_run(results, B)
    run = open_promotable(results / "tank", B)

    def meanwhile(one: evidence.Promotable) -> evidence.GateOutcome:
        told = {"who": "Bob", "why": "", "posterior_sha256": run.posterior_sha256, "record_sha256": ""}
        append(results / "tank", None, event="promote", run=B, stage="staging", **told)
        return diagnostics(one)

    diagnostics = GATES["diagnostics"]
    monkeypatch.setitem(GATES, "diagnostics", meanwhile)
    with pytest.raises(RunLocked, match=f"promote of `{B}` by Bob"):
        bt.registry.promote(model, results, run=A)
    assert [one.run for one in read_log(results / "tank").events] == [B]


def test_no_secret_of_the_environment_is_kept(
    model: pathlib.Path, results: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "hunter2-of-the-environment")
    monkeypatch.setenv("JAX_PASSWORD", "hunter2-of-the-environment")
    to_prod(model, results, A)
    assert not any(b"hunter2" in content for content in files_in(results).values())
    assert json.loads((results / "tank" / LOG).read_text().splitlines()[0])["seq"] == 1
    assert os.environ["DEPLOY_TOKEN"]
