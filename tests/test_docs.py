"""The site says what is there: every public name, every command, every model, and an example that runs."""

import pathlib
import pkgutil
import re
import runpy

import pytest
import yaml

import bayestwin as bt

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = runpy.run_path(str(ROOT / "tools/make_pages.py"))
OURS = '--8<-- "docs/coming-from/index.md:ours"'
COMPARED = ("ctsm-r", "nlmixr2", "pybop", "pymc", "pypesto", "stan")


def test_every_public_name_is_in_the_reference_once() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.md"))]
    documented = re.findall(r"^::: bayestwin\.([\w.]+)$", "\n".join(texts), flags=re.MULTILINE)
    assert sorted(path.rpartition(".")[2] for path in documented) == sorted(bt.__all__)
    for path in documented:
        module, _, name = path.rpartition(".")
        thing = pkgutil.resolve_name(f"bayestwin.{module}:{name}" if module else f"bayestwin.{name}")
        assert thing is getattr(bt, name), path


@pytest.mark.parametrize("name", MADE["PAGES"])
def test_a_page_that_is_made_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == MADE["PAGES"][name](), "run `make pages`"


def test_every_model_has_its_entry_and_pictures_are_small() -> None:
    entries = re.findall(r"^## (\w+)$", (DOCS / "examples.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert entries == sorted(path.parent.name for path in ROOT.glob("models/*/twin.py"))
    pictures = list((DOCS / "pictures").iterdir())
    assert len(pictures) >= 3
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert {path.name for path in pictures} == set(re.findall(r"\(pictures/([\w.]+)\)", pages))
    assert all(path.stat().st_size <= 60_000 for path in pictures)


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    shown = set(re.findall(r"'([\w/-]+\.md)'", str(settings["nav"])))
    assert shown == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_the_same_job_stands_on_every_page_of_other_tools() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "coming-from").glob("*.md")}
    assert set(pages) - {"index"} == set(COMPARED)
    for name in COMPARED:
        assert OURS in pages[name]
        assert "## Their word, ours" in pages[name]
    assert OURS in (DOCS / "index.md").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_the_job_runs_as_it_stands_and_finds_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    """The truth: a rate of 0.1 per minute from 80 °C, read with a standard deviation of 1 °C."""
    text = (DOCS / "coming-from/index.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"start:ours\] -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    space: dict[str, object] = {}
    exec(compile(code, "cooling.py", "exec"), space)
    assert "pass 4 of 4 chains agree" in capsys.readouterr().out
    posterior = space["cooled"]["posterior"]
    for name, truth in {"rate": 0.1, "body_initial": 80.0, "body_scale": 1.0}.items():
        assert abs(posterior[name].mean() - truth) < 4.0 * posterior[name].std()


@pytest.mark.slow
def test_worked_examples_end_in_tables_that_hold_the_truth(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: 6 K/W and 8 kWh/K of the home, 35, 22 and 20 mΩ typical of the cells, 1.2/h and 2.8 L/h of patients.

    A home that loses three tenths less needs less heat by about that share, of which sun and windows have a part.
    """
    monkeypatch.chdir(tmp_path)
    texts = [(DOCS / name).read_text(encoding="utf-8") for name in ("fleets.md", "worked-examples.md")]
    space: dict[str, object] = {}
    exec(
        compile("\n".join(re.findall(r"```python\n(.*?)```", "".join(texts), flags=re.DOTALL)), "page.py", "exec"),
        space,
    )
    for name, truth in {"R": 6.0, "C": 8.0, "aperture": 4.0}.items():
        draws = space["known"]["posterior"][name]
        assert abs(draws.mean() - truth) < 4.0 * draws.std()
    energy = space["outcome"]["energy (kWh)"].mean(("chain", "draw"))
    assert 0.6 < energy.sel(plan="insulated") / energy.sel(plan="as it is") < 0.75
    for found, truths in (
        (bt.population(space["cell"], space["pack"], prob=0.99), {"R_10": 0.035, "R_50": 0.022, "R_90": 0.020}),
        (bt.population(space["patient"], space["study"], prob=0.99), {"ka": 1.2, "clearance": 2.8}),
    ):
        for name, truth in truths.items():
            one = found.sel(quantity=name)
            assert one["typical_lower"] < truth < one["typical_upper"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"retrofit.png", "resistance.png", "individual_fits.png"}


@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<script src="https://example.org/a.js"></script>', True),
        ('<link rel="stylesheet" href="//example.org/a.css">', True),
        ('<img src="https://example.org/a.png">', True),
        ('<a href="https://example.org">elsewhere</a><script src="assets/a.js"></script>', False),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(tmp_path: pathlib.Path, page: str, loads: bool) -> None:
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    assert bool(MADE["loaded_from_elsewhere"](tmp_path)) is loads
