"""`bayestwin scenario`: scenario files against the baseline, exit codes, what flipped, and files that are wrong."""

import json
import pathlib
import shutil

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
    assert own["changes"] == ["outdoor: shift 3.0, start 2026-03-21T12:00"]
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
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
