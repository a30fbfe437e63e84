"""In a real browser pages open without a complaint, show their pictures, follow the theme, copy tables, print light."""

import pathlib
import re
import shutil

import browser
import pytest
import several
from worlds import planted

from bayestwin.report.page import DARK, LIGHT, fill
from bayestwin.report.validate import render_validation

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(browser.NAMES)} is installed")

CLIPBOARD = "{writeText: async (text) => { window.copied = text; }}"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
DIFFERENCE = {
    "labels": ("A", "B"),
    "titles": (several.EVIL, "second"),
    "headline": "nothing",
    "doubts": [],
    "runs": [],
    "prob": "90 %",
    "parameters": [],
    "picture": None,
    "only": [],
    "metrics": [],
    "metrics_note": "",
    "changes": [("Settings", [{"name": several.EVIL, "first": "=1+1", "second": "-2"}])],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pages: dict[str, str], experiments: pathlib.Path) -> pathlib.Path:
    """Every kind of page as a file."""
    where = tmp_path_factory.mktemp("pages")
    for name, page in pages.items():
        (where / f"{name}.html").write_text(page, encoding="utf-8")
    (where / "difference.html").write_text(fill("difference.html", DIFFERENCE), encoding="utf-8")
    row = {"name": several.EVIL, "status": "finished", "why": "", "attempts": "1", "seconds": "2"}
    row |= {"coverage": "", "gates": "", "run": "room", "link": "room.html", "warned": [], "said": [], "parameters": []}
    row |= {"missed": False}
    long = row | {
        "name": "cell/cell1_soc10",
        "warned": ["modes", "prior_edge", "residuals"],
        "coverage": "voltage 100 % ?",
    }
    long |= {"run": "20261201-014027-99d09fff"}
    content = {"tasks": [row, long], "words": several.EVIL, "prob": "90 %"}
    (where / "batch.html").write_text(fill("batch.html", content), encoding="utf-8")
    page = render_validation(planted("holds"), {}, folder="models/tank", provenance={})
    (where / "validation.html").write_text(page, encoding="utf-8")
    shutil.copytree(experiments, where / "experiments")
    return where


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory):
    with browser.started(str(PROGRAM), tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def shown(chromium: browser.Browser, folder: pathlib.Path) -> browser.Browser:
    """The browser, showing the report about the room by a light theme."""
    chromium.like()
    chromium.open(folder / "room.html")
    return chromium


def press(chromium: browser.Browser, section: str) -> None:
    """Click the copy button of a section's first table, and let it finish."""
    wait = "await new Promise((done) => setTimeout(done, 50))"
    chromium.run(f"(async () => {{ document.querySelector('#{section} .copy').click(); {wait}; }})()")


def replace_clipboard(chromium: browser.Browser, value: str) -> None:
    chromium.run(f"Object.defineProperty(navigator, 'clipboard', {{value: {value}}})")


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[place : place + 2], 16) for place in (1, 3, 5)))


def test_all_pages_open_without_a_complaint_and_complete(chromium: browser.Browser, folder: pathlib.Path) -> None:
    chromium.like()
    files = sorted(folder.rglob("*.html"))
    assert len(files) == 9
    for file in files:
        assert chromium.open(file) == [], file.name
        flat = "Array.from(document.querySelectorAll('img, figure svg'), (one) => one.getBoundingClientRect())"
        assert chromium.run(f"{flat}.every((box) => box.width > 100 && box.height > 50)"), file.name
        links = chromium.run("Array.from(document.querySelectorAll('a[href]'), (one) => one.getAttribute('href'))")
        inner = [link[1:] for link in links if link.startswith("#")]
        assert chromium.run(f"{inner!r}.every((name) => document.getElementById(name))"), file.name
        assert all((file.parent / link).is_file() for link in links if not link.startswith("#")), links
        assert chromium.run("document.scripts.length") == 1, file.name
        wide = chromium.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{file.name} is {wide} pixels too wide"


@pytest.mark.parametrize("width", [1200, 800])
def test_no_column_of_a_table_is_cut_off(chromium: browser.Browser, folder: pathlib.Path, width: int) -> None:
    chromium.like()
    chromium.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    cut = "[...document.querySelectorAll('.wide')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
    words = f"{cut}.map((one) => one.querySelector('caption').textContent)"
    try:
        for file in [folder / f"{name}.html" for name in ("room", "lynx_hare", "validation", "batch")]:
            chromium.open(file)
            assert chromium.run(words) == [], file.name
        lines = (
            "range.selectNodeContents(document.querySelectorAll('#tasks tbody th')[1]); range.getClientRects().length"
        )
        assert chromium.run(f"const range = document.createRange(); {lines}") == 1, "the name of a task is broken"
    finally:
        chromium.send("Emulation.clearDeviceMetricsOverride")


def test_a_script_in_a_name_is_shown_as_text(chromium: browser.Browser, folder: pathlib.Path) -> None:
    for name in ("difference.html", "batch.html", "experiments/index.html"):
        chromium.open(folder / name)
        assert several.EVIL in chromium.run("document.querySelector('main').innerText"), name


