"""What comes into production has a card, a contract, a runbook and changes, which say what run and card say."""

import json
import pathlib

import pytest
from fabricated import gate, write_model, write_posterior, write_run

import bayestwin as bt
from bayestwin.project.index import examine_run
from bayestwin.project.record import read_record, renew_outputs, write_record
from bayestwin.registry.documents import CARD, CHANGES, CONTRACT, RUNBOOK, do_not_use_when

A, B = "20260301-a", "20260305-b"

TOLD = {
    "summary": {"held_out": True, "coverage": {"level": {"0.5": 0.47, "0.9": 0.88}}},
    "promises": {"level": {"0.5": True, "0.9": None}},
    "parameters": {"rate": {"mean": 0.8, "sd": 0.01, "lower": 0.78, "upper": 0.82, "unit": "1/h"}},
    "job": {"telemetry": {"file": "tank.csv", "time": "hour", "units": {"gauge": "cm"}, "rename": {"gauge": "level"}}},
}


@pytest.fixture
def promoted(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of the runs of a model: A was in production, B is, which was forced there."""
    results, model = tmp_path / "results", write_model(tmp_path)
    for run in (A, B):
        write_run(results, run, **TOLD)
        if run == B:
            write_posterior(results / "tank" / B, mean=0.5)
            renew_outputs(results / "tank" / B)
        bt.registry.promote(model, results, run=run, to="prod", force=True, why="the <b>first</b>\none", by="Ann")
    return results / "tank"


def test_a_contract_says_what_goes_in_and_what_comes_out(promoted: pathlib.Path) -> None:
    found = json.loads((promoted / A / CONTRACT).read_text(encoding="utf-8"))
    assert found["run"] == A
    assert found["posterior_sha256"] == read_record(promoted / A)["outputs"]["posterior.nc"]
    assert found["inputs"] == {
        "pump": {
            "unit": "m/h",
            "doc": None,
            "column": "pump",
            "column_unit": None,
            "missing_values": "an error that names the gap",
            "between_samples": "linear",
            "beyond_its_ends": "error",
            "step": 0.25,
            "calibrated": {"low": 1.0, "high": 2.0, "unit": "m/h"},
            "operating_range": {"low": 0.0, "high": 4.0, "unit": "m/h"},
        }
    }
    level = found["outputs"]["level"]
    assert (level["unit"], level["column"], level["column_unit"]) == ("m", "gauge", "cm")
    assert level["prob"] == {
        "0.5": {"inside": 0.47, "kept": True, "held_out": True},
        "0.9": {"inside": 0.88, "kept": None, "held_out": True},
    }
    assert level["valid_range"] == {"low": 0.0, "high": 6.0, "unit": "m"}
    assert level["calibrated"] == {"low": pytest.approx(5.0 - 0.1 * 5.75), "high": 5.0, "unit": "m"}
    assert found["time"] == {"unit_of_the_twin": "h", "unit": "h", "time_zone": None, "column": "hour"}
    assert found["do_not_use_when"] == ["it rains", "the pump is reversed"]


def test_pages_say_what_run_card_and_log_say(promoted: pathlib.Path) -> None:
    card = (promoted / B / CARD).read_text(encoding="utf-8")
    assert "| rate | 0.8 | 0.01 | 0.78 to 0.82 | 1/h |" in card
    assert "- stage: **missing**. It is not in staging: promote it there first." in card
    told = "47 % in the 50 % interval (as promised), 88 % in the 90 % interval (whether as promised cannot be told)"
    assert f"- level: of held-out observations {told}." in card
    assert "\n#### Do not use when\n- it rains;\n" in card
    book = (promoted / B / RUNBOOK).read_text(encoding="utf-8")
    assert "For production by Ann: the &lt;b>first&lt;/b> one." in book
    assert "Overruled: stage." in book
    assert "- it rains\n- the pump is reversed\n" in book
    assert f"That puts `{A}` in production again" in book
    assert "Nothing was in production before" in (promoted / A / RUNBOOK).read_text(encoding="utf-8")


def test_changes_are_those_against_the_production_before(promoted: pathlib.Path) -> None:
    assert "It is the first in production." in (promoted / A / CHANGES).read_text(encoding="utf-8")
    text = (promoted / B / CHANGES).read_text(encoding="utf-8")
    assert f"Against `{A}`, which was in production." in text
    (row,) = [line for line in text.splitlines() if line.startswith("| rate |")]
    means = [float(bt.load(promoted / run / "posterior.nc")["posterior"]["rate"].mean()) for run in (A, B)]
    assert row.split(" | ")[1:3] == [f"{mean:.4g}" for mean in means]
    assert row.endswith("| 0 % |")


def test_the_log_has_their_hashes_and_the_record_knows_them(promoted: pathlib.Path) -> None:
    outputs = read_record(promoted / B)["outputs"]
    event = bt.registry.history("tank", promoted.parent)[-1]
    names = {CARD, CONTRACT, RUNBOOK, CHANGES}
    assert event.evidence["documents"] == {name: outputs[name] for name in names}
    assert examine_run(promoted / B) == []


def test_nothing_is_written_for_what_does_not_come_to_production(tmp_path: pathlib.Path) -> None:
    results, model = tmp_path / "results", write_model(tmp_path)
    write_run(results, A, gates=[gate("rhat", passed=False)])
    assert bt.registry.promote(model, results, to="prod").event is None
    assert bt.registry.promote(model, results, to="staging", force=True, why="to look at it").event is not None
    assert not [name for name in (CARD, CONTRACT, RUNBOOK, CHANGES) if (results / "tank" / A / name).exists()]


def test_what_is_not_known_is_said_to_be_unknown(tmp_path: pathlib.Path) -> None:
    """No card, no figures, and a production before whose posterior is gone."""
    results, model = tmp_path / "results", write_model(tmp_path)
    for run in (A, B):
        folder = write_run(results, run)
        (folder / "inputs" / "card.md").unlink()
        record = read_record(folder)
        del record["outputs"]["inputs/card.md"]
        write_record(folder, record)
        bt.registry.promote(model, results, run=run, to="prod", force=True, why="x")
        if run == A:
            (folder / "posterior.nc").unlink()
    texts = {name: (results / "tank" / B / name).read_text(encoding="utf-8") for name in (CARD, RUNBOOK, CHANGES)}
    assert "The run kept none." in texts[CARD]
    assert "The record of the run has no figures of parameters." in texts[CARD]
    assert "The card does not say." in texts[RUNBOOK]
    assert f"The posterior of `{A}`, which was in production, is not there as it was." in texts[CHANGES]
    found = json.loads((results / "tank" / B / CONTRACT).read_text(encoding="utf-8"))
    assert found["do_not_use_when"] is None
    assert found["outputs"]["level"]["prob"] == {}
    assert found["inputs"]["pump"]["operating_range"] is None


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("# a\n## Do not use when\n- one,\n  and more;\n* two.\n\n## Next\n- three", ["one, and more", "two"]),
        ("## do not use when it\nIt rains.\n", ["It rains"]),
        ("## Do not use when\n", []),
        ("# a\n- one", None),
    ],
)
def test_a_card_says_when_not_to_use_it(tmp_path: pathlib.Path, text: str, items: list[str] | None) -> None:
    (tmp_path / "card.md").write_text(text, encoding="utf-8")
    assert do_not_use_when(tmp_path / "card.md") == items
