"""Units that loggers write and pint does not know, or takes for something else, are answered with what is meant."""

import pytest
from twins import telemetry_of

import bayestwin as bt
from bayestwin._base.units import registry, suggested
from bayestwin.density.bind import bind
from bayestwin.errors import InvalidTelemetry

MEANT = {
    "m3/s": "m^3/s",
    "W/m2": "W/m^2",
    "kWh/m2": "kWh/m^2",
    "µg/m3": "µg/m^3",
    "m s-1": "m s^-1",
    "W/m2K": "W/(m^2 K)",
    "Nm3/h": "m^3/h",
    "Fahrenheit": "degF",
    "FAHRENHEIT": "degF",
    "Celsius": "degC",
    "°c": "degC",
    "ºC": "degC",
    "deg C": "degC",
    "degrees F": "degF",
    "lpm": "L/min",
    "GPM": "gal/min",
    "Percent": "percent",
    "% RH": "%",
    "Bar": "bar",
    "kw": "kW",
    "KWh": "kWh",
    "RPM": "rpm",
    "-": "",
}

PINT_TAKES = ["°C", "°F", "degC", "celsius", "W/m²", "m³/h", "percent", "%", "l/min", "kWh/m^2", "1/min", "µg/m^3"]


@pytest.mark.parametrize(("written", "meant"), MEANT.items())
def test_what_is_meant_is_suggested(written: str, meant: str) -> None:
    assert suggested(written) == meant
    registry().parse_units(meant)


@pytest.mark.parametrize("unit", PINT_TAKES)
def test_what_pint_takes_needs_no_suggestion(unit: str) -> None:
    registry().parse_units(unit)


@pytest.mark.parametrize("unit", ["nounit", "m3x/s", "kWh/m2a"])
def test_nothing_is_suggested_where_nothing_is_known(unit: str) -> None:
    assert suggested(unit) is None
    with pytest.raises(InvalidTelemetry, match="pint says"):
        telemetry_of({"time": [0.0], "level": [1.0]}, units={"level": unit})


def test_the_message_says_where_the_unit_stood() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)column `Q` \(`flow`\), in `units`, does not.*mean `m\^3/s`\?"):
        telemetry_of({"time": [0.0], "Q": [1.0]}, units={"Q": "m3/s"}, rename={"Q": "flow"})
    with pytest.raises(InvalidTelemetry, match="mean none"):
        telemetry_of({"time": [0.0], "Q": [1.0]}, units={"Q": "-"})


def test_what_pint_takes_for_something_else_is_told_where_it_does_not_fit() -> None:
    flow = bt.Twin(
        name="flow",
        vector_field=lambda t, x, p, u: {"flow": -x.flow},
        states={"flow": bt.State(1.0, unit="m^3/s")},
        parameters={},
        observations={"flow": bt.Observation(bt.Gaussian(0.1), unit="m^3/s")},
        time_unit="s",
    )
    with pytest.raises(
        InvalidTelemetry, match=r"(?s)column `Q` \(`flow`\).*`cfm` as centifermi: did you mean `ft\^3/min`"
    ):
        bind(flow, telemetry_of({"time": [0.0], "Q": [1.0]}, units={"Q": "cfm"}, rename={"Q": "flow"}))


def test_a_typo_in_a_key_is_answered_with_the_columns_of_the_file() -> None:
    columns = {"time": [0.0], "T_top_F": [1.0], "flow": [1.0]}
    for argument, value in (("units", "degF"), ("rename", "x")):
        with pytest.raises(InvalidTelemetry, match=r"(?s)`T_top`.*Expected: `T_top_F`.*`flow`.*mean `T_top_F`\?"):
            telemetry_of(columns, **{argument: {"T_top": value}})
    with pytest.raises(InvalidTelemetry, match=r"Expected: `T_top_F` \(`upper`\), `flow`, `time`"):
        telemetry_of(columns, units={"T_top": "degF"}, rename={"T_top_F": "upper"})