def test_every_experiment_is_one_step_from_all_and_back(chromium: browser.Browser, folder: pathlib.Path) -> None:
    chromium.open(folder / "experiments" / "index.html")
    found = chromium.run("Array.from(document.querySelectorAll('tbody th a'), (one) => [one.textContent, one.href])")
    assert [name for name, _ in found] == list(several.NAMES)
    for place, (name, target) in enumerate(found):
        chromium.open(folder / "experiments" / target.rsplit("/", 1)[1])
        assert name in chromium.run("document.querySelector('h1').textContent")
        back = chromium.run("Array.from(document.querySelectorAll('nav.beyond a'), (one) => one.getAttribute('href'))")
        beside = [found[one][1].rsplit("/", 1)[1] for one in (place - 1, place + 1) if 0 <= one < len(found)]
        assert back == ["index.html", *beside]


def test_the_page_follows_the_system_the_switch_and_the_printer(shown: browser.Browser) -> None:
    line = "getComputedStyle(document.querySelector('figure svg text')).fill"
    for scheme, colours in (("dark", DARK), ("light", LIGHT)):
        shown.like(scheme=scheme)
        assert shown.run(BACKGROUND) == rgb(colours["paper"])
        assert shown.run(line) in {rgb(colours[name]) for name in ("ink", "muted")}
    choose = (
        "((one) => {{ one.value = '{}'; one.dispatchEvent(new Event('change')); }})(document.getElementById('theme'))"
    )
    for word, colours in (("dark", DARK), ("light", LIGHT)):
        shown.like(scheme="light" if word == "dark" else "dark")
        shown.run(choose.format(word))
        assert shown.run(BACKGROUND) == rgb(colours["paper"])
    shown.run(choose.format("dark"))
    shown.like(scheme="dark", media="print")
    assert shown.run(BACKGROUND) == rgb(LIGHT["paper"])
    assert shown.run(line) in {rgb(LIGHT[name]) for name in ("ink", "muted")}
    hidden = "Array.from(document.querySelectorAll('nav, button, .skip, .theme'), (one) => one.getClientRects().length)"
    assert set(shown.run(hidden)) == {0}
    paper = "Array.from(document.querySelectorAll('{}'), (one) => one.getClientRects().length > 0)"
    assert set(shown.run(paper.format("#provenance .folded"))) == {False}
    assert shown.run(paper.format("#provenance .paper")) == [True]
    shown.run("dispatchEvent(new Event('beforeprint'))")
    assert shown.run("document.querySelectorAll('details:not([open])').length") == 0
    shown.like()
    assert shown.run(paper.format("#provenance .paper")) == [False]
    assert set(shown.run(paper.format("#provenance .folded"))) == {True}
    shown.run(choose.format(""))


def test_keys_reach_the_content_the_theme_and_the_tables(shown: browser.Browser) -> None:
    reached = []
    for _ in range(40):
        shown.key("Tab", 9)
        reached.append(
            shown.run("(({tagName, className, id}) => `${tagName}.${className}#${id}`)(document.activeElement)")
        )
        width = shown.run("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px", f"focus on {reached[-1]} is not seen"
    assert reached[0] == "A.skip#"
    assert reached[1] == "SELECT.#theme"
    assert "BUTTON.copy#" in reached


def test_a_table_is_copied_with_units_and_whole_numbers(
    chromium: browser.Browser, folder: pathlib.Path, lynx_hare
) -> None:
    chromium.open(folder / "lynx_hare.html")
    replace_clipboard(chromium, CLIPBOARD)
    press(chromium, "parameters")
    lines = chromium.run("window.copied").split("\n")
    head, first = (line.split("\t") for line in lines[:2])
    assert head[:3] == ["quantity", "unit", "mean [unit of the row]"]
    assert head[6] == "narrower than prior by [%]"
    assert head[7] == "R̂ [1]"
    assert len({line.count("\t") for line in lines}) == 1
    assert first[0].startswith("alpha")
    assert float(first[2]) == float(lynx_hare.posterior["posterior"]["alpha"].mean())
    assert chromium.run("document.getElementById('said').textContent") == "Table copied."


def test_without_a_clipboard_the_table_is_copied_by_selection(shown: browser.Browser) -> None:
    replace_clipboard(shown, "undefined")
    shown.run("document.addEventListener('copy', () => { window.chosen = document.activeElement.value; })")
    press(shown, "parameters")
    assert re.match(r"quantity\tunit\tmean", shown.run("window.chosen"))
    assert shown.run("document.activeElement.className") == "copy"
    assert shown.run("document.querySelectorAll('textarea').length") == 0


def test_what_a_spreadsheet_would_take_for_a_formula_is_copied_as_text(
    chromium: browser.Browser, folder: pathlib.Path
) -> None:
    chromium.open(folder / "difference.html")
    replace_clipboard(chromium, CLIPBOARD)
    press(chromium, "changes")
    assert chromium.run("window.copied").split("\n")[1].split("\t") == [several.EVIL, "'=1+1", "-2"]
