"""Comparison is az.compare's over all observations, refuses what means nothing, and says what can be told apart."""

import functools
from pathlib import Path

import arviz as az
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from twins import decay, decay_telemetry, known_decay, known_decay_posterior, tank_posterior

import bayestwin as bt
from bayestwin.errors import InvalidInput, InvalidTwin
from bayestwin.insight.compare import log_likelihood

DESCRIBED = {"observations": [{"name": "a", "unit": "m", "noise": "Gaussian(scale = 1)"}]}
NUM = 60


def made(shift: float = 0.0, seed: int = 0, scale: float = 1.0, **attrs: object) -> xr.DataTree:
    """A posterior of a mean μ ~ N(0, 10²), given 2 · 30 observations N(μ, 1) of two names, as if shifted and scaled."""
    y = np.random.default_rng(7).standard_normal(NUM)
    precision = NUM / scale**2 + 0.01
    draws = np.random.default_rng(seed).standard_normal((4, 1000)) / np.sqrt(precision)
    draws += (y - shift).sum() / scale**2 / precision
    terms = scipy.stats.norm.logpdf(y - shift, draws[..., None], scale)
    parts = {
        name: (("chain", "draw", "time"), part) for name, part in zip("ab", np.split(terms, 2, axis=-1), strict=True)
    }
    observed = {n: ("time", part, {"units": "m"}) for n, part in zip("ab", np.split(y, 2), strict=True)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"mean": (("chain", "draw"), draws)}),
            "log_likelihood": xr.Dataset(parts, {"time": np.arange(NUM / 2), "chain": range(4), "draw": range(1000)}),
            "observed_data": xr.Dataset(observed, {"time": np.arange(NUM / 2)}),
        }
    )
    tree.attrs = {"telemetry_sha256": "abc", "method": "nuts", "description": DESCRIBED, "interrupted": False} | attrs
    return tree


def exact_loo(scale: float = 1.0) -> float:
    """The log density of each observation given all others, in closed form."""
    y = np.random.default_rng(7).standard_normal(NUM)
    precision = (NUM - 1) / scale**2 + 0.01
    mean = (y.sum() - y) / scale**2 / precision
    return float(scipy.stats.norm.logpdf(y, mean, np.sqrt(scale**2 + 1 / precision)).sum())


def test_leaving_one_out_is_the_closed_form_over_all_observations() -> None:
    found = bt.compare({"right": made(), "wide": made(scale=2.0, seed=1)})
    assert list(found["observation"].values) == ["a"] * 30 + ["b"] * 30
    for name, scale in (("right", 1.0), ("wide", 2.0)):
        # the posterior of one mean is narrow: the Monte Carlo error of 4,000 draws is some 0.01
        assert abs(float(found["elpd"].sel(model=name)) - exact_loo(scale)) < 0.03


def test_its_numbers_are_those_of_arviz() -> None:
    one, other = made(), made(scale=1.3, seed=1)
    trees = {}
    for name, tree in (("one", one), ("other", other)):
        row = log_likelihood(tree).to_dataset().reset_coords(drop=True)
        trees[name] = xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset(), "log_likelihood": row})
    theirs = az.compare(trees, round_to="none")
    ours = bt.compare({"one": one, "other": other})
    for name in trees:
        for column in ("elpd", "se", "elpd_diff", "dse", "p"):
            assert float(ours[column].sel(model=name)) == pytest.approx(theirs.loc[name, column], rel=1e-9, abs=1e-9)
        assert float(ours["weight"].sel(model=name)) == pytest.approx(theirs.loc[name, "weight"], abs=1e-3)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")  # a record of ten
@pytest.mark.parametrize("name", ["top", "water"])
def test_arviz_compares_our_files_without_our_help(tmp_path: Path, name: str) -> None:
    bt.save(tank_posterior(), tmp_path / "tank.nc")
    with xr.open_datatree(tmp_path / "tank.nc") as opened:
        tree = opened.load()
    table = az.compare({"one": tree, "two": tree}, var_name=name)
    assert np.isfinite(az.loo(tree, var_name=name).elpd)
    assert list(table["elpd_diff"]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        ({"shift": 0.0, "seed": 1}, "alike", "cannot be told apart: elpd difference"),
        ({"scale": 3.0}, "worse", "`other` predicts worse than `true`: elpd difference -"),
    ],
)
def test_the_verdict_says_what_can_be_told(changes: dict, outcome: str, words: str) -> None:
    found = bt.compare({"other": made(**changes), "true": made()}, reference="true").sel(model="other")
    assert found["outcome"] == outcome
    assert bool(found["reliable"])
    assert words in str(found["verdict"].item())
    turned = bt.compare({"other": made(**changes), "true": made()}, reference="other").sel(model="true")
    assert turned["outcome"] == {"alike": "alike", "worse": "better"}[outcome]
    assert float(turned["elpd_diff"]) == pytest.approx(-float(found["elpd_diff"]))


