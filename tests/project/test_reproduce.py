"""A run made again is the same to the bit here, within chance elsewhere, and what is not the same is said."""

import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from tank_model import Runs, parse_strictly, run_command

import bayestwin as bt
from bayestwin.errors import InvalidInput
from bayestwin.project.reproduce import compare_files, compare_trees, reproduce


def edit(run: pathlib.Path, **changes: object) -> None:
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_here_it_is_the_same_to_the_bit(two_runs: Runs) -> None:
    code, out, err = run_command(
        "reproduce", two_runs.folders[0].name, "--here", "--results", two_runs.results, "--json"
    )
    assert (code, err) == (0, "")
    found = parse_strictly(out)
    assert found["holds"] is True
    assert found["same_host"] is True
    assert found["changes"] == []
    assert {one["file"]: one["level"] for one in found["files"]} == {"posterior.nc": "bits", "predictions.nc": "bits"}


@pytest.mark.thorough
def test_other_draws_do_not_pass_here_but_do_elsewhere(copied: Callable[[], Runs]) -> None:
    runs = copied()
    first, second = runs.folders
    for name in ("posterior.nc", "predictions.nc"):
        shutil.copy(second / name, first / name)
    found = reproduce(first)
    assert [one.level for one in found.files] == ["mcse", "different"]
    assert not found.holds
    edit(first, host={"system": "another"})
    found = reproduce(first)
    assert (found.same_host, found.holds) == (False, True)


def test_another_posterior_does_not_pass_anywhere(copied: Callable[[], Runs]) -> None:
    run = copied().folders[0]
    tree = bt.load(run / "posterior.nc")
    again = tree.copy(deep=True)
    again["posterior"]["rate"] = again["posterior/rate"] + 3.0 * float(tree["posterior/rate"].std())
    found = compare_trees("posterior.nc", tree, again)
    assert found.level == "different"
    assert "those of `rate` lie" in found.sentence
    again["posterior"]["rate"] = tree["posterior/rate"].copy(data=np.full(tree["posterior/rate"].shape, 0.8))
    assert compare_trees("posterior.nc", again, tree).level == "different"
    assert compare_files("posterior.nc", run / "posterior.nc", run / "posterior.nc").level == "bits"


@pytest.mark.parametrize("fault", ["changed", "lost", "unfinished", "none"])
def test_without_the_inputs_that_it_kept_it_says_so(copied: Callable[[], Runs], fault: str) -> None:
    run = copied().folders[0]
    if fault == "changed":
        with (run / "inputs" / "telemetry" / "tank.csv").open("a") as file:
            file.write("11,0.5,3\n")
    elif fault == "lost":
        (run / "inputs" / "twin.py").unlink()
    elif fault == "unfinished":
        edit(run, status="failed")
    else:
        edit(run, inputs={})
    with pytest.raises(InvalidInput, match="be made again"):
        reproduce(run)
