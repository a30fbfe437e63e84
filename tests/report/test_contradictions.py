"""No mark, band or sentence of a page denies another: pages of planted results are read as whoever signs reads them."""

import functools
import html
import pathlib
import re
import types

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from readable import read

from bayestwin.assess import conformalize, coverage, scores
from bayestwin.assess.gates import Gate
from bayestwin.assess.trust import HELD_OUT, Validated
from bayestwin.project.calibrate import Results
from bayestwin.project.model import Split
from bayestwin.project.validate import Plan, Trialled, judge_all
from bayestwin.report.prose import verdict
from bayestwin.report.validate import render_validation
from bayestwin.telemetry import Telemetry

NUM, ORIGINS, AHEAD = 240, 20, 10
LEVELS = (0.5, 0.8, 0.9, 0.95)
PASSED = (Gate("rhat", True, 1.0, 1.01, "4 of 4 chains agree."),)


def errors_of(rng: np.random.Generator, num: int, memory: float = 0.0) -> np.ndarray:
    """Standard normal errors with that correlation from one to the next."""
    found = rng.normal(size=num)
    for place in range(1, num):
        found[place] = memory * found[place - 1] + np.sqrt(1 - memory**2) * found[place]
    return found


# what was held out as a multiple of what the forecast expects, its memory, how many there are; the backtest's multiple
WORLDS = {
    "holds": (1.0, 0.0, NUM, 1.0),
    "misses": (2.2, 0.0, NUM, 2.2),
    "too wide": (0.3, 0.0, NUM, 0.3),
    "cannot be told": (1.0, 0.995, NUM, 1.0),
    "too few": (1.0, 0.0, 9, 1.0),
    "conformal that fails": (1.0, 0.0, NUM, 0.1),
    "missed far ahead": (0.75, 0.0, NUM, 1.0),
}


def group(values: np.ndarray, dims: tuple[str, ...], coords: dict) -> xr.Dataset:
    """Predictive draws of a forecast N(0, 1), at the shape of `values`."""
    draws = np.random.default_rng(1).normal(size=(2, 200, *values.shape))
    units = {"units": "m"}
    names = ("level", "level_noise_free")
    return xr.Dataset({name: (("chain", "draw", *dims), draws, units) for name in names}, coords)


def telemetry(values: np.ndarray, start: float) -> Telemetry:
    times = pd.Index(start + np.arange(float(len(values))), name="time")
    return Telemetry(pd.DataFrame({"level": values}, index=times), {"level": "m"}, times[0], "planted", "ab" * 32)


@functools.cache
def planted(name: str) -> Validated:
    """What a validation finds in a world of that name."""
    scale, memory, num, trial_scale = WORLDS[name]
    rng = np.random.default_rng(8)
    past, held = telemetry(rng.normal(size=100), -100.0), scale * errors_of(rng, num, memory)
    if name == "missed far ahead":
        held[-60:] *= 2.7
    future = telemetry(held, 0.0)
    known = xr.Dataset({"level": ("time", past.table["level"])}, {"time": past.table.index.to_numpy()})
    times = future.table.index.to_numpy()
    forecast = xr.DataTree.from_dict({"predictions": group(held, ("time",), {"time": times}), "observed_data": known})
    forecast.attrs = {"time_unit": "h", "telemetry_time_unit": "h"}
    origin, ahead, dims = -100.0 + 4 * np.arange(ORIGINS), 1.0 + np.arange(AHEAD), ("origin", "horizon")
    came = trial_scale * rng.normal(size=(ORIGINS, AHEAD))
    coords = {"origin": origin, "horizon": ahead, "time": (dims, origin[:, None] + ahead)}
    words = np.full(ORIGINS, "", dtype=object)
    told = {"failure": words, "failed_gates": words, "level_last": np.zeros(ORIGINS), "calibrated_until": origin}
    told |= {"calibrated_from": np.full(ORIGINS, -100.0), "num_calibrated": np.full(ORIGINS, 50)}
    trial = xr.DataTree.from_dict(
        {
            "predictions": group(came, dims, coords),
            "predictions_constant_data": xr.Dataset(coords=coords),
            "observed_data": xr.Dataset({"level": (dims, came, {"units": "m"})}, coords),
            "origins": xr.Dataset({key: ("origin", value) for key, value in told.items()}, {"origin": origin}),
        }
    )
    trial.attrs = forecast.attrs | {"interrupted": False}
    posterior = xr.DataTree.from_dict({"observed_data": known})
    posterior.attrs = {"twin": "tank", "time_unit": "h"}
    run = Results(
        pathlib.Path("run"),
        posterior,
        forecast,
        PASSED,
        coverage(forecast, future),
        scores(forecast, future),
        Split(past, future),
        {},
    )
    twin = types.SimpleNamespace(inputs={}, time_unit="h")
    settings = {"horizon": 10.0, "gap": 0.0, "recalibrate": True, "window": "expanding", "method": "laplace"}
    plan = Plan(0.9, LEVELS, {}, None, None, ORIGINS, ORIGINS, settings, "split", 0)
    model = types.SimpleNamespace(twin=twin, folder=pathlib.Path("models/tank"))
    return judge_all(model, run, plan, Trialled(trial, conformalize(trial, LEVELS)), {})  # type: ignore[arg-type]


