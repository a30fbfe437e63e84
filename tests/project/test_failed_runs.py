"""A run that fails is marked failed and says why; what is wrong with the input is told before a run begins."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from tank_model import JOB, TWIN, MakeModel, Ran, parse_strictly, run_command

from bayestwin._base.progress import Progress
from bayestwin.errors import StorageFailure
from bayestwin.project.calibrate import calibrate_model
from bayestwin.project.model import load_model
from bayestwin.project.record import read_record

# Calibrates under a limit on the size of files, as on a disk that fills up in the middle of writing a result.
ON_A_FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
from bayestwin.cli import app
app(sys.argv[1:])
"""


def hashes(folder: pathlib.Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.thorough
def test_a_full_disk_fails_the_run_and_spares_the_older_ones(ran: Ran, tmp_path: pathlib.Path) -> None:
    older = ran.results / "tank" / ran.runs[0].name
    results = tmp_path / "results"
    kept = results / "tank" / older.name
    shutil.copytree(older, kept)
    shutil.copytree(ran.results / ".code", results / ".code")  # the code is kept once, and is larger than a result
    before = hashes(kept)
    command = [sys.executable, "-c", ON_A_FULL_DISK, "calibrate", str(ran.model), "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert "space" in done.stderr
    (run,) = [path for path in (results / "tank").iterdir() if path != kept]
    assert f"What is left of this run lies in `{run}`" in done.stderr
    record = read_record(run)
    assert record["status"] == "failed"
    assert "space" in record["error"]
    # whichever came first: on a busy machine that is the checkpoint
    assert "posterior.nc" in record["error"] or "checkpoint.nc" in record["error"]
    assert record["timings"]["ladder"] >= 0.0
    assert {path.name for path in run.iterdir()} <= {"inputs", "run.json"}
    assert hashes(kept) == before


@pytest.mark.parametrize("where", ["a file", "below a file", "read-only"])
def test_where_nothing_can_be_written_nothing_is_computed(make_model: MakeModel, where: str) -> None:
    model = load_model(make_model())
    results = model.folder.parent / "results"
    if where == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root writes to read-only folders")
        results.mkdir(mode=0o500)
    else:
        results.write_text("")
    progress = Progress(show=False)
    with pytest.raises(StorageFailure, match=str(results)):
        calibrate_model(model, results / "deep" if where == "below a file" else results, progress=progress)
    assert progress.timings == {}


def test_a_folder_that_cannot_be_written_is_one_error(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    (tmp_path / "results").write_text("")
    code, out, err = run_command("calibrate", make_model(), "--results", tmp_path / "results")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert str(tmp_path / "results") in err


HOLED = "\n".join(["hour,gauge,pump", "0,5,1", "1,4,1", "2,3,1", "3,2,1", "6,1,1", "7,1,", "8,1,1", ""])
UNSEEN = HOLED.replace("7,1,\n", "7,1,1\n").replace("6,1,1\n7,1,1\n8,1,1", "6,,1\n7,,1\n8,,1")


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({}, ["--seed", "-1"], "`--seed` makes no sense"),
        ({}, ["--device", "abacus"], "There is no device `abacus`"),
        ({}, ["--hold-out-from", "soon"], "The moment in `hold_out_from` does not fit"),
        ({"job": JOB + "\nmax_rat = 2.0\n"}, [], "Did you mean `max_rhat`?"),
        ({"job": JOB.replace('gauge = "m"', 'gauge = "s"')}, [], "`level`"),
        ({"job": JOB.replace('gauge = "level"', 'gauge = "depth"')}, [], "no column for the observation `level`"),
        ({"twin": TWIN.replace("dist.LogNormal(0.0, 0.5)", "0.8")}, [], "has nothing to infer"),
        ({"data": HOLED}, [], "In the part that is held out: Input `pump` has a gap."),
        ({"data": UNSEEN}, [], "In the part that is held out: Telemetry has no observation at all."),
    ],
)
def test_bad_input_is_told_before_a_run_begins(
    make_model: MakeModel, tmp_path: pathlib.Path, changes: dict[str, str], arguments: list[str], words: str
) -> None:
    model = make_model(**{name: text for name, text in changes.items() if name != "data"})
    if "data" in changes:
        (model / "data" / "tank.csv").write_text(changes["data"])
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    for part in ("\n  Expected: ", "\n  Received: "):
        assert part in err
    assert not (tmp_path / "results").exists()


@pytest.mark.thorough
def test_a_prior_without_a_start_fails_the_run(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    # the level blows up before the second sample whatever the rate
    exploding = TWIN.replace("u.pump - p.rate * x.level", "(1.0 + p.rate) * x.level**2")
    code, out, err = run_command("calibrate", make_model(twin=exploding), "--results", tmp_path / "results")
    assert (code, out) == (1, "")
    assert "no valid start" in err
    (run,) = (tmp_path / "results" / "tank").iterdir()
    record = read_record(run)
    assert record["status"] == "failed"
    assert "no valid start" in record["error"]


def test_failed_gates_exit_with_1_and_are_json_to_the_letter(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    """One chain of five draws has no R̂: what cannot be computed is null, not NaN, and does not pass."""
    job = JOB.replace("num_samples = 75", "num_samples = 5").replace("num_chains = 2", "num_chains = 1")
    code, out, err = run_command("calibrate", make_model(job=job), "--results", tmp_path / "results", "--json")
    assert (code, err) == (1, "")
    found = parse_strictly(out)
    (run,) = (tmp_path / "results" / "tank").iterdir()
    assert found == {"folder": str(run)} | parse_strictly((run / "run.json").read_text(encoding="utf-8"))
    assert found["status"] == "failed gates"
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert not gates["chains"]["passed"]
    assert (gates["rhat"]["passed"], gates["rhat"]["value"]) == (False, None)
    assert (run / "report.html").is_file()
