"""Whatever is wrong with the files of a run is found, with its name; nothing is found where all is well."""

import json
import pathlib
from collections.abc import Callable

import pytest
from tank_model import Runs, parse_strictly, run_command

from bayestwin.project.index import examine, examine_run


def lose_a_result(run: pathlib.Path) -> None:
    (run / "predictions.nc").unlink()


def flip_a_bit(run: pathlib.Path) -> None:
    content = bytearray((run / "posterior.nc").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "posterior.nc").write_bytes(content)


def change_an_input(run: pathlib.Path) -> None:
    with (run / "inputs" / "twin.py").open("a") as file:
        file.write("# changed\n")


def add_a_file(run: pathlib.Path) -> None:
    (run / "stray.nc").write_bytes(b"")


def lose_the_record(run: pathlib.Path) -> None:
    (run / "run.json").unlink()


def damage_the_record(run: pathlib.Path) -> None:
    (run / "run.json").write_text("{", encoding="utf-8")


def die(run: pathlib.Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}), encoding="utf-8")


FAULTS = [
    (lose_a_result, "fail", "`predictions.nc`, which is not there"),
    (flip_a_bit, "fail", "Changed since it was recorded: `posterior.nc`"),
    (change_an_input, "fail", "`inputs/twin.py`"),
    (add_a_file, "warn", "Not in the record: `stray.nc`"),
    (lose_the_record, "warn", "without `run.json`"),
    (damage_the_record, "fail", "run.json` is damaged"),
    (die, "warn", "has died. Go on by `bayestwin resume"),
]


@pytest.mark.parametrize(("break_it", "severity", "words"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_broken_run_is_named(copied: Callable[[], Runs], break_it: Callable, severity: str, words: str) -> None:
    runs = copied()
    break_it(runs.folders[0])
    (finding,) = examine_run(runs.folders[0])
    assert finding.severity == severity
    assert finding.column == f"tank/{runs.folders[0].name}"
    assert words in finding.sentence
    assert examine_run(runs.folders[1]) == []
    code, out, _ = run_command("doctor", "--results", runs.results)
    assert code == (1 if severity == "fail" else 0)
    assert finding.sentence in out


def test_nothing_is_wrong_with_sound_runs(two_runs: Runs) -> None:
    findings = examine(two_runs.results)
    assert {finding.severity for finding in findings} == {"note"}
    assert "All files of 2 runs" in findings[-1].sentence
    code, out, err = run_command("doctor", "--results", two_runs.results, "--json")
    assert (code, err) == (0, "")
    assert len(parse_strictly(out)) >= 3


def test_before_the_first_run_nothing_is_wrong_either(tmp_path: pathlib.Path) -> None:
    assert {finding.severity for finding in examine(tmp_path / "results")} == {"note"}
