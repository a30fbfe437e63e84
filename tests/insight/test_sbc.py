"""A simulation-based calibration is bound to what it checked, and refuses what makes no sense."""

import importlib.metadata

import numpyro.distributions as dist
import pytest
import xarray as xr
from planted import filling, gauge
from readable import faults

import bayestwin as bt
from bayestwin._base.files import source_sha256
from bayestwin.assess import failed
from bayestwin.model.describe import fingerprint
from bayestwin.report.insight import render_ranks


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return bt.sbc(filling(), gauge(), seed=3, num_simulations=24, num_draws=31)


def test_it_holds_ranks_of_all_quantities(found: xr.Dataset) -> None:
    names = ["inflow", "level_initial", "level_squared_error", "log_likelihood", "rate"]
    assert sorted(found["quantity"].values) == names
    assert found["rank"].sizes == {"quantity": 5, "simulation": 24}
    assert ((found["rank"] > 0.0) & (found["rank"] < 1.0)).all()
    assert failed(bt.judge_sbc(found)) == ()


def test_it_is_bound_to_twin_telemetry_settings_and_code(found: xr.Dataset) -> None:
    attrs = found.attrs
    assert attrs["twin_sha256"] == fingerprint(filling())
    assert attrs["telemetry_sha256"] == gauge().sha256
    assert attrs["code_sha256"] == source_sha256()
    assert attrs["bayestwin_version"] == importlib.metadata.version("bayestwin")
    assert (attrs["seed"], attrs["num_draws"], attrs["interrupted"]) == (3, 31, False)


def test_it_comes_back_from_a_file(found: xr.Dataset, tmp_path) -> None:
    loaded = bt.load(bt.save(xr.DataTree(found), tmp_path / "sbc.nc"))
    xr.testing.assert_equal(loaded.to_dataset(), found)
    assert loaded.attrs["code_sha256"] == found.attrs["code_sha256"]
    assert bt.judge_sbc(loaded) == bt.judge_sbc(found)
    assert render_ranks(loaded) == render_ranks(found)


def test_its_page_is_complete_in_itself(found: xr.Dataset) -> None:
    page = render_ranks(found)
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<script") == 1
    assert faults(page) == []
    for name in found["quantity"].values:
        assert str(name) in page
    assert found.attrs["code_sha256"] in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_simulations": 5}, "`num_simulations`"),
        ({"num_draws": 2.5}, "`num_draws`"),
        ({"level": 95}, "`level`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(bt.errors.InvalidSetting, match=words):
        bt.sbc(filling(), gauge(), **({"seed": 0} | changes))


@pytest.mark.thorough
def test_a_twin_that_cannot_be_solved_at_most_of_its_prior_says_so() -> None:
    twin = bt.Twin(
        name="bursting",
        vector_field=lambda t, x, p, u: {"level": p.rate * x.level**2},
        states={"level": bt.State(5.0)},
        parameters={"rate": bt.Parameter(dist.Uniform(0.02, 2.0))},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    with pytest.raises(bt.errors.NoValidStart, match="most draws of its prior"):
        bt.sbc(twin, gauge(), seed=0, num_simulations=20)
