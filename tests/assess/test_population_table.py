"""The table of a population is what its draws say by hand: typical values, between-asset variation, shrinkage."""

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.model.describe import fingerprint


def tank(**parameters: bt.Parameter) -> bt.Twin:
    return bt.Twin(
        name="tank",
        vector_field=lambda t, x, p, u: {"level": -p.k * x.level},
        states={"level": bt.State(1.0)},
        parameters=parameters,
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )


POOLED = tank(
    k=bt.Parameter(dist.LogNormal(0.0, 1.0), unit="1/s", pooled=dist.HalfNormal(0.5)),
    offset=bt.Parameter(dist.Normal(0.0, 1.0), unit="m", pooled=dist.HalfNormal(0.5)),
)


def posterior_of(twin: bt.Twin, draws: dict[str, np.ndarray]) -> xr.DataTree:
    dims = {2: ("chain", "draw"), 3: ("chain", "draw", "experiment")}
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({n: (dims[v.ndim], v) for n, v in draws.items()})})
    tree.attrs = {"twin": twin.name, "twin_sha256": fingerprint(twin)}
    return tree


def drawn() -> xr.DataTree:
    """Spreads of 0.3 and 2 in all draws; values that lie as far apart as they say, and half as far."""
    rng = np.random.default_rng(0)
    log_typical, middle = np.log(2.0) + 0.05 * rng.normal(size=(4, 250)), 10.0 + rng.normal(size=(4, 250))
    apart = np.array([-1.0, 0.0, 1.0])
    return posterior_of(
        POOLED,
        {
            "k_typical": np.exp(log_typical),
            "k_spread": np.full((4, 250), 0.3),
            "k": np.exp(log_typical[..., None] + 0.3 * apart),
            "offset_typical": middle,
            "offset_spread": np.full((4, 250), 2.0),
            "offset": middle[..., None] + 0.5 * 2.0 * apart,
        },
    )


def test_a_population_is_told_as_by_hand() -> None:
    tree = drawn()
    found = bt.population(POOLED, tree, prob=0.8)
    k = found.sel(quantity="k")
    typical = tree["posterior"]["k_typical"].to_numpy().ravel()
    assert [float(k[name]) for name in ("typical", "typical_lower", "typical_upper")] == pytest.approx(
        np.quantile(typical, [0.5, 0.1, 0.9])
    )
    assert float(k["rse"]) == pytest.approx(typical.std(ddof=1) / typical.mean())
    assert float(k["cv"]) == float(k["cv_upper"]) == pytest.approx(np.sqrt(np.exp(0.09) - 1.0))
    assert float(k["shrinkage"]) == pytest.approx(0.0, abs=1e-9)
    assert found["units"].to_series().to_dict() == {"k": "1/s", "offset": "m"}
    assert found.attrs["prob"] == 0.8


def test_what_is_not_positive_has_a_spread_in_its_unit_and_no_coefficient_of_variation() -> None:
    offset = bt.population(POOLED, drawn()).sel(quantity="offset")
    assert float(offset["spread"]) == 2.0
    assert np.isnan(float(offset["cv"]))
    assert float(offset["shrinkage"]) == pytest.approx(0.5)


def test_a_spread_that_is_known_is_told_as_it_is() -> None:
    known = tank(k=bt.Parameter(dist.LogNormal(0.0, 1.0), unit="1/s", pooled=0.3))
    draws = drawn()["posterior"].to_dataset()
    tree = posterior_of(known, {name: draws[name].to_numpy() for name in ("k_typical", "k")})
    k = bt.population(known, tree).sel(quantity="k")
    assert float(k["spread_lower"]) == float(k["spread"]) == float(k["spread_upper"]) == 0.3
    assert float(k["shrinkage"]) == pytest.approx(0.0, abs=1e-9)


def test_a_twin_without_a_population_is_refused() -> None:
    alone = tank(k=bt.Parameter(dist.LogNormal(0.0, 1.0)))
    with pytest.raises(bt.errors.InvalidInput, match="`tank` has no population"):
        bt.population(alone, posterior_of(alone, {"k": np.ones((2, 5))}))
    with pytest.raises(bt.errors.InvalidArtifact, match="does not belong"):
        bt.population(alone, drawn())