DRAWN = ("holds", "misses", "cannot be told", "conformal that fails", "missed far ahead")
"""Worlds of which a page is rendered: pictures take a second or two each."""


@pytest.fixture(scope="module", params=DRAWN)
def page(request: pytest.FixtureRequest) -> tuple[Validated, str]:
    """What was found, and the page about it."""
    found = planted(request.param)
    return found, render_validation(found, {}, folder="models/tank", provenance={})


MARKS = {"✓": True, "✗": False, "?": None}


def rows_of(page: str, words: str) -> list[dict[str, str]]:
    """Rows of the table whose caption begins so, by the heads of its columns."""
    (table,) = [one for one in read(page).tables if "".join(one["caption"]).startswith(words)]
    heads = [cell["text"].strip() for cell in table["rows"][0]]
    return [dict(zip(heads, (cell["text"].strip() for cell in row), strict=True)) for row in table["rows"][1:]]


def share(text: str) -> float:
    """A share as the page writes it."""
    return float(re.sub(r"[^\d.]", "", text)) / 100


def marked(row: dict[str, str]) -> bool | None:
    return MARKS[row["as promised"][0]]


RAW = "Observations inside their raw equal-tailed intervals"
GROUPS = "Observations inside their raw 90"
BOTH = "Held-out observations inside their raw and conformal"


def test_marks_are_those_of_the_band_that_is_printed(page):
    found, text = page
    seen = set()
    for caption in (RAW, GROUPS, BOTH):
        if caption == GROUPS and not any(one.by for one in found.evidence.values()):
            continue
        for row in rows_of(text, caption):
            lower, upper = share(row["from"]), share(row["to: 95\u202f% band"])
            inside = lower - 5e-4 <= share(row["coverage"]) <= upper + 5e-4
            assert (marked(row) is not False) == inside, row
            seen.add(marked(row))
    assert seen <= {True, False, None}


def test_one_interval_is_marked_alike_wherever_it_stands(page):
    _, text = page
    first = {row["promised"]: row for row in rows_of(text, RAW) if "held out" in row["forecasts"]}
    for row in rows_of(text, BOTH):
        if row["interval"] == "raw":
            own = first[row["promised"]]
            assert [own[key] for key in ("inside", "from", "as promised")] == [
                row[key] for key in ("inside", "from", "as promised")
            ]


def test_sentences_say_what_marks_say(page):
    found, text = page
    trust, shown = found.trust, {}
    for row in rows_of(text, RAW):
        if share(row["promised"]) == 0.9:
            shown[row["forecasts"]] = row
    for part, words in ((HELD_OUT, "held-out observations inside"), ("backtest", "forecasts of the backtest inside")):
        said = {
            True: [one for one in trust.holds if words in one],
            None: [one for one in trust.limits if words in one and "too few to tell" in one],
            False: [one for one in trust.limits if words in one and re.search("are too (narrow|wide)", one)],
        }
        good = marked(shown[part])
        assert [key for key, sentences in said.items() if sentences] == [good]
        (sentence,) = said[good]
        lower, upper = re.search(r"; ([\d.]+)\D+to ([\d.]+)\D+would do", sentence).groups()
        row = shown[part]
        assert abs(share(row["from"]) - float(lower) / 100) < 0.006
        assert abs(share(row["to: 95\u202f% band"]) - float(upper) / 100) < 0.006


