"""A candidate is held against production on the same rows; how well their difference is known allows for dependence."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tank_model
from tank_model import parse_strictly, run_command, telemetry_text

import bayestwin as bt
from bayestwin.errors import BayestwinError, InvalidInput
from bayestwin.project.record import read_record, renew_outputs
from bayestwin.registry.evidence import SHADOW
from bayestwin.registry.shadowing import mean_difference
from bayestwin.results.schema import content_sha256

JOB = tank_model.JOB + '\n[promote.prod]\nrequires = ["diagnostics"]\nshadow_for = 0.1\n'


# The mean of differences that depend on each other.


def naive_standard_error(differences: np.ndarray, lags: int) -> float:
    """√V of the mean, from all autocovariances up to a lag, each by a loop."""
    rest = differences - differences.mean()
    total = np.mean(rest**2)
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * np.sum(rest[lag:] * rest[:-lag]) / rest.size
    return float(np.sqrt(total / rest.size))


def autocorrelated(correlation: float, num: int, rows: int, seed: int) -> np.ndarray:
    """Paths (rows, num) of a stationary autoregression of order 1, with variance 1."""
    rng = np.random.default_rng(seed)
    found = np.empty((rows, num))
    found[:, 0] = rng.standard_normal(rows)
    for place in range(1, num):
        step = np.sqrt(1 - correlation**2) * rng.standard_normal(rows)
        found[:, place] = correlation * found[:, place - 1] + step
    return found


@pytest.mark.parametrize(("correlation", "num"), [(0.0, 60), (0.0, 400), (0.7, 200), (0.9, 800)])
def test_a_difference_that_is_none_is_called_one_as_rarely_as_promised(correlation: float, num: int) -> None:
    """In at most 5 % of all cases, which of 1,000 is known to 0.7 %; one of five standard errors is nearly always seen.

    Less often where nothing depends: a mean is never taken for better known than of so many independent ones.
    """
    paths = autocorrelated(correlation, num, 1000, seed=4)
    found = [mean_difference(row) for row in paths]
    outside = np.mean([not one["lower"] <= 0.0 <= one["upper"] for one in found])
    assert outside <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    independent = num * (1 - correlation) / (1 + correlation)
    shifted = [mean_difference(row + 5 / np.sqrt(independent)) for row in paths]
    assert np.mean([one["lower"] > 0 for one in shifted]) >= 0.95
    assert 0.8 * independent <= np.mean([one["num_effective"] for one in found]) <= 1.5 * independent
    assert all(one["num_effective"] <= num for one in found)


def test_it_is_what_autocovariances_say() -> None:
    row = autocorrelated(0.8, 4000, 1, seed=2)[0]
    assert mean_difference(row)["standard_error"] == pytest.approx(naive_standard_error(row, 200), rel=0.35)
    white = autocorrelated(0.0, 4000, 1, seed=3)[0]
    assert mean_difference(white)["standard_error"] == pytest.approx(1 / np.sqrt(4000), rel=0.2)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, np.nan], [1.0, 2.0, np.inf, 3.0, 4.0]])
def test_of_too_few_and_of_what_is_no_number_nothing_is_known(values: list[float]) -> None:
    found = mean_difference(np.array(values))
    assert found["num"] == len(values)
    assert np.isnan([found["num_effective"], found["standard_error"], found["lower"], found["upper"]]).all()


def test_equal_forecasts_have_no_difference() -> None:
    found = mean_difference(np.zeros(50))
    assert (found["difference"], found["standard_error"], found["lower"], found["upper"]) == (0.0, 0.0, 0.0, 0.0)


# A real run of the tank, and one whose posterior lies elsewhere.


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model folder and a run of it, calibrated once; and rows that follow. Change nothing in it."""
    root = tmp_path_factory.mktemp("shadow")
    model = tank_model.write_model(root / "models" / "tank", job=JOB)
    lines = telemetry_text(81).splitlines(keepends=True)  # ten hours, of which the first six are calibrated
    head, rows = lines[:2], lines[2:]
    (model / "data" / "tank.csv").write_text("".join([*head, *rows[:57]]), encoding="utf-8")
    (root / "later.csv").write_text("".join([*head[1:], *rows[48:]]), encoding="utf-8")
    (root / "early.csv").write_text("".join([*head[1:], *rows[40:]]), encoding="utf-8")
    code, out, err = run_command("calibrate", model, "--results", root / "results")
    assert code == 0, out + err
    return root


