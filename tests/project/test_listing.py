"""Models are listed with one line about each, and none of their code runs."""

import json
import pathlib

import pytest
from tank_model import MakeModel, run_command

from bayestwin.errors import InvalidInput
from bayestwin.project.model import list_models

ROOT = pathlib.Path(__file__).parents[2]


def test_no_code_runs(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    ran = tmp_path / "ran"
    folder = make_model("loud", twin=f"open({str(ran)!r}, 'w')\nraise SystemExit\n")
    assert list_models(folder.parent) == [(folder, "A leaking tank with a pump.")]
    assert run_command("models", folder.parent)[0] == 0
    assert not ran.exists()


def test_each_has_the_first_words_of_its_card(make_model: MakeModel) -> None:
    folders = [make_model(name) for name in ("a", "b", "c")]
    (folders[1] / "card.md").unlink()
    (folders[2] / "card.md").write_text("# c\n\n")
    (folders[0].parent / "notes").mkdir()
    (folders[0].parent / "notes.md").write_text("no model")
    words = [about for _, about in list_models(folders[0].parent)]
    assert words == ["A leaking tank with a pump.", "(no card.md)", "(empty card.md)"]


def test_names_and_words_are_printed_as_they_are(make_model: MakeModel) -> None:
    folder = make_model("[red]tank[/]")
    (folder / "card.md").write_text("A [bold]tank[/bold], with [/] in its words.")
    code, out, err = run_command("models", folder.parent)
    assert (code, err) == (0, "")
    assert out == f"{folder}  A [bold]tank[/bold], with [/] in its words.\n"


def test_the_models_that_ship_are_listed_as_json() -> None:
    code, out, _ = run_command("models", ROOT / "models", "--json")
    assert code == 0
    found = {pathlib.Path(row["model"]).name: row["about"] for row in json.loads(out)}
    assert set(found) == {path.parent.name for path in ROOT.glob("models/*/twin.py")}
    assert all(20 < len(about) < 140 for about in found.values())


def test_a_folder_without_models_is_said_to_be_one(tmp_path: pathlib.Path) -> None:
    code, out, _ = run_command("models", tmp_path)
    assert (code, out) == (0, f"No model folders in {tmp_path}: a model is a folder with a `twin.py`.\n")
    with pytest.raises(InvalidInput, match="There is no folder"):
        list_models(tmp_path / "models")
