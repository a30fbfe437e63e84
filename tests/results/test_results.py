"""A result is a plain DataTree in ArviZ's schema: the groups, dimensions, units and times that DESIGN promises."""

import json

import numpy as np
from twins import LYNX_HARE_VALUES, lynx_hare_posterior, pelts

GROUPS = {
    "posterior": ("chain", "draw"),
    "sample_stats": ("chain", "draw"),
    "prior": ("chain", "draw"),
    "prior_predictive": ("chain", "draw", "time"),
    "posterior_predictive": ("chain", "draw", "time"),
    "log_likelihood": ("chain", "draw", "time"),
    "observed_data": ("time",),
    "constant_data": ("time",),
    "final_state": ("chain", "draw"),
}
STATISTICS = {"diverging", "lp", "n_steps", "tree_depth", "acceptance_rate", "step_size", "energy"}
STATISTICS |= {"solver_failed", "solver_steps"}
SERIES = {"hare", "hare_noise_free", "lynx", "lynx_noise_free", "hare_state", "lynx_state"}


def test_the_groups_and_their_dimensions() -> None:
    tree = lynx_hare_posterior()
    assert set(tree.children) == set(GROUPS)
    for group, dims in GROUPS.items():
        for name, variable in tree[group].data_vars.items():
            assert variable.dims == dims, (group, name)
            assert np.isfinite(variable.values).all(), (group, name)


def test_the_variables_of_each_group() -> None:
    tree = lynx_hare_posterior()
    found = {group: set(tree[group].data_vars) for group in GROUPS}
    sites = set(LYNX_HARE_VALUES)
    expected = {
        "posterior": sites,
        "prior": sites,
        "sample_stats": STATISTICS,
        "prior_predictive": SERIES,
        "posterior_predictive": SERIES,
        "log_likelihood": {"hare", "lynx"},
        "observed_data": {"hare", "lynx"},
        "constant_data": set(),
        "final_state": {"hare", "lynx"},
    }
    assert found == expected
    assert tree["sample_stats/diverging"].dtype == tree["sample_stats/solver_failed"].dtype == bool
    assert np.issubdtype(tree["sample_stats/solver_steps"].dtype, np.integer)


def test_the_sizes_asked_for() -> None:
    tree = lynx_hare_posterior()
    assert dict(tree["posterior"].sizes) == {"chain": 4, "draw": 1000}
    assert dict(tree["posterior_predictive"].sizes) == {"chain": 4, "draw": 250, "time": 21}
    assert tree["prior"].sizes["chain"] == tree["prior_predictive"].sizes["chain"] == 1
    # thinned draws keep their numbers, so that they can be found in the posterior again
    kept = tree["posterior_predictive"]["draw"].values
    assert kept[0] == 0
    assert kept[-1] == 999
    again = tree["posterior/hare_initial"].sel(draw=kept).values
    np.testing.assert_allclose(tree["posterior_predictive/hare_state"].isel(time=0).values, again, rtol=1e-12)


def test_units_and_words_come_from_the_twin() -> None:
    tree = lynx_hare_posterior()
    assert tree["posterior/alpha"].attrs["units"] == "1/year"
    assert tree["posterior/alpha"].attrs["long_name"] == "birth rate of hares"
    assert tree["posterior/hare_initial"].attrs["units"] == "thousand"
    assert tree["posterior/hare_scale"].attrs["units"] == ""
    for name in SERIES:
        assert tree["posterior_predictive"][name].attrs["units"] == "thousand"
        assert "hare" in tree["posterior_predictive"][name].attrs["long_name"] or "lynx" in name


def test_the_root_says_where_the_result_comes_from() -> None:
    attrs = lynx_hare_posterior().attrs
    assert attrs["schema_version"] == 1
    assert attrs["twin"] == "lynx_hare"
    assert attrs["seed"] == 0
    assert attrs["time_unit"] == "year"
    assert attrs["t0"] == "1900.0"
    assert attrs["interrupted"] is False
    assert attrs["num_warmup"] == 200
    assert attrs["telemetry_sha256"] == pelts().sha256
    assert json.loads(attrs["job"])["num_chains"] == 4
    assert attrs["starts"]["modes"] == 1
    assert attrs["starts"]["drawn"] == 64
    words = attrs["description"]
    assert words["parameters"][0]["prior"] == "Normal(1, 0.5) truncated to > 0"
    assert "p.alpha - p.beta * x.lynx" in words["equations"]
    assert json.loads(json.dumps(words)) == words


def test_the_statistics_are_those_of_the_draws() -> None:
    tree = lynx_hare_posterior()
    stats = tree["sample_stats"]
    assert (stats["acceptance_rate"].mean() > 0.8) & (stats["acceptance_rate"].max() <= 1.0)
    assert (stats["n_steps"] < 2 ** (stats["tree_depth"] + 1)).all()
    likelihood = tree["log_likelihood"].to_dataset()
    total = (likelihood["hare"] + likelihood["lynx"]).sum("time")
    # `lp` adds the prior and the Jacobian, which depend on the draw alone
    assert np.corrcoef(total.values.ravel(), stats["lp"].values.ravel())[0, 1] > 0.5
    assert (stats["solver_steps"] > 20).all()


def test_numbers_are_kept_as_numbers() -> None:
    np.testing.assert_array_equal(lynx_hare_posterior()["observed_data"]["time"], np.arange(1900.0, 1921.0))
