"""`bayestwin scenario`: scenario files against the baseline, exit codes, what flipped, and files that are wrong."""

import importlib.util
import json
import pathlib
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import bayestwin as bt
from bayestwin.cli import app
from bayestwin.project.scenario import read_scenario

ROOM = pathlib.Path(__file__).parents[2] / "models" / "room"
JOB = """
[telemetry]
file = "data/room.csv"
units = { outdoor = "degC", heating = "W", indoor = "degC" }

[split]
hold_out_from = "2026-03-21"

[calibrate]
seed = 0
num_chains = 2
num_samples = 150
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A room that was calibrated, with two scenarios; its results are beside it."""
    folder = tmp_path_factory.mktemp("models") / "room"
    shutil.copytree(ROOM, folder, ignore=shutil.ignore_patterns("__pycache__", "scenarios"))
    (folder / "job.toml").write_text(JOB)
    scenarios = folder / "scenarios"
    scenarios.mkdir()
    (scenarios / "baseline.toml").write_text('loss = "below_16"\nhorizon = "2 days"\n')
    (scenarios / "warm.toml").write_text(
        'question = "Warmer outside?"\nexpect = ["mean > baseline.mean with P >= 0.9", "P(indoor < 0 degC) <= 0.1"]\n'
        '[inputs]\noutdoor = { shift = 3.0, start = "2026-03-21T12:00" }\n'
    )
    assert call("calibrate", folder).exit_code in (0, 1)
    return folder


def call(verb: str, folder: pathlib.Path, *more: str) -> Result:
    return CliRunner().invoke(app, [verb, str(folder), *more, "--results", str(folder.parent / "results")])


@pytest.mark.slow
def test_scenarios_are_compared_and_exit_by_what_was_expected(place: pathlib.Path) -> None:
    told = json.loads(call("scenario", place, "--json", "--draws", "100").stdout)
    assert list(told["scenarios"]) == ["baseline", "warm"]
    own = told["scenarios"]["warm"]
    assert own["changes"] == ["outdoor + 3 from 2026-03-21T12:00 on"]
    assert own["quantities"]["mean"]["difference"] > 0.5
    assert own["quantities"]["energy"]["difference"] == 0.0
    assert [one["verdict"] for one in told["expectations"]] == ["met", "met"]
    page = pathlib.Path(told["files"][0]).read_text(encoding="utf-8")
    assert "Warmer outside?" in page
    assert "All expectations are met." in page
    path = place / "scenarios" / "warm.toml"
    path.write_text(path.read_text().replace("shift = 3.0", "shift = -3.0"))
    again = call("scenario", place, "warm", "--draws", "100")
    assert again.exit_code == 1
    assert "1 met, 1 missed" in again.stdout
    assert "was met before" in again.stdout
    unknown = call("scenario", place, "cold")
    assert unknown.exit_code == 2
    assert "There is no scenario `cold`." in unknown.output


POLICY = """
question = "How little heating is enough?"
expect = ["P(indoor < 15 degC) <= 0.1"]

[policy]
minimise = "energy"

[policy.controls.power]
of = "heating"
between = [0.0, 2000.0]
start = "2026-03-21T12:00"
"""


@pytest.mark.slow
def test_a_policy_is_found_and_compared_and_leaves_a_page_to_sign(place: pathlib.Path) -> None:
    path = place / "scenarios" / "enough.toml"
    path.write_text(POLICY)
    done = call("scenario", place, "enough", "--json")
    path.unlink()
    told = json.loads(done.stdout)
    assert done.exit_code == (1 if any(one["verdict"] == "missed" for one in told["expectations"]) else 0)
    own = told["scenarios"]["enough"]
    power = own["policy"]["controls"]["power"]
    assert own["changes"] == [f"power: heating {power:.1f} W from 2026-03-21 12:00 UTC on"]
    assert own["policy"]["constraints"][0]["binds"]
    assert own["policy"]["regret"] == pytest.approx(-own["quantities"]["energy"]["difference"], rel=1e-3)
    # 36 hours of it, after half a day as it was
    page = pathlib.Path(told["files"][2])
    assert page.name == "decision.html"
    assert "Name and signature" in page.read_text(encoding="utf-8")
    book = page.with_name("scenarios.xlsx")
    assert book.exists() == (importlib.util.find_spec("openpyxl") is not None)
    if book.exists():
        assert set(pd.read_excel(book, sheet_name=None, engine="openpyxl")) == {
            "differences",
            "expectations",
            "hangs_on",
        }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[policy]\nminimise = 'energy'\n[policy.controls.a]\nof = 'heating'\nbetwen = [0.0, 1.0]", "a.betwen"),
        ("[policy]\nminimise = 'energy'\ncontrol = {}", "unknown key `policy.control`"),
        (
            "[inputs]\nheating = 1.0\n[policy.controls.a]\nof = 'heating'\nbetween = [0.0, 1.0]",
            "changes something else",
        ),
        ("decision = 'Which?'", "`decision` in `baseline.toml`"),
        ("expects = []", "unknown key `expects`.\n.*\n.*\n  Did you mean `expect`?"),
        ("[inputs]\nheating = { scal = 2.0 }", "unknown key `inputs.heating.scal`"),
        ("[parameters]\nR_out = true", "wrong value for `parameters.R_out`"),
        ("expect = [", "not valid TOML"),
        ('horizon = "2 days"', "`horizon` in `baseline.toml`"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text: str, words: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    with pytest.raises(bt.errors.InvalidJob, match=words.replace("?", r"\?")):
        read_scenario(path)


@pytest.mark.parametrize(
    "path", sorted(ROOM.parent.glob("*/scenarios/*.toml")), ids=lambda path: f"{path.parts[-3]}-{path.stem}"
)
def test_scenarios_that_ship_ask_something(path: pathlib.Path) -> None:
    found = read_scenario(path)
    assert found.question.endswith("?")
    assert path.stem == "baseline" or found.expect
    if found.policy:
        assert (found.policy.minimise is None) != (found.policy.maximise is None)
