"""A new model folder is whole, is refused where it would be in the way, and its telemetry is what its twin gives."""

import json
import pathlib
import runpy
import sys

import pandas as pd
import pytest
from tank_model import run_command

from bayestwin.errors import InvalidInput, StorageFailure
from bayestwin.project.model import load_model, load_telemetry, new_model

FILES = ["card.md", "data/telemetry.csv", "job.toml", "scenarios/README.md", "simulate.py", "twin.py"]


@pytest.fixture(autouse=True)
def empty(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The current folder, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_in(folder: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_says_what_to_do_next_and_is_listed(empty: pathlib.Path) -> None:
    code, out, err = run_command("new", "boiler")
    assert (code, err) == (0, "")
    assert "bayestwin calibrate models/boiler" in out
    assert files_in(empty / "models" / "boiler") == FILES
    assert [path.name for path in (empty / "models").iterdir()] == ["boiler"]  # nothing unfinished is left
    assert run_command("models")[1].startswith("models/boiler  A heated tank of water")


def test_its_files_are_listed_as_json(empty: pathlib.Path) -> None:
    code, out, err = run_command("new", "boiler", "--in", "my models", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["model"] == "my models/boiler"
    assert json.loads(out)["files"] == [f"my models/boiler/{name}" for name in FILES]


def test_it_is_named_as_it_was_asked_for_and_can_be_read() -> None:
    model = load_model(new_model("boiler"))
    assert (model.name, model.twin.name) == ("boiler", "boiler")
    split = load_telemetry(model)
    assert (len(split.calibration.table), len(split.held_out.table)) == (144, 36)
    for path in model.folder.rglob("*"):
        assert not path.is_file() or "$" not in path.read_text(encoding="utf-8"), path


def test_the_telemetry_is_what_the_twin_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new_model("boiler")
    path = folder / "data" / "telemetry.csv"
    shipped = pd.read_csv(path)
    path.unlink()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "twin", raising=False)
    runpy.run_path(str(folder / "simulate.py"), run_name="__main__")
    monkeypatch.delitem(sys.modules, "twin")
    # in the last of the digits that are written, other hosts may round another way
    pd.testing.assert_frame_equal(pd.read_csv(path), shipped, atol=0.011, rtol=0.0)


@pytest.mark.parametrize("name", ["", "models/boiler", "..", "my-boiler", "2nd", "class", "_boiler", "a b", "/tmp/x"])
def test_a_name_that_is_no_identifier_is_refused(empty: pathlib.Path, name: str) -> None:
    code, out, err = run_command("new", "--", name)
    assert (code, out) == (2, "")
    assert "The name of the model cannot be used" in err
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_left_as_it_is(empty: pathlib.Path, kind: str) -> None:
    there = empty / "models" / "boiler"
    there.parent.mkdir()
    {"folder": there.mkdir, "file": there.touch, "link": lambda: there.symlink_to("nowhere")}[kind]()
    with pytest.raises(InvalidInput, match=r"There is something under `models/boiler` already(?s:.*)--in FOLDER"):
        new_model("boiler")
    assert list(there.parent.iterdir()) == [there]
    assert files_in(there) == []


def test_a_folder_that_cannot_be_written_is_an_error(empty: pathlib.Path) -> None:
    (empty / "models").write_text("in the way")
    with pytest.raises(StorageFailure, match=r"`models/boiler` cannot be made(?s:.*)--in FOLDER"):
        new_model("boiler")


def test_without_models_it_says_how_to_make_one(empty: pathlib.Path) -> None:
    code, out, err = run_command("models")
    assert (code, out) == (2, "")
    assert "`bayestwin new NAME`" in err
    (empty / "models").mkdir()
    code, out, err = run_command("models")
    assert (code, out) == (0, "No model folders in models: a model is a folder with a `twin.py`.\n")
    assert err == "`bayestwin new NAME` makes one to start from.\n"
