"""`validate` leaves a page that opens offline, files that say what they are about, and its verdict as an exit code."""

import html.parser
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import xarray as xr
from readable import faults
from tank_model import JOB, MakeModel, Ran, parse_strictly, run_command

import bayestwin as bt
from bayestwin.project.sections import Job

SETTINGS = """
[validate]
by = ["pump"]
origins = 2
horizon = 1.0
"""


@pytest.fixture(scope="module")
def validated(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`bayestwin validate` on a copy of the tank's run, with what another verb left beside it."""
    root = tmp_path_factory.mktemp("validated")
    model, results = root / "models" / "tank", root / "results"
    shutil.copytree(ran.model, model)
    shutil.copytree(ran.results, results)
    (model / "job.toml").write_text(JOB + SETTINGS, encoding="utf-8")
    twin_sha256 = json.loads((ran.runs[0] / "run.json").read_text())["twin_sha256"]
    other = results / "tank" / "20300101-000000-abcd"
    other.mkdir()
    record = {"run": other.name, "command": "sbc", "status": "finished", "twin_sha256": twin_sha256}
    record |= {"simulations": 99, "words": "<script>alert(1)</script>"}
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    bt.save(xr.DataTree(xr.Dataset({"rank": ("simulation", np.arange(3))})), other / "sbc.nc")
    code, out, err = run_command("validate", model, "--results", results)
    return Ran(code, out, err, model, results)


@pytest.fixture(scope="module")
def folder(validated: Ran) -> pathlib.Path:
    """The run folder of the validation."""
    (found,) = validated.results.glob("tank/*/validation.html")
    return found.parent


def test_it_leaves_its_files_and_says_what_they_are_about(validated: Ran, folder: pathlib.Path, ran: Ran) -> None:
    made = {"inputs", "run.json", "backtest.nc", "validation.nc", "validation.html"}
    assert {path.name for path in folder.iterdir()} == made
    record = parse_strictly((folder / "run.json").read_text())
    assert record["command"] == "validate"
    assert record["options"]["run"] == ran.runs[0].name
    assert {"backtest.nc", "validation.nc", "validation.html"} <= set(record["outputs"])
    first, second = validated.out.splitlines()[:2]
    assert first == f"Judged is run {ran.runs[0].name}."
    assert second == record["verdict"]["headline"]
    assert set(record["summary"]) == {"held_out", "backtest"}


def test_the_exit_code_is_the_verdict(validated: Ran, folder: pathlib.Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    failed = record["verdict"]["status"] == "fail"
    assert validated.code == int(failed)
    assert record["status"] == ("failed gates" if failed else "finished")
    assert validated.err == ""


def test_the_tables_come_back_as_they_were_judged(validated: Ran, folder: pathlib.Path) -> None:
    found, (calibrated,) = bt.load(folder / "validation.nc"), validated.results.glob("tank/*/predictions.nc")
    names = {
        "coverage",
        "coverage_by_pump",
        "backtest_coverage",
        "conformal",
        "backtest_conformal",
        "pit",
        "backtest_pit",
    }
    assert names | {"scores", "backtest_scores", "intervals", "correction"} <= set(found.children)
    posterior, forecast = bt.load(calibrated.parent / "posterior.nc"), bt.load(calibrated)
    assert found.attrs["twin_sha256"] == posterior.attrs["twin_sha256"]
    assert found.attrs["verdict"]["status"] in ("pass", "warn", "fail")
    telemetry = bt.read_telemetry(
        validated.model / "data" / "tank.csv",
        time="hour",
        units={"gauge": "m", "pump": "m/h"},
        rename={"gauge": "level"},
    )
    theirs = bt.coverage(forecast, telemetry.between(start=6.0))
    xr.testing.assert_allclose(found["coverage"]["coverage"].drop_vars("units"), theirs["coverage"].drop_vars("units"))
    trial = bt.load(folder / "backtest.nc")
    both = bt.intervals(forecast, conformal=bt.conformalize(trial))
    xr.testing.assert_allclose(found["intervals"]["lower"], both["lower"])


def test_conformal_intervals_have_learnt_nothing_from_what_was_held_out(folder: pathlib.Path) -> None:
    trial = bt.load(folder / "backtest.nc")
    assert float(trial["observed_data"]["time"].max()) < 6.0


class Tags(html.parser.HTMLParser):
    """Remembers which elements are open, and which were closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> in line {self.getpos()[0]}")


def unclosed(page: str) -> list[str]:
    """Elements that are not closed where they should be."""
    tags = Tags()
    tags.feed(page)
    return tags.wrong + tags.open


def test_the_page_is_complete_in_itself(folder: pathlib.Path) -> None:
    page = (folder / "validation.html").read_text()
    assert page.count("<script") == 1
    assert re.findall(r"https?://(?!www\.w3\.org)|@import|src=", page) == []
    assert faults(page) == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    by_pump = "Coverage of the raw 90\u202f% equal-tailed interval by pump"
    for picture in (by_pump, "PIT against a uniform", "Skill of the twin", "Backtest forecasts from"):
        assert f'aria-label="{picture}' in page
    assert "NaN" not in page
    assert unclosed(page) == []


def test_what_others_found_is_shown_and_what_they_did_not_is_said(folder: pathlib.Path, validated: Ran) -> None:
    page = (folder / "validation.html").read_text()
    shown = page[page.index('<section id="sbc">') : page.index('<section id="identify">')]
    assert "99" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert f"bayestwin identify {validated.model}</code>" in page[page.index('<section id="identify">') :]
    assert f"bayestwin sbc {validated.model}" not in page


def test_without_a_backtest_it_says_so(validated: Ran) -> None:
    code, out, _ = run_command("validate", validated.model, "--results", validated.results, "--no-backtest", "--json")
    found = parse_strictly(out)
    assert code == int(found["verdict"]["status"] == "fail")
    assert any("there was no backtest" in line for line in found["verdict"]["unchecked"])
    folder = pathlib.Path(found["folder"])
    assert not (folder / "backtest.nc").exists()
    assert "There was no backtest" in (folder / "validation.html").read_text()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", "pumps"], "`pumps`"),
        (["--origins", "0"], "`origins`"),
        (["--horizon", "50"], "`origins` cannot be placed"),
        (["--horizon", "-1"], "`--horizon` makes no sense"),
        (["--run", "none"], "no such run"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_computed(
    validated: Ran, options: list[str], words: str
) -> None:
    before = sorted(validated.results.glob("tank/*"))
    code, out, err = run_command("validate", validated.model, "--results", validated.results, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert sorted(validated.results.glob("tank/*")) == before


def test_a_run_that_held_nothing_out_says_what_to_do(ran: Ran, tmp_path: pathlib.Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(ran.results, results)
    for path in results.glob("tank/*/predictions.nc"):
        path.unlink()
    code, _, err = run_command("validate", ran.model, "--results", results)
    assert code == 2
    assert "held nothing out" in err
    assert f"bayestwin calibrate {ran.model} --hold-out-from TIME" in err


def test_a_misspelt_setting_is_named(make_model: MakeModel) -> None:
    model = make_model(job=JOB + "\n[validate]\norigin = 3\n")
    code, _, err = run_command("validate", model)
    assert code == 2
    assert "`validate.origin`" in err
    assert "Did you mean `origins`?" in err


def test_the_settings_come_back_from_a_record() -> None:
    job = Job.model_validate({"telemetry": {"file": "a.csv"}, "validate": {"by": ["pump"], "origins": ["2020-01-01"]}})
    assert Job.model_validate(job.model_dump(mode="json", exclude_none=True)) == job


@pytest.fixture
def other(tmp_path: pathlib.Path) -> pathlib.Path:
    """Another recording of the tank on a clock from 0 on as well: from 8 m, without the pump."""
    hours, rng = np.linspace(0.0, 5.0, 41), np.random.default_rng(9)
    level = 8.0 * np.exp(-0.8 * hours) + 0.1 * rng.standard_normal(41)
    rows = "".join(f"{t:g},{v:.4f},0\n" for t, v in zip(hours, level, strict=True))
    path = tmp_path / "other.csv"
    path.write_text(f"hour,gauge,pump\n{rows}", encoding="utf-8")
    return path


@pytest.mark.thorough
def test_another_recording_judges_a_run(validated: Ran, other: pathlib.Path) -> None:
    options = ["--results", validated.results, "--no-backtest", "--held-out", other, "--initial", "level=8"]
    code, out, err = run_command("validate", validated.model, *options, "--json")
    found = parse_strictly(out)
    assert code == int(found["verdict"]["status"] == "fail"), err
    folder = pathlib.Path(found["folder"])
    kept = bt.load(folder / "validation.nc")
    telemetry = bt.read_telemetry(other, time="hour", units={"gauge": "m", "pump": "m/h"}, rename={"gauge": "level"})
    assert kept.attrs["held_out_sha256"] == telemetry.sha256
    assert kept["coverage"]["num"].values.tolist() == [[41] * 4]
    assert kept["coverage"]["coverage"].sel(prob=0.95).item() > 0.8  # it began at 8 m, and was predicted from there
    record = parse_strictly((folder / "run.json").read_text())
    assert record["options"]["initial"] == {"level": 8.0}
    assert "options/held_out/other.csv" in record["inputs"]
    assert unclosed((folder / "validation.html").read_text()) == []
    shutil.rmtree(folder)


@pytest.mark.thorough
def test_the_calibrated_rows_judge_nothing_and_another_clock_is_told(validated: Ran, other: pathlib.Path) -> None:
    same = validated.model / "data" / "tank.csv"
    code, _, err = run_command("validate", validated.model, "--results", validated.results, "--held-out", same)
    assert code == 2
    assert "overlaps with calibration" in err
    code, out, err = run_command(
        "predict",
        validated.model,
        "--results",
        validated.results,
        "--telemetry",
        other,
        "--out",
        other.with_suffix(".nc"),
    )
    assert code == 0, err
    assert "does not go on from the calibration" in out
    assert "all states as the twin knows them" in out
