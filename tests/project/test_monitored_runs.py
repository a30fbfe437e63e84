"""`bayestwin monitor` leaves a verdict and its page in the folder of the run; an empty file is never `ok`."""

import json
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from tank_model import Runs, parse_strictly, run_command, write_model

from bayestwin.project.record import read_record

RATE = 0.8


def later(path: pathlib.Path, start: float = 6.0, shift: float = 0.0, rows: int = 30) -> pathlib.Path:
    """What a tank that is still fed leaves, with noise of 0.1."""
    times = start + 0.25 * np.arange(1, rows + 1)
    level = 3.75 + shift + 0.1 * np.random.default_rng(1).standard_normal(rows)
    pd.DataFrame({"hour": times, "gauge": level.round(3), "pump": 3.0}).to_csv(path, index=False)
    return path


def monitored(runs: Runs, *arguments: object) -> tuple[int, dict]:
    model = write_model(runs.results.parent / "models" / "tank")
    which = ["--results", runs.results, "--run", runs.folders[0].name]
    code, out, err = run_command("monitor", model, *which, *arguments, "--json")
    assert err == ""
    return code, parse_strictly(out)


@pytest.mark.thorough
def test_a_verdict_lies_in_the_run_with_its_page(copied: Callable[[], Runs], tmp_path: pathlib.Path) -> None:
    runs = copied()
    run = runs.folders[0]
    code, told = monitored(runs, "--telemetry", later(tmp_path / "wrong.csv", shift=2.0))
    assert (code, told["verdict"]) == (1, "act")
    kept = json.loads((run / "monitor.json").read_text(encoding="utf-8"))
    keys = "verdict cause reason parameter e_value observations telemetry_sha256 posterior_sha256 versions began ended"
    assert set(keys.split()) <= set(kept)
    assert {name: told[name] for name in kept} == kept
    assert kept["observations"]["level"]["readings"] == 30
    assert kept["e_value"] >= 20.0
    page = (run / "monitor.html").read_text(encoding="utf-8")
    assert told["cause"] == "data"  # a jump of 2 m from one row to the next is no level of a tank
    assert "Act: something is wrong with the telemetry." in page
    assert page.count("<svg") == 3
    moved = {one["name"]: one for one in told["shifts"]}
    assert {one["unit"] for one in moved.values()} > {"m"}
    assert not re.search(
        r"\de[+-]\d|>-\d", re.sub(r"(?s)<svg.*?</svg>|<style.*?</style>|<script.*?</script>", "", page)
    )
    assert {"monitor.json", "monitor.html"} <= set(read_record(run)["outputs"])
    code, out, _ = run_command("monitor", runs.results.parent / "models" / "tank", "--results", runs.results)
    assert code in (0, 1)
    assert "if it alone moved" in out


@pytest.mark.parametrize("content", ["", "hour,gauge,pump\n", "hour,gauge,pump\n7.0,,3.0\n7.5,,3.0\n"])
def test_81_an_empty_file_is_insufficient_data(
    copied: Callable[[], Runs], tmp_path: pathlib.Path, content: str
) -> None:
    path = tmp_path / "empty.csv"
    path.write_text(content, encoding="utf-8")
    code, told = monitored(copied(), "--telemetry", path)
    assert (code, told["verdict"], told["cause"]) == (0, "insufficient data", "none")


@pytest.mark.parametrize("content", ["hour,gauge,pump\n7.0,3.7,3.0\n7.0,3.8,3.0\n", "hour,pump\n7.0,3.0\n"])
def test_a_file_that_cannot_be_read_is_a_verdict_about_the_data(
    copied: Callable[[], Runs], tmp_path: pathlib.Path, content: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    runs = copied()
    code, told = monitored(runs, "--telemetry", path)
    assert (code, told["verdict"], told["cause"]) == (1, "act", "data")
    assert len(told["telemetry_sha256"]) == 64
    page = (runs.folders[0] / "monitor.html").read_text(encoding="utf-8")
    assert "Act: something is wrong with the telemetry." in page
    assert "what the twin says" not in page


def test_without_a_file_it_looks_at_what_was_held_out(copied: Callable[[], Runs]) -> None:
    code, told = monitored(copied())
    assert code in (0, 1)
    assert told["num_readings"] > 0
    assert told["telemetry"] == ""
