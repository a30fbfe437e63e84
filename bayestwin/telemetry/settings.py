"""The settings of reading, by name: what there is to choose, and which of them shape values."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.mending import Drop, Fill, How
from bayestwin.telemetry.ordering import Duplicates, Order
from bayestwin.telemetry.times import Ambiguous

type Layout = Literal["wide", "long"]

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "ambiguous": (None, "earlier", "later", "infer"),
    "duplicates": ("error", "first", "last", "mean"),
    "order": ("sort", "error"),
    "layout": ("wide", "long"),
    "decimal": (".", ","),
}

SHAPING = {
    "timezone": None,
    "ambiguous": None,
    "duplicates": "error",
    "sentinels": None,
    "time_format": None,
    "known_at": None,
}
"""Settings that change values or choose among them, with their defaults."""


class Settings(TypedDict, total=False):
    """Arguments of `read_telemetry` by name, for what hands them on."""

    time: str
    units: Mapping[str, str] | None
    rename: Mapping[str, str] | None
    t0: Any
    timezone: str | None
    ambiguous: Ambiguous | None
    duplicates: Duplicates
    order: Order
    sentinels: Sequence[float | str] | None
    separator: str
    decimal: str
    known_at: str | None
    as_of: Any
    layout: Layout
    variable: str
    value: str
    time_format: str | None
    drop: Sequence[Drop] | None
    fill: Mapping[str, How | Fill] | None


def check_choices(settings: Settings) -> None:
    """Refuse a choice that there is none of.

    Raises:
        InvalidTelemetry: Naming those that there are.
    """
    for argument, choices in CHOICES.items():
        received = settings.get(argument, choices[0])
        if received not in choices:
            close = difflib.get_close_matches(str(received), [str(choice) for choice in choices], n=1)
            message = explain(
                f"`{argument}` has no such choice.",
                expected=", ".join(repr(choice) for choice in choices),
                received=repr(received),
                advice=f"Did you mean `{close[0]}`?" if close else "Choose one of them.",
            )
            raise InvalidTelemetry(message)


def plain(value: Any) -> Any:
    """A setting as text and numbers, the same for the same meaning."""
    return [*map(plain, value)] if isinstance(value, list | tuple) else value if value is None else str(value)
