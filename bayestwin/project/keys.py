"""The keys that a job file may have, read off its sections: where an error lies, and what could have stood there."""

import types
import typing
from typing import Any

from bayestwin.project.section import Moment, Section


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
