"""The report says where uncertainty comes from: parameters, discrepancy and noise, each with the spread it has."""

import re

import numpy as np
import pytest
import xarray as xr

from bayestwin.report import render_report
from bayestwin.report.prose import origin_rows, origin_words
from bayestwin.report.reading import split, time_axis

ERROR = {"kind": "Discrepancy", "settings": {"over": "time", "kernel": "matern52", "num_basis": None}, "quantities": []}


def standard(num: int) -> np.ndarray:
    """Draws (num, chain, draw) of mean 0 and standard deviation 1, exactly uncorrelated with each other."""
    raw = np.random.default_rng(0).normal(size=(400, num))
    found, _ = np.linalg.qr(raw - raw.mean(axis=0))
    return (np.sqrt(400) * found).T.reshape(num, 4, 100)


def result(**variables: np.ndarray) -> xr.DataTree:
    """A posterior that predicts `level` at two times, its variables shaped (chain, draw, time)."""
    dims, time = ("chain", "draw", "time"), np.array([0.0, 1.0])
    data = {name: (dims, values, {"units": "m"}) for name, values in variables.items()}
    observed = xr.Dataset({"level": ("time", [0.0, 0.0], {"units": "m"})}, coords={"time": time})
    tree = xr.DataTree.from_dict(
        {"posterior_predictive": xr.Dataset(data, coords={"time": time}), "observed_data": observed}
    )
    tree.attrs = {"time_unit": "h"}
    return tree


def section(page: str) -> str:
    return page.split('id="uncertainty"')[1].split("</section>")[0]


@pytest.fixture(scope="module")
def discrepant(room):
    """The room's posterior and forecast with a discrepancy of 0.3 degC, which was inferred to be 1 degC off."""
    trees = []
    rng = np.random.default_rng(5)
    for tree, name in ((room.posterior, "posterior_predictive"), (room.forecast, "predictions")):
        groups = {key: node.to_dataset() for key, node in tree.children.items()}
        old = groups[name]["indoor"]
        drawn = rng.normal(size=(old.sizes["chain"], old.sizes["draw"], 1))
        values = 1.0 + 0.3 * (drawn - drawn.mean()) / drawn.std() + 0.0 * old
        groups[name] = groups[name].assign(indoor_discrepancy=values.assign_attrs(units="degC"), indoor=old + values)
        built = xr.DataTree.from_dict(groups)
        built.attrs = tree.attrs | {"description": tree.attrs["description"] | {"model_error": ERROR}}
        trees.append(built)
    return trees


def test_each_part_has_its_own_spread() -> None:
    """By hand: root mean square over two times of 1 and 7, of 0.1 and 0.7; noise of 2 at both."""
    one, other, third = standard(3)[..., None] * np.ones(2)
    free, error, noise = one * [1.0, 7.0], other * [0.1, 0.7], 2.0 * third
    (row,) = origin_rows(
        split(result(level=free + error + noise, level_noise_free=free, level_discrepancy=error), None, None)
    )
    assert row[:3] == ("level", "calibration", "m")
    assert row[3:] == ("5.0", "0.50", "2.0", "5.4")  # 5.41² = 5² + 0.5² + 2²


def test_parts_that_are_inferred_together_need_not_add_up() -> None:
    """What parameters take the discrepancy gives: both are wide, their sum is not."""
    one, other = standard(2)[..., None] * np.ones(2)
    parts = split(result(level=0.1 * other, level_noise_free=5 * one, level_discrepancy=-5 * one), None, None)
    rows = origin_rows(parts)
    assert rows[0][3:] == ("5.0", "5.0", "0.10", "0.10")
    assert "need not add up in squares" in " ".join(origin_words(rows, {"model_error": ERROR}))


def test_numbers_choose_a_readable_power_of_ten() -> None:
    one, other = 1e7 * standard(2)[..., None] * np.ones(2)
    (row,) = origin_rows(split(result(level=one + other, level_noise_free=one), None, None))
    assert (row.unit, row.parameters, row.noise, row.whole) == ("10⁶ m", "10", "10", "14")


def test_spreads_are_those_of_the_draws_that_could_be_solved() -> None:
    one, other = standard(2)[..., None] * np.ones(2)
    one[0, 0, 1] = np.nan
    (row,) = origin_rows(split(result(level=one + other, level_noise_free=one), None, None))
    assert row[3:] == ("1.0", "", "1.0", "1.4")
    (row,) = origin_rows(split(result(level=one + other, level_noise_free=np.nan * one), None, None))
    assert row.parameters == "NaN"
    assert origin_words([row], {})[-1] == "NaN says that no draw could be solved."


def test_both_stretches_of_time_are_told(room, lynx_hare) -> None:
    rows = origin_rows(split(room.posterior, room.forecast, room.validation))
    assert [(row.name, row.part) for row in rows] == [("indoor", "calibration"), ("indoor", "held out")]
    assert {row.noise for row in rows} == {"0.15"}  # as planted
    rows = origin_rows(split(lynx_hare.posterior, lynx_hare.forecast, None))
    assert [row.part for row in rows] == ["calibration", "forecast"] * 2


def test_without_discrepancy_nothing_is_said_of_one(pages) -> None:
    part = section(pages["room"])
    assert "discrepancy" not in part
    assert "<svg" not in part
    assert ">parameters</th>" in part
    assert "held out</td>" in part


def test_process_noise_is_told_from_parameters(small) -> None:
    tree = small.posterior.copy()
    error = {"kind": "ProcessNoise", "settings": {"filter": "auto"}, "quantities": []}
    tree.attrs = small.posterior.attrs | {"description": small.posterior.attrs["description"] | {"model_error": error}}
    part = section(render_report(tree))
    assert ">parameters and states</th>" in part
    assert "With process noise the states are not known from parameters alone" in part


@pytest.mark.thorough
def test_a_discrepancy_has_a_column_and_a_picture(discrepant, room) -> None:
    part = section(render_report(*discrepant, validation=room.validation))
    assert ">discrepancy</th>" in part
    for row in part.split("<tbody>")[1].split("</tr>")[:2]:
        assert re.search(r'<td class="n" data-value="0[.](30|29)\d+">0[.]30</td>', row)
    assert "need not add up in squares" in part
    (picture,) = part.split("<svg")[1:]
    for words in (">indoor_discrepancy (°C)</text>", "var(--calibrated)", "var(--heldout)", ">held out →</text>"):
        assert words in picture
    # the line at zero, of the ink's colour: in a picture of deviations that never come near it, it must be there
    (line,) = re.findall(r'<path d="M ([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+) "[^>]*stroke: var\(--ink\)', picture)
    assert line[1] == line[3]


def test_times_are_in_the_unit_of_the_telemetry(small) -> None:
    """Not in the twin's, in which they are only counted."""
    tree = small.posterior.copy()
    tree.attrs = small.posterior.attrs | {"telemetry_time_unit": "s"}
    assert time_axis(tree) == (False, "s", "")
    tree.attrs |= {"telemetry_time_unit": {"one": "s", "other": "h"}}
    assert time_axis(tree) == (False, "year", "")


def test_without_predictive_draws_it_is_not_known(small) -> None:
    tree = xr.DataTree.from_dict(
        {name: node.to_dataset() for name, node in small.posterior.children.items() if name != "posterior_predictive"}
    )
    tree.attrs = small.posterior.attrs
    assert "The result holds no predictive draws" in section(render_report(tree))
