"""Everybody can read a page: contrast, order of headings, what pictures say, units of numbers, kinds of intervals."""

import itertools
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from readable import faults, read

from bayestwin.report.page import DARK, LIGHT, dots, picture

WRITTEN = ("ink", "muted", "pass", "warn", "fail", "calibrated", "heldout")
"""Colours that text is written in."""


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, as WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_black_on_white_has_the_largest_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out(theme: dict[str, str]) -> None:
    pairs = itertools.product(WRITTEN, ("paper", "panel", "shade"))
    poor = {pair: contrast(*(theme[name] for name in pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if not ratio >= 4.5} == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_of_pictures_stand_out(theme: dict[str, str]) -> None:
    lines = [name for name in theme if name.startswith("chain")]
    assert {
        name: contrast(theme[name], theme["paper"]) for name in lines if contrast(theme[name], theme["paper"]) < 3
    } == {}


def test_squares_are_drawn_on_paper_too() -> None:
    """PDF (ISO 32000-1, 8.5.3.2) draws a stroke of no length where its ends are round, and nothing where square."""
    drawn = Figure((3, 2))
    dots(drawn.add_subplot(), np.arange(5.0), np.arange(5.0) ** 2, 3.0, 1.0, LIGHT["heldout"], square=True)
    (path,) = re.findall(
        r'<path d="([^"]*)"[^>]*stroke-width: 3;[^>]*linecap: square', str(picture(drawn, "p", "x").svg)
    )
    strokes = re.findall(r"M ?(\S+ \S+?)(?:L(\S+ \S+)|(h\S+))(?= |$)", path)
    assert len(strokes) == 5
    assert all(start != end for start, end, _ in strokes)


@pytest.mark.parametrize("name", ["lynx_hare", "room"])
def test_a_report_can_be_read(pages: dict[str, str], name: str) -> None:
    assert faults(pages[name]) == []


@pytest.mark.parametrize(
    ("text", "into", "fault"),
    [
        (
            '<th scope="col" class="n" data-unit="unit of the row" data-label="mean">',
            '<th scope="col" class="n">',
            "without a unit",
        ),
        ('<th scope="col">unit</th>', '<th scope="col">thing</th>', "no column with the unit"),
        ("equal-tailed", "some", "of no kind"),
        ("<h2>", "<h4>", "h4 follows h1"),
        (" scope=", " was=", "no scope"),
        ("<caption>", "<caption><!--", "without a caption"),
        ("<nav", "<div", "nav 0 times"),
    ],
)
def test_a_planted_fault_is_found(pages: dict[str, str], text: str, into: str, fault: str) -> None:
    page = pages["lynx_hare"]
    assert text in page
    planted = (
        page.replace(text, into)
        if into[-4:] != "<!--"
        else page.replace("<caption>", "<!--").replace("</caption>", "-->")
    )
    assert any(fault in one for one in faults(planted))


def test_a_rounded_number_keeps_its_digits(pages: dict[str, str], lynx_hare) -> None:
    table = next(t for t in read(pages["lynx_hare"]).tables if "Posterior of each quantity" in "".join(t["caption"]))
    row = next(row for row in table["rows"] if row[0]["text"].startswith("alpha"))
    assert float(row[2]["value"]) == float(lynx_hare.posterior["posterior"]["alpha"].mean())
    assert row[2]["text"].strip() != row[2]["value"]
