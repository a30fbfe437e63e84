"""Units are neither dropped nor guessed: those in the data are kept, those that are open are asked for."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from twins import decay, driven, telemetry_of

import bayestwin as bt
from bayestwin._base.units import registry
from bayestwin.density.bind import bind
from bayestwin.errors import InvalidTelemetry

TIMES = [0.0, 1.0, 2.0]
QUANTITY = registry().Quantity


def sensor(unit: str) -> bt.Twin:
    """A twin that observes one signal in a unit."""
    return bt.Twin(
        name="sensor",
        vector_field=lambda t, x, p, u: {"level": 0.0 * x.level},
        states={"level": bt.State(initial=dist.Normal(0.0, 1.0), unit=unit)},
        parameters={},
        inputs={},
        observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(1.0)), unit=unit)},
        time_unit="h",
    )


def seen(values: list[float], unit: str | None, wanted: str) -> np.ndarray:
    units = {} if unit is None else {"level": unit}
    telemetry = telemetry_of({"time": TIMES, "level": values}, units=units)
    return bind(sensor(wanted), telemetry).observations["level"]


def refused(match: str, values: list[float], unit: str | None, wanted: str) -> None:
    with pytest.raises(InvalidTelemetry, match=rf"(?s){match}") as raised:
        seen(values, unit, wanted)
    assert "Expected: " in str(raised.value)
    assert "Received: " in str(raised.value)


# Units that a file states itself.


def test_units_that_variables_state_are_taken() -> None:
    dataset = xr.Dataset({"level": ("time", [100.0, 200.0, 300.0], {"units": "cm"})}, {"time": TIMES})
    dataset["time"].attrs["units"] = "min"
    bound = bind(decay(), bt.read_telemetry(dataset))
    np.testing.assert_allclose(bound.observations["level"], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(bound.times, np.array(TIMES) / 60)
    renamed = bt.read_telemetry(dataset.rename(level="water"), rename={"water": "level"})
    assert renamed.units == {"level": "cm", "time": "min"}


@pytest.mark.filterwarnings("error")
def test_quantities_keep_their_unit() -> None:
    dataset = xr.Dataset({"level": ("time", QUANTITY(np.array([1.0, 2.0, 3.0]), "ft"))}, {"time": TIMES})
    cells = pd.DataFrame({"time": TIMES, "level": [QUANTITY(v, "ft") for v in (1.0, 2.0, 3.0)]})
    for data in (dataset, cells):
        found = bind(decay(), bt.read_telemetry(data)).observations["level"]
        np.testing.assert_allclose(found, [0.3048, 0.6096, 0.9144])


def test_quantities_of_several_units_become_one_or_an_error() -> None:
    mixed = pd.DataFrame({"time": TIMES, "level": [QUANTITY(1.0, "m"), np.nan, QUANTITY(50.0, "cm")]})
    np.testing.assert_allclose(bt.read_telemetry(mixed).table["level"], [1.0, np.nan, 0.5])
    mixed.loc[2, "level"] = QUANTITY(1.0, "kg")
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level` holds quantities of different kinds.*`meter`"):
        bt.read_telemetry(mixed)


def test_a_unit_that_contradicts_the_data_is_an_error() -> None:
    dataset = xr.Dataset({"level": ("time", [1.0, 2.0, 3.0], {"units": "cm"})}, {"time": TIMES})
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level` has two units.*`cm`.*`m` by `units`"):
        bt.read_telemetry(dataset, units={"level": "m"})
    assert bt.read_telemetry(dataset, units={"level": "centimeter"}).units["level"] == "centimeter"
    dataset["level"].attrs["units"] = "metres above datum"
    with pytest.raises(InvalidTelemetry, match=r"(?s)as the data state it.*`metres above datum`"):
        bt.read_telemetry(dataset)
    assert bt.read_telemetry(dataset, units={"level": "m"}).units == {"level": "m"}


# Scales with another zero, and units that nobody stated.


def test_celsius_and_kelvin_convert_where_both_are_stated() -> None:
    np.testing.assert_allclose(seen([20.0, 21.0, 22.0], "degC", "K"), [293.15, 294.15, 295.15])
    np.testing.assert_allclose(seen([293.15, 294.15, 295.15], "K", "degC"), [20.0, 21.0, 22.0])


@pytest.mark.parametrize(
    ("values", "wanted", "doubt"),
    [
        ([293.0, 294.0, 295.0], "degC", "293 to 295 may be in K"),
        ([20.0, 21.0, 22.0], "K", "20 to 22 may be in degC"),
        ([-300.0, 20.0, 21.0], "degC", "-300 degC is below absolute zero"),
    ],
)
def test_values_that_are_usual_in_the_other_unit_need_theirs_stated(
    values: list[float], wanted: str, doubt: str
) -> None:
    refused(f"`level` is not stated, and must be.*`{wanted}`.*{doubt}", values, None, wanted)
    np.testing.assert_array_equal(seen(values, wanted, wanted), values)


@pytest.mark.parametrize(("values", "wanted"), [([20.0, 21.0, 300.0], "degC"), ([290.0, 300.0, 310.0], "K")])
def test_usual_values_are_taken_to_be_in_the_twin_s_unit(values: list[float], wanted: str) -> None:
    np.testing.assert_array_equal(seen(values, None, wanted), values)


def test_gauge_and_absolute_pressures_are_two_things() -> None:
    np.testing.assert_allclose(seen([1.0, 2.0, 3.0], "barg", "kPag"), [100.0, 200.0, 300.0])
    np.testing.assert_allclose(seen([1.0, 2.0, 3.0], "psia", "psia"), [1.0, 2.0, 3.0])
    for unit, wanted in (("barg", "bara"), ("bara", "kPag"), ("bar", "barg"), ("bar", "bara"), ("barg", "bar")):
        refused(f"`level`.*`{wanted}`.*`{unit}`.*Gauge pressures.*absolute ones", [1.0, 2.0, 3.0], unit, wanted)
    for wanted in ("barg", "bara"):
        refused("not stated, and must be.*gauge and absolute pressures look alike", [1.0, 2.0, 3.0], None, wanted)
    np.testing.assert_allclose(seen([1.0, 2.0, 3.0], "bar", "Pa"), [1e5, 2e5, 3e5])


@pytest.mark.parametrize(
    ("unit", "reads", "meant"), [("C", "coulomb", "degC"), ("F", "farad", "degF"), ("deg", "degree", "degC")]
)
def test_letters_that_mean_something_else_get_a_hint(unit: str, reads: str, meant: str) -> None:
    refused(
        rf"wrong dimension.*`degC`.*`{unit}`.*pint reads `{unit}` as {reads}.*`{meant}`", [1.0, 2.0, 3.0], unit, "degC"
    )


def test_a_column_that_differs_in_case_gets_the_right_advice() -> None:
    columns = {"time": TIMES, "Level": [1.0, 2.0, 3.0], "stepped": TIMES, "sloped": TIMES}
    with pytest.raises(InvalidTelemetry, match=r"rename=\{'Level': 'level'\}"):
        bind(driven(), telemetry_of(columns))