def moved(run: pathlib.Path, name: str, factor: float) -> pathlib.Path:
    """A copy of a run whose draws are multiplied: another posterior, as if it had been calibrated."""
    other = shutil.copytree(run, run.parent / name)
    tree = bt.load(other / "posterior.nc")
    tree["posterior"]["rate"] *= factor
    tree.attrs["posterior_sha256"] = content_sha256(tree["posterior"].to_dataset())
    bt.save(tree, other / "posterior.nc")
    renew_outputs(other)
    return other


@pytest.fixture
def root(calibrated: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy, with another run that leaks twice as fast as it should."""
    shutil.copytree(calibrated, tmp_path, dirs_exist_ok=True)
    (run,) = (tmp_path / "results" / "tank").iterdir()
    moved(run, "29990101-fast", 2.0)
    return tmp_path


@pytest.mark.thorough
def test_the_better_one_is_told_from_the_worse_and_let_through(root: pathlib.Path) -> None:
    model, results = root / "models" / "tank", root / "results"
    good = min(path.name for path in (results / "tank").iterdir())
    bad = "29990101-fast"
    for run, other, verdict in ((bad, good, "better"), (good, bad, "worse")):
        if (results / "tank" / "registry.jsonl").exists():
            for path in (results / "tank").glob("*registry*"):
                path.unlink()
        bt.registry.promote(model, results, run=run, to="prod", force=True, why="to begin with")
        bt.registry.promote(model, results, run=other, to="staging")
        stopped = bt.registry.promote(model, results, to="prod").stopped_by
        assert [(one.name, one.verdict) for one in stopped] == [("shadow", "missing")]
        code, out, err = run_command("shadow", model, "--telemetry", root / "later.csv", "--results", results)
        assert (code, err) == (0 if verdict == "better" else 1, "")
        assert f"level: {verdict}. CRPS " in out
        record = json.loads((results / "tank" / other / SHADOW).read_text(encoding="utf-8"))
        assert (record["run"], record["production"]) == (other, run)
        assert record["span_seconds"] == 4 * 3600.0
        level = record["observations"]["level"]
        assert (level["num"], level["unit"]) == (33, "m")
        assert level["difference"] == pytest.approx(level["candidate"] - level["production"])
        assert level["lower"] < level["difference"] < level["upper"]
        stopped = bt.registry.promote(model, results, to="prod").stopped_by
        assert [(one.name, one.verdict) for one in stopped] == ([] if verdict == "better" else [("shadow", "failed")])


@pytest.mark.thorough
def test_its_crps_is_that_of_scores(root: pathlib.Path) -> None:
    model, results = root / "models" / "tank", root / "results"
    good = min(path.name for path in (results / "tank").iterdir())
    bt.registry.promote(model, results, run="29990101-fast", to="prod", force=True, why="to begin with")
    found = bt.registry.shadow(model, results, telemetry=root / "later.csv", run=good)
    path = root / "predictions.nc"
    run_command("predict", model, "--run", good, "--telemetry", root / "later.csv", "--out", path, "--results", results)
    rows = bt.read_telemetry(
        root / "later.csv", time="hour", units={"time": "h", "gauge": "m", "pump": "m/h"}, rename={"gauge": "level"}
    )
    assert found.record["observations"]["level"]["candidate"] == pytest.approx(
        float(bt.scores(bt.load(path), rows)["crps"].sel(observation="level"))
    )
    assert SHADOW in read_record(results / "tank" / good)["outputs"]
    code, out, _ = run_command(
        "shadow", model, "--telemetry", root / "later.csv", "--run", good, "--json", "--results", results
    )
    assert code == 0
    assert parse_strictly(out)["verdicts"] == {"level": "better"}


@pytest.mark.thorough
def test_what_cannot_be_compared_is_refused(root: pathlib.Path) -> None:
    model, results = root / "models" / "tank", root / "results"
    good, bad = sorted(path.name for path in (results / "tank").iterdir())
    with pytest.raises(InvalidInput, match="There is no candidate of `tank`"):
        bt.registry.shadow(model, results, telemetry=root / "later.csv")
    with pytest.raises(InvalidInput, match="There is no production of `tank`"):
        bt.registry.shadow(model, results, telemetry=root / "later.csv", run=good)
    bt.registry.promote(model, results, run=bad, to="prod", force=True, why="to begin with")
    with pytest.raises(InvalidInput, match="There is no production of `tank`"):
        bt.registry.shadow(model, results, telemetry=root / "later.csv", run=bad)
    with pytest.raises(BayestwinError, match="calibrat"):  # rows that both have seen
        bt.registry.shadow(model, results, telemetry=root / "early.csv", run=good)
    assert not (results / "tank" / good / SHADOW).exists()
