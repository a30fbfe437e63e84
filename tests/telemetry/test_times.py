"""Times are dates or numbers, increasing and complete; what is not is an error that names the rows."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind, elapsed
from bayestwin.errors import InvalidTelemetry


def refused(time: object, match: str, **settings: object) -> None:
    with pytest.raises(InvalidTelemetry, match=rf"(?s){match}") as raised:
        telemetry_of({"time": time, "level": np.arange(len(time), dtype=float)}, **settings)
    assert "Expected: " in str(raised.value)
    assert "Received: " in str(raised.value)


# Times that are missing, out of order, or there twice.


@pytest.mark.parametrize("time", [[0.0, np.nan, 2.0], pd.to_datetime(["2026-01-01", None, "2026-01-03"])])
def test_a_missing_time_is_an_error(time: object) -> None:
    refused(time, "`time` is missing.*1 such row: row 2")


def test_an_infinite_time_is_an_error() -> None:
    refused([0.0, 1.0, np.inf], "`time` is missing.*row 3")


@pytest.mark.parametrize("time", [[0.0, 2.0, 1.0, 0.5], ["2026-01-01", "2026-01-04", "2026-01-03", "2026-01-02"]])
def test_times_that_run_backwards_are_an_error_where_that_is_the_policy(time: object) -> None:
    refused(time, "`time` runs backwards.*2 such rows: row 3, 4.*order='sort'", order="error")


def test_a_time_that_occurs_twice_is_an_error() -> None:
    refused([0.0, 1.0, 1.0, 2.0], "`time` occurs twice.*row 3.*duplicates='first'")


# A time before the initial state.


def test_a_time_before_the_initial_state_is_an_error() -> None:
    telemetry = decay_telemetry(t0=0.05)
    with pytest.raises(InvalidTelemetry, match=r"(?s)sample at 0\.0, before.*t0 = 0\.05.*1 earlier"):
        bind(decay(), telemetry)


def test_a_t0_of_another_kind_is_an_error() -> None:
    refused([0.0, 1.0], "does not fit.*Expected: a number.*2026", t0="2026-01-01")
    refused(["2026-01-01", "2026-01-02"], "does not fit.*Expected: a date.*5", t0=5.0)


# Times as seconds since 1970.


def test_epoch_seconds_are_counted_from_the_first_sample() -> None:
    epoch = 1.8e9
    telemetry = telemetry_of({"time": epoch + np.array([0.0, 60.0, 120.25]), "level": [3.0, 2.0, 1.0]})
    np.testing.assert_array_equal(bind(decay(time_unit="s"), telemetry).times, [0.0, 60.0, 120.25])
    np.testing.assert_array_equal(telemetry.table.index, epoch + np.array([0.0, 60.0, 120.25]))


def test_dates_and_epoch_nanoseconds_lose_no_digits() -> None:
    dates = ["2026-03-29T00:00:00", "2026-03-29T00:00:00.000001", "2056-03-29T00:00:00.000001"]
    index = telemetry_of({"time": dates, "level": [1.0, 2.0, 3.0]}).table.index
    found = elapsed(index, index[0], "", "s")
    np.testing.assert_allclose(found, [0.0, 1e-6, 10958 * 86400 + 1e-6], rtol=1e-15)


@pytest.mark.parametrize(("unit", "hours"), [("min", 1 / 60), ("day", 24.0), ("h", 1.0)])
def test_numbers_count_in_the_unit_given(unit: str, hours: float) -> None:
    telemetry = decay_telemetry(units={"time": unit})
    np.testing.assert_allclose(bind(decay(), telemetry).times, telemetry.table.index.to_numpy() * hours)


def test_a_time_unit_of_another_dimension_is_an_error() -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)unit of time.*`h`.*\[time\].*`m`.*\[length\]"):
        bind(decay(), decay_telemetry(units={"time": "m"}))


def test_xarray_and_csv_read_as_the_table_does(tmp_path: object) -> None:
    frame = pd.DataFrame({"time": [0.0, 0.5, 2.0], "level": [3.0, np.nan, 1.0]})
    (tmp_path / "level.csv").write_text("\ufeff# a comment\n" + frame.to_csv(index=False))
    sources = [
        frame,
        frame.set_index("time"),
        xr.Dataset.from_dataframe(frame.set_index("time")),
        tmp_path / "level.csv",
    ]
    found = [bt.read_telemetry(source) for source in sources]
    assert len({telemetry.sha256 for telemetry in found}) == 1
    for telemetry in found:
        pd.testing.assert_frame_equal(telemetry.table, found[0].table)


def test_the_fingerprint_depends_on_times_values_units_and_t0() -> None:
    base = decay_telemetry()
    changed = base.table.copy()
    changed.iloc[3, 0] += 1e-12
    moved = base.table.set_axis(base.table.index + 1e-12)
    others = [bt.read_telemetry(changed), bt.read_telemetry(moved.rename_axis("time"))]
    others += [decay_telemetry(units={"level": "m"}), decay_telemetry(t0=-1.0)]
    assert len({telemetry.sha256 for telemetry in [base, *others]}) == 5


def test_between_keeps_t0_and_the_half_open_range() -> None:
    telemetry = telemetry_of({"time": [0.0, 1.0, 2.0, 3.0], "level": [4.0, 3.0, 2.0, 1.0]})
    part = telemetry.between(1.0, 3.0)
    assert part.table.index.tolist() == [1.0, 2.0]
    assert part.t0 == 0.0
    with pytest.raises(InvalidTelemetry, match=r"(?s)No telemetry is left.*0\.0 and 3\.0.*start 7"):
        telemetry.between(7.0)
