"""Telemetry that does not fit its twin is an error before anything is compiled, and it names column, row and unit."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from twins import decay, decay_telemetry, driven, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.errors import InvalidTelemetry

TIMES = [0.0, 1.0, 2.0, 3.0]
SIGNALS = {"time": TIMES, "level": [1.0, 2.0, np.nan, 3.0], "stepped": [0.0, 0.0, 1.0, 1.0], "sloped": TIMES}


def refused(twin: bt.Twin, telemetry: bt.Telemetry, match: str) -> None:
    """By `calibrate`, `numpyro_model` and `bind` alike."""
    for verb in (bind, bt.numpyro_model, lambda *both: bt.calibrate(*both, seed=0)):
        with pytest.raises(InvalidTelemetry, match=rf"(?s){match}") as raised:
            verb(twin, telemetry)
        assert "Expected: " in str(raised.value)
        assert "Received: " in str(raised.value)


# Knots of an input out of order: inputs share the times of the table, so unsorted knots are unsorted times.


def test_input_samples_out_of_order_are_sorted_or_an_error() -> None:
    swapped = {name: [values[place] for place in (0, 2, 1, 3)] for name, values in SIGNALS.items()}
    bound, expected = (bind(driven(), telemetry_of(signals)) for signals in (swapped, SIGNALS))
    np.testing.assert_array_equal(bound.times, TIMES)
    np.testing.assert_array_equal(bound.inputs["stepped"], expected.inputs["stepped"])
    with pytest.raises(InvalidTelemetry, match="runs backwards"):
        telemetry_of(swapped, order="error")


# An input asked for beyond its samples.


def test_an_input_asked_beyond_its_samples_is_an_error_unless_a_hold_was_chosen() -> None:
    late = telemetry_of(SIGNALS, t0=-0.5)
    with pytest.raises(InvalidTelemetry, match=r"(?s)Input `stepped` is asked for beyond its samples.*0\.5 to 3\.5"):
        bt.numpyro_model(driven(), late)
    held = {"stepped": bt.Input(hold="previous", beyond="hold"), "sloped": bt.Input(beyond="hold")}
    assert callable(bt.numpyro_model(driven(inputs=held), late))


# A gap in an input.


def test_a_gap_in_an_input_is_an_error_that_names_it() -> None:
    gap = telemetry_of(SIGNALS | {"sloped": [0.0, np.nan, np.nan, 3.0]})
    refused(
        driven(),
        gap,
        r"Input `sloped` has a gap.*2 missing, the first from 1\.0 to 2\.0.*fill={'sloped': 'previous'}.*'within': 3}",
    )
    late = telemetry_of(SIGNALS | {"sloped": [np.nan, 1.0, 2.0, np.nan]})
    refused(driven(), late, r"`sloped` has a gap.*2 missing, the first from 0\.0 to 0\.0")


def test_the_length_that_is_suggested_is_that_of_a_hole_that_is_named() -> None:
    """Two holes, and two rows far apart with nothing missing between them."""
    times = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 50.0])
    stepped = np.array([0.0, np.nan, 2.0, np.nan, np.nan, 5.0, 6.0, 7.0])
    signals = {"time": times, "stepped": stepped, "sloped": times, "level": times}
    longest = (
        r"3 missing, the first from 1\.0 to 1\.0, the longest between known values from 3\.0 to 4\.0.*'within': 3}"
    )
    refused(driven(), telemetry_of(signals), longest)


def test_all_that_is_missing_is_told_at_once() -> None:
    signals = {name: values for name, values in SIGNALS.items() if name != "stepped"}
    gap = telemetry_of(signals | {"sloped": [0.0, np.nan, np.nan, 3.0]})
    refused(driven(), gap, r"2 things are wrong.*no column for the input `stepped`.*Input `sloped` has a gap")


# An observation outside the support of its noise.


@pytest.mark.parametrize(
    ("noise", "values", "rows"),
    [
        (bt.LogNormal(0.1), [1.0, -1.0, np.nan, 0.0], "-1 in row 2, 0 in row 4"),
        (bt.Poisson(), [1.0, 2.5, -3.0, np.nan], "2.5 in row 2, -3 in row 3"),
        (bt.LogNormal(0.1), [-0.5] * 7, r"-0.5 in row 1, .*-0.5 in row 5, … \(7 in all\)"),
    ],
)
def test_a_value_outside_the_support_of_its_noise_names_the_rows(noise: object, values: list, rows: str) -> None:
    twin = decay(observations={"level": bt.Observation(noise)})
    refused(
        twin,
        telemetry_of({"time": range(len(values)), "level": values}),
        f"`level`.*{type(noise).__name__}.*Received: {rows}",
    )


def test_values_inside_the_support_pass() -> None:
    for noise, values in ((bt.LogNormal(0.1), [1e-9, 2.0, np.nan, 1e9]), (bt.Poisson(), [0.0, np.nan, 3.0, 1e6])):
        twin = decay(observations={"level": bt.Observation(noise)})
        bound = bind(twin, telemetry_of({"time": TIMES, "level": values}))
        np.testing.assert_array_equal(bound.observations["level"], values)


# A column of another shape than (n,): there is no way in for one.


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.ones((4, 1)), "something else"),
        (xr.Dataset({"level": (("time", "sensor"), np.ones((4, 1)))}, {"time": TIMES}), "rows in 2 levels"),
        (pd.DataFrame(np.ones((4, 1)), columns=pd.MultiIndex.from_tuples([("level", "a")])), "columns in 2 levels"),
        (pd.DataFrame([[t, 1.0, 1.0] for t in TIMES], columns=["time", "level", "level"]), "two columns"),
        (pd.DataFrame({"time": TIMES, "level": [np.ones(1)] * 4}), "not a number|not numbers|no column"),
    ],
    ids=["array", "xarray", "columns of columns", "two columns of one name", "arrays in cells"],
)
def test_columns_of_another_shape_are_an_error(data: object, words: str) -> None:
    with pytest.raises(InvalidTelemetry, match=words):
        bind(decay(), bt.read_telemetry(data))


# No data, or data that were forgotten.


def test_no_rows_are_an_error() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)no rows.*Received: an empty table"):
        telemetry_of({"time": [], "level": []})


def test_nothing_but_missing_values_is_an_error() -> None:
    telemetry = telemetry_of({"time": TIMES, "level": [np.nan] * 4})
    refused(decay(), telemetry, "no observation at all.*values for `level`.*the posterior would be the prior")


def test_a_forgotten_column_is_an_error() -> None:
    forgotten = telemetry_of({name: SIGNALS[name] for name in ("time", "stepped", "sloped")})
    refused(driven(), forgotten, "no column for the observation `level`.*`stepped`, `sloped`.*rename")
    forgotten = telemetry_of({name: SIGNALS[name] for name in ("time", "level", "sloped")})
    refused(driven(), forgotten, "no column for the input `stepped`.*`level`, `sloped`.*rename")


def test_forgotten_telemetry_is_an_error() -> None:
    with pytest.raises(TypeError, match="telemetry"):
        bt.calibrate(decay(), seed=0)


# Text among numbers, and units of another kind.


def test_text_among_numbers_names_the_cell() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level`.*'OVERFLOW' in row 2.*1 such"):
        telemetry_of({"time": TIMES, "level": [1.0, "OVERFLOW", 3.0, 4.0]})


def test_a_unit_of_the_wrong_dimension_names_both() -> None:
    refused(decay(), decay_telemetry(units={"level": "kg"}), r"`level`.*`m` \(\[length\]\).*`kg` \(\[mass\]\)")


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1e-3), ("km", 1e3), ("m", 1.0)])
def test_units_are_converted_to_the_twin_s(unit: str, factor: float) -> None:
    telemetry = decay_telemetry(units={"level": unit})
    np.testing.assert_allclose(bind(decay(), telemetry).observations["level"], telemetry.table["level"] * factor)


def test_temperatures_convert_with_their_offset() -> None:
    twin = driven(inputs={"stepped": bt.Input(unit="degC"), "sloped": bt.Input(unit="K")})
    telemetry = telemetry_of(SIGNALS, units={"stepped": "degF", "sloped": "degC"})
    bound = bind(twin, telemetry)
    np.testing.assert_allclose(bound.inputs["stepped"], (np.array(SIGNALS["stepped"]) - 32.0) / 1.8)
    np.testing.assert_allclose(bound.inputs["sloped"], np.array(TIMES) + 273.15)


@pytest.mark.parametrize("argument", ["rename", "units"])
def test_a_name_that_is_no_column_is_an_error(argument: str) -> None:
    with pytest.raises(InvalidTelemetry, match=rf"(?s)`{argument}` names the column `levle`.*`level`"):
        telemetry_of(SIGNALS, **{argument: {"levle": "m"}})


def test_a_unit_that_does_not_parse_is_an_error() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)telemetry column `level`.*`metre per`"):
        telemetry_of(SIGNALS, units={"level": "metre per"})
