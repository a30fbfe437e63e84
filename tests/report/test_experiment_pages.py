"""Several experiments have a page each, and one about all that says how each does on what was held out."""

import pathlib
import re

import numpy as np
import pytest
import several
from readable import faults, read

import bayestwin as bt
from bayestwin.assess.draws import alone
from bayestwin.report.experiments import file_name, own_forest
from bayestwin.report.reading import read_quantities
from bayestwin.report.tables import EarlierCheck


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("monday", "001-monday.html"),
        ("../../etc/passwd", "001-etc-passwd.html"),
        ("<script>", "001-script.html"),
        ("", "001.html"),
        ("«»", "001.html"),
        ("x" * 300, f"001-{'x' * 40}.html"),
    ],
)
def test_a_file_has_a_name_that_every_system_takes(name: str, file: str) -> None:
    assert file_name(1, name) == file


def test_names_that_look_alike_have_files_of_their_own() -> None:
    assert len({file_name(place, name).lower() for place, name in enumerate(("a/b", "a:b", "A b"), 1)}) == 3


def test_there_is_one_page_each_and_one_about_all_and_each_can_be_read(experiments: pathlib.Path) -> None:
    files = sorted(path.name for path in experiments.iterdir())
    assert files == ["001-monday.html", "002-script-alert-1---script.html", "003-tuesday-----so.html", "index.html"]
    for name in files:
        page = (experiments / name).read_text(encoding="utf-8")
        assert faults(page) == [], name
        assert page.count("<script") == 1, name


def test_the_page_about_all_says_what_was_held_out_of_each(experiments: pathlib.Path) -> None:
    page = (experiments / "index.html").read_text(encoding="utf-8")
    table = next(one for one in read(page).tables if "held out" in "".join(one["caption"]))
    posterior, forecast, future = several.results()
    found = bt.coverage(forecast, future)["coverage"].sel(prob=0.9, observation="level")
    for row, name in zip(table["rows"][1:], several.NAMES, strict=True):
        cells = [cell["text"].strip() for cell in row]
        assert cells[:3] == [name, "level", "15"]
        if name in future:
            assert float(row[4]["value"]) == pytest.approx(100 * float(found.sel(experiment=name)))
            assert cells[3] == "5"
        else:
            assert cells[3:] == ["–", "–", "", "–", "–"]
    assert "Of 3 experiments, 2 were held against what was held out." in page
    own = next(one for one in read(page).tables if "own quantities" in "".join(one["caption"]))
    rate = float(posterior["posterior"]["rate"].sel(experiment="monday").mean())
    assert float(own["rows"][1][3]["value"]) == pytest.approx(rate)


def test_of_experiments_of_which_nothing_was_held_out_no_empty_columns_are_shown(tmp_path: pathlib.Path) -> None:
    posterior, _, _ = several.results()
    page = bt.write_reports(posterior, tmp_path).read_text(encoding="utf-8")
    table = next(one for one in read(page).tables if "nothing was held out" in "".join(one["caption"]))
    assert [[cell["text"].strip() for cell in row] for row in table["rows"][1:]] == [
        [name, "level", "15"] for name in several.NAMES
    ]
    assert "Whether intervals cover as promised is not known" in page


def test_each_page_has_what_was_found_in_the_telemetry_of_its_experiment(tmp_path: pathlib.Path) -> None:
    """They said that nobody had looked, also where somebody had."""
    posterior, _, _ = several.results()
    found = [
        {"kind": "gap", "severity": "warn", "column": "level", "sentence": f"A gap in {k}.", "experiment": name}
        for k, name in enumerate(several.NAMES)
    ]
    bt.write_reports(posterior, tmp_path, checked=EarlierCheck("20261130-101500", found))
    pages = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.glob("0*.html"))]
    assert [[f"A gap in {k}." in page for k in range(3)] for page in pages] == np.eye(3, dtype=bool).tolist()
    assert not any("was not run" in page for page in pages)


def test_what_is_typical_of_a_population_is_a_line_among_its_members() -> None:
    posterior, _, _ = several.results()
    panels = []
    for name in several.NAMES:
        known = {one.name: one for one in read_quantities(alone(posterior.sel(experiment=name)))}
        panels.append((name, known))
    bare = own_forest(panels, ["rate"])
    pooled = own_forest(
        [(name, known | {"rate_typical": known["rate"]._replace(mean=1.0)}) for name, known in panels], ["rate"]
    )
    assert "Dashed: what is typical of the population." not in bare.caption
    assert "Dashed: what is typical of the population." in pooled.caption
    assert "stroke-dasharray: 3" not in bare.svg
    assert pooled.svg.count("stroke-dasharray: 3") == 1
    assert own_forest(panels, []) is None


def test_the_page_about_one_is_its_report(experiments: pathlib.Path) -> None:
    page = (experiments / "001-monday.html").read_text(encoding="utf-8")
    assert re.search(r"<h1>leak: monday</h1>", page)
    assert 'href="index.html"' in page
    table = next(one for one in read(page).tables if "Posterior of each quantity" in "".join(one["caption"]))
    heads = [row[0]["text"] for row in table["rows"][1:]]
    for head, name in zip(heads, ("rate", "level_initial", "level_scale"), strict=True):
        assert head.startswith(name)


def test_what_is_not_several_experiments_is_refused(tmp_path: pathlib.Path, small) -> None:
    with pytest.raises(bt.errors.InvalidInput, match="`render_report` writes the page about one"):
        bt.write_reports(small.posterior, tmp_path)


def test_what_was_held_out_of_an_unknown_experiment_is_refused(tmp_path: pathlib.Path) -> None:
    posterior, _, future = several.results()
    with pytest.raises(bt.errors.InvalidInput, match="`friday`"):
        bt.write_reports(posterior, tmp_path, validation={"friday": future["monday"]})