def test_what_the_evidence_leaves_open_holds_the_promise_unless_it_was_missed(page):
    found, text = page
    shown = [row for row in rows_of(text, RAW) if share(row["promised"]) == 0.9]
    told = [one for one in found.trust.basis if "truly holds from" in one]
    assert len(told) == len(shown) == 2
    for row, sentence in zip(shown, told, strict=True):
        low, high = (float(one) for one in re.search(r"from \D*([\d.]+)\D+to \D*([\d.]+)", sentence).groups())
        assert (low <= 90 <= high) == (marked(row) is not False), sentence
        assert low <= 100 * share(row["coverage"]) <= high + 0.5


def test_the_headline_denies_no_mark(page):
    found, text = page
    headline = found.trust.headline
    held = next(r for r in rows_of(text, RAW) if r["forecasts"] == HELD_OUT and share(r["promised"]) == 0.9)
    if re.search(r"can be trusted|^The .* (hold on average, but|held \()", headline):
        assert marked(held) is True
    if marked(held) is None:
        assert "too few to judge" in headline
        assert found.trust.status == "warn"
    if marked(held) is False:
        assert found.trust.status == ("warn" if share(held["coverage"]) > 0.9 else "fail")


def test_what_is_said_of_raw_and_conformal_is_what_their_rows_say(page):
    _, text = page
    rows = {row["interval"]: row for row in rows_of(text, BOTH) if share(row["promised"]) == 0.9}
    section = html.unescape(text.split('<section id="conformal">')[1].split("</section>")[0])
    (said,) = re.findall(r"<li>(level, held out:.*?)</li>", section)
    for kind, other in (("raw", "conformal"), ("conformal", "raw")):
        good = marked(rows[kind])
        holds = bool(re.search(rf"The {kind} one holds|Both hold", said))
        fails = bool(re.search(rf"The {kind} one does not hold|the {kind} one does not|Neither holds", said))
        assert (holds, fails) == (good is True, good is False), (kind, said)
        if re.search(rf"(keep|use) the {kind} one", said):
            assert good
            assert not marked(rows[other])


def test_pictures_show_the_groups_of_the_table(page):
    found, text = page
    if not any(one.by for one in found.evidence.values()):
        return
    (label,) = [one for one in read(text).pictures if "equal-tailed interval by horizon" in one]
    part = ""
    shown: dict[tuple[str, str], float] = {}
    for row in rows_of(text, GROUPS):
        part = row["forecasts"].strip() or part
        shown[part, row["how far ahead"]] = share(row["coverage"])
    for (part, ahead), value in shown.items():
        told = label.split(f"level, {part}: ")[1].split(";")[0]
        assert abs(share(re.search(rf"{re.escape(ahead)} (\D*\d+)", told)[1]) - value) < 0.0051


def test_captions_describe_the_bands_that_are_drawn(page):
    assert "independent. Crosses" not in page[1]
    assert "cannot be told</text>" in page[1]


@pytest.mark.parametrize("name", WORLDS)
def test_the_verdict_of_a_report_says_of_each_interval_what_its_mark_says(name: str) -> None:
    covered = planted(name).held_out.whole
    found = verdict(PASSED, covered, interrupted=False)
    marks = {bool(one) if one is not None else None for one in _marks(covered)}
    words = " ".join([found.headline, *found.lines])
    assert ("all intervals cover as promised (" in words) == (marks == {True})
    assert ("cannot be told" in words) == (None in marks and False not in marks)
    assert bool(re.search("are too (narrow|wide)|are off", words)) == (False in marks)
    assert (found.status == "pass") == (marks == {True})


def _marks(covered: xr.Dataset) -> list[bool | None]:
    from bayestwin.assess.coverage import kept

    return [kept(covered.isel(observation=0, prob=place)) for place in range(len(LEVELS))]
