"""Reading the job file of a model, and saying what is wrong in it: TOML whose tables are those of `runs.sections`."""

import difflib
import pathlib
import re
import tomllib
from typing import Any

import pydantic

from bayestwin.errors import InvalidJob, explain
from bayestwin.project.keys import fields, known, within
from bayestwin.project.sections import Job

WORDS = {
    "model_type": "a table with keys of its own",
    "dict_type": 'a table such as `{ column = "text" }`',
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list in brackets",
}
"""What pydantic expects, in the words of a job file."""

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
        message = explain(
            f"There is no job file `{path}`.",
            expected="a TOML file with at least a `[telemetry]` table",
            received=f"{reason.strerror or reason}; in that folder: {_jobs_beside(path)}",
            advice="Write one, or name another with `--job`; the README shows one.",
        )
        raise InvalidJob(message) from reason
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        message = explain(
            f"Job file `{path}` is not valid TOML.",
            expected='lines like `key = "text"` or `key = 1.5` beneath `[tables]`, each key once',
            received=_with_line(str(reason), text),
            advice="Correct that line.",
        )
        raise InvalidJob(message) from reason
    try:
        return Job.model_validate(found)
    except pydantic.ValidationError as reason:
        raise InvalidJob(_explained(path, reason.errors())) from reason


def _with_line(reason: str, text: str) -> str:
    """What tomllib says, with the line that it means."""
    lines = text.splitlines()
    reason = reason.replace("end of document", f"line {len(lines)}, the end of the file")
    found = re.search(r"line (\d+)", reason)
    return f"{reason}: {lines[int(found[1]) - 1].strip()}" if found and lines else reason


def _jobs_beside(path: pathlib.Path) -> str:
    return ", ".join(f"`{found.name}`" for found in sorted(path.parent.glob("*.toml"))) or "none"


def _explained(path: pathlib.Path, found: list[Any]) -> str:
    """The message for the first error; a key that is not known comes first, since what is missing may be misspelt."""
    error = min(found, key=lambda one: one["type"] != "extra_forbidden")
    location, moment = within(Job, error["loc"])
    key = ".".join(location) or "telemetry"
    more = len({within(Job, one["loc"])[0] for one in found}) - 1
    also = f" ({more} more wrong after this)" if more else ""
    if error["type"] == "extra_forbidden":
        *table, name = location
        keys = known(Job, tuple(table), kind=error["loc"][-2] if table else None)
        return explain(
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
        return explain(
            f"Job file `{path}` lacks `{key}`{also}.",
            expected=table if whole else f"a value for `{key.rpartition('.')[2]}`",
            received=there or ("an empty file" if whole else "an empty table"),
            advice="Add it; `docs/jobs.md` shows a whole job file.",
        )
    wanted = MOMENT if moment else str(WORDS.get(error["type"], error["msg"]))
    return explain(
        f"Job file `{path}` has a wrong value for `{key}`{also}.",
        expected=wanted.removeprefix("Value error, ").removeprefix("Input should be "),
        received=_received(error["input"]),
        advice="Correct the value.",
    )


def _no_kind(path: pathlib.Path, key: str, error: Any) -> str:
    """The message where a table does not say of which kind it is, or of one that there is not."""
    kinds = error.get("ctx", {}).get("expected_tags", "").replace("'", "").split(", ")
    kind = str(error["input"].get("kind", ""))
    close = difflib.get_close_matches(kind, kinds, n=1)
    return explain(
        f"Job file `{path}` has a wrong value for `{key}`.",
        expected="one of " + ", ".join(f"`{one}`" for one in kinds) if any(kinds) else 'a line `kind = "…"`',
        received=f"`{kind}`" if kind else "none",
        advice=f"Did you mean `{close[0]}`?" if close else "`docs/jobs.md` shows what there is.",
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
    return f"the {kinds.get(type(value), type(value).__name__)} {value!r}"
