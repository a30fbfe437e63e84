"""Two runs are told apart by what was changed, and by nothing else."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from tank_model import JOB, TWIN, Runs, parse_strictly, run_command, write_model

from bayestwin.ledger.difference import difference
from bayestwin.ledger.overlap import overlap


def test_another_seed_is_one_setting_and_other_draws_of_the_same_posterior(two_runs: Runs) -> None:
    found = difference(*two_runs.folders)
    changed = [(change.about, change.name, change.first, change.second) for change in found.changes]
    assert ("settings", "job.calibrate.seed", 0, 1) in changed
    assert {about for about, *_ in changed} == {"settings", "outcome"}
    (rate,) = found.agreements
    assert rate.unit == "1/h"
    assert abs(rate.shift) < 1.0
    assert 0.7 < rate.overlap <= 1.0


def test_a_run_does_not_differ_from_itself(two_runs: Runs) -> None:
    found = difference(two_runs.folders[0], two_runs.folders[0])
    assert found.changes == ()
    assert [one.overlap for one in found.agreements] == [1.0]
    assert [one.shift for one in found.agreements] == [0.0]


def test_another_prior_and_other_telemetry_are_named(two_runs: Runs, tmp_path) -> None:
    twin = TWIN.replace("dist.LogNormal(0.0, 0.5)", "dist.LogNormal(0.1, 0.4)")
    model = write_model(tmp_path / "tank", twin=twin, job=JOB.replace("hold_out_from = 6.0", "hold_out_from = 5.0"))
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results")
    assert code == 0, out + err
    (other,) = (tmp_path / "results" / "tank").iterdir()
    found = difference(two_runs.folders[0], other)
    names = {change.name: (change.first, change.second) for change in found.changes}
    assert names["parameters.rate.prior"] == ("LogNormal(0, 0.5)", "LogNormal(0.1, 0.4)")
    assert names["job.split.hold_out_from"] == (6.0, 5.0)
    assert {"twin_sha256", "telemetry_sha256.calibration", "inputs.twin.py", "inputs.job.toml"} <= set(names)
    assert "inputs.telemetry/tank.csv" not in names
    assert not any(change.about == "environment" for change in found.changes)


def test_the_command_prints_both_ways(two_runs: Runs) -> None:
    names = [folder.name for folder in two_runs.folders]
    code, out, err = run_command("diff", *names, "--results", two_runs.results)
    assert (code, err) == (0, "")
    assert "job.calibrate.seed: 0 → 1" in out
    found = parse_strictly(run_command("diff", *names, "--results", two_runs.results, "--json")[1])
    assert found["posteriors"][0]["name"] == "rate"


def test_gates_that_changed_are_named(copied: Callable[[], Runs]) -> None:
    runs = copied()
    path = runs.folders[1] / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["gates"][0]["passed"] = False
    path.write_text(json.dumps(record), encoding="utf-8")
    changes = [change for change in difference(*runs.folders).changes if change.about == "gates"]
    assert [(change.first, change.second) for change in changes] == [("pass", "fail")]


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0, 10.0])
def test_overlap_of_two_normals(distance: float) -> None:
    rng = np.random.default_rng(5)
    num = 20_000
    found = overlap(rng.standard_normal(num), distance + rng.standard_normal(num))
    exact = 2.0 * scipy.stats.norm.cdf(-distance / 2.0)
    # the distance of two empirical distributions is off by at most this much, but for one case in 10,000
    assert abs(found - exact) <= 2.0 * scipy.stats.kstwo.ppf(1.0 - 5e-5, num)
