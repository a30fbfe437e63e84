"""Every command explains itself and stands in the README; errors are one text and a code, never a traceback."""

import inspect
import json
import pathlib
import re
import shlex

import pytest
from tank_model import parse_strictly, run_command, write_model

from bayestwin.cli import app

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
NAMES = """
    batch calibrate check compare coverage design diff doctor export fleet history identify import models monitor new
    predict promote report reproduce resume rollback runs sbc scenario sensitivity serve shadow show token track update
    validate watch
"""
VERBS = {command.callback.__name__: command.callback for command in app.registered_commands}


def test_the_verbs_are_these() -> None:
    assert sorted(VERBS) == NAMES.split()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_has_help_with_an_example_and_every_option_explained(verb: str) -> None:
    code, out, err = run_command(verb, "--help")
    assert (code, err) == (0, "")
    assert f"Example: bayestwin {verb}" in out
    assert "--json" in out
    words = " ".join(out.split())
    assert inspect.getdoc(VERBS[verb]).splitlines()[0] in words
    # an option without words has nothing after its type
    bare = re.findall(r"│ \*?\s*(--?[\w-]+)\s+<\w+>\s+│", out)
    assert bare == []
    assert run_command(verb, "-h") == (code, out, err)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_example_names_what_is_there(verb: str) -> None:
    (example,) = re.findall(r"Example: bayestwin (.+)", inspect.getdoc(VERBS[verb]))
    command, *rest = shlex.split(example)
    assert command == verb
    for word in rest:
        if word.startswith("models/"):
            path = ROOT / word
            assert ((path if path.is_dir() else path.parent) / "twin.py").is_file()
            assert path.exists()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_stands_in_the_readme(verb: str) -> None:
    assert re.search(rf"^\| `bayestwin {verb}\b[^`]*` \| \S", README, flags=re.MULTILINE)


def test_readme_and_docs_name_no_other_command_and_no_other_option() -> None:
    shown = re.findall(r"`bayestwin ((?:[a-z]+)(?: [^`\n]*)?)`", README + DOCS)
    for line in shown:
        verb, *rest = line.split()
        assert verb in VERBS, line
        parameters = inspect.signature(VERBS[verb]).parameters
        for word in rest:
            if word.startswith("--"):
                assert word.removeprefix("--").replace("-", "_") in parameters, line


def test_without_a_command_it_shows_its_help() -> None:
    code, out, err = run_command()
    assert code == 2
    assert all(verb in out + err for verb in VERBS)


def test_it_knows_its_version() -> None:
    code, out, _ = run_command("--version")
    assert code == 0
    assert re.fullmatch(r"bayestwin \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["calibrat"], "Did you mean 'calibrate'"),
        (["calibrate", "models/room", "--sed", "3"], "--seed"),
        (["calibrate", "models/room", "--seed", "many"], "--seed"),
        (["calibrate"], "Missing argument"),
    ],
)
def test_a_mistyped_command_is_exit_2_with_a_hint(arguments: list[str], hint: str) -> None:
    code, out, err = run_command(*arguments)
    assert (code, out) == (2, "")
    assert hint in err


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"doctor", "new"}))  # what `new` refuses: see test_new_model.py
def test_bad_input_is_exit_2_and_explained(verb: str, as_json: list[str], tmp_path: pathlib.Path) -> None:
    absent = tmp_path / "[no] such"
    needed = {"update": ["--telemetry", absent], "rollback": ["--why", "x"], "shadow": ["--telemetry", absent]}
    needed["watch"] = ["--source", absent]
    special = {"diff": [absent, absent], "runs": ["--results", absent], "serve": ["--results", absent]}
    special |= {"token": ["Ann", "--results", absent], "import": ["petab", absent, tmp_path / "made"]}
    arguments = special.get(verb, [absent, *needed.get(verb, ())])
    code, out, err = run_command(verb, *arguments, *as_json)
    assert (code, out) == (2, "")
    first, expected, received, advice = err.splitlines()
    assert first.startswith("error: There is no ")
    assert f"`{tmp_path / '[no] such'}`" in first
    assert expected.startswith("  Expected: ")
    assert received.startswith("  Received: ")
    assert advice.startswith("  ")


@pytest.mark.parametrize("verb", ["predict", "coverage", "report", "validate"])
def test_without_a_run_it_says_which_command_makes_one(verb: str, tmp_path: pathlib.Path) -> None:
    model = write_model(tmp_path / "tank")
    code, out, err = run_command(verb, model, "--results", tmp_path / "results")
    assert (code, out) == (2, "")
    assert f"Run `bayestwin calibrate {model}` first" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("arguments", [["models", ROOT / "models"], ["check", ROOT / "models" / "lynx_hare"]])
def test_outside_a_terminal_it_is_quiet_and_plain(
    arguments: list[object], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_command(*arguments)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "\r" not in out
    code, out, err = run_command(*arguments, "--json")
    assert (code, err) == (0, "")
    assert len(parse_strictly(out)) >= 2
    assert out == json.dumps(json.loads(out), indent=2, ensure_ascii=False) + "\n"
