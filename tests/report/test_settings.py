"""A page compares several model errors: what each promises and keeps, and which quantities it moves and widens."""

import pytest
import xarray as xr

from bayestwin.assess import coverage, intervals, scores
from bayestwin.errors import InvalidInput
from bayestwin.report import render_report
from bayestwin.report.model_errors import (
    held_out_rows,
    held_out_words,
    read_settings,
    shared_quantities,
    shared_rows,
    shared_words,
)

PROCESS = {
    "kind": "ProcessNoise",
    "settings": {"filter": "auto"},
    "quantities": [{"name": "hare_diffusion", "unit": "1/year**0.5", "doc": "", "prior": "HalfNormal(1)"}],
}
NARROW = "\u202f"


def remade(tree: xr.DataTree, error: dict | None = None, **groups: xr.Dataset) -> xr.DataTree:
    """A result with this model error in its description, and some of its groups replaced."""
    built = xr.DataTree.from_dict({name: node.to_dataset() for name, node in tree.children.items()} | groups)
    built.attrs = tree.attrs | {"description": tree.attrs["description"] | ({"model_error": error} if error else {})}
    return built


def squeezed(forecast: xr.DataTree, factor: float) -> xr.DataTree:
    """The forecast with intervals that are so many times as wide."""
    draws = forecast["predictions"].to_dataset()
    middle = draws.median(("chain", "draw"))
    return remade(forecast, predictions=(middle + factor * (draws - middle)).transpose("chain", "draw", "time"))


def moved(posterior: xr.DataTree, name: str, shift: float, factor: float = 1.0) -> xr.Dataset:
    """Draws of which one quantity lies `shift` of its standard deviations higher, and is `factor` times as wide."""
    draws = posterior["posterior"].to_dataset().copy(deep=True)
    mean, sd = float(draws[name].mean()), float(draws[name].std(ddof=1))
    draws[name] = mean + shift * sd + factor * (draws[name] - mean)
    return draws


def section(page: str) -> str:
    return page.split('id="model-error"')[1].split("</section>")[0]


@pytest.fixture(scope="module")
def pair(small):
    """With process noise all is well; without model error intervals are far too narrow, and `alpha` lies elsewhere."""
    exact = remade(small.posterior, posterior=moved(small.posterior, "alpha", 3.0, 0.25))
    return (remade(small.posterior, PROCESS), small.forecast), {"none": (exact, squeezed(small.forecast, 0.01))}


@pytest.fixture(scope="module")
def page(small, pair) -> str:
    (posterior, forecast), beside = pair
    return render_report(posterior, forecast, validation=small.validation, beside=beside)


def test_only_what_is_compared_has_a_section(pages, page) -> None:
    assert 'href="#model-error"' not in pages["lynx_hare"]
    assert 'id="model-error"' not in pages["lynx_hare"]
    assert page.index('href="#residuals"') < page.index('href="#model-error"') < page.index('href="#provenance"')


def test_it_says_in_words_who_keeps_the_promise(small, pair) -> None:
    own, beside = pair
    settings = read_settings(own, beside, small.validation)
    covered = coverage(small.forecast, small.validation).sel(prob=0.9)
    share = {name: f"{100 * float(covered['coverage'].sel(observation=name)):.0f}" for name in ("hare", "lynx")}
    for words, name in zip(held_out_words(settings), ("hare", "lynx"), strict=True):
        assert words == (
            f"Without model error the 90{NARROW}% interval of `{name}` covers 0{NARROW}% of what was held out: too "
            f"narrow. With process noise it covers {share[name]}{NARROW}%, which so few cannot tell from what was "
            "promised."
        )


def test_intervals_that_are_too_wide_are_no_success(room) -> None:
    settings = read_settings((room.posterior, squeezed(room.forecast, 3.0)), {}, room.validation)
    assert held_out_words(settings)[0].endswith(f"covers 100{NARROW}% of what was held out: too wide.")


def test_the_table_has_coverage_width_and_scores(small, pair) -> None:
    own, beside = pair
    rows = held_out_rows(read_settings(own, beside, small.validation))
    assert [(row.name, row.setting.label) for row in rows] == [
        (name, label) for name in ("hare", "lynx") for label in ("none", "with process noise")
    ]
    assert [row.good for row in rows] == [False, None] * 2  # of eight years nothing can be told but a miss
    for row, tree in zip(rows, (beside["none"][1], small.forecast) * 2, strict=True):
        ends = intervals(tree, 0.9).sel(observation=row.name, prob=0.9)
        scored = scores(tree, small.validation).sel(observation=row.name)
        assert float(row.width) == pytest.approx(float((ends["upper"] - ends["lower"]).mean()), rel=0.01)
        assert float(row.rmse) == pytest.approx(float(scored["rmse"]), rel=0.01)
        assert float(row.crps) == pytest.approx(float(scored["crps"]), rel=0.01)
        assert row.unit == "thousand"


def test_without_held_out_telemetry_widths_remain(pair) -> None:
    own, beside = pair
    settings = read_settings(own, beside, None)
    assert held_out_words(settings) == []
    row = held_out_rows(settings)[0]
    assert (row.covered, row.good, row.rmse, row.crps) == ("–", None, "–", "–")
    assert float(row.width) > 0


def test_quantities_that_move_are_named_with_how_far(small, pair) -> None:
    """`alpha` lies 3 standard deviations of the wider posterior away, and is 4 times as wide as without model error."""
    own, beside = pair
    moves, wider = shared_words(shared_quantities(read_settings(own, beside, small.validation)))
    assert moves.endswith("(the wider one's): `alpha` by 3.0.")
    assert wider == "With process noise, standard deviations are larger than without model error: `alpha` 4.0 times."


