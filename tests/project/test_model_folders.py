"""A model folder that cannot be used is an error that names the file, the line, and what is there instead."""

import pathlib
import sys

import pytest
from tank_model import TWIN, MakeModel

from bayestwin.errors import BayestwinError, InvalidInput, InvalidJob, InvalidTelemetry, InvalidTwin
from bayestwin.project.model import changed, load_model, load_telemetry, read_model_telemetry
from bayestwin.project.sections import SplitSection


def failure(folder: pathlib.Path, kind: type[BayestwinError]) -> list[str]:
    """The four lines of the error that loading a folder raises."""
    with pytest.raises(kind) as caught:
        load_telemetry(load_model(folder))
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  Expected: ")
    assert lines[2].startswith("  Received: ")
    return lines


def test_a_whole_one_is_read(make_model: MakeModel) -> None:
    model = load_model(make_model())
    assert (model.name, model.twin.name) == ("tank", "tank")
    split = load_telemetry(model)
    assert split.calibration.table.index.max() < 6.0 <= split.held_out.table.index.min()
    assert len(split.calibration.table) + len(split.held_out.table) == 41


def test_a_folder_that_is_not_there_is_guessed(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model("boiler")
    assert failure(folder.parent / "boilr", InvalidInput)[3].strip() == f"Did you mean `{folder}`?"
    assert "bayestwin models" in failure(folder.parent / "zebra", InvalidInput)[3]
    monkeypatch.chdir(folder.parent.parent)
    assert failure(pathlib.Path("boiler"), InvalidInput)[3].strip() == "Did you mean `models/boiler`?"


def test_a_file_is_no_folder(make_model: MakeModel) -> None:
    folder = make_model()
    lines = failure(folder / "twin.py", InvalidInput)
    assert lines[2].endswith("a file")
    assert f"`{folder}`" in lines[3]


def test_without_a_twin_it_says_what_is_there(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "twin.py").rename(folder / "tvin.py")
    lines = failure(folder, InvalidTwin)
    assert "has no `twin.py`" in lines[0]
    assert "`tvin.py`" in lines[2]


def test_the_folder_of_a_run_is_told_from_a_model(tmp_path: pathlib.Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "--run" in failure(tmp_path, InvalidTwin)[3]


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("import bayestwin as bt\n\ntwin = bt.Twin(\n", "SyntaxError in line 3: "),
        ("x = 1\n  y = 2\n", "IndentationError in line 2: "),
        ("def broken():\n    return 1 / 0\n\n\ntwin = broken()\n", "ZeroDivisionError in line 2: division by zero"),
        ("import no_such_package\n", "ModuleNotFoundError in line 1: No module named 'no_such_package'"),
        ("import sys\n\nsys.exit(0)\n", "SystemExit in line 3: 0"),
    ],
)
def test_code_that_does_not_run_names_its_line(make_model: MakeModel, text: str, received: str) -> None:
    folder = make_model(twin=text)
    lines = failure(folder, InvalidTwin)
    assert f"`{folder / 'twin.py'}` does not run" in lines[0]
    assert lines[2].startswith(f"  Received: {received}")


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (TWIN.replace("\ntwin =", "\nmodel ="), "no variable `twin`"),
        ("twin = {'name': 'tank'}\n", "`twin` is a dict"),
    ],
)
def test_the_variable_must_be_a_twin(make_model: MakeModel, text: str, received: str) -> None:
    assert failure(make_model(twin=text), InvalidTwin)[2].endswith(received)


def test_a_wrong_twin_keeps_its_own_words(make_model: MakeModel) -> None:
    folder = make_model(twin=TWIN.replace("p.rate * x.level", "p.leak * x.level"))
    with pytest.raises(InvalidTwin, match="leak"):
        load_model(folder)


def test_a_changed_twin_is_read_anew_and_nothing_is_left_beside_it(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = make_model()
    before = sorted(folder.rglob("*"))
    load_model(folder)
    # as long as before and in the same second, where cached byte code would pass for current
    (folder / "twin.py").write_text(TWIN.replace('name="tank"', 'name="tonk"'), encoding="utf-8")
    assert load_model(folder).twin.name == "tonk"
    assert sorted(folder.rglob("*")) == before


def test_what_a_twin_prints_is_kept_off_standard_output(make_model: MakeModel, capsys: pytest.CaptureFixture) -> None:
    load_model(make_model(twin=TWIN + "print('hello')\n"))
    assert capsys.readouterr() == ("", "hello\n")


def test_the_folder_may_be_typed_in_any_way(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model()
    monkeypatch.chdir(folder)
    assert load_model(pathlib.Path()).name == "tank"
    assert load_model(pathlib.Path("../../models/tank")).name == "tank"
    assert sys.modules["bayestwin_model_tank"].__file__ is not None


def test_telemetry_that_is_not_there_is_counted_from_the_model(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "data" / "tank.csv").rename(folder / "data" / "tonk.csv")
    lines = failure(folder, InvalidJob)
    assert "`data/tank.csv`" in lines[0]
    assert "`data/tonk.csv`" in lines[2]


def test_a_file_in_its_place_that_is_not_there_is_not_blamed_on_the_job(make_model: MakeModel) -> None:
    model = load_model(make_model())
    nowhere = pathlib.Path("tomorrow.csv")
    for ask in (lambda: changed(model, telemetry=nowhere), lambda: read_model_telemetry(model, nowhere, partly=True)):
        with pytest.raises(InvalidInput, match=r"no telemetry file `tomorrow\.csv`") as refused:
            ask()
        assert "job.toml" not in str(refused.value)


@pytest.mark.parametrize("time", ["0.0", "10.25"])
def test_a_split_that_leaves_nothing_says_where_it_may_be(make_model: MakeModel, time: str) -> None:
    folder = make_model()
    job = folder / "job.toml"
    job.write_text(job.read_text().replace("hold_out_from = 6.0", f"hold_out_from = {time}"))
    lines = failure(folder, InvalidTelemetry)
    assert "after 0.0 and not after 10.0" in lines[1]
    assert time.strip("'") in lines[2]
    assert "hold_out_from" in lines[3]


@pytest.mark.parametrize("time", ["'soon'", "2026-03-21"])
def test_a_split_at_no_time_of_the_telemetry_names_the_key_and_the_record(make_model: MakeModel, time: str) -> None:
    folder = make_model()
    job = folder / "job.toml"
    job.write_text(job.read_text().replace("hold_out_from = 6.0", f"hold_out_from = {time}"))
    lines = failure(folder, InvalidTelemetry)
    assert lines[0].startswith(f"In `[split]` of `{job}`: The moment in `hold_out_from` does not fit")
    assert "from 0.0 to 10.0" in lines[3]


def test_a_split_takes_its_own_rows(make_model: MakeModel) -> None:
    split = load_telemetry(load_model(make_model()), SplitSection(start=1.0, hold_out_from=2.0, end=3.0))
    assert [t.table.index.tolist() for t in split[:2]] == [[1.0, 1.25, 1.5, 1.75], [2.0, 2.25, 2.5, 2.75]]
    split = load_telemetry(load_model(make_model("other")), SplitSection(end=0.5))
    assert (split.calibration.table.index.tolist(), split.held_out) == ([0.0, 0.25], None)
