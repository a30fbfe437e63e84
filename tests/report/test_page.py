"""The report is one complete page that needs nothing beside itself and stays small."""

import json
import re
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from bayestwin.report import posteriors, render_report
from bayestwin.report.page import drawing
from bayestwin.report.reading import read_quantities

PROVENANCE = {"seconds": {"calibrate": 14.218}, "versions": {"jax": "0.12.0"}, "packages": ["a", "b"]}
SECTIONS = ["verdict", "twin", "data", "parameters", "prior", "pairs", "chains", "starts"]
SECTIONS += ["diagnostics", "coverage", "scores", "residuals", "provenance"]
VOID = {"meta", "br", "link", "img", "hr"}


class Outline(HTMLParser):
    """Tags, ids, links and loads of a page; fails on tags that do not close as they opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.labels: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, tag: str, found: dict[str, str | None]) -> None:
        self.ids += [found["id"]] if found.get("id") else []
        for name in ("href", "xlink:href", "src", "srcset", "data", "action", "poster"):
            value = found.get(name) or ""
            (self.anchors if value.startswith("#") else self.loads).append(value if value[:1] == "#" else (tag, value))
        if tag == "svg":
            self.labels.append(found.get("aria-label") or "")
        self.handlers += [name for name in found if name.startswith("on")]


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    return parsed


@pytest.mark.parametrize("name", ["lynx_hare", "room"])
def test_every_section_is_there_in_order_and_in_the_contents(pages, name):
    page = pages[name]
    places = [page.index(f'id="{section}"') for section in SECTIONS]
    assert places == sorted(places)
    assert all(f'href="#{section}"' in page for section in SECTIONS)


@pytest.mark.parametrize("name", ["lynx_hare", "room"])
def test_page_is_well_formed_and_loads_nothing(pages, name):
    parsed = outline(pages[name])
    assert not [load for load in parsed.loads if load[1]]
    assert parsed.tags.isdisjoint({"link", "iframe", "object", "embed", "img", "foreignobject"})
    assert parsed.handlers == []
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", pages[name])
    assert not re.search(r"url\((?!#)", pages[name])


@pytest.mark.parametrize("name", ["lynx_hare", "room"])
def test_ids_are_unique_and_every_reference_resolves(pages, name):
    parsed = outline(pages[name])
    assert len(parsed.ids) == len(set(parsed.ids))
    inner = re.findall(r"url\(#([^)]+)\)", pages[name])
    assert {anchor[1:] for anchor in parsed.anchors} | set(inner) <= set(parsed.ids)


@pytest.mark.parametrize(("name", "count"), [("lynx_hare", 7), ("room", 9)])
def test_pictures_are_there_and_say_what_they_show(pages, name, count):
    labels = outline(pages[name]).labels
    assert len(labels) == count  # the room has a closer look and a hidden state besides
    assert all(len(label) > 20 for label in labels)
    assert len(set(labels)) == count


@pytest.mark.parametrize("name", ["lynx_hare", "room"])
def test_page_stays_small(pages, name):
    assert len(pages[name].encode()) < 3_000_000


@pytest.mark.parametrize("name", ["lynx_hare", "room"])
def test_intervals_say_prob_and_kind(pages, name):
    figure = pages[name].split('id="data"')[1].split("</section>")[0]
    assert "50\u202f% and 90\u202f% equal-tailed intervals of a new observation" in figure
    table = pages[name].split('id="parameters"')[1].split("</section>")[0]
    assert "90\u202f% interval (equal-tailed): lower end" in table


def test_held_out_part_inputs_and_gaps_are_drawn(pages):
    figure = pages["room"].split('id="data"')[1].split("</section>")[0]
    for words in ("held out →", "nothing observed", "outdoor (°C)", "heating (W)", "envelope (°C)"):
        assert f">{words}</text>" in figure
    assert "nothing observed" not in pages["lynx_hare"]


def test_every_unit_stands_with_its_quantity(pages):
    table = pages["room"].split('id="parameters"')[1].split("</section>")[0]
    rows = dict(re.findall(r'<th scope="row">(\w+)<.*?<td class="unit">(.*?)</td>', table))
    assert rows["C_env"] == "10⁶ J/K"
    assert rows["R_out"] == "K/W"
    assert rows["indoor_scale"] == "°C"


def test_colours_follow_the_reader_and_are_not_fixed_in_pictures(pages):
    pictures = re.findall(r"<svg.*?</svg>", pages["room"], flags=re.DOTALL)
    assert all("var(--" in picture for picture in pictures)
    assert not re.search(r"(fill|stroke): #", "".join(pictures))
    assert "prefers-color-scheme: dark" in pages["room"]


def test_settings_of_matplotlib_come_back(small):
    with mpl.rc_context({"font.size": 23.0, "text.usetex": False, "svg.fonttype": "path"}):
        page = render_report(small.posterior)
        assert mpl.rcParams["font.size"] == 23.0
        assert mpl.rcParams["svg.fonttype"] == "path"
    assert "font-size: 23px" not in page


def test_provenance_is_told(pages):
    part = pages["lynx_hare"].split('id="provenance"')[1]
    for words in ("3f" * 32, "a7" * 32, "c4" * 32, "seconds · calibrate", "14.218", "versions · jax", "0.12.0", "a, b"):
        assert words in part


def test_what_other_commands_are_set_to_is_folded_away(lynx_hare):
    posterior = lynx_hare.posterior.copy()
    settings = {
        "calibrate": {"num_chains": 4},
        "gates": {"max_rhat": 1.01},
        "sbc": {"seed": 7},
        "watch": {"every": "PT1M"},
    }
    posterior.attrs = posterior.attrs | {"job": json.dumps(settings)}
    told = {"run": "first", "began": "2026-01-01", "versions": {"jax": "0.12.0"}, "code_sha256": "ab" * 32}
    page = render_report(posterior, provenance=told)
    part = page.split('id="provenance"')[1].split("</section>")[0]
    folded = "".join(re.findall(r'<details class="folded">.*?</details>', part, flags=re.DOTALL))
    shown = re.sub(r"<details.*?</details>", "", part, flags=re.DOTALL)
    for words in ("calibrate · num_chains", "gates · max_rhat", "first", "2026-01-01", "ab" * 32):
        assert words in shown
        assert words not in folded
    for words in ("sbc · seed", "watch · every", "versions · jax"):
        assert words in folded
        assert words not in shown


@pytest.mark.thorough
def test_same_result_gives_the_same_page_also_with_attributes_as_text(pages, lynx_hare):
    stored = xr.DataTree.from_dict({name: node.to_dataset() for name, node in lynx_hare.posterior.children.items()})
    stored.attrs = dict(lynx_hare.posterior.attrs)
    for name in ("description", "starts", "interrupted"):
        stored.attrs[name] = json.dumps(stored.attrs[name])
    again = render_report(stored, lynx_hare.forecast, validation=lynx_hare.validation, provenance=PROVENANCE)
    assert again == pages["lynx_hare"]


def test_quantities_that_find_no_room_are_counted():
    rng = np.random.default_rng(1)
    quantities = read_quantities(
        xr.DataTree.from_dict(
            {"posterior": xr.Dataset({f"q{i}": (("chain", "draw"), rng.normal(size=(4, 50))) for i in range(14)})}
        )
    )
    with drawing():
        assert "6 quantities are left out" in posteriors.pairs(quantities, xr.Dataset()).caption
        assert "2 quantities with smaller R̂ left out" in posteriors.traces(quantities).caption
