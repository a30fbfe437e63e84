"""The settings of reading are those of one signature: what repeats it, for type checkers, says the same."""

import inspect
import typing
from types import NoneType

from bayestwin.project.telemetry_sections import ReadingSection, TelemetrySection
from bayestwin.telemetry.reading import CHOICES, SHAPING, ReadingSettings, read_telemetry

ARGUMENTS = {name: one for name, one in inspect.signature(read_telemetry).parameters.items() if name != "data"}


def choices(annotation: object) -> set[object]:
    """What there is to choose from; nothing where anything may stand."""
    annotation = getattr(annotation, "__value__", annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    parts = typing.get_args(annotation)
    inner = [choices(one) for one in parts if one is not NoneType]
    return inner[0] | {None} if NoneType in parts and len(inner) == 1 and inner[0] else set()


def test_what_hands_settings_on_takes_those_of_the_signature() -> None:
    hints = typing.get_type_hints(ReadingSettings)
    assert hints == {name: one.annotation for name, one in ARGUMENTS.items()}


def test_a_job_file_takes_those_of_the_signature() -> None:
    assert set(ReadingSection.model_fields) == {"file", "dataset", "database"} | set(ARGUMENTS) - {"t0"}
    assert set(TelemetrySection.model_fields) == set(ReadingSection.model_fields) | {"t0", "sources", "align"}


def test_with_the_same_defaults_where_an_empty_table_is_none() -> None:
    section = TelemetrySection(file="a.csv")
    found = {name: getattr(section, name) for name in ARGUMENTS}
    assert {name: None if one in ({}, []) else one for name, one in found.items()} == {
        name: one.default for name, one in ARGUMENTS.items()
    }


def test_and_the_same_to_choose_from() -> None:
    chosen = {name: choices(one.annotation) for name, one in ARGUMENTS.items()}
    assert {name: set(one) for name, one in CHOICES.items()} == {name: one for name, one in chosen.items() if one}
    assert set(CHOICES) == {"ambiguous", "duplicates", "order", "decimal", "layout"}
    fields = {name: field for name, field in TelemetrySection.model_fields.items() if name in ARGUMENTS}
    assert {name: choices(field.annotation) for name, field in fields.items()} == chosen
    assert set(SHAPING) <= set(ARGUMENTS)
