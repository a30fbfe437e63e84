"""Everybody can read a page: contrast, order of headings, what pictures say, units of numbers, kinds of intervals."""

import itertools
import re
from html.parser import HTMLParser

import pytest

from bayestwin.report.style import DARK, LIGHT

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


class Reader(HTMLParser):
    """Headings, landmarks, tables and pictures of a page, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.landmarks: list[str] = []
        self.pictures: list[str] = []
        self.tables: list[dict[str, list]] = []
        self.lang = ""
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "html":
            self.lang = found.get("lang") or ""
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag in ("main", "nav", "header", "footer"):
            self.landmarks.append(tag)
        if tag == "svg":
            self.pictures.append(found.get("aria-label") or "")
        if tag == "table":
            self.tables.append({"caption": [], "heads": [], "rows": [], "class": found.get("class")})
        if tag == "caption":
            self._into = self.tables[-1]["caption"]
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("th", "td"):
            cell = {"tag": tag, "text": "", "scope": found.get("scope"), "class": found.get("class") or ""}
            cell |= {"unit": found.get("data-unit"), "value": found.get("data-value")}
            self.tables[-1]["rows"][-1].append(cell)

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)
        elif self.tables and self.tables[-1]["rows"] and self.tables[-1]["rows"][-1]:
            self.tables[-1]["rows"][-1][-1]["text"] += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def faults(page: str) -> list[str]:
    """What keeps somebody from reading a page."""
    found, reader = [], read(page)
    if reader.lang != "en" or reader.headings.count(1) != 1 or reader.headings[0] != 1:
        found.append("no language, or not one `h1` in front")
    steps = zip(reader.headings, reader.headings[1:], strict=False)
    found += [f"h{high} follows h{low}" for low, high in steps if high > low + 1]
    found += [
        f"{name} {reader.landmarks.count(name)} times" for name in ("main", "nav") if reader.landmarks.count(name) != 1
    ]
    found += [f"no numbers: {words}" for words in reader.pictures if len(re.findall(r"\d+(?:\.\d+)?", words)) < 2]
    for table in reader.tables:
        caption = "".join(table["caption"])
        found += [] if len(caption) > 5 else ["a table without a caption"]
        if table["class"] != "facts":
            found += _columns(caption, table["rows"])
        found += [
            f"no scope: {cell['text']}"
            for row in table["rows"]
            for cell in row
            if cell["tag"] == "th" and not cell["scope"]
        ]
    return found


def _columns(caption: str, rows: list[list[dict]]) -> list[str]:
    """Numbers without a unit, and intervals that do not say which."""
    heads, found = rows[0], []
    names = [cell["text"].strip() for cell in heads]
    for place, head in enumerate(heads):
        numbers = [row[place] for row in rows[1:] if "n" in row[place]["class"].split()]
        if numbers and not head["unit"]:
            found.append(f"numbers without a unit: {caption}: {head['text']}")
        if head["unit"] == "unit of the row" and "unit" not in names:
            found.append(f"no column with the unit: {caption}")
    words = " ".join([caption, *names])
    if re.search(r"interval", words) and not re.search(r"equal-tailed|HDI|bootstrap", words):
        found.append(f"intervals of no kind: {caption}")
    if re.search(r"interval", words) and not re.search(r"prob\b|\d\u202f%", words):
        found.append(f"intervals of no prob: {caption}")
    if re.search(r"interval", words) and not re.search(r"[Pp]osterior|predictive", words):
        found.append(f"intervals of what: {caption}")
    return found


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
