"""Numbers, units and functions are written as an engineer writes them."""

import math

import pytest

from bayestwin._base.wording import decimals_for, duration, fixed, number, percent, scale_for, unit_text
from bayestwin.report.page import _prose, function_alone


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23e-02, "0.0123"),
        (0.0, "0"),
        (2880, "2,880"),
        (-14.678, "−14.7"),
        (1.469e7, "1.47 × 10⁷"),
        (9.9999e-6, "1.00 × 10⁻⁵"),
        (0.99999, "1.00"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.9354471864e61, "4.94 × 10⁶¹"), (-3e15, "−3.00 × 10¹⁵"), (123456789012.0, "123,456,789,012.0")],
)
def test_what_is_immense_is_a_power_of_ten_whatever_decimals_were_asked_for(value, text):
    assert fixed(value, 1) == text


def test_shares_far_above_one_are_read_as_other_numbers():
    assert (percent(113.95), percent(math.inf), percent(math.nan)) == ("11,395\u202f%", "∞", "NaN")
    assert percent(1e152) == "1.00 × 10¹⁵⁴\u202f%"


@pytest.mark.parametrize(
    ("size", "factor", "unit"),
    [(1.469e7, 1e-6, "10⁶ J/K"), (0.00198, 1.0, "J/K"), (4.2e-5, 1e6, "10⁻⁶ J/K"), (math.nan, 1.0, "J/K")],
)
def test_scale(size, factor, unit):
    found = scale_for(size, "J/K")
    assert found.factor == pytest.approx(factor)
    assert found.unit == unit


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("degC", "°C"),
        ("W/m**2", "W/m²"),
        ("kg*m^2/s**3", "kg·m²/s³"),
        ("", ""),
        ("m**-1", "m⁻¹"),
        ("degrees", "degrees"),
    ],
)
def test_unit(unit, text):
    assert unit_text(unit) == text


@pytest.mark.parametrize(("share", "text"), [(0.9, "90"), (1.0, "100"), (0.0, "0"), (0.9996, "> 99"), (0.002, "< 1")])
def test_percent_never_rounds_to_certainty(share, text):
    assert percent(share) == f"{text}\u202f%"


@pytest.mark.parametrize(("share", "text"), [(0.9996, "> 99.9"), (0.0004, "< 0.1"), (0.99, "99.0"), (1.0, "100.0")])
def test_percent_says_how_near_it_is_to_certainty(share, text):
    assert percent(share, 1) == f"{text}\u202f%"


def test_two_digits_of_the_spread():
    assert fixed(0.546864, decimals_for(0.0631)) == "0.547"
    assert fixed(26.9, decimals_for(0.05)) == "26.900"
    assert fixed(1234.5, decimals_for(99)) == "1,234"
    assert fixed(-0.001, 2) == "0.00"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (108000.0, "s", "30 h"),
        (45.0, "min", "45 min"),
        (26.5, "h", "26 h"),
        (8.0, "year", "8 years"),
        (432000.0, "s", "5 days"),
        (0.0, "s", "0 s"),
    ],
)
def test_spans_of_time_have_a_unit_that_suits_them(value: float, unit: str, text: str) -> None:
    assert duration(value, unit) == text


def test_sentences_have_units_as_headings_do():
    assert _prose("from 3 degC to 2.5 m**3/s in 12 W") == "from 3 °C to 2.5 m³/s in 12 W"
    assert _prose("14,158 to 16,486 kW*h, 0.4 kW*h/K, 5 A*h.") == "14,158 to 16,486 kW·h, 0.4 kW·h/K, 5 A·h."
    assert _prose("2 degrees, 4 chains, 3 W/m^2") == "2 degrees, 4 chains, 3 W/m²"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            'states={"gut": bt.State(lambda p: p.dose * p.weight, unit="mg"), "blood": bt.State(0.0)},',
            "p.dose * p.weight",
        ),
        ('"level": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: jnp.interp(x.a, A, B), unit="m")', None),
        ("CL = bt.Parameter(lambda p: (p.a, p.b)[0])", "(p.a, p.b)[0]"),
    ],
)
def test_a_lambda_is_shown_without_the_line_that_it_stands_in(line: str, shown: str | None) -> None:
    found = function_alone(line)
    assert found.startswith("lambda ")
    assert found.partition(": ")[2] == (shown or "jnp.interp(x.a, A, B)")


@pytest.mark.parametrize(
    "text", ["Normal(19, 1)", "(lambda p: p.a, lambda p: p.b)", "def f(p):\n    return lambda q: q"]
)
def test_what_is_not_one_lambda_is_shown_as_it_is(text: str) -> None:
    assert function_alone(text) == text