def test_that_nothing_moves_is_told(small) -> None:
    own = (remade(small.posterior, PROCESS), None)
    beside = {"none": (remade(small.posterior, posterior=moved(small.posterior, "alpha", 0.9)), None)}
    moves, wider = shared_words(shared_quantities(read_settings(own, beside, None)))
    assert moves == "No quantity moves by more than one posterior standard deviation between settings."
    assert wider == "With process noise, no standard deviation is much larger than without model error."


def test_of_three_settings_the_two_farthest_apart_are_named(small) -> None:
    own = (remade(small.posterior, PROCESS), None)
    kind = PROCESS | {"kind": "Discrepancy"}
    beside = {
        "near": (remade(small.posterior, posterior=moved(small.posterior, "beta", 0.5)), None),
        "far": (remade(small.posterior, kind, posterior=moved(small.posterior, "beta", -1.5)), None),
    }
    settings = read_settings(own, beside, None)
    assert [setting.label for setting in settings] == ["near", "with process noise", "far"]
    moves, *wider = shared_words(shared_quantities(settings))
    assert moves.endswith("`beta` by 2.0 (without model error vs with a discrepancy).")
    assert len(wider) == 2


def test_settings_of_one_kind_are_told_apart_by_name(small) -> None:
    pair = (remade(small.posterior, PROCESS), None)
    phrases = [setting.phrase for setting in read_settings(pair, {"rough": pair, "fine": pair}, None)]
    assert phrases == [
        "with process noise (this report)",
        "with process noise (`rough`)",
        "with process noise (`fine`)",
    ]


def test_all_settings_are_written_in_one_unit(small) -> None:
    """Around 100,000 one posterior alone would be written in thousands, the other not."""

    def scaled(value: float) -> xr.Dataset:
        draws = small.posterior["posterior"].to_dataset()
        return draws.assign(alpha=(draws["alpha"] - draws["alpha"].mean() + value).assign_attrs(units="J/K"))

    own = (remade(small.posterior, PROCESS, posterior=scaled(99_990.0)), None)
    beside = {"none": (remade(small.posterior, posterior=scaled(100_010.0)), None)}
    shared = shared_quantities(read_settings(own, beside, None))
    rows = [row for row in shared_rows(shared) if row.name == "alpha"]
    assert [row.unit for row in rows] == ["J/K"] * 2
    assert [row.mean.split(".")[0] for row in rows] == ["100,010", "99,990"]
    assert rows[0].sd == rows[1].sd


def test_only_quantities_that_all_share_are_compared(small) -> None:
    draws = small.posterior["posterior"].to_dataset()
    own = (remade(small.posterior, PROCESS, posterior=draws.assign(hare_diffusion=draws["alpha"])), None)
    shared = shared_quantities(read_settings(own, {"none": (small.posterior, None)}, None))
    assert [quantity.name for quantity, _ in shared] == ["alpha", "beta", "hare_scale"]


def test_a_setting_whose_gates_fail_is_not_relied_on(small, pair) -> None:
    """By the limits of its own job, which may be wider than the defaults."""
    (posterior, forecast), beside = pair
    exact, narrow = beside["none"]
    stuck = exact["posterior"].to_dataset().copy(deep=True)
    stuck["beta"][3] += 1.0
    bad = remade(exact, posterior=stuck)
    words = held_out_words(read_settings((posterior, forecast), {"none": (bad, narrow)}, small.validation))
    assert words[0].startswith("Do not rely on what stands here without model error: gates failed (")
    assert "rhat" in words[0]
    assert len(words) == 3
    bad.attrs |= {"job": '{"gates": {"max_rhat": 1000.0, "min_ess_per_chain": 0.1}}', "interrupted": True}
    words = held_out_words(read_settings((posterior, forecast), {"none": (bad, narrow)}, small.validation))
    assert words[0].startswith("Do not rely on what stands here without model error: sampling was interrupted")
    assert "rhat" not in words[0]


@pytest.mark.parametrize(("key", "words"), [("twin", "another twin"), ("telemetry_sha256", "another telemetry")])
def test_what_is_of_something_else_is_refused(small, key: str, words: str) -> None:
    other = remade(small.posterior)
    other.attrs[key] = "other"
    with pytest.raises(InvalidInput, match=f"`none` cannot stand beside this one: it is of {words}") as caught:
        render_report(small.posterior, beside={"none": (other, None)})
    assert f"Expected: {key} {small.posterior.attrs[key]}" in str(caught.value)
    assert "Received: other" in str(caught.value)


def test_the_page_says_what_is_compared(page) -> None:
    part = section(page)
    assert '<th scope="row">none</th><td>Without model error: the equations are taken to be exact.</td>' in part
    words = "ProcessNoise, filter auto. hare_diffusion: HalfNormal(1) 1/√year."
    assert f'<th scope="row">with process noise (this report)</th><td>{words}</td>' in part
    assert part.count('class="mark fail"') == part.count("cannot be told") == 2  # eight years tell little
    assert "<code>alpha</code> by 3.0" in part
    (picture,) = part.split("<svg")[1:]
    for words in (">none</text>", ">with process noise</text>", ">alpha (1/year)</text>"):
        assert words in picture


def test_without_forecasts_the_page_says_so(small, pair) -> None:
    (posterior, _), beside = pair
    part = section(render_report(posterior, beside={"none": (beside["none"][0], None)}))
    assert "Nothing was predicted" in part
    assert "interval of <code>" not in part