def changed(tree: xr.DataTree, at: tuple[int, ...], value: float) -> xr.DataTree:
    tree["log_likelihood"]["b"].values[(..., *at)] = value
    return tree


def heavy() -> xr.DataTree:
    """As if one observation had a log likelihood with a tail that no weights can follow."""
    tree = made(seed=2)
    tree["log_likelihood"]["b"].values[..., 3] = -np.log1p(np.random.default_rng(0).pareto(0.5, (4, 1000)))
    return tree


def test_pareto_k_too_high_is_said_and_allows_no_more_than_that_it_is_worse() -> None:
    """Weights that fail flatter: the twin is rather worse than it seems."""
    high = "Pareto k is above 0.70 at 1 of 60 observations (`heavy`)."
    for shift, outcome, reliable in ((0.0, "alike", False), (30.0, "better", False), (-90.0, "worse", True)):
        tree = heavy()
        tree["log_likelihood"]["a"].values[:] += shift / 30 * np.linspace(0.5, 1.5, 30)
        row = bt.compare({"one": made(), "heavy": tree}, reference="one").sel(model="heavy")
        assert (str(row["outcome"].item()), bool(row["reliable"])) == (outcome, reliable), row["elpd_diff"]
        words = "It is rather larger" if reliable else "Do not rely on it"
        assert f"{words}: {high}" in str(row["verdict"].item())
        turned = bt.compare({"one": made(), "heavy": tree}, reference="heavy").sel(model="one")
        assert bool(turned["reliable"]) == reliable


def test_what_cannot_be_computed_is_unknown_and_last() -> None:
    found = bt.compare({"broken": changed(made(), (0,), np.nan), "one": made(), "two": made(seed=1)})
    assert found["model"].values[-1] == "broken"
    row = found.sel(model="broken")
    assert (str(row["outcome"].item()), bool(row["reliable"])) == ("unknown", False)
    assert np.isnan([row["elpd_diff"], row["elpd"]]).all()
    assert "there is no log density at 1 of 60 observations" in str(row["verdict"].item())
    assert np.isfinite(found["elpd_diff"].values[:-1]).all()


def without_a_point() -> xr.DataTree:
    tree = made()
    tree["log_likelihood"] = xr.DataTree(tree["log_likelihood"].to_dataset().isel(time=slice(1, None)))
    return tree


def in_other_units() -> xr.DataTree:
    tree = made()
    tree["observed_data"]["a"].attrs["units"] = "cm"
    return tree


def with_error(kind: str) -> dict:
    return {"description": DESCRIBED | {"model_error": {"kind": kind}}}


