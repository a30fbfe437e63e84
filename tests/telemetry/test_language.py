"""The language of expressions computes what is listed, and nothing else is ever run."""

import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.derived import parse
from bayestwin.telemetry.features import Expression

TABLE = pd.DataFrame({"a": [1.0, 4.0], "b": [2.0, -3.0]}, index=pd.Index([0.0, 1.0], name="time"))


def value(text: str) -> list[float]:
    found = bt.add_features(bt.read_telemetry(TABLE), {"new": Expression(text)})
    return found.table["new"].tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * 2", [5.0, -2.0]),
        ("-(a - b) / 2", [0.5, -3.5]),
        ("a ** 2 - abs(b)", [-1.0, 13.0]),
        ("max(a, b) + min(a, 2)", [3.0, 6.0]),
        ("sqrt(a) * exp(0) + log(1) + sin(0) + cos(0)", [2.0, 3.0]),
        ("(a > 2) * b", [0.0, -3.0]),
        ("a <= 1", [1.0, 0.0]),
        ("3", [3.0, 3.0]),
    ],
)
def test_arithmetic(text: str, expected: list[float]) -> None:
    assert value(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch /tmp/x')",
        "a.__class__",
        "a.values",
        "(lambda: a)()",
        "[x for x in (1, 2)]",
        "a if a else b",
        "a and b",
        "not a",
        "a @ b",
        "a // b",
        "a % b",
        "a[0]",
        "1 < a < 3",
        "a == b",
        "True",
        "None",
        "1j",
        "...",
        "f'{a}'",
        "b'bytes'",
        "a := 3",
        "(a := 3)",
        "open('x')",
        "max(a)",
        "max(a, b, b)",
        "max(*a)",
        "abs(x=a)",
        "eval('a')",
        "a; b",
        "import os",
        "'no quantity at all'",
        "'__import__(\"os\")'",
        "",
        "(" * 900,
        "-" * 900 + "a",
        "a" * 1001,
        "1" * 400,
    ],
)
def test_whatever_is_not_listed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w|`"):
        parse(text)
    with pytest.raises(InvalidTelemetry, match="Feature `new` has an expression that cannot be read"):
        value(text)


def test_powers_of_powers_end_at_once() -> None:
    for text in ("9 ** 9 ** 9 ** 9", "1 / 0", "log(0 - 1)"):
        with pytest.raises(InvalidTelemetry, match="no value at all"):
            value(text)


def test_quantities_need_columns_with_units() -> None:
    with pytest.raises(InvalidTelemetry, match=r"unit is not stated(?s:.*)none for `a`"):
        value("'3 kg' * a")
