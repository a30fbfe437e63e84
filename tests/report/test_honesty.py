"""The report says what is missing, what failed, and what to do about it; it never passes silence off as success."""

import html
import re

import numpy as np
import pytest
import xarray as xr

from bayestwin._base.wording import NARROW
from bayestwin.assess import Gate
from bayestwin.report import render_report
from bayestwin.report.prose import interrupted, verdict


def altered(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    return {name: node.to_dataset().copy(deep=True) for name, node in tree.children.items()}


def rebuilt(groups: dict[str, xr.Dataset], tree: xr.DataTree, **attrs: object) -> xr.DataTree:
    built = xr.DataTree.from_dict(groups)
    built.attrs = tree.attrs | attrs
    return built


def section(page: str, name: str) -> str:
    return page.split(f'id="{name}"')[1].split("</section>")[0]


def test_good_result_passes_and_says_so(pages):
    top = pages["room"].split('id="twin"')[0]
    assert 'class="verdict pass"' in top
    assert "gates passed." in top
    assert "all intervals cover as promised (indoor: 960 observations)" in top


def test_six_observations_are_not_said_to_cover_as_promised(pages):
    top = pages["lynx_hare"].split('id="twin"')[0]
    assert 'class="verdict warn"' in top
    assert "gates passed, but too little was held out to tell" in top
    assert "of hare it cannot be told (6 observations" in top


def test_without_held_out_telemetry_the_page_says_what_to_do(small):
    page = render_report(small.posterior)
    assert "Whether intervals cover as promised is not known" in page.split('id="twin"')[0]
    for name in ("coverage", "scores"):
        assert "No telemetry was held out" in section(page, name)
        assert "<table" not in section(page, name)
    assert "held out →" not in page


def test_forecast_without_telemetry_is_called_a_forecast(small):
    page = render_report(small.posterior, small.forecast)
    assert ">forecast →</text>" in section(page, "data")
    assert "There is a forecast, but no telemetry was held out" in section(page, "coverage")


def test_telemetry_without_forecast_is_drawn_and_not_judged(small):
    page = render_report(small.posterior, validation=small.validation)
    assert ">held out →</text>" in section(page, "data")
    assert "nothing was predicted for it" in section(page, "coverage")


def test_forecast_of_other_times_is_not_judged(small):
    page = render_report(small.posterior, small.forecast.isel(time=[0, 1]), validation=small.validation)
    assert "cannot be held against the held-out telemetry" in section(page, "coverage")
    assert "a time that is not in the forecast" in section(page, "coverage")


def test_failed_gates_stand_first_with_what_to_do(small):
    groups = altered(small.posterior)
    groups["posterior"]["alpha"][3] += 1.0
    groups["sample_stats"]["diverging"][0, :40] = True
    page = render_report(rebuilt(groups, small.posterior), small.forecast, validation=small.validation)
    top = page.split('id="twin"')[0]
    assert 'class="verdict fail"' in top
    assert "Do not rely on this result" in top
    assert "40 of 4,000 transitions diverged" in top
    assert top.count("✗ failed") >= 2
    assert 'class="tile fail"' in top
    assert "Red squares: where transitions diverged" in section(page, "pairs")
    row = section(page, "parameters").split(">alpha<")[1].split("</tr>")[0]
    assert re.search(r'class="n fail" data-value="1[.]\d+">1[.]\d+ <span title="outside its limit">✗', row)  # R̂


@pytest.mark.thorough
def test_a_factor_of_the_residuals_stands_beside_the_parameters(small):
    right, wrong = (Gate("residuals", fine, 0.1 if fine else 0.8, 0.38, "residuals", "warn") for fine in (True, False))
    for gate, told in ((right, False), (wrong, True)):
        page = render_report(small.posterior, gates=[gate])
        assert ("too narrow, by up to a factor of 3." in section(page, "parameters")) is told


def test_intervals_too_narrow_are_no_success(small):
    groups = altered(small.forecast)
    middle = groups["predictions"].median(("chain", "draw"))
    groups["predictions"] = (middle + 0.01 * (groups["predictions"] - middle)).transpose("chain", "draw", "time")
    page = render_report(small.posterior, rebuilt(groups, small.forecast), validation=small.validation)
    top = page.split('id="twin"')[0]
    assert 'class="verdict warn"' in top
    assert "not all intervals cover as promised" in top
    assert "intervals of hare are too narrow" in top
    assert 'class="mark fail"' in section(page, "coverage")


def test_single_chain_is_not_called_agreement(small):
    groups = {
        name: data.isel(chain=[0]) if "chain" in data.dims else data for name, data in altered(small.posterior).items()
    }
    page = render_report(rebuilt(groups, small.posterior))
    assert 'class="verdict fail"' in page
    assert "there is only one" in section(page, "chains")
    assert (
        section(page, "parameters").count('class="n fail" data-value="NaN">NaN') == 3
    )  # R̂ of each; their ESS are fine


def test_not_a_number_is_shown_and_not_hidden(small):
    groups = altered(small.posterior)
    groups["posterior"]["beta"][1, 5] = np.nan
    page = render_report(rebuilt(groups, small.posterior))
    row = section(page, "parameters").split(">beta<")[1].split("</tr>")[0]
    assert row.count("NaN") >= 5
    assert "cannot be drawn" in section(page, "prior")
    assert "1 quantity cannot be drawn" in section(page, "pairs")
    assert "largest R̂</dt><dd>NaN" in page


def test_failed_solves_are_counted_and_located(small):
    page = render_report(small.posterior)
    assert "failed solves</dt><dd>3<small>of 4,000" in page
    assert "3 of 4,000 (chain 0: 3)" in section(page, "provenance")
    assert "Orange dots: where chains stood when a proposed solve failed" in section(page, "pairs")


def test_bands_say_that_a_draw_failed_to_solve(small):
    groups = altered(small.posterior)
    groups["posterior_predictive"]["hare"][0, 0, 9:] = np.nan
    page = render_report(rebuilt(groups, small.posterior))
    assert f"up to < 1{NARROW}% are not, since their solve has failed by then" in html.unescape(section(page, "data"))


@pytest.mark.parametrize("flag", [True, "true"])
def test_interruption_is_told(flag):
    assert interrupted(xr.DataTree(xr.Dataset(attrs={"interrupted": flag})))
    found = verdict([Gate("rhat", True, 1.0, 1.01, "fine")], None, interrupted=True)
    assert found.status == "warn"
    assert found.lines[0].startswith("Sampling was interrupted")


@pytest.mark.parametrize("attrs", [{}, {"interrupted": False}, {"interrupted": "false"}])
def test_a_whole_run_is_not_called_interrupted(attrs):
    assert not interrupted(xr.DataTree(xr.Dataset(attrs=attrs)))


def test_missing_groups_and_records_are_told(small):
    groups = altered(small.posterior)
    for name in ("prior", "posterior_predictive", "sample_stats"):
        del groups[name]
    tree = rebuilt(groups, small.posterior)
    del tree.attrs["starts"]
    page = render_report(tree)
    assert "holds no draws of the prior" in section(page, "prior")
    assert "no predictive draws" in section(page, "data")
    assert "does not say where its chains started" in section(page, "starts")
    assert "Residuals cannot be computed" in section(page, "residuals")
    assert "No record of the run was passed" in section(page, "provenance")


def test_no_gates_is_no_success():
    found = verdict([], None, interrupted=False)
    assert found.status == "warn"
    assert "Nothing was judged" in found.headline


def test_warnings_are_told_and_do_not_forbid():
    gates = [Gate("rhat", True, 1.0, 1.01, "fine"), Gate("prior_edge", False, 0.5, 0.1, "look", "warn")]
    found = verdict(gates, None, interrupted=False)
    assert (found.status, found.gates) == ("warn", (gates[1],))
    assert "No gate failed, but 1 of 2 warned (prior_edge)." in found.headline
