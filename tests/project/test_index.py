"""The index knows what the plain files say, whatever happens to it or to them."""

import json
import pathlib
import re
import shutil
import sqlite3
from collections.abc import Callable

import pytest
from tank_model import Runs, parse_strictly, run_command

from bayestwin.errors import InvalidInput, StorageFailure
from bayestwin.project import index
from bayestwin.project.index import INDEX, find_any_run, read_index, rebuild


def test_it_lists_every_run_with_what_its_record_says(two_runs: Runs) -> None:
    entries = read_index(two_runs.results)
    assert [entry.path for entry in entries] == two_runs.folders
    for seed, entry in enumerate(entries):
        record = json.loads((entry.path / "run.json").read_text(encoding="utf-8"))
        assert (entry.model, entry.command, entry.status, entry.seed) == ("tank", "calibrate", "finished", seed)
        assert entry.twin_sha256 == record["twin_sha256"]
        assert entry.code_sha256 == record["code_sha256"]
        assert entry.telemetry_sha256 == record["telemetry_sha256"]["calibration"]
        assert entry.coverage == record["summary"]["coverage"]


def test_it_is_made_anew_from_the_files(copied: Callable[[], Runs]) -> None:
    runs = copied()
    before = read_index(runs.results)
    assert rebuild(runs.results) == before
    (runs.results / INDEX).write_bytes(b"this is no database at all, it is text" * 100)
    assert read_index(runs.results) == before
    with sqlite3.connect(runs.results / INDEX) as other:
        other.execute("DROP TABLE runs")
        other.execute("CREATE TABLE runs (path TEXT, another TEXT)")
    other.close()
    assert read_index(runs.results) == before


def test_it_follows_records_that_change_vanish_or_are_damaged(copied: Callable[[], Runs]) -> None:
    runs = copied()
    read_index(runs.results)
    record = json.loads((runs.folders[0] / "run.json").read_text(encoding="utf-8"))
    (runs.folders[0] / "run.json").write_text(json.dumps(record | {"status": "failed"}), encoding="utf-8")
    assert [entry.status for entry in read_index(runs.results)] == ["failed", "finished"]
    (runs.folders[0] / "run.json").write_text("{", encoding="utf-8")
    assert [entry.status for entry in read_index(runs.results)] == ["damaged", "finished"]
    shutil.rmtree(runs.folders[0])
    assert [entry.run for entry in read_index(runs.results)] == [runs.folders[1].name]


def test_a_locked_index_is_asked_again_for_a_while(copied: Callable[[], Runs], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = copied()
    read_index(runs.results)
    (runs.folders[0] / "run.json").touch()
    holder = sqlite3.connect(runs.results / INDEX)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(index, "PATIENCE", 0.2)
    with pytest.raises(StorageFailure, match=r"free within 0\.2 s[^$]*database is locked"):
        read_index(runs.results)
    holder.rollback()
    holder.close()
    assert len(read_index(runs.results)) == 2


def test_runs_are_found_by_path_id_or_the_beginning_of_it(two_runs: Runs) -> None:
    first = two_runs.folders[0]
    for name in (str(first), first.name, f"tank/{first.name}"):
        assert find_any_run(two_runs.results, name) == first
    with pytest.raises(InvalidInput, match="may be any of 2 runs"):
        find_any_run(two_runs.results, first.name[:4])
    with pytest.raises(InvalidInput, match=r"no run `nothing`"):
        find_any_run(two_runs.results, "nothing")


def test_the_commands_list_and_show_runs(two_runs: Runs) -> None:
    code, out, err = run_command("runs", "--results", two_runs.results)
    assert (code, err) == (0, "")
    assert all(folder.name in out for folder in two_runs.folders)
    assert run_command("runs", "models/tank", "--results", two_runs.results) == (code, out, err)
    assert "No such runs" in run_command("runs", "pond", "--results", two_runs.results)[1]
    listed = parse_strictly(run_command("runs", "--results", two_runs.results, "--json")[1])
    assert [entry["seed"] for entry in listed] == [0, 1]
    assert parse_strictly(run_command("runs", "--results", two_runs.results, "--status", "failed", "--json")[1]) == []
    code, out, err = run_command("show", two_runs.folders[1].name, "--results", two_runs.results)
    assert (code, err) == (0, "")
    assert "finished" in out
    assert '"seed": 1' in out
    assert re.search(r"^ *rate +\S+ +\S+ +\S+ … \S+ +1/h *$", out, flags=re.MULTILINE)
    assert re.search(r"Inside the 90 % interval, of held-out observations: level \d+ %\.", out)
    assert f"  {two_runs.folders[1] / 'posterior.nc'}\n" in out


def test_a_run_whose_process_died_is_not_called_running(copied: Callable[[], Runs]) -> None:
    runs = copied()
    path = runs.folders[0] / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"finished"', '"running"', 1), encoding="utf-8")
    out = run_command("runs", "--results", runs.results)[1]
    assert re.search(rf"{runs.folders[0].name} .* killed ", out)
    assert "running" not in out


def test_without_a_folder_of_results_it_says_how_to_make_runs(tmp_path: pathlib.Path) -> None:
    code, out, err = run_command("runs", "--results", tmp_path / "none")
    assert (code, out) == (2, "")
    assert "bayestwin calibrate MODEL" in err
