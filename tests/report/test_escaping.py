"""Text from users cannot become markup in the report, whether in tables, sentences or pictures (fault 91)."""

import copy
from html.parser import HTMLParser

import pytest
import xarray as xr

from bayestwin.assess import Gate
from bayestwin.report import render_report

EVIL = "<script>alert(1)</script>"
NAME = "<script>alert(1)"  # a name cannot hold a slash
BREAKOUT = '"><img src=x onerror=alert(1)>'


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def poisoned(posterior: xr.DataTree) -> xr.DataTree:
    """The posterior with hostile text wherever a user can write some."""
    description = copy.deepcopy(posterior.attrs["description"])
    description |= {"name": EVIL, "doc": f"first {EVIL}\n\nsecond {BREAKOUT}", "equations": f"x = 1 # {EVIL}"}
    description["time_unit"] = EVIL
    for kind in ("states", "parameters", "observations"):
        for entry in description[kind]:
            entry.update({key: EVIL + BREAKOUT for key in entry if key != "name"})
    description["inputs"] = [{"name": EVIL, "unit": EVIL, "doc": BREAKOUT, "hold": EVIL}]
    groups = {name: node.to_dataset().copy(deep=True) for name, node in posterior.children.items()}
    for dataset in groups.values():
        for variable in dataset.data_vars.values():
            variable.attrs = {"units": f"$x^$ {EVIL}", "long_name": BREAKOUT}
    groups = {name: data.rename({"alpha": NAME}) if "alpha" in data else data for name, data in groups.items()}
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = posterior.attrs | {"description": description, "job": f'{{"{EVIL}": "{EVIL}"}}', "solver": EVIL}
    return tree


@pytest.fixture(scope="module")
def page(small) -> str:
    gate = Gate("rhat" + EVIL, False, 2.0, 1.01, f"see `{EVIL}` and {BREAKOUT}")
    return render_report(poisoned(small.posterior), gates=[gate], provenance={EVIL: {BREAKOUT: EVIL}, "list": [EVIL]})


def test_hostile_text_stays_text(page):
    seen = Seen()
    seen.feed(page)
    assert "img" not in seen.tags
    assert seen.handlers == []
    assert page.count("<script") == 1  # the page's own, see `test_policy.py`
    # shown, not swallowed: name, doc, equations, units, gate, provenance
    assert seen.text.count(EVIL) >= 20


def test_units_are_escaped_inside_pictures(page):
    figure = page.split('id="prior"')[1].split("</section>")[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in figure


def test_dollar_signs_are_text_and_not_formulas(page):
    assert "beta ($x^$ &lt;script&gt;" in page
