"""`bayestwin sbc` leaves ranks, a page and a record, says the verdict, and exits with 1 where bands do not hold."""

import json
import pathlib

import pytest
from tank_model import run_command, write_model

import bayestwin as bt

JOB = """
[telemetry]
file = "data/tank.csv"
time = "hour"
units = { gauge = "m", pump = "m/h" }
rename = { gauge = "level" }

[sbc]
num_simulations = 20
num_draws = 15
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("sbc")
    model = write_model(folder / "tank", job=JOB)
    code, out, err = run_command("sbc", model, "--results", folder / "results", "--seed", 4)
    (run,) = (folder / "results" / "tank").iterdir()
    return code, out, err, run


def test_it_leaves_these_files_and_a_record(ran: tuple[int, str, str, pathlib.Path]) -> None:
    code, out, err, run = ran
    assert (code, err) == (0, "")
    assert sorted(path.name for path in run.iterdir()) == ["inputs", "run.json", "sbc.html", "sbc.nc"]
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (record["command"], record["status"]) == ("sbc", "finished")
    assert record["job"]["sbc"] == {"seed": 4, "num_simulations": 20, "num_draws": 15, "level": 0.95}
    for name in ("sbc.nc", "sbc.html", "run.json"):
        assert f"  {run / name}\n" in out
    found = bt.load(run / "sbc.nc")
    assert found.attrs["code_sha256"] == record["code_sha256"]
    assert found.attrs["telemetry_sha256"] == record["telemetry_sha256"]["calibration"]
    assert found.sizes["simulation"] == 20
    for gate in bt.judge_sbc(found):
        assert gate.sentence in out
        assert gate.name in {one["name"] for one in record["gates"]}


def test_a_verdict_that_fails_is_exit_code_1(tmp_path: pathlib.Path) -> None:
    """Bands of hardly any width, which nothing holds."""
    model = write_model(tmp_path / "tank", job=JOB + "level = 1e-9\n")
    code, out, _ = run_command("sbc", model, "--results", tmp_path / "results", "--json")
    record = json.loads(out)
    assert (code, record["status"]) == (1, "failed gates")
    assert not all(gate["passed"] for gate in record["gates"])