CORRELATED = {"observations": [{"name": "a", "unit": "m", "noise": "Biased(Autocorrelated(scale = 1), bias = 0)"}]}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (made(telemetry_sha256="xyz"), "the same telemetry"),
        (made(telemetry_sha256=None), "the same telemetry"),
        (without_a_point(), "the same observations"),
        (in_other_units(), "the same units"),
        (made(**with_error("ProcessNoise")), "all observations before it"),
        (made(**with_error("Discrepancy")), "given the one that was drawn"),
        (made(description=CORRELATED), "autocorrelated noise of `a`"),
        (xr.DataTree.from_dict({"posterior": xr.Dataset()}), "cannot be compared"),
    ],
)
def test_what_would_mean_nothing_is_refused(other: xr.DataTree, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        bt.compare({"one": made(), "other": other})


@pytest.mark.parametrize("reference", [None, "three"])
def test_there_must_be_something_to_compare_with(reference: str | None) -> None:
    results = {"one": made()} if reference is None else {"one": made(), "two": made()}
    with pytest.raises(InvalidInput):
        bt.compare(results, reference=reference)


def futures(elpd: list[float], k: float = 0.3, ahead: float = 0.3, **attrs: object) -> xr.DataTree:
    num = len(elpd)
    columns = {
        "elpd": elpd,
        "pareto_k": [np.nan] + [k] * (num - 1),
        "pareto_k_ahead": [ahead] * num,
        "recalibrated": [True] + [False] * (num - 1),
        "failed_gates": [""] * num,
        "until": np.arange(num) + 0.5,
        "num": [3] * num,
    }
    data = {name: ("origin", np.array(values)) for name, values in columns.items()}
    tree = xr.DataTree.from_dict({"leave_future_out": xr.Dataset(data, {"origin": np.arange(num)})})
    tree.attrs = {"telemetry_sha256": "abc", "horizon": 1.0, "description": DESCRIBED} | attrs
    return tree


def test_futures_left_out_are_compared_over_the_same_origins() -> None:
    ours, theirs = np.array([1.0, 2.0, 0.5, 3.0]), np.array([-4.0, -2.5, -5.0, -1.0])
    found = bt.compare({"ours": futures([*ours]), "theirs": futures([*theirs])})
    row, difference = found.sel(model="theirs"), theirs - ours
    assert float(row["elpd_diff"]) == pytest.approx(difference.sum())
    assert float(row["dse"]) == pytest.approx(np.sqrt(4 * difference.var()))
    assert (row["outcome"], bool(row["reliable"])) == ("worse", True)
    with pytest.raises(InvalidInput, match="the same horizon"):
        bt.compare({"ours": futures([*ours]), "theirs": futures([*theirs], horizon=2.0)})
    with pytest.raises(InvalidInput, match="the same kind"):
        bt.compare({"ours": futures([*ours]), "theirs": made()})
    with pytest.raises(InvalidInput, match="the same observations"):
        bt.compare({"ours": futures([*ours]), "theirs": futures([*theirs[:3]])})


def test_few_origins_need_a_clearer_difference() -> None:
    """Three standard errors are much over many origins, and nothing over three: the t interval knows."""
    for num, outcome in ((3, "alike"), (30, "worse")):
        difference = np.tile([-3.0, -9.0, -15.0], num // 3) if num == 30 else np.array([-2.0, -9.0, -16.0])
        found = bt.compare({"ours": futures([0.0] * num), "theirs": futures([*difference])})
        assert found.sel(model="theirs")["outcome"] == outcome


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 0.9}, "Pareto k is above 0.70 at 3 of 4"),
        ({"ahead": 1.2}, "a few draws make up all"),
        ({"k": np.nan}, "3 of 4"),
    ],
)
def test_doubts_about_the_future_are_said(changes: dict, words: str) -> None:
    found = bt.compare({"ours": futures([1.0] * 4), "theirs": futures([-9.0, -8.0, -9.0, -8.0], **changes)})
    row = found.sel(model="theirs")
    assert not bool(row["reliable"])
    assert words in str(row["verdict"].item())


@functools.cache
def too_fast() -> xr.DataTree:
    return bt.calibrate(bt.ablate(decay(), {"rate": 1.6}), decay_telemetry(), seed=0, method="laplace")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_draws_of_an_approximation_are_weighted_and_the_result_is_stored(tmp_path: Path) -> None:
    found = bt.compare({"known": known_decay_posterior(), "too fast": too_fast()})
    assert found["model"].values[0] == "known"
    theirs = too_fast()
    stats = theirs["sample_stats"].to_dataset()
    expected = az.loo_approximate_posterior(theirs, stats["lp"], stats["lp"] - stats["log_ratio"])
    assert float(found["elpd"].sel(model="too fast")) == pytest.approx(expected.elpd)
    bt.save(xr.DataTree(found), tmp_path / "comparison.nc")
    loaded = bt.load(tmp_path / "comparison.nc")
    xr.testing.assert_equal(loaded.to_dataset(), found)
    assert loaded.attrs["telemetry_sha256"] == decay_telemetry().sha256
    assert list(found["seed"].values) == ["3", "0"]


def test_an_ablated_twin_knows_its_parameter() -> None:
    twin = bt.ablate(decay(), {"rate": 0.0})
    assert twin.parameters["rate"].prior == 0.0
    assert (twin.parameters["rate"].unit, twin.name) == ("1/h", "decay")
    assert [site.name for site in twin.sites()] == ["level_initial", "level_scale"]


@pytest.mark.parametrize(
    ("off", "words"),
    [
        ({"sun": 0.0}, "`sun` is no parameter that is inferred"),
        ({"rate": float("nan")}, "rate = nan is no finite number"),
        ({"rate": True}, "rate = True is no finite number"),
        ({}, "nothing is named"),
    ],
)
def test_what_cannot_be_switched_off_is_refused(off: dict, words: str) -> None:
    with pytest.raises(InvalidTwin, match=words):
        bt.ablate(decay(), off)
    with pytest.raises(InvalidTwin, match="`rate` is no parameter that is inferred"):
        bt.ablate(known_decay(), {"rate": 0.0})
