"""`bayestwin design` says what to record next, makes a page of it, and says afterwards whether it came true."""

import json
import pathlib

import numpy as np
import pytest
from tank_model import parse_strictly, run_command

import bayestwin as bt

TWIN = '''"""Growth to an asymptote."""

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """First-order approach."""
    return {"y": p.rate * (p.asymptote - x.y)}


twin = bt.Twin(
    name="growth",
    vector_field=vector_field,
    states={"y": bt.State(0.0, unit="mg/l")},
    parameters={
        "asymptote": bt.Parameter(dist.Normal(18.0, 6.0), unit="mg/l"),
        "rate": bt.Parameter(dist.LogNormal(-0.7, 0.5), unit="1/h"),
    },
    observations={"y": bt.Observation(bt.Gaussian(1.5), unit="mg/l")},
    time_unit="h",
)
'''

JOB = """
[telemetry]
file = "data/y.csv"
time = "hour"
t0 = 0.0

[calibrate]
method = "laplace"

[design]
simulations = 50
budget = 2.0

[design.candidates.late]
times = { y = [8.0, 9.0, 10.0] }
each = "time"

[design.candidates.all]
planned = "data/later.csv"
cost = 2.5
"""

READ = ["1,8.3", "2,10.3", "3,19.0", "4,16.0", "5,15.6", "7,19.8"]


def growth_model(folder: pathlib.Path) -> pathlib.Path:
    (folder / "data").mkdir(parents=True)
    (folder / "twin.py").write_text(TWIN, encoding="utf-8")
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    (folder / "data" / "later.csv").write_text("hour,y\n8,\n9,\n10,\n", encoding="utf-8")
    (folder / "data" / "y.csv").write_text("\n".join(["hour,y", *READ]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.thorough
def test_a_design_is_made_and_shown(tmp_path: pathlib.Path) -> None:
    model, filed = growth_model(tmp_path / "growth"), ["--results", tmp_path / "results"]
    code, _, err = run_command("design", model, *filed)
    assert code == 2
    assert "Run `bayestwin calibrate" in err
    assert run_command("calibrate", model, *filed)[0] == 0

    code, out, err = run_command("design", model, *filed, "--json")
    assert (code, err) == (0, "")
    record = parse_strictly(out)
    assert len(record["chosen"]) == 2
    assert all(name.startswith("late at") for name in record["chosen"])
    assert "of the budget of 2." in record["sentences"][0]
    run = pathlib.Path(record["folder"])
    page = (run / "design.html").read_text(encoding="utf-8")
    assert "What to measure next" in page
    assert record["sentences"][0].split("`")[1] in page
    tree = bt.load(run / "design.nc")
    assert tree["options"].sizes["option"] == 4
    assert (run / "inputs" / "options" / "candidate-0" / "later.csv").is_file()


@pytest.mark.slow
def test_a_design_is_judged_once_more_was_recorded(tmp_path: pathlib.Path) -> None:
    model, filed = growth_model(tmp_path / "growth"), ["--results", tmp_path / "results"]
    assert run_command("calibrate", model, *filed)[0] == 0
    run = pathlib.Path(parse_strictly(run_command("design", model, *filed, "--json")[1])["folder"])
    again, err = run_command("design", model, *filed, "--judge", run.name)[::2]
    assert again == 2
    assert "nothing added" in err
    added = [f"{hour:g},{18.0 * -np.expm1(-0.5 * hour):.3f}" for hour in (8.0, 9.0, 10.0)]
    (model / "data" / "y.csv").write_text("\n".join(["hour,y", *READ, *added]) + "\n", encoding="utf-8")
    assert run_command("calibrate", model, *filed)[0] == 0
    code, out, err = run_command("design", model, *filed, "--judge", run.name)
    assert (code, err) == (0, "")
    assert out.count("the promise was kept") + out.count("better than promised") == 2


@pytest.mark.slow
def test_a_promise_that_is_not_kept_fails(tmp_path: pathlib.Path) -> None:
    model, filed = growth_model(tmp_path / "growth"), ["--results", tmp_path / "results"]
    assert run_command("calibrate", model, *filed)[0] == 0
    record = parse_strictly(run_command("design", model, *filed, "--json")[1])
    few = READ[:2]  # the record got poorer
    (model / "data" / "y.csv").write_text("\n".join(["hour,y", *few]) + "\n", encoding="utf-8")
    assert run_command("calibrate", model, *filed)[0] == 0
    code, out, _ = run_command("design", model, *filed, "--judge", record["run"], "--json")
    assert code == 1
    found = parse_strictly(out)
    assert found["status"] == "failed gates"
    assert "the promise was not kept" in found["sentences"][0]
    assert (
        json.loads((pathlib.Path(found["folder"]) / "run.json").read_text(encoding="utf-8"))["status"] == "failed gates"
    )


def test_what_is_wrong_with_candidates_is_said_before_a_run_begins(tmp_path: pathlib.Path) -> None:
    model, filed = growth_model(tmp_path / "growth"), ["--results", tmp_path / "results"]
    assert run_command("calibrate", model, *filed)[0] == 0
    runs = len(list((tmp_path / "results" / "growth").iterdir()))
    job = model / "job.toml"
    for old, new, words in (
        ("data/later.csv", "data/none.csv", "names a file that is not there"),
        ("{ y = [8.0", "{ y = [6.0", "In what is planned for `late`"),
        ("cost = 2.5", "cots = 2.5", "Did you mean `cost`?"),
        ("{ y =", "{ z =", "Candidate `late` makes no sense"),
    ):
        job.write_text(JOB.replace(old, new), encoding="utf-8")
        code, _, err = run_command("design", model, *filed)
        assert code == 2
        assert words in err
    job.write_text(JOB.partition("[design]")[0], encoding="utf-8")
    code, _, err = run_command("design", model, *filed)
    assert code == 2
    assert "nothing to choose from" in err
    assert len(list((tmp_path / "results" / "growth").iterdir())) == runs
