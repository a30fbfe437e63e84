"""What a job does not say about its validation follows from the telemetry, and regimes are the same in both parts."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from tank_model import JOB, MakeModel

import bayestwin as bt
from bayestwin.project.model import load_model, load_telemetry
from bayestwin.project.validate import Plan, make_plan


def planned(folder: pathlib.Path) -> Plan:
    model = load_model(folder)
    split = load_telemetry(model)
    return make_plan(model, split, split.held_out, model.job.validation, with_backtest=True)


def test_a_backtest_looks_a_quarter_of_the_calibration_ahead(make_model: MakeModel) -> None:
    found = planned(make_model())
    # 5.75 h are calibrated, and 4.25 h are held out after them
    assert found.backtest["horizon"] == pytest.approx(5.75 / 4)
    # of the 8 origins that are asked for, two fall on the same sample
    assert found.num_origins == 7
    assert found.period is None


def test_or_as_far_as_was_held_out_where_that_is_less(make_model: MakeModel) -> None:
    found = planned(make_model(job=JOB.replace("hold_out_from = 6.0", "hold_out_from = 9.0")))
    assert found.backtest["horizon"] == pytest.approx(10.0 - 8.75)


def test_regimes_have_the_same_edges_in_both_parts(make_model: MakeModel) -> None:
    found = planned(make_model(job=JOB + '\n[validate]\nby = ["pump"]\nbins = { pump = 2 }\n'))
    # the pump rises from 1 to 3 m/h over all ten hours
    assert found.regimes["pump"].bins == pytest.approx((1.0, 2.0, 3.0))
    assert found.regimes["pump"].unit == "m/h"


def test_a_day_is_a_period_where_several_were_calibrated(make_model: MakeModel) -> None:
    folder = make_model(job=JOB.replace("6.0", "60.0"))
    hours = np.arange(0.0, 100.0, 2.0)
    pd.DataFrame({"hour": hours, "gauge": 1.0, "pump": 1.0}).to_csv(folder / "data" / "tank.csv", index=False)
    assert planned(folder).period == pytest.approx(24.0)


def test_bins_without_a_column_are_an_error(make_model: MakeModel) -> None:
    with pytest.raises(bt.errors.InvalidJob, match="names `pump` in `bins`"):
        planned(make_model(job=JOB + "\n[validate]\nbins = { pump = 2 }\n"))
