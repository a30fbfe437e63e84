"""ArviZ takes a result, and the file it was saved to, without help from us."""

from pathlib import Path

import arviz as az
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from twins import LYNX_HARE_VALUES, lynx_hare, lynx_hare_posterior, tank_posterior, telemetry_of

import bayestwin as bt


@pytest.fixture(params=["in memory", "from the file"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> xr.DataTree:
    """Lynx and hares as `calibrate` returned them, and as plain xarray reads them from the file."""
    if request.param == "in memory":
        return lynx_hare_posterior()
    bt.save(lynx_hare_posterior(), tmp_path / "posterior.nc")
    with xr.open_datatree(tmp_path / "posterior.nc") as opened:
        return opened.load()


def test_summary(tree: xr.DataTree) -> None:
    table = az.summary(tree, round_to="none")
    assert set(table.index) == set(LYNX_HARE_VALUES)
    assert (table["r_hat"] <= 1.01).all()


# One year's pelts weigh heavily in a record of 21: ArviZ is right to say so.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
@pytest.mark.parametrize("name", ["hare", "lynx"])
def test_leave_one_out(tree: xr.DataTree, name: str) -> None:
    found = az.loo(tree, var_name=name)
    assert found.n_data_points == 21
    assert np.isfinite(found.elpd)


def test_plots(tree: xr.DataTree) -> None:
    mpl.use("agg")
    for plot in (az.plot_trace_dist, az.plot_dist, az.plot_rank):
        plot(tree, var_names=["alpha", "hare_scale"], backend="matplotlib")
    az.plot_pair(tree, var_names=["alpha", "beta"], backend="matplotlib")
    az.plot_ppc_dist(tree, var_names=["hare"], num_samples=20, backend="matplotlib")
    plt.close("all")


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_dates_gaps_and_empty_likelihoods_survive_the_file(tmp_path: Path) -> None:
    bt.save(tank_posterior(), tmp_path / "tank.nc")
    with xr.open_datatree(tmp_path / "tank.nc") as opened:
        for name, group in tank_posterior().children.items():
            xr.testing.assert_equal(opened[name].to_dataset(), group.to_dataset())
        assert az.loo(opened.load(), var_name="top").n_data_points == 8
    assert bt.load(tmp_path / "tank.nc").attrs == tank_posterior().attrs


@pytest.mark.thorough
def test_a_forecast_survives_the_file(tmp_path: Path) -> None:
    future = telemetry_of({"time": [1921.0, 1922.5]})
    forecast = bt.predict(lynx_hare(), lynx_hare_posterior(), future, seed=0, draws=20)
    bt.save(forecast, tmp_path / "forecast.nc")
    with xr.open_datatree(tmp_path / "forecast.nc") as opened:
        xr.testing.assert_equal(opened["predictions"].to_dataset(), forecast["predictions"].to_dataset())
