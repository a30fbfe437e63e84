"""Errors are data: four parts of which the text is made, whole in another process, and no code reads the text again."""

import ast
import copy
import pathlib
import pickle
import re

import pytest

import bayestwin
from bayestwin import errors
from bayestwin.project.job import about_job

PARTS = {"expected": "a unit that pint knows", "received": "`degX`", "advice": "Correct it."}
TEXT = "The unit of `indoor` does not parse.\n  Expected: a unit that pint knows\n  Received: `degX`\n  Correct it."


def classes(root: type[errors.BayestwinError] = errors.BayestwinError) -> list[type[errors.BayestwinError]]:
    return [root, *(one for child in root.__subclasses__() for one in classes(child))]


def fault(kind: type[errors.BayestwinError] = errors.InvalidTelemetry) -> errors.BayestwinError:
    return kind("The unit of `indoor` does not parse.", **PARTS)


def test_a_line_holds_all_of_it_and_nothing_that_was_not_said() -> None:
    one = fault()
    told = "The unit of `indoor` does not parse. Expected: a unit that pint knows. Received: `degX`. Correct it."
    assert one.line == told
    assert one.within("In experiment `first`").line == f"In experiment `first`: {told}"
    assert errors.InvalidTelemetry("It has\nno rows.").line == "It has no rows."
    bare = errors.InvalidTelemetry("It has no rows", received="a file", advice="Why?")
    assert bare.line == "It has no rows. Received: a file. Why?"
    both = errors.InvalidTelemetry.all_of([fault(), errors.InvalidTelemetry("It has no rows.")])
    assert both.line == f"2 things are wrong: (1) {told} (2) It has no rows."


def test_the_text_is_made_of_the_parts() -> None:
    found = fault()
    assert str(found) == TEXT
    assert (found.problem, found.summary) == ("The unit of `indoor` does not parse.",) * 2
    assert {name: getattr(found, name) for name in PARTS} == PARTS


def test_a_part_that_is_none_has_no_line() -> None:
    bare = errors.BayestwinError("text")
    assert str(bare) == "text"
    assert (bare.expected, bare.received, bare.advice, bare.where, bare.reasons) == (None, None, None, (), ())
    assert str(errors.InvalidJob("Wrong.", expected="", received="this")) == "Wrong.\n  Expected: \n  Received: this"


def test_a_place_stands_in_front_and_leaves_the_parts_and_the_error_as_they_were() -> None:
    inner = fault()
    inner.add_note("a note")
    outer = inner.within("In experiment `first`").within("In `[telemetry]` of `job.toml`")
    assert type(outer) is errors.InvalidTelemetry
    assert str(outer) == f"In `[telemetry]` of `job.toml`: In experiment `first`: {TEXT}"
    assert outer.summary == str(outer).splitlines()[0]
    assert outer.where == ("In `[telemetry]` of `job.toml`", "In experiment `first`")
    assert {name: getattr(outer, name) for name in PARTS} == PARTS
    outer.add_note("another")
    assert (outer.__notes__, inner.__notes__) == (["a note", "another"], ["a note"])
    assert (str(inner), inner.where) == (TEXT, ())


def test_one_error_lists_several() -> None:
    one, two = (
        fault(),
        errors.InvalidTelemetry("Telemetry has no rows.", expected="one", received="none", advice="Look."),
    )
    both = errors.InvalidTelemetry.all_of([one, two])
    assert str(both) == f"2 things are wrong:\n(1) {TEXT}\n(2) {two}"
    assert both.reasons == (one, two)
    assert errors.InvalidTelemetry.all_of([one]) is one


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy])
def test_each_type_is_whole_in_another_process(kind: type[errors.BayestwinError], again) -> None:
    found = fault(kind).within("In experiment `first`")
    found.add_note("What is left of this run lies in `run`.")
    listing = kind.all_of([found, fault(kind)]).within("In `[telemetry]`")
    for error in (found, listing, kind("text")):
        other = again(error)
        assert (type(other), str(other)) == (kind, str(error))
        told, untold = ({k: v for k, v in vars(one).items() if k != "reasons"} for one in (other, error))
        assert told == untold
        assert [str(one) for one in other.reasons] == [str(one) for one in error.reasons]


