"""`bayestwin scenario`: scenario files against the baseline, exit codes, what flipped, and files that are wrong."""

import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import bayestwin as bt
from bayestwin.cli import app
from bayestwin.project.scenario import _missed_promises, read_scenario

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
    assert own["changes"] == ["outdoor + 3 degC from 2026-03-21T12:00 on"]
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


# Where the baseline starts, for how long, by which files: a store whose rate and start are known has one number each.

STORE = """
import numpyro.distributions as dist

import bayestwin as bt

twin = bt.Twin(
    name="store",
    vector_field=lambda t, x, p, u: {"content": u.feed - 0.05 * x.content},
    states={"content": bt.State(dist.Normal(10.0, 1.0), unit="kWh")},
    parameters={},
    inputs={"feed": bt.Input(unit="kW", hold="previous")},
    observations={"content": bt.Observation(noise=bt.Gaussian(0.2), unit="kWh")},
    events={
        "drained": bt.Event(effect=lambda t, x, p, u: {"content": 0.5 * x.content}, at=(6.0,)),
        "dose": bt.Event(effect=lambda t, x, p, u: {"content": 0.9 * x.content + u.dose}, unit="kWh"),
    },
    time_unit="h",
    quantities={
        "first": bt.FromRows(lambda t, x, p, u: x.content[0], unit="kWh"),
        "last": bt.FromRows(lambda t, x, p, u: x.content[-1], unit="kWh"),
        "rows": bt.FromRows(lambda t, x, p, u: 0.0 * x.content[0] + x.content.shape[0], unit="1"),
        "fed": bt.Integral("feed", unit="kWh"),
    },
)
"""
STORE_JOB = """
[telemetry]
file = "data/store.csv"
units = { content = "kWh", feed = "kW", dose = "kWh", time = "h" }

[split]
hold_out_from = 24.0

[calibrate]
seed = 0
method = "laplace"
num_samples = 25
"""
PLANS = {
    "baseline": 'telemetry = "plan.csv"\nstart = 36.0\nhorizon = 12\n[initial]\ncontent = 5.0\n',
    "by_file": '[inputs]\nfeed = { file = "other.csv" }\n',
    "later_by_file": '[inputs]\nfeed = { file = "other.csv", start = 40.0 }\n',
    "kept": '[events]\ndrained = "removed"\n',
    "undosed": '[inputs]\ndose = { value = "removed", start = 39.0, end = 41.0 }\n',
    "fuller": '[initial]\ncontent = "+ 1"\n',
}


def write_store(folder: pathlib.Path) -> pathlib.Path:
    """The store's model folder, with a day of telemetry, a plan of two, and another."""
    (folder / "data").mkdir(parents=True)
    (folder / "scenarios").mkdir()
    (folder / "twin.py").write_text(STORE)
    (folder / "job.toml").write_text(STORE_JOB)
    for name, text in PLANS.items():
        (folder / "scenarios" / f"{name}.toml").write_text(text)
    hours = np.arange(73.0)
    table = pd.DataFrame({"time": hours, "content": 10.0 * np.exp(-0.05 * hours), "feed": 0.1, "dose": np.nan})
    table[:31].to_csv(folder / "data" / "store.csv", index=False)
    plan = table.drop(columns="content").assign(dose=np.where((hours == 40.0) | (hours == 44.0), 2.0, np.nan))
    plan[24:].to_csv(folder / "scenarios" / "plan.csv", index=False)
    plan.assign(feed=0.01 * hours)[20:].to_csv(folder / "scenarios" / "other.csv", index=False)
    return folder


def stored(content: float, feed: np.ndarray, jumps: dict[int, tuple[float, float]]) -> float:
    """What is there after hour 36 and those that follow: `jumps` have a factor and what is added at an hour."""
    for hour, power in enumerate(feed, 36):
        factor, more = jumps.get(hour, (1.0, 0.0))
        content = factor * content + more
        content = power / 0.05 + (content - power / 0.05) * np.exp(-0.05)
    return content


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Medians of all quantities, by scenario and name."""
    folder = write_store(tmp_path_factory.mktemp("stores") / "store")
    assert call("calibrate", folder).exit_code in (0, 1)
    outcome = call("scenario", folder, "--json")
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.stdout)["scenarios"]
    return {name: {key: own["median"] for key, own in one["quantities"].items()} for name, one in told.items()}


def test_the_baseline_starts_where_and_when_it_says_and_ends_with_its_horizon(figures: dict) -> None:
    assert figures["baseline"]["first"] == pytest.approx(5.0)
    assert figures["baseline"]["rows"] == 13.0
    assert figures["baseline"]["fed"] == pytest.approx(12 * 0.1)


DOSES, DRAIN = {40: (0.9, 2.0), 44: (0.9, 2.0)}, {42: (0.5, 0.0)}
SAME, OTHER = np.full(12, 0.1), 0.01 * np.arange(36.0, 48.0)


@pytest.mark.parametrize(
    ("name", "begin", "feed", "jumps"),
    [
        ("baseline", 5.0, SAME, DOSES | DRAIN),
        ("by_file", 5.0, OTHER, DOSES | DRAIN),
        ("later_by_file", 5.0, np.where(np.arange(36, 48) < 40, SAME, OTHER), DOSES | DRAIN),
        ("kept", 5.0, SAME, DOSES),
        ("undosed", 5.0, SAME, {44: (0.9, 2.0)} | DRAIN),
        ("fuller", 6.0, SAME, DOSES | DRAIN),
    ],
)
def test_each_scenario_file_changes_what_it_says(name: str, begin: float, feed, jumps, figures: dict) -> None:
    assert figures[name]["last"] == pytest.approx(stored(begin, feed, jumps), rel=1e-6)
    assert figures[name]["fed"] == pytest.approx(feed.sum(), rel=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("by_file", '[inputs]\nfeed = { file = "short.csv" }\n', "does not say what input `feed` is at all times"),
        ("baseline", '[initial]\ncontent = "+ 1"\n', "Where the baseline starts is not told"),
        ("kept", '[events]\ndrained = "later"\n', "What becomes of event `drained` cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_the_model_is_refused(name, text, words, tmp_path: pathlib.Path) -> None:
    folder = write_store(tmp_path / "store")
    assert call("calibrate", folder).exit_code in (0, 1)
    (folder / "scenarios" / "short.csv").write_text("time,feed\n36,0.1\n37,0.1\n")
    (folder / "scenarios" / f"{name}.toml").write_text(text)
    outcome = call("scenario", folder, name)
    assert outcome.exit_code == 2
    assert words in " ".join(outcome.output.split())


@pytest.mark.parametrize(
    ("kept", "held_out", "words"), [(False, True, "held 12"), (None, True, ""), (False, False, "")]
)
def test_what_is_signed_says_where_ranges_did_not_hold(kept: bool | None, held_out: bool, words: str) -> None:
    run = {
        "summary": {"held_out": held_out, "coverage": {"indoor": {"0.9": 0.12}}},
        "promises": {"indoor": {"0.5": False, "0.9": kept}},
    }
    told = _missed_promises(run, {"indoor": "the room"})
    assert [words in one and "Ranges of the room" in one for one in told] == [True] * bool(words)
    assert _missed_promises({}, {}) == []
