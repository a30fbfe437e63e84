"""What is printed fits a terminal of 80 columns whole, however long the names, and shows the digits that count."""

import io
import pathlib

import numpy as np
import pytest
import rich.console
import xarray as xr

from bayestwin.assess import Gate
from bayestwin.check import Finding
from bayestwin.cli.display import (
    coverage_table,
    forecast_tables,
    moment,
    number,
    parameter_table,
    score_table,
    show_files,
    show_findings,
    show_gates,
    show_path,
)

LONG = "temperature_of_the_upper_bearing_of_the_main_gearbox"
PROBS = [0.5, 0.8, 0.9, 0.95]


def printed(*things: object, width: int = 80) -> str:
    console = rich.console.Console(file=io.StringIO(), width=width)
    for thing in things:
        console.print(thing)
    return console.file.getvalue()


def check_whole(text: str, *cells: str) -> None:
    """No line is too wide, nothing is cut off, and these numbers stand unbroken."""
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text.replace(" … ", "")
    for cell in cells:
        assert cell in text
    assert LONG in "".join(line.split("  ")[0].strip() for line in text.splitlines())


def test_long_names_give_way_to_numbers() -> None:
    evenly = np.linspace(-1.0, 1.0, 400).reshape(4, 100)
    draws = {LONG: 304.5 + 0.5 * evenly, "C": 1.2e7 + 1e5 * evenly}
    units = {LONG: "degC", "C": "J/(m^2 K)"}
    posterior = xr.Dataset({n: (("chain", "draw"), v, {"units": units[n]}) for n, v in draws.items()})
    check_whole(
        printed(parameter_table(posterior)), "304.50", "304.05 … 304.95", "1.1910e7 … 1.2090e7", "degC", "J/(m^2 K)"
    )


def test_coverage_and_scores_fit() -> None:
    dims = ("observation", "prob")
    covered = xr.Dataset(
        {
            "coverage": (dims, [[0.497, 0.794, 0.894, 1.0]]),
            "within_joint_band": (dims, [[True, True, False, True]]),
            "expected": (dims, [PROBS]),
            "joint_noticed": (dims, [[0.4, 0.7, 0.8, 0.2]]),
            "num": (dims, np.full((1, 4), 12_345)),
        },
        coords={"observation": [LONG], "prob": PROBS},
    )
    check_whole(printed(coverage_table(covered)), "49.7 %", "89.4 %*", "100.0 %?", "12,345")
    names = ("num", "rmse", "mae", "mape", "crps", "persistence_rmse", "persistence_mae", "skill")
    values = (12_345, 1234.5, 0.0012345, 187.3, 0.00056, 1970.5, 1.6, -0.1234)
    scored = xr.Dataset({n: ("observation", [v]) for n, v in zip(names, values, strict=True)})
    scored = scored.assign_coords(observation=[LONG], units=("observation", ["degC"]))
    check_whole(printed(score_table(scored)), "1234", "0.001234", "187 %", "0.00056", "1970", "-0.1234")


def test_a_forecast_fits_with_its_ends_on_one_line() -> None:
    times = np.datetime64("2026-03-21T00:00:00", "ns") + np.arange(30) * np.timedelta64(1, "s")
    middle = np.full((1, 30), 304.567)
    ends = {"lower": middle[:, None] - [[[0.2], [0.5]]], "upper": middle[:, None] + [[[0.2], [0.5]]]}
    found = xr.Dataset(
        {"median": (("observation", "time"), middle)}
        | {name: (("observation", "prob", "time"), value) for name, value in ends.items()},
        coords={"observation": [LONG], "prob": [0.5, 0.9], "time": times, "units": ("observation", ["degC"])},
    )
    text = printed(*forecast_tables(found))
    check_whole(text, "304.37 … 304.77", "304.07 … 305.07", "2026-03-21 00:00:29", "12 of 30 times")
    # where there is too little room for that, it is broken and not cut
    narrow = printed(*forecast_tables(found), width=40)
    assert all(narrow.count(end) == 12 for end in ("304.37", "304.77", "304.07", "305.07"))


GATE = Gate("rhat", False, 1.2, 1.01, "The chains disagree about `x`: " + "take more draws. " * 8)


