"""No mark, band or sentence of a page denies another: pages of planted results are read as whoever signs reads them."""

import html
import json
import pathlib
import re

import pytest
import scipy.stats
import xarray as xr
from readable import read
from worlds import LEVELS, PASSED, WORLDS, planted

from bayestwin.assess.gates import Gate
from bayestwin.assess.trust import HELD_OUT, Validated
from bayestwin.cli.display_insight import phrase
from bayestwin.project.batch import Task, TaskOutcome, doubted, summary, write_page
from bayestwin.report.prose import verdict
from bayestwin.report.validate import render_validation

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


@pytest.mark.parametrize("world", WORLDS)
def test_so_many_as_observations_are_said_to_be_worth_leave_open_what_is_said_to_be(world: str):
    """Clopper and Pearson's interval of the number that a sentence tells, with a number of its own rounding."""
    found = planted(world)
    for sentence in (one for one in found.trust.basis if "truly holds from" in one):
        part = "backtest" if " forecasts of " in sentence else HELD_OUT
        whole = found.evidence[part].whole
        few = re.search(r"worth no more than (\d+)", sentence) or re.search(r"worth about (\d+)", sentence)
        number = int(few[1]) if few else int(re.search(r"(\d+) (?:held-out )?observations", sentence)[1])
        low, high = (float(one) / 100 for one in re.search(r"from \D*([\d.]+)\D+to \D*([\d.]+)", sentence).groups())
        coverage, tail = float(whole["coverage"].sel(prob=0.9).item()), (1 - whole.attrs["joint_level"]) / 2

        def width(num: float, share: float = coverage, tail: float = tail) -> float:
            inside = share * num
            lower = scipy.stats.beta.ppf(tail, inside, num - inside + 1) if inside else 0.0
            upper = scipy.stats.beta.ppf(1 - tail, inside + 1, num - inside) if inside < num else 1.0
            return upper - lower

        assert width(1.1 * number + 0.6) - 0.011 <= high - low <= width(max(0.9 * number - 0.6, 1.0)) + 0.011, sentence


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


def test_a_batch_is_not_green_over_jobs_that_warn(tmp_path: pathlib.Path) -> None:
    """All finished; intervals of one miss, and the noise of one lies wholly at its prior's edge."""
    sentence = (
        "The posterior lies at its prior's edge: `noise`. Of the draws of `noise`, 100 % lie in the outermost 1 %."
    )
    figures = {"mean": 0.02, "sd": 0.0001, "lower": 0.0198, "upper": 0.0202, "unit": "V"}
    outcomes = []
    for name, passed, good in (("calm", True, True), ("edge", False, None), ("off", True, False)):
        run = tmp_path / name / "1"
        run.mkdir(parents=True)
        gate = Gate("prior_edge", passed, 1.0, 0.1, sentence, "warn")._asdict()
        record = {"gates": [gate], "parameters": {"noise": figures}, "promises": {"level": {"0.9": good}}}
        record |= {"summary": {"coverage": {"level": {"0.9": 0.95}}}}
        (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
        outcomes.append(TaskOutcome(Task(name, name, "job.toml", "", "", "0"), "finished", str(run), 1, 2.0, ""))
    words = phrase(summary(outcomes), doubted(outcomes))
    assert words == "3 finished; 1 with warnings, 1 with intervals that miss"
    gone = outcomes[0]._replace(status="failed gates")
    beside = "3 finished, 1 failed gates; of those that finished 1 with warnings, 1 with intervals that miss"
    assert phrase(summary([*outcomes, gone]), doubted([*outcomes, gone])) == beside
    page = write_page(tmp_path / "batch.html", outcomes, [], words).read_text(encoding="utf-8")
    assert f"Batch: {words}" in page
    calm, edge, off = rows_of(page, "What became of each task")
    assert (calm["outcome"], calm["gates warned"], calm["coverage"]) == ("✓ finished", "", "level 95\u202f% ✓")
    assert (edge["outcome"], edge["gates warned"]) == ("! finished, with warnings", "prior_edge")
    assert edge["coverage"] == "level 95\u202f% ?"
    assert (off["outcome"], off["coverage"]) == ("! finished, intervals miss", "level 95\u202f% ✗")
    assert [row["task"] for row in rows_of(page, "What gates found")] == ["edge"]
    assert "100 % lie in the outermost 1 %" in page
    parameters = rows_of(page, "Posterior of each task")
    assert [(row["task"], row["quantity"], row["unit"], row["mean"]) for row in parameters] == [
        ("calm", "noise", "V", "0.02000"),
        ("edge", "noise", "V", "0.02000"),
        ("off", "noise", "V", "0.02000"),
    ]
