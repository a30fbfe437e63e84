"""Reading the job file of a model, and saying what is wrong in it: TOML whose tables are those of `sections`.

What the library says of arguments of Python is said here in the words of a job file.
"""

import ast
import contextlib
import difflib
import json
import pathlib
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from bayestwin._base.files import without_password
from bayestwin.errors import InvalidInput, InvalidJob
from bayestwin.project.sections import Job
from bayestwin.project.telemetry_sections import Moment, Section

WORDS = {
    "model_type": "a table with keys of its own",
    "dict_type": 'a table such as `{ column = "text" }`',
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list in brackets",
    "time_delta_parsing": 'a number of days, or text such as "P7D"',
}
"""What pydantic expects, in the words of a job file."""

SETTINGS_PAGE = "https://github.com/bayestwin/bayestwin/blob/main/docs/jobs.md"
"""Where every setting is explained; an address, since a wheel brings no pages."""

MOMENT = "a date such as 2026-03-21, plain or as text, or a number, as the times of the telemetry are"


def read_job(path: pathlib.Path) -> Job:
    """Read and validate a job file.

    Raises:
        InvalidJob: If there is no such file, it is not TOML (with line and column), or a key is unknown or has the
            wrong type (naming the key, with a suggestion).
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = tomllib.loads(text + "\n")
    except OSError as reason:
        raise InvalidJob(
            f"There is no job file `{path}`.",
            expected="a TOML file with at least a `[telemetry]` table",
            received=f"{reason.strerror or reason}; in that folder: {_jobs_beside(path)}",
            advice="Write one, or name another with `--job`; `bayestwin new NAME` makes a folder that has one.",
        ) from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise InvalidJob(
            f"Job file `{path}` is not valid TOML.",
            expected='lines like `key = "text"` or `key = 1.5` beneath `[tables]`, each key once',
            received=_with_line(str(reason), text),
            advice="Correct that line.",
        ) from reason
    try:
        return Job.model_validate(found)
    except pydantic.ValidationError as reason:
        raise _first_fault(path, reason.errors()) from reason


def _with_line(reason: str, text: str) -> str:
    """What tomllib says, with the line that it means."""
    lines = text.splitlines()
    reason = reason.replace("end of document", f"line {len(lines)}, the end of the file")
    found = re.search(r"line (\d+)", reason)
    return without_password(f"{reason}: {lines[int(found[1]) - 1].strip()}") if found and lines else reason


def _jobs_beside(path: pathlib.Path) -> str:
    return ", ".join(f"`{found.name}`" for found in sorted(path.parent.glob("*.toml"))) or "none"


def _first_fault(path: pathlib.Path, found: list[Any]) -> InvalidJob:
    """The first error; a key that is not known comes first, since what is missing may be misspelt."""
    error = min(found, key=lambda one: one["type"] != "extra_forbidden")
    location, moment = within(Job, error["loc"])
    key = ".".join(location) or "telemetry"
    more = len({within(Job, one["loc"])[0] for one in found}) - 1
    also = f" ({more} more wrong after this)" if more else ""
    if error["type"] == "extra_forbidden":
        *table, name = location
        keys = known(Job, tuple(table), kind=error["loc"][-2] if table else None)
        return InvalidJob(
            f"Job file `{path}` has the unknown key `{key}`{also}.",
            expected=", ".join(f"`{one}`" for one in keys),
            received=f"`{name}`",
            advice=_suggestion(name, keys),
        )
    if error["type"].startswith("union_tag"):
        return _no_kind(path, f"{key}.kind", error)
    if error["type"] == "missing":
        whole = key == "telemetry"
        table = f"a table `[{key}]`, with at least `file` or `dataset`"
        there = ", ".join(f"`[{name}]`" if whole else f"`{name}`" for name in error["input"])
        return InvalidJob(
            f"Job file `{path}` lacks `{key}`{also}.",
            expected=table if whole else f"a value for `{key.rpartition('.')[2]}`",
            received=there or ("an empty file" if whole else "an empty table"),
            advice=f"Add it; {SETTINGS_PAGE} shows a whole job file.",
        )
    wanted = MOMENT if moment else str(WORDS.get(error["type"], error["msg"]))
    return InvalidJob(
        f"Job file `{path}` has a wrong value for `{key}`{also}.",
        expected=wanted.removeprefix("Value error, ").removeprefix("Input should be "),
        received=_received(error["input"]),
        advice="Correct the value.",
    )


def _no_kind(path: pathlib.Path, key: str, error: Any) -> InvalidJob:
    """The error where a table does not say of which kind it is, or of one that there is not."""
    kinds = error.get("ctx", {}).get("expected_tags", "").replace("'", "").split(", ")
    kind = str(error["input"].get("kind", ""))
    close = difflib.get_close_matches(kind, kinds, n=1)
    return InvalidJob(
        f"Job file `{path}` has a wrong value for `{key}`.",
        expected="one of " + ", ".join(f"`{one}`" for one in kinds) if any(kinds) else 'a line `kind = "…"`',
        received=f"`{kind}`" if kind else "none",
        advice=f"Did you mean `{close[0]}`?" if close else f"{SETTINGS_PAGE} shows what there is.",
    )


def _suggestion(name: str, keys: list[str]) -> str:
    """What an unknown key may have meant: a key of this table, or one of another."""
    if close := difflib.get_close_matches(name, keys, n=1):
        return f"Did you mean `{close[0]}`?"
    for table in fields(Job):
        if name in known(Job, (table,)):
            return f"`{name}` belongs beneath `[{table}]`."
    return "Remove it, or correct its name."


def _received(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{name}`" for name in value) or "an empty table"
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {str: "text", int: "whole number", float: "number", list: "list"}
    return without_password(f"the {kinds.get(type(value), type(value).__name__)} {value!r}")


# The keys that a job file may have, read off its sections: where an error lies, and what could have stood there.


def within(job: type[Section], location: tuple[Any, ...]) -> tuple[tuple[str, ...], bool]:
    """The keys that an error is about, without pydantic's own additions to its location; whether a time belongs there.

    Args:
        job: The outermost section.
        location: As pydantic tells it.
    """
    table: Any = job
    keys: list[str] = []
    for part in location:
        if not _choices(table):  # of these pydantic names the one that was chosen, which is no key
            if not fields(table) and typing.get_origin(table) is not dict and not _of_sections(table):
                break
            keys.append(str(part))
        table = _beneath(table, part)
        if Moment in typing.get_args(table):
            return tuple(keys), True
    return tuple(keys), False


def known(job: type[Section], location: tuple[str, ...], kind: str | None = None) -> list[str]:
    """The keys that a table may have.

    Args:
        job: The outermost section.
        location: The keys that lead to the table.
        kind: What the table says of its `kind`, where its other keys depend on that.
    """
    table: Any = job
    for part in location:
        table = _beneath(table, part)
    return list(fields(_beneath(table, kind) if _choices(table) else table))


def fields(table: Any) -> dict[str, Any]:
    """What a section may hold, by key; nothing for what is no section."""
    return {field.alias or name: field for name, field in getattr(table, "model_fields", {}).items()}


def _beneath(table: Any, part: Any) -> Any:
    """What belongs beneath a key of a table; None where that cannot be said."""
    if choices := _choices(table):
        return next((one for one in choices if part in typing.get_args(fields(one)["kind"].annotation)), None)
    if typing.get_origin(table) is dict:
        return typing.get_args(table)[1]
    if _of_sections(table):
        return typing.get_args(table)[0]
    annotation = fields(table)[part].annotation if part in fields(table) else None
    if _of_sections(annotation):
        return annotation
    inner = [one for one in typing.get_args(annotation) if one is not types.NoneType]
    return inner[0] if len(inner) == 1 and fields(inner[0]) else annotation


def _of_sections(table: Any) -> bool:
    """Whether a list holds tables."""
    return typing.get_origin(table) is list and bool(fields(typing.get_args(table)[0]))


def _choices(table: Any) -> tuple[Any, ...]:
    """The sections that one table may be, by its `kind`; none where there is no choice."""
    union = typing.get_args(getattr(table, "__value__", None))[:1]
    return tuple(one for one in typing.get_args(union[0]) if fields(one)) if union else ()


# Messages about arguments of Python in the words of a job file, which says the same in TOML.

_CODE = re.compile(r"`([^`\n]+)`")
_ARGUMENT = re.compile(r"([A-Za-z_]\w*)=(?!=)(.*)", re.DOTALL)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_toml(text: str) -> str:
    """A message whose code in backticks stands as a job file has it: `sentinels=(-999,)` as `sentinels = [-999]`.

    What is no argument and no value of Python stays as it is.
    """
    return _CODE.sub(lambda code: f"`{_translated(code[1])}`", text)


def toml(value: Any) -> str:
    """A plain value of Python as TOML writes it."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(name))} = {toml(one)}" for name, one in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def about_job(where: str = "") -> Iterator[None]:
    """Errors about the input in the words of a job file, with the table that they are about in front."""
    try:
        yield
    except InvalidInput as reason:
        told = reason.reworded(as_toml)
        raise (told.within(f"In {where}") if where else told) from reason


def _translated(code: str) -> str:
    argument = _ARGUMENT.fullmatch(code)
    if argument is None:
        try:
            value = ast.literal_eval(code) if code[0] in "'{" else None
        except (ValueError, SyntaxError):
            return code
        return code if value is None else toml(value)
    name, told = argument.groups()
    if told.strip("{}()…") == "":
        return f"{name} = {'{ … }' if told == '{…}' else '[]' if told == '()' else '…'}"
    try:
        return f"{name} = {toml(ast.literal_eval(told))}"
    except (ValueError, SyntaxError, TypeError):
        return code


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
