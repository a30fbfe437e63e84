"""Two runs are told apart by what was changed, and by nothing else."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from readable import faults, read
from tank_model import JOB, TWIN, Runs, parse_strictly, run_command, write_model

from bayestwin.project.diff import difference, overlap, write_difference
from bayestwin.results.store import load


def test_another_seed_is_one_setting_and_other_draws_of_the_same_posterior(two_runs: Runs) -> None:
    found = difference(*two_runs.folders)
    changed = [(change.about, change.name, change.first, change.second) for change in found.changes]
    assert ("settings", "job.calibrate.seed", 0, 1) in changed
    # other draws may judge otherwise what lies at the limit of a gate
    assert {about for about, *_ in changed} - {"gates"} == {"settings", "outcome"}
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
    changes = {one.name: (one.first, one.second) for one in difference(*runs.folders).changes if one.about == "gates"}
    assert changes[record["gates"][0]["name"]] == ("pass", "fail")


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0, 10.0])
def test_overlap_of_two_normals(distance: float) -> None:
    rng = np.random.default_rng(5)
    num = 20_000
    found = overlap(rng.standard_normal(num), distance + rng.standard_normal(num))
    exact = 2.0 * scipy.stats.norm.cdf(-distance / 2.0)
    # the distance of two empirical distributions is off by at most this much, but for one case in 10,000
    assert abs(found - exact) <= 2.0 * scipy.stats.kstwo.ppf(1.0 - 5e-5, num)


def test_the_page_holds_both_runs_side_by_side(two_runs: Runs, tmp_path) -> None:
    names, page = [folder.name for folder in two_runs.folders], tmp_path / "difference.html"
    code, out, err = run_command("diff", *names, "--html", page, "--results", two_runs.results, "--json")
    assert (code, err) == (0, "")
    assert parse_strictly(out)["page"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert faults(text) == []
    assert all(name in text for name in names)
    assert "job.calibrate.seed" in text
    (rate,) = difference(*two_runs.folders).agreements
    table = next(one for one in read(text).tables if "both runs" in "".join(one["caption"]))
    row = [cell["value"] for cell in table["rows"][1][2:]]
    numbers = [*rate.first[:2], *rate.first_interval, *rate.second, *rate.second_interval, rate.shift, rate.overlap]
    assert [float(value) for value in row] == pytest.approx(numbers)
    for one in two_runs.folders:
        assert f"tank/{one.name}/report.html" in text


def test_intervals_are_those_of_the_draws(two_runs: Runs) -> None:
    (rate,) = difference(*two_runs.folders).agreements
    draws = load(two_runs.folders[1] / "posterior.nc")["posterior"]["rate"].to_numpy()
    assert rate.second_interval == pytest.approx(np.quantile(draws, (0.05, 0.95)))


def test_a_page_about_two_runs_without_posteriors_says_so(tmp_path) -> None:
    for name, evil in (("a", "<script>"), ("b", "<b>")):
        (tmp_path / name).mkdir()
        record = {"command": "check", "status": "finished", "job": {"file": evil}}
        (tmp_path / name / "run.json").write_text(json.dumps(record), encoding="utf-8")
    folders = tmp_path / "a", tmp_path / "b"
    text = write_difference(tmp_path / "page.html", *folders, difference(*folders)).read_text(encoding="utf-8")
    assert "There are not two posteriors" in text
    assert "Neither run records coverage" in text
    assert "<td>&lt;script&gt;</td>" in text
    assert faults(text) == []
