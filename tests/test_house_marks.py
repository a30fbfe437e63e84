"""Files and functions stay short, every module opens by saying what it holds, and every class has a name of its own."""

import ast
from pathlib import Path

import numpy as np

PACKAGE = Path(__file__).parents[1] / "bayestwin"
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in SOURCES.items()}


def lengths_of_functions() -> dict[str, int]:
    return {
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(text.splitlines()) for path, text in SOURCES.items()}
    assert {name: length for name, length in lengths.items() if length > 600} == {}


def test_the_root_shows_the_architecture() -> None:
    folders = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(list(PACKAGE.glob("*.py"))) <= 8
    assert len(folders) <= 19
    assert len(SOURCES) <= 257


def test_functions_are_short() -> None:
    lengths = lengths_of_functions()
    assert {name: length for name, length in lengths.items() if length > 90} == {}
    assert np.quantile(list(lengths.values()), 0.9) <= 35


def test_every_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.TypeAlias):
                name = node.name.id
            else:
                continue
            places.setdefault(name, []).append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_module_says_what_it_holds() -> None:
    # in 1 to 5 lines, and a few more for references; the tree of exceptions is drawn in full where it is defined
    opened = {str(path.relative_to(PACKAGE)): ast.get_docstring(tree) for path, tree in TREES.items()}
    assert [name for name, words in opened.items() if not words] == []
    assert [name for name, words in opened.items() if len(words.splitlines()) > 8 and name != "errors.py"] == []