def test_a_job_file_has_each_part_in_its_own_words() -> None:
    python = errors.InvalidTelemetry(
        "Pass `sentinels=(-999,)`.",
        expected="`rename={'a': 'b'}`",
        received="`order='sort'`",
        advice="`decimal=','` is not `x == 1`.",
    )
    with pytest.raises(errors.InvalidTelemetry) as caught, about_job("`[telemetry]`"):
        raise errors.InvalidTelemetry.all_of([python.within("In experiment `first`"), fault()])
    assert caught.value.where == ("In `[telemetry]`",)
    first = caught.value.reasons[0]
    assert (first.where, first.problem) == (("In experiment `first`",), "Pass `sentinels = [-999]`.")
    assert (first.expected, first.received) == ('`rename = { a = "b" }`', '`order = "sort"`')
    assert first.advice == '`decimal = ","` is not `x == 1`.'
    assert str(caught.value) == f"In `[telemetry]`: 2 things are wrong:\n(1) {first}\n(2) {TEXT}"
    assert str(caught.value.__cause__.reasons[0]) == str(python.within("In experiment `first`"))


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn, above = {}, []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+)(?:  |$)", line):
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in classes()}


# What the code of the package does with errors, read off its syntax trees.

NAMES = {kind.__name__ for kind in classes()}
CUTS = {"splitlines", "split", "partition", "rpartition", "removeprefix", "removesuffix", "replace", "startswith"}


def modules() -> list[tuple[str, ast.Module]]:
    root = pathlib.Path(bayestwin.__file__).parent
    paths = [path for path in sorted(root.rglob("*.py")) if path.name != "errors.py"]
    return [(str(path.relative_to(root)), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def kinds_among(arguments: ast.arguments) -> set[str]:
    """Arguments that hold the type of an error: `error: type[BayestwinError]`."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {
        one.arg for one in every if one.annotation and re.search(r"type\[.*BayestwinError", ast.unparse(one.annotation))
    }


def incomplete(tree: ast.Module) -> list[str]:
    """The functions in which an error is made without all of its parts, or with more text than its problem."""
    found = []

    def look(node: ast.AST, function: str, kinds: set[str]) -> None:
        if isinstance(node, ast.FunctionDef):
            function, kinds = node.name, kinds | kinds_among(node.args)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).removeprefix("errors.")
            parts = {keyword.arg for keyword in node.keywords}
            if name in kinds and (len(node.args) != 1 or parts != {"expected", "received", "advice"}):
                found.append(function)
        for child in ast.iter_child_nodes(node):
            look(child, function, kinds)

    look(tree, "", NAMES)
    return found


def cut(tree: ast.Module) -> list[int]:
    """Lines where the text of an error of ours that was caught is cut, or read again."""
    lines = []
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        if not NAMES & {word for node in ast.walk(handler.type) for word in ast.unparse(node).split(".")}:
            continue
        text = {f"str({handler.name})", f"{handler.name}.args[0]"}
        for node in ast.walk(handler):
            if isinstance(node, ast.Attribute) and node.attr in CUTS and ast.unparse(node.value) in text:
                lines.append(node.lineno)
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).startswith("re.")
                and text & set(map(ast.unparse, node.args))
            ):
                lines.append(node.lineno)
    return lines


@pytest.mark.thorough
def test_each_error_of_the_package_has_all_parts() -> None:
    assert {file: functions for file, tree in modules() if (functions := incomplete(tree))} == {}


def test_the_text_of_an_error_is_never_read_again() -> None:
    assert {file: lines for file, tree in modules() if (lines := cut(tree))} == {}


@pytest.mark.parametrize(
    "planted",
    [
        "raise InvalidTwin('text')",
        "raise errors.InvalidTwin('text', expected='a', received='b')",
        "raise errors.InvalidTwin(f'In it: {reason}') from reason",
        "error = StorageFailure(message)",
        "def check(error: type[BayestwinError]): raise error('text')",
    ],
)
def test_an_error_without_its_parts_is_seen(planted: str) -> None:
    assert incomplete(ast.parse(planted))
    assert not incomplete(ast.parse("raise errors.InvalidTwin('text', expected='a', received='b', advice='c')"))


def test_a_text_that_is_cut_is_seen() -> None:
    code = "try: work()\nexcept {}: first = str(reason).splitlines()[0]"
    assert cut(ast.parse(code.format("BayestwinError as reason")))
    assert cut(ast.parse(code.format("(errors.InvalidTwin, OSError) as reason")))
    assert not cut(ast.parse(code.format("OSError as reason")))
