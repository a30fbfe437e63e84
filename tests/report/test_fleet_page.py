"""The page about a fleet names who lies far from the population and nobody else, and its table can be sorted."""

import pathlib

import browser
import numpy as np
import pandas as pd
import pytest
import several
from readable import faults, read

from bayestwin.assess import Gate
from bayestwin.assess.population import AssetVerdict, Member, PopulationFound
from bayestwin.report.experiments import FleetOnPage, caterpillar, over_attributes, render_fleet
from bayestwin.report.page import drawing

EVIL = several.EVIL
MEANS = {"monday": 0.30, EVIL: 0.95, '../"tuesday" & «so»': 0.45}


def member(name: str, mean: float, alone: float, *, outlier: bool = False) -> Member:
    ends = (mean - 0.05, mean + 0.05, alone, alone - 0.1, alone + 0.1)
    return Member(name, mean, 0.03, *ends, surprise=1e-5 if outlier else 0.4, outlier=outlier)


MEMBERS = tuple(member(name, mean, mean + 0.1, outlier=name == EVIL) for name, mean in MEANS.items())
POPULATION = PopulationFound("rate", "1/h", (0.4, 0.3, 0.5), (0.2, 0.1, 0.3), (0.2, 0.1, 0.31), 0.25, MEMBERS)
ATTRIBUTES = pd.DataFrame({"size": [1.0, 2.0, 4.0], "same": 1.0}, index=list(MEANS))


def shown(*populations: PopulationFound) -> FleetOnPage:
    posterior, _, _ = several.results()
    reasons = {name: ("`rate` is far.",) if name == EVIL else () for name in MEANS}
    told = tuple(AssetVerdict(name, "warn" if own else "pass", own) for name, own in reasons.items())
    return FleetOnPage(
        posterior, (), populations, told, None, None, ATTRIBUTES, {"size": "m"}, ("Asset `x` has no rows.",)
    )


def page_of(*populations: PopulationFound) -> str:
    return render_fleet(shown(*populations), report="report.html", assets="assets", provenance={"run": EVIL})


def test_the_page_names_the_outlier_and_nobody_else() -> None:
    page = page_of(POPULATION)
    assert faults(page) == []
    assert (page.count("<script"), page.count("<i>")) == (1, 0)
    assert "Far from their population: &lt;script&gt;alert(1)&lt;/script&gt; (rate)." in page
    assert "Asset <code>x</code> has no rows." in page
    far = next(one for one in read(page).tables if "far from the population" in "".join(one["caption"]))
    assert [row[0]["text"].strip() for row in far["rows"][1:]] == [EVIL]
    assets = next(one for one in read(page).tables if "verdict on each asset" in "".join(one["caption"]))
    assert [row[0]["text"].strip() for row in assets["rows"][1:]] == list(MEANS)
    assert [float(row[6]["value"]) for row in assets["rows"][1:]] == list(MEANS.values())
    for number in range(1, 4):
        assert f'href="assets/00{number}-' in page


def test_a_fleet_without_outliers_says_so() -> None:
    calm = POPULATION._replace(members=tuple(one._replace(outlier=False) for one in MEMBERS))
    page = page_of(calm)
    assert "No asset is far from its population." in page
    assert "Diamonds" not in page
    assert "Nothing is pooled" in page_of()


def test_arrows_go_from_own_data_to_the_population_where_both_are_known() -> None:
    untold = POPULATION._replace(members=tuple(one._replace(alone=np.nan) for one in MEMBERS))
    near = POPULATION._replace(members=tuple(one._replace(alone=one.mean) for one in MEMBERS))
    with drawing():
        pictures = [caterpillar(0, one) for one in (POPULATION, untold, near)]
    assert "Arrows" in pictures[0].caption
    assert "Arrows" not in pictures[1].caption
    assert "3 assets whose own data say next to nothing" in pictures[1].caption
    sizes = [len(one.svg) for one in pictures]
    assert sizes[0] > sizes[1] + 500
    assert sizes[2] == sizes[1]


def test_attributes_that_differ_are_drawn() -> None:
    with drawing():
        drawn = over_attributes([POPULATION], ATTRIBUTES, {"size": "m"})
        assert over_attributes([POPULATION], ATTRIBUTES[["same"]], {}) is None
        assert over_attributes([POPULATION], pd.DataFrame(), {}) is None
    assert "rate over size from 1.00 to 4.00: rank correlation of means 0.50" in drawn.caption
    assert "same" not in drawn.caption


def test_a_picture_of_very_many_leaves_those_in_the_middle_out() -> None:
    many = tuple(member(f"asset {number}", number / 100.0, number / 100.0) for number in range(200))
    with drawing():
        drawn = caterpillar(0, POPULATION._replace(members=many))
    assert "50 assets in the middle are left out." in drawn.caption
    assert "asset 199" in drawn.svg
    assert "asset 100" not in drawn.svg


def test_assets_are_not_to_be_relied_on_where_all_together_are_not() -> None:
    bad = Gate("divergences", False, 3.0, 0.0, "3 transitions diverged.", "fail")
    words = "None of it is to be relied on"
    assert words not in page_of(POPULATION)
    assert words in render_fleet(shown(POPULATION)._replace(gates=(bad,)), report="r.html", assets="a", provenance={})


@pytest.mark.skipif(browser.find() is None, reason=f"none of {', '.join(browser.NAMES)} is installed")
def test_populations_fit_a_narrow_window_and_tables_are_printed_without_addresses(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "fleet.html"
    wide = POPULATION._replace(
        typical=(0.0412, 0.0312, 0.0512), spread=(0.208, 0.0665, 0.242), variation=(0.2, 0.1, 1.2)
    )
    page.write_text(page_of(*(wide._replace(name=one) for one in ("ka", "clearance", "volume"))), encoding="utf-8")
    with browser.started(str(browser.find()), tmp_path / "profile") as chromium:
        chromium.send("Emulation.setDeviceMetricsOverride", width=800, height=900, deviceScaleFactor=1, mobile=False)
        chromium.open(page)
        table = "document.querySelector('#population .wide')"
        assert chromium.run(f"{table}.scrollWidth - {table}.clientWidth") <= 1
        chromium.send("Emulation.setEmulatedMedia", media="print")
        shown = "getComputedStyle(document.querySelector('{} a'), '::after').content"
        assert chromium.run(shown.format("#assets tbody th")) == "none"
        assert "report.html" in chromium.run(shown.format("#assets .more"))


@pytest.mark.skipif(browser.find() is None, reason=f"none of {', '.join(browser.NAMES)} is installed")
def test_a_head_sorts_the_table(tmp_path: pathlib.Path) -> None:
    (tmp_path / "fleet.html").write_text(page_of(POPULATION), encoding="utf-8")
    rows = "Array.from(document.querySelectorAll('#assets tbody th'), (one) => one.textContent).join('|')"
    button = "document.querySelectorAll('#assets thead button.sort')[6]"
    with browser.started(str(browser.find()), tmp_path / "profile") as one:
        one.open(tmp_path / "fleet.html")
        up, down = "|".join(sorted(MEANS, key=MEANS.get)), "|".join(sorted(MEANS, key=MEANS.get, reverse=True))
        assert one.run(f"{button}.click(); {rows}") == up
        assert one.run(f"{button}.click(); {rows}") == down
        assert one.run(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"
        assert one.troubles == []