def test_sentences_are_one_line_each_in_a_log() -> None:
    console = rich.console.Console(file=io.StringIO(), width=80)
    show_gates(console, [GATE, GATE._replace(passed=True), GATE._replace(severity="warn")])
    show_findings(console, [Finding("few", "note", "x", "`x` [bold]is[/] fine", {})])
    lines = console.file.getvalue().splitlines()
    assert [line[:8] for line in lines[:3]] == ["  FAIL  ", "  pass  ", "  warn  "]
    assert lines[0] == "  FAIL  " + GATE.sentence
    assert lines[3].startswith("Do not rely on this result")
    assert lines[4] == "  note  `x` [bold]is[/] fine"


def test_what_is_noted_of_many_experiments_is_said_once_and_warnings_each() -> None:
    console = rich.console.Console(file=io.StringIO(), width=80)
    of = [Finding("irregular", "note", "", f"In experiment `{name}`: irregular.", {}, name) for name in "abcdefgh"]
    warned = [one._replace(severity="warn") for one in of[:2]]
    other = of[0]._replace(column="x", sentence="In experiment `a`: another column.")
    alone = Finding("few", "note", "x", "Few of `x`.", {})
    show_findings(console, [*warned, *of, other, alone, alone])
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert lines == [
        "warn  In experiment `a`: irregular.",
        "warn  In experiment `b`: irregular.",
        "note  In experiment `a`: irregular. Likewise in 7 more: `b`, `c`, `d`, `e`, `f`, …",
        "note  In experiment `a`: another column.",
        "note  Few of `x`.",
        "note  Few of `x`.",
    ]


def test_sentences_hang_under_each_other_on_a_terminal() -> None:
    console = rich.console.Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    show_gates(console, [GATE._replace(passed=True)])
    first, *more = console.file.getvalue().splitlines()
    assert first.startswith("  pass  The chains")
    assert len(more) >= 1
    assert all(line.startswith(" " * 8) and line[8] != " " and len(line) <= 80 for line in more)


def test_paths_can_be_copied() -> None:
    console = rich.console.Console(file=io.StringIO(), width=20)
    show_path(console, "results/[red]tank[/]/20261123-110510-5e76/posterior.nc")
    assert console.file.getvalue() == "  results/[red]tank[/]/20261123-110510-5e76/posterior.nc\n"


def test_pages_of_a_fleet_are_one_line(tmp_path: pathlib.Path) -> None:
    for name in ("posterior.nc", "report.html", "assets/a.html", "assets/b.html", "assets/a/posterior.nc", "inputs/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    console = rich.console.Console(file=io.StringIO(), width=40)
    show_files(console, tmp_path)
    names = ("assets/a/posterior.nc", "posterior.nc", "report.html")
    listed = [f"  {tmp_path / name}" for name in names] + [f"  2 pages, one an asset, in {tmp_path / 'assets'}"]
    assert console.file.getvalue().splitlines() == listed


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.014992, 0.00002, "0.014992"),
        (23.9953, 0.041, "23.995"),
        (304.5678, 12.3, "305"),
        (12_345.6, 789.0, "12350"),
        (65_530.0, 65_530.0, "66000"),
        (1.20763e7, 65_530.0, "1.2076e7"),
        (3.2e-7, 1.1e-8, "3.20e-7"),
        (0.0, 1.5, "0.0"),
        (-0.04, 1.5, "0.0"),
        (3.2e-7, 1.5, "0.0"),
        (4.2, 0.0, "4.2"),
        (float("nan"), 1.0, "nan"),
        (5.0, float("nan"), "5"),
    ],
)
def test_numbers_have_two_digits_of_their_spread(value: float, spread: float, text: str) -> None:
    assert number(value, spread) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1900.0, "1900"),
        (0.25, "0.25"),
        (1_767_225_600.0, "1767225600"),
        (np.datetime64("2026-03-21T06:30", "ns"), "2026-03-21 06:30 UTC"),
        (np.datetime64("2026-03-21T06:30:07", "ns"), "2026-03-21 06:30:07 UTC"),
    ],
)
def test_times_have_the_digits_that_tell_them_apart(value: object, text: str) -> None:
    assert moment(value) == text
