"""`bt.check` looks at each experiment by itself, says which one a finding is about, and sees what they share."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import rich.console

import bayestwin as bt
from bayestwin.check import Finding
from bayestwin.check.check import scales
from bayestwin.check.signals import SignalRecord, record_of
from bayestwin.cli.display import finding_table
from bayestwin.errors import InvalidTelemetry

type Weather = Callable[..., pd.DataFrame]

UNITS = {"indoor": "degC", "outdoor": "degC"}
QUICK = {"seed": 0, "ignore": ["prior", "unit_scale", "expected", "clock_unknown"]}


def read(table: pd.DataFrame, units: dict[str, str] = UNITS) -> bt.Telemetry:
    return bt.read_telemetry(table, units=units)


@pytest.fixture
def tables(weather: Weather) -> dict[str, pd.DataFrame]:
    return {"monday": weather(1), "friday": weather(2, 120), "sunday": weather(4)}


def telemetry_of(tables: dict[str, pd.DataFrame]) -> dict[str, bt.Telemetry]:
    return {name: read(table) for name, table in tables.items()}


def told(found: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(one.experiment, one.kind, one.column) for one in found if one.severity != "note"]


def test_each_is_looked_at_and_named(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    assert bt.check(room, telemetry_of(tables), **QUICK) == ()
    tables["friday"].loc[60, "indoor"] += 6.0
    found = bt.check(room, telemetry_of(tables), **QUICK)
    assert told(found) == [("friday", "spike", "indoor")]
    alone = bt.check(room, read(tables["friday"]), **QUICK)
    assert found[0].sentence == f"In experiment `friday`: {alone[0].sentence}"
    assert (found[0].evidence, alone[0].experiment) == (alone[0].evidence, "")
    assert json.loads(json.dumps([one._asdict() for one in found])) == [one._asdict() for one in found]
    assert bt.check(room, telemetry_of(tables), fail_on=["spike"], **QUICK)[0].severity == "fail"


def test_the_table_shows_the_experiment(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    tables["friday"].loc[60, "indoor"] += 6.0
    console = rich.console.Console(width=200, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as shown:
        console.print(finding_table(bt.check(room, telemetry_of(tables), **QUICK)))
    assert "In experiment `friday`: `indoor` jumps out and back" in shown.get()


def test_the_prior_is_held_against_each(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    del tables["sunday"]
    tables["friday"]["indoor"] += 8.0
    found = bt.check(room, telemetry_of(tables), seed=0)
    expected = {(one.experiment, one.column): one.severity for one in found if one.kind in ("prior", "expected")}
    assert expected == {
        ("monday", "prior"): "note",
        ("monday", "indoor"): "note",
        ("friday", "prior"): "note",
        ("friday", "indoor"): "warn",
    }


def test_what_is_held_out_is_that_of_its_experiment(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    tables["sunday"].loc[130, "indoor"] += 6.0
    whole = telemetry_of(tables)
    past = whole | {"sunday": whole["sunday"].between(end=100)}
    found = bt.check(room, past, {"sunday": whole["sunday"].between(start=100)}, **QUICK)
    assert [(one.experiment, one.kind, one.evidence["rows"]) for one in found if one.severity != "note"] == [
        ("sunday", "spike", [[131, 131]])
    ]
    again = bt.check(room, past, {"sunday": whole["sunday"].between(start=90)}, **QUICK)
    assert ("sunday", "overlap", "") in told(again)


def test_rows_that_two_experiments_share_fail(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    part = tables["monday"].iloc[30:70]
    later = part.assign(time=np.arange(40.0) + 120.0)
    tables["friday"] = pd.concat([tables["friday"], later])
    found = bt.check(room, telemetry_of(tables), **QUICK)
    (copied,) = [one for one in found if one.kind == "copied"]
    assert (copied.severity, copied.experiment, copied.evidence["other"]) == ("fail", "friday", "monday")
    assert (copied.evidence["rows"], copied.evidence["copied_from"]) == ([[121, 160]], [[31, 70]])
    assert "40 rows (rows 121 to 160) are also in experiment `monday` (rows 31 to 70)" in copied.sentence


def test_a_whole_experiment_that_is_there_twice_fails(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    both = {"monday": tables["monday"], "copy": tables["monday"].assign(time=tables["monday"]["time"] + 24.0)}
    (copied,) = [one for one in bt.check(room, telemetry_of(both), **QUICK) if one.kind == "copied"]
    assert (copied.experiment, copied.evidence["rows"]) == ("copy", [[1, 150]])


def test_what_one_repeats_by_itself_is_shared_with_nobody(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    again = tables["friday"].iloc[30:60].assign(time=np.arange(30.0) + 120.0)
    tables["friday"] = pd.concat([tables["friday"], again])
    kinds = [one.kind for one in bt.check(room, telemetry_of(tables), **QUICK)]
    assert "repeated" in kinds
    assert "copied" not in kinds


def test_the_same_inputs_again_are_no_copy(room: bt.Twin, weather: Weather) -> None:
    one, other = weather(1), weather(2)
    other["outdoor"] = one["outdoor"]
    assert told(bt.check(room, telemetry_of({"one": one, "other": other}), **QUICK)) == []


def test_what_is_held_out_must_not_be_calibrated_elsewhere(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    whole = telemetry_of(tables)
    later = read(tables["monday"].iloc[20:60].assign(time=np.arange(40.0) + 120.0))
    found = bt.check(room, whole, {"friday": later}, **QUICK)
    (flattered,) = [one for one in found if one.kind == "overlap"]
    assert (flattered.severity, flattered.experiment) == ("fail", "friday")
    assert (flattered.evidence["held_out_rows"], flattered.evidence["copied_from"]) == ([[1, 40]], [[21, 60]])


def test_one_experiment_in_another_unit(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    tables["friday"]["outdoor"] += 273.15
    found = bt.check(room, telemetry_of(tables), seed=0, ignore=["prior", "expected", "clock_unknown"])
    (finding,) = [one for one in found if one.kind == "unit_scale" and one.column == "outdoor"]
    assert (finding.severity, finding.experiment, finding.evidence["rows"]) == ("warn", "friday", [[1, 120]])
    assert (finding.evidence["suggestion"], finding.evidence["others"]) == ("taken as K", ["monday", "sunday"])


def test_one_experiment_in_kilowatts() -> None:
    def experiment(seed: int, scale: float) -> SignalRecord:
        power = 1000.0 + 300 * np.random.default_rng(seed).normal(size=150)
        power[np.arange(150) % 40 < 15] = 0.0  # off
        return record_of(pd.DataFrame({"heating": scale * power}), [], ["heating"], {"heating": "W"})

    # another power is another experiment
    honest = {"a": experiment(1, 1.0), "b": experiment(2, 8.0), "c": experiment(3, 0.2)}
    assert scales(honest) == []
    both = scales({"a": experiment(1, 1.0), "b": experiment(2, 0.001)})
    assert [(one.experiment, one.evidence["suggestion"]) for one in both] == [
        ("a", "divided by 1000"),
        ("b", "times 1000"),
    ]
    most = scales({"a": experiment(1, 1.0), "b": experiment(2, 0.001), "c": experiment(3, 0.6)})
    assert [(one.experiment, one.evidence["others"]) for one in most] == [("b", ["a", "c"])]
    # of a dose that is raised by tens nobody knows what is usual
    assert scales({name: experiment(4, factor) for name, factor in (("a", 1.0), ("b", 10.0), ("c", 100.0))}) == []


def test_units_and_columns_that_differ_are_noted(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    whole = telemetry_of(tables)
    in_kelvin = tables["friday"].assign(indoor=tables["friday"]["indoor"] + 273.15, sun=1.0)
    whole["friday"] = read(in_kelvin, UNITS | {"indoor": "K"})
    found = bt.check(room, whole, **QUICK)
    assert [(one.kind, one.severity, one.column, one.experiment) for one in found] == [
        ("unlike", "note", "sun", ""),
        ("unlike", "note", "indoor", ""),
    ]
    assert found[0].evidence == {"with": ["friday"], "without": ["monday", "sunday"]}
    assert found[1].evidence == {"units": {"monday": "degC", "friday": "K", "sunday": "degC"}}


def test_an_observation_that_one_experiment_was_not_made_for_is_a_warning(
    room: bt.Twin, tables: dict[str, pd.DataFrame]
) -> None:
    tables["friday"]["indoor"] = np.nan
    (few,) = [one for one in bt.check(room, telemetry_of(tables), **QUICK) if one.kind == "few"]
    assert (few.severity, few.experiment) == ("warn", "friday")


def test_what_are_no_experiments_is_refused(room: bt.Twin, tables: dict[str, pd.DataFrame]) -> None:
    whole = telemetry_of(tables)
    with pytest.raises(InvalidTelemetry, match="held out of experiment `fryday`"):
        bt.check(room, whole, {"fryday": whole["friday"]}, **QUICK)
    with pytest.raises(InvalidTelemetry, match="not both of experiments"):
        bt.check(room, whole, whole["friday"], **QUICK)
    with pytest.raises(InvalidTelemetry, match="not both of experiments"):
        bt.check(room, whole["friday"], whole, **QUICK)
    with pytest.raises(InvalidTelemetry, match="neither telemetry nor a set of experiments"):
        bt.check(room, {}, **QUICK)
    whole["friday"] = whole["friday"].with_table(whole["friday"].table[["indoor"]])
    with pytest.raises(InvalidTelemetry, match=r"In experiment `friday`: .*no column `outdoor`"):
        bt.check(room, whole, **QUICK)
