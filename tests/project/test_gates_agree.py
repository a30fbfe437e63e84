"""Exit code, record, printed summary and report hold the same gates, those included that a job asks to fail."""

import html
import re

import pytest
from tank_model import JOB, TWIN, Ran, parse_strictly, run_command, write_model

import bayestwin as bt


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run whose intervals are far too narrow, since the twin believes in a fifth of the noise."""
    root = tmp_path_factory.mktemp("narrow")
    twin = TWIN.replace("bt.Gaussian(0.1)", "bt.Gaussian(0.02)")
    job = JOB.replace("min_ess_per_chain = 5", 'min_ess_per_chain = 5\ncoverage = "fail"\nstrict = ["prior_edge"]')
    job += "\n[report]\nshares = true\n"
    model, results = write_model(root / "tank", twin=twin, job=job), root / "results"
    return Ran(*run_command("calibrate", model, "--results", results), model, results)


def texts(page: str) -> str:
    """What a reader of a page sees, in one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", page)))


def test_intervals_that_miss_fail_the_run_where_the_job_says_so(narrow: Ran) -> None:
    assert narrow.code == 1, narrow.out + narrow.err
    (run,) = narrow.runs
    record = parse_strictly((run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "failed gates"
    failing = [gate for gate in record["gates"] if not gate["passed"] and gate["severity"] == "fail"]
    assert [gate["name"] for gate in failing] == ["coverage"]
    page = texts((run / "report.html").read_text(encoding="utf-8"))
    assert f"Do not rely on this result: 1 of {len(record['gates'])} gates failed (coverage)" in page
    printed = re.sub(r"\s+", " ", narrow.out)
    for gate in record["gates"]:
        assert gate["sentence"].replace("`", "") in page.replace("`", "")
        assert gate["sentence"] in printed
    assert {gate["name"]: gate["severity"] for gate in record["gates"]}["prior_edge"] == "fail"


@pytest.mark.parametrize(("verb", "code"), [("predict", 1), ("coverage", 1), ("report", 0)])
def test_later_verbs_say_the_same(narrow: Ran, verb: str, code: int) -> None:
    found, out, _ = run_command(verb, narrow.model, "--results", narrow.results, "--json")
    assert found == code
    assert parse_strictly(out)["status"] == "failed gates"


@pytest.mark.thorough
def test_shares_of_uncertainty_are_in_the_report_where_the_job_asks(narrow: Ran) -> None:
    (run,) = narrow.runs
    stored = bt.load(run / "uncertainty_shares.nc")["uncertainty_shares"].to_dataset()
    assert list(stored["source"].values) == ["parameters", "noise"]
    for _ in range(2):  # as it was written, and written anew
        page = (run / "report.html").read_text(encoding="utf-8")
        assert "Shares of the variance of level over time by source: parameters, noise." in page
        assert run_command("report", narrow.model, "--results", narrow.results)[0] == 0
