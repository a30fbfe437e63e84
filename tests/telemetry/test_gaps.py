"""A record is cut at its gaps into parts that begin anew, so that nothing is made up about what happened in them."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.errors import InvalidTelemetry

TANK = bt.Twin(
    name="tank",
    vector_field=lambda t, x, p, u: {"level": u.pump - p.rate * x.level},
    states={"level": bt.State(dist.Normal(5.0, 3.0), unit="m")},
    parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h")},
    inputs={"pump": bt.Input(unit="m/h", hold="previous")},
    observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.2)), unit="m")},
    time_unit="h",
)
RATE = 0.8


def record() -> pd.DataFrame:
    """Twelve hours of which four are lost: the pump ran in two of them, and nobody wrote it down."""
    times = np.arange(0.0, 12.0, 0.25)
    pump = np.where((times >= 4.0) & (times < 6.0), 6.0, 1.0)
    whole = bt.read_telemetry(pd.DataFrame({"pump": pump}, index=pd.Index(times, name="time")))
    truth = {"rate": RATE, "level_initial": 5.0, "level_scale": 0.05}
    level = bt.simulate(TANK, truth, whole, seed=2)["level"].to_series()
    table = whole.table.assign(level=level)
    return table[(table.index < 3.0) | (table.index >= 7.0)]


def test_parts_have_their_own_beginnings_and_lose_no_row() -> None:
    table = record()
    parts = bt.cut_at_gaps(bt.read_telemetry(table), 1.0)
    assert list(parts) == ["part_1", "part_2"]
    assert [part.t0 for part in parts.values()] == [0.0, 7.0]
    pd.testing.assert_frame_equal(pd.concat([part.table for part in parts.values()]), table, check_names=False)
    assert list(bt.cut_at_gaps(bt.read_telemetry(table), 5.0)) == ["part_1"]


@pytest.mark.thorough
def test_what_a_gap_hides_no_longer_misleads() -> None:
    telemetry = bt.read_telemetry(record())
    bridged, cut = (
        bt.calibrate(TANK, one, seed=0, method="laplace")["posterior/rate"]
        for one in (telemetry, bt.cut_at_gaps(telemetry, 1.0))
    )
    assert abs(float(bridged.mean()) - RATE) > 4.0 * float(bridged.std())
    assert abs(float(cut.mean()) - RATE) < 3.0 * float(cut.std())


def test_dates_take_lengths_in_words() -> None:
    table = record()
    table.index = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(table.index, unit="h")
    table.index.name = "time"
    parts = bt.cut_at_gaps(bt.read_telemetry(table), "1h")
    assert [str(part.t0) for part in parts.values()] == ["2026-03-01 00:00:00", "2026-03-01 07:00:00"]


@pytest.mark.parametrize("longest", ["1h", -1.0, None, float("nan")])
def test_what_is_no_length_is_refused(longest: object) -> None:
    with pytest.raises(InvalidTelemetry, match="no length of time"):
        bt.cut_at_gaps(bt.read_telemetry(record()), longest)


def test_a_single_row_is_no_experiment() -> None:
    table = record().drop(index=[7.25 + 0.25 * step for step in range(8)])
    with pytest.raises(InvalidTelemetry, match="single row"):
        bt.cut_at_gaps(bt.read_telemetry(table), 1.0)
